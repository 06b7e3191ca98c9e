# SPDX-License-Identifier: Apache-2.0
"""A plane of a decoded frame at a smaller size, in as little time as the memory allows.

Every frame passes through here, and a 4K plane is 8 or 16 MB that has just left the core's cache: the time goes into
reading it, not into arithmetic.
"""

import numpy as np

STRIP_SAMPLES = 3 << 18  # of a plane: a strip that fits into a core's cache, with room for its halves
CACHE_LINE_BYTES = 64


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


def averaged(plane_HW: np.ndarray, size: tuple[int, int], bit_depth: int) -> np.ndarray:
    """uint8 plane scaled to `size` (width, height) by means of 2^n x 2^n samples.

    The plane is halved n times with rounding to 8 bits (a deeper plane is rounded first), n as large as `size` allows,
    then sampled bilinearly for what remains of the factor, which is less than 2. Rows and columns at the bottom and
    right that fill no block are left out (at most 2^n - 1). A plane smaller than `size` is enlarged bilinearly.

    The plane is worked on in strips that stay in the core's cache, and each strip is first touched once per cache line
    in reading order: OpenCV reads two rows at a time, which leaves the processor's prefetching behind (0.6 instead of
    1.0 ms for a 4K plane that is not in the cache).
    """
    import cv2

    width, height = size
    times = max(1, min(plane_HW.shape[1] // width, plane_HW.shape[0] // height)).bit_length() - 1
    small_HW = _halved(plane_HW, times, bit_depth)
    if small_HW.shape == (height, width):
        return small_HW
    return cv2.resize(small_HW, size, interpolation=cv2.INTER_LINEAR)


def _halved(plane_HW: np.ndarray, times: int, bit_depth: int) -> np.ndarray:
    """uint8 plane of which each sample is the mean of 2^times x 2^times samples."""
    if times == 0:
        return eight_bit(plane_HW, bit_depth)
    block = 1 << times
    height, width = (length // block for length in plane_HW.shape)
    small_HW = np.empty((height, width), np.uint8)
    rows = min(height, max(1, STRIP_SAMPLES // (width * block * block)))  # of `small_HW`, per strip
    halves = [np.empty((rows * block >> k, width * block >> k), np.uint8) for k in range(1, times)]
    for top in range(0, height, rows):
        strip_HW = plane_HW[top * block : min(top + rows, height) * block, : width * block]
        _halve_into(small_HW[top : top + rows], strip_HW, halves, bit_depth)
    return small_HW


def _halve_into(small_HW: np.ndarray, strip_HW: np.ndarray, halves: list[np.ndarray], bit_depth: int) -> None:
    """Halves a strip step by step, through the buffers `halves`, into `small_HW`."""
    import cv2

    if bit_depth == 8:
        strip_HW[:, ::CACHE_LINE_BYTES].max()
    else:
        strip_HW = eight_bit(strip_HW, bit_depth)
    for step, buffer_HW in enumerate([*halves, small_HW]):
        half_HW = buffer_HW[: len(strip_HW) // 2]
        if step % 2:  # OpenCV rounds halves up; up and down in turns leaves no brighter picture
            cv2.bitwise_not(strip_HW, strip_HW)
        cv2.resize(strip_HW, half_HW.shape[::-1], half_HW, interpolation=cv2.INTER_AREA)
        if step % 2:
            cv2.bitwise_not(half_HW, half_HW)
        strip_HW = half_HW


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
