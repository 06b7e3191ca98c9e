# SPDX-License-Identifier: Apache-2.0
"""Row groups of shards: read once, held in memory up to a limit, and kept on the local disk where they come from S3."""

import hashlib
import os
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.storage import Store
from reelmill.streams import Stream, unpack

OPEN_FILES = 64


@dataclass(frozen=True, slots=True)
class Cache:
    """Where row groups are kept once they were read.

    Args:
        memory_bytes: of each process that reads.
        folder: on a local disk, shared by all processes of the machine; null: none. Worth it for S3.
        folder_bytes: above it the files that were not used for longest are deleted.
    """

    memory_bytes: int = 320_000_000
    folder: str | None = None
    folder_bytes: int = 100_000_000_000


class RowGroup:
    """Wanted columns of one row group. Payloads are views of the table's buffers.

    Args:
        table: as read.
        plain: names of the small columns.
    """

    def __init__(self, table: pa.Table, plain: Sequence[str]) -> None:
        self.table, self.plain = table, plain
        self.num_bytes = table.nbytes
        self._payloads: dict[str, np.ndarray | list[np.ndarray]] = {}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The small columns, row by row."""
        return self.table.select([*self.plain]).to_pylist()

    def payloads(self, stream: Stream, scale: int) -> np.ndarray | list[np.ndarray]:
        """Each row's values of a stream and scale."""
        name = stream.column(scale)
        if name not in self._payloads:
            self._payloads[name] = _payloads(self.table, stream, scale)
        return self._payloads[name]


class RowGroups:
    """Reads row groups of a data set.

    Args:
        store: the data set.
        cache: what is kept.
    """

    def __init__(self, store: Store, cache: Cache) -> None:
        self.store, self.cache = store, cache
        self.num_bytes_read = 0  # of the store: compressed bytes of the columns read
        self.max_held = 16  # row groups that are in use at a time
        self._held: OrderedDict[tuple[str, int, tuple[str, ...]], RowGroup] = OrderedDict()
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def get(self, entry: dict[str, Any], group: int, plain: Sequence[str], payload: Sequence[str]) -> RowGroup:
        """A row group of a shard file, given as the view lists it: its small columns and its payload columns."""
        key = (entry["path"], group, tuple(payload))
        if key not in self._held:
            self._held[key] = RowGroup(self._read(entry, group, [*plain, *payload]), plain)
            held = sum(part.num_bytes for part in self._held.values())
            while len(self._held) > 1 and (held > self.cache.memory_bytes or len(self._held) > self.max_held):
                held -= self._held.popitem(last=False)[1].num_bytes
        self._held.move_to_end(key)
        return self._held[key]

    def _read(self, entry: dict[str, Any], group: int, columns: Sequence[str]) -> pa.Table:
        if self._disk is None:
            return self._from_store(entry["path"], group, columns)
        name = hashlib.blake2b(f"{entry['sha256']}/{group}/{columns}".encode(), digest_size=16).hexdigest()
        table = self._disk.get(name)
        if table is None:
            table = self._from_store(entry["path"], group, columns)
            self._disk.put(name, table)
        return table

    def _from_store(self, path: str, group: int, columns: Sequence[str]) -> pa.Table:
        if path not in self._files:
            self._files[path] = self.store.open_parquet(path)
            while len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)[1].close(force=True)
        self._files.move_to_end(path)
        file = self._files[path]
        self.num_bytes_read += column_bytes(file, group, columns)
        return file.read_row_group(group, [*columns], use_threads=False)

    @cached_property
    def _disk(self) -> "DiskCache | None":
        return DiskCache(Path(self.cache.folder), self.cache.folder_bytes) if self.cache.folder else None


class DiskCache:
    """Tables as Arrow files that are memory-mapped. Several processes may use one folder.

    Args:
        folder: created on first use.
        max_bytes: of all files.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder.expanduser(), max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> pa.Table | None:
        path = self.folder / f"{name}.arrow"
        try:
            os.utime(path)
            return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except FileNotFoundError:
            return None

    def put(self, name: str, table: pa.Table) -> None:
        temporary = self.folder / f".tmp-{secrets.token_hex(8)}"
        try:
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            os.replace(temporary, self.folder / f"{name}.arrow")
        finally:
            temporary.unlink(missing_ok=True)
        self._evict()

    def _evict(self) -> None:
        files = []
        for path in self.folder.glob("*.arrow"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process evicted it
                continue
            files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def column_bytes(file: pq.ParquetFile, group: int, columns: Sequence[str]) -> int:
    """Compressed bytes of the columns in a row group."""
    facts = file.metadata.row_group(group)
    wanted = set(columns)
    chunks = (facts.column(i) for i in range(facts.num_columns))
    return sum(c.total_compressed_size for c in chunks if c.path_in_schema.split(".")[0] in wanted)


def _payloads(table: pa.Table, stream: Stream, scale: int) -> np.ndarray | list[np.ndarray]:
    """Views of a payload column's rows; one array where all rows have one grid, as they have in a bucket."""
    name = stream.column(scale)
    values, grids = _whole(table.column(name)), _whole(table.column(f"grid_{name.split('_', 1)[1]}"))
    _, offsets, data = values.buffers()
    starts = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    codes = np.frombuffer(data, np.uint8)
    grids_N4 = grids.flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
    if (grids_N4 == grids_N4[0]).all() and stream.axes == "THWG":
        t, h, w, g = (int(size) for size in grids_N4[0])
        return unpack(stream, scale, codes[starts[0] : starts[-1]], (len(values) * t, h, w, g)).reshape(
            (len(values), t, h, w) if g == 1 else (len(values), t, h, w, g)
        )
    return [unpack(stream, scale, codes[starts[i] : starts[i + 1]], grids_N4[i]) for i in range(len(values))]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """One array; joining the chunks of one would copy it."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
