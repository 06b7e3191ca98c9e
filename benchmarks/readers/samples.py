# SPDX-License-Identifier: Apache-2.0
"""Made-up token samples, the same for every format: ids of three scales by Zipf's law, as real ids are uneven too."""

import numpy as np

GRIDS = ((5, 23, 40), (5, 45, 80), (5, 90, 160))  # of a 17 x 720 x 1280 window, patches of 4 x 8 x 8
VOCAB = 4096
NAMES = tuple(f"s{k}" for k in range(len(GRIDS)))
SAMPLE_BYTES = 2 * sum(t * h * w for t, h, w in GRIDS)


def sample(number: int) -> dict[str, np.ndarray]:
    """uint16 ids of one window by scale."""
    rng = np.random.Generator(np.random.Philox(number))
    ids = {}
    for name, grid in zip(NAMES, GRIDS, strict=True):
        draws = rng.random(grid)
        ids[name] = ((VOCAB + 1.0) ** draws - 1).astype(np.uint16)  # density 1 / id
    return ids


def mixing(order: list[int]) -> dict[str, float]:
    """How well an epoch is shuffled, from the numbers of its samples as they were written.

    `rank_correlation`: of the place in the epoch and the place in the files, as an absolute value; 0 is best.
    `neighbours`: mean distance in the files of samples that follow each other, over that of a perfect shuffle, 1.
    `batches`: how far 8 samples that follow each other lie apart (highest less lowest number), over that of a perfect
    shuffle, 1.
    """
    places, num = np.asarray(order, float), len(order)
    eights = places[: num // 8 * 8].reshape(-1, 8)
    return {
        "rank_correlation": abs(float(np.corrcoef(np.arange(num), places)[0, 1])),
        "neighbours": float(np.abs(np.diff(places)).mean() / ((num + 1) / 3)),
        "batches": float((eights.max(1) - eights.min(1)).mean() / (num * 7 / 9)),
    }
