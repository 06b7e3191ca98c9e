# SPDX-License-Identifier: Apache-2.0
"""What measuring adds to decoding, per meter, and the memory of the decode child.

    python -m benchmarks.decode_ratio [--clip PATH] [--repeats 5] [--threads 1] [--lengths 1,3,6] [--json PATH]

Ratio = throughput of the measuring reader / throughput of the same reader that only decodes, as CPU time (the target is
0.75) and as wall time. The two are interleaved in one process. Memory is the child's private memory (USS) while it
measures the clip's packets repeated n times; it must stay below 0.4 GiB and must not grow with the length.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run by its path

from operators.catalog import METERS, meter_class
from operators.contract import Meter
from operators.decode_child import DecodeChild
from operators.measure import Clock, measure_segment
from operators.video import open_segment

DEFAULT_CLIP = Path(__file__).parents[2] / "shared" / "clips" / "uhd_motorcycle_2160p30_h264.mp4"
TARGET_RATIO, TARGET_GIB = 0.75, 0.4


def all_meters() -> tuple[Meter, ...]:
    """Every meter of the catalog at its default rate."""
    return tuple(meter_class(name)() for name in METERS)


def decode_only(uri: str, threads: int) -> int:
    """Decodes every frame through the mill's reader, making no view. Returns the number of frames."""
    with open_segment(uri, threads=threads) as segment:
        return sum(1 for _ in segment)


def measure(uri: str, threads: int, clock: Clock) -> int:
    """Decodes and measures every frame. Returns the number of values in the every-frame series."""
    row = measure_segment(uri, all_meters(), threads=threads, clock=clock)
    assert len(row["content_lum"]) == len(row["frame_pts"])
    return len(row["content_lum"])


def timed(work: Callable[[], int]) -> tuple[int, float, float]:
    """(frames, CPU seconds of the process, wall seconds)."""
    cpu, wall = time.process_time(), time.perf_counter()
    frames = work()
    return frames, time.process_time() - cpu, time.perf_counter() - wall


def throughput(uri: str, threads: int, repeats: int) -> dict[str, Any]:
    """Interleaved repeats of decoding and measuring; milliseconds are medians per frame."""
    decode_only(uri, threads)
    measure(uri, threads, Clock())  # warm: imports, page cache
    clock = Clock()
    runs: dict[str, list[tuple[int, float, float]]] = {"decode": [], "measure": []}
    for _ in range(repeats):
        runs["decode"].append(timed(lambda: decode_only(uri, threads)))
        runs["measure"].append(timed(lambda: measure(uri, threads, clock)))
    frames = runs["decode"][0][0]
    assert all(run[0] == frames for pair in runs.values() for run in pair), "frames differ between runs"

    def ms(kind: str, part: int) -> float:
        return statistics.median(run[part] / run[0] for run in runs[kind]) * 1e3

    ratios = {
        name: statistics.median(d[part] / m[part] for d, m in zip(runs["decode"], runs["measure"], strict=True))
        for name, part in (("cpu", 1), ("wall", 2))
    }
    return {
        "frames": frames,
        "threads": threads,
        "repeats": repeats,
        "decode_cpu_ms": ms("decode", 1),
        "measure_cpu_ms": ms("measure", 1),
        "decode_wall_ms": ms("decode", 2),
        "measure_wall_ms": ms("measure", 2),
        "ratio_cpu": ratios["cpu"],
        "ratio_wall": ratios["wall"],
        "parts_ms": {part: seconds / frames / repeats * 1e3 for part, seconds in sorted(clock.seconds.items())},
    }


def repeat_packets(clip: Path, times: int, out: Path) -> None:
    """Writes the clip's video packets `times` times in a row; nothing is encoded again."""
    import av

    with av.open(str(out), "w") as target:
        stream = None
        shift = 0
        for _ in range(times):
            with av.open(str(clip)) as source:
                video = source.streams.video[0]
                stream = stream or target.add_stream_from_template(video)
                last = 0
                for packet in source.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    last = max(last, packet.pts + (packet.duration or 0))
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    target.mux(packet)
                shift += last


def private_bytes(pid: int) -> int:
    """Unique set size: memory that no other process shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def memory_at(uri: str, threads: int) -> dict[str, Any]:
    """Largest and last private memory of a fresh decode child that measures the file."""
    child = DecodeChild(memory_limit_gb=4.0)
    seen: list[int] = []
    stop = threading.Event()
    child.call("os:getpid", {}, 60)
    pid = child.pid
    assert pid is not None

    def watch() -> None:
        while not stop.wait(0.05):
            seen.append(private_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        call = {"uri": uri, "meters": all_meters(), "threads": threads}
        row = child.call("operators.measure:measure_segment", call, 3600)
    finally:
        stop.set()
        watcher.join()
        child.close()
    return {"frames": len(row["frame_pts"]), "peak_gib": max(seen) / 2**30, "last_gib": seen[-1] / 2**30}


def memory(clip: Path, threads: int, lengths: list[int]) -> list[dict[str, Any]]:
    """Memory at several lengths: the clip's packets, repeated."""
    with tempfile.TemporaryDirectory() as folder:
        points = []
        for times in lengths:
            looped = Path(folder) / f"x{times}{clip.suffix}"
            repeat_packets(clip, times, looped)
            points.append({"repeated": times, **memory_at(str(looped), threads)})
        return points


def show(result: dict[str, Any]) -> None:
    """Prints the tables."""
    speed = result["throughput"]
    print(f"{result['clip']}: {speed['frames']} frames, {speed['threads']} thread(s), {speed['repeats']} repeats")
    print(f"\n{'ms per frame':<16}{'CPU':>8}{'wall':>8}")
    for kind in ("decode", "measure"):
        print(f"{kind:<16}{speed[f'{kind}_cpu_ms']:8.2f}{speed[f'{kind}_wall_ms']:8.2f}")
    print(f"{'ratio':<16}{speed['ratio_cpu']:8.3f}{speed['ratio_wall']:8.3f}   target {TARGET_RATIO}")
    print(f"\n{'part':<16}{'CPU ms per frame':>18}")
    for part, value in sorted(speed["parts_ms"].items(), key=lambda item: -item[1]):
        print(f"{part:<16}{value:18.3f}")
    print(f"\n{'frames':>8}{'peak GiB':>10}{'last GiB':>10}   private memory of the child, target {TARGET_GIB}")
    for point in result["memory"]:
        print(f"{point['frames']:8d}{point['peak_gib']:10.3f}{point['last_gib']:10.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=DEFAULT_CLIP)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lengths", default="1,3,6", help="how often the clip's packets are repeated, for memory")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    if not arguments.clip.is_file():
        parser.error(f"no such file: {arguments.clip}")
    import cv2

    cv2.setNumThreads(1)
    result = {
        "clip": arguments.clip.name,
        "throughput": throughput(str(arguments.clip), arguments.threads, arguments.repeats),
        "memory": memory(arguments.clip, arguments.threads, [int(n) for n in arguments.lengths.split(",")]),
    }
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    is_fast = result["throughput"]["ratio_cpu"] >= TARGET_RATIO
    is_met = is_fast and all(point["peak_gib"] <= TARGET_GIB for point in result["memory"])
    print("\ntargets met" if is_met else "\ntargets NOT met")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
