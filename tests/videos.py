# SPDX-License-Identifier: Apache-2.0
"""Small real videos made in the test: textured motion, a frame number drawn as a bar code, any codec of PyAV's wheel.

write_video(tmp_path / "a.mp4", numbered(texture(48, 180, 320)), codec="libx265", options=OPEN_GOP["libx265"])
read_number(frame_HWC)  # the number that `numbered` drew, whatever size the frame has been scaled to
"""

import itertools
import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("SVT_LOG", "1")  # libsvtav1 writes a page to stderr otherwise

NUM_BITS = 12
NUM_CELLS = NUM_BITS + 2  # one white and one black cell before the bits: the reader's reference levels
BAR_SHARE = 0.15  # height of the bar code over the frame's height

FAST = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libsvtav1": {"preset": "11", "svtav1-params": "lp=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}
CLOSED_GOP = {
    "libx264": {"preset": "veryfast", "g": "12", "keyint_min": "12", "sc_threshold": "0", "bf": "2"},
    "libx265": {
        "preset": "ultrafast",
        "x265-params": "keyint=12:min-keyint=12:scenecut=0:open-gop=0:bframes=3:log-level=none",
    },
}
OPEN_GOP = {
    "libx264": {
        "preset": "veryfast",
        "x264-params": "keyint=12:min-keyint=12:scenecut=0:open-gop=1:bframes=5:b-adapt=0:b-pyramid=2",
    },
    "libx265": {
        "preset": "ultrafast",
        "x265-params": "keyint=12:min-keyint=12:scenecut=0:open-gop=1:bframes=4:b-adapt=0:log-level=none",
    },
}
COLORS = {  # pix_fmt-independent tags: (primaries, transfer, matrix, range, swscale matrix)
    "bt709": (1, 1, 1, 1, "ITU709"),
    "bt709-full": (1, 1, 1, 2, "ITU709"),
    "bt601": (6, 6, 6, 1, "SMPTE170M"),
    "pq": (9, 16, 9, 1, "BT2020"),
    "hlg": (9, 18, 9, 1, "BT2020"),
}


def texture(num_frames: int, height: int, width: int, *, seed: int = 0, speed_px: float = 2.0) -> np.ndarray:
    """uint8 [T, H, W, 3]: smoothed noise that pans `speed_px` columns a frame; deterministic by seed."""
    rng = np.random.default_rng(seed)
    span = width + int(abs(speed_px) * num_frames) + 8
    canvas = rng.integers(0, 256, (height // 4 + 2, span // 4 + 2, 3)).astype(np.float32)
    canvas = canvas.repeat(4, 0).repeat(4, 1)[: height + 1, : span + 1]
    canvas = (canvas[:-1, :-1] + canvas[1:, :-1] + canvas[:-1, 1:] + canvas[1:, 1:]) / 4
    starts = [round(abs(speed_px) * t) for t in range(num_frames)]
    frames = np.stack([canvas[:, s : s + width] for s in starts]).astype(np.uint8)
    return frames if speed_px >= 0 else frames[::-1].copy()


def numbered(frames_THWC: np.ndarray, start: int = 0) -> np.ndarray:
    """The frames with their number (start, start + 1, ...) drawn as a bar code along the top; a copy."""
    frames_THWC = frames_THWC.copy()
    num, height, width, _ = frames_THWC.shape
    rows = max(8, round(height * BAR_SHARE))
    edges = np.linspace(0, width, NUM_CELLS + 1).round().astype(int)
    for t in range(num):
        bits = [1, 0] + [(start + t) >> k & 1 for k in range(NUM_BITS)]
        for bit, left, right in zip(bits, edges[:-1], edges[1:], strict=True):
            frames_THWC[t, :rows, left:right] = 235 if bit else 16
    return frames_THWC


def read_number(frame: np.ndarray) -> int:
    """The number in a frame made by `numbered`: uint8/uint16 [H, W] luma or [H, W, 3] in any channel order and size."""
    plane = frame.astype(np.float32)
    plane = plane.mean(axis=2) if plane.ndim == 3 else plane
    height, width = plane.shape
    edges = np.linspace(0, width, NUM_CELLS + 1)
    rows = slice(int(height * BAR_SHARE * 0.25), max(int(height * BAR_SHARE * 0.7), 1))
    centres = [slice(int(a + (b - a) * 0.3), int(a + (b - a) * 0.7) + 1) for a, b in itertools.pairwise(edges)]
    levels = [float(plane[rows, c].mean()) for c in centres]
    white, black = levels[:2]
    if white - black < 40 * (plane.max() / 255 if plane.max() > 255 else 1):
        raise ValueError(f"no bar code in the frame: reference cells {white:.0f} and {black:.0f}")
    return sum(1 << k for k, level in enumerate(levels[2:]) if level > (white + black) / 2)


def write_video(
    path: Path | str,
    frames_THWC: Iterable[np.ndarray],
    *,
    fps: int | Fraction = 30,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    color: str | None = None,
    rotation: int = 0,
    audio: bool = False,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    interlaced: bool = False,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encodes RGB frames and returns the path; the container follows from the suffix.

    Args:
        frames_THWC: uint8 [T, H, W, 3] or an iterable of uint8 [H, W, 3].
        fps: average rate; also the time base (1 / fps) unless `pts` is given.
        options: encoder options; default `FAST[codec]`. `CLOSED_GOP` and `OPEN_GOP` have a key every 12 frames.
        color: key of `COLORS`: how RGB becomes YUV and how the stream is tagged. None: BT.601 limited, untagged.
        rotation: clockwise degrees that a player must turn the frames (0, 90, 180, 270), written as display matrix.
        audio: adds one second of a sine as AAC.
        pts: one per frame, in `time_base` (default 1/90000), for variable frame rates.
    """
    import av

    path = Path(path)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = None
        sound = None
        for index, frame_HWC in enumerate(frames_THWC):
            if stream is None:
                stream = _add_stream(container, frame_HWC.shape, fps, codec, pix_fmt, options, color, rotation)
                if pts is not None or time_base is not None:
                    stream.codec_context.time_base = time_base or Fraction(1, 90000)
                if interlaced:
                    stream.codec_context.flags |= 1 << 18 | 1 << 29  # AV_CODEC_FLAG_INTERLACED_DCT, _ME
                sound = container.add_stream("aac", rate=44100) if audio else None
            frame = _frame(av, frame_HWC, pix_fmt, color)
            frame.pts = index if pts is None else pts[index]
            frame.time_base = stream.codec_context.time_base if pts is not None or time_base else Fraction(1) / fps
            container.mux(stream.encode(frame))
        assert stream is not None, "no frames"
        assert codec != "libx265" or index >= 2, "of fewer than 3 frames this encoder's output is refused at random"
        container.mux(stream.encode(None))
        if sound is not None:
            _write_sine(av, container, sound)
    return path


def _add_stream(
    container: Any,
    shape: tuple[int, ...],
    fps: int | Fraction,
    codec: str,
    pix_fmt: str,
    options: dict[str, str] | None,
    color: str | None,
    rotation: int,
) -> Any:
    stream = container.add_stream(codec, rate=fps, options=dict(FAST.get(codec, {}) if options is None else options))
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = pix_fmt
    stream.codec_context.thread_count = 1
    if color is not None:
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = COLORS[color][:4]
    if rotation:
        stream.set_display_rotation(-rotation)
    return stream


def _frame(av: Any, frame_HWC: np.ndarray, pix_fmt: str, color: str | None) -> Any:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
    primaries, transfer, matrix, span, name = COLORS[color] if color else (2, 2, 2, 1, "ITU601")
    frame = frame.reformat(
        format=pix_fmt,
        src_color_range="JPEG",
        dst_colorspace=name,
        dst_color_range="JPEG" if span == 2 else "MPEG",
        threads=1,
    )
    if color:
        frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = primaries, transfer, matrix, span
    return frame


def _write_sine(av: Any, container: Any, stream: Any) -> None:
    times = np.arange(44100) / 44100
    samples = (np.sin(2 * np.pi * 440 * times) * 8000).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate, frame.pts = 44100, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
