# SPDX-License-Identifier: Apache-2.0
"""Clips with a known camera: photographs moved before the camera, things that move before them, noise, blur, codecs.

Frames are luma, 540 rows (960 upright), so that a pixel of the 270-row proxy is 2 (3.56) pixels here.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ladders.stills import Still, read_still

LONG, SHORT, PROXY_ROWS = 960, 540, 270
MARGIN = 1.6
SHUTTER = (-0.25, 0.0, 0.25)  # frames: an open shutter of half a frame, in three instants
ENCODERS = {
    8: ("libx264", "yuv420p", {"preset": "veryfast", "g": "30"}),
    10: ("libx265", "yuv420p10le", {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"}),
}


@dataclass(frozen=True)
class Thing:
    """An ellipse of another photograph that moves by itself: centre and half axes as shares of the frame's sides."""

    still: Still
    x: float
    y: float
    half: float
    velocity: complex  # own movement beside the camera's, proxy pixels per frame
    nearness: float = 1.0  # it grows this many times as fast as what lies behind


@dataclass(frozen=True)
class Film:
    """One clip.

    Args:
        kind: name of the row that it belongs to.
        path: complex (growth - 1 + i roll, shift) of the picture per frame step, proxy pixels; cumulated.
        sway: proxy pixels by which parts of the picture wave, as trees and water do; `swaying` is their share.
        flicker: relative change of brightness from frame to frame.
    """

    kind: str
    still: Still
    path: tuple[tuple[complex, complex], ...]
    things: tuple[Thing, ...] = ()
    fps: int = 30
    crf: int = 18
    bit_depth: int = 8
    is_upright: bool = False
    is_blurred: bool = False
    noise: float = 2.0
    sway: float = 0.0
    swaying: float = 0.0
    flicker: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return (LONG, SHORT) if self.is_upright else (SHORT, LONG)

    @property
    def proxy_px(self) -> float:
        """Pixels here per pixel of the proxy."""
        return self.size[0] / PROXY_ROWS


@lru_cache(maxsize=6)
def canvas_of(still: Still, size: tuple[int, int]) -> np.ndarray:
    """float32 luma of a picture that covers MARGIN times (height, width)."""
    import cv2

    luma_HW = cv2.cvtColor(read_still(still), cv2.COLOR_BGR2GRAY)
    factor = MARGIN * max(size[0] / luma_HW.shape[0], size[1] / luma_HW.shape[1])
    shape = (round(luma_HW.shape[1] * factor), round(luma_HW.shape[0] * factor))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(luma_HW, shape, interpolation=method).astype(np.float32)


def _seen(canvas_HW: np.ndarray, size: tuple[int, int], growth: complex, shift: complex) -> np.ndarray:
    """The canvas times the complex growth about the middle, moved by shift (pixels here)."""
    import cv2

    height, width = size
    matrix = np.array([[growth.real, -growth.imag, 0], [growth.imag, growth.real, 0]], np.float64)
    middle = np.array([(canvas_HW.shape[1] - 1) / 2, (canvas_HW.shape[0] - 1) / 2])
    matrix[:, 2] = [(width - 1) / 2 + shift.real, (height - 1) / 2 + shift.imag] - matrix[:, :2] @ middle
    return cv2.warpAffine(canvas_HW, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def _poses(film: Film) -> np.ndarray:
    """[T, 2] complex growth and shift (proxy pixels) of the picture, the middle frame being at rest."""
    poses = [(1 + 0j, 0j)]
    for growth, shift in film.path:
        last = poses[-1]
        poses.append((last[0] * (1 + growth), last[1] * (1 + growth) + shift))
    middle = poses[len(poses) // 2]
    return np.array([(g / middle[0], s - middle[1] * g / middle[0]) for g, s in poses])


def _ellipse(film: Film, thing: Thing, shift: complex, growth: float) -> np.ndarray:
    """float32 [H, W], 1 inside, with an edge two pixels soft."""
    height, width = film.size
    y, x = np.ogrid[:height, :width]
    x_0, y_0 = thing.x * width + shift.real, thing.y * height + shift.imag
    radius = np.sqrt(((x - x_0) / (width * thing.half)) ** 2 + ((y - y_0) / (height * thing.half)) ** 2) / growth
    return np.clip((1 - radius) * thing.half * growth * min(height, width) / 2 + 0.5, 0, 1).astype(np.float32)


def _instant(film: Film, time: float, poses_T2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The luma and the number of the thing at each pixel (0: what lies behind) at a time in frames."""
    index = int(np.clip(np.floor(time), 0, len(poses_T2) - 2))
    pose = poses_T2[index] + (time - index) * (poses_T2[index + 1] - poses_T2[index])
    growth, shift = complex(pose[0]), complex(pose[1]) * film.proxy_px
    luma_HW = _seen(canvas_of(film.still, film.size), film.size, growth, shift)
    if film.sway:
        luma_HW = _swayed(luma_HW, film, time)
    label_HW = np.zeros(film.size, np.int8)
    middle = (len(poses_T2) - 1) / 2
    for number, thing in enumerate(film.things, 1):
        own = shift + thing.velocity * film.proxy_px * (time - middle)
        size_now = abs(growth) ** thing.nearness
        mask_HW = _ellipse(film, thing, own, size_now)
        thing_HW = _seen(canvas_of(thing.still, film.size), film.size, complex(size_now), own)
        luma_HW = luma_HW + mask_HW * (thing_HW - luma_HW)
        label_HW[mask_HW > 0.5] = number
    return luma_HW, label_HW


def _swayed(luma_HW: np.ndarray, film: Film, time: float) -> np.ndarray:
    """Waves that run through the lower part of the picture."""
    import cv2

    height, width = luma_HW.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    depth = np.clip((y / height - (1 - film.swaying)) * 10, 0, 1) * film.sway * film.proxy_px
    phase = 2 * np.pi * time / 13
    dx = depth * np.sin(phase + x / 70 + y / 45)
    dy = 0.5 * depth * np.sin(1.7 * phase + x / 50 - y / 30)
    return cv2.remap(luma_HW, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def frames_of(film: Film, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """float32 luma 0-255 and int8 labels, [H, W] each, per frame."""
    rng = np.random.default_rng(seed)
    poses_T2 = _poses(film)
    for index in range(len(poses_T2)):
        times = [index + offset for offset in (SHUTTER if film.is_blurred else (0.0,))]
        instants = [_instant(film, time, poses_T2) for time in times]
        luma_HW = np.mean([luma for luma, _ in instants], axis=0)
        luma_HW *= 1 + film.flicker * rng.uniform(-1, 1)
        yield luma_HW + film.noise * rng.standard_normal(film.size, np.float32), instants[len(instants) // 2][1]


def true_speed(film: Film, labels_THW: np.ndarray) -> list[float]:
    """Mean length of the true flow into each frame but the first, proxy pixels."""
    z, poses_T2, lengths = grid(film), _poses(film), []
    y, x = (((np.arange(n) * 8 + 4) * film.proxy_px).astype(int) for n in z.shape)
    for index, (growth, shift) in enumerate(film.path, 1):
        label = labels_THW[index][y[:, None], x]
        flow = z * growth + shift
        for number, thing in enumerate(film.things, 1):
            ratio = (abs(poses_T2[index][0]) / abs(poses_T2[index - 1][0])) ** thing.nearness
            moved = poses_T2[index][1] - poses_T2[index - 1][1] + thing.velocity
            own = poses_T2[index][1] + thing.velocity * (index - (len(poses_T2) - 1) / 2)
            flow = np.where(label == number, (z - own) * (1 - 1 / ratio) + moved, flow)
        lengths.append(float(np.abs(flow).mean()))
    return lengths


def grid(film: Film) -> np.ndarray:
    """Complex positions about the middle of the proxy, pixels, every 8."""
    width = round(PROXY_ROWS * film.size[1] / film.size[0])
    y, x = np.mgrid[4:PROXY_ROWS:8, 4:width:8]
    return (x - (width - 1) / 2) + 1j * (y - (PROXY_ROWS - 1) / 2)


def encoded(film: Film, folder: str, seed: int) -> tuple[Path, np.ndarray]:
    """Writes the film; returns the file and the labels [T, H, W]."""
    import av

    encoder, pixel_format, options = ENCODERS[film.bit_depth]
    height, width = film.size
    gain, black, dtype = (219 / 255, 16, np.uint8) if film.bit_depth == 8 else (876 / 255, 64, np.uint16)
    path, labels = Path(folder) / "film.mp4", []
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=film.fps, options=options | {"crf": str(film.crf)})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.thread_count = 1
        planes: Any = np.full((height * 3 // 2, width), 128 if film.bit_depth == 8 else 512, dtype)
        for luma_HW, label_HW in frames_of(film, seed):
            planes[:height] = np.rint(np.clip(luma_HW, 0, 255) * gain + black)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format=pixel_format)))
            labels.append(label_HW)
        container.mux(stream.encode(None))
    return path, np.stack(labels)


def measured(film: Film, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """The motion series of every pair of the encoded film, and the labels."""
    from operators.measure import measure_segment
    from operators.meters.motion import Motion

    with tempfile.TemporaryDirectory() as folder:
        path, labels_THW = encoded(film, folder, seed)
        return measure_segment(str(path), [Motion(rate_hz=None)]), labels_THW


def is_named(camera_class: str, step: tuple[complex, complex]) -> bool:
    """Whether the class is one that a steady path of this (growth - 1 + i roll, shift in proxy pixels) allows."""
    growth, shift = step
    edge = {
        "pan_left" if shift.real > 0 else "pan_right": abs(shift.real),
        "tilt_up" if shift.imag > 0 else "tilt_down": abs(shift.imag),
        "zoom_in" if growth.real > 0 else "zoom_out": abs(growth.real) * PROXY_ROWS / 2,
        "roll": abs(growth.imag) * PROXY_ROWS / 2,
    }
    (first, speed), (_, second) = sorted(edge.items(), key=lambda item: -item[1])[:2]
    allowed = ({first} if speed > 1.5 * second else set()) | ({"mixed"} if speed < 2.7 * second else set())
    return camera_class in allowed
