# SPDX-License-Identifier: Apache-2.0
"""One place for files: a data set's root on a local disk or in S3.

A file appears whole or not at all: on a disk it is written under a temporary name, synced and renamed; in S3 it is
serialized first and put by one request (or one completed multi-part upload). Reads go through pyarrow's S3 client,
writes through s3fs, both with bounded retries. `AWS_ENDPOINT_URL`, `AWS_REGION` and the usual credentials are honoured.
"""

import io
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

S3_ATTEMPTS = 10
S3_REQUEST_TIMEOUT_S = 20.0
S3_CONNECT_TIMEOUT_S = 10.0
CUT_SHORT = "AWS Error INTERNAL_FAILURE"  # an answer of another length than asked for: the client does not ask again
CUT_SHORT_ATTEMPTS = 5
T = TypeVar("T")


def is_s3(uri: str) -> bool:
    return uri.startswith("s3://")


def arrow_s3() -> pafs.S3FileSystem:
    """pyarrow's S3 client with bounded retries and timeouts.

    The `standard` retry strategy has a quota per client: after some 60 retried errors every further one is final, so
    the `default` strategy it is (25 ms * 2^n between attempts). pyarrow does not look at AWS_ENDPOINT_URL by itself.
    """
    return pafs.S3FileSystem(
        retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=S3_ATTEMPTS),
        request_timeout=S3_REQUEST_TIMEOUT_S,
        connect_timeout=S3_CONNECT_TIMEOUT_S,
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
    )


def fsspec_s3() -> Any:
    """s3fs with the same bounds. Open it in the process that uses it: it does not survive a fork."""
    import s3fs

    return s3fs.S3FileSystem(
        use_listings_cache=False,
        config_kwargs={
            "retries": {"max_attempts": S3_ATTEMPTS, "mode": "standard"},
            "read_timeout": S3_REQUEST_TIMEOUT_S,
            "connect_timeout": S3_CONNECT_TIMEOUT_S,
        },
    )


def asked_again(read: Callable[[], T]) -> T:
    """The result of `read`, called again where an answer of S3 was of another length.

    Raises:
        OSError: of any other kind, or after CUT_SHORT_ATTEMPTS.
    """
    for attempt in range(1, CUT_SHORT_ATTEMPTS):
        try:
            return read()
        except OSError as error:
            if not str(error).startswith(CUT_SHORT):
                raise
            time.sleep(0.05 * 2**attempt)
    return read()


class RemoteParquet(pq.ParquetFile):
    """A Parquet file in S3 whose reads are tried again where an answer was of another length."""

    def read(self, *args: Any, **options: Any) -> pa.Table:
        return asked_again(lambda: super(RemoteParquet, self).read(*args, **options))

    def read_row_group(self, *args: Any, **options: Any) -> pa.Table:
        return asked_again(lambda: super(RemoteParquet, self).read_row_group(*args, **options))


class Store:
    """Files below one root.

    Args:
        root: local directory or `s3://bucket/prefix`; created on the first write.

    Paths given to the methods are relative to the root, with `/`.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        text = os.fspath(root)
        self.root = text.rstrip("/") if is_s3(text) else os.path.abspath(Path(text).expanduser())

    def __repr__(self) -> str:
        return f"Store({self.root!r})"

    def __getstate__(self) -> dict[str, str]:
        return {"root": self.root}  # clients are opened anew in the process that uses them

    @cached_property
    def filesystem(self) -> pafs.FileSystem:
        return arrow_s3() if is_s3(self.root) else pafs.LocalFileSystem()

    @cached_property
    def _s3(self) -> Any:
        return fsspec_s3()

    def uri(self, rel: str) -> str:
        return f"{self.root}/{rel}" if rel else self.root

    def path(self, rel: str) -> str:
        """Path of `rel` as `filesystem` wants it (no scheme)."""
        return self.uri(rel).removeprefix("s3://")

    def exists(self, rel: str) -> bool:
        return self.filesystem.get_file_info(self.path(rel)).type != pafs.FileType.NotFound

    def list(self, rel: str = "") -> list[str]:
        """Names (files and folders) directly below `rel`, sorted; empty if there is no such folder."""
        selector = pafs.FileSelector(self.path(rel), allow_not_found=True)
        names = (info.base_name for info in self.filesystem.get_file_info(selector))
        return sorted(name for name in names if name and not name.startswith(".tmp-"))

    def size(self, rel: str) -> int:
        return self.filesystem.get_file_info(self.path(rel)).size or 0

    def read_bytes(self, rel: str) -> bytes:
        """Raises FileNotFoundError."""

        def read() -> bytes:
            with self.filesystem.open_input_file(self.path(rel)) as file:
                return file.read()

        return asked_again(read)

    def write_bytes(self, rel: str, data: bytes) -> None:
        """Writes the file whole or not at all."""
        if is_s3(self.root):
            self._s3.pipe_file(self.path(rel), data)
            return
        target = Path(self.path(rel))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".tmp-{secrets.token_hex(8)}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    @property
    def is_remote(self) -> bool:
        return is_s3(self.root)

    def open_parquet(self, rel: str) -> pq.ParquetFile:
        """Opens a file.

        In S3 neighbouring column chunks are fetched by one request: one for some bytes costs as much as one for a
        million, and the answer to a failed one may be longer than such a chunk, which the client does not survive.
        """
        kind = RemoteParquet if self.is_remote else pq.ParquetFile
        path = self.path(rel)
        return asked_again(lambda: kind(self.filesystem.open_input_file(path), pre_buffer=self.is_remote))

    def read_table(self, rel: str, columns: Sequence[str] | None = None) -> pa.Table:
        with self.open_parquet(rel) as file:
            return file.read(columns=None if columns is None else [*columns])

    def read_metadata(self, rel: str) -> dict[str, str]:
        """The file's own key-value metadata (reads only the footer)."""
        with self.open_parquet(rel) as file:
            raw = file.schema_arrow.metadata or {}
        return {key.decode(): value.decode() for key, value in raw.items()}

    def num_rows(self, rel: str) -> int:
        with self.open_parquet(rel) as file:
            return file.metadata.num_rows

    def write_table(self, rel: str, table: pa.Table, metadata: dict[str, str] | None = None, **parquet: Any) -> int:
        """Writes one Parquet file (zstd unless `parquet` says otherwise); returns its size in bytes."""
        merged = {**{k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}, **(metadata or {})}
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(merged), sink, **{"compression": "zstd", **parquet})
        data = sink.getvalue()
        self.write_bytes(rel, data)
        return len(data)

    def delete(self, rel: str) -> None:
        """Deletes a file; a missing one is fine."""
        try:
            self.filesystem.delete_file(self.path(rel))
        except FileNotFoundError:
            return

    def delete_dir(self, rel: str) -> None:
        """Deletes a folder and what is in it; a missing one is fine."""
        if is_s3(self.root):
            for name in self.list(rel):
                self.delete(f"{rel}/{name}")
            return
        shutil.rmtree(self.path(rel), ignore_errors=True)
