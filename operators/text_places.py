# SPDX-License-Identifier: Apache-2.0
"""Does a line of text belong to the scene, or was it laid over the picture?

What was laid over keeps its place while the picture behind it moves; what belongs to the scene moves with it. Both are
seen in the gradients: those of the letters, and those of a ring around them, at the same place in another frame. Where
nothing moves nobody can tell, and the answer is "static".

    letters stay, ring changes                            overlay; in a soft picture, which changes little as it moves,
                                                          letters that do not change at all
    letters and ring change                               scene, or letters that run or change: overlay if the box
                                                          itself stands at the same place in the other frames
    the ring stays in every frame it is compared with     static
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from operators.text_reader import Line

OVERLAY, SCENE, STATIC = "overlay", "scene", "static"
STAYS, CHANGES = 0.6, 0.4  # ours: cosine of the gradients; unrelated pictures give 0 +- 0.1, a still one above 0.9
FIRM, SOFT = 0.9, 0.75  # ours: a blurred picture changes little as it moves, but its letters then do not change at all
EDGE_LEVEL = 2.0  # gray levels per pixel: gradients below it are noise or sky and not compared
EDGE_SHARE = 0.3  # the strongest gradients of a region are compared
MIN_EDGE_PX = 40
MIN_RING_SHARE = 0.01  # ours: of a ring that edges must cover, or they are specks and the whole picture says more
SAME_PLACE, SLACK = 0.5, 0.25  # ours: of two boxes at one place, intersection over union; of the height, how far off
BLUR_PX = 1.0
HALO_PX = 6  # ours: the letters' own gradients and ringing reach this far out of their box; they are no surroundings
COARSE = 4  # the whole picture is compared at a quarter of the size


@dataclass
class Picture:
    """A decoded frame and what is derived of it once: its luma, and the gradients of the whole at a quarter.

    Args:
        rgb_HWC: uint8.
    """

    rgb_HWC: np.ndarray
    _coarse_HW: np.ndarray | None = field(default=None, repr=False)

    def gradients(self, bounds: tuple[int, int, int, int]) -> np.ndarray:
        """complex64 [h, w]: horizontal + i * vertical gradient of the luma, levels per pixel, within (l, t, r, b)."""
        left, top, right, bottom = bounds
        return _gradients(self.rgb_HWC[top:bottom, left:right])

    @property
    def coarse_HW(self) -> np.ndarray:
        """complex64 [H / 4, W / 4]: the gradients of the whole picture, shrunk."""
        import cv2

        if self._coarse_HW is None:
            height, width = (max(1, side // COARSE) for side in self.rgb_HWC.shape[:2])
            small_HWC = cv2.resize(self.rgb_HWC, (width, height), interpolation=cv2.INTER_AREA)
            self._coarse_HW = _gradients(small_HWC)
        return self._coarse_HW


@dataclass(frozen=True)
class Look:
    """A frame that was read, its lines, and frames shortly before and after it that were only decoded."""

    picture: Picture
    lines: Sequence[Line]
    neighbours: Sequence[Picture]


def kinds(looks: Sequence[Look]) -> list[list[str | None]]:
    """Of each line of each look: overlay, scene, static, or null: nothing was read and it is no overlay.

    What is an overlay in one look is one at the same place in the others. A place that cannot be read counts only if
    several looks have it, where there are several.
    """
    found = [[_kind(looks, index, line) for line in look.lines] for index, look in enumerate(looks)]
    pairs = [pair for look, its in zip(looks, found, strict=True) for pair in zip(look.lines, its, strict=True)]
    laid_over = [line for line, kind in pairs if kind == OVERLAY]

    def settled(index: int, line: Line, kind: str) -> str | None:
        is_overlay = kind == OVERLAY or same_place(line, laid_over)
        if line.is_read:
            return OVERLAY if is_overlay else kind
        elsewhere = (other for place, look in enumerate(looks) if place != index for other in look.lines)
        return OVERLAY if is_overlay and (len(looks) == 1 or same_place(line, elsewhere)) else None

    return [
        [settled(index, line, kind) for line, kind in zip(look.lines, its, strict=True)]
        for index, (look, its) in enumerate(zip(looks, found, strict=True))
    ]


def _kind(looks: Sequence[Look], index: int, line: Line) -> str:
    look = looks[index]
    others = [other for place, other in enumerate(looks) if place != index]
    pairs = _compare(look, line, [*look.neighbours, *(other.picture for other in others)])
    if any(_stands_out(letters, ring) for letters, ring in pairs):
        return OVERLAY
    if not any(ring <= CHANGES for _, ring in pairs):
        return STATIC
    near = _compare(look, line, look.neighbours)
    is_replaced = all(stays < STAYS for stays, _ in near)
    stands = bool(others) and all(same_place(line, other.lines) for other in others)
    return OVERLAY if is_replaced and stands else SCENE


def _stands_out(letters: float, ring: float) -> bool:
    """The letters stay and what is around them does not."""
    return (letters >= STAYS and ring <= CHANGES) or (letters >= FIRM and ring <= SOFT)


def same_place(line: Line, others: Iterable[Line]) -> bool:
    """Whether one of the others has the same upright box, but for one of its ends: a word more may have been read.

    A box that moved with the scene is off at both ends, however large its overlap is.
    """
    return any(_is_same_place(line, other) for other in others)


def _is_same_place(line: Line, other: Line) -> bool:
    left, top, right, bottom = (abs(a - b) / line.height_px for a, b in zip(line.bounds, other.bounds, strict=True))
    return max(top, bottom, min(left, right)) <= SLACK and overlap(line.bounds, other.bounds) >= SAME_PLACE


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return both / max(sum(areas) - both, 1)


def _compare(look: Look, line: Line, others: Sequence[Picture]) -> list[tuple[float, float]]:
    """(letters, ring) of each other frame: how far the gradients at the line's place are the same, -1 to 1.

    The ring is as wide as the line is high. Where it has no edges (sky, a plain bar) the whole picture stands in for
    it; frames without any edges are left out.
    """
    height, width = look.picture.rgb_HWC.shape[:2]
    inner, outer = line.bounds, _grown(line.bounds, line.height_px, width, height)
    is_text_HW = _mask([_halo(other.bounds) for other in look.lines], outer)
    is_line_HW = _mask([inner], outer)
    here_HW = look.picture.gradients(outer)
    pairs = []
    for other in others:
        there_HW = other.gradients(outer)
        letters = likeness(here_HW, there_HW, is_line_HW)
        ring = likeness(here_HW, there_HW, ~is_text_HW, MIN_RING_SHARE)
        if ring is None:
            ring = _rest_of_picture(look, other)
        if letters is not None and ring is not None:
            pairs.append((letters, ring))
    return pairs


def likeness(before_HW: np.ndarray, after_HW: np.ndarray, where_HW: np.ndarray, min_share: float = 0.0) -> float | None:
    """Cosine of two gradient fields over the strongest edges of the first; null if they cover less than `min_share`."""
    strength = np.abs(before_HW[where_HW])
    if strength.size < MIN_EDGE_PX:
        return None
    is_edge = strength >= max(EDGE_LEVEL, np.quantile(strength, 1 - EDGE_SHARE))
    if is_edge.sum() < max(MIN_EDGE_PX, min_share * strength.size):
        return None
    before, after = before_HW[where_HW][is_edge], after_HW[where_HW][is_edge]
    scale = np.sqrt((np.abs(before) ** 2).sum() * max((np.abs(after) ** 2).sum(), 1e-6))
    return float(np.vdot(after, before).real / scale)


def _rest_of_picture(look: Look, other: Picture) -> float | None:
    coarse_HW = look.picture.coarse_HW
    whole = (0, 0, coarse_HW.shape[1], coarse_HW.shape[0])
    boxes = [tuple(round(side / COARSE) for side in _halo(line.bounds)) for line in look.lines]
    return likeness(coarse_HW, other.coarse_HW, ~_mask(boxes, whole))


def _gradients(rgb_HWC: np.ndarray) -> np.ndarray:
    import cv2

    luma_HW = cv2.cvtColor(np.ascontiguousarray(rgb_HWC), cv2.COLOR_RGB2GRAY).astype(np.float32)
    luma_HW = cv2.GaussianBlur(luma_HW, (0, 0), BLUR_PX)
    across_HW, down_HW = (cv2.Sobel(luma_HW, cv2.CV_32F, x, 1 - x, ksize=3, scale=1 / 8) for x in (1, 0))
    return across_HW + 1j * down_HW


def _grown(bounds: tuple[int, int, int, int], margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    grow = max(8, round(margin))
    left, top, right, bottom = bounds
    return max(0, left - grow), max(0, top - grow), min(width, right + grow), min(height, bottom + grow)


def _halo(bounds: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    left, top, right, bottom = bounds
    return left - HALO_PX, top - HALO_PX, right + HALO_PX, bottom + HALO_PX


def _mask(boxes: Iterable[Sequence[int]], within: tuple[int, int, int, int]) -> np.ndarray:
    """bool [h, w] of `within`: true inside any of the boxes."""
    left, top, right, bottom = within
    mask_HW = np.zeros((bottom - top, right - left), bool)
    for box in boxes:
        first, last = (max(0, box[side] - left) for side in (0, 2))
        mask_HW[max(0, box[1] - top) : max(0, box[3] - top), first:last] = True
    return mask_HW
