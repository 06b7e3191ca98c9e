# SPDX-License-Identifier: Apache-2.0
"""Flicker: the whole picture becomes brighter and darker from frame to frame, as under lamps or in time lapses.

What passes through the picture changes it in places, so the step of a frame is that of the middle one of its blocks. A
fade steps steadily; what is left of a frame's level without the mean of its neighbours' levels is flicker. One flash
is an event and no flicker, so the median over the clip decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Groups, Score
from reelmill.column import Column

MIN_FRAMES = 8
BLOCKS_ALONG, BLOCKS_ACROSS = 16, 9
DARK_LEVEL = 4.0  # levels; a darker clip is compared with this level
GAPS = (1, 2, 3, 5)  # frames to the neighbours on either side: from every other frame to a beat of 2 Hz at 30 fps


def _flicker(groups: Mapping[str, Groups], facts: pa.Table) -> np.ndarray:
    level = np.maximum(groups["flicker_luma"].quantile(0.5), DARK_LEVEL)
    return groups["flicker_step"].each(unsteadiness) / level


def unsteadiness(step: np.ndarray) -> float:
    """Largest over the gaps of the median |level - mean of its two neighbours|, the level being the sum of the steps.

    Args:
        step: [n] flicker_step of a clip in time order.
    """
    if len(step) < MIN_FRAMES - 1:
        return float("nan")
    level = np.concatenate([[0.0], np.cumsum(step)])
    gaps = [gap for gap in GAPS if len(level) > 4 * gap]
    return float(max(np.median(np.abs(level[g:-g] - (level[2 * g :] + level[: -2 * g]) / 2)) for g in gaps))


@dataclass(frozen=True, kw_only=True)
class Flicker(Meter):
    """Step of the picture's level from frame to frame, and how unsteady it is.

    Writes: flicker_step, flicker_luma.
    Source: ours: second differences in place of the standard deviation around a straight line, which takes a pan from
        light to dark for flicker.
    """

    name: ClassVar[str] = "flicker"
    view: ClassVar[View] = View.TINY_LUMA
    pairwise: ClassVar[bool] = True
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "flicker_step",
            pa.list_(pa.float32()),
            "change of luma since the frame before of the middle one of 16 x 9 blocks, levels of 255; null for a frame "
            "without predecessor",
        ),
        Column("flicker_luma", pa.list_(pa.float32()), "mean luma, levels of 255; null likewise"),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        Score(
            Column(
                "flicker_share",
                pa.float64(),
                "typical difference of the picture's level to that of the frames around it, as a share of it (0.01: "
                f"1 %); null for a clip of less than {MIN_FRAMES} frames",
            ),
            _flicker,
        ),
    )

    def start(self, info: StreamInfo) -> Update:
        import cv2

        kept: list[np.ndarray] = [np.empty(0), np.empty(0)]  # the last view and its blocks

        def blocks(view: np.ndarray) -> np.ndarray:
            if kept[0] is not view:
                height, width = view.shape
                size = (BLOCKS_ALONG, BLOCKS_ACROSS) if width >= height else (BLOCKS_ACROSS, BLOCKS_ALONG)
                kept[:] = view, cv2.resize(view.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            return kept[1]

        def update(before: np.ndarray, view: np.ndarray, step_s: float) -> tuple[float, float]:
            earlier, now = blocks(before), blocks(view)
            return float(np.median(now - earlier)), float(now.mean())

        return update
