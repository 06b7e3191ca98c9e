# SPDX-License-Identifier: Apache-2.0
"""How the clips spread over each judged number, and where the recipe cuts."""

from html import escape
from typing import Any

import numpy as np

from pipelines.report.census import Census, rule_key
from pipelines.report.charts import Limit, histogram
from pipelines.report.overview import limit_text
from pipelines.report.page import Section, number


def distributions(manifest: dict[str, Any], census: Census) -> Section | None:
    """One histogram for each number that a rule judges; None if nothing was measured."""
    by_key: dict[str, list[dict[str, Any]]] = {}
    for rule in (manifest.get("recipe") or {}).get("rules", []):
        by_key.setdefault(rule_key(rule), []).append(rule)
    cards = [
        _card(by_key[key], *(np.concatenate(part) for part in census.values[key]))
        for key in by_key
        if key in census.values
    ]
    if not cards:
        return None
    legend = (
        '<p class="legend small"><i class="kept"></i>kept clips<i class="reject"></i>rejected clips (by whatever rule)'
        " &nbsp; dashed: limit</p>"
    )
    return Section(
        "distributions",
        "Distributions",
        "Every clip's value for each number that a rule judges. Move a limit and run select again: nothing is decoded.",
        f'{legend}<div class="hists">{"".join(cards)}</div>',
    )


def _card(rules: list[dict[str, Any]], kept: np.ndarray, rejected: np.ndarray) -> str:
    unmeasured = int(np.isnan(kept).sum() + np.isnan(rejected).sum())
    kept, rejected = kept[np.isfinite(kept)], rejected[np.isfinite(rejected)]
    column, is_share = rules[0]["column"], rules[0].get("max_bad_share") is not None
    what = f"share of a clip's samples of {column} that are bad" if is_share else column
    shown = f"share of bad samples of <code>{escape(column)}</code>" if is_share else f"<code>{escape(column)}</code>"
    names = " and ".join(rule["name"] for rule in rules)
    note = f"{number(len(kept) + len(rejected))} clips" + (f", {number(unmeasured)} unmeasured" if unmeasured else "")
    conditions = "; ".join(limit_text(rule) for rule in rules)
    chart = histogram(kept, rejected, _limits(rules), f"Distribution of {what}")
    head = f'<h3>{escape(names)}: {escape(conditions)}</h3><div class="soft small">{shown}, {note}</div>'
    return f'<div class="card">{head}{chart}</div>'


def _limits(rules: list[dict[str, Any]]) -> list[Limit]:
    limits = []
    for rule in rules:
        if rule.get("max_bad_share") is not None:
            limits.append(Limit(float(rule["max_bad_share"]), f"at most {rule['max_bad_share'] * 100:g} %"))
        else:
            limits += [
                Limit(float(rule[side]), f"{sign} {number(rule[side])}")
                for side, sign in (("min", "≥"), ("max", "≤"))
                if rule.get(side) is not None
            ]
    return limits
