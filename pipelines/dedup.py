# SPDX-License-Identifier: Apache-2.0
"""Duplicates and topics' sizes over the whole data set: a barrier after the models round, at gate `dedup`.

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
from pipelines.near_pairs import EVIDENCE, Evidence, find_evidence, kind_of, value_of
from pipelines.rounds import files_hash
from pipelines.rules import Section
from reelmill.column import Column, arrow_schema
from reelmill.ids import draw_of
from reelmill.tables import CLIP_ID, SOURCE_ID

VERSION = 2
_NOTHING = "null if there is nothing to compare the clip by"
DUPLICATES = (
    CLIP_ID,
    SOURCE_ID,
    Column("is_duplicate", pa.bool_(), f"another, better clip that is kept is near it; {_NOTHING}"),
    Column("duplicate_of", pa.string(), "clip id of the kept clip that it repeats; null if it is none's duplicate"),
    Column(
        "duplicate_kind",
        pa.string(),
        "the strongest evidence for that: exact (same bit stream), perceptual (a copy of the pictures) or semantic "
        "(near embeddings); null if it is none's duplicate",
    ),
    Column(
        "duplicate_appearance",
        pa.float32(),
        "mean correlation of the two clips' pictures where they agree best, 0-1; null unless the kind is perceptual",
    ),
    Column(
        "duplicate_cosine",
        pa.float32(),
        "cosine of the two embeddings; null if it is none's duplicate, or one of the two has no embedding",
    ),
    Column("num_duplicates", pa.int32(), f"clips that repeat this one; {_NOTHING}"),
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
    """Duplicates by what there is to compare: bit streams always, pictures if the meter `video_hash` is listed,
    meanings if an operator writes `embedding`. See `pipelines.near_pairs`.

    Args:
        threshold: clips whose embeddings have at least this cosine are near.
        mirrored: a copy with left and right exchanged is a copy too (perceptual).
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
    mirrored: bool = False

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
        parts = [self._columns(self.kept_rows(unit)) for unit in units]
        table = find_duplicates(pa.concat_tables(parts, promote_options="permissive"), self.config)
        start = 0
        for unit, part in zip(units, parts, strict=True):
            self.duplicates.write_unit(unit, table.slice(start, part.num_rows).combine_chunks(), input_hash)
            start += part.num_rows
        return table.num_rows

    def _columns(self, rows: pa.Table) -> pa.Table:
        evidence = [name for name in EVIDENCE.values() if name in rows.column_names]
        return rows.select(["clip_id", "source_id", *evidence, *self.config.columns])


def find_duplicates(clips: pa.Table, config: Dedup) -> pa.Table:
    """A row of DUPLICATES per clip, in the same order.

    Args:
        clips: clip_id, source_id, the columns of `config.keep`, and whichever there are of packet_hash (string),
            video_hash (binary) and embedding (float32 list), null allowed.

    Raises:
        ValueError: embeddings of different lengths.
    """
    from operators.similar import leaders

    order = _best_first(clips, config.keep)
    evidence = find_evidence(clips, config, order)
    leader = leaders(evidence.pairs, order)
    ids, sources = clips["clip_id"].to_pylist(), clips["source_id"].to_pylist()
    is_duplicate = leader != np.arange(len(ids))
    pairs = evidence.pairs
    columns: dict[str, Any] = {
        "clip_id": ids,
        "source_id": sources,
        "is_duplicate": [bool(d) if has else None for d, has in zip(is_duplicate, evidence.has_N, strict=True)],
        "duplicate_of": [ids[kept] if d else None for kept, d in zip(leader, is_duplicate, strict=True)],
        "num_duplicates": _where(evidence.has_N, np.bincount(leader, minlength=len(ids)) - ~is_duplicate),
        "split_group": source_groups(sources, zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)),
        **_why(evidence, leader),
        **_clustered(evidence, is_duplicate, ids, config.seed),
    }
    schema = arrow_schema(DUPLICATES)
    return pa.Table.from_arrays([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def _why(evidence: Evidence, leader: np.ndarray) -> dict[str, list[Any]]:
    """Kind, appearance and cosine of each duplicate and the clip that it repeats."""
    pairs = evidence.pairs
    similarity = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.similarity, strict=True))
    place = {row: k for k, row in enumerate(evidence.rows_K.tolist())}
    kinds: list[Any] = [None] * len(leader)
    appearances, cosines = list(kinds), list(kinds)
    for row, kept in enumerate(leader.tolist()):
        if kept == row:
            continue
        best = float(similarity[min(row, kept), max(row, kept)])
        kinds[row] = kind_of(best)
        if kinds[row] == "perceptual":
            appearances[row] = value_of(best)
        if row in place and kept in place:
            assert evidence.vectors_KD is not None
            cosines[row] = float(evidence.vectors_KD[place[row]] @ evidence.vectors_KD[place[kept]])
    return {"duplicate_kind": kinds, "duplicate_appearance": appearances, "duplicate_cosine": cosines}


def _clustered(evidence: Evidence, is_duplicate: np.ndarray, ids: list[str], seed: int) -> dict[str, list[Any]]:
    """Cluster, its size without duplicates and the draw of the clips that have embeddings; null for the others."""
    columns: dict[str, list[Any]] = {name: [None] * len(ids) for name in ("cluster_id", "cluster_size", "cluster_draw")}
    if evidence.clusters is None:
        return columns
    cluster_of = evidence.clusters.nearest[:, 0]
    kept = cluster_of[~is_duplicate[evidence.rows_K]]
    sizes = np.bincount(kept, minlength=len(evidence.clusters.centroids))
    for row, cluster_id in zip(evidence.rows_K.tolist(), cluster_of.tolist(), strict=True):
        size = int(sizes[cluster_id])
        draw = size * draw_of("balance", seed, ids[row]) ** 2
        columns["cluster_id"][row], columns["cluster_size"][row], columns["cluster_draw"][row] = cluster_id, size, draw
    return columns


def _where(has: np.ndarray, values: np.ndarray) -> list[Any]:
    return [value if is_there else None for value, is_there in zip(values.tolist(), has, strict=True)]


def _best_first(clips: pa.Table, keep: Iterable[str]) -> np.ndarray:
    """Rows by the columns of `keep`, nulls last, then by clip id."""
    keys = [np.array(clips["clip_id"].to_pylist())]
    for name in reversed(tuple(keep)):
        sign = 1.0 if name.startswith("-") else -1.0
        values = clips[name.removeprefix("-")].cast(pa.float64()).to_numpy()
        keys.append(np.where(np.isnan(values), np.inf, sign * values))
    return np.lexsort(keys)


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
