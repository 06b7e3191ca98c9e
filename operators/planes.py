# SPDX-License-Identifier: Apache-2.0
"""A plane of a decoded frame at a smaller size, in as little time as the memory allows.

Every frame passes through here, and a 4K plane is 8 or 16 MB that has just left the core's cache: the time goes into
reading it, not into arithmetic.
"""

import numpy as np

ROWS_OF_BLOCK = 4  # of each block that is averaged: half of a 4K plane is not read at all


def turned(array: np.ndarray, rotation_deg: int) -> np.ndarray:
    """`array` [H, W] or [H, W, C] turned clockwise by a multiple of 90 degrees; itself if that is 0."""
    import cv2

    if rotation_deg == 0:
        return array
    codes = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
    return cv2.rotate(array, codes[rotation_deg])


def eight_bit(array: np.ndarray, bit_depth: int) -> np.ndarray:
    """Code values scaled to uint8, rounded to the nearest; the array itself if it is 8 bits deep."""
    import cv2

    return array if bit_depth == 8 else cv2.convertScaleAbs(array, alpha=1 / (1 << bit_depth - 8))


def averaged(plane_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The plane at `size` (width, height) by means of blocks, in its own type.

    A block is 2^n x 2^n samples, n as large as `size` allows, of which ROWS_OF_BLOCK rows are read; what remains of the
    factor, which is less than 2, is sampled bilinearly. Rows and columns at the bottom and right that fill no block are
    left out (at most 2^n - 1). A plane smaller than `size` is enlarged bilinearly.
    """
    import cv2

    width, height = size
    factor = max(1, min(plane_HW.shape[1] // width, plane_HW.shape[0] // height))
    block = 1 << (factor.bit_length() - 1)
    small_HW = plane_HW
    if block > 1:
        rows, columns = (length // block for length in plane_HW.shape)
        read_HW = plane_HW[: rows * block : max(1, block // ROWS_OF_BLOCK), : columns * block]
        small_HW = cv2.resize(read_HW, (columns, rows), interpolation=cv2.INTER_AREA)
    return small_HW if small_HW.shape == (height, width) else cv2.resize(small_HW, size)


def sampled(plane_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The plane at `size` (width, height) by bilinear interpolation between the samples nearest to each centre."""
    import cv2

    (height, width), (small_width, small_height) = plane_HW.shape, size
    step, step_y = width // small_width, height // small_height
    if width == step * small_width and height == step_y * small_height and step % 2 == step_y % 2 == 1:
        return plane_HW[step_y // 2 :: step_y, step // 2 :: step].copy()  # the centres are samples
    return cv2.resize(plane_HW, size, interpolation=cv2.INTER_LINEAR)


def sampled_chroma(plane_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Likewise; where there is chroma enough, the nearest sample alone, as a conversion at full size repeats it."""
    import cv2

    if plane_HW.shape[1] >= 2 * size[0] and plane_HW.shape[0] >= 2 * size[1]:
        return cv2.resize(plane_HW, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return sampled(plane_HW, size)
