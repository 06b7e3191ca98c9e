# SPDX-License-Identifier: Apache-2.0
"""SVG charts as text: a time series with its limits and cuts, a histogram. Colours come from the page's style."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from pipelines.report.page import number

WIDTH, LEFT, RIGHT = 1120, 56, 14
MAX_POINTS = 700  # more samples are drawn as the extremes of each pixel column


@dataclass(frozen=True)
class Limit:
    """A threshold: its value on the value axis, what to call it, and whether good values lie above it."""

    value: float
    label: str
    is_floor: bool = False


@dataclass(frozen=True)
class Panel:
    """One measured series of a source. Times in seconds, ascending; values may be NaN (a gap)."""

    label: str
    times: np.ndarray
    values: np.ndarray
    limits: tuple[Limit, ...] = ()


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values within [low, high], about `count` of them."""
    span = max(high - low, 1e-9)
    step = 10 ** math.floor(math.log10(span / count))
    step *= min((m for m in (1, 2, 5, 10) if span / (step * m) <= count + 0.5), default=10)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def thin(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_POINTS points that keep every peak: the least and the greatest value of each stretch."""
    if len(values) <= MAX_POINTS:
        return times, values
    picked: list[int] = []
    for part in np.array_split(np.arange(len(values)), MAX_POINTS // 2):
        chunk = values[part]
        if np.isnan(chunk).all():
            picked.append(int(part[0]))
        else:
            picked += sorted({int(part[np.nanargmin(chunk)]), int(part[np.nanargmax(chunk)])})
    return times[picked], values[picked]


def path(xs: Any, ys: Any) -> str:
    """Path data through the points; a NaN breaks the line."""
    parts, is_open = [], False
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        if math.isnan(y):
            is_open = False
            continue
        parts.append(f"{'L' if is_open else 'M'}{x:.1f} {y:.1f}")
        is_open = True
    return "".join(parts)


def _range(panel: Panel) -> tuple[float, float]:
    """Value range: the data, and those limits that do not squash it."""
    finite = panel.values[np.isfinite(panel.values)]
    high = float(finite.max()) if len(finite) else 1.0
    low = min(0.0, float(finite.min())) if len(finite) else 0.0
    for limit in panel.limits:
        if limit.value <= 4 * high or (limit.is_floor and low < limit.value):
            high = max(high, limit.value)
        low = min(low, limit.value)
    return low, (high if high > low else low + 1) + 0.1 * (high - low)


def _panel(panel: Panel, x: "Axis", top: float, height: float, cuts: Sequence[float]) -> str:
    low, high = _range(panel)

    def y_of(value: np.ndarray | float) -> np.ndarray | float:
        return top + height - (value - low) / (high - low) * height

    out = [f'<rect class="f-wash" x="{LEFT}" y="{top}" width="{x.width:.1f}" height="{height}"/>']
    for tick in ticks(low, high, 2):
        y = y_of(tick)
        out.append(
            f'<line class="axis" x1="{LEFT}" x2="{LEFT + x.width:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(round(tick, 6))}</text>'
        )
    out += [f'<line class="cut" x1="{x(c):.1f}" x2="{x(c):.1f}" y1="{top}" y2="{top + height}"/>' for c in cuts]
    times, values = thin(panel.times, panel.values)
    if len(times) <= 40:
        out += [
            f'<circle class="dot" cx="{x(t):.1f}" cy="{y_of(v):.1f}" r="2"/>'
            for t, v in zip(times.tolist(), values.tolist(), strict=True)
            if not math.isnan(v)
        ]
    out.append(f'<path class="ink" d="{path(x(times), y_of(values))}"/>')
    for limit in panel.limits:
        if low <= limit.value <= high:
            y = y_of(limit.value)
            out.append(
                f'<line class="limit" x1="{LEFT}" x2="{LEFT + x.width:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="limit-text" x="{LEFT + x.width - 4:.1f}" y="{y - 3 if y - top > 12 else y + 11:.1f}" '
                f'text-anchor="end">{escape(limit.label)}</text>'
            )
    out.append(f'<text x="{LEFT}" y="{top - 4}">{escape(panel.label)}</text>')
    return "".join(out)


@dataclass(frozen=True)
class Axis:
    """Maps seconds to x."""

    start: float
    end: float
    width: float

    def __call__(self, t: np.ndarray | float) -> np.ndarray | float:
        return LEFT + (t - self.start) / max(self.end - self.start, 1e-9) * self.width


@dataclass(frozen=True)
class Band:
    """A clip on the time axis; `css` is kept, cond or reject."""

    start: float
    end: float
    css: str
    label: str


@dataclass(frozen=True)
class Frame:
    """A picture of the source at a time; `is_first` of a clip."""

    at: float
    jpeg: bytes
    is_first: bool = False


def _film(frames: Sequence[Frame], x: Axis, wide: int, tall: int) -> str:
    """Pictures whose left edge stands at their time. Of those that would overlap, a clip's first frame stays."""
    out: list[str] = []
    taken: list[float] = []
    for frame in sorted(frames, key=lambda f: (not f.is_first, f.at)):
        left = min(float(x(frame.at)), WIDTH - RIGHT - wide)
        if all(abs(left - other) > wide + 2 for other in taken):
            taken.append(left)
            out.append(
                f'<image x="{left:.1f}" y="0" width="{wide}" height="{tall}" '
                f'href="data:image/jpeg;base64,{base64.b64encode(frame.jpeg).decode()}"/>'
                f'<rect class="frame" x="{left:.1f}" y="0" width="{wide}" height="{tall}"/>'
            )
    return "".join(out)


def timeline(
    panels: Sequence[Panel],
    bands: Sequence[Band],
    cuts: Sequence[float],
    end_s: float,
    describe: str,
    frames: Sequence[Frame] = (),
) -> str:
    """Pictures and clips as bands on top, then the panels, all on one time axis from 0 to `end_s`."""
    x = Axis(0.0, max(end_s, 1e-3), WIDTH - LEFT - RIGHT)
    wide, tall = (112, 63) if frames else (0, 0)
    height, gap, top = 50, 20, tall + 40
    total = top + len(panels) * (height + gap) + 20
    out = [
        f'<svg viewBox="0 0 {WIDTH} {total}" role="img" aria-label="{escape(describe)}">',
        _film(frames, x, wide, tall),
    ]
    for band in bands:
        left, right = float(x(band.start)), float(x(band.end))
        length = max(right - left - 1.5, 1.5)
        out.append(
            f'<rect class="f-{band.css}" x="{left:.1f}" y="{tall + 5}" width="{length:.1f}" height="12" rx="3">'
            f"<title>{escape(band.label)}</title></rect>"
        )
    for index, panel in enumerate(panels):
        out.append(_panel(panel, x, top + index * (height + gap), height, cuts))
    bottom = total - 6
    for tick in ticks(0, x.end, 8):
        out.append(f'<text x="{x(tick):.1f}" y="{bottom}" text-anchor="middle">{number(round(tick, 3))} s</text>')
    return "".join(out) + "</svg>"


def histogram(kept: np.ndarray, rejected: np.ndarray, limits: Sequence[Limit], describe: str, bins: int = 36) -> str:
    """Two stacked distributions with the limits drawn in; values past the 99.5th percentile count into the last bin."""
    both = np.concatenate([kept, rejected])
    low, high = _span(both, [limit.value for limit in limits])
    width, height, top, bottom = 420, 128, 22, 20
    edges = np.linspace(low, high, bins + 1)
    counts = [np.histogram(np.clip(part, low, high), edges)[0] for part in (kept, rejected)]
    peak = max(1, int((counts[0] + counts[1]).max()))
    step = width / bins
    out = [f'<svg viewBox="0 0 {width} {top + height + bottom}" role="img" aria-label="{escape(describe)}">']
    for index in range(bins):
        base = float(top + height)
        for count, css in ((counts[0][index], "f-kept"), (counts[1][index], "f-reject")):
            tall = count / peak * height
            if tall:
                base -= tall
                out.append(
                    f'<rect class="{css}" x="{index * step:.1f}" y="{base:.1f}" '
                    f'width="{step - 1:.1f}" height="{tall:.1f}"/>'
                )
    out.append(f'<line class="axis" x1="0" x2="{width}" y1="{top + height}" y2="{top + height}"/>')
    for tick in ticks(low, high, 4):
        x = (tick - low) / (high - low) * width
        anchor = "start" if x < 12 else "end" if x > width - 12 else "middle"
        out.append(f'<text x="{x:.1f}" y="{top + height + 15}" text-anchor="{anchor}">{number(round(tick, 6))}</text>')
    for limit in limits:
        if not low <= limit.value <= high:
            side = 0 if limit.value < low else width
            text = f"← {limit.label}" if side == 0 else f"{limit.label} →"
            out.append(
                f'<text class="limit-text" x="{side}" y="13" '
                f'text-anchor="{"start" if side == 0 else "end"}">{escape(text)}</text>'
            )
            continue
        x = (limit.value - low) / (high - low) * width
        anchor, dx = ("end", -4) if x > width / 2 else ("start", 4)
        out.append(
            f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{top + height}"/>'
            f'<text class="limit-text" x="{x + dx:.1f}" y="13" text-anchor="{anchor}">{escape(limit.label)}</text>'
        )
    return "".join(out) + "</svg>"


def _span(values: np.ndarray, limits: Sequence[float]) -> tuple[float, float]:
    """Range to draw: the values, and those limits that do not squash them."""
    low, high = (float(v) for v in np.percentile(values, [0, 99.5])) if len(values) else (0.0, 1.0)
    reach = 2 * max(high - low, abs(high), 1e-9)
    low, high = (
        min([low, *(v for v in limits if v > low - reach)]),
        max([high, *(v for v in limits if v < high + reach)]),
    )
    if low > 0 and low < 0.35 * high:
        low = 0.0
    pad = 0.03 * (high - low) or max(abs(high), 1.0) * 0.5
    return (low if low == 0 else low - pad), high + pad
