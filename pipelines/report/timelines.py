# SPDX-License-Identifier: Apache-2.0
"""A source's series over its time, with the cuts, the clips and the limits that the rules and the detector set."""

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from pipelines.report.charts import Band, Frame, Limit, Panel, timeline
from pipelines.report.details import SourceSeries
from pipelines.report.page import Section, number
from pipelines.report.sheet import facts

CSS = {"train": "kept", "condition_only": "cond", "reject": "reject"}


@dataclass(frozen=True)
class Trace:
    """A series to draw: its label, its column and the meter whose `<meter>_pts` holds its times (if it is sampled)."""

    label: str
    column: str
    meter: str
    is_always_drawn: bool = False  # else only where a rule on it turned a clip of this source away


TRACES = (
    Trace("mean luma, 0-1", "exposure_luma", "exposure", True),
    Trace("share of clipped pixels", "exposure_clipped_share", "exposure"),
    Trace("difference to the frame before", "freeze_absdiff", "freeze", True),
    Trace("motion, frame heights per second", "motion_speed", "motion", True),
    Trace("darkest edge strip, 0-255", "border_luma_min", "border"),
    Trace("colour variance", "grey_variance", "grey"),
)


def timelines(
    series: list[SourceSeries], manifest: dict[str, Any], pictures: dict[str, list[tuple[float, bytes]]]
) -> Section | None:
    """One chart a source; None if nothing was measured. `pictures`: by clip, seconds into the clip and JPEG."""
    charts = [chart for chart in (_chart(one, manifest.get("recipe") or {}, pictures) for one in series) if chart]
    if not charts:
        return None
    legend = (
        '<p class="legend small"><i class="kept"></i>kept clip<i class="cond"></i>condition only<i class="reject"></i>'
        "rejected clip"
        " &nbsp; solid upright line: cut &nbsp; dashed line: limit</p>"
    )
    return Section(
        "series",
        "Measured over time",
        "What the one decode of the footage said, frame by frame. Clips and decisions are computed from these series.",
        legend + "".join(charts),
    )


def stitch(segments: list[dict[str, Any]], column: str, meter: str) -> tuple[np.ndarray, np.ndarray]:
    """pts and values of a series over all segments; null becomes NaN.

    A pairwise series has one value more than frames when a segment follows; it belongs to that one's first frame.
    """
    times: list[np.ndarray] = []
    parts: list[np.ndarray] = []
    carried: float | None = None
    for segment in segments:
        values = segment.get(column)
        if values is None:
            continue
        pts = segment.get(f"{meter}_pts") or segment["frame_pts"]
        found = np.array([np.nan if v is None else v for v in values[: len(pts)]], np.float64)
        if carried is not None and len(found) and np.isnan(found[0]):
            found[0] = carried
        carried = values[len(pts)] if len(values) > len(pts) else None
        times.append(np.array(pts[: len(found)], np.int64))
        parts.append(found)
    return (np.concatenate(times), np.concatenate(parts)) if times else (np.empty(0, np.int64), np.empty(0))


def content_score(segments: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """PySceneDetect's content value per frame: the mean of the hue, saturation and luma differences."""
    found = [stitch(segments, f"content_{part}", "content") for part in ("hue", "sat", "lum")]
    if not all(len(values) for _, values in found):
        return found[0]
    return found[0][0], np.mean([values for _, values in found], axis=0)


def limits_for(column: str, rules: list[dict[str, Any]]) -> tuple[Limit, ...]:
    """Thresholds of the rules that judge an aggregate of this series."""
    return tuple(
        Limit(float(rule[side]), f"{rule['name']} {sign} {number(rule[side])}", side == "min")
        for rule in rules
        if rule["column"].startswith(column)
        for side, sign in (("min", "≥"), ("max", "≤"))
        if rule.get(side) is not None
    )


def _chart(one: SourceSeries, recipe: dict[str, Any], pictures: dict[str, list[tuple[float, bytes]]]) -> str:
    all_pts = [p for s in one.segments for p in (s["frame_pts"] or [])]
    if len(all_pts) < 2:
        return ""
    tick = one.source["time_base_num"] / one.source["time_base_den"]
    origin, end = all_pts[0], max(c["end_pts"] for c in one.clips) if one.clips else all_pts[-1]

    def at(pts: Any) -> Any:
        return (pts - origin) * tick

    broken = {reason["column"] for selection in one.selections.values() for reason in selection["reasons"] or []}
    panels = [p for p in _panels(one.segments, recipe, broken, at) if np.isfinite(p.values).any()]
    bands = [
        Band(
            at(c["start_pts"]),
            at(c["end_pts"]),
            CSS.get(one.selections.get(c["clip_id"], {}).get("tier", ""), "well"),
            _band_label(one, c),
        )
        for c in one.clips
    ]
    shots = {c["shot_index"]: c["start_pts"] for c in reversed(one.clips)}
    cuts = [float(at(pts)) for pts in sorted(shots.values()) if pts > origin]
    frames = [
        Frame(float(at(c["start_pts"])) + t, jpeg, k == 0)
        for c in one.clips
        for k, (t, jpeg) in enumerate(pictures.get(c["clip_id"], []))
    ]
    describe = f"Series of {one.source['relpath']}: " + ", ".join(p.label for p in panels)
    return (
        f'<div class="card timeline"><h3>{escape(one.source["relpath"])} '
        f'<span class="soft small">{escape(facts(one.source, {}))}</span></h3>'
        f"{timeline(panels, bands, cuts, float(max(at(end), at(all_pts[-1]))), describe, frames)}</div>"
    )


def _panels(segments: list[dict[str, Any]], recipe: dict[str, Any], broken: set[str], at: Any) -> list[Panel]:
    detector = ((recipe.get("clips") or {}).get("detector")) or {}
    pts, values = content_score(segments)
    limits = (
        (Limit(float(detector["threshold"]), f"cut above {number(detector['threshold'])}"),)
        if detector.get("kind", "content") == "content" and detector.get("threshold") is not None
        else ()
    )
    panels = [Panel("content difference", at(pts), values, limits)]
    for trace in TRACES:
        pts, values = stitch(segments, trace.column, trace.meter)
        limits = limits_for(trace.column, recipe.get("rules", []))
        if trace.is_always_drawn or any(column.startswith(trace.column) for column in broken):
            panels.append(Panel(trace.label, at(pts), values, limits))
    return panels


def _band_label(one: SourceSeries, clip: dict[str, Any]) -> str:
    selection = one.selections.get(clip["clip_id"], {})
    rules = ", ".join(r["rule"] for r in selection.get("reasons") or [])
    said = selection.get("tier", "undecided") + (f": {rules}" if rules else "")
    return f"clip {clip['clip_index']}: {clip['num_frames']} frames, {said}"
