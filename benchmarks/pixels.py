# SPDX-License-Identifier: Apache-2.0
"""Crops a second from `pixels` shards, against decoding them on the fly from the clip that they were cut from.

    python -m benchmarks.pixels [--clip ../shared/clips/uhd_motorcycle_2160p30_h264.mp4] [--repeats 3]

Mills the clip into crops of 17 x 256 x 256 (the recipe of docs/recipes.md), then reads the set in shuffled epochs by
`ShardDataset`, opened anew for each epoch; and makes crops by `ClipDataset`, which seeks and decodes 17 native frames
at a random place, with one crop of each and with as many as the shards hold of a window. One process, files cached.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
FRAMES, SIDE, COUNT = 17, 256, 4
SETTINGS = (
    "models=[]",
    "rules=[]",
    f"tokens=[{{tokenizer: pixels, height_px: {SIDE}, width_px: {SIDE}, max_frames: {FRAMES}, count: {COUNT}}}]",
)


def mill(clip: Path, out: Path) -> None:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    place = ["--in", str(clip), "--out", str(out), "--address", "in-process"]
    subprocess.run(
        [sys.executable, "-m", "pipelines", "run", "quickstart", *settings, *place],
        cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def from_shards(out: Path, epoch: int) -> int:
    """Reads every crop of the set once; returns how many."""
    from reelmill.sampling import Shuffle
    from reelmill.shards import ShardDataset

    dataset = ShardDataset(str(out), split=None, shuffle=Shuffle(seed=epoch))
    return sum(batch["tokens_pixel_s0"].shape[0] for batch in dataset.batches(1))


def on_the_fly(out: Path, epoch: int, count: int) -> int:
    """Decodes one window at a random place and cuts `count` crops; returns how many."""
    from reelmill.clips import ClipDataset
    from reelmill.sampling import Shuffle

    clips = ClipDataset(str(out), split=None, num_frames=FRAMES, shuffle=Shuffle(seed=epoch))
    frames_THWC = clips[0]["frames_THWC"]
    rng = np.random.default_rng(epoch)
    for _ in range(count):
        top, left = (int(rng.integers(size - SIDE + 1)) for size in frames_THWC.shape[1:3])
        np.ascontiguousarray(frames_THWC[:, top : top + SIDE, left : left + SIDE])
    return count


def speed(make: Callable[[int], int], repeats: int) -> dict[str, float]:
    """Crops per second of wall and of CPU time; the first epoch warms up."""
    make(0)
    wall, cpu = time.perf_counter(), time.process_time()
    num = sum(make(epoch) for epoch in range(1, repeats + 1))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"crops": num, "crops_per_wall_s": num / wall, "crops_per_cpu_s": num / cpu}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=ROOT.parent / "shared/clips/uhd_motorcycle_2160p30_h264.mp4")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reelmill-pixels-") as folder:
        out = Path(folder) / "set"
        mill(arguments.clip.resolve(), out)
        ways: dict[str, Callable[[int], int]] = {
            "pixels shards": lambda epoch: from_shards(out, epoch),
            f"on the fly, {COUNT} crops a window": lambda epoch: on_the_fly(out, epoch, COUNT),
            "on the fly, 1 crop a window": lambda epoch: on_the_fly(out, epoch, 1),
        }
        found = {name: speed(make, arguments.repeats) for name, make in ways.items()}
    for name, numbers in found.items():
        line = f"{numbers['crops_per_cpu_s']:8.1f} crops a CPU second, {numbers['crops_per_wall_s']:8.1f} a second"
        print(f"{name:34s} {line}  ({numbers['crops']:.0f} crops of {FRAMES}x{SIDE}x{SIDE})")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
