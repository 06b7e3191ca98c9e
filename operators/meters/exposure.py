# SPDX-License-Identifier: Apache-2.0
"""How much of the frame is burnt out or black."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.levels import black_code, code_of, gain
from operators.scores import Score, over
from reelmill.column import Column

DARK_LEVEL, BRIGHT_LEVEL = 5, 250
SAMPLED_ROWS = 540  # rows and columns are skipped so that about this many rows are looked at
_SERIES = pa.list_(pa.float32())


@dataclass(frozen=True, kw_only=True)
class Exposure(Meter):
    """Shares of clipped pixels and the mean level, from single native pixels on a grid (no averaging hides a clip).

    Writes: exposure_clipped_share, exposure_dark_share, exposure_bright_share, exposure_luma.
    Source: UltraVideo's exposure statistic (share of pixels > 250 or < 5; a frame is bad above 12 %). Levels are luma
        codes stretched to 0-255; for PQ and HLG they are code values, not light.
    """

    name: ClassVar[str] = "exposure"
    view: ClassVar[View] = View.LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column("exposure_clipped_share", _SERIES, "share of pixels darker than 5 or brighter than 250 of 255, 0-1"),
        Column("exposure_dark_share", _SERIES, "share of pixels darker than 5 of 255, 0-1"),
        Column("exposure_bright_share", _SERIES, "share of pixels brighter than 250 of 255, 0-1"),
        Column("exposure_luma", _SERIES, "mean luma level, 0-1 full range"),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "exposure_clipped_share", "samples", "mean", "max"),
        *over(writes, "exposure_dark_share", "mean"),
        *over(writes, "exposure_bright_share", "mean"),
        *over(writes, "exposure_luma", "mean", "min", "max"),
    )
    rate_hz: float | None = 2.0

    def start(self, info: StreamInfo) -> Update:
        import cv2

        dark, bright = code_of(DARK_LEVEL, info), code_of(BRIGHT_LEVEL, info)
        black, scale = black_code(info), gain(info) / 255
        num_codes = 1 << info.bit_depth
        codes = np.arange(num_codes)

        def update(view: np.ndarray, seconds: float) -> tuple[float, float, float, float]:
            step = max(1, min(view.shape) // SAMPLED_ROWS)
            sampled = np.ascontiguousarray(view[::step, ::step])
            counts = cv2.calcHist([sampled], [0], None, [num_codes], [0, num_codes]).ravel().astype(np.int64)
            total = counts.sum()
            dark_share = float(counts[codes < dark].sum() / total)
            bright_share = float(counts[codes > bright].sum() / total)
            mean = float((counts @ codes / total - black) * scale)
            return dark_share + bright_share, dark_share, bright_share, min(max(mean, 0.0), 1.0)

        return update
