# SPDX-License-Identifier: Apache-2.0
"""Edges of coding blocks: steps that come back at every eighth pixel, or at a larger distance in enlarged footage."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.patches import eight_bit, strip_starts
from operators.scores import Score, over
from reelmill.column import Column

STRIPS, STRIP_LINES = 12, 10
STEP_LIMIT = 12  # codes; a larger step is an edge of the picture and counts no more than this
PERIODS_PX = (8.0, 32 / 3, 12.0, 16.0, 24.0, 32.0)  # 8 px enlarged by 1, 4/3, 3/2, 2, 3, 4
SAME = 0.97  # of two grids as good as each other the finer one is named
MIN_PERIODS = 8  # grid lines that must fit into a side
_SERIES = pa.list_(pa.float32())


@dataclass(frozen=True, kw_only=True)
class Blockiness(Meter):
    """How much larger the step between neighbouring pixels is on a grid than off it, geometric mean of both directions.

    Writes: blockiness_ratio_8, blockiness_ratio, blockiness_grid_px.
    Source: Wang, Sheikh, Bovik 2002 (differences across against inside 8x8 blocks); any offset, larger periods and the
        limit per step are ours. HEVC and AV1 choose block sizes by content and filter their edges, H.264 filters them:
        there the ratio stays near 1 however strong the compression, and bits per pixel say more.
    """

    name: ClassVar[str] = "blockiness"
    view: ClassVar[View] = View.LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "blockiness_ratio_8", _SERIES, "steps on the best 8 px grid over steps off it; 1: no grid, null: too small"
        ),
        Column("blockiness_ratio", _SERIES, "the same on the best grid of 8 to 32 px; null: too small"),
        Column(
            "blockiness_grid_px", _SERIES, "distance of that grid's lines in pixels; means little at a ratio near 1"
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "blockiness_ratio_8", "median", "max"),
        *over(writes, "blockiness_ratio", "median", "max"),
        *over(writes, "blockiness_grid_px", "median"),
    )
    rate_hz: float | None = 1.0

    def start(self, info: StreamInfo) -> Update:
        def update(view: np.ndarray, seconds: float) -> tuple[float | None, ...]:
            if min(view.shape) <= MIN_PERIODS * 8:
                return None, None, None
            across, down = step_profiles(view, info.bit_depth)
            periods = [p for p in PERIODS_PX if min(len(across), len(down)) >= MIN_PERIODS * p]
            ratios = [(grid_ratio(across, p) * grid_ratio(down, p)) ** 0.5 for p in periods]
            best = next(i for i, ratio in enumerate(ratios) if ratio > SAME * max(ratios))
            return ratios[0], ratios[best], periods[best]

        return update


def step_profiles(luma_HW: np.ndarray, bit_depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean limited step, in 8-bit codes, between columns x and x+1 [W-1], and between rows [H-1]; spread lines only."""
    height, width = luma_HW.shape
    rows = strip_starts(height, STRIPS, min(STRIP_LINES, height))
    columns = strip_starts(width, STRIPS, min(STRIP_LINES, width))
    lying = eight_bit(np.concatenate([luma_HW[s : s + STRIP_LINES] for s in rows]), bit_depth)
    standing = eight_bit(np.concatenate([luma_HW[:, s : s + STRIP_LINES] for s in columns], axis=1), bit_depth)
    return _mean_steps(lying[:, :-1], lying[:, 1:], 0), _mean_steps(standing[:-1], standing[1:], 1)


def _mean_steps(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    import cv2

    limited = cv2.min(cv2.absdiff(a, b), STEP_LIMIT)  # type: ignore[call-overload]
    return cv2.reduce(limited, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() / a.shape[axis]


def grid_ratio(profile: np.ndarray, period_px: float) -> float:
    """Mean step on the phase with the largest one over the median phase; 1 if nothing differs at all."""
    phase, counts = _phases(len(profile), period_px)
    means = np.bincount(phase, weights=profile) / counts
    base = float(np.median(means))
    return float(means.max()) / base if base > 0.02 else 1.0


@lru_cache(maxsize=64)
def _phases(length: int, period_px: float) -> tuple[np.ndarray, np.ndarray]:
    """The phase of each place, and how many places each phase has. Treat both as read-only."""
    phase = (np.arange(length) % period_px).astype(np.int64)
    return phase, np.bincount(phase)
