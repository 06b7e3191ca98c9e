# SPDX-License-Identifier: Apache-2.0
"""Frames at several resolutions and as patches, as tensors: averaging down, interpolating up, cutting."""

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int, int]


def downscale(pixels_BTCHW: Tensor, by: int) -> Tensor:
    """Mean over squares of `by` values."""
    if by == 1:
        return pixels_BTCHW
    small = F.avg_pool2d(pixels_BTCHW.flatten(0, 1), by)
    return small.unflatten(0, pixels_BTCHW.shape[:2])


def upscale(pixels_BTCHW: Tensor, size: Iterable[int]) -> Tensor:
    """Bilinear to (rows, columns)."""
    size = tuple(size)
    if size == tuple(pixels_BTCHW.shape[-2:]):
        return pixels_BTCHW
    large = F.interpolate(pixels_BTCHW.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
    return large.unflatten(0, pixels_BTCHW.shape[:2])


def low_passed(frames_BTHWC: Tensor, by: int) -> Tensor:
    """Frames averaged down by a factor and brought up again: what a prefix that ends at that scale can know."""
    pixels_BTCHW = frames_BTHWC.movedim(-1, 2)
    return upscale(downscale(pixels_BTCHW, by), pixels_BTCHW.shape[-2:]).movedim(2, -1)


def to_patches(pixels_BTCHW: Tensor, patch: Grid) -> Tensor:
    """[B, N, values]: N over t, h, w; frames, channels, rows and columns of a patch one after the other."""
    b, t, c, h, w = pixels_BTCHW.shape
    pt, ph, pw = patch
    split = pixels_BTCHW.reshape(b, t // pt, pt, c, h // ph, ph, w // pw, pw)
    return split.permute(0, 1, 4, 6, 2, 3, 5, 7).reshape(b, -1, pt * c * ph * pw)


def from_patches(patches_BNP: Tensor, grid: Grid, patch: Grid) -> Tensor:
    """Inverse of `to_patches` [B, T, C, H, W], for a grid of (t, h, w) patches."""
    (t, h, w), (pt, ph, pw) = grid, patch
    split = patches_BNP.reshape(-1, t, h, w, pt, patches_BNP.shape[-1] // (pt * ph * pw), ph, pw)
    return split.permute(0, 1, 4, 5, 2, 6, 3, 7).reshape(-1, t * pt, split.shape[5], h * ph, w * pw)
