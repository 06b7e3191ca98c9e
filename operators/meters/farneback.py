# SPDX-License-Identifier: Apache-2.0
"""The motion score that other tools publish: mean length of Farneback's flow between frames half a second apart.

It grows with the picture's size and with the time between samples, so it is no measure of speed (`motion` is). It is
here so that numbers and thresholds of other tools can be compared. Not for native UHD: there, a pair takes seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.levels import black_code, gain
from operators.scores import Groups, Score
from reelmill.column import Column

_SERIES = pa.list_(pa.float32())
MIN_SIDE_PX = 32
_NULL = "null for the first sample of a segment, which has none before it, and for frames below 32 px"
PYRAMID: dict[str, Any] = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "flags": 0,
}


def _mean_inside(name: str, what: str) -> Score:
    """Mean over the pairs of which both frames lie in the clip."""

    def compute(groups: Mapping[str, Groups], facts: pa.Table) -> np.ndarray:
        lengths, before = groups[name], groups["farneback_before_s"]
        first_s = groups["farneback_time_s"].quantile(0.0)
        is_inside = before.values >= first_s[before.clip]
        return Groups(lengths.values[is_inside], lengths.clip[is_inside], lengths.num_clips).mean()

    doc = f"mean over the clip's pairs of the mean length of the flow, {what}; null if the clip has no pair"
    return Score(Column(f"{name}_mean", pa.float64(), doc), compute)


@dataclass(frozen=True, kw_only=True)
class Farneback(Meter):
    """Mean length of the dense flow from one sampled frame to the next sampled frame.

    The pair that lies across a segment's border is missing, all others are the same wherever the segments are cut.

    Writes: farneback_length_px, farneback_length_share, farneback_time_s, farneback_before_s.

    Args:
        short_side_px: the frame is averaged down to this before; null: as it is.
        long_side_px: with short_side_px, the frame is stretched to these two; null: its shape is kept.

    Raises:
        ValueError: a side is below 32, or long_side_px stands alone.

    Source: Farneback 2003, with the parameters of Data-Juicer's `video_motion_score_filter` (2 samples a second, no
        scaling); `size` there is short_side_px (and long_side_px) here, `relative` is farneback_length_share.
    """

    name: ClassVar[str] = "farneback"
    view: ClassVar[View] = View.LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "farneback_length_px",
            _SERIES,
            f"mean length of the flow since the sample before, pixels of the frame as scaled; {_NULL}",
        ),
        Column(
            "farneback_length_share",
            _SERIES,
            f"mean length of the flow since the sample before, as a share of the frame's diagonal; {_NULL}",
        ),
        Column("farneback_time_s", _SERIES, "time of the sample on the source's time line, seconds; never null"),
        Column("farneback_before_s", _SERIES, f"time of the sample before, seconds; {_NULL}"),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        _mean_inside("farneback_length_px", "pixels of the frame as scaled"),
        _mean_inside("farneback_length_share", "as a share of the frame's diagonal"),
    )
    rate_hz: float | None = 2.0
    short_side_px: int | None = None
    long_side_px: int | None = None

    def __post_init__(self) -> None:
        for name in ("short_side_px", "long_side_px"):
            side = getattr(self, name)
            if side is not None and side < MIN_SIDE_PX:
                raise ValueError(f"meter 'farneback': {name} is {side}, it must be at least {MIN_SIDE_PX}")
        if self.long_side_px is not None and self.short_side_px is None:
            raise ValueError("meter 'farneback': long_side_px needs short_side_px")

    def start(self, info: StreamInfo) -> Update:
        import cv2

        last: list[tuple[np.ndarray, float]] = []

        def update(view: np.ndarray, seconds: float) -> tuple[float | None, ...]:
            luma_HW = _eight_bit(_scaled(view, self.short_side_px, self.long_side_px), info)
            before_HW, before_s = last.pop() if last else (None, None)
            last.append((luma_HW, seconds))
            if before_HW is None or min(luma_HW.shape) < MIN_SIDE_PX:
                return None, None, seconds, None
            flow_HW2: Any = cv2.calcOpticalFlowFarneback(before_HW, luma_HW, None, **PYRAMID)  # type: ignore[call-overload]
            length = float(cv2.magnitude(flow_HW2[..., 0], flow_HW2[..., 1]).mean())
            return length, length / float(np.hypot(*luma_HW.shape)), seconds, before_s

        return update


def _scaled(luma_HW: np.ndarray, short_px: int | None, long_px: int | None) -> np.ndarray:
    """The plane averaged to the wanted sides, whichever of its own is the longer."""
    import cv2

    if short_px is None:
        return luma_HW
    height, width = luma_HW.shape
    long_px = long_px or int(short_px * max(height, width) / min(height, width))
    size = (long_px, short_px) if width >= height else (short_px, long_px)
    return cv2.resize(luma_HW, size, interpolation=cv2.INTER_AREA)


def _eight_bit(luma_HW: np.ndarray, info: StreamInfo) -> np.ndarray:
    """uint8 levels, 0-255 full range; a copy, since the view is shared."""
    levels_HW = (luma_HW.astype(np.float32) - black_code(info)) * gain(info)
    return np.rint(levels_HW).clip(0, 255).astype(np.uint8)
