# SPDX-License-Identifier: Apache-2.0
"""Ray nodes for tests: `ray start --block` in processes of their own, on free ports, ended by their process tree.

`ray stop` is never called: it would end every Ray of this machine.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kill_resume import Process, descendants, is_alive, kill

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
START_LIMIT_S = 120.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy on the way to loopback


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def clean_env() -> dict[str, str]:
    """The environment of nodes and clients: no authentication, no stray cluster, `uv run` takes this environment."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return env | {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "UV_PROJECT_ENVIRONMENT": sys.prefix,
        "UV_NO_SYNC": "1",
        "PYTHONWARNINGS": "ignore",
    }


@dataclass
class RayNode:
    """One running `ray start --block`."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def family(self) -> list[Process]:
        return descendants(self.process.pid)

    def workers(self) -> list[Process]:
        """Processes of this node that hold a stage."""
        return [process for process in self.family() if process.command.startswith("ray::MapWorker(")]

    def lose(self) -> None:
        """SIGKILL to everything at once, as when the machine is taken away."""
        for process in self.family():
            kill(process)
        self.process.wait()

    def end(self) -> None:
        """SIGTERM, and SIGKILL to what is left after a while."""
        family = self.family()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while any(is_alive(process) for process in family) and time.monotonic() < deadline:
            time.sleep(0.2)
        for process in family:
            kill(process)
        self.process.wait()


@dataclass
class RayHead:
    """A head node and the nodes that joined it."""

    node: RayNode
    address: str
    dashboard: str
    folder: Path
    nodes: list[RayNode]

    def add_node(self, num_cpus: int) -> RayNode:
        """Another node, on this machine too; it has joined when this returns."""
        before = self.num_alive()
        node = _start(self.folder / f"node{len(self.nodes)}", [f"--address={self.address}"], num_cpus)
        self.nodes.append(node)
        deadline = time.monotonic() + START_LIMIT_S
        while self.num_alive() <= before:
            if time.monotonic() > deadline or node.process.poll() is not None:
                raise RuntimeError(f"the node did not join:\n{node.log.read_text()[-2000:]}")
            time.sleep(0.5)
        return node

    def num_alive(self) -> int:
        """Nodes of the cluster, the head among them."""
        with _OPENER.open(f"{self.dashboard}/api/v0/nodes", timeout=20) as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
        return sum(node["state"] == "ALIVE" for node in nodes)


def _start(folder: Path, options: list[str], num_cpus: int) -> RayNode:
    agent, grpc, metrics, env_agent = free_ports(4)
    command = [
        *RAY, "start", "--block", f"--num-cpus={num_cpus}", "--num-gpus=0", f"--object-store-memory={128 << 20}",
        f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}",
        f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={env_agent}", "--disable-usage-stats", *options,
    ]  # fmt: skip
    log = folder.with_suffix(".log")
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, env=clean_env(), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    return RayNode(process, log)


def _wait_for_dashboard(head: RayNode, url: str) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and head.process.poll() is None:
        try:
            with _OPENER.open(f"{url}/api/version", timeout=2):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
    raise RuntimeError(f"no dashboard at {url}:\n{head.log.read_text()[-2000:]}")


@contextlib.contextmanager
def ray_head(num_cpus: int) -> Iterator[RayHead]:
    """A head node with its dashboard; all nodes are ended and their files deleted afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="rm-", dir="/tmp"))  # Ray's socket paths must stay short
    port, dashboard, client = free_ports(3)
    options = [
        "--head", f"--port={port}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
        "--node-ip-address=127.0.0.1", f"--ray-client-server-port={client}", f"--temp-dir={folder / 'ray'}",
    ]  # fmt: skip
    head = RayHead(
        _start(folder / "head", options, num_cpus), f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", folder, []
    )
    try:
        _wait_for_dashboard(head.node, head.dashboard)
        yield head
    finally:
        for node in [*head.nodes, head.node]:
            node.end()
        shutil.rmtree(folder, ignore_errors=True)
