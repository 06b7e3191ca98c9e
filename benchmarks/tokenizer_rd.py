# SPDX-License-Identifier: Apache-2.0
"""Rate and distortion of the reference tokenizer on real clips, each coded by a codebook that never saw it.

    python -m benchmarks.tokenizer_rd [--clips ../shared/clips] [--out docs/tokenizer-rd.svg] [--json PATH]

For every clip with at least 360 rows: fits on all other clips at a small budget, then codes 17 frames of the clip at
360p and decodes them after every scale. Beside it, at equal bits and fitted on the same: single-scale residual vector
quantization with the same principal components; and JPEG, WebP and AV1 (SVT) on the same frames. Bits are
log2(codes) an id; nothing of ours is entropy coded. PSNR is over all RGB values. Claim: PSNR rises with each scale
and beats single-scale quantization at equal bits on every clip; the exit code is 1 if it does not.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.buckets import buckets_of
from reelmill.geometry import InputRule
from reelmill.media import MediaError
from reelmill.pixels import frame_rgb, rotation_of
from reelmill.spans import SpanError, iter_span, open_media
from tokenization.contract import psnr_db
from tokenization.fit import FitConfig, fit
from tokenization.reference import ReferenceTokenizer

ROWS, NUM_FRAMES, FIRST_FRAMES = 360, 17, 240
FIT_SIDE, FIT_RUNS, FIT_SQUARES = 192, 3, 3  # squares of nine frames: runs per clip, squares per run
MULTI = FitConfig(channels=48, reduces=(8, 4, 2, 1, 1, 1), vocabs=(512,) * 6, iterations=6, max_vectors=40_000)
# Per scale of MULTI from which on one id a position costs no more: codes of single-scale stages, at least as many bits.
SINGLE = {2: (8,), 3: (3966,), 4: (3966, 512), 5: (3966, 512, 512)}
JPEG, WEBP, AV1 = (2, 5, 10, 20, 35, 55), (0, 5, 20, 45, 70), (6, 14, 22, 30, 38, 46, 54, 60, 63)
Point = tuple[float, float]  # bits per pixel, PSNR in dB


@dataclass(frozen=True)
class Clip:
    """Frames to judge on, and runs of nine to fit on."""

    name: str
    judged_THWC: np.ndarray
    runs: list[np.ndarray]

    def squares(self) -> list[np.ndarray]:
        """Pieces of the runs, the same every time."""
        rng = np.random.default_rng(0)
        height, width = self.judged_THWC.shape[1:3]
        cuts = []
        for run_THWC in self.runs:
            for _ in range(FIT_SQUARES):
                top, left = (int(rng.integers(size - FIT_SIDE + 1)) for size in (height, width))
                cuts.append(run_THWC[:, top : top + FIT_SIDE, left : left + FIT_SIDE])
        return cuts

    @property
    def num_pixels(self) -> int:
        return self.judged_THWC[..., 0].size


def read_clip(path: Path) -> Clip | None:
    """The clip at 360p, of its first frames; null if it has fewer rows, is too short, or cannot be read."""
    from av.error import FFmpegError

    try:
        with open_media(path) as media:
            found = [_small(frame) for frame in islice(iter_span(media, None, None), FIRST_FRAMES)]
    except (MediaError, SpanError, FFmpegError):
        return None
    pixels = [rgb_HWC for rgb_HWC in found if rgb_HWC is not None]
    if len(pixels) < NUM_FRAMES:
        return None
    starts = np.linspace(0, len(pixels) - 9, FIT_RUNS).astype(int)
    middle = (len(pixels) - NUM_FRAMES) // 2
    judged = np.stack(pixels[middle : middle + NUM_FRAMES])
    return Clip(path.stem, judged, [np.stack(pixels[start : start + 9]) for start in starts])


def _small(frame: Any) -> np.ndarray | None:
    height, width = (frame.height, frame.width)[:: -1 if rotation_of(frame) % 180 else 1]
    if height < ROWS:
        return None
    fit_ = buckets_of(height, width, InputRule(16, (ROWS,)))[0]
    rgb_HWC = frame_rgb(frame, (fit_.scaled_height_px, fit_.scaled_width_px))
    return rgb_HWC[fit_.top_px : fit_.top_px + fit_.height_px, fit_.left_px : fit_.left_px + fit_.width_px].copy()


def coded(tokenizer: ReferenceTokenizer, clip: Clip) -> list[Point]:
    """After each scale."""
    ids = tokenizer.encode(clip.judged_THWC)
    bits = np.cumsum([i.size * np.log2(len(codes)) for i, codes in zip(ids, tokenizer.codebook.codes, strict=True)])
    psnr = tokenizer.psnr_per_scale(clip.judged_THWC, ids)
    return [(float(b) / clip.num_pixels, p) for b, p in zip(bits, psnr, strict=True)]


def stills(clip: Clip, kind: str, qualities: Sequence[int]) -> list[Point]:
    """Each frame an image of its own."""
    from PIL import Image

    points = []
    for quality in qualities:
        files = []
        for frame_HWC in clip.judged_THWC:
            Image.fromarray(frame_HWC).save(file := io.BytesIO(), kind, quality=quality)
            files.append(file)
        decoded = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        num_bits = 8 * sum(len(file.getvalue()) for file in files)
        points.append((num_bits / clip.num_pixels, psnr_db(decoded, clip.judged_THWC)))
    return points


def av1(clip: Clip) -> list[Point]:
    """SVT-AV1, preset 8, 4:2:0, one key frame; packets only."""
    return sorted(_av1_at(clip, quality) for quality in AV1)


def _av1_at(clip: Clip, quality: int) -> Point:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="ivf") as container:
        options = {"preset": "8", "crf": str(quality), "svtav1-params": "lp=1"}
        stream: Any = container.add_stream("libsvtav1", rate=30, options=options)
        stream.height, stream.width = clip.judged_THWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        packets = [
            packet
            for frame_HWC in (*clip.judged_THWC, None)
            for packet in stream.encode(
                None if frame_HWC is None else av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            )
        ]
        for packet in packets:
            container.mux(packet)
        num_bits = 8 * sum(packet.size for packet in packets)
    file.seek(0)
    with av.open(file, "r") as written:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in written.decode(video=0)])
    return num_bits / clip.num_pixels, psnr_db(decoded, clip.judged_THWC)


def at_bits(curve: list[Point], bpp: float) -> float | None:
    """PSNR of a curve at some bits, between its points over the logarithm; null outside of them."""
    if not curve[0][0] <= bpp <= curve[-1][0]:
        return None
    return float(np.interp(np.log(bpp), np.log([b for b, _ in curve]), [p for _, p in curve]))


def judge(clip: Clip, others: Sequence[Clip]) -> dict[str, Any]:
    """All curves of a clip, and whether the claim holds."""
    windows = [square for other in others for square in other.squares()]

    def fitted(config: FitConfig) -> list[Point]:
        return coded(ReferenceTokenizer(fit(windows, config, 0)), clip)

    multi = fitted(MULTI)
    stages = fitted(replace(MULTI, reduces=(1, 1, 1), vocabs=SINGLE[5]))
    single = [*fitted(replace(MULTI, reduces=(1,), vocabs=SINGLE[2])), *stages]
    against = {scale: multi[scale][1] - point[1] for scale, point in zip(SINGLE, single, strict=True)}
    curve = av1(clip)
    last_bpp, last_psnr = multi[-1]
    nearest = at_bits(curve, last_bpp)
    return {
        "clip": clip.name,
        "size": list(clip.judged_THWC.shape[:3]),
        "curves": {
            "multi-scale": multi,
            "single-scale": single,
            "JPEG": stills(clip, "JPEG", JPEG),
            "WebP": stills(clip, "WEBP", WEBP),
            "AV1": curve,
        },
        "rises": all(after[1] > before[1] for before, after in pairwise(multi)),
        "over_single_db": against,
        "below_av1_db": None if nearest is None else nearest - last_psnr,
    }


def line_of(result: dict[str, Any]) -> str:
    """One row of the table, as docs/benchmarks.md has it."""
    scales = " ".join(f"{psnr:.1f}" for _, psnr in result["curves"]["multi-scale"])
    over = " ".join(f"{gain:+.2f}" for gain in result["over_single_db"].values())
    below = "out of its range" if result["below_av1_db"] is None else f"{result['below_av1_db']:.1f}"
    return f"| {result['clip']} | {scales} | {over} | {below} |"


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "reelmill", "svg.fonttype": "none"}  # the same bytes for the same numbers
    from matplotlib import pyplot

    columns = min(3, len(results))
    rows = -(-len(results) // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(3.4 * columns, 2.5 * rows), layout="constrained", squeeze=False
    )
    for axes, result in zip(grid.flat, results, strict=False):
        for label, curve in result["curves"].items():
            axes.plot(*zip(*curve, strict=True), marker="o", markersize=2.5, linewidth=1.2, label=label)
        axes.set(title=result["clip"], xscale="log", xlim=(3e-4, 3))
        axes.title.set_fontsize(8)
        axes.tick_params(labelsize=7)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    for axes in list(grid.flat)[len(results) :]:
        axes.set_axis_off()
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=8)
    figure.supxlabel("bits per pixel", fontsize=9)
    figure.supylabel("PSNR, dB", fontsize=9)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def experiment(files: Sequence[Path], say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    clips = [clip for path in files if (clip := read_clip(path))]
    if len(clips) < 2:
        raise SystemExit(f"{len(clips)} clips of {ROWS} rows and {NUM_FRAMES} frames; at least two are wanted")
    say("| clip | PSNR after each scale, dB | over single-scale at equal bits, dB | below AV1, dB |\n|---|---|---|---|")
    results = []
    for clip in clips:
        results.append(judge(clip, [other for other in clips if other is not clip]))
        say(line_of(results[-1]))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path("../shared/clips"), help="folder of videos")
    parser.add_argument("--out", type=Path, help="picture to draw (.svg or .png)")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    results = experiment(sorted(path for path in arguments.clips.iterdir() if path.suffix in (".mp4", ".mkv", ".mov")))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    if arguments.out:
        draw(results, arguments.out)
    rising = sum(result["rises"] for result in results)
    better = sum(all(gain > 0 for gain in result["over_single_db"].values()) for result in results)
    bits = ", ".join(f"{bpp:.4f}" for bpp, _ in results[0]["curves"]["multi-scale"])
    print(f"bits per pixel after each scale, of the first: {bits}")
    print(f"rises with each scale on {rising} of {len(results)}; beats single-scale at equal bits on {better}")
    return 0 if rising == better == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
