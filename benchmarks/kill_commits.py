# SPDX-License-Identifier: Apache-2.0
"""Kills `tokenize` and `pack` at every file that they write or remove, and compares the shards byte by byte.

    python -m benchmarks.kill_commits [--files 6] [--kills 24] [--seed 0]

All state lies in files, so what a kill can leave behind is decided by where among the files it falls. A run without
Ray is made once, undisturbed, and its writes and removals below tokens/ and shards/ are counted. Then, for one after
the other, a fresh run is killed there by SIGKILL from within: with half of the file on disk under its temporary name,
with the whole of it but not yet renamed, or just after. The same command then finishes, with other blocks, and tables
and shards are compared with the undisturbed ones. `benchmarks.kill_resume` kills from outside, at random moments.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.kill_resume import RECIPE, ROOT, differences, render

MOMENTS = ("half", "before", "after")
LIMIT_S = 300.0


class Counter:
    """Counts writes and removals below tokens/ and shards/ of a data set, and ends the process at one of them."""

    def __init__(self, number: int, moment: str, log: Path) -> None:
        self.number, self.moment, self.log, self.seen = number, moment, log, 0

    def install(self) -> None:
        from reelmill.storage import Store

        os.replace = self._around(os.replace)
        for name in ("delete", "delete_dir"):
            setattr(Store, name, self._around(getattr(Store, name)))

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call(SOURCE or store, TARGET)`."""

        def counted(*args: Any, **options: Any) -> Any:
            place = Path(args[1])
            if not {"tokens", "shards"} & set(place.parts):
                return call(*args, **options)
            is_due = self.seen == self.number
            self.seen += 1
            with self.log.open("a") as log:
                log.write(f"{call.__name__} {'/'.join(place.parts[-3:])}\n")
            if is_due and self.moment == "half" and call.__name__ == "replace":
                os.truncate(args[0], os.path.getsize(args[0]) // 2)
            if is_due and self.moment != "after":
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(*args, **options)
            if is_due:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return counted


def mill(footage: Path, out: Path, block_rows: int, kill: tuple[int, str] = (-1, "after")) -> int:
    """One run in a process of its own; its exit code, negative if it was killed. What it wrote is in OUT.log."""
    place = ["--in", str(footage), "--out", str(out), "--address", "in-process", "--strict"]
    sizes = ["--block-rows", str(block_rows)]
    victim = [sys.executable, "-m", "benchmarks.kill_commits", "--victim", str(kill[0]), kill[1], str(out) + ".log"]
    done = subprocess.run(
        [*victim, "run", *RECIPE, *place, *sizes],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a run ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.returncode


def experiment(folder: Path, num_files: int, num_kills: int, seed: int) -> dict[str, Any]:
    """Kills at every commit of tokenize and pack, spread evenly over moments; at most `num_kills` of them."""
    footage, reference, base = folder / "footage", folder / "reference", folder / "base"
    render(footage, num_files)
    mill(footage, reference, 1000)
    assert mill(footage, base, 2, (0, "before")) < 0, "tokenize wrote nothing"
    probe = folder / "probe"
    shutil.copytree(base, probe)
    mill(footage, probe, 2)
    commits = Path(f"{probe}.log").read_text().splitlines()
    points = list(itertools.product(range(len(commits)), MOMENTS))
    random.Random(seed).shuffle(points)
    print(f"{len(commits)} files are written or removed by tokenize and pack, {len(points)} points to be killed at")
    kills = []
    for number, moment in points[:num_kills]:
        out = folder / f"set{number:03d}{moment}"
        shutil.copytree(base, out)
        code = mill(footage, out, 2, (number, moment))
        mill(footage, out, 3)
        wrong = differences(reference, out)
        kills.append({"at": commits[number], "moment": moment, "was_killed": code < 0, "differences": wrong})
        print(f"{moment:6s} {commits[number]:60s} {'; '.join(wrong) or 'identical'}", flush=True)
        shutil.rmtree(out)
    return {"commits": commits, "kills": kills}


def victim(number: int, moment: str, log: Path, arguments: list[str]) -> None:
    from pipelines.cli import app

    Counter(number, moment, log).install()
    app(arguments)


def main() -> int:
    if sys.argv[1:2] == ["--victim"]:
        victim(int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=6)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reelmill-commits-") as folder:
        options = (arguments.files, arguments.kills, arguments.seed)
        result = experiment(Path(folder), *options)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    kills = result["kills"]
    hits, bad = sum(kill["was_killed"] for kill in kills), sum(bool(kill["differences"]) for kill in kills)
    print(f"{hits} of {len(kills)} kills hit; {bad} data sets differ")
    return 1 if bad or hits < len(kills) else 0


if __name__ == "__main__":
    sys.exit(main())
