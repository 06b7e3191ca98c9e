# SPDX-License-Identifier: Apache-2.0
"""What each stage cost: seconds, and how much footage it decoded for each second of source."""

from collections import defaultdict
from html import escape
from typing import Any

from pipelines.report.census import Census
from pipelines.report.page import Section, bar_cell, number, seconds, size, table

STAGES = ("probe", "measure", "clips", "models", "caption", "select", "tokenize", "pack")


def costs(events: list[dict[str, Any]], census: Census) -> Section | None:
    """Sums over all runs of this data set; None if no run was logged."""
    totals: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for event in events:
        if event["event"] == "stage":
            for key in ("rows", "seconds", "worker_seconds", "decoded_s", "bytes"):
                totals[event["stage"]][key] += event.get(key) or 0.0
            totals[event["stage"]]["workers"] = max(totals[event["stage"]]["workers"], event.get("workers") or 0)
    if not totals:
        return None
    order = [s for s in STAGES if s in totals] + sorted(set(totals) - set(STAGES))
    longest = max(t["seconds"] for t in totals.values()) or 1.0
    rows = [_row(stage, totals[stage], longest, census.source_s) for stage in order]
    total = sum(t["seconds"] for t in totals.values())
    decoded = sum(t["decoded_s"] for t in totals.values())
    ratio = number(round(decoded / census.source_s, 3)) if census.source_s else "-"
    rows.append(["<b>all stages</b>", "", f"<b>{seconds(total)}</b>", "<td></td>", "", "", f"<b>{ratio}</b>", ""])
    heads = ("stage", "rows", "time", "", "workers", "rows per second", "decoded s per source s", "written")
    runs = sum(event["event"] == "run" for event in events)
    lead = (
        f"Wall-clock seconds, added up over {number(runs)} run{'s' if runs != 1 else ''}, "
        f"for {seconds(census.source_s)} of footage. "
        "The raw footage is decoded once to be measured; later stages decode kept clips only."
    )
    return Section("costs", "Time", lead, f'<div class="card">{table(heads, rows, (1, 2, 4, 5, 6, 7))}</div>')


def _row(stage: str, total: dict[str, float], longest: float, source_s: float) -> list[str]:
    rate = total["rows"] / total["seconds"] if total["seconds"] else None
    decoded = number(round(total["decoded_s"] / source_s, 3)) if total["decoded_s"] and source_s else "-"
    return [
        escape(stage),
        number(int(total["rows"])),
        seconds(total["seconds"]),
        bar_cell(total["seconds"] / longest),
        number(int(total["workers"])) if total["workers"] else "-",
        number(rate),
        decoded,
        size(total["bytes"]) if total["bytes"] else "-",
    ]
