# SPDX-License-Identifier: Apache-2.0
"""Whether a frame repeats the one before: freezes, doubled frames, film in video (3:2), animation on twos.

A repeat is never quite equal after coding, and a fixed camera is nearly still. What tells them apart is the block that
changes most: something small moves in front of a fixed camera, nothing does in a repeat. In moving footage a repeat is
also told by its neighbours: a coder's drift may change it by more than a still scene changes, but far less than the
frames around it do. And a change of frame rate repeats frames in a steady rhythm, which shows where the movement is so
slow that a coder's drift is half of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Groups, Score, over
from reelmill.column import Column

BLOCKS_ALONG, BLOCKS_ACROSS = 16, 9  # along and across the long side
FREEZE_LEVEL = 0.25  # of 255, of the block that changes most: below it a frame repeats the one before (measured)
REPEAT_RATIO = 0.3  # of the change that is usual on both sides: likewise (measured)
MOVING_LEVEL = 0.5  # the usual change from which the ratio is looked at
NEIGHBOURS = 5  # frames on either side
MAX_RUN = 4  # repeats in a row of a frame rate conversion (12 in 60); a longer run is a stop
WINDOW, HOP, MIN_WINDOW = 30, 15, 24  # frames in which a steady rhythm of new and repeated frames is looked for
PERIODS = (2, 3, 4, 5, 6)  # of a rhythm: 2 doubled, 5 film in video or 24 in 60, 6 25 in 30
RHYTHM_RATIO, RHYTHM_SHARE = 0.6, 0.9  # repeats change by less than this share of the others, nine times out of ten
MAX_REPEATS = 0.67  # of a rhythm; one loud frame in four or five is a coder's key frame
_SERIES = pa.list_(pa.float32())
_NO_PAIR = "null for a clip of one frame"


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of each frame of a clip: bool [n] each.

    Args:
        is_repeat: it repeats the frame before.
        is_duplicate: likewise, a few in a row, in the middle of movement.
        is_counted: it is one or the other, or surely new: outside stops, with neighbours to be compared with.
    """

    is_repeat: np.ndarray
    is_duplicate: np.ndarray
    is_counted: np.ndarray


def told(change: np.ndarray) -> Told:
    """Which frames of a clip repeat the one before.

    Args:
        change: [n] freeze_block_absdiff in time order.
    """
    usual = np.minimum(_usual(change[::-1])[::-1], _usual(change))
    is_known = np.isfinite(usual)
    is_less = (change < REPEAT_RATIO * usual) & (usual >= MOVING_LEVEL) & is_known
    is_in_rhythm, is_inside = rhythm(change)
    is_duplicate = is_in_rhythm | is_less & (_run_lengths(is_less) <= MAX_RUN)
    is_repeat = (change < FREEZE_LEVEL) | is_duplicate
    return Told(is_repeat, is_duplicate, (is_known | is_inside) & (is_duplicate | ~is_repeat))


def rhythm(change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool [n] twice: which frames are the repeats of a steady rhythm, and which lie in one, repeats or not.

    A coder may change a repeat by half as much as the slow movement around it; that it does so at every second frame,
    or at the same of every five, tells a repeat all the same.
    """
    is_repeat, is_inside = np.zeros((2, len(change)), bool)
    last = max(0, len(change) - WINDOW)
    for start in {*range(0, last, HOP), last}:
        part = slice(start, start + WINDOW)
        found = _repeats_of_rhythm(change[part])
        if found is not None:
            is_repeat[part] |= found
            is_inside[part] = True
    return is_repeat, is_inside


def _repeats_of_rhythm(change: np.ndarray) -> np.ndarray | None:
    """bool [n]: the repeats, by the shortest period that explains them; null if none does."""
    if len(change) < MIN_WINDOW:
        return None
    order = np.sort(change)
    if (
        order[-2] < MOVING_LEVEL or order[1] > RHYTHM_RATIO * order[-2]
    ):  # most footage: no two places can differ so much
        return None
    logs = np.log(np.maximum(change, FREEZE_LEVEL / 4))
    phase = np.arange(len(change))
    for period in PERIODS:
        usual = np.array([np.median(logs[p::period]) for p in range(period)])
        order = np.sort(usual)
        low, high = max(pairwise(order), key=lambda pair: pair[1] - pair[0])
        is_low = usual <= low
        is_clear = high >= np.log(MOVING_LEVEL) and high - low >= -np.log(RHYTHM_RATIO)
        is_kept = (logs < (low + high) / 2) == is_low[phase % period]
        if is_clear and is_low.mean() <= MAX_REPEATS and is_kept.mean() >= RHYTHM_SHARE:
            return is_low[phase % period]
    return None


def _usual(change: np.ndarray) -> np.ndarray:
    """The second largest of the five changes before each frame; infinite for the first two, which have too few."""
    padded = np.concatenate([np.full(NEIGHBOURS, change[0]), change[:-1]])
    before = np.lib.stride_tricks.sliding_window_view(padded, NEIGHBOURS)
    usual = np.sort(before, axis=1)[:, -2]
    usual[:2] = np.inf
    return usual


def _run_lengths(is_repeat: np.ndarray) -> np.ndarray:
    """Of each frame the number of repeats in a row that it is one of; 0 where it is none."""
    starts = np.flatnonzero(np.diff(is_repeat, prepend=False) & is_repeat)
    ends = np.flatnonzero(np.diff(is_repeat, append=False) & is_repeat) + 1
    lengths = np.zeros(len(is_repeat), np.int64)
    for start, end in zip(starts, ends, strict=True):
        lengths[start:end] = end - start
    return lengths


def _share_of_moving(change: np.ndarray) -> float:
    """Duplicates over the frames that are counted; 0 if nothing moves."""
    found = told(change)
    return float(found.is_duplicate[found.is_counted].mean()) if found.is_counted.any() else 0.0


def _freeze_share(groups: Mapping[str, Groups], facts: pa.Table) -> np.ndarray:
    return groups["freeze_block_absdiff"].each(lambda change: float(told(change).is_repeat.mean()))


def _longest_s(groups: Mapping[str, Groups], facts: pa.Table) -> np.ndarray:
    frames = groups["freeze_block_absdiff"].each(lambda change: float(_run_lengths(told(change).is_repeat).max()))
    return frames / _fps(facts)


def _duplicate_share(groups: Mapping[str, Groups], facts: pa.Table) -> np.ndarray:
    return groups["freeze_block_absdiff"].each(_share_of_moving)


def _true_fps(groups: Mapping[str, Groups], facts: pa.Table) -> np.ndarray:
    return (1 - _duplicate_share(groups, facts)) * _fps(facts)


def _fps(facts: pa.Table) -> np.ndarray:
    return np.asarray(facts["fps"].to_numpy(zero_copy_only=False), np.float64)


@dataclass(frozen=True, kw_only=True)
class Freeze(Meter):
    """Absolute luma difference to the frame before: of the whole picture, and of the block that changes most.

    Writes: freeze_absdiff, freeze_block_absdiff (one value per frame, see `Meter.start`).
    Source: the measure of FFmpeg's `freezedetect` for the whole picture; the largest of 16 x 9 blocks, and the bounds,
        are ours, measured on repeats and on fixed cameras after H.264, HEVC and AV1 (docs/timing.md).
    """

    name: ClassVar[str] = "freeze"
    version: ClassVar[int] = 2  # 2: on the tiny view; the block that changes most
    view: ClassVar[View] = View.TINY_LUMA
    pairwise: ClassVar[bool] = True
    scores_version: ClassVar[int] = 2  # 2: rhythms; frames at a clip's ends that cannot be told are left out
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "freeze_absdiff",
            _SERIES,
            "mean absolute luma difference to the frame before, levels of 255, at 256 px width; "
            "null for a frame without predecessor",
        ),
        Column(
            "freeze_block_absdiff",
            _SERIES,
            "the same of the one of 16 x 9 blocks that changes most; null for a frame without predecessor",
        ),
    )

    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "freeze_absdiff", "median"),
        *over(writes, "freeze_block_absdiff", "median"),
        Score(
            Column(
                "freeze_share",
                pa.float64(),
                f"share of frames that repeat the one before, 0-1: no block changes by {FREEZE_LEVEL} of 255 or, up to "
                f"{MAX_RUN} frames in a row, by {REPEAT_RATIO:.0%} of what is usual on both sides; {_NO_PAIR}",
            ),
            _freeze_share,
        ),
        Score(
            Column("freeze_longest_s", pa.float64(), f"longest run of such frames, seconds; {_NO_PAIR}"),
            _longest_s,
        ),
        Score(
            Column(
                "duplicate_share",
                pa.float64(),
                f"share of frames that repeat the one before, in a rhythm or in runs of at most {MAX_RUN}; longer ones "
                f"are left out: 0.2 for 24 in 30, 0.5 for doubled frames, 0.6 for 24 in 60; {_NO_PAIR}",
            ),
            _duplicate_share,
        ),
        Score(
            Column(
                "true_fps",
                pa.float64(),
                f"new frames per second where the picture does not stand still: fps times (1 - duplicate_share); "
                f"{_NO_PAIR}",
            ),
            _true_fps,
        ),
    )

    def start(self, info: StreamInfo) -> Update:
        import cv2

        def update(before: np.ndarray, view: np.ndarray, step_s: float) -> tuple[float, float]:
            difference = cv2.absdiff(before, view)
            height, width = difference.shape
            blocks = (BLOCKS_ALONG, BLOCKS_ACROSS) if width >= height else (BLOCKS_ACROSS, BLOCKS_ALONG)
            largest = cv2.resize(difference.astype(np.float32), blocks, interpolation=cv2.INTER_AREA).max()
            return cv2.mean(difference)[0], float(largest)

        return update
