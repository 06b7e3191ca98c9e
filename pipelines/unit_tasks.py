# SPDX-License-Identifier: Apache-2.0
"""Work on one unit that needs no decoding and no model: segments to measure, clips, scores, selection, shards.

Each task is a pure function of the unit's committed tables, so it is simply done again when its input changed.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.ledger import Ledger
from pipelines.rounds import files_hash
from pipelines.rules import GATES
from reelmill.column import Column, arrow_schema
from reelmill.tables import CLIP_ID, CLIPS, SHARD_KEYS, SOURCE_ID, STATE

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.recipe import Pack, Rule
    from reelmill.storage import Store

DECODE_PX_PER_S = 3.0e8  # one CPU, H.264: 36 frames of 3840x2160 a second (docs/benchmarks.md)
TOKENIZE_PX_PER_S = 8.0e6  # one CPU, the reference tokenizer

TOKEN_LEDGER = (
    CLIP_ID,
    SOURCE_ID,
    Column("num_rows", pa.int32(), "rows of the clip in the shards: windows times buckets; null if it failed"),
    Column("generation", pa.int32(), "generation of shard files that holds the clip; null if it failed"),
    *STATE,
)


def rows_to_measure(sources: Ledger, rules: "tuple[Rule, ...]", unit: int) -> pa.Table:
    """The segments of a unit that are to be decoded.

    Sources that could not be opened, and those that a header rule rejects, have none.
    """
    import polars as pl

    from operators.measure import segment_rows
    from pipelines.select import decide_sources

    table = sources.read(unit)
    verdict = decide_sources(pl.DataFrame(pl.from_arrow(table)), rules)
    rejected = set(verdict.filter(pl.col("tier") == "reject").get_column("source_id"))
    return segment_rows(table.filter(pa.array([name not in rejected for name in table["source_id"].to_pylist()])))


def measure_seconds(row: dict[str, Any]) -> float:
    """Estimated seconds to decode and measure a segment on one CPU."""
    frames = row["num_frames"] or (row["duration_s"] or 10.0) * (row["fps"] or 30.0)
    return 0.2 + frames / row["num_segments"] * row["coded_width_px"] * row["coded_height_px"] / DECODE_PX_PER_S


def tokenize_seconds(operator: Any, row: dict[str, Any]) -> float:
    """Estimated seconds to decode and tokenize a clip on one CPU; a clip that cannot be planned fails at once."""
    try:
        encoded = operator.plan(row).num_pixels
    except ValueError:
        return 0.1
    decoded = row["num_frames"] * row["coded_width_px"] * row["coded_height_px"]
    return 0.1 + decoded / DECODE_PX_PER_S + encoded / TOKENIZE_PX_PER_S


def token_columns(operator: Any) -> tuple[Column, ...]:
    """Columns of a token part: what the operator writes, and the state."""
    names = {column.name for column in operator.writes}
    keys = tuple(column for column in SHARD_KEYS if column.name not in names)
    states = tuple(column for column in STATE if column.name not in names)
    return (*keys, *operator.writes, *states)


@dataclass(frozen=True)
class CutUnit:
    """Clips and their measured scores of a unit, from its series alone."""

    sources: Ledger
    series: Ledger
    clips: Ledger
    scores: Ledger
    plan: "Plan"

    def __call__(self, unit: int) -> int:
        """Writes both tables if their input changed; returns the number of clips written."""
        from operators.aggregate import score_clips
        from operators.cut import cut_clips

        input_hash = files_hash(self.sources.content(unit), self.series.content(unit), self.plan.fps["scores"])
        stamps = self.clips.stamp(unit), self.scores.stamp(unit)
        if all(stamp is not None and stamp.input == input_hash for stamp in stamps):
            return 0
        sources, series = self.sources.read(unit), self.series.read(unit)
        clips = cut_clips(sources, series, self.plan.cut, self.plan.split)
        scores = score_clips(clips, series, sources, self.plan.measure.meters)
        self.clips.write_unit(unit, clips.cast(arrow_schema(CLIPS)), input_hash)
        self.scores.write_unit(unit, scores, input_hash)
        return clips.num_rows


@dataclass(frozen=True)
class SelectUnit:
    """The selection of a unit over whatever scores exist, and the rows that dearer rounds work on."""

    sources: Ledger
    series: Ledger
    clips: Ledger
    scores: Ledger
    models: tuple[Ledger, ...]
    duplicates: Ledger | None
    captions: tuple[Ledger, ...]  # the captions, then the tables made of them
    selection: Ledger
    plan: "Plan"
    gate: str

    def __call__(self, unit: int) -> int:
        """Writes the unit's selection if its input changed; returns the number of rows written."""
        from pipelines.select import selection_table

        input_hash = files_hash(*self._inputs(unit))
        stamp = self.selection.stamp(unit)
        if stamp is not None and stamp.input == input_hash:
            return 0
        table = selection_table(self.decide(unit))
        self.selection.write_unit(unit, table, input_hash)
        return table.num_rows

    def _inputs(self, unit: int) -> list[str]:
        inputs = [self.sources.content(unit), self.series.content(unit), self.clips.content(unit)]
        later = [table.content(unit) for table in self.captions if table.stamp(unit) is not None]
        return [*inputs, *self.measured_content(unit), *later]

    def measured_content(self, unit: int) -> list[str]:
        """Contents of what is known of a unit's clips before they are captioned."""
        tables = (self.scores, *self.models, self.duplicates)
        return [table.content(unit) for table in tables if table is not None and table.stamp(unit) is not None]

    def facts(self, unit: int, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Clip id -> those of `columns` that were measured, up to `gate`."""
        rows = self._scores(unit)
        there = [name for name in columns if name in rows.columns]
        return {row["clip_id"]: row for row in rows.select("clip_id", *there).iter_rows(named=True)}

    def decide(self, unit: int) -> Any:
        """Selection of the unit up to `gate`, as a polars DataFrame."""
        import polars as pl

        from pipelines.select import decide_sources, decide_unit

        sources = self._sources(unit)
        scores = self._with_unmeasured(self._scores(unit))
        decided = decide_unit(sources, scores, self.plan.rules, gate=self.gate, split=self.plan.split)
        refused = decided.filter(pl.col("clip_id").is_null()).select("source_id")
        failed = self._undecodable(unit, sources).join(refused, on="source_id", how="anti")
        undecodable = decide_sources(failed, (), split=self.plan.split)
        of_measure = pl.element().struct.with_fields(gate=pl.lit("measure"))
        return pl.concat([undecodable.with_columns(pl.col("reasons").list.eval(of_measure)), decided])

    def _undecodable(self, unit: int, sources: Any) -> Any:
        """Sources that opened but gave no series at all, with the error of their first segment."""
        import polars as pl

        series = pl.DataFrame(pl.from_arrow(self.series.read(unit, ["source_id", "segment_index", "error_kind"])))
        failed = (
            series.sort("source_id", "segment_index")
            .group_by("source_id", maintain_order=True)
            .agg(kind=pl.col("error_kind").first(), is_all=pl.col("error_kind").is_not_null().all())
            .filter("is_all")
        )
        joined = sources.filter(pl.col("error_kind").is_null()).join(failed, on="source_id", how="inner")
        return joined.with_columns(error_kind="kind")

    def _scores(self, unit: int) -> Any:
        import polars as pl

        rows = pl.DataFrame(pl.from_arrow(self.scores.read(unit)))
        later = (("models", self.models), ("dedup", (self.duplicates,)), ("captions", self.captions))
        for name, ledgers in later[: max(0, GATES.index(self.gate) - 1)]:
            for table in ledgers:
                if table is not None and table.stamp(unit) is not None:
                    rows = _joined(rows, pl.DataFrame(pl.from_arrow(table.read(unit))), name)
        return rows

    def _with_unmeasured(self, rows: Any) -> Any:
        """With nulls for what rules look at and no table has: columns of a model whose weights are not here."""
        import polars as pl

        from pipelines.plan_check import columns_by_gate

        known = columns_by_gate(self.plan)
        for rule in self.plan.rules:
            if rule.gate in ("header", *GATES[GATES.index(self.gate) + 1 :]):
                continue
            for name in (rule.column, *([rule.where.column] if rule.where else [])):
                if name not in rows.columns:
                    nulls = pl.Series(pl.from_arrow(pa.nulls(rows.height, known[rule.gate][name])))
                    rows = rows.with_columns(nulls.alias(name))
        return rows

    def kept_ids(self, unit: int) -> list[str]:
        """Clips of tier train or condition_only, sorted."""
        import polars as pl

        kept = self.decide(unit).filter((pl.col("tier") != "reject") & pl.col("clip_id").is_not_null())
        return sorted(kept.get_column("clip_id"))

    def kept_hash(self, unit: int, kept: list[str] | None = None) -> str:
        """Input hash of what is computed for kept clips; `kept` if they are known already."""
        return files_hash(self.clips.content(unit), self.kept_ids(unit) if kept is None else kept)

    def kept_rows(self, unit: int) -> pa.Table:
        """Kept clips with their clip, source and score columns (the first table that has a name wins)."""
        import polars as pl

        kept = pl.DataFrame({"clip_id": self.kept_ids(unit)}, schema={"clip_id": pl.String})
        clips = pl.DataFrame(pl.from_arrow(self.clips.read(unit)))
        rows = kept.join(clips, on="clip_id", how="left", maintain_order="left")
        for table, key in ((self._scores(unit), "clip_id"), (self._sources(unit), "source_id")):
            fresh = [name for name in table.columns if name == key or name not in rows.columns]
            rows = rows.join(table.select(fresh), on=key, how="left", maintain_order="left")
        return _narrow(rows.drop("error_kind", "error", strict=False).to_arrow())

    def _sources(self, unit: int) -> Any:
        import polars as pl

        return pl.DataFrame(pl.from_arrow(self.sources.read(unit)))


def _joined(rows: Any, extra: Any, gate: str) -> Any:
    """`rows` with the new columns of another table; of a gate's errors the first stays, as `<gate>_error_kind`."""
    import polars as pl

    errors = {"error_kind": f"{gate}_error_kind", "error": f"{gate}_error"}
    extra = extra.drop("source_id", strict=False).rename(errors, strict=False)
    known = [name for name in errors.values() if name in rows.columns and name in extra.columns]
    fresh = [name for name in extra.columns if name == "clip_id" or name not in rows.columns or name in known]
    rows = rows.join(extra.select(fresh), on="clip_id", how="left", suffix="_later")
    is_failed = pl.col(errors["error_kind"]).is_not_null() if known else pl.lit(False)
    firsts = [pl.when(is_failed).then(pl.col(n)).otherwise(pl.col(f"{n}_later")).alias(n) for n in known]
    return rows.with_columns(firsts).drop([f"{name}_later" for name in known])


def _narrow(table: pa.Table) -> pa.Table:
    """polars' large strings and lists as the plain Arrow types of `reelmill.tables`."""
    return table.cast(pa.schema([pa.field(f.name, _narrow_type(f.type)) for f in table.schema]))


def _narrow_type(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return pa.string()
    if pa.types.is_large_list(dtype) or pa.types.is_list(dtype):
        return pa.list_(_narrow_type(dtype.value_type))
    if pa.types.is_struct(dtype):
        return pa.struct([pa.field(f.name, _narrow_type(f.type)) for f in dtype])
    return dtype


@dataclass(frozen=True)
class PackUnit:
    """Shards of a unit from its token parts: generation after generation, each file written once and never changed.

    A crash before the ledger is written leaves the parts and perhaps some files; the next run packs the same parts
    into the same files, byte for byte. `tokens/<spec>/unit-*.parquet` then says which generation holds which clip.
    """

    tokens: Ledger
    shards_rel: str
    spec: Any
    pack: "Pack"
    select: SelectUnit  # says which clips are to have tokens

    def __call__(self, unit: int) -> int:
        """Packs what the unit's parts hold; returns the number of token rows written."""
        stamp = self.tokens.stamp(unit)
        parts = self.tokens.parts(unit)
        kept = self.select.kept_ids(unit)
        input_hash = self.select.kept_hash(unit, kept)
        if not parts and (stamp.input == input_hash if stamp is not None else bool(kept)):
            return 0
        known = self.tokens.read(unit).to_pylist() if stamp is not None else []
        ledger = {row["clip_id"]: row for row in known}
        rows = [self.tokens.store.read_table(rel) for rel in parts]
        num_rows = 0
        if rows:
            num_rows = self._pack(unit, pa.concat_tables(rows), ledger)
        table = pa.Table.from_pylist([ledger[key] for key in sorted(ledger)], schema=arrow_schema(TOKEN_LEDGER))
        is_whole = all(clip in ledger for clip in kept)  # else tokenize still has work here
        self.tokens.write_unit(unit, table, input_hash if is_whole else "")
        self.tokens.delete_parts(unit, parts)
        return num_rows

    def _pack(self, unit: int, rows: pa.Table, ledger: dict[str, dict[str, Any]]) -> int:
        from pipelines.pack import pack_unit

        packed = {key for key, row in ledger.items() if row["generation"] is not None}
        generation = (
            max((row["generation"] for row in ledger.values() if row["generation"] is not None), default=-1) + 1
        )
        clips = rows.column("clip_id").to_pylist()
        rows = rows.filter(pa.array([clip not in packed for clip in clips], pa.bool_()))
        kinds = rows.column("error_kind").to_pylist()
        good = rows.filter(pa.array([kind is None for kind in kinds], pa.bool_())).drop_columns(["error_kind", "error"])
        if good.num_rows:
            files = pack_unit(
                good, self.spec, unit=unit, generation=generation, seed=self.pack.seed, max_mb=self.pack.max_mb
            )
            for name, data in files:
                self.tokens.store.write_bytes(f"{self.shards_rel}/{name}", data)
        self._record(rows, generation, ledger)
        return good.num_rows

    def _record(self, rows: pa.Table, generation: int, ledger: dict[str, dict[str, Any]]) -> None:
        keys = ["clip_id", "source_id", "window_index", "bucket", "error_kind", "error"]
        windows: dict[str, set[tuple[Any, Any]]] = {}
        for row in rows.select(keys).to_pylist():
            clip = row["clip_id"]
            entry = {"clip_id": clip, "source_id": row["source_id"], "num_rows": None, "generation": None}
            if row["error_kind"] is None:
                windows.setdefault(clip, set()).add((row["window_index"], row["bucket"]))
                num = len(windows[clip])
                ledger[clip] = entry | {"num_rows": num, "generation": generation, "error_kind": None, "error": None}
            elif clip not in windows:
                ledger[clip] = entry | {"error_kind": row["error_kind"], "error": row["error"]}


def write_spec(store: "Store", shards_rel: str, operator: Any) -> None:
    """Puts the spec, and the codebook if there is one, beside the shards, once."""
    if not store.exists(f"{shards_rel}/spec.json"):
        data = json.dumps(operator.spec.to_dict(), indent=1, sort_keys=True) + "\n"
        store.write_bytes(f"{shards_rel}/spec.json", data.encode())
    for name, data in operator.files_to_ship().items():
        if not store.exists(f"{shards_rel}/{name}"):
            store.write_bytes(f"{shards_rel}/{name}", data)


def count_rows(
    sources: Ledger, clips: Ledger, selection: Ledger, units_of: Callable[[Ledger], list[int]]
) -> dict[str, Any]:
    """Totals for the manifest: sources and their errors, clips, tiers and splits."""
    counts: dict[str, Any] = {"sources": 0, "sources_failed": {}, "clips": 0, "tiers": {}, "splits": {}}
    for unit in units_of(sources):
        table = sources.read(unit, ["error_kind"])
        counts["sources"] += table.num_rows
        _tally(counts["sources_failed"], [k for k in table.column("error_kind").to_pylist() if k])
    for unit in units_of(clips):
        counts["clips"] += clips.store.num_rows(clips.unit_file(unit))
    for unit in units_of(selection):
        rows = [r for r in selection.read(unit, ["clip_id", "tier", "split"]).to_pylist() if r["clip_id"]]
        _tally(counts["tiers"], [row["tier"] for row in rows])
        _tally(counts["splits"], [row["split"] for row in rows if row["tier"] != "reject"])
    return counts


def _tally(counts: dict[str, int], values: list[str]) -> None:
    for value in values:
        counts[value] = counts.get(value, 0) + 1
