# SPDX-License-Identifier: Apache-2.0
"""Text: is a line found, is it called overlay when it is one, and how often is text seen where there is none.

Each clip is encoded and goes through the operator as in a run. A line counts as found as overlay if, in any of the
frames that were read, a box of that kind covers half of its ink.
"""

import resource
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.ladders.judge import Floor, Row, Section, judge
from benchmarks.ladders.text_films import (
    FULL_HD,
    HD,
    UHD,
    WITH_TEXT,
    Drawn,
    Film,
    fetch,
    five_lines,
    line_of,
    picture_of,
    placed,
    sources,
    write_film,
)
from operators.text import Text

CAMERAS = ("pan", "tilt", "zoom")
OPACITIES = (1.0, 0.6, 0.3)
HEIGHTS = (0.01, 0.015, 0.02, 0.03, 0.05)
UHD_SOURCES = ("Kleiber", "seeding", "Volna", "Dragonfly", "picosdeeuropa", "Bridge")
SIGNAL = "text_overlay_area_share"


@dataclass(frozen=True)
class Result:
    """What the operator said of a film; `cpu_s` of its process, the decode child's not included."""

    film: Film
    row: dict[str, Any]
    cpu_s: float


def films(quick: bool = False) -> list[Film]:
    """Every film of the benchmark, in the order of their sources."""
    names = [("Garden", "photo"), ("life", "photo")] if quick else sources()
    found = []
    for place, (source, kind) in enumerate(names):
        found += [
            Film(f"{source} {camera}", source, kind, FULL_HD if camera == "pan" else HD, camera, 10 * place + turn)
            for turn, camera in enumerate(CAMERAS[: 1 if quick else None])
        ]
        if kind == "photo":
            found += _with_lines(source, kind, place, quick)
    return [placed(film) for film in found]


def _with_lines(source: str, kind: str, place: int, quick: bool) -> list[Film]:
    """Five overlays at each opacity, five lines in the scene, a fixed camera, a ticker, overlays in 3840 x 2160."""
    rng = np.random.default_rng(3000 + place)
    size, camera = (FULL_HD, HD)[place % 2], CAMERAS[place % 3]

    def film(
        name: str, lines: tuple[Drawn, ...], size: tuple[int, int] = size, camera: str = camera, **how: Any
    ) -> Film:
        return Film(f"{source} {name}", source, kind, size, camera, 10 * place + 5, lines, **how)

    found = [film(f"overlay {opacity:.0%}", five_lines(rng, opacity)) for opacity in OPACITIES]
    found.append(film("scene text", five_lines(rng, 1.0), is_scene=True))
    if place % 3 == 0:
        found.append(film("fixed camera", five_lines(rng, 1.0), camera="tripod", size=HD))
        found.append(film("ticker", (line_of(rng, 0.03, 1.0, "subtitle"),), size=HD, is_ticker=True))
    if source in UHD_SOURCES:
        found.append(film("overlay 4K", five_lines(rng, 1.0), size=UHD))
    return found[:2] if quick else found


def measure(all_films: Iterable[Film], operator: Text) -> tuple[list[Result], float]:
    """Results, and the CPU seconds of the decode child over all films."""
    results, picture = [], ("", np.zeros((1, 1, 3), np.uint8))
    children_s = _children_s()
    state = operator.setup()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for film in all_films:
                if picture[0] != film.source:
                    picture = film.source, picture_of(film.source)
                results.append(_measured(film, picture[1], operator, state, Path(folder) / "clip.mp4"))
    finally:
        operator.close(state)
    return results, _children_s() - children_s


def _measured(film: Film, picture_HWC: np.ndarray, operator: Text, state: Any, path: Path) -> Result:
    clip = {
        "clip_id": film.name,
        "uri": str(path),
        "frame_pts": write_film(film, picture_HWC, path),
        "width_px": film.size[1],
        "height_px": film.size[0],
        "pixel_aspect": 1.0,
        **_time_base(path),
    }
    table = pa.Table.from_pylist([clip], schema=pa.schema({c.name: c.dtype for c in operator.reads}))
    started = time.process_time()
    row = operator.process(state, table).to_pylist()[0]
    if row["error"]:
        raise RuntimeError(f"{film.name}: {row['error']}")
    return Result(film, row, time.process_time() - started)


def _time_base(path: Path) -> dict[str, int]:
    import av

    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
    assert base is not None
    return {"time_base_num": base.numerator, "time_base_den": base.denominator}


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def overlay_area(result: Result, line: Drawn) -> float:
    """Largest area, in shares of the frame, of an overlay box on the line; 0 if there is none."""
    return max((box["width"] * box["height"] for box in boxes_on(result, line, ("overlay",))), default=0.0)


def boxes_on(
    result: Result, line: Drawn, kinds: Sequence[str] = ("overlay", "scene", "static")
) -> list[dict[str, Any]]:
    """The boxes of these kinds that cover half of the line's ink (anywhere in a film whose text moves: same words)."""
    boxes = [box for box in result.row["text_boxes"] if box["kind"] in kinds]
    if result.film.is_scene or result.film.is_ticker:
        return [box for box in boxes if _same_words(box["text"], line.text)]
    return [box for box in boxes if _covered(box, line.box, result.film.size) >= 0.5]


def _covered(box: dict[str, Any], ink: tuple[int, int, int, int], size: tuple[int, int]) -> float:
    height, width = size
    across = min(ink[2], (box["left"] + box["width"]) * width) - max(ink[0], box["left"] * width)
    down = min(ink[3], (box["top"] + box["height"]) * height) - max(ink[1], box["top"] * height)
    return max(across, 0) * max(down, 0) / ((ink[2] - ink[0]) * (ink[3] - ink[1]))


def _same_words(read: str, drawn: str) -> bool:
    from difflib import SequenceMatcher

    return SequenceMatcher(None, read.replace(" ", ""), drawn.replace(" ", "")).ratio() >= 0.5


def run(quick: bool = False) -> Section:
    """The section of docs/accuracy.md."""
    fetch()
    results, children_s = measure(films(quick), Text())
    return section(results, children_s)


def section(results: Sequence[Result], children_s: float) -> Section:
    """Table, floors and notes from the results."""
    plain = [r for r in results if not r.film.lines]
    alarms = [r for r in plain if r.row[SIGNAL] > 0]
    ladder = [(r, line) for r in results for line in r.film.lines if "overlay" in r.film.name]
    at_two = _found_at_two(ladder, 1.0)
    return Section(
        "Text",
        TEXT,
        _rows(ladder, plain),
        [
            Floor("text: overlay recall, 2 % of the height", float(np.mean(at_two)), 0.95),
            Floor("text: clips without text that get an overlay", len(alarms) / len(plain), 0.01, is_ceiling=True),
        ],
        _notes(results, plain, children_s),
        [("text-recall", "Lines found as overlay", "height, % of the frame", "share", _curves(ladder))],
    )


TEXT = f"""Lines of five heights (the font's em over the frame's height; capitals are 0.7 of it) at five of seven places
over photographs under a moving camera, 1920 x 1080 and 1280 x 720, some at 3840 x 2160; plain white or black letters,
six Latin, two Cyrillic and one CJK font; H.264 crf 23. Bad: one line, good: a clip without text. The photographs
{", ".join(WITH_TEXT)} hold real lettering and are left out. Rule: `{SIGNAL}` above 0."""


def _found_at_two(ladder: Sequence[tuple[Result, Drawn]], opacity: float) -> list[bool]:
    return [overlay_area(r, n) > 0 for r, n in ladder if (n.height_share, n.opacity) == (0.02, opacity)]


def _rows(ladder: Sequence[tuple[Result, Drawn]], plain: Sequence[Result]) -> list[Row]:
    good, owners = [r.row[SIGNAL] for r in plain], [r.film.source for r in plain]
    rows = []
    for label, chosen in _levels(ladder):
        bad = [overlay_area(r, line) for r, line in chosen]
        rows.append(judge(SIGNAL, "photo", label, bad, good, [r.film.source for r, _ in chosen], owners))
    return rows


def _levels(ladder: Sequence[tuple[Result, Drawn]]) -> list[tuple[str, list[tuple[Result, Drawn]]]]:
    levels = [
        (
            f"{height:.1%} high, opacity {opacity:.0%}",
            [p for p in hd if (p[1].height_share, p[1].opacity) == (height, opacity)],
        )
        for hd in ([pair for pair in ladder if pair[0].film.size != UHD],)
        for opacity in OPACITIES
        for height in HEIGHTS
    ]
    uhd = [pair for pair in ladder if pair[0].film.size == UHD]
    levels += [
        (f"{height:.1%} high in 3840 x 2160", [p for p in uhd if p[1].height_share == height]) for height in HEIGHTS
    ]
    return [level for level in levels if level[1]]


def _curves(ladder: Sequence[tuple[Result, Drawn]]) -> list[tuple[str, list[float], list[float]]]:
    return [
        (
            f"opacity {opacity:.0%}",
            [100 * height for height in HEIGHTS],
            [
                float(
                    np.mean(
                        [overlay_area(r, n) > 0 for r, n in ladder if (n.height_share, n.opacity) == (height, opacity)]
                    )
                )
                for height in HEIGHTS
            ],
        )
        for opacity in OPACITIES
        if any(line.opacity == opacity for _, line in ladder)
    ]


def _notes(results: Sequence[Result], plain: Sequence[Result], children_s: float) -> list[str]:
    notes = [f"Clips without text: {len(plain)}. {_alarms(plain, SIGNAL)}. {_alarms(plain, 'text_area_share_max')}."]
    for name in ("scene text", "fixed camera", "ticker"):
        pairs = [(r, line) for r in results if r.film.name.endswith(name) for line in r.film.lines]
        if pairs:
            notes.append(f"{name}: {_split(pairs)}")
    for script in ("latin", "cyrillic", "cjk"):
        hits = [overlay_area(r, n) > 0 for r, n in _of_script(results, script)]
        notes.append(
            f"{script}, 2 % and higher, opacity 60 and 100 %: {sum(hits)} of {len(hits)} lines found as overlay"
        )
    notes.append(f"missed at 2 %, opacity 60 and 100 %: {', '.join(_missed(results)) or 'none'}")
    for size, label in ((HD, "1280 x 720"), (FULL_HD, "1920 x 1080"), (UHD, "3840 x 2160")):
        spent = [r.cpu_s for r in results if r.film.size == size]
        if spent:
            notes.append(f"CPU seconds a clip at {label}, three frames read: {np.mean(spent):.1f} (without decoding)")
    notes.append(
        f"decoding (12 frames a clip, nine of them looked at): {children_s / len(results):.2f} CPU seconds a clip"
    )
    return notes


def _alarms(plain: Sequence[Result], column: str) -> str:
    named = [f"{r.film.name} ({', '.join(r.row['text_strings'])})" for r in plain if r.row[column] > 0]
    return f"`{column}` above 0: {len(named)}{': ' + '; '.join(named) if named else ''}"


def _split(pairs: Sequence[tuple[Result, Drawn]]) -> str:
    """How many lines of 2 % and more were found, and what the boxes on them were called."""
    pairs = [(r, line) for r, line in pairs if line.height_share >= 0.02]
    found = [boxes_on(r, line) for r, line in pairs]
    kinds = [box["kind"] for boxes in found for box in boxes]
    shares = ", ".join(f"{kind} {kinds.count(kind) / len(kinds):.1%}" for kind in sorted(set(kinds)))
    hits = sum(map(bool, found))
    return f"{hits} of {len(pairs)} lines of 2 % and more are found; their {len(kinds)} boxes are {shares}"


def _of_script(results: Sequence[Result], script: str) -> list[tuple[Result, Drawn]]:
    return [
        (r, n)
        for r in results
        for n in r.film.lines
        if "overlay" in r.film.name and n.script == script and n.height_share >= 0.02 and n.opacity >= 0.6
    ]


def _missed(results: Sequence[Result]) -> list[str]:
    return [
        f"{r.film.name} ({n.text}, {n.slot})"
        for r in results
        for n in r.film.lines
        if "overlay" in r.film.name and n.height_share == 0.02 and n.opacity >= 0.6 and not overlay_area(r, n)
    ]
