# SPDX-License-Identifier: Apache-2.0
"""Whether a frame repeats the one before."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from reelmill.column import Column


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

    def start(self, info: StreamInfo) -> Update:
        import cv2

        def update(before: np.ndarray, view: np.ndarray, step_s: float) -> tuple[float]:
            return (cv2.mean(cv2.absdiff(before, view))[0],)

        return update
