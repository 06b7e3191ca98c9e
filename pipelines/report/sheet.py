# SPDX-License-Identifier: Apache-2.0
"""The contact sheet: clips with their pictures, their numbers, the reasons and the captions."""

from html import escape
from typing import Any

from pipelines.report.details import Detail
from pipelines.report.overview import limit_text
from pipelines.report.page import Section, chip, image, number
from reelmill.tables import CAPTION_TEXTS

TIER_NAMES = {"train": "kept", "condition_only": "condition only", "reject": "rejected"}


def sheet(key: str, title: str, details: list[Detail], total: int, rules: dict[str, dict[str, Any]]) -> Section:
    """Cards of the given clips; `total` says how many there are in all, `rules` are the recipe's, by name."""
    lead = (
        ("The only one." if total == 1 else f"All {number(total)} of them.")
        if total == len(details)
        else f"{number(len(details))} of {number(total)}, a fixed sample that shows every reason."
    )
    if not total:
        return Section(key, title, "None.", "")
    return Section(key, title, lead, f'<div class="sheet">{"".join(_card(d, rules) for d in details)}</div>')


def _card(detail: Detail, rules: dict[str, dict[str, Any]]) -> str:
    source, clip, selection = detail.source, detail.clip, detail.selection
    tier = selection.get("tier") or "reject"
    name = escape(str(source.get("relpath") or detail.pick.source_id))
    index = f' <span class="soft">clip {clip["clip_index"]}</span>' if clip.get("clip_index") else ""
    title = f'<p class="caption"><i>{escape(source["title"])}</i></p>' if source.get("title") else ""
    css = f"t-{tier}"
    reasons = "".join(_reason(r, tier, rules.get(r["rule"], {})) for r in selection.get("reasons") or [])
    return (
        f'<article class="card clip">{_strip(detail)}<div class="body">'
        f"<h4>{name}{index} {chip(TIER_NAMES.get(tier, tier), css)}</h4>"
        f'<div class="facts">{escape(facts(source, clip))}</div>{title}{reasons}'
        f"{_captions(detail.caption)}</div></article>"
    )


def facts(source: dict[str, Any], clip: dict[str, Any]) -> str:
    """Size, rate, length, codec of a clip in one line."""
    fps, seconds = clip.get("fps") or source.get("fps"), clip.get("duration_s", source.get("duration_s"))
    parts = [
        f"{source['width_px']} \u00d7 {source['height_px']}" if source.get("width_px") else "",
        "still image" if source.get("media") == "image" else f"{fps:.4g} fps" if fps else "",
        "variable rate" if source.get("is_vfr") else "",
        f"{seconds:.2f} s" if seconds else "",
        f"from {clip['start_s']:.2f} s" if clip.get("start_s") else "",
        f"{clip['num_frames']} frames" if clip.get("num_frames", 0) > 1 else "",
        str(source.get("codec") or ""),
        f"{source['bit_depth']} bit" if (source.get("bit_depth") or 8) > 8 else "",
        str(source["hdr"]).upper() if source.get("hdr") not in (None, "sdr") else "",
        f"rotated {source['rotation_deg']}°" if source.get("rotation_deg") else "",
    ]
    return " · ".join(p for p in parts if p)


def _strip(detail: Detail) -> str:
    if not detail.pictures:
        note = detail.picture_note or ("not decoded: a header rule decided" if not detail.clip else "no pictures")
        return f'<div class="strip none">{escape(note)}</div>'
    columns = f' style="grid-template-columns:repeat({len(detail.pictures)},1fr)"' if len(detail.pictures) != 3 else ""
    css = "strip one" if len(detail.pictures) == 1 else "strip"
    name = str(detail.source.get("relpath") or "")
    figures = "".join(
        f"<figure>{image(data, f'{name} at {at:.2f} s')}<figcaption>{at:.2f} s</figcaption></figure>"
        for at, data in detail.pictures
    )
    return f'<div class="{css}"{columns}>{figures}</div>'


def _reason(reason: dict[str, Any], tier: str, rule: dict[str, Any]) -> str:
    css = "reason" if tier == "reject" else "reason only"
    return f'<div class="{css}"><b>{escape(reason["rule"])}</b>: {reason_html(reason, rule)}</div>'


def reason_html(reason: dict[str, Any], rule: dict[str, Any]) -> str:
    """Why a rule said no: what was measured and what was asked for."""
    column = f"<code>{escape(reason['column'])}</code>"
    if reason.get("unmeasured"):
        return f"{column} is unmeasured, must be {escape(reason['threshold'])}"
    if rule.get("max_bad_share") is not None and reason.get("value") is not None:
        bounds = limit_text({**rule, "max_bad_share": None})
        return (
            f"{100 * reason['value']:.3g} % of the samples of {column} are not {escape(bounds)}; "
            f"at most {100 * rule['max_bad_share']:.3g} % may be so"
        )
    value = reason.get("value_text") if reason.get("value") is None else number(reason["value"])
    return f"{column} is {escape(str(value))}, must be {escape(limit_text(rule) if rule else reason['threshold'])}"


def _captions(caption: dict[str, Any]) -> str:
    texts = [(name, caption[name]) for name in CAPTION_TEXTS if caption.get(name)]
    if not texts:
        return ""
    brief = next((text for name, text in texts if name in ("Brief Description", "Summarized Description")), texts[0][1])
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in texts)
    grounding = caption.get("caption_grounding") or ""
    summary = f"<summary>{len(texts)} texts, {escape(grounding)}</summary>"
    return f'<p class="caption">{escape(brief)}</p><details>{summary}<dl>{rows}</dl></details>'
