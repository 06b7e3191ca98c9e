# SPDX-License-Identifier: Apache-2.0
"""Runs are killed and started again; nothing is lost, nothing is there twice, no shard byte differs."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.kill_resume import descendants, differences, is_alive, kill, render, torture, undisturbed


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill") / "footage"
    render(folder, num_files=5, num_frames=32)
    return folder


@pytest.fixture(scope="module")
def reference(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Undisturbed, without Ray, everything in one block."""
    out = tmp_path_factory.mktemp("reference") / "set"
    undisturbed(footage, out, "--address", "in-process", "--block-rows", "1000")
    return out


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_child_worker_and_driver_killed(footage: Path, reference: Path, tmp_path: Path) -> None:
    rng = random.Random(os.environ.get("REELMILL_KILL_SEED", "1"))
    hits = torture(footage, tmp_path / "set", ["child", "worker", "driver"], rng, gap_s=1.0)
    assert {hit.kind for hit in hits} == {"child", "worker", "driver"}, "not every kill hit"
    assert [hit.orphans for hit in hits if hit.orphans] == []
    assert differences(reference, tmp_path / "set") == []


def test_differences_sees_loss_doubles_and_other_bytes(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    for root in (left, right):
        (root / "clips-1").mkdir(parents=True)
        (root / "shards" / "s").mkdir(parents=True)
        pq.write_table(
            pa.table({"clip_id": ["a", "b"], "x": [1.0, float("nan")]}), root / "clips-1" / "unit-0000.parquet"
        )
        pq.write_table(pa.table({"clip_id": ["a"], "window_index": [0]}), root / "shards" / "s" / "unit-0000.parquet")
    assert differences(left, right) == []
    pq.write_table(pa.table({"clip_id": ["a"], "x": [1.0]}), right / "clips-1" / "unit-0000.parquet")
    assert differences(left, right) == ["clips-1: 1 rows instead of 2"]
    pq.write_table(pa.table({"clip_id": ["a", "a"], "x": [1.0, 1.0]}), right / "clips-1" / "unit-0000.parquet")
    assert "clips-1: 1 rows twice" in differences(left, right)
    pq.write_table(pa.table({"clip_id": ["a", "b"], "x": [1.0, 2.0]}), right / "clips-1" / "unit-0000.parquet")
    assert differences(left, right) == ["clips-1: other values in x"]
    (right / "shards" / "s" / "unit-0000.parquet").write_bytes(b"?")
    with pytest.raises(pa.ArrowInvalid):
        differences(left, right)
    (right / "shards" / "s" / "unit-0000.parquet").unlink()
    assert any("shards" in line for line in differences(left, right))


def test_only_the_tree_of_a_run_is_seen_and_killed() -> None:
    outer = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"],
        stdin=subprocess.PIPE,
    )
    try:
        family = descendants(outer.pid)
        while len(family) < 2:
            family = descendants(outer.pid)
        assert family[0].pid == outer.pid
        assert os.getpid() not in {process.pid for process in family}
        assert kill(family[-1])
        assert outer.wait(timeout=10) == 0
        assert not is_alive(family[0])
        assert not kill(family[0])
    finally:
        outer.kill()
        outer.wait()
        assert outer.stdin is not None
        outer.stdin.close()
