# SPDX-License-Identifier: Apache-2.0
"""The script that kills at every file: it ends a process exactly there, and what a run had to finish is finished."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kill_commits import experiment

WRITER = """
import sys
from pathlib import Path
from benchmarks.kill_commits import Counter
from reelmill.storage import Store

root = Path(sys.argv[1])
Counter(int(sys.argv[2]), sys.argv[3], root / "log").install()
store = Store(str(root))
store.write_bytes("clips/unit-0000.parquet", b"not ours")
store.write_bytes("shards/s/a.parquet", b"0123456789")
store.write_bytes("tokens/s/unit-0000.parquet", b"b")
store.delete("tokens/s/unit-0000.parquet")
"""


@pytest.mark.parametrize(
    ("number", "moment", "left"),
    [
        (0, "half", [".tmp 5", "clips 8"]),
        (0, "after", ["a 10", "clips 8"]),
        (2, "before", ["a 10", "clips 8", "tokens 1"]),
    ],
)
def test_the_process_ends_at_that_file(number: int, moment: str, left: list[str], tmp_path: Path) -> None:
    names = {"a.parquet": "a"}
    done = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path), str(number), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    found = []
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "log":
            name = (
                ".tmp" if path.name.startswith(".tmp-") else names.get(path.name, path.relative_to(tmp_path).parts[0])
            )
            found.append(f"{name} {path.stat().st_size}")
    assert sorted(found) == left


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_kills_leave_the_same_shards(tmp_path: Path) -> None:
    kills = experiment(tmp_path, num_files=2, num_kills=2, seed=1)["kills"]
    assert [(kill["was_killed"], kill["differences"]) for kill in kills] == [(True, [])] * 2
