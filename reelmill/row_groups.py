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
    """Wanted columns of one row group. Payloads are views of the table's buffers."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.num_bytes = table.nbytes
        self._plain: dict[str, list[Any]] = {}
        self._payloads: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def values(self, column: str) -> list[Any]:
        """A small column as a list."""
        if column not in self._plain:
            self._plain[column] = self.table.column(column).to_pylist()
        return self._plain[column]

    def payload(self, stream: Stream, scale: int, row: int) -> np.ndarray:
        """One row's values of a stream and scale; a view unless it is stored as bfloat16."""
        name = stream.column(scale)
        if name not in self._payloads:
            self._payloads[name] = _buffers(self.table, name)
        data, offsets, grids = self._payloads[name]
        return unpack(stream, scale, data[offsets[row] : offsets[row + 1]], grids[row])


class RowGroups:
    """Reads row groups of a data set.

    Args:
        store: the data set.
        cache: what is kept.
    """

    def __init__(self, store: Store, cache: Cache) -> None:
        self.store, self.cache = store, cache
        self.num_bytes_read = 0  # of the store: compressed bytes of the columns read
        self._held: OrderedDict[tuple[str, int, tuple[str, ...]], RowGroup] = OrderedDict()
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def get(self, entry: dict[str, Any], group: int, columns: Sequence[str]) -> RowGroup:
        """A row group of a shard file, given as the view lists it."""
        key = (entry["path"], group, tuple(columns))
        if key not in self._held:
            self._held[key] = RowGroup(self._read(entry, group, columns))
            held = sum(part.num_bytes for part in self._held.values())
            while held > self.cache.memory_bytes and len(self._held) > 1:
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
            self._files[path] = self.store.open_parquet(path, pre_buffer=self.store.is_remote)
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


def _buffers(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(bytes, offsets, grids) of a payload column."""
    column, rows = table.column(name).combine_chunks(), table.num_rows
    array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, np.int64)[array.offset : array.offset + rows + 1]
    grids = table.column(f"grid_{name.split('_', 1)[1]}").combine_chunks()
    grids = grids.chunk(0) if isinstance(grids, pa.ChunkedArray) else grids
    return np.frombuffer(data, np.uint8), starts, grids.flatten().to_numpy(zero_copy_only=False).reshape(rows, 4)
