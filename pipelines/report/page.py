# SPDX-License-Identifier: Apache-2.0
"""The page around the sections: one HTML file that loads nothing, in light and dark and on paper."""

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --bg:#f7f6f2; --card:#fff; --fg:#1c2126; --soft:#5f6a73; --line:#e1ded5; --well:#efede6;
  --kept:#17806a; --cond:#b07f12; --reject:#c4472f; --failed:#7b4bb8; --accent:#2d5f8f; --wash:#2d5f8f14; --cut:#1c2126; }
@media (prefers-color-scheme: dark) { :root { --bg:#121518; --card:#1a1f23; --fg:#e7e6e1; --soft:#97a2ab; --line:#2c3338;
  --well:#20262b; --kept:#43c2a0; --cond:#e0b13f; --reject:#f07f66; --failed:#b48cf0; --accent:#7db4e6; --wash:#7db4e61c; --cut:#e7e6e1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--fg); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Cantarell,
  "Noto Sans", "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; }
main, header > div, nav > div { max-width: 1180px; margin: 0 auto; padding: 0 28px; }
header { padding: 40px 0 22px; } header p { margin: 4px 0 0; color: var(--soft); }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -.02em; margin: 0; } h1 small { font-weight: 400; color: var(--soft); font-size: 20px; }
h2 { font-size: 21px; letter-spacing: -.01em; margin: 46px 0 4px; } h3 { font-size: 15px; margin: 22px 0 6px; }
h2 + p { color: var(--soft); margin: 0 0 16px; max-width: 75ch; }
nav { position: sticky; top: 0; z-index: 2; background: var(--bg); border-bottom: 1px solid var(--line); }
nav a { display: inline-block; padding: 9px 0; margin-right: 20px; color: var(--soft); text-decoration: none; font-size: 14px; }
nav a:hover { color: var(--fg); } h2 { scroll-margin-top: 52px; }
code, .mono { font: 13px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(148px, 1fr)); gap: 12px; margin-top: 22px; }
.tile b { display: block; font-size: 25px; line-height: 1.15; letter-spacing: -.02em; font-weight: 600; } .tile span { color: var(--soft); font-size: 13px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; } td, th { text-align: left; padding: 6px 14px 6px 0; vertical-align: top;
  border-bottom: 1px solid var(--line); } th { color: var(--soft); font-weight: 500; font-size: 12.5px; } tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; white-space: nowrap; } td.bar { width: 30%; padding-right: 0; } td.bar > * { margin-top: 5px; } tr.part td { color: var(--soft); font-size: 12.5px; padding-top: 20px; }
td.msg { overflow-wrap: anywhere; } .rules td.bar { width: 13%; } .rules td { padding-top: 5px; padding-bottom: 5px; }
.fill { display: block; height: 12px; border-radius: 3px; background: var(--accent); min-width: 1px; }
.stack { display: flex; height: 12px; border-radius: 3px; overflow: hidden; } .stack i { display: block; height: 100%; }
.kept { background: var(--kept); } .cond { background: var(--cond); } .reject { background: var(--reject); } .failed { background: var(--failed); } .rest { background: var(--well); }
.soft { color: var(--soft); } .small { font-size: 13px; }
.chip { display: inline-block; border: 1px solid var(--line); border-radius: 999px; padding: 0 9px; margin: 2px 5px 2px 0; font-size: 12.5px; white-space: nowrap; }
.chip.t-train { color: var(--kept); border-color: currentColor; } .chip.t-reject { color: var(--reject); border-color: currentColor; }
.chip.t-condition_only { color: var(--cond); border-color: currentColor; } .chip.t-failed { color: var(--failed); border-color: currentColor; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); gap: 14px; }
.clip { padding: 0; overflow: hidden; break-inside: avoid; } .clip .body { padding: 11px 14px 13px; }
.strip { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1px; background: #0b0d0f; }
.strip figure { margin: 0; position: relative; min-width: 0; } .strip img { display: block; width: 100%; aspect-ratio: 16/9; object-fit: contain; }
.strip.one img { aspect-ratio: 48/9; object-fit: cover; }
.strip figcaption { position: absolute; left: 5px; bottom: 4px; font-size: 11px; line-height: 1; padding: 2px 4px; color: #fff; background: #0009; border-radius: 3px; }
.strip.none { display: block; color: #b9c0c6; font-size: 13px; padding: 22px 14px; }
.clip h4 { margin: 0; font-size: 14.5px; overflow-wrap: anywhere; } .clip .facts { color: var(--soft); font-size: 13px; margin: 1px 0 5px; }
.reason { font-size: 13.5px; margin: 3px 0; } .reason b { color: var(--reject); font-weight: 600; } .reason.only b { color: var(--cond); }
details { font-size: 13.5px; margin-top: 5px; } summary { cursor: pointer; color: var(--soft); } dl { margin: 5px 0 0; } dt { color: var(--soft); font-size: 12px; } dd { margin: 0 0 4px; }
.caption { font-size: 13.5px; margin: 5px 0 0; }
svg { display: block; width: 100%; height: auto; overflow: visible; } svg text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: var(--soft);
  paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
svg .ink { fill: none; stroke: var(--accent); stroke-width: 1.4; stroke-linejoin: round; } svg .axis { stroke: var(--line); stroke-width: 1; }
svg .limit { stroke: var(--reject); stroke-width: 1.2; stroke-dasharray: 5 3; } svg text.limit-text { fill: var(--reject); }
svg .cut { stroke: var(--cut); stroke-width: 1.2; } svg .frame { fill: none; stroke: var(--line); } svg .dot { fill: var(--accent); }
svg .f-kept { fill: var(--kept); } svg .f-reject { fill: var(--reject); } svg .f-cond { fill: var(--cond); } svg .f-wash { fill: var(--wash); } svg .f-well { fill: var(--well); }
.hists { display: grid; grid-template-columns: repeat(auto-fill, minmax(350px, 1fr)); gap: 14px; } .hists .card { break-inside: avoid; }
.hists h3, .timeline h3 { margin: 0 0 2px; overflow-wrap: anywhere; } .timeline { margin-bottom: 14px; break-inside: avoid; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 5px 0 14px; } .legend i:first-child { margin-left: 0; }
.scales { display: grid; gap: 6px; } .scales figure { margin: 0; } .scales img { width: 100%; display: block; border-radius: 4px; } .scales .zoom { image-rendering: pixelated; margin-top: 4px; }
.scales figcaption { font-size: 13px; color: var(--soft); margin-top: 3px; } .scales figcaption b { color: var(--fg); font-weight: 600; }
footer { margin: 50px 0 40px; color: var(--soft); font-size: 13px; border-top: 1px solid var(--line); padding-top: 14px; }
@media print { nav { display: none; } body { background: #fff; font-size: 11pt; } .sheet { grid-template-columns: 1fr 1fr; } h2 { break-after: avoid; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
@media (max-width: 560px) { .sheet { grid-template-columns: 1fr; } main, header > div, nav > div { padding: 0 16px; } }
"""


@dataclass(frozen=True)
class Section:
    """A titled part of the page. `body` is HTML; title and lead are plain text."""

    key: str
    title: str
    lead: str
    body: str

    @property
    def html(self) -> str:
        return f'<section><h2 id="{self.key}">{escape(self.title)}</h2><p>{escape(self.lead)}</p>{self.body}</section>'


def page(title: str, head: str, sections: Iterable[Section], foot: str) -> str:
    """The whole document from its header, sections and footer (HTML)."""
    shown = list(sections)
    links = "".join(f'<a href="#{s.key}">{escape(s.title)}</a>' for s in shown)
    body = "\n".join(s.html for s in shown)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><header><div>{head}</div></header>"
        f"<nav><div>{links}</div></nav>\n<main>{body}\n<footer>{foot}</footer></main></body></html>\n"
    )


def number(value: Any, unit: str = "") -> str:
    """A number as people write it: `1,234,567`, `0.0123`, `12.3`; `-` for null. Bools and texts as they are."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or float(value).is_integer():
        text = f"{int(value):,}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}" if unit else text


def seconds(value: float | None) -> str:
    """Seconds as `1.25 s`, `4 min 05 s`, `2 h 07 min`; `-` for null."""
    if value is None:
        return "-"
    if value < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(num_bytes: float | None) -> str:
    """Bytes as `1.2 MB`."""
    if num_bytes is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def image(jpeg: bytes, alt: str, css: str = "") -> str:
    """An <img> that carries its own bytes."""
    kind = f' class="{css}"' if css else ""
    return f'<img{kind} alt="{escape(alt)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'


def table(head: Iterable[str], rows: Iterable[Iterable[str] | str], numeric: Iterable[int] = ()) -> str:
    """A table. Cells are HTML (a whole `<tr>` may stand for a row); heads are plain text; columns in `numeric` stand right."""
    right = set(numeric)
    css = [' class="n"' if i in right else "" for i in range(99)]
    top = "".join(f"<th{css[i]}>{escape(cell)}</th>" for i, cell in enumerate(head))
    body = "".join(row if isinstance(row, str) else "<tr>" + "".join(
        cell if cell.startswith("<td") else f"<td{css[i]}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def bar_cell(share: float, css: str = "fill") -> str:
    """A table cell with a bar of 0-1 of its width."""
    return f'<td class="bar"><span class="fill {css}" style="width:{max(0.0, min(1.0, share)) * 100:.1f}%"></span></td>'


def chip(text: str, css: str = "") -> str:
    return f'<span class="chip {css}">{escape(text)}</span>'
