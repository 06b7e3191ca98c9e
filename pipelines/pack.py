# SPDX-License-Identifier: Apache-2.0
"""From token rows to shard files: a pure function of the rows and the settings, byte for byte.

Clips are ordered by hash(clip id, seed), which is the shards' shuffle. A file takes whole clips up to its size; inside
it rows lie bucket by bucket, the windows of a clip together, and a row group holds one bucket only, so that what is
read together stacks without padding.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.tables import CROP_COLUMNS, SHARD_KEYS
from reelmill.tokens import TokenizerSpec, shard_schema

GROUP_BYTES = 16_000_000  # payload of a row group: what a reader fetches at once, per scale and shuffled
PAGE_BYTES = 4096  # a row of so much payload has a page of its own, which `reelmill.pages` reads alone
ROW_KEY = ("clip_id", "window_index", "bucket", "aug_id")


def shard_name(unit: int, generation: int, piece: int = 0) -> str:
    """File name of a piece of a unit's generation; the first piece has no suffix."""
    suffix = f"-{piece:02d}" if piece else ""
    return f"unit-{unit:04d}-{generation:04d}{suffix}.parquet"


def shard_place(name: str) -> tuple[int, int, int] | None:
    """(unit, generation, piece) of a shard's file name; null for other files."""
    match = re.fullmatch(r"unit-(\d{4,})-(\d{4,})(?:-(\d{2,}))?\.parquet", name)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def pack_unit(
    tokens: pa.Table,
    spec: TokenizerSpec,
    *,
    unit: int = 0,
    generation: int = 0,
    seed: int = 0,
    max_mb: float = 256.0,
    group_bytes: int = GROUP_BYTES,
) -> Iterator[tuple[str, bytes]]:
    """Shard files of a unit, one at a time.

    Args:
        tokens: columns of `shard_schema(spec)` (others are left out), good rows only, any order, duplicates allowed.
        unit, generation: for the names; a generation holds clips that no earlier one has.
        seed: of the order.
        max_mb: payload of a file in MB (10^6 bytes); a clip larger than that has a file of its own.
        group_bytes: payload of a row group.

    Yields:
        (name, bytes), the last piece first: a generation is whole when its first piece is there.

    Raises:
        ValueError: a row without tokens.
    """
    schema = shard_schema(spec)
    table = tokens.select(schema.names).cast(schema).combine_chunks()  # take would join the chunks for every group
    rows = _distinct(table, seed)
    sizes = _payload_bytes(table, spec)
    buckets = table.column("bucket").to_pylist()
    pieces = _pieces(rows, sizes, max_mb * 1e6)
    for number in reversed(range(len(pieces))):
        facts = {"unit": unit, "generation": generation, "piece": number, "num_pieces": len(pieces), "pack_seed": seed}
        metadata = {**(schema.metadata or {}), **{f"reelmill.{k}".encode(): str(v).encode() for k, v in facts.items()}}
        groups = _row_groups([row for _, row in pieces[number]], buckets, sizes, group_bytes)
        yield shard_name(unit, generation, number), _file(table, groups, schema.with_metadata(metadata))


def _distinct(table: pa.Table, seed: int) -> list[tuple[str, int]]:
    """(clip id, row) in packing order, one per row key; of rows with equal keys the one with the smallest content."""
    keys = table.select(list(ROW_KEY)).to_pylist()
    best: dict[tuple[object, ...], int] = {}
    for row, key in enumerate(tuple(k.values()) for k in keys):
        if key not in best or _content(table, row) < _content(table, best[key]):
            best[key] = row
    draws = {key[0]: hashlib.blake2b(f"{seed}/{key[0]}".encode(), digest_size=8).digest() for key in best}
    order = sorted(best, key=lambda key: (draws[key[0]], key))
    return [(str(key[0]), best[key]) for key in order]


def _content(table: pa.Table, row: int) -> bytes:
    hasher = hashlib.blake2b(digest_size=16)
    for value in table.slice(row, 1).to_pylist()[0].values():
        hasher.update(repr(value).encode())
    return hasher.digest()


def _payload_bytes(table: pa.Table, spec: TokenizerSpec) -> list[int]:
    sizes = [0] * table.num_rows
    for stream, scale in spec.columns():
        name = stream.column(scale)
        if table.column(name).null_count:
            raise ValueError(f"{table.column(name).null_count} rows have no {name}; leave failed clips out")
        for chunk_row, value in enumerate(table.column(name)):
            sizes[chunk_row] += value.as_buffer().size
    return sizes


def _pieces(rows: list[tuple[str, int]], sizes: list[int], max_bytes: float) -> list[list[tuple[str, int]]]:
    """Whole clips, in order, into files of at most `max_bytes`."""
    pieces: list[list[tuple[str, int]]] = []
    clip: list[tuple[str, int]] = []
    used = 0
    for i, row in enumerate(rows):
        clip.append(row)
        if i + 1 < len(rows) and rows[i + 1][0] == row[0]:
            continue
        weight = sum(sizes[r] for _, r in clip)
        if not pieces or (used and used + weight > max_bytes):
            pieces.append([])
            used = 0
        pieces[-1] += clip
        used += weight
        clip = []
    return pieces


def _row_groups(rows: list[int], buckets: list[str], sizes: list[int], group_bytes: int) -> list[list[int]]:
    """Rows of one bucket after the other, cut where a group is full."""
    groups: list[list[int]] = []
    for bucket in sorted({buckets[row] for row in rows}):
        used = group_bytes
        for row in (row for row in rows if buckets[row] == bucket):
            if used + sizes[row] > group_bytes:
                groups.append([])
                used = 0
            groups[-1].append(row)
            used += sizes[row]
    return groups


def _file(table: pa.Table, groups: list[list[int]], schema: pa.Schema) -> bytes:
    plain = [column.name for column in (*SHARD_KEYS, *CROP_COLUMNS) if column.name in schema.names]
    sink = io.BytesIO()
    options: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 3,
        "version": "2.6",
        "data_page_version": "1.0",
        "use_dictionary": plain,
        "write_statistics": plain,
        "data_page_size": PAGE_BYTES,
        "write_batch_size": 1,  # the writer looks at a page's size after each batch
        "write_page_checksum": True,
    }
    with pq.ParquetWriter(sink, schema, **options) as writer:
        for group in groups:
            part = table.take(pa.array(group, pa.int64())).combine_chunks()
            writer.write_table(part.replace_schema_metadata(schema.metadata), row_group_size=len(group))
    return sink.getvalue()
