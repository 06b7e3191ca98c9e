# SPDX-License-Identifier: Apache-2.0
"""Which clips repeat each other, by each kind of evidence there is: equal bit streams, equal pictures, near meanings.

    exact       equal `packet_hash`: the same coded pictures, in whatever container
    perceptual  copies by `video_hash`: trimmed, coded again, resized, boxed, cropped, sped up (operators.lookalike)
    semantic    `embedding`s with a cosine above a threshold: the same subject

A kind whose column nobody wrote finds nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from operators.similar import Clusters, Pairs
    from pipelines.dedup import Dedup

EVIDENCE = {"exact": "packet_hash", "perceptual": "video_hash", "semantic": "embedding"}
KINDS = ("semantic", "perceptual", "exact")  # weak to strong
_RANK = 4.0  # a pair's similarity here: rank of its kind times this, plus its own


@dataclass(frozen=True)
class Evidence:
    """What is near what among N clips.

    Attributes:
        pairs: of all kinds; the similarity orders them, a stronger kind above a weaker one (`kind_of`, `value_of`).
        has_N: whether a clip has anything to compare by.
        rows_K, vectors_KD, clusters: the clips that have embeddings, these, and their clusters; null if none has.
    """

    pairs: "Pairs"
    has_N: np.ndarray
    rows_K: np.ndarray
    vectors_KD: np.ndarray | None
    clusters: "Clusters | None"


class Cells(Sequence[Any]):
    """Values of a binary column in another order, as buffers: a million hashes are gigabytes, and are not copied."""

    def __init__(self, column: pa.ChunkedArray, rows: np.ndarray) -> None:
        self._column, self._rows = column, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Cells(self._column, self._rows[at])
        return self._column[int(self._rows[at])].as_buffer()


def find_evidence(clips: pa.Table, config: "Dedup", order: np.ndarray) -> Evidence:
    """Compares clips by whichever columns of EVIDENCE the table has.

    Args:
        order: rows, best first: in a crowd of like clips each is compared with the best ones.

    Raises:
        ValueError: embeddings of different lengths.
    """
    from operators.lookalike import copies
    from operators.similar import cluster, similar_pairs

    num = clips.num_rows
    rows = {kind: _rows_with(clips, column) for kind, column in EVIDENCE.items()}
    found = [exact_pairs(clips["packet_hash"].to_pylist() if len(rows["exact"]) else [])]
    hashed, embedded = rows["perceptual"], rows["semantic"]
    if len(hashed) > 1:
        best_first = order[np.isin(order, hashed)]
        pairs = copies(Cells(clips["video_hash"], best_first), config.mirrored)
        found.append(_ranked("perceptual", pairs, best_first))
    vectors_KD = clusters = None
    if len(embedded):
        vectors_KD = unit_vectors(clips["embedding"].take(pa.array(embedded)))
        clusters = cluster(vectors_KD, config.num_clusters, config.num_probes, config.seed)
        found.append(_ranked("semantic", similar_pairs(vectors_KD, clusters, config.threshold), embedded))
    has_N = np.zeros(num, bool)
    has_N[np.concatenate(list(rows.values()))] = True
    return Evidence(_strongest(found, num), has_N, embedded, vectors_KD, clusters)


def kind_of(similarity: float) -> str:
    """The kind of a pair by its similarity in `Evidence.pairs`."""
    return KINDS[int((similarity + 1) // _RANK)]


def value_of(similarity: float) -> float:
    """Its similarity within its kind: cosine, appearance, or 1."""
    return similarity - _RANK * KINDS.index(kind_of(similarity))


def exact_pairs(hashes: Sequence[str | None]) -> "Pairs":
    """All pairs of rows with one hash."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(hashes):
        if value is not None:
            groups[value].append(row)
    pairs = [pair for group in groups.values() for pair in combinations(group, 2)]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return _pairs(first, second, np.full(len(pairs), _RANK * KINDS.index("exact") + 1, np.float32))


def unit_vectors(embeddings: pa.ChunkedArray) -> np.ndarray:
    """float32 [N, D] of length 1 of a list column without nulls."""
    from operators.similar import normalised

    column = embeddings.combine_chunks()
    sizes = np.unique(np.asarray(column.value_lengths()))
    if len(sizes) > 1:
        raise ValueError(f"dedup: embeddings have {' and '.join(map(str, sizes))} numbers: two models are mixed")
    return normalised(np.asarray(column.flatten(), np.float32).reshape(len(column), -1 if len(column) else 0))


def _rows_with(clips: pa.Table, column: str) -> np.ndarray:
    if column not in clips.column_names:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.asarray(clips[column].is_valid()))


def _ranked(kind: str, pairs: "Pairs", rows: np.ndarray) -> "Pairs":
    """The pairs in rows of the whole table, with the rank of their kind."""
    similarity = pairs.similarity + np.float32(_RANK * KINDS.index(kind))
    first, second = rows[pairs.first], rows[pairs.second]
    return _pairs(np.minimum(first, second), np.maximum(first, second), similarity)


def _strongest(parts: Iterable["Pairs"], num: int) -> "Pairs":
    """Each pair once, with its strongest evidence."""
    parts = list(parts)
    keys = np.concatenate([part.first * num + part.second for part in parts])
    similarity = np.concatenate([part.similarity for part in parts])
    order = np.lexsort((-similarity, keys))
    keys, first = np.unique(keys[order], return_index=True)
    return _pairs(keys // max(num, 1), keys % max(num, 1), similarity[order][first])


def _pairs(first: np.ndarray, second: np.ndarray, similarity: np.ndarray) -> "Pairs":
    from operators.similar import Pairs

    return Pairs(first, second, similarity)
