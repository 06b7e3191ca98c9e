# SPDX-License-Identifier: Apache-2.0
"""What is joined to the samples of one unit: caption texts by clip and time, and columns by clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from reelmill.column import arrow_schema
from reelmill.ids import draw_of
from reelmill.mirror import mirrored
from reelmill.tables import CAPTION_TEXTS, CLIP_ID, RENDERING, RENDERINGS, SOURCE_ID
from reelmill.views import View

ABOUT = ("clip_id", "span_start_pts", "span_end_pts", "caption_grounding", "status", "captioner_id")
MAIN_TEXTS = ("Brief Description", "Detailed Description", "Summarized Description")


@dataclass(frozen=True, slots=True)
class Captions:
    """Which texts a sample gets, and which of them is its caption.

    Args:
        captioner: folder name below `captions/`; null: the first of the view's that has a text for the window.
        grounding: rows to take. `model`: written by a vision-language model; `measured`: made from measurements
            alone, true but poor, so they come only if asked for.
        main: the caption is one of these, each as likely as the others, drawn per sample and epoch.
        num_extra: and so many of the other texts, drawn likewise.

    Source: a third each of brief, detailed and summarized, with one further field: UltraVideo (arXiv 2506.13691).
    """

    captioner: str | None = None
    grounding: tuple[str, ...] = ("model",)
    main: tuple[str, ...] = MAIN_TEXTS
    num_extra: int = 1

    def __post_init__(self) -> None:
        unknown = set(self.main) - set(CAPTION_TEXTS)
        if unknown:
            raise ValueError(f"main has {min(unknown)!r}; the texts are {', '.join(CAPTION_TEXTS)}")
        wrong = set(self.grounding) - {"model", "measured"}
        if wrong:
            raise ValueError(f"grounding has {min(wrong)!r}; it may be model and measured")

    def choose(self, texts: dict[str, Any], rng: np.random.Generator) -> tuple[str | None, tuple[str, ...]]:
        """(caption, names of the texts that it was made of); null where all are null."""
        main = [name for name in self.main if texts[name]]
        extra = [name for name in CAPTION_TEXTS if name not in self.main and texts[name]]
        names = [main[rng.integers(len(main))]] if main else []
        names += [extra[i] for i in rng.permutation(len(extra))[: self.num_extra]]
        return join(texts, names) or None, tuple(names)


EMPTY = "empty"
"""Name of the rendering that guidance needs: no caption at all."""


@dataclass(frozen=True, slots=True)
class Renderings:
    """Which captions of a clip are built once and for all, so that their features can be stored.

    One for each of `main`, with `num_extra` of the other texts, drawn from clip and seed: what `Captions` with the
    same `main` and `num_extra` may draw.

    Source: as `Captions`.
    """

    main: tuple[str, ...] = MAIN_TEXTS
    num_extra: int = 1
    seed: int = 0

    def of(self, clip_id: str, texts: dict[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
        """(name, texts that it is made of) of each rendering; a clip without a text lacks the rendering on it."""
        return [(name, self._fields(clip_id, name, texts)) for name in self.main if texts[name]]

    def _fields(self, clip_id: str, name: str, texts: dict[str, Any]) -> tuple[str, ...]:
        others = [other for other in CAPTION_TEXTS if other not in self.main and texts[other]]
        order = sorted(others, key=lambda other: draw_of("rendering", self.seed, f"{clip_id}/{name}/{other}"))
        return (name, *order[: self.num_extra])

    def rows(self, captions: pa.Table) -> list[dict[str, Any]]:
        """Rows of tables.RENDERINGS for rows of tables.CAPTIONS."""
        found = []
        for row in captions.to_pylist():
            for name, names in self.of(row["clip_id"], row):
                keys = {"clip_id": row["clip_id"], "source_id": row["source_id"], RENDERING.name: name}
                found.append({**keys, "rendered_fields": list(names), "rendered_text": join(row, names)})
        return found


def join(texts: dict[str, Any], names: Sequence[str]) -> str:
    """The caption that is made of the texts `names`."""
    return " ".join(texts[name] for name in names)


def rendering_rows(captions: pa.Table, renderings: Renderings, with_empty: bool) -> pa.Table:
    """Rows of clip_id, source_id and tables.RENDERINGS; `with_empty`: and one of the empty caption."""
    rows = renderings.rows(captions)
    if with_empty:
        rows.append({"clip_id": "", "source_id": "", RENDERING.name: EMPTY, "rendered_fields": [], "rendered_text": ""})
    return pa.Table.from_pylist(rows, schema=arrow_schema((CLIP_ID, SOURCE_ID, *RENDERINGS)))


class UnitCaptions:
    """Captions and joined columns of one unit.

    Args:
        captions: rows of the captions tables that may be used, the preferred captioner's first.
        columns: one row per clip.
    """

    def __init__(self, captions: pa.Table | None, columns: pa.Table | None) -> None:
        self._columns = columns
        self._rows_of: dict[str, list[int]] = {}
        if captions is not None:
            table = captions.combine_chunks()
            self._cells = {name: _cells(table.column(name)) for name in (*ABOUT, *CAPTION_TEXTS)}
            spans = [self._cells[name].fill_null(0).to_numpy() for name in ABOUT[1:3]]  # null: of a failed row
            self._spans_N2 = np.stack(spans, axis=1)
            states = zip(self._cells["clip_id"].to_pylist(), self._cells["status"].to_pylist(), strict=True)
            for row, (clip, status) in enumerate(states):
                if status != "failed":
                    self._rows_of.setdefault(clip, []).append(row)
        names = [] if columns is None else columns.column("clip_id").to_pylist()
        self._row_of = {clip: row for row, clip in enumerate(names)}

    @staticmethod
    def load(view: View, unit: int, columns: Sequence[str], captions: Captions) -> "UnitCaptions":
        """Reads the unit's captions and joined columns.

        Raises:
            ValueError: the view has no such captioner or column.
        """
        paths, captioner = view.table_paths("captions"), captions.captioner
        if captioner is not None and f"captions/{captioner}" not in paths:
            raise ValueError(f"view {view.version} has no captioner {captioner!r}; it has {', '.join(paths) or 'none'}")
        tables = []
        for path in view.unit_files("captions", unit):
            if captioner is None or path.startswith(f"captions/{captioner}/"):
                table = view.store.read_table(path, [*ABOUT, *CAPTION_TEXTS])
                grounded = pa.array([g in captions.grounding for g in table.column("caption_grounding").to_pylist()])
                tables.append(table.filter(grounded.cast(pa.bool_())))
        texts = pa.concat_tables(tables).combine_chunks() if tables else None
        return UnitCaptions(texts, view.attributes(unit, columns) if columns else None)

    def value(self, clip_id: str, column: str) -> Any:
        """The clip's value; null if it has none."""
        row = self._row_of.get(clip_id)
        return None if row is None or self._columns is None else self._columns.column(column)[row].as_py()

    def text(self, clip_id: str, frame_pts: Sequence[int], is_flipped: bool = False) -> dict[str, Any] | None:
        """The ten texts for a window, and where they come from; null if nothing was said.

        Of the caption rows that cover the window the one with the narrowest span; if none covers it, the one that
        overlaps it most. `caption_coverage` is the share of the window's time that the row describes.

        Args:
            is_flipped: left and right are swapped in the texts (`reelmill.mirror`).
        """
        rows = self._rows_of.get(clip_id)
        if not rows:
            return None
        first, last = frame_pts[0], frame_pts[-1] + 1
        spans = {row: tuple(self._spans_N2[row].tolist()) for row in rows}
        row = max(rows, key=lambda r: (_coverage(spans[r], first, last), spans[r][0] - spans[r][1]))
        texts = {name: self._cells[name][row].as_py() for name in CAPTION_TEXTS}
        if is_flipped:
            texts = {name: None if text is None else mirrored(text) for name, text in texts.items()}
        return {
            **texts,
            "caption_grounding": self._cells["caption_grounding"][row].as_py(),
            "captioner_id": self._cells["captioner_id"][row].as_py(),
            "caption_coverage": _coverage(spans[row], first, last),
        }


def _cells(column: pa.ChunkedArray) -> pa.Array:
    """A column of a table of combined chunks as one array, whose cells are had faster."""
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _coverage(span: tuple[int, int], first: int, last: int) -> float:
    return max(0, min(last, span[1]) - max(first, span[0])) / (last - first)
