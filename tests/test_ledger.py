# SPDX-License-Identifier: Apache-2.0
import pyarrow as pa

from pipelines.ledger import Expected, Ledger, table_hash, to_do
from reelmill.storage import Store

SCHEMA = pa.schema(
    [("clip_id", pa.string()), ("value", pa.int64()), ("error_kind", pa.string()), ("error", pa.string())]
)


def rows(*items):
    names = SCHEMA.names
    return pa.Table.from_pylist(
        [dict(zip(names, (*item, None, None)[:4], strict=True)) for item in items], schema=SCHEMA
    )


def test_parts_then_unit_file(tmp_path):
    ledger = Ledger(Store(tmp_path), "scores", ("clip_id",), "fp1")
    ledger.write_part(0, rows(("b", 2), ("a", 1)))
    ledger.write_part(0, rows(("a", 1)))  # the same row done twice is legal
    assert ledger.stamp(0) is None
    assert ledger.committed(0) == {"a": None, "b": None}
    ledger.compact(0, SCHEMA, "in1")
    assert ledger.read(0).column("clip_id").to_pylist() == ["a", "b"]
    stamp = ledger.stamp(0)
    assert stamp is not None
    assert stamp.input == "in1"
    assert ledger.parts(0) == []
    assert ledger.store.list("scores") == ["unit-0000.parquet"]


def test_good_row_beats_failed_one_whatever_the_order(tmp_path):
    for first, second in ((("a", 1), ("a", None, "transient", "cut")), (("a", None, "transient", "cut"), ("a", 1))):
        ledger = Ledger(Store(tmp_path / str(first[1])), "scores", ("clip_id",), "fp")
        ledger.write_part(0, rows(first))
        ledger.compact(0, SCHEMA, "x")
        ledger.write_part(0, rows(second))
        assert ledger.committed(0) == {"a": None}
        ledger.compact(0, SCHEMA, "x")
        assert ledger.read(0).column("value").to_pylist() == [1]


def test_a_row_counts_while_it_says_what_its_input_says_now(tmp_path):
    ledger = Ledger(Store(tmp_path), "sources", ("clip_id",), "fp")
    ledger.write_part(0, rows(("a", 1), ("b", 1), ("gone", 1)))
    expected = Expected(("clip_id", "value"), {"a": {"clip_id": "a", "value": 2}, "b": {"clip_id": "b", "value": 1}})
    assert ledger.committed(0, expected) == {"b": None, "gone": None}
    ledger.write_part(0, rows(("a", 2, "bad_input", "replaced by garbage")))
    assert ledger.committed(0, expected) == {"a": "bad_input", "b": None, "gone": None}
    ledger.compact(0, SCHEMA, "y", expected)
    kept = ledger.read(0).select(["clip_id", "value", "error_kind"]).to_pylist()
    assert [tuple(row.values()) for row in kept] == [("a", 2, "bad_input"), ("b", 1, None), ("gone", 1, None)]


def test_another_fingerprint_is_not_done(tmp_path):
    ledger = Ledger(Store(tmp_path), "sources", ("clip_id",), "fp1")
    ledger.write_part(0, rows(("a", 1)))
    ledger.compact(0, SCHEMA, "x")
    other = Ledger(Store(tmp_path), "sources", ("clip_id",), "fp2")
    assert other.stamp(0) is None
    assert other.committed(0) == {}


def test_retry_counts_and_hash(tmp_path):
    ledger = Ledger(Store(tmp_path), "scores", ("clip_id",), "fp")
    ledger.write_unit(0, rows(("a", None, "transient", "x"), ("b", None, "bad_input", "y"), ("c", 3)), "in")
    stamp = ledger.stamp(0)
    assert stamp is not None
    assert stamp.num_retry == 1
    assert ledger.content(0) == table_hash(ledger.read(0))
    assert ledger.content(0) != table_hash(rows(("a", 1)))


def test_to_do():
    committed = {"ok": None, "bad": "bad_input", "net": "transient", "tired": "resource", "bug": "internal"}
    ids = ["bad", "bug", "net", "new", "ok", "tired"]
    assert to_do(ids, committed, {"tired": 3}, 3, redo_errors=False) == ["bug", "net", "new"]
    assert to_do(ids, committed, {"tired": 3}, 3, redo_errors=True) == ["bad", "bug", "net", "new", "tired"]
