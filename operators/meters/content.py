# SPDX-License-Identifier: Apache-2.0
"""How much a frame differs from the one before, as PySceneDetect's content detectors see it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Score, over
from reelmill.column import Column

_SERIES = pa.list_(pa.float32())


@dataclass(frozen=True, kw_only=True)
class Content(Meter):
    """Mean absolute HSV difference to the frame before, per channel: what shots are cut from.

    Writes: content_hue, content_sat, content_lum (one value per frame, see `Meter.start`).
    Source: PySceneDetect 0.7 `ContentDetector` (frames at 256 px width; hue in OpenCV's half degrees, not wrapped).
    """

    name: ClassVar[str] = "content"
    view: ClassVar[View] = View.TINY
    pairwise: ClassVar[bool] = True
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "content_hue",
            _SERIES,
            "mean absolute hue difference to the frame before, 0-179 half degrees; "
            "null for a frame without predecessor",
        ),
        Column(
            "content_sat",
            _SERIES,
            "mean absolute HSV saturation difference to the frame before, 0-255; null for a frame without predecessor",
        ),
        Column(
            "content_lum",
            _SERIES,
            "mean absolute HSV value difference to the frame before, 0-255; null for a frame without predecessor",
        ),
    )

    scores: ClassVar[tuple[Score, ...]] = (*over(writes, "content_lum", "mean", "max"),)

    def start(self, info: StreamInfo) -> Update:
        import cv2

        kept: list[tuple[np.ndarray, np.ndarray]] = []  # the last view and its HSV

        def hsv_of(view_BGR: np.ndarray) -> np.ndarray:
            if kept and kept[0][0] is view_BGR:
                return kept[0][1]
            return cv2.cvtColor(view_BGR, cv2.COLOR_BGR2HSV)

        def update(before: np.ndarray, view: np.ndarray, step_s: float) -> tuple[float, float, float]:
            hsv_before, hsv = hsv_of(before), cv2.cvtColor(view, cv2.COLOR_BGR2HSV)
            kept[:] = [(view, hsv)]
            hue, sat, lum, _ = cv2.mean(cv2.absdiff(hsv_before, hsv))
            return hue, sat, lum

        return update
