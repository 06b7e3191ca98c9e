# SPDX-License-Identifier: Apache-2.0
"""Blurred side fill: a portrait video on a blurred, enlarged copy of itself, or a landscape one in a portrait frame."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Score, over
from reelmill.column import Column

LEAST_SHARE, MOST_SHARE = 0.05, 0.42  # of the width (height): how deep the fill of one side may be
MIN_JUMP = 4.0  # mean step at the fill's end over the largest step among the fill's columns near it
MAX_DETAIL = 0.6  # fine detail of the fill over that of the picture between
ALWAYS_SMOOTH = 0.75  # levels of detail that pass as fill whatever lies between: a misty picture has no more itself
FLOOR = 0.5  # levels: rounding to 8 bits leaves this much of a step or detail in the smoothest picture
PLAIN_SPREAD = 2.0  # levels: a side that varies less is plain, and the border meter's business
NUM_CANDIDATES = 4
_SERIES = pa.list_(pa.float32())


@dataclass(frozen=True, kw_only=True)
class SideFill(Meter):
    """How much of the width or height is a blurred fill on both sides of the picture proper.

    Three things must come together: both sides end at the same distance from the edge, in a step that runs along the
    whole end and is far larger than any within the fill near it; the fill has little fine detail against the picture
    between; and the fill is no plain colour. Shallow depth of field blurs a background too, but without the two steps.

    Writes: sidefill_width_share, sidefill_height_share, sidefill_jump.
    Source: ours.
    """

    name: ClassVar[str] = "sidefill"
    view: ClassVar[View] = View.PROXY
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "sidefill_width_share",
            _SERIES,
            "share of the width that is blurred fill, left and right together, 0 if none; null if the picture is flat",
        ),
        Column(
            "sidefill_height_share",
            _SERIES,
            "share of the height that is blurred fill, top and bottom together, 0 if none; null if the picture is flat",
        ),
        Column(
            "sidefill_jump",
            _SERIES,
            "step at the ends of the likeliest fill over the steps within it, 0 if no candidate is smooth enough; "
            "null if the picture is flat",
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "sidefill_width_share", "median"),
        *over(writes, "sidefill_height_share", "median"),
        *over(writes, "sidefill_jump", "median"),
    )
    rate_hz: float | None = 2.0

    def start(self, info: StreamInfo) -> Update:
        def update(view: np.ndarray, seconds: float) -> tuple[float | None, ...]:
            if min(view.shape) < 64 or _spread(view) < PLAIN_SPREAD:
                return None, None, None
            (width, jump_across), (height, jump_down) = _fill(view), _fill(np.ascontiguousarray(view.T))
            return width, height, max(jump_across, jump_down)

        return update


def _fill(luma_HW: np.ndarray) -> tuple[float, float]:
    """(share of the width that is fill on the left and right, its jump)."""
    import cv2

    steps = _column_means(cv2.absdiff(luma_HW[:, 1:], luma_HW[:, :-1]))
    jumps = np.minimum(_jumps(steps), _jumps(steps[::-1]))
    detail = _column_means(cv2.convertScaleAbs(cv2.Laplacian(luma_HW, cv2.CV_16S, ksize=1)))
    best = 0.0, 0.0
    for end in np.argsort(jumps)[: -NUM_CANDIDATES - 1 : -1]:
        jump = float(jumps[end])
        if jump > best[1] and _is_smooth(luma_HW, detail, int(end)):
            best = (2 * float(end) / luma_HW.shape[1] if jump >= MIN_JUMP else 0.0), jump
    return best


def _column_means(picture_HW: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.reduce(picture_HW, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()


def _jumps(steps: np.ndarray) -> np.ndarray:
    """[W + 1] for a fill of so many columns: the step at its end over the largest step in its last columns."""
    num = len(steps) + 1
    ends = np.arange(max(12, int(LEAST_SHARE * num)), int(MOST_SHARE * num))
    windows = np.lib.stride_tricks.sliding_window_view
    within = windows(steps, 7).max(axis=1)[ends - 11]  # steps 5 to 11 columns before the end
    at_end = windows(steps, 3).max(axis=1)[ends - 2]  # an enlarged or reduced border is up to 3 columns wide
    jumps = np.zeros(num + 1)
    jumps[ends] = at_end / (within + FLOOR)
    return jumps


def _is_smooth(luma_HW: np.ndarray, detail: np.ndarray, end: int) -> bool:
    """Whether `end` columns on both sides have little fine detail against those between, and are not plain."""
    far = len(detail) - end
    left, right = (luma_HW[:, 2 : end - 3], luma_HW[:, far + 3 : -2])
    if min(_spread(left), _spread(right)) < PLAIN_SPREAD:
        return False
    fill = max(np.quantile(detail[2 : end - 3], 0.9), np.quantile(detail[far + 3 : -2], 0.9))
    return bool(fill <= max(MAX_DETAIL * (np.median(detail[end + 3 : far - 3]) + FLOOR), ALWAYS_SMOOTH))


def _spread(luma_HW: np.ndarray) -> float:
    import cv2

    return float(cv2.meanStdDev(luma_HW)[1][0, 0])
