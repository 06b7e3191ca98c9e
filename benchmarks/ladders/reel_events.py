# SPDX-License-Identifier: Apache-2.0
"""What happens within a shot of a reel and is no transition: flashes, whip pans, something that passes close by ...

Each effect takes a shot and the frames [start, start + length) that it is to change, and gives the changed shot.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

HEIGHT, WIDTH, FPS = 270, 480, 30
Shot = Callable[[int], np.ndarray]  # frame number within the shot -> uint8 BGR [HEIGHT, WIDTH, 3]


def view_of(canvas_HWC: np.ndarray, centre: np.ndarray, size: float) -> np.ndarray:
    """The view of `size` canvas widths around `centre`, kept inside the canvas."""
    import cv2

    height, width = canvas_HWC.shape[:2]
    view_w = min(size * width, width - 2.0, (height - 2.0) * WIDTH / HEIGHT)
    view_h = view_w * HEIGHT / WIDTH
    x = float(np.clip(centre[0], view_w / 2, width - view_w / 2)) - view_w / 2
    y = float(np.clip(centre[1], view_h / 2, height - view_h / 2)) - view_h / 2
    scale = view_w / WIDTH
    matrix = np.array([[scale, 0, x], [0, scale, y]], np.float32)
    return cv2.warpAffine(canvas_HWC, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def with_event(
    shot: Shot, kind: str, lead: int, num_frames: int, canvas_HWC: np.ndarray, rng: np.random.Generator
) -> tuple[Shot, int, int]:
    """The shot with something sudden amid the `num_frames` after `lead`, and the frames [start, end) of it."""
    length = {
        "flash": int(rng.integers(1, 4)),
        "whip": int(rng.integers(6, 13)),
        "zoom": int(rng.integers(8, 16)),
        "passer": int(rng.integers(8, 24)),
        "blast": int(rng.integers(20, 40)),
        "strobe": 16,
        "shake": 24,
        "defocus": 30,
    }.get(kind, num_frames - 20)
    start = lead + (num_frames - length) // 2
    effect = EVENTS[kind]
    changed = effect(shot, start, length, canvas_HWC, rng)
    return changed, start, start + length


def _lit(picture_HWC: np.ndarray, gain: Any, lift: Any = 0.0) -> np.ndarray:
    return np.clip(picture_HWC * gain + lift, 0, 255).astype(np.uint8)


def _flash(shot: Shot, start: int, length: int, canvas_HWC: np.ndarray, rng: np.random.Generator) -> Shot:
    lift = rng.uniform(90, 220)
    fall = [1.0, 0.5, 0.2][:length]
    return lambda t: _lit(shot(t), 1 + fall[t - start], lift * fall[t - start]) if 0 <= t - start < length else shot(t)


def _strobe(shot: Shot, start: int, length: int, canvas_HWC: np.ndarray, rng: np.random.Generator) -> Shot:
    return lambda t: _lit(shot(t), 1.6, 90) if 0 <= t - start < length and (t - start) % 4 == 0 else shot(t)


def _whip(shot: Shot, start: int, length: int, canvas_HWC: np.ndarray, rng: np.random.Generator) -> Shot:
    """A whip pan: slow, then half the photograph in a few frames with motion blur, then slow again."""
    height, width = canvas_HWC.shape[:2]
    size = 0.4
    a, b = (
        np.array([0.22 * width, rng.uniform(0.4, 0.6) * height]),
        np.array([0.78 * width, rng.uniform(0.4, 0.6) * height]),
    )
    if rng.random() < 0.5:
        a, b = b, a

    def place(t: float) -> float:
        return float(np.clip((t - start) / length, 0, 1)) * 0.94 + 0.06 * t / (2 * start + length)

    def frame(t: int) -> np.ndarray:
        views = [view_of(canvas_HWC, a + (b - a) * place(t + k / 8), size) for k in range(4)]
        return np.mean(views, axis=0).astype(np.uint8)

    return frame


def _pan(shot: Shot, start: int, length: int, canvas_HWC: np.ndarray, rng: np.random.Generator) -> Shot:
    """A fast even pan or tilt over nearly the whole photograph, without blur."""
    height, width = canvas_HWC.shape[:2]
    is_tilt = rng.random() < 0.4
    a = np.array([width / 2, 0.0]) if is_tilt else np.array([0.0, height / 2])
    b = np.array([width, height]) - a
    a, b = (a, b) if rng.random() < 0.5 else (b, a)
    size = 0.3 if is_tilt else 0.4
    return lambda t: view_of(canvas_HWC, a + (b - a) * float(np.clip((t - start) / length, 0, 1)), size)


def _zoom(shot: Shot, start: int, length: int, canvas_HWC: np.ndarray, rng: np.random.Generator) -> Shot:
    height, width = canvas_HWC.shape[:2]
    centre = np.array([rng.uniform(0.35, 0.65) * width, rng.uniform(0.35, 0.65) * height])
    sizes = (0.85, 0.3) if rng.random() < 0.5 else (0.3, 0.85)

    def frame(t: int) -> np.ndarray:
        s = float(np.clip((t - start) / length, 0, 1))
        return view_of(canvas_HWC, centre, sizes[0] * (sizes[1] / sizes[0]) ** s)

    return frame


def _passer(shot: Shot, start: int, length: int, canvas_HWC: np.ndarray, rng: np.random.Generator) -> Shot:
    """Something large passes close to the camera: 40 to 90 % of the width, most of the height, blurred."""
    import cv2

    share, tall = rng.uniform(0.4, 0.9), rng.uniform(0.7, 1.0)
    body_w, body_h = int(share * WIDTH), int(tall * HEIGHT)
    tone = rng.uniform(20, 200, 3)
    patch_HWC = cv2.resize(rng.uniform(0.7, 1.3, (6, 6, 1)), (body_w, body_h))[:, :, None] * tone
    sign = 1 if rng.random() < 0.5 else -1

    def frame(t: int) -> np.ndarray:
        picture_HWC = shot(t)
        s = (t - start) / length
        if not 0 <= s < 1:
            return picture_HWC
        left = round(-body_w + s * (WIDTH + body_w)) if sign > 0 else round(WIDTH - s * (WIDTH + body_w))
        a, b = max(left, 0), min(left + body_w, WIDTH)
        if a < b:
            picture_HWC = picture_HWC.copy()
            picture_HWC[HEIGHT - body_h :, a:b] = np.clip(patch_HWC[:, a - left : b - left], 0, 255)
        return picture_HWC

    return frame


def _flicker(shot: Shot, start: int, length: int, canvas_HWC: np.ndarray, rng: np.random.Generator) -> Shot:
    gains = 1 + 0.18 * rng.standard_normal(length)
    return lambda t: _lit(shot(t), gains[t - start]) if 0 <= t - start < length else shot(t)


def _blast(shot: Shot, start: int, length: int, canvas_HWC: np.ndarray, rng: np.random.Generator) -> Shot:
    """A ball of fire: grows over a third to all of the picture in a third of the time, then dies away."""
    import cv2

    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centre, reach = rng.uniform(0.3, 0.7, 2) * (WIDTH, HEIGHT), rng.uniform(0.3, 0.7)
    distance_HW = np.hypot(x - centre[0], y - centre[1]) / WIDTH
    flames_HW1 = cv2.resize(rng.uniform(0.4, 1.0, (9, 16)), (WIDTH * 2, HEIGHT * 2), interpolation=cv2.INTER_CUBIC)[
        :, :, None
    ]

    def frame(t: int) -> np.ndarray:
        s = (t - start) / length
        if not 0 <= s < 1:
            return shot(t)
        radius, power = min(s * 3, 1) * reach, min(0.95, (1 - s) * 1.5)
        cover_HW1 = (power / (1 + np.exp((distance_HW - radius) * 20)))[:, :, None]
        top, left = 2 * (t - start), 5 * (t - start)  # the flames drift
        fire_HWC = flames_HW1[top : top + HEIGHT, left : left + WIDTH] * np.array([90.0, 190.0, 255.0])
        return (shot(t) * (1 - cover_HW1) + np.clip(fire_HWC, 0, 255) * cover_HW1).astype(np.uint8)

    return frame


def _shake(shot: Shot, start: int, length: int, canvas_HWC: np.ndarray, rng: np.random.Generator) -> Shot:
    import cv2

    offsets = rng.normal(0, 14, (length, 2))

    def frame(t: int) -> np.ndarray:
        if not 0 <= t - start < length:
            return shot(t)
        matrix = np.array([[1, 0, offsets[t - start, 0]], [0, 1, offsets[t - start, 1]]], np.float32)
        return cv2.warpAffine(shot(t), matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)

    return frame


def _defocus(shot: Shot, start: int, length: int, canvas_HWC: np.ndarray, rng: np.random.Generator) -> Shot:
    import cv2

    def frame(t: int) -> np.ndarray:
        s = (t - start) / length
        return cv2.GaussianBlur(shot(t), (0, 0), 0.3 + 12 * np.sin(np.pi * s)) if 0 < s < 1 else shot(t)

    return frame


def _still(shot: Shot, start: int, length: int, canvas_HWC: np.ndarray, rng: np.random.Generator) -> Shot:
    """A tripod: the first frame and sensor noise."""
    first_HWC = shot(0).astype(np.float32)
    noise = [rng.normal(0, 3, first_HWC.shape).astype(np.float32) for _ in range(5)]
    return lambda t: np.clip(first_HWC + noise[t % 5], 0, 255).astype(np.uint8)


EVENTS: dict[str, Callable[..., Shot]] = {
    "flash": _flash,
    "whip": _whip,
    "zoom": _zoom,
    "passer": _passer,
    "flicker": _flicker,
    "blast": _blast,
    "shake": _shake,
    "defocus": _defocus,
    "still": _still,
    "strobe": _strobe,
    "pan": _pan,
}
