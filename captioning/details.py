# SPDX-License-Identifier: Apache-2.0
"""Parts of frames that a model gets at native size, because text stands there that is too small in the whole frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from captioning.budget import PixelRule

READABLE_PX = 24  # ours: a line whose box is as high in the frames as shown is left to them
MARGIN = 0.5  # ours: left around a line, in its heights
MAX_LINES = 64  # of a clip, the longest, so that merging stays cheap


@dataclass(frozen=True, kw_only=True)
class DetailRule:
    """How many details a look at a clip may have.

    Args:
        max_num: of one look at the clip (a part of it, if it is long).
        max_share: of the tier's visual tokens, 0-1; the frames have the rest.
    """

    max_num: int = 4
    max_share: float = 0.25

    def __post_init__(self) -> None:
        if self.max_num < 1 or not 0 < self.max_share < 1:
            raise ValueError(
                f"budget.details: max_num is {self.max_num}, max_share {self.max_share:g}; give 1 or more, "
                "and a share between 0 and 1"
            )


@dataclass(frozen=True, slots=True)
class Detail:
    """A box of a frame, in square pixels of the displayed frame, whose sides are multiples of the model's factor.

    Args:
        pts: of the frame.
        texts: the lines in it, as they were read.
        num_tokens: visual tokens that the model makes of it.
    """

    pts: int
    left_px: int
    top_px: int
    width_px: int
    height_px: int
    texts: tuple[str, ...]
    num_tokens: int

    @property
    def num_letters(self) -> int:
        return sum(map(len, self.texts))


def plan_details(
    lines: Sequence[Mapping[str, Any]],
    size_px: tuple[int, int],
    shown_height_px: int,
    limits: tuple[int, int],
    rule: PixelRule,
) -> tuple[Detail, ...]:
    """Boxes around the text that cannot be read in the frames as shown, those with the most letters first taken.

    A text that was read in several frames is shown once, where its box is highest. Boxes of one frame that together
    cost no less than one around both become one.

    Args:
        lines: rows of the column `text_boxes`.
        size_px: width and height of the displayed frame, in square pixels.
        shown_height_px: height that whole frames are shown at.
        limits: most boxes, and most tokens of all.

    Returns:
        Ordered by time, then from the top.
    """
    max_num, max_tokens = limits
    height_px = size_px[1]
    largest: dict[str, Mapping[str, Any]] = {}
    for line in sorted(lines, key=lambda line: (-line["height"], line["pts"])):
        largest.setdefault(line["text"], line)
    small = [line for line in largest.values() if line["height"] * min(shown_height_px, height_px) < READABLE_PX]
    is_shrunk = shown_height_px < height_px
    small = sorted(small, key=lambda line: -len(line["text"]))[:MAX_LINES] if is_shrunk else []
    found = _merged([box for box in (_around(line, size_px, rule) for line in small) if box], size_px, max_tokens, rule)
    taken: list[Detail] = []
    for detail in sorted(found, key=lambda d: (-d.num_letters, d.pts, d.top_px, d.left_px)):
        if len(taken) < max_num and detail.num_tokens + sum(d.num_tokens for d in taken) <= max_tokens:
            taken.append(detail)
    return tuple(sorted(taken, key=lambda d: (d.pts, d.top_px, d.left_px)))


def _around(line: Mapping[str, Any], size_px: tuple[int, int], rule: PixelRule) -> Detail | None:
    """The box around one line; None if the frame is smaller than a token."""
    width, height = size_px
    margin = MARGIN * line["height"] * height
    left, top = line["left"] * width - margin, line["top"] * height - margin
    right, bottom = left + line["width"] * width + 2 * margin, top + line["height"] * height + 2 * margin
    return _box(line["pts"], (left, top, right, bottom), size_px, (line["text"],), rule)


def _box(
    pts: int,
    edges: tuple[float, float, float, float],
    size_px: tuple[int, int],
    texts: tuple[str, ...],
    rule: PixelRule,
) -> Detail | None:
    """The edges widened to whole tokens, and moved into the frame."""
    starts_sizes = []
    for start, end, side in zip(edges[:2], edges[2:], size_px, strict=True):
        start, end = max(0.0, start), min(float(side), end)
        size = min(-int(-(end - start) // rule.factor), side // rule.factor) * rule.factor
        if size <= 0:
            return None
        starts_sizes.append((round(min(max(0.0, (start + end - size) / 2), side - size)), size))
    (left, width), (top, height) = starts_sizes
    return Detail(pts, left, top, width, height, texts, width * height // rule.factor**2)


def _merged(details: list[Detail], size_px: tuple[int, int], max_tokens: int, rule: PixelRule) -> list[Detail]:
    """Boxes of one frame joined, two at a time, as long as that costs no more tokens."""
    for i, one in enumerate(details):
        for j in range(i):
            both = _both(one, details[j], size_px, rule)
            if both and both.num_tokens <= min(max_tokens, one.num_tokens + details[j].num_tokens):
                rest = [detail for n, detail in enumerate(details) if n not in (i, j)]
                return _merged([*rest, both], size_px, max_tokens, rule)
    return details


def _both(one: Detail, other: Detail, size_px: tuple[int, int], rule: PixelRule) -> Detail | None:
    if one.pts != other.pts:
        return None
    edges = (
        float(min(one.left_px, other.left_px)),
        float(min(one.top_px, other.top_px)),
        float(max(one.left_px + one.width_px, other.left_px + other.width_px)),
        float(max(one.top_px + one.height_px, other.top_px + other.height_px)),
    )
    return _box(one.pts, edges, size_px, (*other.texts, *one.texts), rule)


def cut_details(
    uri: str, details: Sequence[Detail], size_px: tuple[int, int], seek_pts: int | None = None
) -> list[np.ndarray]:
    """The details as uint8 RGB [height_px, width_px, 3] each; run it in a decode child.

    Raises:
        RowError: bad_input, transient or resource.
    """
    import cv2

    from operators.video import each_frame

    wanted = sorted({detail.pts for detail in details})
    cut: dict[Detail, np.ndarray] = {}
    for pts, frame_HWC in zip(wanted, each_frame(uri, wanted, seek_pts), strict=True):
        rows, columns = frame_HWC.shape[:2]
        across, down = columns / size_px[0], rows / size_px[1]  # not 1 where pixels are not square
        for detail in (d for d in details if d.pts == pts):
            top, left = round(detail.top_px * down), round(detail.left_px * across)
            bottom = round((detail.top_px + detail.height_px) * down)
            part_HWC = frame_HWC[top:bottom, left : round((detail.left_px + detail.width_px) * across)]
            size = (detail.width_px, detail.height_px)
            is_square = part_HWC.shape[:2] == size[::-1]
            cut[detail] = part_HWC.copy() if is_square else cv2.resize(part_HWC, size, interpolation=cv2.INTER_CUBIC)
    return [cut[detail] for detail in details]
