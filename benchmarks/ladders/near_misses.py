# SPDX-License-Identifier: Apache-2.0
"""Rendered progressive pictures that a comb detector takes for woven fields: fine lines, blinds, brick, text."""

from collections.abc import Callable

import numpy as np

ROWS, COLUMNS = 1600, 2560


def _grey(luma_HW: np.ndarray) -> np.ndarray:
    return np.repeat(luma_HW.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _uneven(luma_HW: np.ndarray, seed: int, strength: float = 0.35) -> np.ndarray:
    """The picture under an uneven light, so that it has something to move by."""
    import cv2

    light_HW = np.random.default_rng(seed).random((10, 16)).astype(np.float32)
    light_HW = cv2.resize(light_HW, luma_HW.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return luma_HW * (1 - strength + strength * light_HW)


def lines() -> np.ndarray:
    """Rows of alternating brightness, one pixel each."""
    rows = np.where(np.arange(ROWS) % 2, 190.0, 70.0)[:, None]
    return _grey(_uneven(np.repeat(rows, COLUMNS, 1), 1))


def blinds() -> np.ndarray:
    """Slats that grow from 3 to 14 pixels, before bright windows with vertical bars."""
    period = np.linspace(3, 14, ROWS)
    slat = 130 + 80 * np.sign(np.sin(2 * np.pi * np.cumsum(1 / period)))
    bars = np.where(np.arange(COLUMNS) % 320 < 24, 0.3, 1.0)
    return _grey(_uneven(slat[:, None] * bars, 2))


def brick() -> np.ndarray:
    """A wall of rough bricks of 42 x 14 pixels with joints of 2 pixels."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    row = y // 14
    column = (x + row % 2 * 21) // 42
    tone = rng.uniform(80, 170, (ROWS // 14 + 1, COLUMNS // 42 + 2))[row, column]
    is_joint = (y % 14 < 2) | ((x + row % 2 * 21) % 42 < 2)
    return _grey(_uneven(np.where(is_joint, 205, tone) + rng.normal(0, 9, (ROWS, COLUMNS)), 3))


def text() -> np.ndarray:
    """Lines of white sans-serif text, 16 to 40 pixels high, on black."""
    import cv2

    page_HW = np.full((ROWS, COLUMNS), 12, np.uint8)
    words = "Directed by the northern light and HUMILITY of 1984 mill wheels "
    for index, top in enumerate(range(30, ROWS - 10, 46)):
        face = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(page_HW, words * 4, (8, top), face, 0.6 + 0.2 * (index % 5), 235, 1 + index % 3)
    return _grey(page_HW)


def checks() -> np.ndarray:
    """A halftone: single pixels on and off where the tone is medium."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    tone = _uneven(np.full((ROWS, COLUMNS), 1.0), 5, 1.0)
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16 + 1 / 32
    return _grey(np.where(tone > bayer[y % 4, x % 4], 215, 40))


def grass() -> np.ndarray:
    """Noise of one pixel's grain: as sharp as a texture can be."""
    rng = np.random.default_rng(6)
    return _grey(_uneven(rng.normal(120, 45, (ROWS, COLUMNS)), 6))


def gratings() -> np.ndarray:
    """Zone plate: every direction and every period from 2 pixels on."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    return _grey(128 + 90 * np.cos(np.pi * ((x - COLUMNS / 2) ** 2 + (y - ROWS / 2) ** 2) / 1900))


NEAR_MISSES: dict[str, Callable[[], np.ndarray]] = {
    f.__name__: f for f in (lines, blinds, brick, text, checks, grass, gratings)
}
