# SPDX-License-Identifier: Apache-2.0
"""Counts over the whole data set, unit by unit, and the few rows that the report shows in full.

Nothing is held per clip but one number per rule column; so a million clips fit.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from reelmill.storage import Store

pc: Any = pyarrow.compute  # its functions are made when it is imported; type checkers do not see them

MAX_SHOWN = 24  # clips of each kind on the contact sheet
MAX_FAILURES = 60  # failed rows listed with their messages
FAILED = "failed:"  # begins the reason of a row that could not be computed; it counts as failed, not as rejected
GATES = ("header", "measure", "models", "dedup", "captions")


@dataclass(frozen=True, order=True)
class Pick:
    """A clip (or, with an empty clip id, a source) to be shown, and the unit file it is in."""

    clip_id: str
    source_id: str
    unit: str
    rule: str = ""


@dataclass
class RuleCount:
    """How many clips (or sources, at the header gate) a rule turned away."""

    gate: str
    threshold: str
    column: str
    unmeasured: bool
    num: int = 0
    alone: int = 0


@dataclass
class Failure:
    """A row that could not be made; `name` is its source's relative path."""

    stage: str
    kind: str
    error: str
    source_id: str
    name: str = ""


@dataclass
class Census:
    """What there is."""

    num_sources: int = 0
    num_images: int = 0
    num_readable: int = 0
    num_uhd: int = 0
    source_s: float = 0.0
    source_bytes: int = 0
    num_clips: int = 0
    clips_s: float = 0.0
    kept_s: float = 0.0
    tiers: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    header_rejected: int = 0
    lost_at: Counter[str] = field(default_factory=Counter)
    rules: dict[str, RuleCount] = field(default_factory=dict)
    failed: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    failures: list[Failure] = field(default_factory=list)
    num_damaged: int = 0
    num_failed_clips: int = 0
    num_captioned: int = 0
    tokens: dict[str, Counter[str]] = field(default_factory=dict)
    shard_bytes: int = 0
    kept: list[Pick] = field(default_factory=list)
    rejected: list[Pick] = field(default_factory=list)
    values: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = field(default_factory=dict)
    is_decided: bool = False


def unit_files(store: Store, rel: str | None) -> list[str]:
    """Names of the finished units' files of a table; none if there is no such table."""
    return [n for n in store.list(rel) if n.startswith("unit-") and n.endswith(".parquet")] if rel else []


def read_units(store: Store, rel: str | None, columns: list[str]) -> Iterator[tuple[str, pa.Table]]:
    """Each unit's file name and those of `columns` that the table has."""
    for name in unit_files(store, rel):
        with store.open_parquet(f"{rel}/{name}") as file:
            have = [c for c in columns if c in file.schema_arrow.names]
            yield name, file.read(columns=have)


def take_census(store: Store, manifest: dict[str, Any]) -> Census:
    """Reads every table once, only the columns that are counted."""
    tables = manifest["tables"]
    census = Census()
    _sources(store, tables.get("sources"), census)
    _failed_rows(store, tables.get("series"), "measure", census)
    _clips(store, tables.get("clips"), census)
    _selection(store, tables, manifest.get("recipe") or {}, census)
    for name, rel in (tables.get("scores") or {}).items():
        if name != "measure":
            _failed_rows(store, rel, name, census)
    _captions(store, tables.get("captions"), census)
    for rel in tables.get("tokens") or []:
        _tokens(store, rel, census)
    for rel in tables.get("shards") or []:
        census.shard_bytes += sum(store.size(f"{rel}/{n}") for n in store.list(rel) if n.endswith(".parquet"))
    _name_failures(store, tables.get("sources"), census)
    return census


def _name_failures(store: Store, rel: str | None, census: Census) -> None:
    wanted = {f.source_id for f in census.failures}
    names: dict[str, str] = {}
    for _, table in read_units(store, rel, ["source_id", "relpath"]) if wanted else ():
        names |= {row["source_id"]: row["relpath"] for row in table.to_pylist() if row["source_id"] in wanted}
    for failure in census.failures:
        failure.name = failure.name or names.get(failure.source_id, failure.source_id)


def _sources(store: Store, rel: str | None, census: Census) -> None:
    columns = [
        "source_id",
        "relpath",
        "size_bytes",
        "media",
        "duration_s",
        "width_px",
        "height_px",
        "error_kind",
        "error",
    ]
    for _, table in read_units(store, rel, columns):
        census.num_sources += table.num_rows
        census.source_bytes += pc.sum(table["size_bytes"]).as_py() or 0
        good = table.filter(pc.is_null(table["error_kind"]))
        census.num_readable += good.num_rows
        census.num_images += pc.sum(pc.equal(good["media"], "image")).as_py() or 0
        census.source_s += pc.sum(good["duration_s"]).as_py() or 0.0
        long_side = pc.max_element_wise(good["width_px"], good["height_px"])
        census.num_uhd += pc.sum(pc.greater_equal(long_side, 3840)).as_py() or 0
        _add_failures("probe", table, census)


def _add_failures(stage: str, table: pa.Table, census: Census) -> None:
    """Counts failed rows and remembers the first messages."""
    bad = table.filter(pc.is_valid(table["error_kind"]))
    for row in bad.to_pylist():
        census.failed[stage][row["error_kind"]] += 1
        if len(census.failures) < MAX_FAILURES:
            failure = Failure(
                stage, row["error_kind"], row["error"] or "", row["source_id"] or "", row.get("relpath") or ""
            )
            census.failures.append(failure)


def _failed_rows(store: Store, rel: str | None, stage: str, census: Census) -> None:
    columns = ["source_id", "clip_id", "segment_index", "damage", "num_corrupt_frames", "error_kind", "error"]
    for _, table in read_units(store, rel, columns):
        _add_failures(stage, table, census)
        if "damage" in table.column_names:
            census.num_damaged += table.num_rows - table["damage"].null_count


def _clips(store: Store, rel: str | None, census: Census) -> None:
    for _, table in read_units(store, rel, ["duration_s"]):
        census.num_clips += table.num_rows
        census.clips_s += pc.sum(table["duration_s"]).as_py() or 0.0


def _selection(store: Store, tables: dict[str, Any], recipe: dict[str, Any], census: Census) -> None:
    soft = {rule["name"] for rule in recipe.get("rules", []) if rule.get("tier") == "condition_only"}
    rejects: dict[str, list[Pick]] = defaultdict(list)
    kept: list[Pick] = []
    for unit, table in read_units(store, tables.get("selection"), ["clip_id", "source_id", "tier", "split", "reasons"]):
        census.is_decided = True
        tiers: dict[str, str] = {}
        for row in table.to_pylist():
            first = _count_reasons(row, soft, census)
            if first.startswith(FAILED):
                census.num_failed_clips += row["clip_id"] is not None
                continue
            if row["clip_id"] is None:
                census.header_rejected += row["tier"] == "reject"
                pick = Pick("", row["source_id"], unit, first)
            else:
                tiers[row["clip_id"]] = row["tier"]
                pick = Pick(row["clip_id"], row["source_id"], unit, first)
            if row["tier"] == "reject":
                rejects[first].append(pick)
            elif row["clip_id"] is not None:
                kept.append(pick)
                census.splits[row["split"]] += 1
        census.tiers.update(tiers.values())
        kept = heapq.nsmallest(MAX_SHOWN, kept)
        rejects = defaultdict(list, {rule: heapq.nsmallest(MAX_SHOWN, picks) for rule, picks in rejects.items()})
        _rule_values(store, tables, unit, recipe, tiers, census)
    census.kept, census.rejected = kept, _spread(rejects)


def _count_reasons(row: dict[str, Any], soft: set[str], census: Census) -> str:
    """Adds a row's reasons to the rule counts; gives the rule that turned it away first ("" if none did)."""
    reasons = row["reasons"] or []
    for reason in reasons:
        if reason["rule"].startswith(FAILED):
            continue
        count = census.rules.setdefault(
            reason["rule"], RuleCount(reason["gate"], reason["threshold"], reason["column"], bool(reason["unmeasured"]))
        )
        count.num += 1
        count.alone += len(reasons) == 1
    if row["tier"] != "reject":
        return ""
    first = next((r for r in reasons if r["rule"] not in soft), reasons[0] if reasons else None)
    gate = first["gate"] if first else "measure"
    rule = first["rule"] if first else "no reason given"
    if row["clip_id"] is not None and not rule.startswith(FAILED):
        census.lost_at[gate] += 1
    return rule


def _spread(rejects: dict[str, list[Pick]]) -> list[Pick]:
    """Rejected clips in turn over the rules, so that each rule is seen; those of one rule stay together."""
    chosen: dict[str, list[Pick]] = {rule: [] for rule in sorted(rejects)}
    for round_ in range(MAX_SHOWN):
        for rule in chosen:
            if round_ < len(rejects[rule]) and sum(map(len, chosen.values())) < MAX_SHOWN:
                chosen[rule].append(rejects[rule][round_])
    return [pick for rule in chosen for pick in chosen[rule]]


def rule_key(rule: dict[str, Any]) -> str:
    """What is judged: the column, and for a share of samples also the bounds."""
    return rule["name"] if rule.get("max_bad_share") is not None else rule["column"]


def _rule_values(
    store: Store, tables: dict[str, Any], unit: str, recipe: dict[str, Any], tiers: dict[str, str], census: Census
) -> None:
    """Adds this unit's judged values of every numeric rule, kept and rejected apart."""
    judged = [r for r in recipe.get("rules", []) if r.get("in") is None and r.get("gate") != "header"]
    rules = {rule_key(rule): rule for rule in judged}.values()  # two rules on one number: its values once
    for table_rel in (*(tables.get("scores") or {}).values(), tables.get("duplicates")):
        if not table_rel or not store.exists(f"{table_rel}/{unit}"):
            continue
        wanted = ["clip_id", *dict.fromkeys(r["column"] for r in rules)]
        with store.open_parquet(f"{table_rel}/{unit}") as file:
            table = file.read(columns=[c for c in wanted if c in file.schema_arrow.names])
        is_kept = np.array([tiers.get(c) not in (None, "reject") for c in table["clip_id"].to_pylist()], bool)
        for rule in rules:
            if rule["column"] in table.column_names:
                values = judged_values(table[rule["column"]], rule)
                if values is not None:
                    kept, rejected = census.values.setdefault(rule_key(rule), ([], []))
                    kept.append(values[is_kept])
                    rejected.append(values[~is_kept])


def judged_values(column: pa.ChunkedArray, rule: dict[str, Any]) -> np.ndarray | None:
    """float64 per clip, NaN where unmeasured; None if the column is neither a number nor a list of samples."""
    if rule.get("max_bad_share") is None:
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        is_number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        return column.cast(pa.float64()).to_numpy() if is_number else None
    out = np.full(len(column), np.nan)
    for index, samples in enumerate(column.to_pylist()):
        measured = np.array([s for s in samples or [] if s is not None], np.float32)
        if len(measured):
            low, high = (
                np.float32(rule[k] if rule.get(k) is not None else d) for k, d in (("min", -np.inf), ("max", np.inf))
            )
            out[index] = np.mean((measured < low) | (measured > high))
    return out


def _captions(store: Store, rel: str | None, census: Census) -> None:
    for _, table in read_units(store, rel, ["clip_id", "source_id", "error_kind", "error"]):
        good = table.filter(pc.is_null(table["error_kind"]))
        census.num_captioned += pc.count_distinct(good["clip_id"]).as_py()
        _add_failures("caption", table, census)


def _tokens(store: Store, rel: str, census: Census) -> None:
    counts = census.tokens.setdefault(rel.rsplit("/", 1)[-1], Counter())
    for _, table in read_units(store, rel, ["clip_id", "source_id", "num_rows", "error_kind", "error"]):
        good = table.filter(pc.is_null(table["error_kind"]))
        counts["clips"] += good.num_rows
        counts["rows"] += pc.sum(good["num_rows"]).as_py() or 0
        _add_failures("tokenize", table, census)
