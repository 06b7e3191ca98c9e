# SPDX-License-Identifier: Apache-2.0
"""Where a plan's tables lie in a data set, and which of its clips dearer rounds work on."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipelines import unit_tasks
from pipelines.ledger import Ledger
from pipelines.plan import Plan
from pipelines.rounds import files_hash
from reelmill.storage import Store


@dataclass
class DataSet:
    """The tables of one plan below one root.

    Args:
        plan: its fingerprints name the tables.
        root: directory or s3:// URI.
    """

    plan: Plan
    root: str

    @cached_property
    def store(self) -> Store:
        return Store(self.root)

    def _ledger(self, rel: str, key: tuple[str, ...], stage: str, **kwargs: Any) -> Ledger:
        return Ledger(self.store, rel, key, self.plan.fps[stage], **kwargs)

    @cached_property
    def sources(self) -> Ledger:
        return self._ledger("sources", ("relpath",), "sources")

    @cached_property
    def series(self) -> Ledger:
        return self._ledger(f"series-{self.plan.fps['series']}", ("source_id", "segment_index"), "series")

    @cached_property
    def clips(self) -> Ledger:
        return self._ledger(f"clips-{self.plan.fps['clips']}", ("clip_id",), "clips")

    @cached_property
    def scores(self) -> Ledger:
        return self._ledger(f"scores/measure-{self.plan.fps['scores']}", ("clip_id",), "scores")

    @cached_property
    def model_scores(self) -> Ledger:
        return self._ledger(f"scores/models-{self.plan.fps['models']}", ("clip_id",), "models")

    @cached_property
    def duplicates(self) -> Ledger:
        return self._ledger(f"duplicates-{self.plan.fps['dedup']}", ("clip_id",), "dedup")

    @cached_property
    def selection(self) -> Ledger:
        return self._ledger(f"selection-{self.plan.fps['selection']}", ("source_id", "clip_id"), "selection")

    @cached_property
    def captions(self) -> Ledger:
        return self._ledger(f"captions/{self.plan.fps['captions']}", ("clip_id",), "captions")

    def tokens(self, spec_id: str) -> Ledger:
        return Ledger(self.store, f"tokens/{spec_id}", ("clip_id",), spec_id)

    def units_of(self, ledger: Ledger) -> list[int]:
        """Units that have a finished file in the table."""
        names = self.store.list(ledger.rel)
        return [int(name[5:-8]) for name in names if name.startswith("unit-") and name.endswith(".parquet")]

    def select_task(self, gate: str) -> unit_tasks.SelectUnit:
        models = self.model_scores if self.plan.models else None
        duplicates = self.duplicates if self.plan.dedup else None
        captions = self.captions if self.plan.caption else None
        return unit_tasks.SelectUnit(
            self.sources,
            self.series,
            self.clips,
            self.scores,
            models,
            duplicates,
            captions,
            self.selection,
            self.plan,
            gate,
        )

    def kept_rows(self, gate: str, unit: int) -> pa.Table:
        return self.select_task(gate).kept_rows(unit)

    def kept_hash(self, gate: str, unit: int) -> str:
        return self.select_task(gate).kept_hash(unit)

    def dedup_hash(self, unit: int) -> str:
        """Input hash of a unit's share in the deduplication: the clips kept so far, their scores and embeddings."""
        stamp = self.model_scores.stamp(unit) if self.plan.models else None
        return files_hash(self.kept_hash("models", unit), self.scores.content(unit), stamp.content if stamp else "")

    def outcome(self) -> Any:
        """Kept, rejected and failed clips by rule (`pipelines.select.merge_summaries`); None before the selection."""
        import polars as pl

        from pipelines.select import merge_summaries, summary

        units = self.units_of(self.selection)
        if not units:
            return None
        return merge_summaries(summary(pl.DataFrame(pl.from_arrow(self.selection.read(unit)))) for unit in units)
