# SPDX-License-Identifier: Apache-2.0
"""Which embeddings are near each other, and which clip of a group of near ones is kept.

SemDeDup's way: k-means, then cosines inside clusters only. A pair on both sides of a cluster's border would be lost, so
each vector is looked for in its `num_probes` nearest clusters. 10^6 vectors of 512 take minutes on two cores.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ROWS_AT_ONCE = 4096
CELLS_AT_ONCE = 1 << 25
KMEANS_STEPS = 10
POINTS_PER_CENTROID = 64  # that k-means is fitted to


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows with first < second, each once, sorted.

    Attributes:
        first, second: int64 [P] rows.
        similarity: float32 [P].
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Clusters:
    """k-means of embeddings.

    Attributes:
        centroids: float32 [K, D], length 1.
        nearest: int32 [N, probes], clusters from the nearest on.
    """

    centroids: np.ndarray
    nearest: np.ndarray


def normalised(vectors_ND: np.ndarray) -> np.ndarray:
    """float32 [N, D] with rows of length 1; a row of zeros stays."""
    vectors_ND = np.ascontiguousarray(vectors_ND, np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors_ND, vectors_ND))
    return vectors_ND / np.maximum(lengths, 1e-12)[:, None]


def cluster(vectors_ND: np.ndarray, num_clusters: int | None = None, num_probes: int = 4, seed: int = 0) -> Clusters:
    """Spherical k-means on a seeded sample, and every vector's nearest clusters.

    Args:
        vectors_ND: float32 or float16, rows of length 1.
        num_clusters: null: twice the square root of N.
        num_probes: nearest clusters that a vector belongs to.
    """
    import faiss

    num, size = vectors_ND.shape
    num_centroids = max(1, min(num_clusters or round(2 * num**0.5), num))
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(num, min(num, num_centroids * POINTS_PER_CENTROID), replace=False))
    kmeans = faiss.Kmeans(
        size,
        num_centroids,
        niter=KMEANS_STEPS,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_PER_CENTROID,
    )
    kmeans.train(np.asarray(vectors_ND[sample], np.float32))
    centroids = kmeans.centroids
    assert centroids is not None
    index = faiss.IndexFlatIP(size)
    index.add(centroids)
    nearest = np.empty((num, min(num_probes, num_centroids)), np.int32)
    for start in range(0, num, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        nearest[rows] = index.search(np.asarray(vectors_ND[rows], np.float32), nearest.shape[1])[1]
    return Clusters(centroids, nearest)


def similar_pairs(
    vectors_ND: np.ndarray, clusters: Clusters, threshold: float, owner_N: np.ndarray | None = None
) -> Pairs:
    """Pairs with cosine >= `threshold` that share one of their nearest clusters.

    Args:
        vectors_ND: float32, rows of length 1.
        owner_N: whose row it is; pairs of rows of one owner are left out.

    Source: SemDeDup (Abbas et al. 2023) with several clusters per vector.
    """
    owner_N = np.arange(len(vectors_ND)) if owner_N is None else owner_N
    found = [_pairs_within(vectors_ND, members, threshold, owner_N) for members in members_of(clusters)]
    keys = np.concatenate([np.zeros(0, np.int64), *(key for key, _ in found)])
    cosines = np.concatenate([np.zeros(0, np.float32), *(cosine for _, cosine in found)])
    keys, first = np.unique(keys, return_index=True)
    num = len(vectors_ND)
    return Pairs(keys // num, keys % num, cosines[first])


def members_of(clusters: Clusters) -> Iterator[np.ndarray]:
    """Rows of each cluster, ascending; a row is in several."""
    probes = clusters.nearest.shape[1]
    order = np.argsort(clusters.nearest, axis=None, kind="stable")
    edges = np.cumsum(np.bincount(clusters.nearest.ravel(), minlength=len(clusters.centroids)))
    for part in np.split(order, edges[:-1]):
        yield part // probes


def _pairs_within(
    vectors_ND: np.ndarray, members: np.ndarray, threshold: float, owner_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(first * N + second, cosine) of the pairs among `members`."""
    num, part_ND, owner = len(vectors_ND), vectors_ND[members], owner_N[members]
    keys, cosines = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    step = max(1, min(ROWS_AT_ONCE, CELLS_AT_ONCE // max(1, len(members))))  # a crowded cluster is one large product
    for start in range(0, len(members), step):
        cosine_RC = part_ND[start : start + step] @ part_ND[start:].T
        row, column = np.nonzero(cosine_RC >= threshold)
        is_wanted = (column > row) & (owner[start + row] != owner[start + column])
        row, column = row[is_wanted], column[is_wanted]
        keys.append(members[start + row] * num + members[start + column])
        cosines.append(cosine_RC[row, column])
    return np.concatenate(keys), np.concatenate(cosines)


def leaders(pairs: Pairs, order: np.ndarray) -> np.ndarray:
    """int64 [N]: the kept row that each row is a duplicate of; its own number if it is kept.

    Rows are gone through in `order`, best first: a row is kept unless it is near one that is already kept. Unlike
    connected components this does not chain: every duplicate is near its leader itself.

    Args:
        order: [N] rows, best first.
    """
    num = len(order)
    both = np.concatenate([pairs.first, pairs.second]), np.concatenate([pairs.second, pairs.first])
    by_row = np.argsort(both[0], kind="stable")
    starts = np.searchsorted(both[0][by_row], np.arange(num + 1))
    near = both[1][by_row]
    similarity = np.concatenate([pairs.similarity, pairs.similarity])[by_row]
    leader = np.arange(num)
    is_kept = np.zeros(num, bool)
    has_pairs = starts[1:] > starts[:-1]
    is_kept[~has_pairs] = True
    for row in order[has_pairs[order]]:
        part = slice(starts[row], starts[row + 1])
        kept = np.flatnonzero(is_kept[near[part]])
        if len(kept):
            best = kept[np.lexsort((near[part][kept], -similarity[part][kept]))[0]]
            leader[row] = near[part][best]
        else:
            is_kept[row] = True
    return leader
