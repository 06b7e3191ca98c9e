# SPDX-License-Identifier: Apache-2.0
"""Blended frames: a frame rate that was changed by mixing neighbours, which leaves double contours.

A mixture of two frames between which the picture moved has less contrast than either. From 24 to 30 frames a second
every fifth frame is an original and those between are mixtures of changing shares, so contrast falls and returns with
a period of five. A coder's sequence of picture types also gives contrast a period, but a far shallower one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Groups, Score
from reelmill.column import Column

PERIODS = (2, 3, 4, 5, 6)  # frames: 30 to 60, 20 to 30, 24 to 30, 25 to 30 ...
MIN_CYCLES = 4
MIN_SURENESS = 6.0  # depth over the standard error of a phase
SAME = 0.9  # of two periods as deep as each other the shorter one is named
FLOOR = 0.5  # squared levels
_UNKNOWN = "null for a clip of less than 8 frames"


def pulse(contrast: np.ndarray) -> tuple[float, int]:
    """(depth, period) of the deepest periodic change of the logarithm of contrast; (0, 0) if none is sure.

    Args:
        contrast: [n] blend_contrast of a clip in time order.
    """
    log = np.log(contrast + FLOOR)
    depths = [(_depth(log, period), period) for period in PERIODS if len(log) >= MIN_CYCLES * period]
    if not depths:
        return float("nan"), 0
    deepest = max(depths)[0]
    return next((found for found in depths if deepest > 0 and found[0] > SAME * deepest), (0.0, 0))


def _depth(log: np.ndarray, period: int) -> float:
    """Largest less smallest phase, after the mean over one period around each frame is taken off."""
    trend = np.convolve(log, np.full(period, 1 / period), "valid")
    if period % 2 == 0:
        trend = (trend[1:] + trend[:-1]) / 2
    rest = log[period // 2 :][: len(trend)] - trend
    cycles = rest[: len(rest) // period * period].reshape(-1, period)
    phases = np.median(cycles, axis=0)
    error = float(np.std(cycles - phases)) / np.sqrt(len(cycles))
    depth = float(np.ptp(phases))
    return depth if depth > MIN_SURENESS * (error + 1e-3) else 0.0


@dataclass(frozen=True, kw_only=True)
class Blend(Meter):
    """Contrast between neighbouring points of each frame, whose pulse tells of blended frames.

    Writes: blend_contrast (one value per frame).
    Source: ours; bounds from benchmarks/ladders/timing.py.
    """

    name: ClassVar[str] = "blend"
    view: ClassVar[View] = View.TINY_LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "blend_contrast",
            pa.list_(pa.float32()),
            "mean square of the luma steps between neighbouring points of the tiny view, squared levels; never null",
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        Score(
            Column(
                "blend_pulse",
                pa.float64(),
                "depth of a contrast that falls and returns every 2 to 6 frames, natural logarithm; 0 if there is no "
                f"such period, above 0.15 frames are mixtures of others; {_UNKNOWN}",
            ),
            lambda groups, facts: groups["blend_contrast"].each(lambda contrast: pulse(contrast)[0]),
        ),
        Score(
            Column("blend_period_frames", pa.float64(), f"that period, frames; 0 if there is none; {_UNKNOWN}"),
            lambda groups, facts: _periods(groups),
        ),
    )

    def start(self, info: StreamInfo) -> Update:
        import cv2

        def update(view: np.ndarray, seconds: float) -> tuple[float]:
            steps = 0.0
            for a, b in ((view[:, 1:], view[:, :-1]), (view[1:], view[:-1])):
                steps += cv2.norm(a, b, cv2.NORM_L2SQR) / max(a.size, 1) if a.size else 0.0
            return (steps,)

        return update


def _periods(groups: Mapping[str, Groups]) -> np.ndarray:
    group = groups["blend_contrast"]
    return np.where(
        group.counts < MIN_CYCLES * PERIODS[0], np.nan, group.each(lambda contrast: float(pulse(contrast)[1]))
    )
