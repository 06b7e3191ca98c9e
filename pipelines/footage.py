# SPDX-License-Identifier: Apache-2.0
"""A camera that moves over a still picture, and an encoder: how the sample footage is made.

Frames are YCbCr 4:2:0 planes from the start (the still is converted once), so a 4K frame costs one warp per plane.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.scenes import Array

SDR_WHITE_NITS = 203.0  # ITU-R BT.2408: diffuse white of SDR content placed in an HDR picture
GRAIN_SIGMA = 1.4  # of 255; sensor noise, luma only


@dataclass(frozen=True)
class Planes:
    """One picture or frame: y [h, w], u and v [h/2, w/2]; limited range, uint8 or (10 bits) uint16."""

    y: Array
    u: Array
    v: Array

    @property
    def top(self) -> int:
        """Code value step of an 8-bit level: 1, or 4 at 10 bits."""
        return 1 if self.y.dtype == np.uint8 else 4

    def packed(self) -> Array:
        """All planes in one array [3 h / 2, w], as PyAV wants it."""
        flat = np.concatenate([self.y.ravel(), self.u.ravel(), self.v.ravel()])
        return flat.reshape(self.y.shape[0] * 3 // 2, self.y.shape[1])


def even(size: float) -> int:
    """Nearest even whole number, at least 2: 4:2:0 needs even sides."""
    return max(2, round(size / 2) * 2)


def _ycbcr(picture_HWC: Array, kr: float, kb: float, levels: int) -> Planes:
    """BGR in 0-1 to limited-range YCbCr with the luma weights `kr` and `kb`."""
    kg = 1 - kr - kb
    luma = np.array([kb, kg, kr])
    rows = [219 * luma, 112 * (np.array([1, 0, 0]) - luma) / (1 - kb), 112 * (np.array([0, 0, 1]) - luma) / (1 - kr)]
    matrix = np.column_stack([np.stack(rows), [16, 128, 128]]).astype(np.float32) * levels
    y, u, v = cv2.split(cv2.transform(picture_HWC, matrix))
    half = (picture_HWC.shape[1] // 2, picture_HWC.shape[0] // 2)
    dtype = np.uint8 if levels == 1 else np.uint16
    small = [cv2.resize(c, half, interpolation=cv2.INTER_AREA) for c in (u, v)]
    return Planes(*(np.rint(c).astype(dtype) for c in (y, *small)))


def sdr_planes(picture_HWC: Array) -> Planes:
    """8-bit BT.709 limited-range planes of a BGR picture in 0-1 with even sides."""
    return _ycbcr(picture_HWC, 0.2126, 0.0722, 1)


def pq_planes(picture_HWC: Array) -> Planes:
    """10-bit BT.2020 PQ planes; bright parts are lifted to about 1000 nits, as a camera would record them."""
    linear_HWC = cv2.pow(np.clip(picture_HWC, 0, 1), 2.4)
    linear_HWC *= 1 + 4 * smooth_highlights(linear_HWC)
    to_2020 = np.array([[0.8955, 0.0880, 0.0164], [0.0114, 0.9195, 0.0691], [0.0433, 0.3293, 0.6274]], np.float32)
    nits_HWC = np.clip(cv2.transform(linear_HWC, to_2020), 0, None) * (SDR_WHITE_NITS / 10000)
    power_HWC = cv2.pow(nits_HWC, 0.1593017578125)  # SMPTE ST 2084
    pq_HWC = cv2.pow((0.8359375 + 18.8515625 * power_HWC) / (1 + 18.6875 * power_HWC), 78.84375)
    return _ycbcr(pq_HWC, 0.2627, 0.0593, 4)


def smooth_highlights(linear_HWC: Array) -> Array:
    """How much of a highlight each pixel is, 0-1, [h, w, 1]."""
    peak_HW1 = linear_HWC.max(axis=2, keepdims=True)
    return np.clip((peak_HW1 - 0.55) / 0.45, 0, 1) ** 2


@dataclass(frozen=True)
class Move:
    """A camera path: view centre (fractions of the still) and magnification at the first and the last frame."""

    start: tuple[float, float] = (0.5, 0.5)
    end: tuple[float, float] = (0.5, 0.5)
    zoom: tuple[float, float] = (1.0, 1.0)

    def at(self, t: float) -> tuple[float, float, float]:
        """Centre x, centre y and magnification at t in 0-1."""
        x, y = (a + (b - a) * t for a, b in zip(self.start, self.end, strict=True))
        return x, y, self.zoom[0] * (self.zoom[1] / self.zoom[0]) ** t


Edit = Callable[[int, Planes], Planes]  # (frame index, frame) -> frame; may work in place


def _warp(plane: Array, size: tuple[int, int], x: float, y: float, zoom: float) -> Array:
    width, height = size
    cx, cy = x * plane.shape[1], y * plane.shape[0]
    matrix = np.array([[1 / zoom, 0, cx - width / 2 / zoom], [0, 1 / zoom, cy - height / 2 / zoom]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(plane, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT)


def shoot(
    still: Planes, size: tuple[int, int], num_frames: int, move: Move, *, seed: int, edits: tuple[Edit, ...] = ()
) -> Iterator[Planes]:
    """Frames of `size` (width, height) along a camera path, with sensor noise under the edits."""
    width, height = size
    rng = np.random.default_rng(seed)
    sigma = GRAIN_SIGMA * still.top
    grain_HW = np.rint(rng.standard_normal((height + 64, width + 64), np.float32) * sigma).astype(np.int16)
    depth = cv2.CV_8U if still.top == 1 else cv2.CV_16U
    for index in range(num_frames):
        x, y, zoom = move.at(index / max(1, num_frames - 1))
        u, v = (_warp(c, (width // 2, height // 2), x, y, zoom) for c in (still.u, still.v))
        dy, dx = rng.integers(0, 64, 2)
        luma = cv2.add(_warp(still.y, size, x, y, zoom), grain_HW[dy : dy + height, dx : dx + width], dtype=depth)
        frame = Planes(luma, u, v)
        for edit in edits:
            frame = edit(index, frame)
        yield frame


def dissolve(first: Iterable[Planes], second: Iterable[Planes], start: int, length: int) -> Iterator[Planes]:
    """Cross-fades two equally long shots: frame `start` is still the first, frame `start + length` the second."""
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        t = float(np.clip((index - start) / length, 0, 1))
        yield Planes(*(cv2.addWeighted(p, 1 - t, q, t, 0) for p, q in ((a.y, b.y), (a.u, b.u), (a.v, b.v))))


@dataclass(frozen=True)
class Codec:
    """How to encode: FFmpeg's encoder and pixel format, its options, and the colour tags of the stream."""

    name: str
    pix_fmt: str
    options: dict[str, str] = field(default_factory=dict)
    is_pq: bool = False


X264 = Codec("libx264", "yuv420p", {"preset": "ultrafast", "crf": "22", "g": "24"})
SVT_AV1 = Codec("libsvtav1", "yuv420p", {"preset": "12", "crf": "26", "g": "24", "svtav1-params": "lp=1"})
X265_PQ = Codec(
    "libx265",
    "yuv420p10le",
    {
        "preset": "ultrafast",
        "crf": "16",
        "x265-params": "log-level=error:pools=none:frame-threads=1:keyint=24:repeat-headers=1:hdr10=1:max-cll=1000,203:"
        "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)",
    },
    is_pq=True,
)


def encode(
    path: Path,
    frames: Iterable[Planes],
    codec: Codec = X264,
    *,
    fps: int = 24,
    pts: Iterable[int] | None = None,
    mux: dict[str, str] | None = None,
) -> None:
    """Writes frames to `path` on one thread, so that the same input gives the same bytes.

    Args:
        pts: presentation times in units of 1 / fps; default 0, 1, 2, ...
        mux: options of the container, e.g. {"movflags": "faststart"}.
    """
    import av

    with av.open(str(path), "w", options={"fflags": "+bitexact", **(mux or {})}) as container:
        stream: Any = container.add_stream(codec.name, rate=fps, options=codec.options)
        context = stream.codec_context
        context.thread_count, context.pix_fmt, context.time_base = 1, codec.pix_fmt, Fraction(1, fps)
        context.color_primaries, context.color_trc, context.colorspace = (9, 16, 9) if codec.is_pq else (1, 1, 1)
        context.color_range = 1
        times = iter(pts) if pts is not None else None
        for index, planes in enumerate(frames):
            if index == 0:
                context.height, context.width = planes.y.shape
            frame = av.VideoFrame.from_ndarray(planes.packed(), format=codec.pix_fmt)
            frame.pts, frame.time_base = (index if times is None else next(times)), Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def encode_tone(path: Path, seconds: float = 2.0, rate: int = 48000) -> None:
    """Writes a chord as AAC, without any picture."""
    import av

    t = np.arange(int(seconds * rate), dtype=np.float32) / rate
    chord = sum(np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.18, 329.63)) * (0.2 * np.exp(-t))
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(chord[None].astype(np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def rotate_by_metadata(path: Path) -> None:
    """Marks an mp4's video track to be shown turned clockwise by 90 degrees, as a phone held upright does.

    The track header's matrix is overwritten in place (ISO/IEC 14496-12, 8.3.2): no pixel is touched.
    """
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4
    assert data[place] == 0, "only version 0 track headers are written by the muxer for short files"
    fixed = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[place + 40 : place + 76] = b"".join(value.to_bytes(4, "big", signed=True) for value in fixed)
    path.write_bytes(bytes(data))
