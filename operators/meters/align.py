# SPDX-License-Identifier: Apache-2.0
"""The camera's movement once more, from the pixels instead of the flow.

Flow is too short where there is little texture: defocused and compressed pictures lose a tenth of a slow zoom. Two
pictures laid over each other by the movement found tell what is missing, from all pixels of the background at once.
"""

from functools import lru_cache

import numpy as np

BLUR_SIGMA_PX = 1.0  # evens out that one of the two pictures is interpolated
STEP_PX = 2  # every second pixel in each direction is looked at
MAX_ROUNDS, DONE_PX = 3, 0.03
MIN_PIXELS, MAX_PIXELS = 200, 6000
MAX_CORRECTION_PX, MAX_CORRECTION_SHARE = 1.5, 0.15  # a larger correction means that the pictures do not match


def aligned(
    before_HW: np.ndarray, view_HW: np.ndarray, growth: complex, shift: complex, is_behind_HW: np.ndarray
) -> tuple[complex, complex]:
    """`growth` and `shift` (see `camera.fit_similarity`) corrected so that the background of two pictures matches.

    Args:
        before_HW, view_HW: uint8 luma.
        is_behind_HW: pixels of `before_HW` that follow the camera.

    Source: Lucas-Kanade alignment (Baker and Matthews 2004) of a similarity and a change of brightness and contrast,
        with Geman-McClure weights; rounds, blur and bounds ours.
    """
    import cv2

    first, second = (cv2.GaussianBlur(p, (0, 0), BLUR_SIGMA_PX).astype(np.float32) for p in (before_HW, view_HW))
    z_HW = _positions(first.shape)
    used = np.flatnonzero(_sampled(is_behind_HW) & _is_inside(z_HW * (1 + growth) + shift, first.shape))
    used = used[:: -(-len(used) // MAX_PIXELS) or 1]
    if len(used) < MIN_PIXELS:
        return growth, shift
    z = z_HW.ravel()[used]
    target = _sampled(first).ravel()[used]
    slopes_6N = _slopes(first, used, z)
    found = growth, shift
    for _ in range(MAX_ROUNDS):
        back = laid_back(second, *found, STEP_PX, STEP_PX).ravel()[used]
        last, found = found, _corrected(target - back, slopes_6N, first.shape[0] / 2, *found)
        if abs(found[1] - last[1]) + abs(found[0] - last[0]) * first.shape[0] / 2 < DONE_PX:
            break
    correction = np.abs((found[0] - growth) * z + (found[1] - shift)).mean()
    limit = MAX_CORRECTION_PX + MAX_CORRECTION_SHARE * np.abs(growth * z + shift).mean()
    return found if correction <= limit else (growth, shift)


def _sampled(picture_HW: np.ndarray) -> np.ndarray:
    """Every second pixel of every second row, without the border, where there are no slopes."""
    return picture_HW[STEP_PX:-STEP_PX:STEP_PX, STEP_PX:-STEP_PX:STEP_PX]


@lru_cache(maxsize=4)
def _positions(shape: tuple[int, ...]) -> np.ndarray:
    """complex64: x + iy about the centre, pixels, of the sampled pixels."""
    rows, columns = (np.arange(STEP_PX, side - STEP_PX, STEP_PX) - (side - 1) / 2 for side in shape)
    return (columns + 1j * rows[:, None]).astype(np.complex64)


def _is_inside(z_HW: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    margin = 2 * STEP_PX
    return (np.abs(np.real(z_HW)) < shape[1] / 2 - margin) & (np.abs(np.imag(z_HW)) < shape[0] / 2 - margin)


def _slopes(first_HW: np.ndarray, used: np.ndarray, z: np.ndarray) -> np.ndarray:
    """[6, N]: how a pixel changes with growth, turn, shift right and down, brightness and contrast."""
    ahead, behind = slice(STEP_PX + 1, 1 - STEP_PX, STEP_PX), slice(STEP_PX - 1, -STEP_PX - 1, STEP_PX)
    inner = slice(STEP_PX, -STEP_PX, STEP_PX)
    dx = (first_HW[inner, ahead] - first_HW[inner, behind]).ravel()[used] / 2
    dy = (first_HW[ahead, inner] - first_HW[behind, inner]).ravel()[used] / 2
    x, y = np.real(z) / (first_HW.shape[0] / 2), np.imag(z) / (first_HW.shape[0] / 2)
    return np.stack([dx * x + dy * y, dy * x - dx * y, dx, dy, np.ones_like(dx), _sampled(first_HW).ravel()[used] / 64])


def _corrected(
    differs: np.ndarray, slopes_6N: np.ndarray, radius: float, growth: complex, shift: complex
) -> tuple[complex, complex]:
    """One step: least squares of what differs after the second picture is laid back over the first."""
    centred = differs - np.median(differs)
    scale = max(3 * float(np.median(np.abs(centred))), 1.0)
    weight = 1 / (1 + (centred / scale) ** 2) ** 2
    weighted_6N = slopes_6N * weight
    normal_66 = (weighted_6N @ slopes_6N.T).astype(np.float64) + np.eye(6) * 1e-3
    step = np.linalg.solve(normal_66, (weighted_6N @ differs).astype(np.float64))
    more, moved = complex(step[0], step[1]) / radius, complex(step[2], step[3])
    return (1 + growth) * (1 + more) - 1, (1 + growth) * moved + shift


def laid_back(second_HW: np.ndarray, growth: complex, shift: complex, step: int = 1, margin: int = 0) -> np.ndarray:
    """The second picture laid over the first: of the first one's pixels every `step`-th, without a `margin`."""
    import cv2

    height, width = second_HW.shape
    factor, middle = 1 + growth, complex((width - 1) / 2, (height - 1) / 2)
    offset = middle + shift + factor * (complex(margin, margin) - middle)
    matrix = np.array([[factor.real, -factor.imag, 0], [factor.imag, factor.real, 0]]) * step
    matrix[:, 2] = offset.real, offset.imag
    columns, rows = (len(range(margin, side - margin, step)) for side in (width, height))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(second_HW, matrix, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE)
