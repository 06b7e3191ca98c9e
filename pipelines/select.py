# SPDX-License-Identifier: Apache-2.0
"""Which clips are kept, and why not: one pure function over whatever was measured.

Rules are evaluated gate by gate (header, measure, models, dedup, captions). A clip that is rejected at a gate is not
looked at by the gates behind it, because nothing dearer is computed for it; so its row is the same whether or not
dearer scores happen to exist from an earlier, looser recipe. All rules of a gate are evaluated, so a row lists each one
it fails.

`gate=header` rules look at `sources` (and HEADER_COLUMNS, derived here), all others at the clip's scores: `fps` is the
file's in a header rule and the clip's in a measure rule.

Three things are not the same and are counted apart: a value outside a rule's bounds (reason `<rule>`), a value that
nobody could measure (`unmeasured:<column>`), and a row that failed to compute (`failed:<error_kind>`).
"""

from collections.abc import Iterable, Sequence

import polars as pl
import pyarrow as pa

from operators.cut import SplitConfig
from pipelines.rules import GATES, Rule
from pipelines.verdict import FAILED, Verdict
from reelmill.column import arrow_schema
from reelmill.ids import split_of
from reelmill.tables import SELECTION

SELECTION_SCHEMA = arrow_schema(SELECTION)
SPLIT_GROUP = "split_group"  # column of gate dedup
SOURCE_PREFIX = "source:"  # header columns of a clip's source, while its clips are decided
# The column that says that a row failed to compute, per gate; the clip's own `error_kind` belongs to `measure`.
ERROR_COLUMNS = {
    "header": "error_kind",
    "measure": "error_kind",
    "models": "models_error_kind",
    "dedup": "dedup_error_kind",
    "captions": "captions_error_kind",
}


def decide(
    rows: pl.DataFrame,
    rules: Sequence[Rule],
    *,
    gate: str,
    split: SplitConfig | None = None,
    sources: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Tier and reasons of each clip, sorted by clip id.

    Reads:  clip_id, source_id, error_kind if present (a failed row: tier reject, reason `failed:<kind>`),
            `models_error_kind` and `captions_error_kind` likewise at their gates, and the rules' columns.
    Writes: the columns of `reelmill.tables.SELECTION`; `decided_gate` is the gate that rejected the clip, else `gate`.

    Args:
        rows: one row per clip; all score tables joined by clip id.
        gate: the last gate to evaluate; rules of later gates are not looked at.
        split: train/val split, by hash of the source; null: the default one.
        sources: the clips' source rows, to evaluate header rules too (one that says condition_only marks the clips).
            Null: header rules are left to `decide_sources`.

    Raises:
        ValueError: an unknown gate, a rule's column that `rows` lacks, or one of the wrong type.
    """
    if gate not in GATES:
        raise ValueError(f"gate {gate!r} is none of {', '.join(GATES)}")
    rows = rows.sort("clip_id")
    if sources is not None:
        rows = rows.join(_prefixed(sources), on="source_id", how="left", maintain_order="left")
    verdict = Verdict(rows.height)
    for name in GATES[: GATES.index(gate) + 1]:
        at_gate = [rule for rule in rules if rule.gate == name]
        if name == "header":
            for rule in at_gate if sources is not None else []:
                verdict.apply(rows, rule, SOURCE_PREFIX + rule.column)
        else:
            if name == "measure" or at_gate:  # a failed caption matters only to a rule that looks at captions
                verdict.fail(rows, ERROR_COLUMNS[name], name)
            for rule in at_gate:
                verdict.apply(rows, rule, rule.column)
        verdict.close_gate(name)
    return _selection(rows, verdict, split or SplitConfig())


def decide_sources(sources: pl.DataFrame, rules: Sequence[Rule], *, split: SplitConfig | None = None) -> pl.DataFrame:
    """The header rules' verdict on each source, sorted by source id; `clip_id` is null.

    Every source has a row. Only those of tier `reject` need no decoding and go into the selection table as they are;
    the clips of a `condition_only` source become so in `decide(..., sources=...)`.
    """
    rows = with_header_columns(sources).sort("source_id")
    verdict = Verdict(rows.height)
    verdict.fail(rows, ERROR_COLUMNS["header"], "header")
    for rule in rules:
        if rule.gate == "header":
            verdict.apply(rows, rule, rule.column)
    verdict.close_gate("header")
    rows = rows.select("source_id", clip_id=pl.lit(None, pl.String))
    return _selection(rows, verdict, split or SplitConfig())


def decide_unit(
    sources: pl.DataFrame, scores: pl.DataFrame, rules: Sequence[Rule], *, gate: str, split: SplitConfig | None = None
) -> pl.DataFrame:
    """The whole selection of a unit: a row per source that the header gate rejects, then a row per clip of the others.

    Clips that an earlier recipe computed for a source that is rejected now are left out: the table is what a fresh run
    would write.
    """
    headers = decide_sources(sources, rules, split=split).filter(pl.col("tier") == "reject")
    clips = scores.join(headers.select("source_id"), on="source_id", how="anti", maintain_order="left")
    return pl.concat([headers, decide(clips, rules, gate=gate, split=split, sources=sources)])


def with_header_columns(sources: pl.DataFrame) -> pl.DataFrame:
    """`sources` and the columns of HEADER_COLUMNS, null where the size is."""
    width, height = pl.col("width_px"), pl.col("height_px")
    is_known = width.is_not_null() & height.is_not_null()
    return sources.with_columns(
        long_side_px=pl.when(is_known).then(pl.max_horizontal(width, height)),
        short_side_px=pl.when(is_known).then(pl.min_horizontal(width, height)),
        display_aspect=width * pl.col("pixel_aspect") / height,
    )


def selection_table(selection: pl.DataFrame) -> pa.Table:
    """The selection with exactly the Arrow schema of `tables.SELECTION`."""
    return selection.to_arrow().select(SELECTION_SCHEMA.names).cast(SELECTION_SCHEMA)


def summary(selection: pl.DataFrame) -> pl.DataFrame:
    """Counts of a selection: first one row per outcome, then one row per (gate, rule) that anything failed.

    Writes: outcome (train, condition_only, reject, failed; null in rule rows), gate, rule, threshold (null in outcome
            rows), num_clips, num_clips_alone (clips for which this is the only reason), num_sources (rows without a
            clip: files that were never decoded). A failed row counts as failed, never as reject.
    """
    rules = pl.col("reasons").list.eval(pl.element().struct.field("rule"))
    is_failed = rules.list.eval(pl.element().str.starts_with(FAILED)).list.any()
    is_clip = pl.col("clip_id").is_not_null()
    outcome = pl.when(is_failed).then(pl.lit("failed")).otherwise(pl.col("tier"))
    totals = selection.group_by(outcome.alias("outcome")).agg(num_clips=is_clip.sum(), num_sources=(~is_clip).sum())
    reasons = (
        selection.with_row_index("row")
        .select("row", "clip_id", "reasons", is_alone=pl.col("reasons").list.len() == 1)
        .explode("reasons", empty_as_null=False, keep_nulls=False)
        .unnest("reasons")
    )
    by_rule = reasons.group_by("gate", "rule", "threshold").agg(
        num_clips=pl.col("clip_id").drop_nulls().n_unique(),
        num_clips_alone=(is_clip & pl.col("is_alone")).sum(),
        num_sources=pl.col("row").filter(~is_clip).n_unique(),  # a file that could not be read has no source_id
    )
    return _in_order(pl.concat([totals, by_rule], how="diagonal"))


def merge_summaries(summaries: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The summary of several units together: all counts add up."""
    keys, counts = ["outcome", "gate", "rule", "threshold"], ["num_clips", "num_clips_alone", "num_sources"]
    return _in_order(pl.concat(summaries).group_by(keys).agg(pl.col(counts).sum()))


def _in_order(table: pl.DataFrame) -> pl.DataFrame:
    order = ["train", "condition_only", "reject", "failed"]
    columns = ["outcome", "gate", "rule", "threshold", "num_clips", "num_clips_alone", "num_sources"]
    counts = [pl.col(name).cast(pl.Int64).fill_null(0) for name in columns[4:]]
    ranks = [
        pl.col("outcome").replace_strict(order, range(len(order)), default=len(order), return_dtype=pl.Int64),
        pl.col("gate").replace_strict(list(GATES), range(len(GATES)), default=-1, return_dtype=pl.Int64),
    ]
    texts = [pl.col(name).cast(pl.String) for name in columns[:4]]
    return table.select(*texts, *counts).sort(*ranks, "rule", "threshold")


def _prefixed(sources: pl.DataFrame) -> pl.DataFrame:
    rows = with_header_columns(sources)
    return rows.rename({name: SOURCE_PREFIX + name for name in rows.columns if name != "source_id"})


def _selection(rows: pl.DataFrame, verdict: Verdict, split: SplitConfig) -> pl.DataFrame:
    ids = rows.get_column("source_id")
    side_by = [name for name in (SPLIT_GROUP, "source_id") if name in rows.columns]
    groups = rows.select(pl.coalesce(side_by)).to_series()  # sources that near duplicates connect share one side
    names = groups.unique()
    sides = pl.Series([split_of(name, split.val_fraction, split.seed) for name in names], dtype=pl.String)
    return pl.DataFrame(
        {
            "clip_id": rows.get_column("clip_id"),
            "source_id": ids,
            "tier": pl.Series(pl.from_arrow(verdict.tiers())),
            "split": groups.replace_strict(names, sides, return_dtype=pl.String),
            "decided_gate": pl.Series(pl.from_arrow(verdict.decided_gates())),
            "reasons": pl.Series(pl.from_arrow(verdict.reasons())),
        }
    )
