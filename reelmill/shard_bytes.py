# SPDX-License-Identifier: Apache-2.0
"""Stored bytes of the columns of a row group: read from a file on a disk when a sample needs them, fetched from S3 at
once and then held in memory or in a copy on the local disk."""

import hashlib
import io
import os
import secrets
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.storage import Store, asked_again

HOLE_BYTES = 8192  # between two wanted ranges that one request fetches
FOOTER_KEY = b"reelmill.footer"

Range = tuple[int, int]  # first byte and the one after the last


class ShardBytes(Protocol):
    """What a row group is read from. `num_bytes`: of memory that it holds."""

    parquet: pq.ParquetFile
    num_bytes: int

    def read(self, start: int, size: int) -> Any:
        """Bytes of the shard's file; fewer where it ends."""
        ...


class OpenShard:
    """A shard's file, opened."""

    num_bytes = 0

    def __init__(self, store: Store, path: str) -> None:
        self._local = None if store.is_remote else store.path(path)
        self._file = asked_again(lambda: store.filesystem.open_input_file(store.path(path)))
        self.parquet = asked_again(lambda: pq.ParquetFile(self._file))

    def read(self, start: int, size: int) -> bytes:
        return self._file.read_at(size, start)

    def will_need(self, ranges: Sequence[Range]) -> None:
        """Lets the system read ahead on a local disk: samples take their pages in any order."""
        if self._local is not None and hasattr(os, "posix_fadvise"):
            with open(self._local, "rb", buffering=0) as file:
                for start, end in ranges:
                    os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_WILLNEED)

    def fetched(self, ranges: Sequence[Range]) -> "HeldShard":
        """A copy of the ranges."""
        pieces = [asked_again(lambda s=start, e=end: self.read(s, e - s)) for start, end in ranges]
        return HeldShard(self._file.size(), self.parquet.metadata, [start for start, _ in ranges], pieces)


class HeldShard:
    """Ranges of a shard's file, at their places in it.

    Args:
        size: of the file.
        footer: of the file.
        starts, pieces: what is held, in order.
    """

    def __init__(self, size: int, footer: pq.FileMetaData, starts: list[int], pieces: Sequence[Any]) -> None:
        self.size, self._footer, self._starts = size, footer, starts
        self._pieces = [memoryview(piece).cast("B") for piece in pieces]
        self.num_bytes = sum(map(len, self._pieces))
        self.parquet = pq.ParquetFile(pa.PythonFile(_Sparse(self), "r"), metadata=footer)

    def read(self, start: int, size: int) -> memoryview:
        number = bisect_right(self._starts, start) - 1
        begin = start - self._starts[number] if number >= 0 else 0
        return self._pieces[number][begin : begin + size] if number >= 0 else memoryview(b"")

    def to_table(self) -> pa.Table:
        footer = io.BytesIO()
        self._footer.write_metadata_file(footer)
        pieces = pa.array(self._pieces, pa.large_binary())
        metadata = {FOOTER_KEY: footer.getvalue(), b"reelmill.size": str(self.size).encode()}
        return pa.table({"start": self._starts, "piece": pieces}).replace_schema_metadata(metadata)

    @staticmethod
    def of_table(table: pa.Table) -> "HeldShard":
        """Inverse of `to_table`; the pieces are the table's own memory, which a map of a file is not charged for."""
        metadata = table.schema.metadata or {}
        footer = pq.read_metadata(pa.BufferReader(metadata[FOOTER_KEY]))
        pieces = [piece.as_buffer() for piece in table.column("piece")]
        held = HeldShard(int(metadata[b"reelmill.size"]), footer, table.column("start").to_pylist(), pieces)
        held.num_bytes = 0
        return held


class _Sparse(io.RawIOBase):
    """The held ranges as a file, for pyarrow."""

    def __init__(self, held: HeldShard) -> None:
        self._read, self._size, self._at = held.read, held.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        data = bytes(self._read(self._at, self._size if size is None or size < 0 else size))
        self._at += len(data)
        return data


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


def cache_name(sha256: str, group: int, columns: Sequence[str]) -> str:
    return hashlib.blake2b(f"stored/{sha256}/{group}/{[*columns]}".encode(), digest_size=16).hexdigest()


def ranges_of(footer: pq.FileMetaData, group: int, columns: Sequence[str]) -> list[Range]:
    """Where columns lie in a row group; neighbours as one range."""
    wanted, found = set(columns), []
    facts = footer.row_group(group)
    for chunk in (facts.column(i) for i in range(facts.num_columns)):
        if chunk.path_in_schema.split(".")[0] in wanted:
            start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
            found.append((start, start + chunk.total_compressed_size))
    merged: list[Range] = []
    for start, end in sorted(found):
        if merged and start - merged[-1][1] <= HOLE_BYTES:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged
