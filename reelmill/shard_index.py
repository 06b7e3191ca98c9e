# SPDX-License-Identifier: Apache-2.0
"""Which rows of the shards are samples: reads keys and joined columns, no tokens."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reelmill.tokens import shard_columns
from reelmill.views import Filter, View

OPEN_THREADS = 16
CLIP_KEYS = ("clip_id", "source_id")


@dataclass(frozen=True)
class SampleIndex:
    """All samples, in file order.

    Args:
        file, group, row: place of each sample: number of the shard file, row group in it, row in that.
        run: number of the row group among all that have samples.
        clip: row of each sample's clip in `clips`.
        clips: joined values of the wanted clips.
        groups_of: per bucket the samples of each row group.
    """

    file: np.ndarray
    group: np.ndarray
    row: np.ndarray
    run: np.ndarray
    clip: np.ndarray
    clips: pa.Table
    groups_of: dict[str, list[np.ndarray]]

    def __len__(self) -> int:
        return len(self.row)

    def codes(self, column: str, values: Sequence[Any]) -> np.ndarray:
        """Per sample the place of its value in `values`; -1 for none of them. Null is a value like any other."""
        have = self.clips.column(column)
        found = pc.call_function("index_in", [have], pc.SetLookupOptions(pa.array(values, have.type)))
        return found.fill_null(-1).to_numpy().astype(np.int64)[self.clip]

    @staticmethod
    def build(
        view: View, files: list[dict[str, Any]], filters: Sequence[Filter], columns: Sequence[str]
    ) -> "SampleIndex":
        """Joins the units' tables and reads the shards' keys.

        Args:
            files: the shard files, as the view lists them.
            filters: all must hold. A column of the shards is looked at row by row, any other clip by clip.
            columns: to have in `clips`.

        Raises:
            ValueError: no table has a column.
        """
        spec = view.specs[files[0]["spec_id"]] if files else None
        in_shards = {column.name for column in shard_columns(spec)} - set(CLIP_KEYS) if spec else set()
        of_rows = [f for f in filters if f[0] in in_shards]
        of_clips = [f for f in filters if f[0] not in in_shards]
        units = sorted({entry["unit"] for entry in files})
        with ThreadPoolExecutor(OPEN_THREADS) as pool:
            joined = list(pool.map(lambda unit: view.attributes(unit, columns, of_clips), units))
            clips = dict(zip(units, joined, strict=True))
            found = list(pool.map(lambda entry: _rows(view, entry, clips[entry["unit"]], of_rows), files))
        starts = dict(zip(units, np.cumsum([0, *(table.num_rows for table in joined)]), strict=False))
        return _assembled(files, found, starts, _all(joined))


def _all(tables: list[pa.Table]) -> pa.Table:
    if not tables:
        return pa.table({"clip_id": pa.array([], pa.string())})
    return pa.concat_tables(tables, promote_options="permissive").combine_chunks()


def _rows(view: View, entry: dict[str, Any], clips: pa.Table, filters: Sequence[Filter]) -> np.ndarray:
    """Per row of the file its clip's row in `clips`; -1 for a row that is not wanted."""
    with view.store.open_parquet(entry["path"]) as file:
        keys = file.read(columns=list(dict.fromkeys(["clip_id", *(f[0] for f in filters)])), use_threads=False)
    wanted = pc.call_function(
        "index_in", [keys.column("clip_id")], pc.SetLookupOptions(clips.column("clip_id").combine_chunks())
    )
    rows = wanted.fill_null(-1).to_numpy().astype(np.int32)
    if filters:
        numbered = keys.append_column("row", pa.array(np.arange(len(rows))))
        kept = numbered.filter(pq.filters_to_expression([list(filters)])).column("row").to_numpy()
        is_kept = np.zeros(len(rows), bool)
        is_kept[kept] = True
        rows = np.where(is_kept, rows, -1)
    return rows


def _assembled(
    files: list[dict[str, Any]], found: list[np.ndarray], starts: dict[int, int], clips: pa.Table
) -> SampleIndex:
    parts: list[np.ndarray] = [np.empty((5, 0), np.int32)]
    groups_of: dict[str, list[np.ndarray]] = {}
    count = run = 0
    for file, (entry, clip_rows) in enumerate(zip(files, found, strict=True)):
        first = 0
        for group, facts in enumerate(entry["row_groups"]):
            mine = clip_rows[first : first + facts["rows"]]
            first += facts["rows"]
            here = np.flatnonzero(mine >= 0)
            if not len(here):
                continue
            whole = np.ones(len(here), np.int32)
            parts.append(np.stack([file * whole, group * whole, here, run * whole, mine[here] + starts[entry["unit"]]]))
            groups_of.setdefault(facts["bucket"], []).append(np.arange(count, count + len(here), dtype=np.int32))
            count, run = count + len(here), run + 1
    file_of, group_of, row_of, run_of, clip_of = np.concatenate(parts, axis=1).astype(np.int32)
    return SampleIndex(file_of, group_of, row_of, run_of, clip_of, clips, groups_of)
