# SPDX-License-Identifier: Apache-2.0
"""Wipes, told from coarse pictures: a front passes over the picture, and each block of it changes once.

A block is compared with itself a few frames earlier and later, wherever the camera has moved it meanwhile. In a wipe
each block differs once, for as long as the front takes to pass, and the times at which the blocks differ run over the
picture without a gap. A cut or a short dissolve changes all blocks at once, a long dissolve none of them suddenly, what
passes by changes them twice, and of a camera move nothing is left once it is taken out. The shots on both sides may
move, so nothing here compares a frame with the first or last one of the wipe.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

SPAN = 3  # frames before and after, between which a block is compared
REACH = 2  # blocks that its content may have moved meanwhile, rows and columns
FAR_REACH = 6, 12  # rows and columns that the whole picture may have moved
CHANGED_LEVELS = 12.0  # a block differs: mean over 3 x 3 blocks and B, G, R
FAINT_LEVELS = 6.0  # below, a block is quiet however little it differs elsewhere
WINDOWS, QUIET_FRAMES = (10, 14, 20, 28, 40, 56), 8  # frames of a whole wipe, and those on each side that belong to it
FRAMES_LOOKED_AT = max(WINDOWS) + 2 * QUIET_FRAMES
FRAMES_APART = 8  # frames for which `is_changed` is asked
MAX_PASSING_FRAMES = 12  # a block differs this long at most: 2 SPAN, and a soft edge
MIN_COVER, MIN_ONCE = 0.85, 0.45  # share of the blocks that differ at all, and once only
MAX_DISORDER, MAX_JUMP, MAX_GAP, MIN_FRAMES = 0.3, 0.5, 0.4, 7  # see `Sweep`
MANY, MAX_AT_ONCE = 0.3, 0.95  # share of blocks that differ in one frame: the camera may be moving; a cut or a flash
MIN_PASSES, MAX_PASSES = 3.0, 20.0  # frames for which a block differs, mean over the window: less or more is no wipe
SAME_PICTURE, BLURRED_PICTURE = 0.95, 0.9  # correlation above which a picture is another one that has moved
MOST = 0.7  # of the frames of a whip pan are neighbours that have moved; blur takes the rest
DARK_LEVELS, MIN_LIT = 10.0, 0.5  # bars of a letterbox do not count; what is left must be this share of the picture


class Wipe(NamedTuple):
    """What looks like a wipe, in numbers of frames of the segment; the surest sort last."""

    score: float
    start: int  # first frame that shows both pictures
    end: int  # frame after the last one


@dataclass(frozen=True)
class Sweep:
    """How the blocks of a window change.

    Attributes:
        once: share of blocks that differ once, for a short while.
        disorder: how far apart in time neighbours change, compared with any two of those blocks; at random 1.
        jump: largest share of them that changes at the same frame.
        gap: longest time in which none does, as share of all.
        start, end: frames of the window [start, end) in which they change.
    """

    once: float
    disorder: float
    jump: float
    gap: float
    start: int
    end: int

    @property
    def is_wipe(self) -> bool:
        is_orderly = self.disorder <= MAX_DISORDER and self.jump <= MAX_JUMP and self.gap <= MAX_GAP
        return is_orderly and self.once >= MIN_ONCE and self.end - self.start >= MIN_FRAMES

    @property
    def score(self) -> float:
        return self.once * (1 - self.disorder)


def wipe_series(wipes: Iterable[Wipe], num_frames: int) -> np.ndarray:
    """[T] layout_wipe. Of windows that share a wipe, the surest says where it is: the others hold only part of it."""
    found = np.zeros(num_frames)
    for wipe in sorted(wipes, reverse=True):
        if not found[max(wipe.start - QUIET_FRAMES, 0) : wipe.end + QUIET_FRAMES].any():
            found[wipe.start : wipe.end] = wipe.score
    return found


def sweeps(
    grids_THWC: np.ndarray, frames: range, number: int, is_changed: Callable[[int], bool]
) -> Iterator[tuple[float, int, int]]:
    """(score, first frame, frame after the last) of all that sweeps the picture, in windows that begin in `frames`.

    Args:
        grids_THWC: uint8 [T, rows, columns, 3], with SPAN frames before `frames` and FRAMES_LOOKED_AT after it, as far
            as the segment has them.
        frames: indices into `grids_THWC`.
        number: that of its first picture in the segment; windows lie where they do in the whole segment.
        is_changed: whether the scene before and after a frame is another; most footage has no such frame, and is
            not looked at closely.
    """
    windows = list(_windows(frames, len(grids_THWC), number, lru_cache(None)(is_changed)))
    if not windows:
        return
    at = min(first for first, _ in windows)
    changes_THW = local_changes(grids_THWC, range(at, max(last for _, last in windows)))
    share = (changes_THW > CHANGED_LEVELS).mean(axis=(1, 2))
    surest: dict[tuple[int, int], float] = {}
    for first, last in windows:
        share_of = share[first - at : last - at]
        if not MIN_PASSES <= share_of.sum() <= MAX_PASSES or share_of.max() > MAX_AT_ONCE:
            continue
        sweep = sweep_of(changes_THW[first - at : last - at], _is_lit(grids_THWC[first], grids_THWC[last - 1]))
        if sweep is not None and sweep.is_wipe:
            place = first + sweep.start, first + sweep.end
            surest[place] = max(surest.get(place, 0.0), sweep.score)
    move = lru_cache(None)(lambda t, span: picture_move(grids_THWC[t - span], grids_THWC[t + span]))
    for (start, stop), score in surest.items():
        if not _is_camera(range(max(start, SPAN), min(stop, len(grids_THWC) - SPAN)), move):
            yield score, start, stop


def _windows(
    frames: range, num_grids: int, number: int, is_changed: Callable[[int], bool]
) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of the windows that begin in `frames` and have another scene on either side of their middle."""
    for window in WINDOWS:
        step, length = window // 4, window + 2 * QUIET_FRAMES
        for first in range(frames.start + -(number + frames.start) % step, frames.stop, step):
            middle = first + length // 2
            if first + length <= num_grids and is_changed(middle - (number + middle) % FRAMES_APART):
                yield first, first + length


def sweep_of(changes_THW: np.ndarray, is_lit_HW: np.ndarray) -> Sweep | None:
    """What the `local_changes` of a window say; null where too few blocks change, or too few of them once."""
    peak_HW = changes_THW.max(axis=0)
    num_lit = is_lit_HW.sum()
    changes_HW = (peak_HW > CHANGED_LEVELS) & is_lit_HW
    if num_lit < MIN_LIT * is_lit_HW.size or changes_HW.sum() < MIN_COVER * num_lit:
        return None
    differs_THW = changes_THW >= np.maximum(peak_HW / 2, FAINT_LEVELS)
    num_times_HW = (differs_THW[1:] & ~differs_THW[:-1]).sum(axis=0) + differs_THW[0]
    is_once_HW = changes_HW & (num_times_HW == 1) & (differs_THW.sum(axis=0) <= MAX_PASSING_FRAMES)
    if is_once_HW.sum() < MIN_ONCE * num_lit:
        return None
    time_HW = changes_THW.argmax(axis=0).astype(np.float32)
    times = np.sort(time_HW[is_once_HW])
    start, end = np.quantile(times, (0.015, 0.985), method="nearest")
    inner = times[(times >= start) & (times <= end)]
    return Sweep(
        once=float(is_once_HW.sum() / num_lit),
        disorder=_neighbour_distance(time_HW, is_once_HW) / max(_mean_distance(times), 1e-6),
        jump=float(np.bincount(times.astype(int)).max() / len(times)),
        gap=float(np.diff(inner).max(initial=0) / max(end - start, 1)),
        start=int(start),
        end=int(end) + 1,
    )


def _neighbour_distance(time_HW: np.ndarray, is_once_HW: np.ndarray) -> float:
    """Mean difference of the times of neighbouring blocks."""
    below_HW, right_HW = is_once_HW[1:] & is_once_HW[:-1], is_once_HW[:, 1:] & is_once_HW[:, :-1]
    steps = np.concatenate(
        [(time_HW[1:] - time_HW[:-1])[below_HW], (time_HW[:, 1:] - time_HW[:, :-1])[right_HW]],
    )
    return float(np.abs(steps).mean()) if len(steps) else float("inf")


def _mean_distance(times: np.ndarray) -> float:
    """Mean difference of any two of some sorted times."""
    num = len(times)
    return float((2.0 * np.arange(num) - num + 1) @ times) * 2 / num**2


def _is_lit(before_HWC: np.ndarray, after_HWC: np.ndarray) -> np.ndarray:
    return np.maximum(before_HWC, after_HWC).mean(axis=-1) > DARK_LEVELS


def _is_camera(frames: range, move: Callable[[int, int], tuple[int, int, float]]) -> bool:
    """Whether all pictures of a sweep are one that moves: in a wipe two are there.

    A pan moves it between SPAN frames before and after, a whip pan so fast that only neighbours can be compared.

    Args:
        move: `picture_move` between so many frames before a frame and after it.
    """

    def is_fast(t: int) -> bool:
        down, right, correlation = move(t, 1)
        return correlation >= BLURRED_PICTURE and max(abs(down), abs(right)) > REACH

    return sum(map(is_fast, frames)) >= MOST * len(frames) or all(move(t, SPAN)[2] >= SAME_PICTURE for t in frames)


def local_changes(grids_THWC: np.ndarray, frames: range) -> np.ndarray:
    """uint8 [len(frames), rows, columns]: how much each block differs between SPAN frames before and after, levels.

    Means over 3 x 3 blocks and B, G, R, at the best move of up to REACH blocks, or at the whole picture's own move. 0
    where the segment does not reach that far.
    """
    changes_THW = np.zeros((len(frames), *grids_THWC.shape[1:3]), np.uint8)
    first, last = max(frames.start, SPAN), min(frames.stop, len(grids_THWC) - SPAN)
    if first >= last:
        return changes_THW
    before_THWC, after_THWC = grids_THWC[first - SPAN : last - SPAN], grids_THWC[first + SPAN : last + SPAN]
    found_THW = changes_THW[first - frames.start : last - frames.start]
    found_THW[:] = _least_change(before_THWC, after_THWC, REACH)
    moves = {
        t: picture_move(before_THWC[t], after_THWC[t])[:2]
        for t in np.flatnonzero((found_THW > CHANGED_LEVELS).mean(axis=(1, 2)) >= MANY)
    }
    far = [t for t, move in moves.items() if max(map(abs, move)) > REACH]
    if far:
        moved_THWC = np.stack([_moved(after_THWC[t], *moves[t]) for t in far])
        found_THW[far] = np.minimum(found_THW[far], _least_change(before_THWC[far], moved_THWC, 1))
    return changes_THW


def _moved(picture_HWC: np.ndarray, down: int, right: int) -> np.ndarray:
    """The picture moved back by this much, its edges repeated."""
    rows, cols = (np.arange(n) + by for n, by in zip(picture_HWC.shape, (down, right), strict=False))
    return picture_HWC[rows.clip(0, picture_HWC.shape[0] - 1)][:, cols.clip(0, picture_HWC.shape[1] - 1)]


def _least_change(before_THWC: np.ndarray, after_THWC: np.ndarray, reach: int) -> np.ndarray:
    """uint8 [T, rows, columns], see `local_changes`. All pictures lie below each other in one, for OpenCV's sake."""
    import cv2

    num, rows, cols, _ = before_THWC.shape
    pad, pitch = reach + 1, rows + 2 * (reach + 1)  # one block more for the mean over 3 x 3
    after = np.pad(after_THWC, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge").reshape(num * pitch, -1)
    before = np.pad(before_THWC, ((0, 0), (1, 1 + 2 * reach), (1, 1), (0, 0)), mode="edge").reshape(num * pitch, -1)
    least = np.full(before.shape, 255, np.uint8)
    inner = least[: num * pitch - 2 * reach]  # of the last picture there is nothing below
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            moved = after[down : down + len(inner), 3 * right : 3 * right + inner.shape[1]]
            difference = cv2.blur(cv2.absdiff(before[: len(inner)], moved), (9, 3))  # three blocks wide and high
            cv2.min(inner, difference, inner)
    return least.reshape(num, pitch, cols + 2, 3)[:, 1 : 1 + rows, 1:-1, 1]


def picture_move(before_HWC: np.ndarray, after_HWC: np.ndarray) -> tuple[int, int, float]:
    """(rows, columns) by which the picture has moved, up to FAR_REACH, and the correlation there."""
    import cv2

    rows, cols = FAR_REACH
    inner_HWC = np.ascontiguousarray(after_HWC[rows:-rows, cols:-cols])
    _, best, _, (right, down) = cv2.minMaxLoc(cv2.matchTemplate(before_HWC, inner_HWC, cv2.TM_CCOEFF_NORMED))
    return rows - down, cols - right, best
