# SPDX-License-Identifier: Apache-2.0
"""Row groups of shards in use. Payloads stay as they are stored until a batch takes them, row by row, where their pages
allow it (`reelmill.pages`); small columns, and payloads in other pages, are decoded by pyarrow when a row group comes
in use."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.pages import MAX_LEAD, PageError, Pages, pages_of
from reelmill.shard_bytes import DiskCache, HeldShard, OpenShard, ShardBytes, cache_name, ranges_of
from reelmill.storage import Store
from reelmill.streams import Stream, unpack

OPEN_FILES = 64
_ALIGNED = 64  # bytes before the values of a batch: the first page's lead fits, and values lie well for any dtype
_VERIFY = "`python -m reelmill verify ROOT` looks at every file"


@dataclass(frozen=True, slots=True)
class Cache:
    """Where row groups are kept once they were read.

    Args:
        memory_bytes: of each process that reads.
        folder: on a local disk, shared by all processes of the machine; null: none. Worth it for S3. Holds stored,
            that is compressed, bytes.
        folder_bytes: above it the files that were not used for longest are deleted.
        check: compare the checksum of every page that is read by itself (`reelmill.pages`): 7 % of the CPU time. Of
            400 single bits turned over in pages of ids, decompression without it noticed 16 %.
    """

    memory_bytes: int = 320_000_000
    folder: str | None = None
    folder_bytes: int = 100_000_000_000
    check: bool = True


class RowGroup:
    """Wanted columns of one row group.

    Args:
        source: where it is read. `num_bytes` is the memory that the row group holds, its source's included.
        uri: of the shard, for messages.
        group: its number in the shard.
        plain: names of the small columns.
        payload: names of the payload columns.
        check: as in `Cache`.

    Raises:
        ValueError: the file is damaged.
    """

    def __init__(
        self, source: ShardBytes, uri: str, group: int, plain: Sequence[str], payload: Sequence[str], check: bool
    ) -> None:
        self._source, self._place, self._plain = source, f"{uri}, row group {group}", plain
        self._group, self._check = group, check
        schema = source.parquet.schema
        numbers = {schema.column(i).path: i for i in range(len(schema))}
        found = {name: self._pages_of(numbers.get(name)) for name in payload}
        self._pages = {name: pages for name, pages in found.items() if pages is not None}
        grids = [grid_column(name) for name in payload]
        self._table = self._decoded([*plain, *grids, *(name for name in payload if name not in self._pages)])
        self._grids = {name: _grids(self._table.column(grid_column(name))) for name in payload}
        self._values: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.num_bytes = self._table.nbytes + source.num_bytes

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The small columns, row by row."""
        return self._table.select([*self._plain]).to_pylist()

    def grid(self, name: str, row: int) -> tuple[int, ...]:
        grids = self._grids[name]
        return grids[row if len(grids) > 1 else 0]

    def fill(self, name: str, row: int, room: memoryview) -> None:
        """Writes a row's payload to the end of `room`; the `MAX_LEAD` bytes before it may be overwritten.

        Raises:
            ValueError: the payload has another size, or the file is damaged.
        """
        try:
            if name in self._pages:
                pages = self._pages[name]
                pages.fill(self._source.read, row, room[MAX_LEAD - pages.lead :])
            else:
                self._copy(name, row, room[MAX_LEAD:])
        except PageError as error:
            raise ValueError(f"{self._place}: row {row} of {name} {error}; {_VERIFY}") from error

    def _copy(self, name: str, row: int, place: memoryview) -> None:
        if name not in self._values:
            self._values[name] = _binary(self._table.column(name))
        starts, codes = self._values[name]
        value = codes[starts[row] : starts[row + 1]]
        if len(value) != len(place):
            raise PageError(f"has {len(value)} bytes, its grid wants {len(place)}")
        place[:] = value.data

    def _pages_of(self, column: int | None) -> Pages | None:
        if column is None:
            return None
        return pages_of(self._source.read, self._source.parquet, self._group, column, self._check)

    def _decoded(self, columns: Sequence[str]) -> pa.Table:
        try:
            return self._source.parquet.read_row_group(self._group, [*columns], use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(f"{self._place} cannot be read: {error}; {_VERIFY}") from error


class RowGroups:
    """Row groups of a data set that are in use.

    Args:
        store: the data set.
        cache: what is kept.
    """

    def __init__(self, store: Store, cache: Cache) -> None:
        self.store, self.cache = store, cache
        self.num_bytes_read = 0  # of the store: stored bytes of the columns of each row group that came in use
        self.max_held = 16  # row groups that are in use at a time
        self._held: OrderedDict[tuple[str, int, tuple[str, ...]], RowGroup] = OrderedDict()
        self._files: OrderedDict[str, OpenShard] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def get(self, entry: dict[str, Any], group: int, plain: Sequence[str], payload: Sequence[str]) -> RowGroup:
        """A row group of a shard file, given as the view lists it: its small columns and its payload columns."""
        key = (entry["path"], group, tuple(payload))
        if key not in self._held:
            source = self._source(entry, group, [*plain, *payload, *map(grid_column, payload)])
            self._held[key] = RowGroup(source, self.store.uri(entry["path"]), group, plain, payload, self.cache.check)
            held = sum(part.num_bytes for part in self._held.values())
            while len(self._held) > 1 and (held > self.cache.memory_bytes or len(self._held) > self.max_held):
                held -= self._held.popitem(last=False)[1].num_bytes
        self._held.move_to_end(key)
        return self._held[key]

    def _source(self, entry: dict[str, Any], group: int, columns: Sequence[str]) -> ShardBytes:
        name = cache_name(entry["sha256"], group, columns)
        table = None if self._disk is None else self._disk.get(name)
        if table is not None:
            return HeldShard.of_table(table)
        shard = self._opened(entry["path"])
        ranges = ranges_of(shard.parquet.metadata, group, columns)
        self.num_bytes_read += column_bytes(shard.parquet, group, columns)
        if self._disk is None and not self.store.is_remote:
            shard.will_need(ranges)
            return shard
        held = shard.fetched(ranges)
        if self._disk is None:
            return held
        self._disk.put(name, held.to_table())
        table = self._disk.get(name)
        return held if table is None else HeldShard.of_table(table)  # null: another process evicted it

    def _opened(self, path: str) -> OpenShard:
        if path not in self._files:
            self._files[path] = OpenShard(self.store, path)
            while len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)  # row groups in use keep theirs; the last one to go closes it
        self._files.move_to_end(path)
        return self._files[path]

    @cached_property
    def _disk(self) -> DiskCache | None:
        return DiskCache(Path(self.cache.folder), self.cache.folder_bytes) if self.cache.folder else None


def stacked(groups: Sequence[RowGroup], rows: Sequence[int], stream: Stream, scale: int) -> np.ndarray:
    """A payload column of samples, given by row group and row in it: [B, ...] with the axes of the stream.

    Every page is decompressed into its place in the result. What stands before its value falls on the end of the
    sample before, so the samples are written from the last to the first.

    Raises:
        ValueError: the samples have several grids, or a file is damaged.
    """
    name = stream.column(scale)
    grids = {group.grid(name, row) for group, row in zip(groups, rows, strict=True)}
    if len(grids) != 1:
        raise ValueError(f"{name}: samples of the grids {sorted(grids)} cannot be stacked; read them one by one")
    t, h, w, g = grids.pop()
    size = prod((t, h, w, g)) * stream.dtype(scale).itemsize
    codes = np.empty(_ALIGNED + len(rows) * size, np.uint8)
    room = codes.data
    for number in reversed(range(len(rows))):
        end = _ALIGNED + (number + 1) * size
        groups[number].fill(name, rows[number], room[end - size - MAX_LEAD : end])
    shape = (g, t, h, w) if stream.axes == "GTHW" else (t, h, w) if g == 1 else (t, h, w, g)
    return unpack(stream, scale, codes[_ALIGNED:], (len(rows) * t, h, w, g)).reshape(len(rows), *shape)


def grid_column(payload: str) -> str:
    return f"grid_{payload.split('_', 1)[1]}"


def column_bytes(file: pq.ParquetFile, group: int, columns: Sequence[str]) -> int:
    """Stored bytes of the columns in a row group."""
    facts = file.metadata.row_group(group)
    wanted = set(columns)
    chunks = (facts.column(i) for i in range(facts.num_columns))
    return sum(c.total_compressed_size for c in chunks if c.path_in_schema.split(".")[0] in wanted)


def _grids(column: pa.ChunkedArray) -> list[tuple[int, ...]]:
    """Each row's grid; one alone if all are the same, as they are in a bucket."""
    grids_N4 = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
    is_one = bool((grids_N4 == grids_N4[0]).all())
    return [tuple(grid) for grid in grids_N4[: 1 if is_one else None].tolist()]


def _binary(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(where each row starts, and the last ends, bytes of all rows)."""
    values = column.cast(pa.large_binary()).combine_chunks()
    values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
    _, offsets, data = values.buffers()
    starts = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    return starts, np.frombuffer(data or b"", np.uint8)
