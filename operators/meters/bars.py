# SPDX-License-Identifier: Apache-2.0
"""Strips of one level along the sides of a frame, and which of them are bars.

A bar is what is left when a strip along a side is flat, has one level over its whole length, and ends in a straight
line behind which the picture begins at once. Darkness is not enough: a night sky has noise, a gradient and no straight
end; a dark wall has an end, but it wanders as the camera moves. What one frame cannot tell, several can: `believed`
asks for the same depth in all samples where an end is seen.
"""

from dataclasses import dataclass

import numpy as np

from operators.contract import StreamInfo
from operators.meters.levels import black_code, gain

SIDES = ("top", "bottom", "left", "right")
OPPOSITE = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
MAX_DEPTH = 0.45  # share of the height or width within which a strip must end
LINES_ACROSS = 480  # pixels of a row or column that are looked at, about
TOLERANCE = 6.0  # levels: noise and ringing of a coder, film grain of a scanned black
DRIFT = 2.0  # levels: how far a row's mean may leave the strip's; a gradient in the sky leaves it sooner
STRAY_SHARE = 0.05  # pixels of a row outside the tolerance that a strip endures
BUSY_SHARE = 0.30  # more than this: picture. Rows between (a subtitle, a logo) are strip if more strip follows
RAMP_SHARE = 0.014  # of the height: a soft end is complete within this (10 rows of 720)
MIN_EDGE = 0.5  # share of the strip's length along which the picture must differ from it right behind its end
SAME_DEPTH = 0.004
SAME_LEVEL = 4.0
BLACK_LEVEL = 16.0  # lighter or coloured bars are believed in pairs only: a blown-out sky has a straight end too
MIN_DEPTH = 0.003


@dataclass(frozen=True, slots=True)
class Strip:
    """A flat strip along one side.

    Args:
        depth: share of the frame's height or width, 0 if the side's outermost rows are not flat.
        edge: share of its length along which the picture right behind it has another level, 0-1.
        level: luma level, 0-255; of a side without strip the median of its outermost rows.
    """

    depth: float
    edge: float
    level: float


def find_strips(luma_HW: np.ndarray, info: StreamInfo) -> dict[str, Strip] | None:
    """The strip along each side of a native luma plane; None if the frame is flat all over.

    Source: ours. FFmpeg's cropdetect and UltraVideo look at a mean level only, which also rejects dark scenery.
    """
    height, width = luma_HW.shape
    if min(height, width) < 16:
        return None
    ramp = max(2, round(RAMP_SHARE * min(height, width)))
    by_rows, by_columns = luma_HW[:, :: max(1, width // LINES_ACROSS)], luma_HW[:: max(1, height // LINES_ACROSS)]
    found = {
        "top": _strip(by_rows, 1, False, ramp, info),
        "bottom": _strip(by_rows, 1, True, ramp, info),
        "left": _strip(by_columns, 0, False, ramp, info),
        "right": _strip(by_columns, 0, True, ramp, info),
    }
    is_flat = all(strip.edge == 0 and strip.depth >= MAX_DEPTH - 0.01 for strip in found.values())
    return None if is_flat else found


def _strip(view_HW: np.ndarray, dim: int, is_far: bool, ramp: int, info: StreamInfo) -> Strip:
    """The strip at the near or far end; `dim` 1: rows are averaged (top, bottom), 0: columns."""
    num = view_HW.shape[1 - dim]
    seed = _band(view_HW, dim, is_far, 1, 1 + max(2, round(SAME_DEPTH * num)))
    code = float(np.median(seed))
    level, tolerance = (code - black_code(info)) * gain(info), TOLERANCE / gain(info)
    if (np.abs(seed - code) > tolerance).mean() > STRAY_SHARE:
        return Strip(0.0, 0.0, max(level, 0.0))
    band = _band(view_HW, dim, is_far, 0, int(MAX_DEPTH * num))
    outside, drift = _profiles(band, dim, code, tolerance)
    outside, drift = (values[::-1] if is_far else values for values in (outside, drift))
    end, edge = _end_of(outside, np.abs(drift) * gain(info), ramp)
    return Strip(end / num, edge, max(level, 0.0))


def _band(view_HW: np.ndarray, dim: int, is_far: bool, first: int, last: int) -> np.ndarray:
    """Rows (columns) `first` to `last` counted from the side."""
    num = view_HW.shape[1 - dim]
    part = slice(num - last, num - first) if is_far else slice(first, last)
    return view_HW[part] if dim == 1 else view_HW[:, part]


def _profiles(band_HW: np.ndarray, dim: int, code: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Per row (column): share of pixels further than the tolerance from the code, and mean minus the code."""
    import cv2

    band_HW = np.ascontiguousarray(band_HW)
    inside = cv2.inRange(band_HW, np.array([code - tolerance]), np.array([code + tolerance]))
    share = cv2.reduce(inside, dim, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel() / 255
    mean = cv2.reduce(band_HW, dim, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
    return 1 - share, mean - code


def _end_of(outside: np.ndarray, drift: np.ndarray, ramp: int) -> tuple[int, float]:
    """Rows of the strip, and how much of the length differs behind it."""
    is_busy = outside > BUSY_SHARE
    num_quiet = int(is_busy.argmax()) if is_busy.any() else len(outside)
    is_flat = (outside[:num_quiet] <= STRAY_SHARE) & (drift[:num_quiet] <= DRIFT)
    if not is_flat.any():
        return 0, 0.0
    end = num_quiet - int(is_flat[::-1].argmax())
    return end, float(outside[end : end + ramp + 1].max(initial=0.0))


def frame_bars(strips: dict[str, Strip]) -> dict[str, float]:
    """Depth of the bar at each side by one frame alone, 0 where there is none."""
    shares = {side: strip.depth if _is_edge(strip.depth, strip.edge) else 0.0 for side, strip in strips.items()}
    levels = {side: strip.level for side, strip in strips.items()}
    return _paired(shares, levels)


def believed(depth: np.ndarray, edge: np.ndarray, level: np.ndarray) -> tuple[float, float]:
    """(depth, level) of the bar at one side over the samples [n] of a clip; depth 0 if there is none.

    The bar's depth is the smallest one (one sample in ten may be less deep: a flash, a glitch). Samples with an end at
    another depth speak against it, samples that are dark further inwards without an end say nothing.
    """
    order = np.sort(depth)
    least = float(order[len(order) // 10])
    is_same = np.abs(depth - least) <= SAME_DEPTH
    is_other = ~is_same & (edge >= BUSY_SHARE)
    is_steady = np.ptp(level[is_same]) <= SAME_LEVEL
    is_bar = _is_edge(least, edge[is_same].max()) and is_steady and edge[is_same].sum() >= 2 * edge[is_other].sum()
    return (least if is_bar else 0.0), float(np.median(level[is_same]))


def clip_bars(samples: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Depth of the bar at each side of a clip from its samples' (depth, edge, level), 0 where there is none."""
    found = {side: believed(*arrays) for side, arrays in samples.items()}
    return _paired({side: share for side, (share, _) in found.items()}, {side: lv for side, (_, lv) in found.items()})


def _is_edge(depth: float, edge: float) -> bool:
    return bool(depth >= MIN_DEPTH and edge >= MIN_EDGE)


def _paired(shares: dict[str, float], levels: dict[str, float]) -> dict[str, float]:
    """Drops bars that are not black and have no like on the opposite side."""

    def is_kept(side: str) -> bool:
        other = OPPOSITE[side]
        is_like = shares[other] > 0 and abs(levels[side] - levels[other]) <= SAME_LEVEL
        return levels[side] <= BLACK_LEVEL or is_like

    return {side: share if is_kept(side) else 0.0 for side, share in shares.items()}
