# SPDX-License-Identifier: Apache-2.0
"""Clips that a comb detector finds hard: tilts, doubled lines, a camera on a tripod, noise; woven and whole.

All on photographs. A tilt of one line per field is left out: a line then shows what the line above it shows, which is
what doubled lines look like too, and neither is combed.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Clip = tuple[str, list[np.ndarray], dict[str, Any]]  # label, frames, how they are encoded
Look = Callable[[float], np.ndarray]  # the picture at a time in frames
TILTS_PX = (1.0, 2.0, 3.0, -5.0)  # per frame
OBJECT_PX = 400
NUM_FRAMES = 4


def whole_clips(look: Callable[[float, float], Look], picture_HWC: np.ndarray) -> Iterator[Clip]:
    """Progressive clips; `look(x, y)` is a camera that moves so many pixels per frame."""
    import cv2

    for index, step in enumerate(TILTS_PX):
        yield "tilts", _at(look(0.0, step)), {"crf": (18, 28)[index % 2]}
    for x, y in ((5.0, 3.0), (0.0, 2.0)):
        halves = [frame_HWC[::2] for frame_HWC in _at(look(x, y))]
        yield "doubled lines", [np.repeat(half_HWC, 2, axis=0) for half_HWC in halves], {"crf": 23}
        smooth = [cv2.resize(h, None, fx=1, fy=2, interpolation=cv2.INTER_LINEAR) for h in halves]
        yield "one field enlarged", smooth, {"crf": 23}
    yield "noise of 4 levels", _noisy(_at(look(4.0, 1.0))), {"crf": 23}
    tripod = _tripod(look(0.0, 0.0)(0.0), picture_HWC)
    yield "tripod, an object moves", _at(lambda time: tripod(2 * time)), {"crf": 23}


def woven_clips(look: Callable[[float, float], Look], picture_HWC: np.ndarray) -> Iterator[Clip]:
    """Clips of woven fields."""
    yield "fields, tilt of 2.5 px", _woven(look(0.0, 2.5), is_bottom_first=True), {"crf": 20}
    yield "fields, noise of 4 levels", _noisy(_woven(look(4.0, 1.0))), {"crf": 23}
    yield "fields, tripod, an object moves", _woven(_tripod(look(0.0, 0.0)(0.0), picture_HWC)), {"crf": 23}


def _at(look: Look) -> list[np.ndarray]:
    return [look(time) for time in range(NUM_FRAMES)]


def _woven(look: Look, is_bottom_first: bool = False) -> list[np.ndarray]:
    frames = []
    for time in range(0, 2 * NUM_FRAMES, 2):
        frame_HWC = look(time + is_bottom_first).copy()
        frame_HWC[1::2] = look(time + 1 - is_bottom_first)[1::2]
        frames.append(frame_HWC)
    return frames


def _noisy(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Darker, with Gaussian noise of 4 levels."""
    rng = np.random.default_rng(1)
    noise = (rng.normal(0, 4, (*frame_HWC.shape[:2], 1)) for frame_HWC in frames)
    return [np.rint(f * 0.6 + n).clip(0, 255).astype(np.uint8) for f, n in zip(frames, noise, strict=True)]


def _tripod(scene_HWC: np.ndarray, picture_HWC: np.ndarray) -> Look:
    """A camera that stands still while a square of picture moves 6 pixels to the right per unit of time."""
    import cv2

    square_HWC = cv2.resize(picture_HWC[::-1], (OBJECT_PX, OBJECT_PX), interpolation=cv2.INTER_AREA)

    def look(time: float) -> np.ndarray:
        frame_HWC, left = scene_HWC.copy(), int(200 + 6 * time)
        frame_HWC[160 : 160 + OBJECT_PX, left : left + OBJECT_PX] = square_HWC
        return frame_HWC

    return look
