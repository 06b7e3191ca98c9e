# SPDX-License-Identifier: Apache-2.0
"""Series of segments put together again into the series of their source, as arrays."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from operators.contract import Meter


class SeriesIndex:
    """A series table by source, its list columns as array slices (no copies, each column converted once)."""

    def __init__(self, series: pa.Table) -> None:
        self.series = series.combine_chunks()
        self._lists: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._scalars: dict[str, list[Any]] = {}
        by_source: dict[str, list[tuple[int, int]]] = defaultdict(list)
        keys = zip(self.scalars("source_id"), self.scalars("segment_index"), strict=True)
        for row, (source_id, segment_index) in enumerate(keys):
            by_source[source_id].append((segment_index, row))
        self._rows = {source_id: [row for _, row in sorted(rows)] for source_id, rows in by_source.items()}

    def rows_of(self, source_id: str) -> list[int]:
        """Rows of a source in the order of its segments; empty if it has none."""
        return self._rows.get(source_id, [])

    def scalars(self, name: str) -> list[Any]:
        """A scalar column as Python values."""
        if name not in self._scalars:
            self._scalars[name] = self.series[name].to_pylist()
        return self._scalars[name]

    def values(self, name: str, row: int) -> np.ndarray:
        """A row's list; nulls inside are NaN, a null list is empty."""
        if name not in self._lists:
            column = self.series[name]
            chunk = column.chunk(0) if column.num_chunks else pa.array([], column.type)
            sizes = np.asarray(chunk.value_lengths().fill_null(0))
            offsets = np.concatenate([[0], np.cumsum(sizes)])
            self._lists[name] = chunk.flatten().to_numpy(zero_copy_only=False), offsets
        flat, offsets = self._lists[name]
        return flat[offsets[row] : offsets[row + 1]]


@dataclass(frozen=True)
class Stitched:
    """All frames that were decoded of a source, in order.

    Attributes:
        pts: [N] pts of the frames, ascending.
        ends: [N] pts at which each frame ends: the next frame's, or at a hole the end of its segment.
        is_key: [N] whether it is a key frame.
        follows: [N] whether the frame before it in the source is the one before it here (not at a start or a hole).
        row: [N] row of the series table it came from.
        index: the table.
    """

    index: SeriesIndex
    pts: np.ndarray
    ends: np.ndarray
    is_key: np.ndarray
    follows: np.ndarray
    row: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Rows of the series table that have frames, in order."""
        return self.row[np.flatnonzero(np.diff(self.row, prepend=-1))]

    def frames(self, name: str) -> np.ndarray:
        """[N] values of a pairwise every-frame meter's column; NaN where the frame before is unknown."""
        values = np.full(len(self.pts), np.nan, np.float64)
        starts = np.flatnonzero(np.diff(self.row, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(self.pts)], strict=True):
            part = self.index.values(name, self.row[start])
            num = end - start
            values[start + 1 : end] = part[1:num]
            if end < len(values) and self.follows[end]:
                values[end] = part[num]
        return values

    def each(self, name: str) -> np.ndarray:
        """[N] values of an every-frame meter's column that is not pairwise; NaN where null."""
        return _joined([self.index.values(name, row) for row in self.rows]).astype(np.float64)

    def samples(self, meter: Meter) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Pts of a meter's values, and the values of each of its columns."""
        if meter.rate_hz is None and meter.pairwise:
            return self.pts, {column.name: self.frames(column.name) for column in meter.writes}
        pts_name = "frame_pts" if meter.rate_hz is None else f"{meter.name}_pts"
        rows = self.rows
        joined = {
            name: _joined([self.index.values(name, row) for row in rows])
            for name in (pts_name, *(column.name for column in meter.writes))
        }
        return joined.pop(pts_name).astype(np.int64), joined


def stitch(index: SeriesIndex, source_id: str) -> Stitched:
    """The frames of a source over its segments. Segments that failed, or lost frames, leave a hole."""
    pts: list[np.ndarray] = []
    ends: list[np.ndarray] = []
    follows: list[np.ndarray] = []
    keys: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    before = None  # pts that the next segment must start at to follow on
    for row in index.rows_of(source_id):
        part = index.values("frame_pts", row)
        if not len(part):
            before = None
            continue
        next_pts = index.scalars("next_pts")[row]
        end = next_pts if next_pts is not None else int(part[-1]) + (index.scalars("last_duration_pts")[row] or 1)
        if pts and ends[-1][-1] > part[0]:
            ends[-1][-1] = part[0]
        pts.append(part)
        ends.append(np.append(part[1:], end))
        keys.append(index.values("frame_is_key", row))
        follows.append(np.arange(len(part)) > 0)
        follows[-1][0] = before is not None and before == part[0]
        rows.append(np.full(len(part), row))
        before = next_pts
    return Stitched(
        index,
        _joined(pts).astype(np.int64),
        _joined(ends).astype(np.int64),
        _joined(keys).astype(bool),
        _joined(follows).astype(bool),
        _joined(rows).astype(np.int64),
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0)
