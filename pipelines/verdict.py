# SPDX-License-Identifier: Apache-2.0
"""Evaluating rules over columns: which rows fail, with which value, as Arrow columns. numpy over whole columns."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from pipelines.recipe_text import nearest
from pipelines.rules import GATES, Rule, Where, type_problem
from reelmill.tables import REASON

FAILED, UNMEASURED = "failed:", "unmeasured:"


@dataclass
class _Findings:
    """Reasons of one kind: which rows, with which value, for which rule."""

    rows: np.ndarray
    values: np.ndarray  # float64, NaN where null
    texts: pa.Array
    rule: dict[str, Any]


@dataclass
class Verdict:
    """What is known about each row while the gates are gone through."""

    num_rows: int
    findings: list[_Findings] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.is_open = np.ones(self.num_rows, bool)  # not rejected by an earlier gate
        self.is_rejected = np.zeros(self.num_rows, bool)
        self.is_condition = np.zeros(self.num_rows, bool)
        self.closed_at = np.full(self.num_rows, -1, np.int8)  # index into GATES of the last gate gone through

    def fail(self, rows: pl.DataFrame, column: str, gate: str) -> None:
        """Rows that could not be computed: no rule of this gate or a later one is evaluated for them."""
        if column not in rows.columns:
            return
        kinds = rows.get_column(column)
        for kind in sorted(kinds.drop_nulls().unique().to_list()):
            is_hit = (kinds == kind).fill_null(False).to_numpy() & self.is_open
            self._add(np.flatnonzero(is_hit), None, _reason(FAILED + kind, column, gate, "computed", True))
            self.is_rejected |= is_hit
            self.is_open &= ~is_hit

    def apply(self, rows: pl.DataFrame, rule: Rule, column: str) -> None:
        prefix = column.removesuffix(rule.column)
        for name in (rule.column, *([rule.where.column] if rule.where else [])):
            if prefix + name not in rows.columns:
                near = nearest(prefix + name, rows.columns)
                raise ValueError(f"rule {rule.name!r}: there is no column {name!r} at gate {rule.gate}{near}")
        problem = type_problem(rule, rows.select(column).head(0).to_arrow().schema.field(0).type)
        if problem:
            raise ValueError(f"rule {rule.name!r}: {problem}")
        values, is_bad = _evaluate(rows.get_column(column), rule)
        is_null = values.is_null().to_numpy()
        place = (rule.column, rule.gate, rule.threshold)
        is_meant = np.ones(rows.height, bool) if rule.where is None else _is_within(rows, rule.where, prefix)
        self._hit(is_bad & ~is_null & is_meant, values, _reason(rule.name, *place, False), rule.tier)
        if rule.on_null == "reject":
            self._hit(is_null & is_meant, None, _reason(UNMEASURED + rule.column, *place, True), rule.tier)

    def close_gate(self, gate: str) -> None:
        self.closed_at[self.is_open] = GATES.index(gate)
        self.is_open &= ~self.is_rejected

    def _hit(self, is_hit: np.ndarray, values: pl.Series | None, reason: dict[str, Any], tier: str) -> None:
        is_hit = is_hit & self.is_open
        self._add(np.flatnonzero(is_hit), values, reason)
        target = self.is_rejected if tier == "reject" else self.is_condition
        target |= is_hit

    def _add(self, hits: np.ndarray, values: pl.Series | None, reason: dict[str, Any]) -> None:
        if len(hits) == 0:
            return
        numbers, texts = np.full(len(hits), np.nan), pa.nulls(len(hits), pa.string())
        if values is not None:
            taken = values.gather(hits)
            if taken.dtype.is_numeric():
                numbers = taken.cast(pl.Float64).to_numpy()
            else:
                texts = taken.cast(pl.String).to_arrow().cast(pa.string())
        self.findings.append(_Findings(hits, numbers, texts, reason))

    def reasons(self) -> pa.Array:
        """list<REASON> per row, in the order in which the rules were applied."""
        if not self.findings:
            return pa.array([[]] * self.num_rows, pa.list_(REASON))
        hits = np.concatenate([f.rows for f in self.findings])
        order = np.argsort(hits, kind="stable")
        which = np.repeat(np.arange(len(self.findings)), [len(f.rows) for f in self.findings])[order]
        numbers = np.concatenate([f.values for f in self.findings])[order]
        fixed = {
            name: pa.array([f.rule[name] for f in self.findings], REASON.field(name).type).take(pa.array(which))
            for name in ("rule", "column", "gate", "threshold", "unmeasured")
        }
        fixed["value"] = pa.array(numbers, pa.float64(), from_pandas=True)  # NaN -> null
        fixed["value_text"] = pa.concat_arrays([f.texts for f in self.findings]).take(pa.array(order))
        struct = pa.StructArray.from_arrays([fixed[f.name] for f in REASON], fields=list(REASON))
        offsets = np.zeros(self.num_rows + 1, np.int32)
        np.cumsum(np.bincount(hits, minlength=self.num_rows), out=offsets[1:])
        return pa.ListArray.from_arrays(pa.array(offsets), struct)

    def tiers(self) -> pa.Array:
        code = np.where(self.is_rejected, 2, np.where(self.is_condition, 1, 0))
        return pa.array(["train", "condition_only", "reject"]).take(pa.array(code))

    def decided_gates(self) -> pa.Array:
        """The last gate gone through; `header` for rows that failed before any rule was evaluated."""
        return pa.array(GATES).take(pa.array(np.maximum(self.closed_at, 0)))


def _reason(rule: str, column: str, gate: str, threshold: str, unmeasured: bool) -> dict[str, Any]:
    return {"rule": rule, "column": column, "gate": gate, "threshold": threshold, "unmeasured": unmeasured}


def _is_within(rows: pl.DataFrame, where: Where, prefix: str) -> np.ndarray:
    values = rows.get_column(prefix + where.column).cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return ~_outside(values, where) & ~np.isnan(values)


def _evaluate(series: pl.Series, rule: Rule) -> tuple[pl.Series, np.ndarray]:
    """The value that the rule judges (null: unmeasured) and whether it fails; arbitrary where null."""
    if rule.max_bad_share is not None:
        shares = _bad_share(series, rule)
        return shares, (shares > rule.max_bad_share).fill_null(False).to_numpy()
    if series.dtype.is_float():
        series = series.fill_nan(None)
    if rule.in_ is not None:
        allowed = pl.Series(list(rule.in_)).cast(series.dtype).implode()
        return series, (~series.is_in(allowed)).fill_null(False).to_numpy()
    return series, _outside(series.to_numpy(), rule)


def _bad_share(series: pl.Series, rule: Rule) -> pl.Series:
    """Share of the measured samples outside the rule's bounds; null without one measured sample."""
    lists = series.rechunk().to_arrow()
    offsets = np.asarray(lists.offsets)
    samples = lists.values.to_numpy(zero_copy_only=False)
    is_measured = ~np.isnan(samples)
    num_bad = _per_list(_outside(samples, rule) & is_measured, offsets)
    num = np.where(series.is_null().to_numpy(), 0, _per_list(is_measured, offsets))
    shares = np.divide(num_bad, num, out=np.full(len(num), np.nan), where=num > 0)
    return pl.Series(shares).fill_nan(None)


def _per_list(flags: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    sums = np.concatenate([[0], np.cumsum(flags)])
    return sums[offsets[1:]] - sums[offsets[:-1]]


def _outside(values: np.ndarray, rule: Rule | Where) -> np.ndarray:
    """Whether each value lies outside [min, max]; a float column compares at its own precision, so that a stored
    float32 0.12 is not less than the recipe's 0.12."""
    to = values.dtype.type if values.dtype.kind == "f" else np.float64
    is_bad = np.zeros(len(values), bool)
    if rule.min is not None:
        is_bad |= values < to(rule.min)
    if rule.max is not None:
        is_bad |= values > to(rule.max)
    return is_bad
