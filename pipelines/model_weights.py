# SPDX-License-Identifier: Apache-2.0
"""`weights`, and what a run says of models whose weights are not here: which columns stay null, and why."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from operators.contract import Operator
from operators.weights import Need, locate, size_bytes

if TYPE_CHECKING:
    from pipelines.plan import Plan

CAPTION = "caption"


def needs_of(plan: "Plan") -> Iterator[tuple[str, Need]]:
    """(operator, what it needs) of all operators of a plan."""
    for operator in plan.operators:
        for need in operator.needs:
            yield operator.name, need


def absent_models(plan: "Plan") -> dict[str, str]:
    """Models that cannot run on this machine, and those that read their columns: name of the table -> why.

    The caption model counts as one, by the name `caption`.
    """
    absent: dict[str, str] = {}
    lost: dict[str, str] = {}  # column -> the absent model that would write it
    for name, operator in _with_captions(plan).items():
        why = next((need.absence for need in operator.needs if need.absence), None)
        behind = next((lost[column.name] for column in operator.reads if column.name in lost), None)
        if why is None and behind is not None:
            why = f"it reads what {behind} writes"
        if why is not None:
            absent[name] = why
            lost |= {column.name: name for column in operator.writes}
    return absent


def _with_captions(plan: "Plan") -> dict[str, Operator]:
    captions: dict[str, Operator] = {} if plan.caption is None else {CAPTION: plan.caption}
    return plan.models_by_name | captions | plan.after_captions_by_name


def absence_report(plan: "Plan", absent: Mapping[str, str]) -> list[str]:
    """One line per absent model, and one per rule that will reject everything for want of its column."""
    lines, lost = [], set()
    for name, why in absent.items():
        columns = [column.name for column in _with_captions(plan)[name].writes]
        lost |= set(columns)
        lines.append(f"{name} cannot run: {why}. Null will be: {', '.join(columns)}")
    for rule in plan.rules:
        if rule.column in lost and rule.on_null == "reject":
            lines.append(
                f"rule {rule.name} will reject every clip ({rule.column} unmeasured) unless it says on_null: keep"
            )
    return lines


def require_models(plan: "Plan") -> None:
    """Raises ValueError if a model cannot run for want of its weights."""
    absent = absent_models(plan)
    if absent:
        lines = "; ".join(absence_report(plan, absent))
        raise ValueError(f"--require-models: {lines}. `python -m pipelines weights RECIPE` lists what is needed")


def weights_table(plan: "Plan", fetch: bool) -> tuple[list[tuple[str, ...]], bool]:
    """Rows (operator, weights, licence, MB, where they are) and whether all are here, after fetching if asked to.

    Raises:
        FileNotFoundError, ValueError: fetching fails, or what came is not what its sha256 says.
    """
    rows, is_whole = [], True
    for name, need in needs_of(plan):
        if fetch and need.weights.is_remote:
            locate(need.weights)
        size = f"{size_bytes(need.weights.cached) / 1e6:.1f}" if need.is_here else ""
        where = str(need.weights.cached) if need.is_here else f"MISSING {need.note}".rstrip()
        rows.append((name, need.weights.uri, need.licence or "see its page", size, where))
        is_whole &= need.is_here
    return rows, is_whole
