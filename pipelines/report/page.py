# SPDX-License-Identifier: Apache-2.0
"""The page around the sections: one HTML file that loads nothing, in light and dark and on paper."""

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

STYLE = Path(__file__).with_name("style.css")


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
        f"<title>{escape(title)}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>\n<body><header><div>{head}</div></header>"
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
    """A table. Cells are HTML (a whole `<tr>` may stand for a row); heads are text; `numeric` columns stand right."""
    right = set(numeric)
    css = [' class="n"' if i in right else "" for i in range(99)]
    top = "".join(f"<th{css[i]}>{escape(cell)}</th>" for i, cell in enumerate(head))
    body = "".join(
        row
        if isinstance(row, str)
        else "<tr>"
        + "".join(cell if cell.startswith("<td") else f"<td{css[i]}>{cell}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def bar_cell(share: float, css: str = "fill") -> str:
    """A table cell with a bar of 0-1 of its width."""
    return f'<td class="bar"><span class="fill {css}" style="width:{max(0.0, min(1.0, share)) * 100:.1f}%"></span></td>'


def chip(text: str, css: str = "") -> str:
    return f'<span class="chip {css}">{escape(text)}</span>'
