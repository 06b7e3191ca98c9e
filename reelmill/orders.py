# SPDX-License-Identifier: Apache-2.0
"""Orders in which trainers predict a stored grid. A shard stores each grid once, in raster order.

    order = cells((1, 16, 16), (1, 8, 8))
    sequence_BN = ids_Bthw.reshape(B, -1)[:, order.positions]      # predicted unit by unit
    allow_NN = block_causal(order.units)                           # attention: a unit sees itself and all before it
    grid_Bthw = sequence_BN[:, order.inverse].reshape(B, t, h, w)  # and back

Positions are raster numbers, so nothing but the grid's shape is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Grid = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Order:
    """A sequence of positions.

    Args:
        positions: int64 [N], raster number (t, h, w; of several scales one after the other) of the n-th token.
        units: int64 [N], number of the unit that is predicted at once, ascending from 0.
    """

    positions: np.ndarray
    units: np.ndarray

    @cached_property
    def inverse(self) -> np.ndarray:
        """int64 [N]: place in the sequence of each raster position."""
        return np.argsort(self.positions)


def raster(grid: Grid) -> Order:
    """Token by token, as stored: next-token prediction."""
    number = np.arange(int(np.prod(grid)))
    return Order(number, number)


def shuffled(grid: Grid, rng: np.random.Generator) -> Order:
    """Token by token in random order (masked and random-order prediction: MAR, RandAR, TokenUnify)."""
    order = raster(grid)
    return Order(rng.permutation(order.positions), order.units)


def next_scale(grids: Sequence[Grid]) -> Order:
    """Scale by scale, coarse to fine; a unit is a scale.

    Source: VAR (arXiv 2404.02905); the mask of `block_causal(units)` is its block-causal one.
    """
    sizes = [int(np.prod(grid)) for grid in grids]
    return Order(np.arange(sum(sizes)), np.repeat(np.arange(len(sizes)), sizes))


def cells(grid: Grid, cell: Grid) -> Order:
    """Block by block, blocks in raster order and raster order inside; those at the far edges may be smaller.

    Source: the cells of xAR (arXiv 2502.20388); the axis of time is ours.
    """
    places = _places(grid)
    return _by([place // size for place, size in zip(places, cell, strict=True)])


def subsamples(grid: Grid, step: Grid) -> Order:
    """All positions that are equal modulo `step` together, offsets in raster order.

    Source: the subsamples of xAR (arXiv 2502.20388); the axis of time is ours.
    """
    places = _places(grid)
    return _by([place % size for place, size in zip(places, step, strict=True)])


def block_causal(units: np.ndarray) -> np.ndarray:
    """bool [N, N], true where row i may attend to column j: units[j] <= units[i]."""
    return units[None, :] <= units[:, None]


def next_all(num: int) -> np.ndarray:
    """bool [N, N], true where token i is to predict token j: every later one.

    Source: next-all prediction of TokenUnify (arXiv 2405.16847).
    """
    return np.triu(np.ones((num, num), bool), 1)


def _places(grid: Grid) -> list[np.ndarray]:
    """t, h and w of each raster position."""
    return [axis.ravel() for axis in np.indices(grid)]


def _by(keys: list[np.ndarray]) -> Order:
    """Sorted by t, h, w keys, raster order among equals; a unit is a set of equals."""
    number = np.ravel_multi_index([k for k in keys], [int(k.max()) + 1 for k in keys])
    positions = np.argsort(number, kind="stable")
    return Order(positions, np.unique(number[positions], return_inverse=True)[1])
