# SPDX-License-Identifier: Apache-2.0
"""From a frame to the sizes that it is encoded at: pure arithmetic, no pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from reelmill.geometry import InputRule

Box = tuple[int, int, int, int]

ASPECTS = tuple(Fraction(*pair) for pair in ((1, 1), (4, 3), (3, 2), (16, 9), (2, 1), (12, 5)))
"""Long side over short side of the buckets. Few, so that batches fill; the loss is a crop, recorded in `crop_box`."""
SMALL_HEIGHTS = (360, 240, 180, 144, 96, 64, 32, 16)
"""Where a clip goes that is smaller than every size asked for: the largest of these that it fills."""
SMALL_AREAS = (512, 256, 128, 64)
"""The same for sizes by area."""
AREA_STEPS = 16  # of the square's side, in which the sides of buckets of its area grow
MIN_AREA_SHARE = Fraction(9, 10)  # of the square's area, below which a pair of sides is no bucket
UHD_PX = 3840


@dataclass(frozen=True, slots=True)
class Fit:
    """How a displayed frame becomes one bucket: scale the whole frame, then cut the centre or repeat the edges.

    Args:
        height_px, width_px: of the bucket.
        scaled_height_px, scaled_width_px: the whole frame after scaling.
        top_px, left_px: where the bucket begins in the scaled frame; negative where it is padded.
        crop_box: the bucket in source pixels: x, y, width, height; beyond the frame where it is padded.
    """

    height_px: int
    width_px: int
    scaled_height_px: int
    scaled_width_px: int
    top_px: int
    left_px: int
    crop_box: Box


def buckets_of(height_px: int, width_px: int, rule: InputRule, max_short_px: float | None = None) -> tuple[Fit, ...]:
    """The buckets of a frame, largest first; no frame is enlarged.

    Args:
        rule: sizes asked for, its multiple, and whether frames are cut or padded. Without sizes: the frame's own.
        max_short_px: most that the short side of the scaled frame may have, such as its effective resolution; at least
            the smallest standard size is given all the same.

    Raises:
        ValueError: the frame is smaller than one multiple in a direction.
    """

    def fits(sizes: tuple[int, ...], limit_px: float | None) -> list[Fit]:
        made = (_fit(height_px, width_px, size, rule, limit_px) for size in sorted(set(sizes), reverse=True))
        return [fit for fit in made if fit is not None]

    asked = rule.areas or rule.heights or (min(height_px, width_px),)
    smaller = SMALL_AREAS if rule.areas else SMALL_HEIGHTS
    found = fits(asked, max_short_px) or fits(smaller, max_short_px)[:1] or fits(smaller, None)[-1:]
    if not found:
        raise ValueError(f"frames of {width_px}x{height_px} are smaller than {rule.multiple} pixels in a direction")
    return tuple(dict.fromkeys(found))


def _fit(height_px: int, width_px: int, size: int, rule: InputRule, max_short_px: float | None) -> Fit | None:
    """The bucket of that size which keeps most of the frame, or pads it least; null if the frame is smaller."""
    is_padded, multiple = rule.fit == "area_pad", rule.multiple
    least = MIN_AREA_SHARE * size**2 if rule.areas else size * min(height_px, width_px)
    if least > (height_px * width_px if rule.areas else min(height_px, width_px) ** 2):
        return None
    best: tuple[Fraction, int, int, Fraction] | None = None
    for short, long in _area_shapes(size, multiple) if rule.areas else _shapes(size, rule):
        if not short:
            continue
        rows, columns = (short, long) if width_px >= height_px else (long, short)
        across = Fraction(columns, width_px), Fraction(rows, height_px)
        scale = min(across) if is_padded else max(across)
        if is_padded and rows - height_px < multiple and columns - width_px < multiple:
            scale = min(Fraction(1), scale)
        if scale > 1 or (max_short_px is not None and scale * min(height_px, width_px) > max_short_px):
            continue
        ratio = scale**2 * height_px * width_px / (rows * columns)
        share = min(ratio, 1 / ratio)
        if best is None or share > best[0]:
            best = (share, rows, columns, scale)
    return None if best is None else _placed((height_px, width_px), best[1:3], best[3], is_padded)


def _shapes(size: int, rule: InputRule) -> Iterator[tuple[int, int]]:
    """(short, long) sides of the buckets of a height, cut down to the multiple or padded up to it."""
    room = rule.multiple - 1 if rule.fit == "area_pad" else 0
    for aspect in ASPECTS[:1] if rule.fit == "area_center_square" else ASPECTS:
        short, long = ((int(side) + room) // rule.multiple * rule.multiple for side in (size, size * aspect))
        yield short, long


def _area_shapes(side: int, multiple: int) -> Iterator[tuple[int, int]]:
    """(short, long) sides of the buckets of a square's area: pairs of sixteenths of its side that make 0.9 to 1 of it.

    Source: PixArt-Sigma's tables (arXiv:2403.04692, its released code), read as a rule. Its bucket for 3840 x 2160 is
    as wide as that, where the rule gives 3776.
    """
    for i in range(AREA_STEPS // 2, AREA_STEPS + 1):
        for j in range(i, 4 * i + 1):
            if MIN_AREA_SHARE < Fraction(i * j, AREA_STEPS**2) <= 1:
                short, long = (n * side // AREA_STEPS // multiple * multiple for n in (i, j))
                is_uhd = short <= UHD_PX * 9 // 16 < short + multiple and long < UHD_PX <= long + multiple
                yield short, (UHD_PX if is_uhd and UHD_PX % multiple == 0 else long)


def _placed(frame: tuple[int, int], bucket: tuple[int, int], scale: Fraction, is_padded: bool) -> Fit:
    """The bucket in the middle of the scaled frame, or the other way round; pairs are (rows, columns)."""
    keep = min if is_padded else max
    scaled = [keep(inside, round(side * scale)) for side, inside in zip(frame, bucket, strict=True)]
    first = [(outside - inside) // 2 for outside, inside in zip(scaled, bucket, strict=True)]
    y, x = (floor(start / scale) for start in first)
    high, wide = (round(inside / scale) for inside in bucket)
    if not is_padded:
        high, wide = min(frame[0] - y, high), min(frame[1] - x, wide)
    return Fit(bucket[0], bucket[1], scaled[0], scaled[1], first[0], first[1], (x, y, wide, high))
