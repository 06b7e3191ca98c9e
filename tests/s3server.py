# SPDX-License-Identifier: Apache-2.0
"""An S3 server on loopback (moto, in its own process) behind a proxy that breaks requests on purpose.

Used as a pytest plugin: `s3` gives the proxy (set `s3.faults`, read `s3.counts`), `s3_bucket` a fresh bucket's `s3://`
URI with the environment already pointing at the proxy. The proxy keeps one port per test session, because s3fs and
pyarrow clients are cached by their arguments and not by `AWS_ENDPOINT_URL`.
"""

import contextlib
import http.client
import os
import random
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from uuid import uuid4

import pytest

_SERVE = """
import logging, sys
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # ends with its parent
"""
_HOP_BY_HOP = frozenset({"connection", "expect", "keep-alive", "transfer-encoding", "content-length", "host"})


@dataclass(frozen=True)
class Faults:
    """How often a request goes wrong (shares of 1, drawn one after the other) and how long a stalled one waits."""

    error: float = 0.0
    stall: float = 0.0
    cut: float = 0.0
    stall_s: tuple[float, float] = (2.0, 5.0)
    seed: int = 0


@dataclass(frozen=True)
class Fate:
    """What happens to one request. `late`: the server has done the work, only the answer is lost."""

    kind: str
    late: bool
    status: int
    stall_s: float


class FaultProxy:
    """Forwards HTTP to `upstream_port` on loopback and breaks requests as `faults` says.

    The fate of a request depends on (seed, method, path, range, how often it was asked), not on thread timing, so a
    run with the same requests meets the same faults. `counts` holds requests and injected faults by kind.
    """

    def __init__(self, upstream_port: int) -> None:
        self.faults = Faults()
        self.counts: Counter[str] = Counter()
        self.upstream_port = upstream_port
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def num_injected(self) -> int:
        return sum(count for kind, count in self.counts.items() if kind != "requests")

    def reset(self, faults: Faults | None = None) -> None:
        """Forget the counts and behave as `faults` says (default: break nothing)."""
        with self._lock:
            self.faults = faults or Faults()
            self.counts.clear()
            self._asked.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def draw(self, request: str) -> Fate:
        with self._lock:
            faults = self.faults
            self._asked[request] += 1
            rng = random.Random(f"{faults.seed} {self._asked[request]} {request}")
            point, edge, kind = rng.random(), 0.0, "pass"
            for name, share in (("error", faults.error), ("stall", faults.stall), ("cut", faults.cut)):
                edge += share
                if point < edge:
                    kind = name
                    break
            self.counts["requests"] += 1
            if kind != "pass":
                self.counts[kind] += 1
            return Fate(kind, rng.random() < 0.5, rng.choice((500, 503)), rng.uniform(*faults.stall_s))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: FaultProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is not worth a traceback; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: _Server  # type: ignore[assignment]

    def log_message(self, format: str, *args: object) -> None:
        """Silent: pytest prints the tests' own output."""

    def _serve(self) -> None:
        fate = self.server.proxy.draw(f"{self.command} {_name_of(self.path)} {self.headers.get('Range', '')}")
        if fate.kind == "cut" and not fate.late:
            self.close_connection = True  # the upload is not even read
            return
        body = self._read_body()
        if fate.kind == "error" and not fate.late:
            self._send_error_xml(fate.status)
            return
        if fate.kind == "stall":
            time.sleep(fate.stall_s)
        status, headers, answer = self._forward(body)
        if fate.kind == "error":
            self._send_error_xml(fate.status)
        elif fate.kind == "cut":
            self._send_half(status, headers, answer)
        else:
            self._send(status, headers, answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return b"".join(_read_chunks(self.rfile))
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers |= {"Host": self.headers["Host"], "Content-Length": str(len(body))}
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.proxy.upstream_port, timeout=60)
        try:
            upstream.request(self.command, self.path, body=body, headers=headers)
            response = upstream.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            upstream.close()

    def _send_head(self, status: int, headers: list[tuple[str, str]], num_bytes: int) -> None:
        self.send_response_only(status)
        length = next((value for name, value in headers if name.lower() == "content-length"), None)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length if self.command == "HEAD" and length else str(num_bytes))
        self.end_headers()

    def _send(self, status: int, headers: list[tuple[str, str]], answer: bytes) -> None:
        self._send_head(status, headers, len(answer))
        if self.command != "HEAD":
            self.wfile.write(answer)

    def _send_half(self, status: int, headers: list[tuple[str, str]], answer: bytes) -> None:
        """Hang up in the middle of the body, or without a word where the answer has none."""
        self.close_connection = True
        if self.command != "HEAD" and len(answer) > 1:
            self._send_head(status, headers, len(answer))
            self.wfile.write(answer[: len(answer) // 2])

    def _send_error_xml(self, status: int) -> None:
        code = "InternalError" if status == 500 else "SlowDown"
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        self._send(status, [("Content-Type", "application/xml")], body)


def _name_of(path: str) -> str:
    """A request's path without what differs from one test run to the next: the bucket and the id of an upload."""
    return re.sub(r"uploadId=[^&]*", "", path.lstrip("/").partition("/")[2] or path.partition("?")[2])


def _read_chunks(stream: BufferedIOBase) -> Iterator[bytes]:
    """The parts of a body in HTTP chunked transfer encoding, trailers dropped."""
    while size := int(stream.readline().split(b";")[0], 16):
        yield stream.read(size)
        stream.readline()
    while stream.readline().strip():
        pass


@contextlib.contextmanager
def moto_process() -> Iterator[int]:
    """A moto S3 server in a process of its own, so that the test's load cannot starve it; gives its port."""
    child = subprocess.Popen([sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"the moto server ended with status {child.wait()}")
        yield int(line)
    finally:
        child.stdin.close()
        child.wait(timeout=20)
        child.stdout.close()


def client_env(url: str) -> dict[str, str]:
    """The environment in which every S3 client talks to `url` with made-up credentials and looks nowhere else."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


@pytest.fixture(scope="session")
def s3_proxy() -> Iterator[FaultProxy]:
    """The server and its proxy, one of each for the whole test session."""
    with moto_process() as port:
        proxy = FaultProxy(port)
        yield proxy
        proxy.close()


@pytest.fixture
def s3(s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The proxy, breaking nothing until `s3.reset(Faults(...))`, with the environment pointing at it."""
    for name, value in client_env(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    s3_proxy.reset()
    yield s3_proxy
    s3_proxy.reset()


@pytest.fixture
def s3_url(s3: FaultProxy) -> str:
    """The endpoint, as for `AWS_ENDPOINT_URL`."""
    return s3.url


@pytest.fixture
def s3_bucket(s3: FaultProxy) -> str:
    """`s3://<a new empty bucket>`; made past the faults."""
    name = f"reel-{uuid4().hex[:12]}"
    request = urllib.request.Request(f"http://127.0.0.1:{s3.upstream_port}/{name}", method="PUT")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20):
        return f"s3://{name}"
