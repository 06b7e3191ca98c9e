# SPDX-License-Identifier: Apache-2.0
"""Near duplicates and topics' sizes over the whole data set: a barrier after the models round, at gate `dedup`.

Looks at the clips that are kept so far, all units together, and writes a row for each: which kept clip it repeats, how
large its cluster is, and which sources must fall on one side of the train/val split. What is done about it is a rule:

    - {name: duplicates, column: is_duplicate, in: [false], gate: dedup}
    - {name: balance, column: cluster_draw, max: 100, gate: dedup}   # keeps min(1, sqrt(100 / cluster size))
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipelines.ledger import Ledger
from pipelines.rounds import files_hash
from pipelines.rules import Section
from reelmill.column import Column, arrow_schema
from reelmill.ids import draw_of
from reelmill.tables import CLIP_ID, SOURCE_ID

VERSION = 1
DUPLICATES = (
    CLIP_ID,
    SOURCE_ID,
    Column("is_duplicate", pa.bool_(), "another, better clip that is kept is near it; null without an embedding"),
    Column("duplicate_of", pa.string(), "clip id of the kept clip that it repeats; null if it is none's duplicate"),
    Column("duplicate_cosine", pa.float32(), "cosine of the two embeddings; null if it is none's duplicate"),
    Column("num_duplicates", pa.int32(), "clips that repeat this one; null without an embedding"),
    Column("cluster_id", pa.int32(), "k-means cluster of its embedding; null without an embedding"),
    Column("cluster_size", pa.int32(), "clips in that cluster that are no duplicates; null without an embedding"),
    Column(
        "cluster_draw",
        pa.float64(),
        "cluster_size times the square of a uniform number drawn from clip id and seed: a rule with `max: n` keeps "
        "clips of clusters up to n, and of larger ones the share sqrt(n / size); null without an embedding",
    ),
    Column(
        "split_group",
        pa.string(),
        "smallest source id among the sources that near duplicates connect; they share one side of the split",
    ),
)


class Dedup(Section):
    """Semantic near duplicates by the column `embedding` of the models round.

    Args:
        threshold: clips whose embeddings have at least this cosine are near.
        keep: columns that say which of two near clips is better, most important first; larger is better, `-name`:
            smaller is better. Ties go to the smaller clip id.
        num_clusters: of k-means; null: twice the square root of the number of clips.
        num_probes: nearest clusters in which each clip is compared; 4 finds 0.99 of the pairs even where nothing
            clusters.
        seed: of k-means and of `cluster_draw`.
    """

    threshold: float = Field(default=0.95, gt=0, le=1)
    keep: tuple[str, ...] = ("short_side_px", "clip_bits_per_pixel_h264", "duration_s")
    num_clusters: int | None = Field(default=None, ge=1)
    num_probes: int = Field(default=4, ge=1)
    seed: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `keep` without their signs."""
        return tuple(name.removeprefix("-") for name in self.keep)


@dataclass(frozen=True)
class DedupAll:
    """The table of all units at once; done again when any unit's kept clips or embeddings changed.

    Args:
        duplicates: where to write.
        kept_rows, kept_hash: of a unit: the clips kept so far with all their columns, and what they follow from.
    """

    config: Dedup
    duplicates: Ledger
    kept_rows: Callable[[int], pa.Table]
    kept_hash: Callable[[int], str]

    def __call__(self, units: Sequence[int]) -> int:
        """Returns the number of rows written."""
        input_hash = files_hash(*(self.kept_hash(unit) for unit in units))
        stamps = [self.duplicates.stamp(unit) for unit in units]
        if all(stamp is not None and stamp.input == input_hash for stamp in stamps):
            return 0
        names = ["clip_id", "source_id", "embedding", *self.config.columns]
        parts = [self.kept_rows(unit).select(names) for unit in units]
        table = find_duplicates(pa.concat_tables(parts, promote_options="permissive"), self.config)
        start = 0
        for unit, part in zip(units, parts, strict=True):
            self.duplicates.write_unit(unit, table.slice(start, part.num_rows).combine_chunks(), input_hash)
            start += part.num_rows
        return table.num_rows


def find_duplicates(clips: pa.Table, config: Dedup) -> pa.Table:
    """A row of DUPLICATES per clip, in the same order.

    Args:
        clips: clip_id, source_id, embedding (float32 list, null allowed) and the columns of `config.keep`.

    Raises:
        ValueError: embeddings of different lengths.
    """
    is_known = clips["embedding"].is_valid()
    known = clips.filter(is_known)
    values = _near_ones(known, config) if known.num_rows else {}
    has = np.asarray(is_known)
    columns = {name: _spread(column, has) for name, column in values.items() if name != "pairs"}
    rows = np.flatnonzero(has)
    pairs = [(int(rows[a]), int(rows[b])) for a, b in values.get("pairs", ())]
    sources = clips["source_id"].to_pylist()
    columns |= {
        "clip_id": clips["clip_id"].to_pylist(),
        "source_id": sources,
        "split_group": source_groups(sources, pairs),
    }
    none = [None] * clips.num_rows
    schema = arrow_schema(DUPLICATES)
    arrays = [pa.array(columns.get(field.name, none), field.type, from_pandas=True) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _near_ones(clips: pa.Table, config: Dedup) -> dict[str, Any]:
    """The columns of clips that all have embeddings, and `pairs`, the rows that are near each other."""
    from operators.similar import cluster, leaders, normalised, similar_pairs

    ids = clips["clip_id"].to_pylist()
    vectors_ND = normalised(_matrix(clips["embedding"]))
    clusters = cluster(vectors_ND, config.num_clusters, config.num_probes, config.seed)
    near = similar_pairs(vectors_ND, clusters, config.threshold)
    leader = leaders(near, _best_first(clips, config.keep))
    is_duplicate = leader != np.arange(len(ids))
    cluster_of = clusters.nearest[:, 0]
    size = np.bincount(cluster_of[~is_duplicate], minlength=len(clusters.centroids))[cluster_of]
    draw = np.array([draw_of("balance", config.seed, name) for name in ids])
    cosine = np.einsum("nd,nd->n", vectors_ND, vectors_ND[leader])
    return {
        "pairs": zip(near.first, near.second, strict=True),
        "is_duplicate": is_duplicate,
        "duplicate_of": [ids[kept] if is_one else None for kept, is_one in zip(leader, is_duplicate, strict=True)],
        "duplicate_cosine": np.where(is_duplicate, cosine, np.nan),
        "num_duplicates": np.bincount(leader, minlength=len(ids)) - ~is_duplicate,
        "cluster_id": cluster_of,
        "cluster_size": size,
        "cluster_draw": size * draw**2,
    }


def _matrix(embeddings: pa.ChunkedArray) -> np.ndarray:
    """float32 [N, D] of a list column without nulls."""
    column = embeddings.combine_chunks()
    sizes = np.unique(np.asarray(column.value_lengths()))
    if len(sizes) > 1:
        raise ValueError(f"dedup: embeddings have {' and '.join(map(str, sizes))} numbers: two models are mixed")
    return np.asarray(column.flatten(), np.float32).reshape(len(column), -1 if len(column) else 0)


def _best_first(clips: pa.Table, keep: Iterable[str]) -> np.ndarray:
    """Rows by the columns of `keep`, nulls last, then by clip id."""
    keys = [np.array(clips["clip_id"].to_pylist())]
    for name in reversed(tuple(keep)):
        sign = 1.0 if name.startswith("-") else -1.0
        values = clips[name.removeprefix("-")].cast(pa.float64()).to_numpy()
        keys.append(np.where(np.isnan(values), np.inf, sign * values))
    return np.lexsort(keys)


def _spread(values: Any, has: np.ndarray) -> list[Any]:
    """The values at the rows that have an embedding, None elsewhere and for NaN."""
    found = iter(values.tolist() if isinstance(values, np.ndarray) else values)
    return [next(found) if is_there else None for is_there in has]


def source_groups(source_ids: Sequence[str], pairs: Iterable[tuple[int, int]]) -> list[str]:
    """For each row the smallest source id of all sources that the pairs of rows connect to its own."""
    parent: dict[str, str] = {source: source for source in source_ids}

    def root(source: str) -> str:
        while parent[source] != source:
            parent[source] = parent[parent[source]]
            source = parent[source]
        return source

    for a, b in pairs:
        low, high = sorted((root(source_ids[a]), root(source_ids[b])))
        parent[high] = low
    return [root(source) for source in source_ids]
