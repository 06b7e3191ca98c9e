# SPDX-License-Identifier: Apache-2.0
import pickle

import pyarrow as pa
import pytest

from reelmill.storage import Store


def test_write_is_whole_or_not_at_all(tmp_path, monkeypatch):
    store = Store(tmp_path / "set")
    store.write_bytes("a/b.bin", b"first")
    monkeypatch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        store.write_bytes("a/b.bin", b"second")
    assert store.read_bytes("a/b.bin") == b"first"
    assert store.list("a") == ["b.bin"]


def test_table_keeps_metadata_and_rows(tmp_path):
    store = Store(tmp_path)
    table = pa.table({"x": [1, 2, 3]})
    store.write_table("t/u.parquet", table, {"reelmill.fp": "abc"})
    assert store.read_metadata("t/u.parquet")["reelmill.fp"] == "abc"
    assert store.read_table("t/u.parquet", ["x"]).column("x").to_pylist() == [1, 2, 3]
    assert store.num_rows("t/u.parquet") == 3


def test_missing_things(tmp_path):
    store = Store(tmp_path / "nothing")
    assert store.list("x") == []
    assert not store.exists("x")
    store.delete("x")
    store.delete_dir("x")
    with pytest.raises(FileNotFoundError):
        store.read_bytes("x")


def test_store_travels_to_workers(tmp_path):
    store = Store(tmp_path)
    store.write_bytes("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read_bytes("x") == b"1"


def test_s3_round_trip(s3_bucket):
    store = Store(s3_bucket + "/set")
    store.write_table("t/u.parquet", pa.table({"x": [1, 2]}), {"k": "v"})
    store.write_bytes("t/v.bin", b"x" * 100)
    assert store.list("t") == ["u.parquet", "v.bin"]
    assert store.read_table("t/u.parquet").num_rows == 2
    assert store.read_metadata("t/u.parquet")["k"] == "v"
    store.delete_dir("t")
    assert store.list("t") == []
