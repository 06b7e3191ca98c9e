# SPDX-License-Identifier: Apache-2.0
"""Kills runs at random moments and checks that nothing is lost, nothing is there twice and no shard byte differs.

    python -m benchmarks.kill_resume [--kills 20] [--files 120] [--seed 0] [--json PATH]

A reference data set is made undisturbed, without Ray, in one block. The victims run on Ray with other numbers of
workers and other block sizes. SIGKILL goes to the driver, to a Ray worker in the middle of a stage, and to a decode
child. A run whose driver died is started again; one that lost a worker or a child has to finish by itself. After the
last re-run every table is compared with the reference, row by row, and `shards/` byte by byte.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
SETTINGS = ("models=[]", "rules.text=null", "tokens.0.max_frames=9", "tokens.0.heights=[128]")
RECIPE = ("quickstart", *(word for setting in SETTINGS for word in ("--set", setting)))
KINDS = ("driver", "worker", "child")
RUN_LIMIT_S = 600.0
DEATH_LIMIT_S = 90.0  # a process of Ray that was just starting when its node died gives up after a minute
RAYS_OWN = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # notice after a minute that their node is gone, and end
# What makes a row itself, in the order of preference.
KEYS = ("clip_id", "window_index", "bucket", "span_start_pts", "source_id", "segment_index")


def render(folder: Path, num_files: int, num_frames: int = 40, size: tuple[int, int] = (128, 224)) -> None:
    """Files of two shots each: panning noise, a hard cut, other noise panning the other way. Same bytes every time."""
    import av

    folder.mkdir(parents=True, exist_ok=True)
    height, width = size
    for number in range(num_files):
        rng = np.random.default_rng(number)
        shots = rng.integers(20, 235, (2, height // 8 + 1, width // 8 + num_frames, 3), dtype=np.uint8)
        with av.open(str(folder / f"clip{number:03d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=24, options={"preset": "veryfast", "threads": "1"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for t in range(num_frames):
                shot = shots[2 * t // num_frames].repeat(8, 0).repeat(8, 1)
                shift = 3 * t if 2 * t < num_frames else 3 * (num_frames - t)
                frame_HWC = np.ascontiguousarray(shot[:height, shift : shift + width])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
            container.mux(stream.encode(None))


@dataclass(frozen=True)
class Process:
    """One process; `started` (clock ticks since boot) tells it from a later one with the same pid."""

    pid: int
    parent: int
    started: int
    command: str


def processes() -> Iterator[Process]:
    """All processes of this machine that can be read."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if stat[0] != "Z":
            yield Process(int(name), int(stat[1]), int(stat[19]), command.strip())


def descendants(pid: int) -> list[Process]:
    """The process `pid` and all below it."""
    children: dict[int, list[Process]] = {}
    for process in processes():
        children.setdefault(process.parent, []).append(process)
    found = [process for siblings in children.values() for process in siblings if process.pid == pid]
    for process in found:
        found += children.get(process.pid, [])
    return found


def is_alive(process: Process) -> bool:
    return any(other.pid == process.pid and other.started == process.started for other in processes())


def kill(process: Process) -> bool:
    """SIGKILL, unless it is gone already."""
    if not is_alive(process):
        return False
    os.kill(process.pid, signal.SIGKILL)
    return True


class MillRun:
    """One `python -m pipelines run` and the processes it starts."""

    def __init__(self, footage: Path, out: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "pipelines", "run", *RECIPE, "--in", str(footage), "--out", str(out), *options]
        self.log = out.with_suffix(f".{time.monotonic_ns()}.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.began = time.monotonic()
        self.family: dict[tuple[int, int], Process] = {}

    def look(self) -> list[Process]:
        """The run's processes now; all ever seen are kept in `family`."""
        now = descendants(self.process.pid) if self.process.poll() is None else []
        self.family |= {(process.pid, process.started): process for process in now}
        return now

    def victims(self, kind: str) -> list[Process]:
        """The driver; Ray workers that hold a stage; decode children."""
        now = self.look()
        if kind == "driver":
            return [process for process in now if process.pid == self.process.pid]
        if kind == "worker":
            return [process for process in now if process.command.startswith("ray::MapWorker(")]
        return [process for process in now if " -m operators.decode_child " in process.command]

    def is_at_work(self) -> bool:
        return any(process.command.startswith("ray::MapWorker(") for process in self.look())

    def wait(self) -> int:
        """The exit code. Raises RuntimeError if the run hangs."""
        while self.process.poll() is None:
            self.look()
            if time.monotonic() - self.began > RUN_LIMIT_S:
                self.bury()
                raise RuntimeError(f"a run did not end within {RUN_LIMIT_S:g} s; its output is in {self.log}")
            time.sleep(0.2)
        return self.process.returncode

    def bury(self) -> list[Process]:
        """Waits until the run's processes are gone; kills those that outlive it, and returns them but for Ray's own."""
        self.look()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + DEATH_LIMIT_S
        alive = [process for process in self.family.values() if is_alive(process)]
        while not all(process.command in RAYS_OWN for process in alive) and time.monotonic() < deadline:
            time.sleep(0.2)
            now = {(process.pid, process.started): process for process in processes()}
            alive = [now[process.pid, process.started] for process in alive if (process.pid, process.started) in now]
        for process in alive:
            kill(process)
        return [process for process in alive if process.command not in RAYS_OWN]


@dataclass
class Kill:
    """One kill that hit: whom, when (seconds since the run's start), and how the run ended (None: killed)."""

    kind: str
    victim: str
    at_s: float
    exit_code: int | None = None
    orphans: list[str] = field(default_factory=list)


def strike(run: MillRun, kind: str, delay_s: float) -> Kill | None:
    """Kills one process of `kind`, `delay_s` after the first Ray worker is at work; None if the run ended before."""
    due = None
    while run.process.poll() is None and time.monotonic() - run.began < RUN_LIMIT_S:
        if due is None and run.is_at_work():
            due = time.monotonic() + delay_s
        if due is not None and time.monotonic() >= due and (victims := run.victims(kind)) and kill(victims[-1]):
            return Kill(kind, victims[-1].command[:60], round(time.monotonic() - run.began, 2))
        time.sleep(0.02)
    return None


def torture(footage: Path, out: Path, kinds: Sequence[str], rng: random.Random, gap_s: float) -> list[Kill]:
    """Runs until done, killing one process of each of `kinds` in turn, up to `gap_s` apart. Returns the kills that hit.

    Raises:
        RuntimeError: a run whose driver lived did not end with 0.
    """
    kills: list[Kill] = []
    while True:
        workers, block = rng.choice((2, 3)), rng.choice((1, 2, 3, 5, 8))
        sizes = ("--workers", f"cpu={workers}", "--block-rows", str(block))
        run = MillRun(footage, out, "--address", "local", "--strict", *sizes)
        hits: list[Kill] = []
        while len(kills) + len(hits) < len(kinds) and (not hits or hits[-1].kind != "driver"):
            hit = strike(run, kinds[len(kills) + len(hits)], rng.uniform(0.0, gap_s))
            if hit is None:
                break
            hits.append(hit)
        was_killed = bool(hits) and hits[-1].kind == "driver"
        code = None if was_killed else run.wait()
        orphans = [process.command[-160:] for process in run.bury()]
        for hit in hits:
            hit.exit_code, hit.orphans = code, orphans if hit is hits[-1] else []
        kills += hits
        if code:
            raise RuntimeError(f"a run that was not killed itself ended with {code}:\n{run.log.read_text()[-2000:]}")
        if code == 0:
            return kills


def tables_of(out: Path) -> dict[str, pa.Table]:
    """Each table folder's rows, in the order of their keys; views and reports are no tables."""
    folders: dict[str, list[Path]] = {}
    for path in sorted(out.rglob("*.parquet")):
        folders.setdefault(path.parent.relative_to(out).as_posix(), []).append(path)
    return {
        name: in_order(pa.concat_tables([pq.read_table(path) for path in paths])) for name, paths in folders.items()
    }


def in_order(table: pa.Table) -> pa.Table:
    keys = [(name, "ascending") for name in KEYS if name in table.column_names]
    return table.sort_by(keys) if keys else table


def num_doubles(table: pa.Table) -> int:
    """Rows whose keys another row has too."""
    keys = [table.column(name).to_pylist() for name in KEYS if name in table.column_names]
    return sum(count - 1 for count in Counter(zip(*keys, strict=True)).values())


def same(left: pa.Table, right: pa.Table, column: str) -> bool:
    """Whether both have the same values in `column`; NaN equals NaN."""
    return column in right.column_names and repr(left[column].to_pylist()) == repr(right[column].to_pylist())


def is_left_over(path: Path) -> bool:
    """Part of a file whose writer was killed: no reader looks at it, since a file gets its name when it is whole."""
    return path.name.startswith(".tmp-")


def differences(reference: Path, other: Path) -> list[str]:
    """What differs between two data sets; empty if every table has the same rows and `shards/` the same bytes."""
    expected, found = tables_of(reference), tables_of(other)
    wrong = [f"{name}: only in one of the two" for name in sorted(set(expected) ^ set(found))]
    for name in sorted(set(expected) & set(found)):
        if doubles := num_doubles(found[name]):
            wrong.append(f"{name}: {doubles} rows twice")
        if expected[name].num_rows != found[name].num_rows:
            wrong.append(f"{name}: {found[name].num_rows} rows instead of {expected[name].num_rows}")
        elif columns := [
            column for column in expected[name].column_names if not same(expected[name], found[name], column)
        ]:
            wrong.append(f"{name}: other values in {', '.join(columns)}")
    packed, others = (
        {p.relative_to(d): p.read_bytes() for p in d.rglob("shards/**/*") if p.is_file() and not is_left_over(p)}
        for d in (reference, other)
    )
    if not packed:
        wrong.append("shards/: empty")
    wrong += [
        f"{path}: other bytes" for path in sorted(set(packed) | set(others)) if packed.get(path) != others.get(path)
    ]
    return wrong


def undisturbed(footage: Path, out: Path, *options: str) -> float:
    """Makes a data set without kills; returns the seconds during which Ray workers were there. Raises RuntimeError."""
    run = MillRun(footage, out, *options)
    first = last = run.began
    while run.process.poll() is None and time.monotonic() - run.began < RUN_LIMIT_S:
        if run.is_at_work():
            last = time.monotonic()
            first = last if first == run.began else first
        time.sleep(0.1)
    code = run.wait()
    run.bury()
    if code != 0:
        raise RuntimeError(f"the undisturbed run ended with {code}:\n{run.log.read_text()[-2000:]}")
    return last - first


def experiment(folder: Path, num_kills: int, num_files: int, seed: int) -> dict[str, Any]:
    """Kills until `num_kills` hit, up to three a data set; compares each finished data set with the reference."""
    footage, rng = folder / "footage", random.Random(seed)
    render(footage, num_files)
    undisturbed(footage, folder / "reference", "--address", "in-process", "--block-rows", "1000")
    work_s = undisturbed(footage, folder / "calm", "--address", "local", "--workers", "cpu=1", "--block-rows", "4")
    wrong = {"calm": differences(folder / "reference", folder / "calm")}
    print(f"work phase of an undisturbed run on one worker: {work_s:.1f} s", flush=True)
    kills: list[Kill] = []
    while len(kills) < num_kills:
        name = f"set{len(wrong):02d}"
        kinds = rng.sample(KINDS, min(len(KINDS), num_kills - len(kills)))
        kills += (hits := torture(footage, folder / name, kinds, rng, work_s / 2))
        wrong[name] = differences(folder / "reference", folder / name)
        for hit in hits:
            ended = "killed" if hit.exit_code is None else f"exit {hit.exit_code}"
            print(
                f"{name}  {hit.kind:7s} at {hit.at_s:6.1f} s  {ended:8s} orphans {len(hit.orphans)}  {hit.victim}",
                flush=True,
            )
        print(f"{name}  {'identical' if not wrong[name] else '; '.join(wrong[name])}", flush=True)
    return {
        "kills": [vars(hit) for hit in kills],
        "by_kind": dict(Counter(hit.kind for hit in kills)),
        "differences": wrong,
        "work_s": round(work_s, 2),
        "num_files": num_files,
        "seed": seed,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--files", type=int, default=120, help="above about 100, rounds get two workers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reelmill-kill-") as folder:
        result = experiment(Path(folder), arguments.kills, arguments.files, arguments.seed)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    num_bad = sum(bool(wrong) for wrong in result["differences"].values())
    num_orphans = sum(len(hit["orphans"]) for hit in result["kills"])
    counts = ", ".join(f"{count} x {kind}" for kind, count in result["by_kind"].items())
    print(f"{len(result['kills'])} kills ({counts}); {num_bad} of {len(result['differences'])} data sets differ")
    print(f"{num_orphans} processes outlived their run")
    return 1 if num_bad or num_orphans else 0


if __name__ == "__main__":
    sys.exit(main())
