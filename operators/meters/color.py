# SPDX-License-Identifier: Apache-2.0
"""Tones and colours of the picture."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Score, over
from reelmill.column import Column

PERCENTILES = (0.05, 0.50, 0.95)
_SERIES = pa.list_(pa.float32())


@dataclass(frozen=True, kw_only=True)
class Color(Meter):
    """Luma percentiles, saturation, and how chroma is spread, at proxy size.

    Writes: color_luma_p05, color_luma_p50, color_luma_p95, color_saturation, color_chroma, color_hue_spread,
        color_warmth.
    Source: percentiles and HSV by definition; chroma is the distance from grey in the Cb, Cr plane (ITU-R BT.601,
        full range); the spread across the main axis of (Cb, Cr) is ours: one-hue pictures lie on a line.
    """

    name: ClassVar[str] = "color"
    view: ClassVar[View] = View.COLOR
    writes: ClassVar[tuple[Column, ...]] = (
        Column("color_luma_p05", _SERIES, "5th percentile of luma, 0-1 full range"),
        Column("color_luma_p50", _SERIES, "median luma, 0-1 full range"),
        Column("color_luma_p95", _SERIES, "95th percentile of luma, 0-1 full range"),
        Column("color_saturation", _SERIES, "mean HSV saturation, 0-1"),
        Column("color_chroma", _SERIES, "mean distance from grey in the Cb, Cr plane, 0-1 (1 = 128 levels)"),
        Column(
            "color_hue_spread",
            _SERIES,
            "standard deviation of (Cb, Cr) across its main axis, 0-1 (1 = 128 levels); "
            "near 0 in grey and toned pictures",
        ),
        Column("color_warmth", _SERIES, "mean of R minus B, -1 to 1; above 0 is warm"),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "color_luma_p05", "mean"),
        *over(writes, "color_luma_p50", "mean"),
        *over(writes, "color_luma_p95", "mean"),
        *over(writes, "color_saturation", "mean"),
        *over(writes, "color_chroma", "mean"),
        *over(writes, "color_hue_spread", "median"),
        *over(writes, "color_warmth", "mean"),
    )
    rate_hz: float | None = 2.0

    def start(self, info: StreamInfo) -> Update:
        import cv2

        def update(view: np.ndarray, seconds: float) -> tuple[float, ...]:
            luma, cr, cb = cv2.split(cv2.cvtColor(view, cv2.COLOR_BGR2YCrCb))
            saturation = cv2.mean(cv2.cvtColor(view, cv2.COLOR_BGR2HSV))[1] / 255
            blue, _, red, _ = cv2.mean(view)
            chroma, spread = _chroma(cb, cr)
            return (*_percentiles(luma), saturation, chroma, spread, (red - blue) / 255)

        return update


def _percentiles(luma: np.ndarray) -> list[float]:
    import cv2

    counts = cv2.calcHist([luma], [0], None, [256], [0, 256]).ravel().cumsum(dtype=np.int64)
    return [float(np.searchsorted(counts, share * counts[-1]) / 255) for share in PERCENTILES]


def _chroma(cb: np.ndarray, cr: np.ndarray) -> tuple[float, float]:
    """Mean radius and the smaller principal standard deviation of (Cb, Cr), 1 = 128 levels."""
    import cv2

    counts_BR = cv2.calcHist([cb, cr], [0, 1], None, [256, 256], [0, 256, 0, 256])
    axis, radius_BR = _chroma_plane()
    num, of_b, of_r = cb.size, counts_BR.sum(axis=1, dtype=np.float64), counts_BR.sum(axis=0, dtype=np.float64)
    b, r = axis - of_b @ axis / num, axis - of_r @ axis / num
    across = b @ (counts_BR @ r)
    covariance = np.array([[of_b @ b**2, across], [across, of_r @ r**2]]) / max(num - 1, 1)
    smallest = float(np.linalg.eigvalsh(covariance)[0])
    return float(np.vdot(counts_BR, radius_BR)) / num, max(smallest, 0.0) ** 0.5


@cache
def _chroma_plane() -> tuple[np.ndarray, np.ndarray]:
    """float64 [256] Cb or Cr of each code, and float32 [256, 256] the distance from grey; 1 = 128 levels."""
    axis = np.arange(256) / 128 - 1
    return axis, np.hypot(axis[:, None], axis).astype(np.float32)
