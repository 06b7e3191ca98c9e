# SPDX-License-Identifier: Apache-2.0
"""Does each operator and rule find the columns it wants? Asked before a row moves."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from captioning.checks.table import CAPTION_CHECKS, CAPTION_TWINS
from operators import cut, measure
from operators.contract import Operator
from pipelines.dedup import DUPLICATES
from pipelines.recipe_text import nearest
from pipelines.rules import GATES, HEADER_COLUMNS, Rule, type_problem
from reelmill import tables
from reelmill.column import Column

if TYPE_CHECKING:
    from pipelines.plan import Plan

LISTED = ("relpath", "uri", "size_bytes", "etag", "mtime_s", "title", "tags", "extra_json")
STATE_NAMES = frozenset(column.name for column in tables.STATE)

Columns = dict[str, pa.DataType]


class PlanError(ValueError):
    """A plan that cannot run: names the operator or rule, the column, and the nearest one that exists."""


def check_plan(plan: "Plan") -> None:
    """Raises PlanError; see `pipelines.plan.check`."""
    sources = types_of(tables.SOURCES)
    _check_reads(plan.probe, {name: sources[name] for name in LISTED}, "the listing")
    _check_reads(plan.measure, sources | types_of(measure.WORK), "the sources table")
    _check_writes([*tables.SERIES, *(column for meter in plan.meters for column in meter.writes)], "series")
    needed = cut.needed_columns(plan.cut.detector)
    missing = [name for name in needed if name not in types_of(plan.series_columns)]
    if missing:
        raise PlanError(
            f"shots are cut from {', '.join(missing)}: add {{meter: {needed[missing[0]]}}} to measure.meters"
        )
    clips = scored_types(plan)
    for operator in plan.models:
        _check_reads(operator, clips, "what is known of a clip")
        _check_writes([Column(name, dtype, "-") for name, dtype in clips.items()] + _results(operator), "scores")
        clips |= types_of(_results(operator))
    if plan.dedup is not None:
        _check_dedup(plan.dedup.columns, clips)
    for operator in (*([plan.caption] if plan.caption is not None else []), *plan.tokenizers):
        _check_reads(operator, clips, "what is known of a clip")
    if plan.caption is not None:
        for index, trigger in enumerate(plan.caption.budget.triggers):
            _check_number(trigger.column, clips, f"captions.budget.triggers[{index}]")
        if plan.caption.budget.details is not None and "text_boxes" not in clips:
            raise PlanError("captions.budget.details: nothing reads text; add {op: text} to models")
    _check_after_captions(plan, clips)
    for operator in plan.tokenizers:
        _check_writes([*tables.SHARD_KEYS, *_new(operator, tables.SHARD_KEYS)], f"shards of {operator.name}")
    for index, rule in enumerate(plan.rules):
        _check_rule(rule, index, columns_by_gate(plan))


def _check_after_captions(plan: "Plan", clips: Columns) -> None:
    known = types_of(tables.CAPTIONS) | clips
    written = [Column(name, dtype, "-") for name, dtype in (clips | types_of(caption_columns())).items()]
    for operator in plan.after_captions:
        is_by_rendering = tables.RENDERING in operator.reads
        _check_reads(
            operator, known | types_of(tables.RENDERINGS if is_by_rendering else ()), "what is known of a caption"
        )
        if not is_by_rendering:
            written += _results(operator)
            _check_writes(written, "scores")


def _check_dedup(keep: Iterable[str], known: Columns) -> None:
    for name in keep:
        if name not in known:
            raise PlanError(f"dedup.keep: there is no column {name!r}{nearest(name, known)}")
        if not (pa.types.is_integer(known[name]) or pa.types.is_floating(known[name])):
            raise PlanError(f"dedup.keep needs numbers, {name!r} is {known[name]}")


def scored_types(plan: "Plan") -> Columns:
    """Name -> type of what is known of a clip after the measure round; clip before scores before source."""
    return types_of(tables.SOURCES) | types_of(plan.score_columns) | types_of(tables.CLIPS)


def columns_by_gate(plan: "Plan") -> dict[str, Columns]:
    """Gate -> the columns that its rules may look at."""
    header = types_of(tables.SOURCES) | types_of(HEADER_COLUMNS)
    measure = _without_state(types_of(plan.score_columns))
    models = measure | types_of(column for operator in plan.models for column in _results(operator))
    dedup = models | (types_of(DUPLICATES) if plan.dedup is not None else {})
    captions = dedup | (types_of(caption_columns()) if plan.caption is not None else {})
    scored = [operator for operator in plan.after_captions if tables.RENDERING not in operator.reads]
    captions |= types_of(column for operator in scored for column in _results(operator))
    found = {"header": header, "measure": measure, "models": models, "dedup": dedup, "captions": captions}
    return {gate: _without_state(columns) for gate, columns in found.items()}


def caption_columns() -> tuple[Column, ...]:
    """Columns of the captions and of their checks."""
    return (*tables.CAPTIONS, *CAPTION_CHECKS, *CAPTION_TWINS)


def types_of(columns: Iterable[Column]) -> Columns:
    return {column.name: column.dtype for column in columns}


def _check_reads(operator: Operator, known: Columns, where: str) -> None:
    for column in operator.reads:
        if column.name not in known:
            near = nearest(column.name, known)
            raise PlanError(f"{operator.name} reads {column.name!r}, which is not in {where}{near}")
        if known[column.name] != column.dtype:
            raise PlanError(
                f"{operator.name} reads {column.name!r} as {column.dtype}, in {where} it is {known[column.name]}"
            )


def _check_writes(columns: Iterable[Column], table: str) -> None:
    seen: set[str] = set()
    for column in columns:
        if column.name in seen:
            raise PlanError(f"column {column.name!r} of {table} is written twice")
        seen.add(column.name)


def _check_rule(rule: Rule, index: int, gates: Mapping[str, Columns]) -> None:
    place = f"rules[{index}] ({rule.name})"
    known = gates[rule.gate]
    if rule.column not in known:
        later = [gate for gate in GATES if rule.column in gates[gate]]
        near = f"; it exists at gate {later[0]!r}" if later else nearest(rule.column, known)
        raise PlanError(f"{place}: there is no column {rule.column!r} at gate {rule.gate!r}{near}")
    problem = type_problem(rule, known[rule.column])
    if problem:
        raise PlanError(f"{place}: {problem}")
    if rule.where is not None:
        _check_number(rule.where.column, known, f"{place}: where")


def _check_number(column: str, known: Columns, place: str) -> None:
    if column not in known:
        raise PlanError(f"{place}: there is no column {column!r} here{nearest(column, known)}")
    if not (pa.types.is_integer(known[column]) or pa.types.is_floating(known[column])):
        raise PlanError(f"{place} needs a number, {column!r} is {known[column]}")


def _results(operator: Operator) -> list[Column]:
    return [column for column in operator.writes if column.name not in STATE_NAMES]


def _new(operator: Operator, keys: Iterable[Column]) -> list[Column]:
    names = {column.name for column in keys}
    return [column for column in _results(operator) if column.name not in names]


def _without_state(columns: Columns) -> Columns:
    return {name: dtype for name, dtype in columns.items() if name not in STATE_NAMES}
