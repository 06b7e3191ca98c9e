# SPDX-License-Identifier: Apache-2.0
"""Packing is a pure function of the rows, byte for byte; views name what was packed."""

import io
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.pack import pack_unit, shard_place
from pipelines.views import write_view
from reelmill.storage import Store
from reelmill.tokens import spec_of_schema
from reelmill.views import View
from tests.token_sets import SPEC, clip_rows, token_rows, write_set

CLIPS = clip_rows(0, 4, 3)


def packed(table: pa.Table, **options: object) -> dict[str, bytes]:
    return dict(pack_unit(table, SPEC, **{"max_mb": 0.03, "group_bytes": 4000, **options}))  # type: ignore[arg-type]


def read(data: bytes) -> pq.ParquetFile:
    return pq.ParquetFile(io.BytesIO(data))


@pytest.mark.parametrize("seed", range(4))
def test_bytes_do_not_depend_on_order_duplicates_or_pieces(seed: int) -> None:
    table = token_rows(CLIPS)
    draw = random.Random(seed)
    rows = [*range(table.num_rows), *draw.sample(range(table.num_rows), 7)]
    draw.shuffle(rows)
    cuts = sorted(draw.sample(range(len(rows)), 5))
    parts = [table.take(rows[a:b]) for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    assert packed(pa.concat_tables(parts)) == packed(table)
    extra = pa.concat_tables(parts).append_column("decoded_s", pa.array([1.0] * len(rows)))
    assert packed(extra) == packed(table)


def test_duplicates_that_differ_are_settled_the_same_way() -> None:
    """Tokens of an inexact model may differ between two tries of the same row."""
    table = token_rows(CLIPS[:1])
    other = table.set_column(
        table.schema.get_field_index("effective_fps"),
        table.schema.field("effective_fps"),
        pa.array([25.0] * table.num_rows, pa.float32()),
    )
    assert packed(pa.concat_tables([table, other])) == packed(pa.concat_tables([other, table]))


def test_seed_and_generation() -> None:
    table = token_rows(CLIPS)
    assert list(packed(table, max_mb=100)) == ["unit-0000-0000.parquet"]
    one, two = (read(packed(table, seed=s, max_mb=100)["unit-0000-0000.parquet"]).read() for s in (0, 1))
    assert one != two
    keys = [("clip_id", "ascending"), ("window_index", "ascending"), ("bucket", "ascending")]
    assert one.sort_by(keys).equals(two.sort_by(keys))
    assert list(packed(table, unit=3, generation=12, max_mb=100)) == ["unit-0003-0012.parquet"]


def test_row_groups_hold_one_bucket_and_windows_stand_together() -> None:
    files = packed(token_rows(CLIPS))
    places = [shard_place(name) for name in files]
    assert places == [(0, 0, piece) for piece in reversed(range(len(files)))], (
        "the first piece completes the generation"
    )
    seen: list[str] = []
    for data in files.values():
        file = read(data)
        assert spec_of_schema(file.schema_arrow) == SPEC
        clips_here = set()
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            assert len(set(group.column("bucket").to_pylist())) == 1
            assert sum(len(v.as_buffer()) for k in range(3) for v in group.column(f"tokens_pixel_s{k}")) <= 4000
            clips_here |= set(group.column("clip_id").to_pylist())
        table = file.read()
        for bucket in set(table.column("bucket").to_pylist()):
            rows = [(r["clip_id"], r["window_index"]) for r in table.to_pylist() if r["bucket"] == bucket]
            assert rows == [(clip, w) for clip in dict.fromkeys(c for c, _ in rows) for w in range(2)]
        seen += clips_here
    assert sorted(seen) == sorted(c["clip_id"] for c in CLIPS), "each clip lies in one file, whole"


def test_coarse_scales_are_fewer_bytes_to_read() -> None:
    (data,) = packed(token_rows(CLIPS), max_mb=100).values()
    footer = read(data).metadata
    size = dict.fromkeys((f"tokens_pixel_s{k}" for k in range(3)), 0)
    for g in range(footer.num_row_groups):
        for c in range(footer.num_columns):
            column = footer.row_group(g).column(c)
            if column.path_in_schema in size:
                size[column.path_in_schema] += column.total_compressed_size
                assert not column.is_stats_set
    assert size["tokens_pixel_s0"] * 2 < size["tokens_pixel_s1"] < size["tokens_pixel_s2"] / 2
    assert size["tokens_pixel_s0"] + size["tokens_pixel_s1"] < 0.3 * sum(size.values())


def test_rows_without_tokens_are_refused() -> None:
    table = token_rows(CLIPS[:1])
    at = table.schema.get_field_index("tokens_pixel_s1")
    with pytest.raises(ValueError, match="4 rows have no tokens_pixel_s1"):
        packed(table.set_column(at, table.schema.field(at), pa.nulls(4, pa.large_binary())))


def test_view_names_files_tables_and_counts(tmp_path: Path) -> None:
    manifest = write_set(tmp_path)
    store = Store(tmp_path)
    view = View.load(str(tmp_path))
    rel = f"views/{view.version}.json"
    assert store.read_bytes("views/latest").decode() == f"{view.version}\n"
    assert write_view(store, manifest) == rel, "the same data is the same version"
    names = [name for name in store.list("views") if not name.startswith("selection-")]
    assert names == ["latest", f"{view.version}.json"]
    counts = view.data["counts"][SPEC.spec_id]
    assert counts["rows"] == 2 * 12 * 2 * 2 == sum(counts["buckets"].values())
    assert view.specs == {SPEC.spec_id: SPEC}
    assert view.units("clips") == [0, 1]
    assert {kind: view.table_paths(kind) for kind in ("captions", "scores")} == {
        "captions": ["captions/c0"],
        "scores": ["scores/measure-cc"],
    }
    (frozen,) = view.table_paths("selection")
    assert frozen.startswith("views/selection-"), "a copy that no run rewrites"
    for name in store.list("selection-bb"):
        assert store.read_bytes(f"{frozen}/{name}") == store.read_bytes(f"selection-bb/{name}")


def test_a_new_selection_is_a_new_view_and_no_new_shard(tmp_path: Path) -> None:
    manifest = write_set(tmp_path)
    store, old = Store(tmp_path), View.load(str(tmp_path))
    shards = {p: p.stat().st_mtime_ns for p in (tmp_path / "shards").rglob("*.parquet")}
    for unit in range(2):
        table = store.read_table(f"selection-bb/unit-{unit:04d}.parquet")
        store.write_table(f"selection-dd/unit-{unit:04d}.parquet", table.slice(0, 5))
    manifest["tables"]["selection"] = "selection-dd"
    write_view(store, manifest)
    new = View.load(str(tmp_path))
    assert new.version != old.version
    assert new.data["shards"] == old.data["shards"]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "shards").rglob("*.parquet")} == shards
    assert View.load(str(tmp_path), old.version).data == old.data
    with pytest.raises(ValueError, match="no version 'v-nothing'"):
        View.load(str(tmp_path), "v-nothing")


def test_pieces_of_an_abandoned_attempt_are_left_out(tmp_path: Path) -> None:
    manifest = write_set(tmp_path)
    store, before = Store(tmp_path), View.load(str(tmp_path))
    rel = f"shards/{SPEC.spec_id}"
    pieces = sum(name.startswith("unit-0000-0000") for name in store.list(rel))
    abandoned = f"{rel}/unit-0000-0000-{pieces:02d}.parquet"
    store.write_bytes(abandoned, store.read_bytes(f"{rel}/unit-0000-0000-01.parquet"))
    (name, data), *_ = pack_unit(token_rows(CLIPS), SPEC, unit=0, generation=1, max_mb=0.03, group_bytes=4000)
    store.write_bytes(f"{rel}/{name}", data)  # a last piece whose first one never came
    write_view(store, manifest)
    listed = [e["path"] for e in View.load(str(tmp_path)).shards(SPEC.spec_id)]
    assert f"{rel}/{name}" not in listed
    assert json.dumps(listed) == json.dumps([e["path"] for e in before.shards(SPEC.spec_id)])
