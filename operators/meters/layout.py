# SPDX-License-Identifier: Apache-2.0
"""What a coarse picture of each frame says about the shots: is it the same scene on both sides, does a wipe sweep it?

Each frame becomes 32 x 18 colours. In a wipe every one of them changes once and for good, from the old picture to the
new with nothing between, in a front that moves over the whole picture; camera moves show colours of neither picture, a
dissolve mixes the two, what passes by leaves the old picture behind. TransNetV2 does not see wipes at all.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from operators.contract import DeferredUpdate, Meter, StreamInfo, View
from operators.scores import Groups, Score
from reelmill.column import Column

_SERIES = pa.list_(pa.float32())
ROWS, COLS = 18, 32
LAGS = (4, 12, 36)  # frames; a cut, a fast and a slow transition lie within one of them
SHIFTS = {4: (1, 2), 12: (2, 4), 36: (4, 8)}  # blocks that the same scene may have moved meanwhile: rows, columns
FLAT_LEVELS = 2.0  # below this standard deviation a picture has no layout to compare
WINDOWS = (8, 12, 18, 27, 40, 60)  # frames in which a whole wipe is looked for
NUM_BETWEEN = 9  # frames of a window that are compared with its first and last
CHANGED_LEVELS = 12.0  # a block differs between two pictures: mean over B, G, R
DARK_LEVELS, MIN_LIT = 10.0, 0.5  # bars of a letterbox do not count; what is left must be this share of the picture
MIN_COVER, MAX_REST, MIN_ONCE, MAX_JUMP, MAX_FRONT = 0.8, 0.25, 0.88, 0.5, 6.0  # see `Sweep`
STEADY_FRAMES, MAX_UNSTEADY = 8, 0.6  # before and after a wipe the pictures stay, compared with the step between them
RETURN_FRAMES, RETURNED = (16, 32, 48), 0.12  # and the old one does not come back: an explosion, something that passes
FRAMES_BEHIND = max(LAGS) // 2  # how far a frame looks back: STEADY_FRAMES is less
FRAMES_AHEAD = max(WINDOWS) + max(RETURN_FRAMES) + 1
FRAMES_AT_ONCE = 128  # are settled together, so that memory does not depend on the segment's length
STEP = 0.4  # inner_cut_score above which a clip deserves a look; benchmarks/ladders/shots.py, reels for choosing


@dataclass(frozen=True, kw_only=True)
class Layout(Meter):
    """How different the frames some way before and after are, and whether a wipe is going on.

    Writes: layout_level, layout_change_4, layout_change_12, layout_change_36, layout_wipe (one value per frame).
    Source: ours. Thresholds from benchmarks/ladders/shots.py, on its reel for choosing; see docs/shots.md.
    """

    name: ClassVar[str] = "layout"
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
            "layout_wipe",
            _SERIES,
            "how sure it is that this frame is part of a wipe, 0-1: share of the picture that changed for good, in "
            "a sweep; 0 where nothing sweeps; never null",
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
    """`layout_change` of each of LAGS, between the frames lag / 2 before and after, or the nearest that there are."""
    last = len(grids_THWC) - 1
    is_flat = grids_THWC.reshape(last + 1, -1).std(axis=1) < FLAT_LEVELS

    def change(t: int, lag: int) -> float:
        a, b = max(t - lag // 2, 0), min(t + lag // 2, last)
        if is_flat[a] or is_flat[b]:
            return _flat_change(grids_THWC[a], grids_THWC[b])
        return _change(grids_THWC[a], grids_THWC[b], SHIFTS[lag])

    return [[change(t, lag) for t in frames] for lag in LAGS]


def _change(before_HWC: np.ndarray, after_HWC: np.ndarray, shift: tuple[int, int]) -> float:
    """1 - correlation of two coarse pictures at the best shift: brightness, contrast and a colour cast drop out."""
    import cv2

    inner_HWC = np.ascontiguousarray(after_HWC[shift[0] : -shift[0], shift[1] : -shift[1]])
    return 1.0 - float(np.clip(cv2.matchTemplate(before_HWC, inner_HWC, cv2.TM_CCOEFF_NORMED).max(), -1, 1))


def _flat_change(before_HWC: np.ndarray, after_HWC: np.ndarray) -> float:
    """Pictures without a layout are the same if their colours are."""
    return float(np.abs(before_HWC.astype(np.float32) - after_HWC).mean() > CHANGED_LEVELS)


# --- wipes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """What the frames between two frames look like. A cut has too large a jump, a dissolve or a pan too large a rest.

    Attributes:
        cover: share of blocks that differ between the first and the last frame, of those not black in both.
        rest: how far those blocks are in between from the nearer of the two, as share of their difference, mean.
        once: share of them that go over to the last frame exactly once.
        front: boundary between old and new blocks, in sides of the picture; a straight upright or level one is 1.
        jump: largest share that goes over between two frames that were looked at.
        progress: [n] share that looks like the last frame.
    """

    cover: float
    rest: float
    once: float
    front: float
    jump: float
    progress: np.ndarray

    @property
    def is_wipe(self) -> bool:
        """Blocks go over once, in a front, over at least three of the frames that were looked at."""
        num_moving = ((self.progress > 0.03) & (self.progress < 0.97)).sum()
        return bool(self.once >= MIN_ONCE and self.front <= MAX_FRONT and self.jump <= MAX_JUMP and num_moving >= 3)

    @property
    def score(self) -> float:
        return self.cover * self.once * (1 - self.rest)


class Wipe(NamedTuple):
    """What looks like a wipe, in numbers of frames of the segment; the surest sort last."""

    score: float
    start: int  # first frame that shows both pictures
    end: int  # frame after the last one
    first: int  # of the window
    last: int


def wipe_series(wipes: Iterable[Wipe], num_frames: int) -> np.ndarray:
    """[T] layout_wipe. Of windows that share a wipe, the surest says where it is: the others hold only part of it."""
    found = np.zeros(num_frames)
    for wipe in sorted(wipes, reverse=True):
        if not found[max(wipe.first - STEADY_FRAMES, 0) : wipe.last + STEADY_FRAMES + 1].any():
            found[wipe.start : wipe.end] = wipe.score
    return found


def wipes_from(grids_THWC: np.ndarray, frames: range, number: int) -> Iterator[Wipe]:
    """All that looks like a wipe in windows that begin with one of `frames`.

    Args:
        grids_THWC: with FRAMES_BEHIND and FRAMES_AHEAD around `frames`, as far as the segment has them.
        frames: indices into `grids_THWC`.
        number: that of its first picture in the segment; windows lie where they do in the whole segment.
    """
    import cv2

    needed = MIN_COVER * MIN_LIT * CHANGED_LEVELS * grids_THWC[0].size  # less cannot cover it: most footage ends here
    for window in WINDOWS:
        step = max(1, window // 8)
        for first in range(frames.start + -(number + frames.start) % step, frames.stop, step):
            last = first + window
            if last >= len(grids_THWC) or cv2.norm(grids_THWC[first], grids_THWC[last], cv2.NORM_L1) < needed:
                continue
            part_THWC = grids_THWC[first : last + 1].astype(np.float32)
            sweep = sweep_of(part_THWC, NUM_BETWEEN) if sweep_of(part_THWC, 3) else None
            if sweep is None or not sweep.is_wipe:
                continue
            start, end = _extent(sweep_of(part_THWC, window))
            if start < end and _is_lasting(grids_THWC, first + start - 1, first + end):
                yield Wipe(sweep.score, *(number + frame for frame in (first + start, first + end, first, last)))


def _is_lasting(grids_THWC: np.ndarray, old: int, new: int) -> bool:
    """Whether the pictures before frame `old` and after frame `new` stay what they are, and the old does not return."""
    import cv2

    def step(a: int, b: int) -> float:
        return cv2.norm(grids_THWC[a], grids_THWC[b], cv2.NORM_L1)

    last = len(grids_THWC) - 1
    unsteady = max(step(max(old - STEADY_FRAMES, 0), old), step(new, min(new + STEADY_FRAMES, last)))
    if unsteady > MAX_UNSTEADY * step(old, new):
        return False
    later = [new + ahead for ahead in RETURN_FRAMES if new + ahead <= last]
    return all(_change(grids_THWC[old], grids_THWC[k], SHIFTS[36]) > RETURNED for k in later)


def _extent(sweep: Sweep | None) -> tuple[int, int]:
    """Frames of the window, from the first in which a block has gone over to the last in which one has not."""
    if sweep is None:
        return 0, 0
    moving = np.flatnonzero((sweep.progress > 0.015) & (sweep.progress < 0.985)) + 1
    return (int(moving[0]), int(moving[-1]) + 1) if len(moving) else (0, 0)


def sweep_of(part_THWC: np.ndarray, num_between: int) -> Sweep | None:
    """Looks at about `num_between` frames between the first and the last; null where it can be no wipe.

    Args:
        part_THWC: float32 [T, ROWS, COLS, 3].
    """
    first_HWC, last_HWC = part_THWC[0], part_THWC[-1]
    step_HW = _levels(first_HWC, last_HWC)
    is_lit_HW = np.maximum(first_HWC, last_HWC).mean(axis=-1) > DARK_LEVELS
    differs_HW = (step_HW > CHANGED_LEVELS) & is_lit_HW
    if is_lit_HW.mean() < MIN_LIT or differs_HW.sum() < MIN_COVER * is_lit_HW.sum():
        return None
    num = min(num_between, len(part_THWC) - 2)
    between_THWC = part_THWC[np.round(np.linspace(0, len(part_THWC) - 1, num + 2)[1:-1]).astype(int)]
    to_first_THW = _levels(between_THWC, first_HWC)
    to_last_THW = _levels(between_THWC, last_HWC)
    rest = np.minimum(np.minimum(to_first_THW, to_last_THW) / np.maximum(step_HW, 1), 1)[:, differs_HW].mean()
    if rest > MAX_REST:
        return None
    is_new_THW = to_last_THW < to_first_THW
    is_new_TB = is_new_THW[:, differs_HW]
    padded_TB = np.pad(is_new_TB, ((1, 1), (0, 0)), constant_values=((False, True), (False, False)))
    progress = is_new_TB.mean(axis=1)
    return Sweep(
        float(differs_HW.sum() / is_lit_HW.sum()),
        float(rest),
        float(((padded_TB[1:] != padded_TB[:-1]).sum(axis=0) == 1).mean()),
        _front(is_new_THW, differs_HW, progress),
        float(np.diff(progress, prepend=0, append=1).max()),
        progress,
    )


def _levels(a_HWC: np.ndarray, b_HWC: np.ndarray) -> np.ndarray:
    """Mean difference of B, G and R; by hand, numpy's mean over an axis of three is five times as slow."""
    difference_HWC = np.abs(a_HWC - b_HWC)
    return (difference_HWC[..., 0] + difference_HWC[..., 1] + difference_HWC[..., 2]) / 3


def _front(is_new_THW: np.ndarray, differs_HW: np.ndarray, progress: np.ndarray) -> float:
    """Mean length of the boundary in the frames that have one; a straight upright or level one counts about 1."""
    part_THW = is_new_THW[(progress > 0.1) & (progress < 0.9)]
    if not len(part_THW):
        return 0.0
    across = (part_THW[:, :, 1:] != part_THW[:, :, :-1]) & differs_HW[:, 1:] & differs_HW[:, :-1]
    down = (part_THW[:, 1:] != part_THW[:, :-1]) & differs_HW[1:] & differs_HW[:-1]
    return float((across.sum() + down.sum()) / len(part_THW) / ((ROWS + COLS) / 2))


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
