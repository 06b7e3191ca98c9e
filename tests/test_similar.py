# SPDX-License-Identifier: Apache-2.0
"""Near embeddings against brute force, and which of a group is kept."""

import numpy as np
import pytest

from operators.similar import Pairs, cluster, leaders, normalised, similar_pairs


def planted(num: int, size: int, num_pairs: int, seed: int = 0) -> tuple[np.ndarray, set[tuple[int, int]]]:
    """Random directions, some of which are another one's at a cosine of 0.95 to 0.98."""
    rng = np.random.default_rng(seed)
    vectors_ND = normalised(rng.standard_normal((num, size)))
    chosen = rng.choice(num, 2 * num_pairs, replace=False)
    first, second = chosen[:num_pairs], chosen[num_pairs:]
    cosine = rng.uniform(0.95, 0.98, (num_pairs, 1))
    aside = rng.standard_normal((num_pairs, size))
    aside -= (aside * vectors_ND[first]).sum(1, keepdims=True) * vectors_ND[first]
    vectors_ND[second] = cosine * vectors_ND[first] + np.sqrt(1 - cosine**2) * normalised(aside)
    return normalised(vectors_ND), {(min(a, b), max(a, b)) for a, b in zip(first, second, strict=True)}


def brute_force(vectors_ND: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    rows, columns = np.nonzero(np.triu(vectors_ND @ vectors_ND.T, 1) >= threshold)
    return set(zip(rows.tolist(), columns.tolist(), strict=True))


def test_one_cluster_is_brute_force() -> None:
    vectors_ND = normalised(np.random.default_rng(1).standard_normal((300, 6)))
    pairs = similar_pairs(vectors_ND, cluster(vectors_ND, 1), 0.8)
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == brute_force(vectors_ND, 0.8)
    assert len(pairs) > 50
    cosines = np.einsum("pd,pd->p", vectors_ND[pairs.first], vectors_ND[pairs.second])
    np.testing.assert_allclose(pairs.similarity, cosines, atol=1e-5)


def test_more_probes_find_pairs_across_borders() -> None:
    """Random directions in 64 dimensions have no clusters at all: the worst case."""
    vectors_ND, wanted = planted(20_000, 64, 400)
    recall = {}
    for probes in (1, 2, 3):
        pairs = similar_pairs(vectors_ND, cluster(vectors_ND, 60, probes), 0.94)
        found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
        recall[probes] = len(found & wanted) / len(wanted)
        assert not found - wanted
    assert recall[1] < recall[2] <= recall[3]
    assert recall[2] >= 0.97
    assert recall[3] >= 0.99


def test_the_same_seed_gives_the_same_pairs() -> None:
    vectors_ND, _ = planted(3000, 32, 50)
    one, two = (similar_pairs(vectors_ND, cluster(vectors_ND, seed=3), 0.9) for _ in range(2))
    np.testing.assert_array_equal(one.first, two.first)
    np.testing.assert_array_equal(one.second, two.second)


def test_the_best_of_a_group_is_kept_and_chains_do_not_merge() -> None:
    # 0 - 1 - 2 - 3 is a chain: only neighbours are near
    chain = Pairs(np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([0.96, 0.97, 0.95], np.float32))
    assert leaders(chain, np.array([0, 1, 2, 3, 4])).tolist() == [0, 0, 2, 2, 4]
    assert leaders(chain, np.array([1, 0, 2, 3, 4])).tolist() == [1, 1, 1, 3, 4]
    assert leaders(chain, np.array([0, 3, 1, 2, 4])).tolist() == [0, 0, 3, 3, 4]


def test_a_duplicate_belongs_to_the_nearest_kept_one() -> None:
    pairs = Pairs(np.array([0, 1]), np.array([2, 2]), np.array([0.95, 0.99], np.float32))
    assert leaders(pairs, np.array([0, 1, 2])).tolist() == [0, 1, 1]


@pytest.mark.parametrize("num", [1, 2, 5])
def test_few_vectors(num: int) -> None:
    vectors_ND = normalised(np.ones((num, 4)))
    pairs = similar_pairs(vectors_ND, cluster(vectors_ND), 0.9)
    assert len(pairs) == num * (num - 1) // 2
    assert leaders(pairs, np.arange(num)).tolist() == [0] * num


def test_a_vector_of_zeros_is_near_nothing() -> None:
    vectors_ND = normalised(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    pairs = similar_pairs(vectors_ND, cluster(vectors_ND, 1), 0.5)
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(1, 2)]
