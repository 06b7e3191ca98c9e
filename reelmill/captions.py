# SPDX-License-Identifier: Apache-2.0
"""What is joined to the samples of one unit: caption texts by clip and time, and columns by clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reelmill.tables import CAPTION_TEXTS
from reelmill.views import View

ABOUT = ("clip_id", "span_start_pts", "span_end_pts", "caption_grounding", "status", "captioner_id")


@dataclass(frozen=True)
class UnitCaptions:
    """Args: captions: rows of each clip. columns: values of each clip."""

    captions: dict[str, list[dict[str, Any]]]
    columns: dict[str, dict[str, Any]]

    @staticmethod
    def load(view: View, unit: int, columns: Sequence[str], captioner: str | None) -> "UnitCaptions":
        """Reads the unit's captions and joined columns.

        Args:
            captioner: folder name below `captions/`; null: the view's first.

        Raises:
            ValueError: the view has no such captioner or column.
        """
        paths = view.table_paths("captions")
        if captioner is not None and f"captions/{captioner}" not in paths:
            raise ValueError(f"view {view.version} has no captioner {captioner!r}; it has {', '.join(paths) or 'none'}")
        chosen = f"captions/{captioner}" if captioner else paths[0] if paths else ""
        captions: dict[str, list[dict[str, Any]]] = {}
        for path in view.unit_files("captions", unit):
            if path.startswith(f"{chosen}/"):
                for row in view.store.read_table(path, [*ABOUT, *CAPTION_TEXTS]).to_pylist():
                    captions.setdefault(row["clip_id"], []).append(row)
        rows = view.attributes(unit, columns).to_pylist() if columns else []
        return UnitCaptions(captions, {row["clip_id"]: row for row in rows})

    def value(self, clip_id: str, column: str) -> Any:
        """The clip's value; null if it has none."""
        return self.columns.get(clip_id, {}).get(column)

    def text(self, clip_id: str, frame_pts: Sequence[int]) -> dict[str, Any] | None:
        """The ten texts for a window, and where they come from; null if nothing was said.

        Of the caption rows that cover the window the one with the narrowest span; if none covers it, the one that
        overlaps it most. `caption_coverage` is the share of the window's time that the row describes.
        """
        rows = [row for row in self.captions.get(clip_id, []) if row["status"] != "failed"]
        if not rows:
            return None
        first, last = frame_pts[0], frame_pts[-1] + 1
        row = max(rows, key=lambda r: (_coverage(r, first, last), r["span_start_pts"] - r["span_end_pts"]))
        texts = {name: row[name] for name in CAPTION_TEXTS}
        return {
            **texts,
            "caption_grounding": row["caption_grounding"],
            "captioner_id": row["captioner_id"],
            "caption_coverage": _coverage(row, first, last),
        }


def _coverage(row: dict[str, Any], first: int, last: int) -> float:
    overlap = min(last, row["span_end_pts"]) - max(first, row["span_start_pts"])
    return max(0, overlap) / (last - first)
