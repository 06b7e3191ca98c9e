# SPDX-License-Identifier: Apache-2.0
"""Private memory of the decode child while it measures a file, for files of several lengths."""

import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.clips import facts, repeat_packets
from operators.contract import Meter
from operators.decode_child import DecodeChild

SAMPLE_S = 0.05


def private_bytes(pid: int) -> int:
    """Unique set size: memory that no other process shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def memory_of(uri: str, meters: Sequence[Meter], threads: int) -> dict[str, Any]:
    """Largest and last private memory of a fresh decode child that measures the file."""
    child = DecodeChild(memory_limit_gb=4.0)
    seen: list[int] = []
    stop = threading.Event()
    child.call("os:getpid", {}, 60)
    pid = child.pid
    assert pid is not None

    def watch() -> None:
        while not stop.wait(SAMPLE_S):
            seen.append(private_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        call = {"uri": uri, "meters": tuple(meters), "threads": threads}
        row = child.call("operators.measure:measure_segment", call, 3600)
    finally:
        stop.set()
        watcher.join()
        child.close()
    return {"frames": len(row["frame_pts"]), "peak_gib": max(seen) / 2**30, "last_gib": seen[-1] / 2**30}


def memory(clip: Path, meters: Sequence[Meter], threads: int, lengths_s: Iterable[float]) -> list[dict[str, Any]]:
    """Memory at several lengths in seconds: the clip's packets, repeated as often as it takes."""
    about = facts(clip)
    with tempfile.TemporaryDirectory() as folder:
        points = []
        for seconds in lengths_s:
            times = max(1, round(seconds * about["fps"] / about["frames"]))
            looped = Path(folder) / f"x{times}{clip.suffix}"
            repeat_packets(clip, times, looped)
            points.append({"repeated": times, **memory_of(str(looped), meters, threads)})
            looped.unlink()
        return points
