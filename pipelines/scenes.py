# SPDX-License-Identifier: Apache-2.0
"""Procedural still pictures, larger than a frame, through which the sample footage's camera moves.

Every scene is a pure function of (height, width, seed) and gives picture_HWC: float32 BGR in 0-1, display-referred
(gamma-coded). Detail goes down to single pixels at any size, so a 3840 px wide picture is true UHD, not enlarged HD.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Array = np.ndarray
Scene = Callable[[int, int, int], Array]


def bgr(hex_color: str) -> Array:
    """`rrggbb` as a float32 BGR triple in 0-1."""
    return np.array([int(hex_color[i : i + 2], 16) / 255 for i in (4, 2, 0)], np.float32)


def fractal(rng: np.random.Generator, height: int, width: int, *, coarsest: float, stretch: float = 1.0) -> Array:
    """1/f noise, float32 [height, width], zero mean and unit deviation.

    Args:
        coarsest: largest structure as a fraction of the height.
        stretch: how much longer structures are horizontally than vertically.
    """
    out_HW = np.zeros((height, width), np.float32)
    cell, gain = coarsest * height, 1.0
    while cell >= 1.0:
        rows, columns = int(np.ceil(height / cell)) + 1, int(np.ceil(width / (cell * stretch))) + 1
        grid = rng.standard_normal((min(rows, height), min(columns, width)), np.float32)
        out_HW += gain * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cell, gain = cell / 2, gain * 0.55
    out_HW -= out_HW.mean()
    return out_HW / out_HW.std()


def smoothstep(values: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def blend(picture_HWC: Array, color: Array, alpha_HW: Array) -> None:
    """Paints `color` (a triple or a picture) over the picture in place."""
    picture_HWC += (color - picture_HWC) * alpha_HW[..., None]


def _sky(height: int, width: int, rng: np.random.Generator, p: "Palette") -> Array:
    t_H1 = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    picture_HWC = np.repeat(
        (p.zenith + (p.horizon - p.zenith) * np.clip(t_H1 * 1.7, 0, 1) ** 1.3)[:, None], width, axis=1
    )
    clouds_HW = fractal(rng, height, width, coarsest=0.22, stretch=3.2)
    blend(picture_HWC, p.cloud, smoothstep(clouds_HW, 0.2, 2.2) * smoothstep(0.62 - t_H1, 0.0, 0.5) * 0.85)
    y_HW, x_HW = np.mgrid[0:height, 0:width].astype(np.float32) / height
    distance_HW = np.hypot(x_HW - p.sun_x * width / height, y_HW - p.sun_y)
    blend(picture_HWC, p.sun, np.exp(-((distance_HW / 0.3) ** 2)) * 0.55)
    blend(picture_HWC, np.ones(3, np.float32), smoothstep(-distance_HW, -0.042, -0.036) * 0.96)
    return picture_HWC


def _ridge_line(rng: np.random.Generator, width: int, roughness: float) -> Array:
    """Heights of a mountain line in about -1..1: midpoint noise whose fine parts weigh `roughness` per octave."""
    x = np.linspace(0, 1, width, dtype=np.float32)
    line, cells, gain = np.zeros(width, np.float32), 2, 1.0
    while cells < width / 2:
        line += gain * np.interp(x, np.linspace(0, 1, cells + 1), rng.uniform(-1, 1, cells + 1)).astype(np.float32)
        cells, gain = cells * 2, gain * roughness
    return line / (np.abs(line).max() + 1e-6)


def _conifers(rng: np.random.Generator, height: int, width: int, base_W: Array) -> Array:
    """Lifts a ridge line by a row of spruce silhouettes with jagged edges."""
    line_W = base_W.copy()
    for _ in range(int(130 * width / height)):
        tall, x = rng.uniform(0.015, 0.075) * height, int(rng.integers(0, width))
        half = max(2, int(tall * 0.17))
        lo, hi = max(0, x - half), min(width, x + half + 1)
        off = np.abs(np.arange(lo, hi) - x) / half
        jag = 0.12 * np.abs(((off * 7) % 1) - 0.5)
        line_W[lo:hi] = np.minimum(line_W[lo:hi], base_W[x] - tall * np.clip(1 - off - jag, 0, 1) + 0.2 * tall)
    return line_W


@dataclass(frozen=True)
class Palette:
    """Colours of a landscape and where its sun stands (fractions of width and height)."""

    zenith: Array
    horizon: Array
    cloud: Array
    sun: Array
    far: Array
    near: Array
    snow: Array
    sun_x: float
    sun_y: float


DAWN = Palette(
    bgr("2b4a86"), bgr("f6c89a"), bgr("fbd9c4"), bgr("ffe0a0"), bgr("a793ad"), bgr("141d26"), bgr("ffd9cc"), 0.66, 0.36
)
NOON = Palette(
    bgr("2f6fc0"), bgr("cfe4f2"), bgr("ffffff"), bgr("fff6dc"), bgr("9db7cf"), bgr("1f3a24"), bgr("f7fbff"), 0.2, 0.12
)
DUSK = Palette(
    bgr("241b4b"), bgr("e2714f"), bgr("a04a63"), bgr("ffb070"), bgr("6d4a6e"), bgr("120d1a"), bgr("c77f86"), 0.42, 0.43
)


def _layer(below_HWC: Array, line_W: Array, relief_HW: Array, p: Palette, depth: float, mist_H: Array) -> None:
    """Paints one mountain layer into the rows `below_HWC`; `line_W` is its upper edge in those rows."""
    y_H1 = np.arange(below_HWC.shape[0], dtype=np.float32)[:, None]
    light_HW = cv2.GaussianBlur(relief_HW, (0, 0), 0.7)
    light_HW = np.clip((np.roll(light_HW, 2, 1) - light_HW) * 2.0 + 0.04 * relief_HW, -0.9, 1.2)
    color_HWC = (p.far + (p.near - p.far) * depth) * (1 + (0.30 + 0.35 * depth) * light_HW[..., None])
    if depth < 0.5:
        altitude_HW = (line_W - y_H1) / below_HWC.shape[1] * 16 / 9 + 0.12
        blend(
            color_HWC, p.snow, smoothstep(altitude_HW + 0.035 * relief_HW, 0.03, 0.09) * np.clip(0.72 + light_HW, 0, 1)
        )
    color_HWC += (p.horizon - color_HWC) * mist_H[:, None, None]
    blend(below_HWC, color_HWC, np.clip((y_H1 - line_W) / 1.2 + 0.5, 0, 1))


def _mountains(height: int, width: int, seed: int, p: Palette) -> Array:
    rng = np.random.default_rng(seed)
    picture_HWC = _sky(height, width, rng, p)
    shore = int(0.74 * height)
    relief_HW = fractal(rng, shore, width, coarsest=0.17)
    layers = [(0.49, 0.19, 0.56, 0.0), (0.56, 0.13, 0.54, 0.33), (0.63, 0.06, 0.42, 0.66), (0.70, 0.025, 0.35, 0.96)]
    for base, amplitude, roughness, depth in layers:
        line_W = (base - amplitude * _ridge_line(rng, width, roughness)) * height
        if depth > 0.6:
            line_W = _conifers(rng, height, width, line_W)
        top = max(0, int(line_W.min()) - 2)
        y_H = np.arange(top, shore, dtype=np.float32) / height
        mist_H = smoothstep(y_H, base, 0.80) * (0.75 - 0.7 * depth)
        _layer(picture_HWC[top:shore], line_W - top, relief_HW[top:], p, depth, mist_H)
    _lake(picture_HWC, rng, shore, p)
    return np.clip(picture_HWC, 0, 1, out=picture_HWC)


def _lake(picture_HWC: Array, rng: np.random.Generator, shore: int, p: Palette) -> None:
    """Mirrors what is above row `shore` into the rows below it, rippled and darkened towards the viewer."""
    height, width = picture_HWC.shape[:2]
    depth = height - shore
    ripple_HW = fractal(rng, depth, width, coarsest=0.16, stretch=9.0)
    near_H1 = np.linspace(0, 1, depth, dtype=np.float32)[:, None]
    y_HW = (
        shore - 1 - np.arange(depth, dtype=np.float32)[:, None] * 1.35 + ripple_HW * (0.002 + 0.012 * near_H1) * height
    )
    x_HW = np.arange(width, dtype=np.float32)[None] + ripple_HW * 0.003 * height
    mirror_HWC = cv2.remap(picture_HWC, x_HW, y_HW, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    mirror_HWC *= (0.82 - 0.35 * near_H1)[..., None]
    blend(mirror_HWC, p.horizon, smoothstep(ripple_HW, 1.1, 2.6) * 0.35)
    picture_HWC[shore:] = mirror_HWC


def dawn_lake(height: int, width: int, seed: int) -> Array:
    """Mountains over a lake at sunrise."""
    return _mountains(height, width, seed, DAWN)


def noon_lake(height: int, width: int, seed: int) -> Array:
    """Green hills and snow under a blue sky."""
    return _mountains(height, width, seed, NOON)


def dusk_lake(height: int, width: int, seed: int) -> Array:
    """Dark ridges against a red sky."""
    return _mountains(height, width, seed, DUSK)


def _leaf(rng: np.random.Generator, radius: float) -> Array:
    """Outline of a pointed leaf around the origin, float32 [n, 2]."""
    t = np.linspace(0, np.pi, 11)
    half = np.sin(t) ** 1.3 * rng.uniform(0.28, 0.5) * (1 + 0.15 * np.sin(5 * t))
    side = np.stack([-np.cos(t), half], 1)
    outline = np.concatenate([side, side[::-1] * (1, -1)]) * radius
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (outline @ turn).astype(np.float32)


def forest_floor(height: int, width: int, seed: int) -> Array:
    """Fallen leaves: the dead-leaves model, occluding shapes of all sizes down to a few pixels."""
    rng = np.random.default_rng(seed)
    colors = np.array(
        [bgr(c) for c in ("7a2f12", "b5541c", "d98a2b", "e8b64a", "8a6a2a", "4d5a26", "6b3a22", "2f3a1c", "c23b22")]
    )
    picture_HWC = np.full((height, width, 3), bgr("1c140d") * 255, np.uint8)
    radii = np.sort(0.015 * rng.uniform(0.004, 1, 6000) ** -0.5)[::-1] * height  # many small, few large
    for radius in radii:
        center = rng.uniform((0, 0), (width, height))
        outline = _leaf(rng, radius)
        color = np.clip(colors[rng.integers(len(colors))] * rng.uniform(0.65, 1.15), 0, 1) * 255
        shadow, body, half, vein = ((color * shade).tolist() for shade in (0.22, 1.0, 0.82, 0.55))
        points = ((outline + center) * 16).astype(np.int32)  # four fractional bits
        cv2.fillPoly(picture_HWC, [points + int(radius * 1.6)], shadow, cv2.LINE_AA, 4)
        cv2.fillPoly(picture_HWC, [points], body, cv2.LINE_AA, 4)
        cv2.fillPoly(picture_HWC, [np.concatenate([points[:11], points[:1]])], half, cv2.LINE_AA, 4)
        cv2.line(picture_HWC, points[0], points[10], vein, max(1, int(radius / 28)), cv2.LINE_AA, 4)
    out_HWC = picture_HWC.astype(np.float32) / 255
    out_HWC *= 1 + 0.09 * fractal(rng, height, width, coarsest=0.02)[..., None]
    return np.clip(out_HWC * 1.05, 0, 1)


def _tower(
    rng: np.random.Generator, picture_HWC: Array, x: int, top: int, wide: int, ground: int, shade: Array
) -> None:
    unit = max(3, picture_HWC.shape[0] // 150)
    block_HWC = picture_HWC[top:ground, x : x + wide]
    block_HWC[:] = shade
    rows, columns = block_HWC.shape[0] // unit, block_HWC.shape[1] // unit
    if rows < 3 or columns < 3:
        return
    lit = (rng.random((rows, columns)) < rng.uniform(0.12, 0.55)) * rng.uniform(0.35, 1.0, (rows, columns))
    pane = np.zeros((unit, unit), np.float32)
    pane[unit // 3 :, unit // 4 : -max(1, unit // 4)] = 1
    glow_HW = np.kron(lit, pane)[: block_HWC.shape[0], : block_HWC.shape[1]].astype(np.float32)
    warm = bgr("ffce7a") if rng.random() < 0.7 else bgr("cfe6ff")
    blend(block_HWC[: glow_HW.shape[0], : glow_HW.shape[1]], warm, glow_HW)


def night_city(height: int, width: int, seed: int) -> Array:
    """A skyline with lit windows, mirrored in a river."""
    rng = np.random.default_rng(seed)
    t_H11 = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    picture_HWC = np.repeat(
        bgr("0d1330") + (bgr("a8557a") - bgr("0d1330")) * np.clip(t_H11 * 1.35, 0, 1) ** 2.2, width, axis=1
    )
    blend(
        picture_HWC, bgr("5a4a78"), smoothstep(fractal(rng, height, width, coarsest=0.2, stretch=3.0), 0.4, 2.4) * 0.6
    )
    shore = int(0.76 * height)
    for depth, (low, high) in enumerate([(0.30, 0.52), (0.38, 0.62), (0.52, 0.70)]):
        x = -int(rng.integers(0, height // 12))
        while x < width:
            wide = int(rng.uniform(0.035, 0.11) * height)
            if x >= 0:
                shade = (bgr("39335c") * (1 - depth / 2.4) + bgr("0a0a14") * depth / 2.4) * rng.uniform(0.75, 1.2)
                _tower(rng, picture_HWC, x, int(rng.uniform(low, high) * height), wide, shore, shade)
            x += int(wide * rng.uniform(0.85, 1.25))
    _lake(picture_HWC, rng, shore, DUSK)
    return np.clip(picture_HWC, 0, 1, out=picture_HWC)


def balloon(size: int, color: str) -> tuple[Array, Array]:
    """A hot-air balloon: picture_HWC (BGR 0-1) and its alpha_HW, `size` pixels high and wide."""
    n = size * 2
    y_HW, x_HW = np.mgrid[0:n, 0:n].astype(np.float32) / n * 2 - 1
    radius = np.where(y_HW < -0.25, 0.62, 0.62 - 0.62 * np.clip((y_HW + 0.25) / 0.95, 0, 1) ** 1.6)
    inside = (np.hypot(x_HW, np.minimum(y_HW + 0.25, 0)) < radius) & (y_HW < 0.62)
    stripe = np.floor(np.arcsin(np.clip(x_HW / np.maximum(radius, 1e-3), -1, 1)) * 3.2) % 2
    picture_HWC = np.where(stripe[..., None] > 0, bgr(color), bgr("fff3dc")).astype(np.float32)
    picture_HWC *= (0.72 + 0.4 * np.clip(0.5 - x_HW * 0.6 - y_HW * 0.25, 0, 1))[..., None]
    basket = (np.abs(x_HW) < 0.1) & (y_HW > 0.74) & (y_HW < 0.92)
    ropes = (np.abs(np.abs(x_HW) - 0.09) < 0.012) & (y_HW >= 0.6) & (y_HW < 0.76)
    picture_HWC[basket | ropes] = bgr("4a2c17")
    alpha_HW = (inside | basket | ropes).astype(np.float32)
    return (
        cv2.resize(picture_HWC, (size, size), interpolation=cv2.INTER_AREA).clip(0, 1),
        cv2.resize(alpha_HW, (size, size), interpolation=cv2.INTER_AREA),
    )
