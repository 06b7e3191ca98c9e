# SPDX-License-Identifier: Apache-2.0
"""Whether a frame repeats the one before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Groups, Score, over
from reelmill.column import Column

FREEZE_LEVEL = 0.1  # of 255: a repeated frame stays below it in H.264, HEVC, VP9 and AV1 (measured)
_FREEZE_SHARE = Column(
    "freeze_share",
    pa.float64(),
    "share of frames that repeat the one before (mean absolute luma difference below "
    f"{FREEZE_LEVEL} of 255), 0-1; null for a clip of one frame",
)


def _freeze_share(groups: Mapping[str, Groups], facts: pa.Table) -> np.ndarray:
    return groups["freeze_absdiff"].share(lambda values: values < FREEZE_LEVEL)


@dataclass(frozen=True, kw_only=True)
class Freeze(Meter):
    """Mean absolute luma difference to the frame before, at proxy size.

    Writes: freeze_absdiff (one value per frame, see `Meter.start`).
    Source: the measure of FFmpeg's `freezedetect`; a repeated frame stays below 0.1 after H.264, HEVC, VP9 and AV1.
    """

    name: ClassVar[str] = "freeze"
    view: ClassVar[View] = View.PROXY
    pairwise: ClassVar[bool] = True
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "freeze_absdiff",
            pa.list_(pa.float32()),
            "mean absolute luma difference to the frame before, 0-255, at 270 px height; "
            "null for a frame without predecessor",
        ),
    )

    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "freeze_absdiff", "median"),
        Score(_FREEZE_SHARE, _freeze_share),
    )

    def start(self, info: StreamInfo) -> Update:
        import cv2

        def update(before: np.ndarray, view: np.ndarray, step_s: float) -> tuple[float]:
            return (cv2.mean(cv2.absdiff(before, view))[0],)

        return update
