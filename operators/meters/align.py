# SPDX-License-Identifier: Apache-2.0
"""The camera's movement once more, from the pixels instead of the flow.

Flow is too short where there is little texture: defocused and compressed pictures lose a tenth of a slow zoom. Two
pictures laid over each other by the movement found tell what is missing, from all pixels of the background at once.
"""

import numpy as np

BLUR_SIGMA_PX = 1.0  # evens out that one of the two pictures is interpolated
STEP_PX = 2  # every second pixel in each direction is looked at
NUM_ROUNDS = 2
MIN_PIXELS = 200
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
    rows, columns = (slice(None, None, STEP_PX),) * 2
    z_HW = _positions(first.shape)[rows, columns]
    is_used = is_behind_HW[rows, columns] & _is_inside(z_HW * (1 + growth) + shift, first.shape)
    z = z_HW[is_used]
    if len(z) < MIN_PIXELS:
        return growth, shift
    target = first[rows, columns][is_used]
    found = growth, shift
    for _ in range(NUM_ROUNDS):
        found = _corrected(second, target, z, is_used, *found)
    correction = np.abs((found[0] - growth) * z + (found[1] - shift)).mean()
    limit = MAX_CORRECTION_PX + MAX_CORRECTION_SHARE * np.abs(growth * z + shift).mean()
    return found if correction <= limit else (growth, shift)


def _positions(shape: tuple[int, ...]) -> np.ndarray:
    """complex64 [H, W]: x + iy about the centre, pixels."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return ((x - (shape[1] - 1) / 2) + 1j * (y - (shape[0] - 1) / 2)).astype(np.complex64)


def _is_inside(z_HW: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    margin = 2 * STEP_PX
    return (np.abs(np.real(z_HW)) < shape[1] / 2 - margin) & (np.abs(np.imag(z_HW)) < shape[0] / 2 - margin)


def _corrected(
    second_HW: np.ndarray, target: np.ndarray, z: np.ndarray, is_used: np.ndarray, growth: complex, shift: complex
) -> tuple[complex, complex]:
    """One step: least squares of what differs after the second picture is laid back over the first."""
    import cv2

    back_HW = _laid_back(second_HW, growth, shift)
    kernel = {"ksize": 1, "scale": 0.5}
    dx, dy = (cv2.Sobel(back_HW, cv2.CV_32F, i, 1 - i, **kernel)[::STEP_PX, ::STEP_PX][is_used] for i in (1, 0))
    back = back_HW[::STEP_PX, ::STEP_PX][is_used]
    differs = target - back
    radius = second_HW.shape[0] / 2
    x, y = np.real(z) / radius, np.imag(z) / radius
    slopes_6N = np.stack([dx * x + dy * y, dy * x - dx * y, dx, dy, np.ones_like(dx), back / 64])
    centred = differs - np.median(differs)
    scale = max(3 * float(np.median(np.abs(centred))), 1.0)
    weight = 1 / (1 + (centred / scale) ** 2) ** 2
    weighted_6N = slopes_6N * weight
    normal_66 = (weighted_6N @ slopes_6N.T).astype(np.float64) + np.eye(6) * 1e-3
    step = np.linalg.solve(normal_66, (weighted_6N @ differs).astype(np.float64))
    more, moved = complex(step[0], step[1]) / radius, complex(step[2], step[3])
    return (1 + growth) * (1 + more) - 1, (1 + growth) * moved + shift


def _laid_back(second_HW: np.ndarray, growth: complex, shift: complex) -> np.ndarray:
    import cv2

    height, width = second_HW.shape
    factor, middle = 1 + growth, complex((width - 1) / 2, (height - 1) / 2)
    offset = middle + shift - factor * middle
    matrix = np.array([[factor.real, -factor.imag, offset.real], [factor.imag, factor.real, offset.imag]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(second_HW, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
