# SPDX-License-Identifier: Apache-2.0
"""Banding: a smooth slope (sky, wall, fog) that climbs in visible steps.

Seen at a scale of 270 cells along the height (8 pixels at 4K): a cell is the mean of that many pixels of one row, so
dither and grain, which hide the steps of 8 bits, spread the cells' values and nothing is flat; bands stay flat.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Score, over
from reelmill.column import Column

CELLS_HIGH = 270
FLAT_CODES = 0.15  # of 8 bits, between neighbouring cells of a band
STEP_CODES, STRONG_CODES, EDGE_CODES = 0.8, 1.6, 8.5  # a band's step, one of 2 codes, and what is no band but an edge
WINDOW = 9  # cells
MIN_CONTOUR = 4  # cells of contour in a window
MIN_FLAT_SHARE = 0.5
_SERIES = pa.list_(pa.float32())


@dataclass(frozen=True, kw_only=True)
class Banding(Meter):
    """Share of the picture where flat bands meet in steps of one to eight 8-bit codes.

    Writes: banding_share, banding_strong_share.
    Source: after CAMBI (Netflix, PCS 2021), which counts neighbours that differ by 1 to 4 codes of 10 bits in flat
        windows at five scales; ours has one scale, averages along rows so that dither does not count, and asks for a
        flat run on either side. No viewing model: 8-bit codes in the stream's own transfer.
    """

    name: ClassVar[str] = "banding"
    view: ClassVar[View] = View.LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "banding_share",
            _SERIES,
            "share of the picture with bands, steps of 1 code of 8 bits or more, 0-1; null: tiny",
        ),
        Column(
            "banding_strong_share",
            _SERIES,
            "share of the picture with bands, steps of 2 codes or more, 0-1; null: tiny",
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "banding_share", "median", "max"),
        *over(writes, "banding_strong_share", "median", "max"),
    )
    rate_hz: float | None = 1.0

    def start(self, info: StreamInfo) -> Update:
        factor = 1.0 / (1 << (info.bit_depth - 8))

        def update(view: np.ndarray, seconds: float) -> tuple[float | None, float | None]:
            cells = cells_of(view) * factor
            if min(cells.shape) < 2 * WINDOW:
                return None, None
            weak, strong = band_shares(cells, (STEP_CODES, STRONG_CODES))
            return weak, strong

        return update


def cells_of(luma_HW: np.ndarray) -> np.ndarray:
    """float32 [h, w]: every k-th row, averaged over k columns; k brings the short side to about 270."""
    import cv2

    k = max(1, min(luma_HW.shape) // CELLS_HIGH)
    rows = np.ascontiguousarray(luma_HW[k // 2 :: k]).astype(np.float32)
    if k == 1:
        return rows
    width = rows.shape[1] // k
    return cv2.resize(rows[:, : width * k], (width, rows.shape[0]), interpolation=cv2.INTER_AREA)


def band_shares(cells_HW: np.ndarray, least_codes: tuple[float, ...]) -> list[float]:
    """For each least step the share of the cells with enough contour and enough flat neighbours around them."""
    import cv2

    step_HW = np.maximum(_contours(cells_HW), _contours(np.ascontiguousarray(cells_HW.T)).T)
    if not step_HW.max() >= min(least_codes):
        return [0.0] * len(least_codes)
    window = (WINDOW, WINDOW)
    is_flat_HW = cv2.boxFilter(_flat(cells_HW).astype(np.float32), -1, window) >= MIN_FLAT_SHARE
    shares = []
    for least in least_codes:
        contour_HW = (step_HW >= least).astype(np.float32)
        around_HW = cv2.boxFilter(contour_HW, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
        shares.append(float(((around_HW >= MIN_CONTOUR - 0.5) & is_flat_HW).mean()))
    return shares


def _flat(cells_HW: np.ndarray) -> np.ndarray:
    flat = np.ones(cells_HW.shape, bool)
    flat[:, 1:] &= np.abs(np.diff(cells_HW, axis=1)) <= FLAT_CODES
    flat[1:] &= np.abs(np.diff(cells_HW, axis=0)) <= FLAT_CODES
    return flat


def _contours(cells_HW: np.ndarray) -> np.ndarray:
    """Size of the step along the rows between two flat cells before and after; 0: none. It may take two cells."""
    is_flat = np.abs(cells_HW[:, 1:] - cells_HW[:, :-1]) <= FLAT_CODES
    pair = is_flat[:, 1:] & is_flat[:, :-1]  # cells i, i+1, i+2 are level
    step = np.abs(cells_HW[:, 4:-2] - cells_HW[:, 2:-4])
    found = np.zeros(cells_HW.shape, np.float32)
    found[:, 3:-3] = step * ((step <= EDGE_CODES) & pair[:, :-4] & pair[:, 4:])
    return found
