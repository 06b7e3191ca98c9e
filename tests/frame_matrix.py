# SPDX-License-Identifier: Apache-2.0
"""The matrix of frame exactness: codecs, GOP kinds and containers that PyAV's wheel can write; ways to read.

for name in CASES:
    wrong_reads(write_case(folder, name))  # {way of reading: Reads(num, wrong)}; the frame number is in each picture
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.key_frames import iter_key_frames
from reelmill.media import Media, open_media
from reelmill.packets import frame_index
from reelmill.pixels import frame_rgb
from reelmill.spans import SpanError, iter_frames, iter_span
from tests.videos import CLOSED_GOP, OPEN_GOP, numbered, read_number, texture, write_video

NUM_FRAMES = 40
HEIGHT, WIDTH = 72, 128
X264_CLOSED, X264_OPEN = CLOSED_GOP["libx264"], OPEN_GOP["libx264"]
X265_CLOSED, X265_OPEN = CLOSED_GOP["libx265"], OPEN_GOP["libx265"]
X265 = "keyint=12:min-keyint=12:scenecut=0:log-level=none"
MPEG_B = {"g": "12", "bf": "2", "b": "2M"}
MPEG_P = {"g": "12", "b": "2M"}
VP_LIVE = {"deadline": "realtime", "cpu-used": "8", "g": "12"}
VP_LAG = {"deadline": "good", "cpu-used": "5", "g": "16", "auto-alt-ref": "1", "lag-in-frames": "12"}
AV1 = {"preset": "11", "g": "16", "svtav1-params": "lp=1"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@dataclass(frozen=True)
class Case:
    """How a clip is written.

    Attributes:
        first: number of the first frame that a player shows.
        builds_up: later key frames are recovery points, whose picture comes of several packets.
    """

    codec: str
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (HEIGHT, WIDTH)
    first: int = 0
    builds_up: bool = False


def _steps(start: int, *steps: int) -> dict[str, Any]:
    """pts in 1/90000 s from `start` on, by these steps again and again."""
    ticks = np.resize(steps, NUM_FRAMES - 1).cumsum()
    return {"pts": [start, *(start + ticks).tolist()]}


CASES: dict[str, Case] = {
    "h264-closed.mp4": Case("libx264", options=X264_CLOSED),
    "h264-open.mp4": Case("libx264", options=X264_OPEN),
    "h264-open.mov": Case("libx264", options=X264_OPEN),
    "h264-open.mkv": Case("libx264", options=X264_OPEN),
    "h264-open.ts": Case("libx264", options=X264_OPEN),
    "h264-open.flv": Case("libx264", options=X264_OPEN),
    "h264-open-fragments.mp4": Case("libx264", options=X264_OPEN, more={"container_options": FRAGMENTS}),
    "h264-reordered.avi": Case("libx264", options=X264_CLOSED),
    "h264-open.avi": Case("libx264", options=X264_OPEN),
    "h264-in-order.avi": Case("libx264", options={"preset": "ultrafast", "g": "12"}),
    "h264-no-index.mkv": Case("libx264", options=X264_OPEN, more={"container_options": {"live": "1"}}),
    "h264-refresh.mp4": Case(
        "libx264",
        options={"preset": "veryfast", "x264-params": "keyint=12:intra-refresh=1:scenecut=0"},
        builds_up=True,
    ),
    "h264-10bit.mov": Case("libx264", "yuv420p10le", X264_CLOSED),
    "h264-10bit-open.ts": Case("libx264", "yuv420p10le", X264_OPEN),
    "h264-422-10bit.mxf": Case("libx264", "yuv422p10le", {"preset": "ultrafast", "x264-params": "keyint=1"}),
    "h264-422-10bit.mov": Case("libx264", "yuv422p10le", X264_OPEN),
    "h264-444.mp4": Case("libx264", "yuv444p", X264_OPEN),
    "h264-400.mp4": Case("libx264", "gray", X264_OPEN),
    "h264-interlaced.ts": Case("libx264", options={**X264_CLOSED, "x264-params": "tff=1"}, more={"interlaced": True}),
    "h264-interlaced-open.mp4": Case(
        "libx264", options={"x264-params": X264_OPEN["x264-params"] + ":bff=1"}, more={"interlaced": True}
    ),
    "h264-edit-late.mp4": Case("libx264", options=X264_OPEN, more=_steps(180000, 3000)),
    "h264-edit-negative.mp4": Case("libx264", options=X264_OPEN, more=_steps(-12000, 3000), first=4),
    "h264-late.ts": Case("libx264", options=X264_OPEN, more=_steps(5_400_000, 3000)),
    "h264-vfr.mp4": Case("libx264", options=X264_OPEN, more=_steps(0, 3000, 3000, 9000, 1500, 1500, 45000)),
    "h264-vfr.mkv": Case("libx264", options=X264_OPEN, more=_steps(0, 3000, 3000, 9000, 1500, 1500, 45000)),
    "h264-59.94.mp4": Case("libx264", options=X264_OPEN, more={"fps": Fraction(60000, 1001)}),
    "h264-59.94.ts": Case("libx264", options=X264_OPEN, more={"fps": Fraction(60000, 1001)}),
    "h264-1fps.mp4": Case("libx264", options=X264_OPEN, more={"fps": 1}),
    "h264-1fps.mkv": Case("libx264", options=X264_CLOSED, more={"fps": 1}),
    "hevc-closed.mp4": Case("libx265", options=X265_CLOSED),
    "hevc-open.mp4": Case("libx265", options=X265_OPEN),
    "hevc-open.ts": Case("libx265", options=X265_OPEN),
    "hevc-open-fragments.mp4": Case("libx265", options=X265_OPEN, more={"container_options": FRAGMENTS}),
    "hevc-open-10bit.mkv": Case("libx265", "yuv420p10le", X265_OPEN),
    "hevc-open-12bit.mov": Case("libx265", "yuv420p12le", X265_OPEN),
    "hevc-422-10bit.mov": Case("libx265", "yuv422p10le", X265_CLOSED),
    "hevc-444-12bit.mkv": Case("libx265", "yuv444p12le", X265_OPEN),
    "hevc-400.mkv": Case("libx265", "gray", X265_OPEN),
    "hevc-layers.mp4": Case(
        "libx265",
        options={"preset": "ultrafast", "x265-params": X265 + ":open-gop=0:bframes=4:b-pyramid=1:temporal-layers=3"},
    ),
    "hevc-edit-late.mp4": Case("libx265", options=X265_OPEN, more=_steps(90000, 3000)),
    "vp8.webm": Case("libvpx", options={**VP_LIVE, "auto-alt-ref": "0"}),
    "vp8-hidden.webm": Case("libvpx", options=VP_LAG),
    "vp9.webm": Case("libvpx-vp9", options=VP_LIVE),
    "vp9-hidden.webm": Case("libvpx-vp9", options=VP_LAG),
    "vp9-444.mkv": Case("libvpx-vp9", "yuv444p", VP_LIVE),
    "vp9.mp4": Case("libvpx-vp9", options=VP_LAG),
    "av1.webm": Case("libsvtav1", options=AV1),
    "av1.mkv": Case("libsvtav1", options=AV1),
    "av1-10bit.mp4": Case("libsvtav1", "yuv420p10le", AV1),
    "av1-open.mp4": Case("libsvtav1", options={**AV1, "svtav1-params": "lp=1:irefresh-type=1"}),
    "prores.mov": Case("prores_ks", "yuv422p10le"),
    "prores-444.mov": Case("prores_ks", "yuva444p10le"),
    "dnxhr.mov": Case("dnxhd", "yuv422p10le", {"profile": "dnxhr_hqx"}, size=(144, 256)),
    "dnxhr.mxf": Case("dnxhd", "yuv422p", {"profile": "dnxhr_hq"}, size=(144, 256)),
    "ffv1.mkv": Case("ffv1"),
    "ffv1-444-16bit.mkv": Case("ffv1", "yuv444p16le"),
    "mjpeg.mov": Case("mjpeg", "yuvj420p"),
    "mjpeg.avi": Case("mjpeg", "yuvj422p"),
    "mpeg1.mpg": Case("mpeg1video", options=MPEG_B),
    "mpeg2.ts": Case("mpeg2video", options=MPEG_B),
    "mpeg2.mpg": Case("mpeg2video", options=MPEG_B),
    "mpeg2-422.mxf": Case("mpeg2video", "yuv422p", MPEG_B),
    "mpeg2-interlaced.ts": Case("mpeg2video", options=MPEG_B, more={"interlaced": True}),
    "mpeg4.avi": Case("mpeg4", options=MPEG_P),
    "mpeg4-b.avi": Case("mpeg4", options=MPEG_B),
    "mpeg4-b.mp4": Case("mpeg4", options=MPEG_B),
    "wmv2.wmv": Case("wmv2", options=MPEG_P),
    "flv1.flv": Case("flv", options=MPEG_P),
    "gif.gif": Case("gif", "rgb8"),
    "huffyuv.avi": Case("huffyuv", "yuv422p"),
    "cineform.mov": Case("cfhd", "yuv422p10le"),
    "jpeg2000.mov": Case("jpeg2000", "yuv444p"),
    "raw.mov": Case("rawvideo", "uyvy422"),
}


def write_case(folder: Path, name: str) -> Path:
    """Writes the clip of that case."""
    case = CASES[name]
    return write_video(
        folder / name,
        numbered(texture(NUM_FRAMES, *case.size)),
        codec=case.codec,
        pix_fmt=case.pix_fmt,
        options=case.options,
        **case.more,
    )


@dataclass
class Reads:
    """How many frames were read in one way, and what was wrong."""

    num: int = 0
    wrong: list[str] = field(default_factory=list)

    def see(self, is_right: bool, what: str) -> None:
        self.num += 1
        if not is_right:
            self.wrong.append(what)


class Truth:
    """The frames of a plain decode from the start: number, pts, key flag and pixels."""

    def __init__(self, path: Path) -> None:
        with open_media(path) as media:
            frames = list(iter_span(media, None, None))
            self.rgb = [frame_rgb(frame) for frame in frames]
        self.pts = [frame.pts for frame in frames]
        self.keys = [frame.pts for frame in frames if frame.key_frame]

    def seek_pts(self, position: int) -> int:
        """pts of the last key at or before that frame, as the mill stores it with a clip."""
        return max((key for key in self.keys if key <= self.pts[position]), default=self.pts[0])

    def compare(self, reads: Reads, frames: Iterable[Any], positions: Iterable[int], what: str) -> None:
        """Counts frames that are not those of `positions`, pixel by pixel."""
        left: Iterator[Any] = iter(frames)
        for position in positions:
            try:
                frame = next(left, None)
            except SpanError as error:
                reads.see(False, f"{what} {position}: {error}")
                return
            right = frame is not None and frame.pts == self.pts[position]
            right = right and np.array_equal(frame_rgb(frame), self.rgb[position])
            reads.see(right, f"{what} {position}: pts {frame and frame.pts}")
        extra = next(left, None)
        if extra is not None:
            reads.see(False, f"{what}: an extra frame of pts {extra.pts}")


def sequential(path: Path, truth: Truth) -> Reads:
    """The picture of the k-th frame carries number k, and none is missing at the end."""
    reads, case = Reads(), CASES[path.name]
    expected = list(range(case.first, NUM_FRAMES))
    for number, rgb_HWC in zip(expected, truth.rgb, strict=False):
        reads.see(read_number(rgb_HWC) == number, f"frame {number} shows {read_number(rgb_HWC)}")
    if len(truth.rgb) != len(expected):
        reads.see(False, f"{len(truth.rgb)} frames for {len(expected)}")
    return reads


def random_access(path: Path, truth: Truth) -> Reads:
    """Single frames in random order from one open file."""
    reads = Reads()
    picks = np.random.default_rng(1).integers(0, len(truth.pts), 8).tolist()
    with open_media(path) as media:
        for at in picks:
            truth.compare(reads, iter_frames(media, [truth.pts[at]], truth.seek_pts(at)), [at], "random")
    return reads


def spans(path: Path, truth: Truth) -> Reads:
    """Three frames from each key and from the frame before it."""
    reads = Reads()
    at_keys = [truth.pts.index(key) for key in truth.keys][:5]
    with open_media(path) as media:
        for first in sorted({*at_keys, *(max(at - 1, 0) for at in at_keys)}):
            wanted = range(first, min(first + 3, len(truth.pts)))
            frames = iter_frames(media, [truth.pts[i] for i in wanted], truth.seek_pts(first))
            truth.compare(reads, frames, wanted, "span")
    return reads


def sparse(path: Path, truth: Truth) -> Reads:
    """Every seventh frame, from the start and from inside, with one thread and with two."""
    reads = Reads()
    for threads in (1, 2):
        with open_media(path, threads=threads) as media:
            for first in (3, 20):
                wanted = range(first, len(truth.pts), 7)
                frames = iter_frames(media, [truth.pts[i] for i in wanted], truth.seek_pts(first))
                truth.compare(reads, frames, wanted, f"sparse by {threads}")
    return reads


def segments(path: Path, truth: Truth) -> Reads:
    """Pieces with borders anywhere join to the whole, none missing, none twice."""
    reads = Reads()
    borders = [0, 11, 17, 30, len(truth.pts)]
    with open_media(path) as media:
        for start, stop in pairwise(borders):
            end_pts = truth.pts[stop] if stop < len(truth.pts) else None
            frames = iter_span(media, truth.pts[start], end_pts, truth.seek_pts(start))
            truth.compare(reads, frames, range(start, min(stop + 1, len(truth.pts))), "segment")
    return reads


def key_frames(path: Path, truth: Truth) -> Reads:
    """Key frames decoded alone, all of them and those of a part."""
    reads = Reads()
    with open_media(path) as media:
        keys = _key_positions(media, truth)[: 1 if CASES[path.name].builds_up else None]
        truth.compare(reads, iter_key_frames(media), keys, "key")
        inside = [at for at in keys if 10 <= at < 30]
        truth.compare(reads, iter_key_frames(media, truth.pts[10], truth.pts[30]), inside, "key inside")
    return reads


def _key_positions(media: Media, truth: Truth) -> list[int]:
    """By the packets where they say it: some decoders do not flag their key frames."""
    index = frame_index(media)
    if index.fault is not None:
        return [truth.pts.index(key) for key in truth.keys]
    return [truth.pts.index(pts) for pts, is_key in zip(index.pts, index.is_key, strict=True) if is_key]


def packets(path: Path, truth: Truth) -> Reads:
    """The packets' times are the frames' times."""
    reads = Reads()
    with open_media(path) as media:
        index = frame_index(media)
    if index.fault is None:
        reads.see(index.pts == truth.pts, f"index {index.pts[:4]} ... {len(index.pts)}, frames {truth.pts[:4]} ...")
    return reads


WAYS: dict[str, Callable[[Path, Truth], Reads]] = {
    "sequential": sequential,
    "random": random_access,
    "spans": spans,
    "sparse": sparse,
    "segments": segments,
    "key frames": key_frames,
    "packets": packets,
}


def wrong_reads(path: Path) -> dict[str, Reads]:
    """Reads the clip of a case in every way."""
    truth = Truth(path)
    return {way: read(path, truth) for way, read in WAYS.items()}
