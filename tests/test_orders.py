# SPDX-License-Identifier: Apache-2.0
"""Orders for trainers, by hand."""

import numpy as np
import pytest

from reelmill.orders import Order, block_causal, cells, next_all, next_scale, raster, shuffled, subsamples


def places(order: Order, width: int, unit: int) -> list[tuple[int, int]]:
    return [divmod(int(p), width) for p in order.positions[order.units == unit]]


def test_cells_and_subsamples_by_hand() -> None:
    order = cells((1, 4, 6), (1, 2, 3))
    assert places(order, 6, 0) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert places(order, 6, 1) == [(0, 3), (0, 4), (0, 5), (1, 3), (1, 4), (1, 5)]
    assert places(order, 6, 2)[0] == (2, 0)
    order = subsamples((1, 8, 8), (1, 4, 4))  # the figure of the xAR paper
    assert places(order, 8, 0) == [(0, 0), (0, 4), (4, 0), (4, 4)]
    assert places(order, 8, 1) == [(0, 1), (0, 5), (4, 1), (4, 5)]
    assert order.units.max() == 15
    assert cells((1, 5, 5), (1, 4, 4)).units.max() == 3, "edges give smaller cells"
    assert cells((4, 2, 2), (2, 2, 2)).units.tolist() == [0] * 8 + [1] * 8


def test_next_scale_and_its_mask() -> None:
    order = next_scale([(1, 1, 1), (1, 1, 2), (1, 2, 2)])
    assert order.units.tolist() == [0, 1, 1, 2, 2, 2, 2]
    allow = block_causal(order.units)
    assert allow[0].tolist() == [True] + [False] * 6
    assert allow[2].tolist() == [True] * 3 + [False] * 4
    assert allow[3:].all()
    assert next_all(3).tolist() == [[False, True, True], [False, False, True], [False, False, False]]


@pytest.mark.parametrize(
    "order",
    [
        raster((2, 3, 4)),
        shuffled((2, 3, 4), np.random.default_rng(0)),
        cells((2, 3, 4), (1, 2, 2)),
        subsamples((2, 3, 4), (2, 2, 2)),
    ],
)
def test_every_position_once_and_back(order: Order) -> None:
    grid = np.arange(24).reshape(2, 3, 4) * 7
    sequence = grid.reshape(-1)[order.positions]
    assert sorted(sequence) == sorted(grid.ravel())
    np.testing.assert_array_equal(sequence[order.inverse].reshape(grid.shape), grid)
    assert (np.diff(order.units) >= 0).all()
