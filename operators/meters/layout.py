# SPDX-License-Identifier: Apache-2.0
"""What a coarse picture of each frame says about the shots: is it the same scene on both sides, does a wipe sweep it?

Each frame becomes 32 x 18 colours, of which `wipes` finds the sweeps; TransNetV2 does not see wipes at all.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import DeferredUpdate, Meter, StreamInfo, View
from operators.meters.wipes import FAR_REACH, FRAMES_LOOKED_AT, SPAN, Wipe, sweeps, wipe_series
from operators.scores import Groups, Score
from reelmill.column import Column

_SERIES = pa.list_(pa.float32())
ROWS, COLS = 18, 32
LAGS = (4, 12, 36)  # frames; a cut, a fast and a slow transition lie within one of them
SHIFTS = {4: (1, 2), 12: (2, 4), 36: (4, 8)}  # blocks that the same scene may have moved meanwhile: rows, columns
FLAT_LEVELS = 2.0  # below this standard deviation a picture has no layout to compare
CHANGED = 0.2  # layout_change_36 from which frames are looked at closely, for wipes and for moves of a fast camera
FLAT_CHANGE_LEVELS = 12.0  # pictures without a layout differ: mean over B, G, R
STEADY_FRAMES, UNSTEADY = 8, 0.6  # before and after a wipe the pictures stay: no whip pan, no explosion dying away
RETURN_FRAMES = (0, 16, 24, 32, 40, 48)  # after it the old one is gone and does not come back: something that passes
RETURNED, FAR_RETURNED = 0.12, 0.1  # change below which it has; wherever a fast camera has moved it
FRAMES_BEHIND = max(LAGS) // 2  # how far a frame looks back: STEADY_FRAMES is less
FRAMES_AHEAD = FRAMES_LOOKED_AT + max(RETURN_FRAMES) + SPAN
FRAMES_AT_ONCE = 128  # are settled together, so that memory does not depend on the segment's length
STEP = 0.4  # inner_cut_score above which a clip deserves a look; benchmarks/ladders/shots.py, reels for choosing


@dataclass(frozen=True, kw_only=True)
class Layout(Meter):
    """How different the frames some way before and after are, and whether a wipe is going on.

    Writes: layout_level, layout_change_4, layout_change_12, layout_change_36, layout_change_far, layout_wipe (one value
        per frame).
    Source: ours. Thresholds from benchmarks/ladders/shots.py, on its reel for choosing; see docs/shots.md.
    """

    name: ClassVar[str] = "layout"
    version: ClassVar[int] = 2
    view: ClassVar[View] = View.TINY
    deferred: ClassVar[bool] = True
    writes: ClassVar[tuple[Column, ...]] = (
        Column("layout_level", _SERIES, "mean of B, G and R over the picture, levels 0-255; never null"),
        *(
            Column(
                f"layout_change_{lag}",
                _SERIES,
                f"1 - correlation (-1..1) of the coarse pictures {lag // 2} frames before and after, at the best of "
                "some small shifts: 0 same scene, about 1 another; at a segment's ends its first or last frame is "
                "taken; never null",
            )
            for lag in LAGS
        ),
        Column(
            "layout_change_far",
            _SERIES,
            f"layout_change_{LAGS[-1]}, but of the middle of the later picture at the best of shifts up to a third of "
            "the picture: low if a fast camera explains the change; never null",
        ),
        Column(
            "layout_wipe",
            _SERIES,
            "how sure it is that this frame is part of a wipe, 0-1: share of the picture that changes once, in the "
            "order in which a front passes over it; 0 where nothing sweeps; never null",
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        Score(
            Column(
                "inner_cut_score",
                pa.float64(),
                "largest lone change of scene within the clip, -2..2: how much more the pictures differ across a "
                f"place (over {LAGS[0]} to {LAGS[-1]} frames) than just before and just after it; a missed cut or "
                f"dissolve is above {STEP}, and so are whip pans; null for clips below {3 * LAGS[0] + 1} frames",
            ),
            lambda groups, facts: inner_cut_score(groups),
        ),
    )

    def start(self, info: StreamInfo) -> DeferredUpdate:
        return _Layouts()


class _Layouts:
    """Keeps the coarse pictures that later frames are still compared with, and values of those that are done."""

    def __init__(self) -> None:
        self.first = 0  # number of the frame that `grids` begins with
        self.grids: list[np.ndarray] = []  # uint8 BGR [ROWS, COLS, 3], 1.7 KB a frame
        self.num_settled = 0
        self.values: list[tuple[float, ...]] = []  # of the settled frames, but for layout_wipe
        self.wipes: list[Wipe] = []

    def __call__(self, view: np.ndarray, seconds: float) -> None:
        import cv2

        self.grids.append(cv2.resize(view, (COLS, ROWS), interpolation=cv2.INTER_AREA))
        if len(self.grids) >= FRAMES_BEHIND + FRAMES_AT_ONCE + FRAMES_AHEAD:
            self._settle(self.first + len(self.grids) - FRAMES_AHEAD)

    def finish(self) -> list[tuple[Any, ...]]:
        if not self.grids:
            return []
        self._settle(self.first + len(self.grids))
        wipe = wipe_series(self.wipes, self.num_settled)
        return [(*values, surely) for values, surely in zip(self.values, wipe, strict=True)]

    def _settle(self, end: int) -> None:
        """Values of the frames before `end`; then forgets what no later frame looks back to."""
        grids_THWC = np.stack(self.grids)
        frames = range(self.num_settled - self.first, end - self.first)
        levels = grids_THWC[frames.start : frames.stop].mean(axis=(1, 2, 3)).tolist()
        self.values += zip(levels, *changes_over(grids_THWC, frames), strict=True)
        self.wipes += wipes_from(grids_THWC, frames, self.first)
        self.num_settled, first = end, max(0, end - FRAMES_BEHIND)
        self.grids, self.first = self.grids[first - self.first :], first


def changes_over(grids_THWC: np.ndarray, frames: range) -> list[list[float]]:
    """`layout_change` of each of LAGS, and far, between the frames lag / 2 before and after or the nearest to them."""
    last = len(grids_THWC) - 1
    is_flat = grids_THWC.reshape(last + 1, -1).std(axis=1) < FLAT_LEVELS

    def change(t: int, lag: int, shift: tuple[int, int]) -> float:
        a, b = max(t - lag // 2, 0), min(t + lag // 2, last)
        if is_flat[a] or is_flat[b]:
            return _flat_change(grids_THWC[a], grids_THWC[b])
        return _change(grids_THWC[a], grids_THWC[b], shift)

    changes = [[change(t, lag, SHIFTS[lag]) for t in frames] for lag in LAGS]
    far = [change(t, LAGS[-1], FAR_REACH) if c > CHANGED else c for t, c in zip(frames, changes[-1], strict=True)]
    return [*changes, far]


def _change(before_HWC: np.ndarray, after_HWC: np.ndarray, shift: tuple[int, int]) -> float:
    """1 - correlation of two coarse pictures at the best shift: brightness, contrast and a colour cast drop out."""
    import cv2

    inner_HWC = np.ascontiguousarray(after_HWC[shift[0] : -shift[0], shift[1] : -shift[1]])
    return 1.0 - float(np.clip(cv2.matchTemplate(before_HWC, inner_HWC, cv2.TM_CCOEFF_NORMED).max(), -1, 1))


def _scene_change(before_HWC: np.ndarray, after_HWC: np.ndarray, shift: tuple[int, int]) -> float:
    """Either of the two, whatever the pictures."""
    is_flat = min(before_HWC.std(), after_HWC.std()) < FLAT_LEVELS
    return _flat_change(before_HWC, after_HWC) if is_flat else _change(before_HWC, after_HWC, shift)


def _flat_change(before_HWC: np.ndarray, after_HWC: np.ndarray) -> float:
    """Pictures without a layout are the same if their colours are."""
    return float(np.abs(before_HWC.astype(np.float32) - after_HWC).mean() > FLAT_CHANGE_LEVELS)


# --- wipes --------------------------------------------------------------------------------------------------------


def wipes_from(grids_THWC: np.ndarray, frames: range, number: int) -> Iterator[Wipe]:
    """All that looks like a wipe in windows that begin with one of `frames`.

    Args:
        grids_THWC: with FRAMES_BEHIND and FRAMES_AHEAD around `frames`, as far as the segment has them.
        frames: indices into `grids_THWC`.
        number: that of its first picture in the segment.
    """
    half, last = LAGS[-1] // 2, len(grids_THWC) - 1

    def is_changed(t: int) -> bool:
        before_HWC, after_HWC = grids_THWC[max(t - half, 0)], grids_THWC[min(t + half, last)]
        return _scene_change(before_HWC, after_HWC, SHIFTS[LAGS[-1]]) > CHANGED

    for score, start, end in sweeps(grids_THWC, frames, number, is_changed):
        if _is_lasting(grids_THWC, max(start - SPAN, 0), min(end + 2, last)):
            yield Wipe(score, number + start, number + end)


def _is_lasting(grids_THWC: np.ndarray, old: int, new: int) -> bool:
    """Whether another picture is there after frame `old` and stays from frame `new` on."""
    last = len(grids_THWC) - 1

    def change(a: int, b: int, shift: tuple[int, int]) -> float:
        return _scene_change(grids_THWC[max(a, 0)], grids_THWC[min(b, last)], shift)

    before, after = change(old - STEADY_FRAMES, old, SHIFTS[12]), change(new, new + STEADY_FRAMES, SHIFTS[12])
    if max(before, after, change(new, new + 2 * STEADY_FRAMES, SHIFTS[36])) > UNSTEADY:
        return False
    is_gone = all(change(old, new + ahead, SHIFTS[36]) > RETURNED for ahead in RETURN_FRAMES)
    return is_gone and all(change(old, new + ahead, FAR_REACH) > FAR_RETURNED for ahead in RETURN_FRAMES[1:])


# --- the guard ----------------------------------------------------------------------------------------------------


def inner_cut_score(groups: Mapping[str, Groups]) -> np.ndarray:
    """Score `inner_cut_score` of each clip, over all lags; only frames of the clip are compared."""
    lone = [groups[f"layout_change_{lag}"].each(lambda values, lag=lag: lone_change(values, lag)) for lag in LAGS]
    return np.fmax.reduce(lone)


def lone_change(changes: np.ndarray, lag: int) -> float:
    """Largest change over that of one lag earlier and one later; NaN if the clip is too short for the lag."""
    inside = changes[lag // 2 : len(changes) - lag // 2]  # beyond, one of the two frames is not the clip's
    if len(inside) <= 2 * lag:
        return float("nan")
    return float((inside[lag:-lag] - np.maximum(inside[: -2 * lag], inside[2 * lag :])).max())
