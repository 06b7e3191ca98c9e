# SPDX-License-Identifier: Apache-2.0
"""The mill as a Ray job, and on a cluster that loses a node. Everything runs on this machine."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kill_resume import RECIPE, ROOT, MillRun, differences, render, undisturbed
from tests.raynodes import RAY, RayHead, RayNode, clean_env, ray_head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job") / "footage"
    render(folder, num_files=6, num_frames=32)
    return folder


@pytest.fixture(scope="module")
def reference(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same footage without Ray."""
    out = tmp_path_factory.mktemp("reference") / "set"
    undisturbed(footage, out, "--address", "in-process")
    return out


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    """A head without CPUs for work, as in ray_cluster.yaml."""
    with ray_head(num_cpus=0) as head:
        yield head


def submit(head: RayHead, *entrypoint: str) -> "subprocess.CompletedProcess[str]":
    command = [*RAY, "job", "submit", "--address", head.dashboard, "--working-dir", ".", "--", *entrypoint]
    return subprocess.run(
        command, cwd=ROOT, env=clean_env(), capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL
    )


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
def test_job_submit(head: RayHead, footage: Path, reference: Path, tmp_path: Path) -> None:
    """`ray job submit --working-dir . -- uv run python -m pipelines run ...` makes the same data set."""
    node = head.add_node(num_cpus=4)
    run = ("uv", "run", "python", "-m", "pipelines", "run")
    job = submit(head, *run, *RECIPE, "--in", str(footage), "--out", str(tmp_path / "set"), "--workers", "cpu=2")
    assert job.returncode == 0, job.stdout[-3000:] + job.stderr[-3000:]
    assert differences(reference, tmp_path / "set") == []
    failed = submit(head, *run, "no-such-recipe", "--in", str(footage), "--out", str(tmp_path / "none"))
    assert failed.returncode != 0
    assert "no-such-recipe" in failed.stdout
    node.end()


def test_losing_a_node(head: RayHead, footage: Path, reference: Path, tmp_path: Path) -> None:
    """The node that works goes in the middle of a stage; the run finishes on the other, with the same rows."""
    nodes = [head.add_node(num_cpus=4) for _ in range(2)]
    sizes = ("--workers", "cpu=2", "--block-rows", "1")
    run = MillRun(footage, tmp_path / "set", "--address", head.address, *sizes, env=clean_env())
    while run.process.poll() is None and not any(is_measuring(node) for node in nodes):
        assert time.monotonic() - run.began < 200, "the measure stage did not begin"
        time.sleep(0.05)
    assert run.process.poll() is None, run.log.read_text()[-3000:]
    lost = next(node for node in nodes if is_measuring(node))
    lost.lose()
    assert run.wait() == 0, run.log.read_text()[-3000:]
    assert differences(reference, tmp_path / "set") == []


def is_measuring(node: RayNode) -> bool:
    return any("MapBatches(measure)).submit" in process.command for process in node.workers())
