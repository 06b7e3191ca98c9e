# SPDX-License-Identifier: Apache-2.0
"""Black borders: letterbox and pillarbox."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.levels import black_code, gain
from operators.scores import Groups, Score, over
from reelmill.column import Column

STRIP_SHARE = 0.03
BAR_LEVEL = 8.0  # a row or column of a bar has a mean below this level of 255
_SERIES = pa.list_(pa.float32())
_SIDES = ("top", "bottom", "left", "right")


_BAR_SHARE = Column(
    "border_bar_share",
    pa.float64(),
    "depth of the deepest black bar on any side that is there in every sample, "
    "share of the height or width; null if all samples are black",
)


def _deepest_bar(groups: Mapping[str, Groups], facts: pa.Table) -> np.ndarray:
    return np.max([groups[f"border_{side}_bar_share"].quantile(0.0) for side in _SIDES], axis=0)


@dataclass(frozen=True, kw_only=True)
class Border(Meter):
    """The mean level of a strip along each edge, and how deep a black bar reaches from it.

    Writes: border_luma_min, border_<side>_luma, border_<side>_bar_share for top, bottom, left, right.
    Source: UltraVideo's border statistic (strip of 3 % from each edge, a frame is bad if its mean is below 3 of 255).
        A strip averages a thin bar with picture, so bars are also measured by their depth: rows or columns from the
        edge whose mean is below 8 (16 + 8 in limited range, as FFmpeg's cropdetect; level ours).
    """

    name: ClassVar[str] = "border"
    view: ClassVar[View] = View.LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column("border_luma_min", _SERIES, "mean luma level of the darkest of the four edge strips (3 % deep), 0-255"),
        *(
            Column(f"border_{side}_luma", _SERIES, f"mean luma level of the strip 3 % deep at the {side}, 0-255")
            for side in _SIDES
        ),
        *(
            Column(
                f"border_{side}_bar_share",
                _SERIES,
                f"depth of the black bar at the {side} as a share of the frame's height or width, 0 if there is none; "
                "null if the whole frame is black",
            )
            for side in _SIDES
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "border_luma_min", "samples", "median"),
        *over(writes, "border_top_bar_share", "min"),
        *over(writes, "border_bottom_bar_share", "min"),
        *over(writes, "border_left_bar_share", "min"),
        *over(writes, "border_right_bar_share", "min"),
        Score(_BAR_SHARE, _deepest_bar),
    )
    rate_hz: float | None = 2.0

    def start(self, info: StreamInfo) -> Update:
        import cv2

        black, scale = black_code(info), gain(info)

        def update(view: np.ndarray, seconds: float) -> tuple[float | None, ...]:
            rows, columns = (cv2.reduce(view, dim, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel() for dim in (1, 0))
            edges = [(means - black) * scale for means in (rows, rows[::-1], columns, columns[::-1])]
            strips = [float(max(edge[: ceil(len(edge) * STRIP_SHARE)].mean(), 0.0)) for edge in edges]
            return (min(strips), *strips, *map(_bar_share, edges))

        return update


def _bar_share(edge: np.ndarray) -> float | None:
    """Share of the means, from the edge inwards, that lie below the bar level; None if all do."""
    is_picture = edge >= BAR_LEVEL
    return float(is_picture.argmax() / len(edge)) if is_picture.any() else None
