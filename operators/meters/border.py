# SPDX-License-Identifier: Apache-2.0
"""Borders: letterbox, pillarbox, frames of any plain colour."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.bars import SIDES, clip_bars, find_strips
from operators.meters.levels import black_code, gain
from operators.scores import Groups, Score, over
from reelmill.column import Column

STRIP_SHARE = 0.03
_SERIES = pa.list_(pa.float32())
_KINDS = ("bar_share", "bar_edge_share", "bar_luma")
_FLAT = "null if the whole frame is flat"
_UNKNOWN = "null if every sample is flat (black) all over: nobody can tell"


def _side_columns(side: str) -> tuple[Column, ...]:
    return (
        Column(
            f"border_{side}_bar_share",
            _SERIES,
            f"depth of the flat strip at the {side} as a share of the frame's height or width, 0 if there is none; "
            f"a bar only if its end is seen, see border_{side}_bar_edge_share; {_FLAT}",
        ),
        Column(
            f"border_{side}_bar_edge_share",
            _SERIES,
            f"share of the length of the strip at the {side} along which another level begins right behind it, 0-1; "
            f"{_FLAT}",
        ),
        Column(f"border_{side}_bar_luma", _SERIES, f"luma level of the outermost rows at the {side}, 0-255; {_FLAT}"),
    )


def _clip_bars(groups: Mapping[str, Groups]) -> list[dict[str, float]]:
    """Depth of the bar at each side, per clip; NaN where every sample is flat all over."""
    names = {side: tuple(f"border_{side}_{kind}" for kind in _KINDS) for side in SIDES}
    any_group = groups["border_top_bar_share"]
    rows: list[dict[str, float]] = [dict.fromkeys(SIDES, np.nan) for _ in range(any_group.num_clips)]
    order = np.argsort(any_group.clip, kind="stable")
    for clip in np.flatnonzero(any_group.counts):
        first = any_group.starts[clip]
        rows_of_clip = order[first : first + any_group.counts[clip]]
        rows[clip] = clip_bars({side: _arrays(groups, names[side], rows_of_clip) for side in SIDES})
    return rows


def _arrays(
    groups: Mapping[str, Groups], names: tuple[str, ...], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    depth, edge, level = (groups[name].values[rows] for name in names)
    return depth, edge, level


def _bar_score(side: str) -> Score:
    doc = f"depth of the bar at the {side} over the clip, share of the height or width, 0 if there is none; {_UNKNOWN}"
    column = Column(f"border_{side}_bar_share_min", pa.float64(), doc)
    return Score(column, lambda groups, facts: np.array([bars[side] for bars in _clip_bars(groups)]))


def _active(name: str, what: str, near: str, far: str) -> Score:
    doc = f"share of the frame's {what} that is left between the bars at the {near} and {far}, 0-1; {_UNKNOWN}"
    return Score(
        Column(name, pa.float64(), doc),
        lambda groups, facts: np.array([1 - bars[near] - bars[far] for bars in _clip_bars(groups)]),
    )


_DEEPEST = Score(
    Column(
        "border_bar_share",
        pa.float64(),
        f"depth of the deepest bar at any side, share of the height or width, 0 if there is none; {_UNKNOWN}",
    ),
    lambda groups, facts: np.array([max(bars.values()) for bars in _clip_bars(groups)]),
)


@dataclass(frozen=True, kw_only=True)
class Border(Meter):
    """The mean level of a strip along each edge, and bars of any level by their flatness and their straight end.

    Writes: border_luma_min, border_<side>_luma, border_<side>_bar_share, _bar_edge_share and _bar_luma for top, bottom,
        left, right.
    Source: border_luma_min is UltraVideo's border statistic (strip of 3 % from each edge, a frame is bad if its mean is
        below 3 of 255): it takes dark scenery for a border and overlooks thin, soft and grey ones. The bars are ours,
        see `operators.meters.bars`.
    """

    name: ClassVar[str] = "border"
    version: ClassVar[int] = 2
    view: ClassVar[View] = View.LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column("border_luma_min", _SERIES, "mean luma level of the darkest of the four edge strips (3 % deep), 0-255"),
        *(
            Column(f"border_{side}_luma", _SERIES, f"mean luma level of the strip 3 % deep at the {side}, 0-255")
            for side in SIDES
        ),
        *(column for side in SIDES for column in _side_columns(side)),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "border_luma_min", "samples", "median"),
        *(_bar_score(side) for side in SIDES),
        _DEEPEST,
        _active("border_active_height_share", "height", "top", "bottom"),
        _active("border_active_width_share", "width", "left", "right"),
    )
    rate_hz: float | None = 2.0

    def start(self, info: StreamInfo) -> Update:
        import cv2

        black, scale = black_code(info), gain(info)

        def update(view: np.ndarray, seconds: float) -> tuple[float | None, ...]:
            height, width = (ceil(num * STRIP_SHARE) for num in view.shape)
            edges = (view[:height], view[-height:], view[:, :width], view[:, -width:])
            strips = [max((cv2.mean(edge)[0] - black) * scale, 0.0) for edge in edges]
            found = find_strips(view, info)
            if found is None:
                return (min(strips), *strips, *(None,) * (len(SIDES) * len(_KINDS)))
            bars = [value for side in SIDES for value in (found[side].depth, found[side].edge, found[side].level)]
            return (min(strips), *strips, *bars)

        return update
