# SPDX-License-Identifier: Apache-2.0
"""Where a plan's tables lie in a data set, and which of its clips dearer rounds work on."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipelines import unit_tasks
from pipelines.ledger import Ledger
from pipelines.plan import Plan, after_captions_rel, is_by_rendering
from pipelines.rounds import files_hash
from reelmill.captions import rendering_rows
from reelmill.storage import Store
from reelmill.tables import RENDERING, STATE

STATE_NAMES = tuple(column.name for column in STATE)


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
    def model_scores(self) -> dict[str, Ledger]:
        """The table of each model, in the order of the recipe."""
        fps = self.plan.model_fps
        return {name: Ledger(self.store, f"scores/{name}-{fp}", ("clip_id",), fp) for name, fp in fps.items()}

    @cached_property
    def duplicates(self) -> Ledger:
        return self._ledger(f"duplicates-{self.plan.fps['dedup']}", ("clip_id",), "dedup")

    @cached_property
    def selection(self) -> Ledger:
        return self._ledger(f"selection-{self.plan.fps['selection']}", ("source_id", "clip_id"), "selection")

    @cached_property
    def captions(self) -> Ledger:
        return self._ledger(f"captions/{self.plan.fps['captions']}", ("clip_id",), "captions")

    @cached_property
    def caption_checks(self) -> Ledger:
        return self._ledger(f"caption-checks-{self.plan.fps['caption_checks']}", ("clip_id",), "caption_checks")

    @cached_property
    def caption_twins(self) -> Ledger:
        return self._ledger(f"caption-twins-{self.plan.fps['caption_checks']}", ("clip_id",), "caption_checks")

    @cached_property
    def after_captions(self) -> dict[str, Ledger]:
        """The table of each operator that reads captions, in the order of the recipe."""
        found = {}
        for name, operator in self.plan.after_captions_by_name.items():
            fp = self.plan.fps[f"after_captions/{name}"]
            key = ("clip_id", RENDERING.name) if is_by_rendering(operator) else ("clip_id",)
            found[name] = Ledger(self.store, f"{after_captions_rel(name, operator)}-{fp}", key, fp)
        return found

    def captioned_rows(self, name: str, unit: int) -> pa.Table:
        """Input of an operator that reads captions: kept clips that have a caption, or the renderings of it."""
        captions = self.captions.read(unit)
        captions = captions.filter(
            pa.array([status != "failed" for status in captions["status"].to_pylist()], pa.bool_())
        )
        operator: Any = self.plan.after_captions_by_name[name]
        if is_by_rendering(operator):
            return rendering_rows(captions, operator.renderings, with_empty=unit == self.units_of(self.captions)[0])
        rows = self.kept_rows("dedup", unit)
        place = {clip_id: row for row, clip_id in enumerate(rows["clip_id"].to_pylist())}
        captions = captions.filter(pa.array([clip in place for clip in captions["clip_id"].to_pylist()], pa.bool_()))
        rows = rows.take(pa.array([place[clip] for clip in captions["clip_id"].to_pylist()], pa.int64()))
        for column in captions.column_names:
            if column not in (*rows.column_names, *STATE_NAMES):
                rows = rows.append_column(captions.schema.field(column), captions[column])
        return rows

    def captioned_hash(self, unit: int) -> str:
        """Input hash of the same."""
        return files_hash(self.kept_hash("dedup", unit), self.captions.content(unit), *self.models_content(unit))

    def tokens(self, spec_id: str) -> Ledger:
        return Ledger(self.store, f"tokens/{spec_id}", ("clip_id",), spec_id)

    def units_of(self, ledger: Ledger) -> list[int]:
        """Units that have a finished file in the table."""
        names = self.store.list(ledger.rel)
        return [int(name[5:-8]) for name in names if name.startswith("unit-") and name.endswith(".parquet")]

    def select_task(self, gate: str) -> unit_tasks.SelectUnit:
        duplicates = self.duplicates if self.plan.dedup else None
        captions = (self.captions, self.caption_checks, self.caption_twins) if self.plan.caption else ()
        by_name = self.plan.after_captions_by_name
        captions += tuple(t for name, t in self.after_captions.items() if not is_by_rendering(by_name[name]))
        return unit_tasks.SelectUnit(
            self.sources,
            self.series,
            self.clips,
            self.scores,
            tuple(self.model_scores.values()),
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

    def model_rows(self, name: str, unit: int) -> pa.Table:
        """Input of a model: the clips kept at gate `measure`, with what the models before it found."""
        rows = self.kept_rows("measure", unit)
        for other in self._before(name):
            table = self.model_scores[other].read(unit)
            place = {clip_id: row for row, clip_id in enumerate(table["clip_id"].to_pylist())}
            found = table.take(pa.array([place.get(clip_id) for clip_id in rows["clip_id"].to_pylist()], pa.int64()))
            for name in table.column_names:
                if name not in (*rows.column_names, *STATE_NAMES):
                    rows = rows.append_column(table.schema.field(name), found[name])
        return rows

    def model_hash(self, name: str, unit: int) -> str:
        """Input hash of the same."""
        return files_hash(self.kept_hash("measure", unit), *self.models_content(unit, self._before(name)))

    def _before(self, name: str) -> list[str]:
        """The models whose columns this one reads."""
        wanted = {column.name for column in self.plan.models_by_name[name].reads}
        names = list(self.plan.models_by_name)
        before = names[: names.index(name)]
        return [n for n in before if wanted & {column.name for column in self.plan.models_by_name[n].writes}]

    def dedup_hash(self, unit: int) -> str:
        """Input hash of a unit's share in the deduplication: the clips kept so far, their scores and embeddings."""
        return files_hash(self.kept_hash("models", unit), self.scores.content(unit), *self.models_content(unit))

    def models_content(self, unit: int, names: Iterable[str] | None = None) -> list[str]:
        """Contents of a unit in the models' tables, of all or of those named."""
        ledgers = [self.model_scores[name] for name in (self.model_scores if names is None else names)]
        return [ledger.content(unit) for ledger in ledgers if ledger.stamp(unit) is not None]

    def outcome(self) -> Any:
        """Kept, rejected and failed clips by rule (`pipelines.select.merge_summaries`); None before the selection."""
        import polars as pl

        from pipelines.select import merge_summaries, summary

        units = self.units_of(self.selection)
        if not units:
            return None
        return merge_summaries(summary(pl.DataFrame(pl.from_arrow(self.selection.read(unit)))) for unit in units)
