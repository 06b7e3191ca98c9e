# SPDX-License-Identifier: Apache-2.0
"""Which part of a native luma plane a defect meter looks at: a 4K frame is too large to look at all of it.

Strips keep whole rows together and start on even rows, so that they keep the two fields apart; patches are spread over
the picture on a grid. Both are the same places in every frame of a size.
"""

import numpy as np


def strip_starts(height: int, num: int, rows: int) -> list[int]:
    """Even first rows of up to `num` strips of `rows` rows, spread over the height; none if it is too low."""
    fits = min(num, height // rows)
    if fits == 0:
        return []
    last = height - rows
    return [int(round(last * (i + 0.5) / fits - rows * (0.5 - (i + 0.5) / fits)) // 2 * 2) for i in range(fits)]


def strips_of(luma_HW: np.ndarray, num: int, rows: int) -> np.ndarray | None:
    """The strips below each other, [num * rows, W] of the plane's type; null if the plane is too low for one."""
    starts = strip_starts(luma_HW.shape[0], num, rows)
    if not starts:
        return None
    return np.concatenate([luma_HW[start : start + rows] for start in starts])


def patches_of(luma_HW: np.ndarray, across: int, down: int, size: int) -> np.ndarray | None:
    """[N, size, size]: up to `across` x `down` patches in the middle of equal cells (`across` along the long side).

    Fewer where they would overlap; null if the plane holds none.
    """
    height, width = luma_HW.shape
    if height > width:
        across, down = down, across
    across, down = min(across, width // size), min(down, height // size)
    if not across or not down:
        return None
    tops = [int((height / down) * (i + 0.5) - size / 2) for i in range(down)]
    lefts = [int((width / across) * (i + 0.5) - size / 2) for i in range(across)]
    return np.stack([luma_HW[top : top + size, left : left + size] for top in tops for left in lefts])


def eight_bit(luma_HW: np.ndarray, bit_depth: int) -> np.ndarray:
    """uint8 codes of a plane of any depth, rounded; the plane itself if it has 8 bits."""
    import cv2

    return luma_HW if bit_depth == 8 else cv2.convertScaleAbs(luma_HW, alpha=1.0 / (1 << (bit_depth - 8)))
