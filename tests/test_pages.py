# SPDX-License-Identifier: Apache-2.0
"""Single rows of payload columns, whatever the pages: the bytes that were written, or an error that names the place."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelmill import pages, row_groups
from reelmill.row_groups import Cache, RowGroup, RowGroups
from reelmill.shard_bytes import HeldShard, OpenShard, ranges_of
from reelmill.storage import Store
from reelmill.streams import Scale, Stream

NAME, GRID = "tokens_pixel_s0", "grid_pixel_s0"
STREAM = Stream("pixel", "ids", (Scale(reduce=(1, 1, 1)),), vocab=4096)
ROWS = 7
OWN_PAGES = {"write_batch_size": 1, "data_page_size": 512, "use_dictionary": ["clip_id"], "write_statistics": False}


def ids(rows: int = ROWS, size: int = 900) -> np.ndarray:
    return (np.random.default_rng(size).random((rows, 1, 30, size // 30)) ** 4 * 4096).astype("<u2")


def table_of(ids_BTHW: np.ndarray, kind: pa.DataType = pa.large_binary(), nullable: bool = True) -> pa.Table:  # noqa: B008
    grids = [[*row.shape, 1] for row in ids_BTHW]
    fields = [
        pa.field("clip_id", pa.string()),
        pa.field(NAME, kind, nullable),
        pa.field(GRID, pa.list_(pa.int32(), 4)),
    ]
    names = [f"clip {n % 2}" for n in range(len(ids_BTHW))]
    return pa.table([names, [row.tobytes() for row in ids_BTHW], grids], pa.schema(fields))


def write(folder: Path, table: pa.Table, name: str = "shard.parquet", **options: Any) -> Store:
    pq.write_table(table, folder / name, **options)
    return Store(folder)


def filled(group: RowGroup, rows: int, size: int) -> list[bytes]:
    out = []
    for row in range(rows):
        room = bytearray(pages.MAX_LEAD + size)
        group.fill(NAME, row, memoryview(room))
        out.append(bytes(room[pages.MAX_LEAD :]))
    return out


def groups_of(store: Store, group: int, check: bool = True) -> list[RowGroup]:
    """The row group from the file, from memory, and from a copy on a disk."""
    shard = OpenShard(store, "shard.parquet")
    held = shard.fetched(ranges_of(shard.parquet.metadata, group, ["clip_id", NAME, GRID]))
    sources = (shard, held, HeldShard.of_table(held.to_table()))
    return [RowGroup(source, "shard.parquet", group, ["clip_id"], [NAME], check) for source in sources]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    compression=st.sampled_from(["zstd", "none", "snappy", "gzip"]),
    version=st.sampled_from(["1.0", "2.0"]),
    page_size=st.sampled_from([1, 512, 1 << 20]),
    batch=st.sampled_from([1, 3, 1024]),
    dictionary=st.booleans(),
    checksum=st.booleans(),
    statistics=st.booleans(),
    kind=st.sampled_from([pa.binary(), pa.large_binary()]),
    nullable=st.booleans(),
    size=st.sampled_from([30, 900, 90_000]),
)
def test_any_pages_give_the_bytes_that_were_written(
    tmp_path: Path,
    compression: str,
    version: str,
    page_size: int,
    batch: int,
    dictionary: bool,
    checksum: bool,
    statistics: bool,
    kind: pa.DataType,
    nullable: bool,
    size: int,
) -> None:
    ids_BTHW = ids(size=size)
    store = write(
        tmp_path,
        table_of(ids_BTHW, kind, nullable),
        row_group_size=4,
        compression=compression,
        data_page_version=version,
        data_page_size=page_size,
        write_batch_size=batch,
        use_dictionary=[NAME] if dictionary else False,
        write_page_checksum=checksum,
        write_statistics=statistics,
    )
    for number, rows in enumerate((range(4), range(4, ROWS))):
        for group in groups_of(store, number):
            assert filled(group, len(rows), 2 * size) == [ids_BTHW[row].tobytes() for row in rows]
            assert [row["clip_id"] for row in group.rows] == [f"clip {row % 2}" for row in rows]
            assert bool(group._pages) <= (compression in ("zstd", "none") and version == "1.0" and not dictionary)
            if page_size < 2 * size and batch == 1:
                may = compression in ("zstd", "none") and version == "1.0" and not dictionary and not statistics
                assert may <= bool(group._pages), "the pages that `pack` writes are read one by one"


def test_shards_that_polars_wrote_again_are_read(tmp_path: Path) -> None:
    import polars

    ids_BTHW = ids()
    arrow = table_of(ids_BTHW)
    polars.DataFrame(arrow).write_parquet(tmp_path / "shard.parquet", row_group_size=ROWS)
    for group in groups_of(Store(tmp_path), 0):
        assert filled(group, ROWS, 1800) == [row.tobytes() for row in ids_BTHW]


def test_without_zstandard_the_bytes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids_BTHW = ids()
    monkeypatch.setattr(pages, "decompressor", lambda codec: pages._by_pyarrow)
    for group in groups_of(write(tmp_path, table_of(ids_BTHW), compression="zstd", **OWN_PAGES), 0):
        assert group._pages
        assert filled(group, ROWS, 1800) == [row.tobytes() for row in ids_BTHW]


@pytest.mark.parametrize("fallback", [False, True])
def test_damage_is_an_error_that_names_the_place(
    tmp_path: Path, fallback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte of a page, changed: with checksums always found; without them, an error or other ids."""
    if fallback:
        monkeypatch.setattr(pages, "decompressor", lambda codec: pages._by_pyarrow)
    write(tmp_path, table_of(ids(size=300)), compression="zstd", write_page_checksum=True, **OWN_PAGES)
    path = tmp_path / "shard.parquet"
    whole = path.read_bytes()
    page = groups_of(Store(tmp_path), 0)[0]._pages[NAME].pages[3]
    for at in range(page.start, page.start + page.size, 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        group = groups_of(Store(tmp_path), 0)[0]
        place = memoryview(bytearray(pages.MAX_LEAD + 600))
        with pytest.raises(ValueError, match=rf"shard\.parquet, row group 0: row 3 of {NAME} is damaged"):
            group.fill(NAME, 3, place)
        unchecked = groups_of(Store(tmp_path), 0, check=False)[0]
        with suppress(ValueError):
            unchecked.fill(NAME, 3, place)
    path.write_bytes(whole[: page.start] + b"\0" * 40 + whole[page.start + 40 :])
    with pytest.raises(ValueError, match="verify"):
        groups_of(Store(tmp_path), 0)[0].fill(NAME, 3, memoryview(bytearray(pages.MAX_LEAD + 600)))
    unlike = groups_of(Store(tmp_path), 0)[0]
    with pytest.raises(ValueError, match="has 600 bytes, its grid wants 602"):
        unlike.fill(NAME, 0, memoryview(bytearray(pages.MAX_LEAD + 602)))


def test_a_file_that_was_cut_after_it_was_opened(tmp_path: Path) -> None:
    store = write(tmp_path, table_of(ids()), compression="zstd", **OWN_PAGES)
    group = groups_of(store, 0)[0]
    with open(tmp_path / "shard.parquet", "r+b") as file:
        file.truncate(group._pages[NAME].pages[5].start + 10)
    with pytest.raises(ValueError, match=r"row 5 of tokens_pixel_s0 ends after 10 of \d+ bytes"):
        filled(group, ROWS, 1800)


def test_row_groups_in_use_outlive_their_place_among_the_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_groups, "OPEN_FILES", 1)
    sizes = (900, 1800, 2700)
    for size in sizes:
        write(tmp_path, table_of(ids(size=size)), f"{size}.parquet", compression="zstd", **OWN_PAGES)
    reader = RowGroups(Store(tmp_path), Cache())
    held = [reader.get({"path": f"{s}.parquet", "sha256": str(s)}, 0, ["clip_id"], [NAME]) for s in sizes]
    for group, size in zip(held, sizes, strict=True):
        assert filled(group, ROWS, 2 * size) == [row.tobytes() for row in ids(size=size)]
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    del group, held, reader
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors - len(sizes)


def test_a_missing_value_is_an_error(tmp_path: Path) -> None:
    table = table_of(ids())
    values = table.column(NAME).to_pylist()
    values[2] = None
    at = table.schema.get_field_index(NAME)
    table = table.set_column(at, table.schema.field(at), pa.array(values, pa.large_binary()))
    for options in (OWN_PAGES, {}):
        group = groups_of(write(tmp_path, table, compression="zstd", **options), 0)[0]
        with pytest.raises(ValueError, match=rf"row 2 of {NAME} has "):
            filled(group, ROWS, 1800)


def test_big_payloads_from_s3_and_its_copy_on_the_disk(tmp_path: Path, s3_bucket: str) -> None:
    """Both are the bytes of the local file; the second reader asks for none."""
    ids_BTHW = ids(size=9000)
    local = write(tmp_path, table_of(ids_BTHW), compression="zstd", row_group_size=3, **OWN_PAGES)
    there = Store(s3_bucket)
    there.write_bytes("shard.parquet", local.read_bytes("shard.parquet"))
    entry = {"path": "shard.parquet", "sha256": "ab"}
    caches = (Cache(), Cache(folder=str(tmp_path / "cache")), Cache(folder=str(tmp_path / "cache")))
    readers = [RowGroups(there, cache) for cache in caches]
    for reader in readers:
        group = reader.get(entry, 1, ["clip_id"], [NAME])
        assert group._pages
        assert filled(group, 3, 18_000) == [row.tobytes() for row in ids_BTHW[3:6]]
    assert readers[0].num_bytes_read == readers[1].num_bytes_read > 0 == readers[2].num_bytes_read
