# SPDX-License-Identifier: Apache-2.0
"""Crops of native frames: where they are cut, and cutting them while the window is decoded, one frame at a time."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class CropRule:
    """Which crops of a window.

    Args:
        height_px, width_px: of a crop.
        count: crops per window. Half of them (rounded up) are the most detailed tiles of the native frame, the others
            lie anywhere, at a scale drawn from `scales`.
        scales: whole factors by which the frame is averaged down before it is cut, as far as the crop still fits.
        seed: of the draw.
    """

    height_px: int
    width_px: int
    count: int
    scales: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Crop:
    """One crop: `left`, `top`, `scale` in source pixels, how it was chosen, and its detail in the first frame."""

    left: int
    top: int
    scale: int
    kind: str
    detail: float


def choose_crops(first_HWC: np.ndarray, rule: CropRule, key: str) -> tuple[Crop, ...]:
    """The crops of a window, from its first frame.

    Args:
        first_HWC: uint8 RGB, at least one crop large.
        key: of the window; with the rule's seed it decides the uniform draws.
    """
    luma_HW = luma(first_HWC)
    found = detailed_tiles(luma_HW, rule)[: -(-rule.count // 2)]
    digest = hashlib.blake2b(f"{rule.seed}/{key}".encode(), digest_size=16).digest()
    rng = np.random.Generator(np.random.Philox(int.from_bytes(digest, "little")))
    height, width = luma_HW.shape
    fitting = [s for s in rule.scales if rule.height_px * s <= height and rule.width_px * s <= width] or [1]
    while len(found) < rule.count:
        scale = fitting[int(rng.integers(len(fitting)))]
        top = int(rng.integers(height - rule.height_px * scale + 1))
        left = int(rng.integers(width - rule.width_px * scale + 1))
        piece = cut(luma_HW[..., None], Crop(left, top, scale, "", 0), rule)
        found.append(Crop(left, top, scale, "uniform", gradient(piece[..., 0])))
    return tuple(found)


def detailed_tiles(luma_HW: np.ndarray, rule: CropRule) -> list[Crop]:
    """The tiles of a grid in the middle of the native frame, most detailed first."""
    rows, columns = luma_HW.shape[0] // rule.height_px, luma_HW.shape[1] // rule.width_px
    top0 = (luma_HW.shape[0] - rows * rule.height_px) // 2
    left0 = (luma_HW.shape[1] - columns * rule.width_px) // 2
    places = [(top0 + r * rule.height_px, left0 + c * rule.width_px) for r in range(rows) for c in range(columns)]
    tiles = [
        Crop(left, top, 1, "detail", gradient(luma_HW[top : top + rule.height_px, left : left + rule.width_px]))
        for top, left in places
    ]
    return sorted(tiles, key=lambda tile: -tile.detail)


def cut_window(frames: Iterable[np.ndarray], num: int, rule: CropRule, key: str) -> tuple[tuple[Crop, ...], np.ndarray]:
    """(crops, uint8 [N, T, h, w, 3]) of a window of `num` native frames; one of them is held at a time."""
    crops: tuple[Crop, ...] = ()
    out_NTHWC = np.empty((rule.count, num, rule.height_px, rule.width_px, 3), np.uint8)
    for t, frame_HWC in enumerate(frames):
        crops = crops or choose_crops(frame_HWC, rule, key)
        for n, crop in enumerate(crops):
            out_NTHWC[n, t] = cut(frame_HWC, crop, rule)
    return crops, out_NTHWC


def cut(frame_HWC: np.ndarray, crop: Crop, rule: CropRule) -> np.ndarray:
    """One crop of a frame, squares of `scale` pixels averaged and rounded."""
    height, width = rule.height_px * crop.scale, rule.width_px * crop.scale
    piece = frame_HWC[crop.top : crop.top + height, crop.left : crop.left + width]
    if crop.scale == 1:
        return piece
    blocks = piece.reshape(rule.height_px, crop.scale, rule.width_px, crop.scale, -1)
    area = crop.scale**2
    return ((blocks.sum(axis=(1, 3), dtype=np.uint32) + area // 2) // area).astype(np.uint8)


def luma(rgb_HWC: np.ndarray) -> np.ndarray:
    """uint8 [H, W]: (R + 2 G + B) / 4, good enough to rank detail."""
    sums = rgb_HWC[..., 0].astype(np.uint16) + rgb_HWC[..., 1] + rgb_HWC[..., 1] + rgb_HWC[..., 2]
    return (sums // 4).astype(np.uint8)


def gradient(luma_HW: np.ndarray) -> float:
    """Mean difference to the right and lower neighbours, levels of 255 per pixel."""
    wide = luma_HW.astype(np.int16)
    return float((np.abs(np.diff(wide, axis=0)).mean() + np.abs(np.diff(wide, axis=1)).mean()) / 2)
