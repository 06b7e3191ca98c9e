# SPDX-License-Identifier: Apache-2.0
"""What was done and what came of it: the header, the funnel, the rules, the failed inputs, the ignored files."""

from collections import Counter
from html import escape
from typing import Any

from pipelines.report.census import GATES, MAX_FAILURES, Census
from pipelines.report.page import Section, bar_cell, chip, number, seconds, size, table

MAIN_PACKAGES = ("ray", "av", "opencv-python", "torch", "pyarrow")


def header(manifest: dict[str, Any], runs: list[dict[str, Any]], census: Census) -> str:
    """Title, where and when, and the numbers that matter."""
    last = runs[-1] if runs else {}
    when = str(last.get("time", ""))[:16].replace("T", " ")
    where = ", ".join(
        filter(
            None,
            [
                str(last.get("host", "")),
                f"{last['cpus']} CPUs" if last.get("cpus") else "",
                str(last.get("platform", "")),
            ],
        )
    )
    kept = census.tiers["train"] + census.tiers["condition_only"]
    num_rows = sum(c["rows"] for c in census.tokens.values())
    tiles = [
        (number(census.num_sources), f"sources, {seconds(census.source_s)} of footage"),
        (number(census.num_uhd), "of them UHD (long side from 3840 px)"),
        (number(census.num_clips), f"clips, {seconds(census.clips_s)}"),
        (number(kept), _share(kept, census.num_clips, "of the clips kept")),
        (number(census.num_captioned), "clips captioned"),
        (number(num_rows), f"token rows, {size(census.shard_bytes)} of shards"),
    ]
    versions = manifest.get("versions", {})
    shown = " · ".join(f"{p} {versions[p]}" for p in MAIN_PACKAGES if p in versions)
    about = " · ".join(filter(None, [when and when + " UTC", where, shown]))
    tile_html = "".join(
        f'<div class="card tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in tiles
    )
    return (
        f"<h1>{escape(str(manifest.get('recipe_name', 'recipe')))} "
        f"<small>reelmill {escape(str(manifest.get('reelmill', '')))}</small></h1>"
        f'<p>{escape(str(manifest.get("input", "")))}</p><p class="small">{escape(about)}</p>'
        f'<div class="tiles">{tile_html}</div>'
    )


def _share(part: int, whole: int, what: str) -> str:
    return f"{100 * part / whole:.0f} % {what}" if whole else what


def funnel(manifest: dict[str, Any], census: Census) -> Section:
    """Sources to tokens, each step with what it lost and why. Failed rows and rejected ones are told apart."""
    top = max(census.num_sources, 1)
    soft = {
        rule["name"] for rule in (manifest.get("recipe") or {}).get("rules", []) if rule.get("tier") == "condition_only"
    }
    rows: list[list[str] | str] = [
        _step("sources listed", census.num_sources, top, ""),
        _step("readable", census.num_readable, top, _lost(census.failed.get("probe", {}), "failed")),
        _step(
            "decoded",
            census.num_readable - census.header_rejected,
            top,
            _lost({"rejected by header rules": census.header_rejected}, "reject")
            + _lost(census.failed.get("measure", {}), "failed")
            + _lost({"damaged part-way": census.num_damaged}, "cond"),
        ),
    ]
    clip_top, alive = max(census.num_clips, 1), census.num_clips
    clip_rows = [
        _step(
            "clips found",
            census.num_clips,
            clip_top,
            _lost({"could not be computed": census.num_failed_clips}, "failed"),
        )
    ]
    alive -= census.num_failed_clips
    for gate in GATES[1:]:
        if census.lost_at[gate]:
            alive -= census.lost_at[gate]
            clip_rows.append(
                _step(f"past the {gate} rules", alive, clip_top, _lost(_rules_at(census, gate, soft), "reject"))
            )
    kept = census.tiers["train"] + census.tiers["condition_only"]
    splits = [f"split {name}: {n}" for name, n in sorted(census.splits.items())]
    clip_rows.append(_step("kept", kept, clip_top, "".join(chip(text) for text in splits) + _tier_chip(census)))
    if manifest["tables"].get("captions"):
        clip_rows.append(
            _step("captioned", census.num_captioned, clip_top, _lost(census.failed.get("caption", {}), "failed"))
        )
    for spec_id, counts in census.tokens.items():
        name = (manifest.get("specs", {}).get(spec_id) or {}).get("name", spec_id)
        note = chip(f"{number(counts['rows'])} rows") + _lost(census.failed.get("tokenize", {}), "failed")
        clip_rows.append(_step(f"tokenized ({name})", counts["clips"], clip_top, note))
    rows = [*rows, '<tr class="part"><td colspan="4">clips</td></tr>', *clip_rows]
    body = f'<div class="card">{table(("files", "", "", "lost, or noted"), rows, (1,))}</div>'
    return Section(
        "funnel",
        "Funnel",
        "From files to token rows. Failed means it could not be read or computed; rejected means a rule said no.",
        body + _rules(manifest, census),
    )


def _step(name: str, num: int, top: int, note: str) -> list[str]:
    return [
        f'<td style="width:15em">{escape(name)}</td>',
        number(num),
        bar_cell(num / top),
        f'<td style="padding-left:18px">{note}</td>',
    ]


def _lost(counts: Any, css: str) -> str:
    style = {"failed": "t-failed", "reject": "t-reject", "cond": "t-condition_only"}[css]
    return "".join(chip(f"{name}: {n}", style) for name, n in sorted(counts.items(), key=lambda item: -item[1]) if n)


def _tier_chip(census: Census) -> str:
    return (
        chip(f"condition only: {census.tiers['condition_only']}", "t-condition_only")
        if census.tiers["condition_only"]
        else ""
    )


def _rules_at(census: Census, gate: str, soft: set[str]) -> Counter[str]:
    return Counter({name: rule.num for name, rule in census.rules.items() if rule.gate == gate and name not in soft})


def _rules(manifest: dict[str, Any], census: Census) -> str:
    """Every rule of the recipe: what it asks for, how often it said no, where the number is from."""
    listed = {rule["name"]: rule for rule in (manifest.get("recipe") or {}).get("rules", [])}
    names = list(listed) + [name for name in census.rules if name not in listed]
    if not names:
        return "<p>The recipe has no rules: every clip is kept.</p>"
    top = max((c.num for c in census.rules.values()), default=0) or 1
    rows = []
    for name in names:
        rule, count = listed.get(name, {}), census.rules.get(name)
        css = "cond" if rule.get("tier") == "condition_only" else "reject"
        column = rule.get("column") or (count.column if count else "")
        num, alone = (count.num, count.alone) if count else (0, 0)
        rows.append(
            [
                f'<b>{escape(name)}</b><br><code class="soft">{escape(column)}</code>',
                escape(limit_text(rule) if rule else (count.threshold if count else "")),
                escape(rule.get("gate") or (count.gate if count else "")),
                number(num),
                number(alone),
                bar_cell(num / top, css) if num else "<td></td>",
                f'<td class="small soft" style="width:36%;padding-left:18px">{escape(rule.get("source", ""))}</td>',
            ]
        )
    heads = ("rule", "must be", "gate", "failed it", "it alone", "", "where the number is from")
    return f'<h3>Rules</h3><div class="card rules">{table(heads, rows, (3, 4))}</div>'


def limit_text(rule: dict[str, Any]) -> str:
    """A rule's condition in words: `>= 0.1`, `0.1 to 3`, `sdr, hlg`, `≥ 3, but for 5 % of samples`."""
    where = rule.get("where")
    return _limit(rule) if where is None else f"{_limit(rule)} where {where['column']} {_limit(where)}"


def _limit(rule: dict[str, Any]) -> str:
    if rule.get("in") is not None:
        return ", ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in rule["in"])
    low, high = rule.get("min"), rule.get("max")
    if low is not None and high is not None:
        text = f"{number(low)} to {number(high)}"
    else:
        text = f"≥ {number(low)}" if low is not None else f"≤ {number(high)}"
    share = rule.get("max_bad_share")
    return text if share is None else f"{text}, but for {share * 100:g} % of samples"


def failed_inputs(census: Census) -> Section | None:
    """Rows that could not be made, with their messages; None if all is well."""
    if not census.failures:
        return None
    rows = [
        [escape(f.name), escape(f.stage), chip(f.kind, "t-failed"), f'<td class="msg small">{escape(f.error)}</td>']
        for f in census.failures
    ]
    total = sum(sum(kinds.values()) for kinds in census.failed.values())
    more = (
        f'<p class="soft small">… and {number(total - len(rows))} more; the tables list them all.</p>'
        if total > MAX_FAILURES
        else ""
    )
    return Section(
        "failed",
        "Failed inputs",
        "Not judged, because they could not be read or computed. bad_input is final; "
        "transient and resource are tried again by the next run.",
        f'<div class="card">{table(("input", "stage", "kind", "what happened"), rows)}</div>{more}',
    )


def ignored_files(manifest: dict[str, Any]) -> Section | None:
    """Files below the input that are no media by their name; None if there were none."""
    ignored = manifest.get("ignored_files") or {}
    if not ignored.get("num"):
        return None
    names = "".join(chip(str(name)) for name in ignored.get("examples", []))
    return Section(
        "ignored",
        "Ignored files",
        f"{number(ignored['num'])} files have a suffix that the recipe does not list as media; for example:",
        names,
    )
