# SPDX-License-Identifier: Apache-2.0
"""Everything known about the few clips and sources that the report shows in full."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from pipelines.report.census import Pick
from reelmill.storage import Store

pc: Any = pyarrow.compute  # its functions are made when it is imported; type checkers do not see them

MAX_TIMELINES = 6


@dataclass
class Detail:
    """A clip (or a source without clips: then `clip` is empty) with its rows of every table."""

    pick: Pick
    source: dict[str, Any] = field(default_factory=dict)
    clip: dict[str, Any] = field(default_factory=dict)
    selection: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    caption: dict[str, Any] = field(default_factory=dict)
    key_pts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    pictures: list[tuple[float, bytes]] = field(default_factory=list)
    picture_note: str = ""


@dataclass
class SourceSeries:
    """The series of one source over its whole time, segments put together, and its clips."""

    source: dict[str, Any]
    segments: list[dict[str, Any]]
    clips: list[dict[str, Any]]
    selections: dict[str, dict[str, Any]]


def matching(store: Store, rel: str | None, unit: str, column: str, values: set[str]) -> pa.Table | None:
    """Rows of a unit file whose `column` is one of `values`; None if there is no such file."""
    if not rel or not store.exists(f"{rel}/{unit}"):
        return None
    table = store.read_table(f"{rel}/{unit}")
    return table.filter(pc.is_in(table[column], pa.array(sorted(values), pa.string())))


def load_details(store: Store, manifest: dict[str, Any], picks: list[Pick]) -> list[Detail]:
    """The picks with their rows, in the order given."""
    by_unit: dict[str, list[Detail]] = defaultdict(list)
    details = [Detail(pick) for pick in picks]
    for detail in details:
        by_unit[detail.pick.unit].append(detail)
    for unit, members in by_unit.items():
        _load_unit(store, manifest["tables"], unit, members)
    return details


def _load_unit(store: Store, tables: dict[str, Any], unit: str, details: list[Detail]) -> None:
    clips = {d.pick.clip_id for d in details if d.pick.clip_id}
    sources = {d.pick.source_id for d in details}
    scores = tables.get("scores") or {}
    by_source = _by(matching(store, tables.get("sources"), unit, "source_id", sources), "source_id")
    by_clip = {
        name: _by(matching(store, rel, unit, "clip_id", clips), "clip_id")
        for name, rel in (
            ("clip", tables.get("clips")),
            ("selection", tables.get("selection")),
            ("caption", tables.get("captions")),
            *scores.items(),
        )
    }
    header = _by(matching(store, tables.get("selection"), unit, "source_id", sources), "source_id")
    keys = _key_pts(matching(store, tables.get("series"), unit, "source_id", sources))
    for detail in details:
        clip, source = detail.pick.clip_id, detail.pick.source_id
        detail.source = by_source.get(source, {})
        detail.clip, detail.caption = by_clip["clip"].get(clip, {}), by_clip["caption"].get(clip, {})
        detail.selection = by_clip["selection"].get(clip, {}) if clip else header.get(source, {})
        detail.scores = {k: v for name in scores for k, v in by_clip[name].get(clip, {}).items()}
        detail.key_pts = keys.get(source, detail.key_pts)


def _by(table: pa.Table | None, key: str) -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in table.to_pylist()} if table is not None else {}


def _key_pts(series: pa.Table | None) -> dict[str, np.ndarray]:
    found: dict[str, list[int]] = defaultdict(list)
    for row in series.select(["source_id", "frame_pts", "frame_is_key"]).to_pylist() if series is not None else []:
        found[row["source_id"]] += [
            p for p, k in zip(row["frame_pts"] or [], row["frame_is_key"] or [], strict=False) if k
        ]
    return {source: np.array(sorted(pts), np.int64) for source, pts in found.items()}


def place(detail: Detail) -> tuple[str, int]:
    """Order for reading: by source, then by time."""
    return str(detail.source.get("relpath") or ""), detail.clip.get("clip_index") or 0


def interesting_sources(details: list[Detail]) -> list[Pick]:
    """Sources for the time lines: those with several clips first, then one for each reason, then others."""
    seen: dict[str, Pick] = {}
    counts: dict[str, set[str]] = defaultdict(set)
    for detail in details:
        if detail.clip and detail.source.get("media") != "image":
            seen.setdefault(detail.pick.source_id, detail.pick)
            counts[detail.pick.source_id].add(detail.pick.clip_id)
    several = [seen[s] for s in seen if len(counts[s]) > 1]
    others, rules = [], set()
    for pick in seen.values():
        if pick not in several and pick.rule not in rules:
            rules.add(pick.rule)
            others.append(pick)
    rest = [pick for pick in seen.values() if pick not in several and pick not in others]
    return (several + others + rest)[:MAX_TIMELINES]


def load_series(store: Store, manifest: dict[str, Any], picks: list[Pick]) -> list[SourceSeries]:
    """Series, clips and decisions of whole sources, in the order given."""
    tables, found = manifest["tables"], {}
    for unit in {p.unit for p in picks}:
        ids = {p.source_id for p in picks if p.unit == unit}
        rows = {
            name: matching(store, tables.get(name), unit, "source_id", ids)
            for name in ("sources", "series", "clips", "selection")
        }
        lists = {name: table.to_pylist() if table is not None else [] for name, table in rows.items()}
        for source in lists["sources"]:
            sid = source["source_id"]
            of = {name: [r for r in lists[name] if r["source_id"] == sid] for name in lists}
            segments = sorted(of["series"], key=lambda r: r["segment_index"])
            clips = sorted(of["clips"], key=lambda r: r["start_pts"])
            chosen = {r["clip_id"]: r for r in of["selection"] if r["clip_id"]}
            found[sid] = SourceSeries(source, [s for s in segments if s["error_kind"] is None], clips, chosen)
    return [found[p.source_id] for p in picks if p.source_id in found]
