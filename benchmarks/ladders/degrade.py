# SPDX-License-Identifier: Apache-2.0
"""What footage goes through after it was taken: enlargement, sharpening, grain, lossy coding. Exact labels for ladders.

Everything works on a luma plane, uint8 [H, W] in full range, and gives one of the same size: a low-resolution master
is rounded to 8 bits before it is enlarged, as it was when it was stored.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

KERNELS = ("nearest", "bilinear", "bicubic", "lanczos", "area")
CODECS = ("libx264", "libx265", "libsvtav1")


def _flag(kernel: str) -> int:
    import cv2

    flags = {
        "nearest": cv2.INTER_NEAREST,
        "bilinear": cv2.INTER_LINEAR,
        "bicubic": cv2.INTER_CUBIC,
        "lanczos": cv2.INTER_LANCZOS4,
        "area": cv2.INTER_AREA,
    }
    if kernel not in flags:
        raise ValueError(f"unknown kernel {kernel!r}; known: {', '.join(flags)}")
    return flags[kernel]


def reduced(luma_HW: np.ndarray, factor: float | tuple[float, float], kernel: str = "area") -> np.ndarray:
    """The plane made smaller by `factor` (or factors down and across).

    Args:
        kernel: `area` averages; any other is preceded by a Gaussian of 0.4 px per factor against aliasing.
    """
    import cv2

    fy, fx = factor if isinstance(factor, tuple) else (factor, factor)
    size = max(1, round(luma_HW.shape[1] / fx)), max(1, round(luma_HW.shape[0] / fy))
    if kernel != "area":
        luma_HW = cv2.GaussianBlur(luma_HW, (0, 0), sigmaX=0.4 * fx, sigmaY=0.4 * fy)
    return cv2.resize(luma_HW, size, interpolation=_flag(kernel))


def enlarged(
    luma_HW: np.ndarray, factor: float | tuple[float, float], kernel: str = "bicubic", reduce: str = "area"
) -> np.ndarray:
    """The plane reduced by `factor` and enlarged to its own size again: a picture whose real size is smaller."""
    import cv2

    height, width = luma_HW.shape
    return cv2.resize(reduced(luma_HW, factor, reduce), (width, height), interpolation=_flag(kernel))


def line_doubled(luma_HW: np.ndarray) -> np.ndarray:
    """One field of an interlaced picture made a frame: every second row is the mean of its neighbours."""
    import cv2

    height, width = luma_HW.shape
    return cv2.resize(np.ascontiguousarray(luma_HW[::2]), (width, height), interpolation=cv2.INTER_LINEAR)


def defocused(luma_HW: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian blur: a lens that is soft, or a camera that denoises."""
    import cv2

    return cv2.GaussianBlur(luma_HW, (0, 0), sigma_px)


def unsharp(luma_HW: np.ndarray, amount: float = 1.0, sigma_px: float = 1.2) -> np.ndarray:
    """Unsharp mask: the picture plus `amount` of what a Gaussian removes."""
    import cv2

    blurred_HW = cv2.GaussianBlur(luma_HW, (0, 0), sigma_px)
    return cv2.addWeighted(luma_HW, 1 + amount, blurred_HW, -amount, 0)


def adaptively_sharpened(luma_HW: np.ndarray, strength: float = 0.8) -> np.ndarray:
    """Contrast adaptive sharpening, as players and games do it. Source: AMD FidelityFX CAS, luma only."""
    import cv2

    levels_HW = luma_HW.astype(np.float32) / 255
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    low_HW, high_HW = cv2.erode(levels_HW, cross), cv2.dilate(levels_HW, cross)
    room_HW = np.minimum(low_HW, 1 - high_HW) / np.maximum(high_HW, 1e-4)
    weight_HW = -np.sqrt(room_HW.clip(0, 1)) / (8 - 3 * strength)
    around_HW = cv2.filter2D(levels_HW, -1, np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32))
    sharp_HW = (levels_HW + weight_HW * around_HW) / (1 + 4 * weight_HW)
    return np.rint(sharp_HW.clip(0, 1) * 255).astype(np.uint8)


def grain(luma_HW: np.ndarray, sigma: float, seed: int, size_px: float = 0.0) -> np.ndarray:
    """Gaussian grain of standard deviation `sigma` levels; `size_px` > 0 makes it coarser by that Gaussian."""
    import cv2

    noise_HW = np.random.default_rng(seed).standard_normal(luma_HW.shape, np.float32)
    if size_px:
        noise_HW = cv2.GaussianBlur(noise_HW, (0, 0), size_px)
        noise_HW /= noise_HW.std()
    return np.rint((luma_HW + sigma * noise_HW).clip(0, 255)).astype(np.uint8)


def round_trip(frames: Sequence[np.ndarray], crf: int, codec: str = "libx264") -> list[np.ndarray]:
    """The luma planes of the frames after coding with one key frame, and P frames only, at constant quality `crf`.

    Args:
        frames: uint8 [H, W] of one even size.
        codec: libx264 (preset veryfast), libx265 (superfast) or libsvtav1 (preset 11; its own crf scale, 0-63).
    """
    import av

    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width = frames[0].shape
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
    encoder.color_range = 2  # full: the codes are levels
    encoder.thread_count = 1
    encoder.options = {"crf": str(crf), **_options(codec)}
    packets = [p for index, frame in enumerate(frames) for p in encoder.encode(_grey_frame(frame, index))]
    packets += encoder.encode(None)
    decoder = av.CodecContext.create({"libx264": "h264", "libx265": "hevc", "libsvtav1": "libdav1d"}[codec], "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    shown = [f for packet in packets for f in decoder.decode(packet)] + decoder.decode(None)
    return [f.to_ndarray()[: f.height] for f in shown]


def _options(codec: str) -> dict[str, str]:
    if codec == "libx264":
        return {"preset": "veryfast", "bf": "0", "rc-lookahead": "0"}
    if codec == "libx265":
        return {"preset": "superfast", "x265-params": "log-level=none:pools=none:frame-threads=1:bframes=0"}
    return {"preset": "11", "svtav1-params": "lp=1"}


def _grey_frame(luma_HW: np.ndarray, index: int) -> Any:
    import av

    height, width = luma_HW.shape
    chroma_HW = np.full((height // 2, width), 128, np.uint8)
    frame = av.VideoFrame.from_ndarray(np.concatenate([luma_HW, chroma_HW]), format="yuv420p")
    frame.pts = index
    return frame
