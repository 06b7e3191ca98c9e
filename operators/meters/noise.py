# SPDX-License-Identifier: Apache-2.0
"""Noise that is left in the picture: grain and sensor noise, as far as the encoder has kept it.

Texture has the same high frequencies as noise, so only the smoothest places are asked. Smooth is told by means of cells
of 5x5 pixels, which noise hardly moves; choosing by the fine differences themselves would choose the least noisy.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.levels import black_code, gain
from operators.meters.patches import patches_of
from operators.scores import Score, over
from reelmill.column import Column

ACROSS, DOWN, PATCH_PX = 7, 4, 64
CELL_PX, CELLS = 5, 3
BLOCK_PX = CELL_PX * CELLS
FLATTEST_SHARE = 0.2
MIN_BLOCKS = 6
FLAT_LEVELS, FLAT_NOISE_SHARE = 1.5, 0.35  # deviation of a block's cell means: of a smooth place; what noise adds
CLIPPED_LEVELS = (4.0, 251.0)
SCALED_PX = 1080
MAX_FACTOR = PATCH_PX // (BLOCK_PX + 2)  # a patch averaged by it still holds a block
_SERIES = pa.list_(pa.float32())


@dataclass(frozen=True, kw_only=True)
class Noise(Meter):
    """Standard deviation of the noise in the flattest fifth of 15x15 blocks of spread patches.

    Writes: noise_sigma, noise_sigma_1080.
    Source: Immerkaer 1996 (mean absolute response to the difference of two Laplacians); flat blocks only, median over
        them, and the second scale are ours. It is what remains: at crf 23 x264 keeps half of a deviation of 1.5 and the
        decoder's output of a smooth sky has none. Texture as fine and even as noise (sand, felt) reads as noise.
    """

    name: ClassVar[str] = "noise"
    view: ClassVar[View] = View.LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "noise_sigma", _SERIES, "deviation of the noise in flat places, levels of 255; null if no place is flat"
        ),
        Column(
            "noise_sigma_1080",
            _SERIES,
            "the same with the short side averaged down to about 1080 px (1440 at 8K), where coarse grain is; null if "
            "it is smaller or no place is flat",
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "noise_sigma", "median", "max"),
        *over(writes, "noise_sigma_1080", "median", "max"),
    )
    rate_hz: float | None = 1.0

    def start(self, info: StreamInfo) -> Update:
        scale, black = gain(info), black_code(info)
        short_px = min(info.height_px, info.width_px)
        factor = min(round(short_px / SCALED_PX), MAX_FACTOR) if short_px >= SCALED_PX else 0

        def update(view: np.ndarray, seconds: float) -> tuple[float | None, float | None]:
            patches = patches_of(view, ACROSS, DOWN, PATCH_PX)
            if patches is None:
                return None, None
            levels = (patches.astype(np.float32) - black) * scale
            native = flat_noise(levels)
            return native, None if factor < 1 else native if factor == 1 else flat_noise(_binned(levels, factor))

        return update


def flat_noise(levels_NHW: np.ndarray) -> float | None:
    """Noise deviation over the flattest blocks of patches; null if there are too few flat ones."""
    fine = _second_difference(_second_difference(levels_NHW, 1), 2)
    sigma = _block_means(np.abs(fine), BLOCK_PX) * (np.sqrt(np.pi / 2) / 6)
    cells = _block_means(levels_NHW[:, 1:-1, 1:-1], CELL_PX)
    n, rows, columns = sigma.shape
    cells = cells[:, : rows * CELLS, : columns * CELLS].reshape(n, rows, CELLS, columns, CELLS)
    mean, spread = cells.mean((2, 4)).ravel(), cells.std((2, 4)).ravel()
    sigma = sigma.ravel()
    usable = (mean > CLIPPED_LEVELS[0]) & (mean < CLIPPED_LEVELS[1])
    usable &= spread < np.maximum(FLAT_LEVELS, FLAT_NOISE_SHARE * sigma)
    if usable.sum() < MIN_BLOCKS:
        return None
    limit = np.quantile(spread[usable], max(FLATTEST_SHARE, MIN_BLOCKS / usable.sum()))
    return float(np.median(sigma[usable & (spread <= limit)]))


def _second_difference(array: np.ndarray, axis: int) -> np.ndarray:
    moved = np.moveaxis(array, axis, 0)
    return np.moveaxis(moved[2:] - 2 * moved[1:-1] + moved[:-2], 0, axis)


def _block_means(array_NHW: np.ndarray, px: int) -> np.ndarray:
    """Means of px x px blocks, what is left over at the right and below dropped."""
    import cv2

    n, height, width = array_NHW.shape
    rows, columns = height // px, width // px
    below = array_NHW[:, : rows * px, : columns * px].reshape(n * rows * px, columns * px)
    return cv2.resize(below, (columns, n * rows), interpolation=cv2.INTER_AREA).reshape(n, rows, columns)


def _binned(array_NHW: np.ndarray, factor: int) -> np.ndarray:
    return _block_means(array_NHW, factor)
