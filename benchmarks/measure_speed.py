# SPDX-License-Identifier: Apache-2.0
"""What measuring adds to decoding, meter by meter; the same signals by Data-Juicer; the memory of the decode child.

    python -m benchmarks.measure_speed [--parts throughput,models,peer,memory] [--repeats 5] [--threads 1] [--json PATH]

Clips: the shared real 4K ones where they are, and renderings (4K HEVC 10 bit, AV1 8 and 10 bit; 8K for the memory) that
are made once into the user's cache, as is Data-Juicer's environment, which needs a package index.

throughput: frames per CPU second of the reader that measures with every meter but the networks and `farneback`, at
    default rates, over those of the same reader that only decodes, interleaved in one process. Target 0.75, aim 0.90.
models: what the networks add (TransNetV2 per frame, the text reader per picture that it reads).
peer: CPU seconds of Data-Juicer's operators over ours for the signals that both have. Target 5.
memory: private memory of the decode child at 5 s, 1 min and (4K) 6 min, packets repeated. Targets 0.4 GiB at 4K and
    1.2 GiB at 8K, flat.

Exits with 1 if a target is missed.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run by its path

from benchmarks.speed import peer, tables
from benchmarks.speed.clips import facts, names, real, rendered
from benchmarks.speed.memory import memory
from operators.catalog import METERS, meter_class
from operators.contract import Meter
from operators.decode_child import ONE_THREAD
from operators.measure import Clock, measure_segment
from operators.video import open_segment, read_frames

PARTS = ("throughput", "models", "peer", "memory")
MODEL_METERS = frozenset({"transnet"})  # neural networks: listed apart, not part of the ratio
PEER_METERS = frozenset({"farneback"})  # no signal of ours: there to compare numbers of other tools, seconds a 4K pair
TARGET_RATIO, AIM_RATIO, TARGET_PEER = 0.75, 0.90, 5.0
TARGET_GIB = {2160: 0.4, 4320: 1.2}
FLAT_GIB = {2160: 0.05, 4320: 0.15}  # the longest file may use this much more than the shortest; 8K: one frame, 0.1
LENGTHS_S = (5.0, 60.0, 360.0)
LONGEST_8K_S = 60.0  # decoding longer 8K would take most of the benchmark's time
OCR_FRAMES, OCR_WIDTH_PX = 4, 1920  # defaults of the text operator: frames per clip and their width


def every_meter() -> tuple[Meter, ...]:
    """Every meter of the catalog at its default rate, but for the networks and what only other tools need."""
    return tuple(meter_class(name)() for name in METERS if name not in MODEL_METERS | PEER_METERS)


def decode_only(uri: str, threads: int) -> int:
    """Decodes every frame through the mill's reader, making no view. Returns the number of frames."""
    with open_segment(uri, threads=threads) as segment:
        return sum(1 for _ in segment)


def measure(uri: str, threads: int, meters: Sequence[Meter], clock: Clock | None = None) -> int:
    """Decodes and measures every frame. Returns the number of frames."""
    return len(measure_segment(uri, meters, threads=threads, clock=clock)["frame_pts"])


def timed(work: Callable[[], int]) -> tuple[int, float, float]:
    """(frames, CPU seconds of the process, wall seconds)."""
    cpu, wall = time.process_time(), time.perf_counter()
    frames = work()
    return frames, time.process_time() - cpu, time.perf_counter() - wall


def throughput(uri: str, threads: int, repeats: int, meters: Sequence[Meter] | None = None) -> dict[str, Any]:
    """Interleaved repeats of decoding and measuring; milliseconds are medians per frame.

    The parts come from a run of their own: looking at the clock costs time too.
    """
    meters = every_meter() if meters is None else meters
    clock = Clock()
    decode_only(uri, threads)
    measure(uri, threads, meters)  # warm: imports, page cache
    frames = measure(uri, threads, meters, clock)
    runs: dict[str, list[tuple[int, float, float]]] = {"decode": [], "measure": []}
    for _ in range(repeats):
        runs["decode"].append(timed(lambda: decode_only(uri, threads)))
        runs["measure"].append(timed(lambda: measure(uri, threads, meters)))
    assert all(run[0] == frames for pair in runs.values() for run in pair), "frames differ between runs"

    def ms(kind: str, part: int) -> float:
        return statistics.median(run[part] / run[0] for run in runs[kind]) * 1e3

    def ratio(part: int) -> float:
        pairs = zip(runs["decode"], runs["measure"], strict=True)
        return statistics.median(decode[part] / measure[part] for decode, measure in pairs)

    return {
        "frames": frames,
        "threads": threads,
        "repeats": repeats,
        "decode_cpu_ms": ms("decode", 1),
        "measure_cpu_ms": ms("measure", 1),
        "decode_wall_ms": ms("decode", 2),
        "measure_wall_ms": ms("measure", 2),
        "ratio_cpu": ratio(1),
        "ratio_wall": ratio(2),
        "parts_ms": {part: seconds / frames * 1e3 for part, seconds in sorted(clock.seconds.items())},
    }


def models(clip: Path) -> dict[str, Any]:
    """CPU milliseconds of the networks: TransNetV2 per frame (its view is made anyway), text per picture and clip."""
    from operators.text_reader import TextReader

    clock = Clock()
    transnet = tuple(meter_class(name)() for name in sorted(MODEL_METERS))
    measure(str(clip), 1, transnet)
    frames = measure(str(clip), 1, transnet, clock)
    with open_segment(str(clip)) as segment:
        pts = [frame.pts for frame in segment][:: max(1, frames // OCR_FRAMES)][:OCR_FRAMES]
        info = segment.info
    scale = min(1.0, (OCR_WIDTH_PX * 9 / 16 * OCR_WIDTH_PX / (info.width_px * info.height_px)) ** 0.5)
    pictures = read_frames(str(clip), pts, size=(round(info.height_px * scale), round(info.width_px * scale)))
    reader = TextReader()
    reader.read(pictures[0], 0.5)
    spent = timed(lambda: sum(len(reader.read(picture, 0.5)) for picture in pictures))[1]
    per_frame = {f"{meter.name}_ms_per_frame": clock.seconds[meter.name] / frames * 1e3 for meter in transnet}
    return {
        "clip": clip.name,
        **per_frame,
        "text_ms_per_picture": spent / len(pictures) * 1e3,
        "text_ms_per_frame_of_clip": spent / len(pictures) * OCR_FRAMES / frames * 1e3,
    }


def missed(result: dict[str, Any]) -> list[str]:
    """The targets that were not met, in words."""
    found = [
        f"{row['clip']}: ratio {row['ratio_cpu']:.3f} is below {TARGET_RATIO}"
        for row in result.get("throughput", [])
        if row["ratio_cpu"] < TARGET_RATIO
    ]
    for row in result.get("peer", []):
        if row["ratio"] < TARGET_PEER:
            found.append(f"{row['clip']}: {row['ratio']:.1f} times Data-Juicer's speed, not {TARGET_PEER:g}")
    if "peer_error" in result:
        found.append(result["peer_error"])
    for row in result.get("memory", []):
        peaks = [point["peak_gib"] for point in row["points"]]
        rows = 2160 if min(row["width_px"], row["height_px"]) <= 2160 else 4320
        limit = TARGET_GIB[rows]
        if max(peaks) > limit:
            found.append(f"{row['clip']}: {max(peaks):.2f} GiB, the limit is {limit}")
        if peaks[-1] > peaks[0] + FLAT_GIB[rows]:
            found.append(f"{row['clip']}: memory grows with the length, {peaks[0]:.3f} to {peaks[-1]:.3f} GiB")
    return found


def run(parts: Sequence[str], threads: int, repeats: int, lengths_s: Sequence[float]) -> dict[str, Any]:
    """Measures the parts and prints the table of each when it is done."""
    result: dict[str, Any] = {"machine": machine(), "threads": threads}
    clips = [*real(), *(rendered(name) for name in names() if "2160" in name)]
    if "throughput" in parts:
        result["throughput"] = []
        for clip in clips:
            result["throughput"].append({**facts(clip), **throughput(str(clip), threads, repeats)})
            tables.show_throughput(result["throughput"][-1])
        tables.show_parts(result["throughput"])
    if "models" in parts:
        result["models"] = [models(clip) for clip in clips[:1]]
        tables.show_models(result["models"])
    if "peer" in parts:
        result["peer"] = []
        try:
            with tempfile.TemporaryDirectory() as scratch:
                for clip in (clip for clip in clips if "av1" not in clip.name):  # its OpenCV cannot decode AV1
                    result["peer"].append(peer.compare(clip, every_meter(), Path(scratch)))
                    tables.show_peer(result["peer"][-1])
        except RuntimeError as error:
            result["peer_error"] = str(error)
    if "memory" in parts:
        result["memory"] = []
        for clip in memory_clips(clips):
            lengths = [s for s in lengths_s if "4320" not in clip.name or s <= LONGEST_8K_S]
            points = memory(clip, every_meter(), threads, lengths)
            result["memory"].append({**facts(clip), "points": points})
            tables.show_memory(result["memory"][-1])
    return result


def memory_clips(clips: Sequence[Path]) -> list[Path]:
    """A 4K clip of each kind that holds memory in its own way, and the 8K renderings."""
    deep = [clip for clip in clips if "_10" in clip.name or "hevc10" in clip.name]
    return [*clips[:1], *deep, *(rendered(name) for name in names() if "4320" in name)]


def machine() -> dict[str, Any]:
    """What the numbers were taken on, and how busy it was."""
    import av
    import cv2

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        "av": av.__version__,
        "opencv": cv2.__version__,
    }


def run_as_the_decode_child_does() -> None:
    """Starts again in the decode child's environment: libraries read their numbers of threads when they are loaded."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        command = [sys.executable, "-m", "benchmarks.measure_speed", *sys.argv[1:]]
        root = str(Path(__file__).resolve().parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        os.execve(sys.executable, command, {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)})


def main() -> int:
    run_as_the_decode_child_does()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"any of {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="decoder threads, of both sides of the ratio")
    parser.add_argument("--lengths", default=",".join(f"{s:g}" for s in LENGTHS_S), help="seconds, for the memory")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown part {sorted(unknown)[0]!r}; known are {', '.join(PARTS)}")
    import cv2

    cv2.setNumThreads(1)
    print(json.dumps(machine()))
    lengths_s = [float(seconds) for seconds in arguments.lengths.split(",")]
    result = run(parts, arguments.threads, arguments.repeats, lengths_s)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    failures = missed(result)
    print("\n" + ("targets NOT met:\n  " + "\n  ".join(failures) if failures else "targets met"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
