# SPDX-License-Identifier: Apache-2.0
"""The demonstration: sample footage with known faults goes through the mill; what it found is held to the labels.

Keys of a label's `expected`, all of which must hold:

    ignored      the file is counted as no media and has no row
    error_kind   the source's row says so
    damaged      the damage was noticed: in the series, or as an error
    num_clips    clips found in the source
    cut_frame    one of its clips begins at exactly this frame
    tier         tier of all its clips
    reason       a rule with this word in its name or column turned a clip away
    other keys   the value of that column of `sources`
"""

import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reelmill.storage import Store

if TYPE_CHECKING:
    from rich.table import Table

RECIPE = "quickstart"


@dataclass
class Found:
    """What a data set says about one source."""

    source: dict[str, Any]
    clips: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    frame_pts: list[int] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    @property
    def tiers(self) -> list[str]:
        return sorted({d["tier"] for d in self.decisions})

    @property
    def reasons(self) -> list[dict[str, Any]]:
        return [reason for d in self.decisions for reason in d["reasons"] or []]

    @property
    def first_frames(self) -> list[int]:
        """Index in the source of each clip's first frame."""
        place = {pts: index for index, pts in enumerate(self.frame_pts)}
        return [place[clip["start_pts"]] for clip in self.clips if clip["start_pts"] in place]

    def holds(self, key: str, value: Any) -> bool:
        """Whether one key of a label's `expected` is met."""
        if key == "damaged":
            return bool(self.damage or self.source.get("error_kind")) == value
        if key == "num_clips":
            return len(self.clips) == value
        if key == "cut_frame":
            return value in self.first_frames
        if key == "tier":
            return self.tiers == [value]
        if key == "reason":
            return any(value in reason["rule"] or value in reason["column"] for reason in self.reasons)
        return key in self.source and self.source[key] == value

    def text(self, keys: tuple[str, ...]) -> str:
        """In words, with the source facts that a label asks for."""
        if self.source.get("error_kind"):
            message = str(self.source["error"]).removeprefix(f"{self.source['uri']}: ")
            return f"{self.source['error_kind']}: {shorten(message, 70, placeholder=' ...')}"
        parts = [f"{key} {self.source.get(key)}" for key in keys if key in self.source and key != "error_kind"]
        parts.append(_clips(len(self.clips)))
        if len(self.clips) > 1:
            parts.append("cut at frame " + ", ".join(map(str, self.first_frames[1:])))
        rules = sorted({reason["rule"] for reason in self.reasons})
        parts += [
            *self.tiers,
            *([f"by {', '.join(rules)}"] if rules else []),
            *(["damage noticed"] if self.damage else []),
        ]
        return ", ".join(parts)


@dataclass(frozen=True)
class Row:
    """One line of the comparison. `verdict` is ok or MISS."""

    file: str
    fault: str
    expected: str
    found: str
    verdict: str


def run_demo(out: str, samples: str | None = None, address: str | None = None) -> int:
    """Renders the footage, mills it, compares.

    Args:
        out: the data set's directory or s3:// URI.
        samples: folder of the footage; null: the user's cache.
        address: as `run --address`.

    Returns: the exit code: 0 if the mill is clean and nothing was missed, 130 after Ctrl-C.
    """
    from rich.console import Console

    from pipelines.cli import run_mill
    from pipelines.mill import Options
    from pipelines.plan import build_plan
    from pipelines.recipe import load_recipe
    from pipelines.samples import default_folder

    console = Console()
    folder = Path(samples) if samples else default_folder()
    started = time.monotonic()
    try:
        _render(folder, console)
    except KeyboardInterrupt:
        console.print("stopped; the files rendered so far stay. The same command goes on from there.")
        return 130
    rendered = time.monotonic()
    code = run_mill(build_plan(load_recipe(RECIPE)), Options(input=str(folder), out=out, address=address, strict=True))
    if code:
        return code
    milled = time.monotonic()
    table, misses = check_demo(out, str(folder))
    console.print(table)
    console.print(
        f"footage {rendered - started:.0f} s, milling and report {milled - rendered:.0f} s; "
        + ("everything expected was found" if not misses else f"[bold red]{misses} missed[/]")
    )
    console.print(f"report: {Store(out).uri('report.html')}", soft_wrap=True)
    return 1 if misses else 0


def _render(folder: Path, console: Any) -> None:
    from pipelines.samples import SAMPLES, missing, render_samples

    todo = missing(folder)
    if todo:
        console.print(
            f"rendering {len(todo)} of {len(SAMPLES)} sample files into {folder} (once; kept for next time)",
            soft_wrap=True,
        )
    done: list[str] = []

    def tell(name: str, took: float) -> None:
        done.append(name)
        console.print(f"  {len(done):2d}/{len(todo)} {name} ({took:.1f} s)", highlight=False, soft_wrap=True)

    render_samples(folder, on_done=tell)


def check_demo(root: str, samples_dir: str) -> "tuple[Table, int]":
    """The comparison as a table to print, and the number of misses.

    Args:
        root: the data set milled from the samples.
        samples_dir: where the samples and `labels.json` are.
    """
    from rich.markup import escape
    from rich.table import Table

    labels = json.loads((Path(samples_dir) / "labels.json").read_text(encoding="utf-8"))
    rows = expected_against_found(root, labels)
    table = Table(title="expected against found")
    for name in ("file", "fault", "expected", "found", ""):
        table.add_column(name, overflow="fold", no_wrap=name in ("file", ""))
    colors = {"ok": "green", "MISS": "bold red"}
    for row in rows:
        table.add_row(
            *map(escape, (row.file, row.fault, row.expected, row.found)), f"[{colors[row.verdict]}]{row.verdict}[/]"
        )
    return table, sum(row.verdict == "MISS" for row in rows)


def expected_against_found(root: str, labels: dict[str, Any]) -> list[Row]:
    """One row per label. Raises FileNotFoundError if `root` is no data set."""
    store = Store(root)
    manifest = json.loads(store.read_bytes("manifest.json"))
    found = read_findings(store, manifest)
    ignored = set((manifest.get("ignored_files") or {}).get("examples", []))
    return [_compare(label, found.get(label["file"]), label["file"] in ignored) for label in labels["samples"]]


def _compare(label: dict[str, Any], found: Found | None, is_ignored: bool) -> Row:
    expected = label["expected"]
    if found is None:
        text, is_met = ("ignored", expected.get("ignored", False)) if is_ignored else ("no row", False)
    else:
        text = found.text(tuple(expected))
        is_met = not expected.get("ignored") and all(found.holds(key, value) for key, value in expected.items())
    return Row(label["file"], label["fault"], _expected_text(expected), text, "ok" if is_met else "MISS")


def _expected_text(expected: dict[str, Any]) -> str:
    words = {
        "ignored": "ignored",
        "damaged": "damage noticed",
        "cut_frame": "cut at frame {}",
        "tier": "{}",
        "reason": "by {}",
        "error_kind": "{}",
    }
    parts = [f"{k} {v}" for k, v in expected.items() if k not in words and k != "num_clips"]
    parts += [_clips(expected["num_clips"])] if "num_clips" in expected else []
    return ", ".join(parts + [words[k].format(v) for k, v in expected.items() if k in words])


def _clips(num: int) -> str:
    return "1 clip" if num == 1 else f"{num} clips"


def read_findings(store: Store, manifest: dict[str, Any]) -> dict[str, Found]:
    """Everything about each source, by relative path. Meant for small data sets."""
    tables = manifest["tables"]
    found = {row["source_id"]: Found(row) for row in _rows(store, tables["sources"])}
    for clip in sorted(
        _rows(store, tables["clips"], ["source_id", "clip_id", "start_pts"]), key=lambda row: row["start_pts"]
    ):
        found[clip["source_id"]].clips.append(clip)
    for decision in _rows(store, tables["selection"], ["source_id", "clip_id", "tier", "reasons"]):
        found[decision["source_id"]].decisions.append(decision)
    segments: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows(
        store, tables["series"], ["source_id", "segment_index", "frame_pts", "num_corrupt_frames", "damage", "error"]
    ):
        segments[row["source_id"]].append(row)
    for source_id, rows in segments.items():
        for row in sorted(rows, key=lambda row: row["segment_index"]):
            found[source_id].frame_pts += row["frame_pts"] or []
            found[source_id].damage += [
                text for text in (row["damage"], row["error"], row["num_corrupt_frames"] and "damaged frames") if text
            ]
    return {one.source["relpath"]: one for one in found.values()}


def _rows(store: Store, rel: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    names = [n for n in store.list(rel) if n.startswith("unit-") and n.endswith(".parquet")]
    return pa.concat_tables([store.read_table(f"{rel}/{n}", columns) for n in names]).to_pylist() if names else []
