# SPDX-License-Identifier: Apache-2.0
"""Combing: two fields of different moments woven into one frame.

A comb is not told by fine horizontal detail (blinds and brick have as much) but by time. With the frame before at hand
each line has neighbours of three kinds: of its own frame, and of the other field of the frame before, for either field.
Progressive: the own neighbours are nearest in time and both kinds of crossing are one frame away. Woven: the own
neighbour is one field away, one crossing also one field, the other three. Static texture and noise add the same to all
three and is taken off. Only differences along the line are compared (vertical edges are where combs show), so
horizontal lines of any kind, moving or not, say nothing.

A frame is combed if, in the middle of its moving blocks, the own neighbours are as far as the nearer crossing and one
of three things holds: the crossings differ, always in the same direction; the own neighbours are farther than the next
lines of the same field; or the two fields agree better when one is moved along the line.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.patches import eight_bit, strip_starts
from operators.scores import Score, over
from reelmill.column import Column

STRIPS, STRIP_ROWS, BLOCK_PX = 8, 34, 32  # at 4K an eighth of the lines
BASE_PX = 2  # a difference along the line: pixels apart
MIN_BLOCKS = 12  # moving blocks below which nothing is said
MOVING = 9.0  # squared codes of change, above the noise, from which a block moves
LEAD, SIGMAS = 0.08, 3.0  # log of the farther over the nearer crossing; standard deviations of its sign off chance
DOUBLED, ALIASED = (
    -1.0,
    -0.55,
)  # logs: one gap between lines over the other, own over field: doubled lines
COARSER = 0.1  # log of own neighbours over the next lines of the same field: combing that can be seen
CLEAR = 1.5  # own neighbours over the noise: below it differences between lines are noise
SHIFTS_PX = (1, 2, 3, 4, 6, 8, 11, 15, 20, 26)
SHIFTED = 0.85  # what is left between the fields at the best shift
MARGIN_PX = max(SHIFTS_PX)


class Energies(NamedTuple):
    """Mean squared differences [blocks] of the horizontal gradient, of lines that lie next to each other.

    own: within the frame; even: its even lines against the odd lines of the frame before; odd: the other way round;
    still: the same lines of the frame before; field: next lines of one field within the frame; pair: own, but only
    each even line against the odd one below it.
    """

    own: np.ndarray
    even: np.ndarray
    odd: np.ndarray
    still: np.ndarray
    field: np.ndarray
    pair: np.ndarray


class Fields(NamedTuple):
    """Horizontal gradient of the even and of the odd lines of the strips, int16 [strips, lines, W]."""

    even: np.ndarray
    odd: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Interlace(Meter):
    """How much of the moving area is combed.

    Writes: interlace_comb_share.
    Source: ours. The comparison with the other field of the frame before is that of FFmpeg's idet; sums of squares of
        the horizontal gradient, per block and noise taken off, are ours. The thresholds were chosen on the clips of
        benchmarks/ladders/defects.py, between what woven and whole frames give there (docs/defects.md).
    """

    name: ClassVar[str] = "interlace"
    view: ClassVar[View] = View.LUMA
    pairwise: ClassVar[bool] = True
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "interlace_comb_share",
            pa.list_(pa.float32()),
            "share of the moving blocks whose lines belong to two moments, 0-1; 0 unless the frame as a whole is; "
            "null if too little moves to tell",
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (*over(writes, "interlace_comb_share", "median", "mean", "max", "samples"),)
    rate_hz: float | None = 2.0

    def start(self, info: StreamInfo) -> Update:
        starts = strip_starts(info.height_px, STRIPS, STRIP_ROWS)

        def update(before: np.ndarray, view: np.ndarray, step_s: float) -> tuple[float | None]:
            if not starts or view.shape[1] < 4 * MARGIN_PX or before.shape != view.shape:
                return (None,)
            return (comb_share(_fields(before, starts, info.bit_depth), _fields(view, starts, info.bit_depth)),)

        return update


def comb_share(before: Fields, now: Fields) -> float | None:
    """Share of the moving blocks that are combed; 0 unless the frame as a whole is; null if too few blocks move."""
    seen = energies(before, now)
    noise = float(min(np.quantile(energy, 0.05) for energy in seen))
    is_moving = seen.still - noise > max(MOVING, noise)
    if is_moving.sum() < MIN_BLOCKS:
        return None
    moving = Energies(*(np.maximum(energy[is_moving] - noise, 1) for energy in seen))
    near, far = (moving.even, moving.odd) if _order(moving)[0] > 0 else (moving.odd, moving.even)
    likeness = moving.own / near

    def is_shifted() -> bool:
        """The two fields agree better when one is moved along the line: they are not of one moment."""
        moved = [_energy(*now, shift=sign * px)[is_moving] for px in SHIFTS_PX for sign in (1, -1)]
        return float(np.median(np.maximum(np.min(moved, axis=0) - noise, 1) / moving.pair)) < SHIFTED

    is_combed = (
        (_is_ordered(moving, likeness) and not (_is_doubled(moving) and not is_shifted()))
        or (_is_coarse(moving, likeness, far) and _is_clear(moving, noise))
        or (_is_alike(moving, likeness) and _is_clear(moving, noise) and is_shifted())
    )
    return float(((moving.own > 0.5 * near) & (moving.own < 2 * far)).mean()) if is_combed else 0.0


def _middle(ratio: np.ndarray) -> float:
    return float(np.log(np.median(ratio)))


def _order(moving: Energies) -> tuple[float, float]:
    """(how much farther the odd lines' crossing is, log; how many standard deviations its sign is off chance)."""
    ratio = moving.odd / moving.even
    surplus = int((ratio > 1).sum()) - int((ratio < 1).sum())
    return _middle(ratio), surplus / len(ratio) ** 0.5


def _is_ordered(moving: Energies, likeness: np.ndarray) -> bool:
    """One field is nearer to the frame before than the other, and the own neighbours are as far as the nearer one."""
    lead, sigmas = _order(moving)
    is_led = abs(lead) > LEAD and abs(sigmas) > SIGMAS and _middle(moving.own / moving.field) > -0.9
    return is_led and -0.3 - 0.8 * abs(lead) < _middle(likeness) < 0.5


def _is_doubled(moving: Energies) -> bool:
    """Each even line and the one below it are much the same, and those further apart are not: as of doubled lines."""
    other = np.maximum(2 * moving.own - moving.pair, 1)
    return _middle(moving.pair / other) < DOUBLED and _middle(moving.own / moving.field) < ALIASED


def _is_coarse(moving: Energies, likeness: np.ndarray, far: np.ndarray) -> bool:
    """Lines differ more from their neighbours than from the next ones of their own field: combing that is seen."""
    is_between = _middle(likeness) > -0.5 and _middle(moving.own / far) < 0.4
    return is_between and _middle(moving.own / moving.field) > COARSER


def _is_alike(moving: Energies, likeness: np.ndarray) -> bool:
    """The own neighbours are as far as those of another moment, though fine texture does not make them so."""
    return abs(_middle(likeness)) < 0.2 and _middle(moving.own / moving.field) > -0.25


def _is_clear(moving: Energies, noise: float) -> bool:
    return float(np.median(moving.own)) > CLEAR * noise


def energies(before: Fields, now: Fields) -> Energies:
    """The energies per block, squared 8-bit codes."""
    up, down = slice(1, None), slice(None, -1)
    even, odd, even0, odd0 = *now, *before
    pair = _energy(even, odd)
    return Energies(
        (pair + _energy(even[:, up], odd[:, down])) / 2,
        (_energy(even, odd0) + _energy(even[:, up], odd0[:, down])) / 2,
        (_energy(odd, even0) + _energy(odd[:, down], even0[:, up])) / 2,
        (_energy(even, even0) + _energy(odd, odd0)) / 2,
        (_energy(even[:, up], even[:, down]) + _energy(odd[:, up], odd[:, down])) / 2,
        pair,
    )


def _fields(luma_HW: np.ndarray, starts: list[int], bit_depth: int) -> Fields:
    strips = [eight_bit(luma_HW[start : start + STRIP_ROWS], bit_depth) for start in starts]
    lines = np.stack(strips).astype(np.int16)
    gradient = lines[:, :, BASE_PX:] - lines[:, :, :-BASE_PX]
    width = (gradient.shape[2] - 2 * MARGIN_PX) // BLOCK_PX * BLOCK_PX + 2 * MARGIN_PX
    return Fields(gradient[:, 0::2, :width], gradient[:, 1::2, :width])


def _energy(a: np.ndarray, b: np.ndarray, shift: int = 0) -> np.ndarray:
    """Mean square [blocks] of a - b, the second shifted along the line; the margins left out."""
    import cv2

    stop = a.shape[2] - MARGIN_PX
    columns = [
        cv2.reduce(
            cv2.absdiff(a_LW[:, MARGIN_PX:stop], b_LW[:, MARGIN_PX + shift : stop + shift]),
            0,
            cv2.REDUCE_SUM2,
            dtype=cv2.CV_32F,
        )
        for a_LW, b_LW in zip(a, b, strict=True)  # one by one they stay in the core's cache
    ]
    return np.concatenate(columns).reshape(-1, BLOCK_PX).sum(axis=1) / (a.shape[1] * BLOCK_PX)
