# SPDX-License-Identifier: Apache-2.0
"""Listings of directories, globs and manifests."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.listing import SCHEMA, list_sources

VIDEO, IMAGE = ("mp4", "mov"), ("jpg",)


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    for name in (
        "b.mp4",
        "a.MOV",
        "deep/er/b.mp4",
        "photo.JPG",
        "notes.doc",
        "deep/readme.md",
        ".hidden.mp4",
        ".git/x.mp4",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def rows(uri: Path | str) -> list[dict]:
    return list_sources(str(uri), VIDEO, IMAGE).rows.to_pylist()


def test_directory_is_recursive_sorted_and_counts_the_rest(footage: Path) -> None:
    listing = list_sources(str(footage), VIDEO, IMAGE)
    assert listing.rows.schema == SCHEMA
    found = listing.rows.to_pylist()
    assert [r["relpath"] for r in found] == ["a.MOV", "b.mp4", "deep/er/b.mp4", "photo.JPG"]
    assert found[2]["uri"] == str(footage / "deep/er/b.mp4")
    assert found[2]["size_bytes"] == len("deep/er/b.mp4")
    assert found[0]["mtime_s"] == (footage / "a.MOV").stat().st_mtime
    assert (listing.num_ignored, listing.ignored_examples) == (2, ["deep/readme.md", "notes.doc"])


def test_glob_and_single_file(footage: Path) -> None:
    assert [r["relpath"] for r in rows(footage / "**" / "*.mp4")] == ["b.mp4", "deep/er/b.mp4"]
    assert [r["relpath"] for r in rows(footage / "deep" / "*" / "*.mp4")] == ["er/b.mp4"]
    assert [r["relpath"] for r in rows(footage / "b.mp4")] == ["b.mp4"]


def test_relative_input_gives_absolute_uris(footage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(footage.parent)
    assert rows(footage.name)[0]["uri"] == str(footage / "a.MOV")


def test_missing_and_empty_inputs_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such file"):
        rows(tmp_path / "nowhere")
    (tmp_path / "notes.doc").touch()
    with pytest.raises(ValueError, match=r"jpg, mov, mp4.*1 files of other kinds, e\.g\. notes\.doc"):
        rows(tmp_path)


def test_sidecars(footage: Path) -> None:
    (footage / "b.json").write_text(json.dumps({"title": "Harbour", "tags": ["sea", "dawn"], "owner": "x"}))
    (footage / "photo.txt").write_text("A boat\n")
    listing = list_sources(str(footage), VIDEO, IMAGE)
    by_path = {r["relpath"]: r for r in listing.rows.to_pylist()}
    assert (by_path["b.mp4"]["title"], by_path["b.mp4"]["tags"]) == ("Harbour", ["sea", "dawn"])
    assert (by_path["photo.JPG"]["title"], by_path["photo.JPG"]["tags"]) == ("A boat", None)
    assert by_path["deep/er/b.mp4"]["title"] is None
    assert listing.num_ignored == 2
    assert rows(footage / "b.mp4")[0]["title"] == "Harbour"
    (footage / "b.json").write_text("{")
    with pytest.raises(ValueError, match=r"b\.json: not JSON"):
        rows(footage)


RECORDS = [
    {"path": "b.mp4", "title": "One", "tags": "sea, dawn", "licence": "CC0", "id": None},
    {"path": "deep/er/b.mp4", "title": None, "tags": None, "licence": None, "id": "second"},
]


def write_manifest(folder: Path, kind: str) -> Path:
    path = folder / f"list.{kind}"
    if kind == "csv":
        lines = [",".join(f'"{v or ""}"' for v in r.values()) for r in RECORDS]
        path.write_text("\n".join([",".join(RECORDS[0]), *lines]))
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(r) for r in RECORDS) + "\n\n")
    else:
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_manifests(footage: Path, kind: str) -> None:
    listing = list_sources(str(write_manifest(footage, kind)), VIDEO, IMAGE)
    assert listing.rows.schema == SCHEMA
    first, second = listing.rows.to_pylist()
    assert (first["relpath"], first["title"], first["tags"]) == ("b.mp4", "One", ["sea", "dawn"])
    assert json.loads(first["extra_json"]) == {"licence": "CC0"}
    assert (second["relpath"], second["title"], second["tags"]) == ("second", None, None)
    assert second["uri"] == str(footage / "deep/er/b.mp4")
    assert second["size_bytes"] == 13


def test_manifest_rows_need_no_existing_file(footage: Path) -> None:
    (footage / "l.jsonl").write_text(json.dumps({"uri": "/nowhere/x.mp4"}))
    row = rows(footage / "l.jsonl")[0]
    assert (row["relpath"], row["size_bytes"]) == ("/nowhere/x.mp4", None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file": "b.mp4"}', "row 1: no column path, uri or url; columns are file"),
        ('{"path": ""}', "row 1: path is ''"),
        ('{"path": "http://x/y.mp4"}', "only local paths and s3"),
        ('{"path": "b.mp4"}\n{"path": "./b.mp4"}', "row 2: id 'b.mp4' comes twice"),
        ('{"path": "b.mp4", "tags": 3}', "row 1: tags is 3"),
        ('{"path"', "line 1 is not JSON"),
        ("[1]", "line 1 is not an object"),
        ("", "no rows"),
    ],
)
def test_bad_manifests_name_the_place(footage: Path, line: str, message: str) -> None:
    (footage / "l.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        rows(footage / "l.jsonl")


def test_s3_listing(footage: Path, s3_bucket: str) -> None:
    from reelmill.storage import fsspec_s3

    filesystem = fsspec_s3()
    for name in ("b.mp4", "deep/er/b.mp4", "notes.doc"):
        filesystem.pipe_file(f"{s3_bucket}/in/{name}", name.encode())
    filesystem.pipe_file(f"{s3_bucket}/in/b.txt", b"Harbour")
    listing = list_sources(f"{s3_bucket}/in/", VIDEO, IMAGE)
    first, second = listing.rows.to_pylist()
    assert [first["relpath"], second["relpath"]] == ["b.mp4", "deep/er/b.mp4"]
    assert first["uri"] == f"{s3_bucket}/in/b.mp4"
    assert first["title"] == "Harbour"
    assert first["etag"].isalnum()
    assert first["mtime_s"] > 1e9
    assert (second["size_bytes"], listing.ignored_examples) == (13, ["notes.doc"])
    assert [r["relpath"] for r in rows(f"{s3_bucket}/in/**/*.mp4")] == ["b.mp4", "deep/er/b.mp4"]
    assert [r["relpath"] for r in rows(f"{s3_bucket}/in/b.mp4")] == ["b.mp4"]
    filesystem.pipe_file(f"{s3_bucket}/in/list.jsonl", json.dumps({"path": "deep/er/b.mp4", "id": "x"}).encode())
    row = rows(f"{s3_bucket}/in/list.jsonl")[0]
    assert (row["relpath"], row["uri"], row["size_bytes"]) == ("x", f"{s3_bucket}/in/deep/er/b.mp4", 13)
    with pytest.raises(FileNotFoundError):
        rows(f"{s3_bucket}/nothing/")


def test_links_that_lead_nowhere_or_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "ok.mp4").write_bytes(b"x")
    for name, target in (
        ("gone.mp4", "/nowhere"),
        ("a.mp4", "b.mp4"),
        ("b.mp4", "a.mp4"),
        ("good.mp4", "ok.mp4"),
        ("sub/up", ".."),
    ):
        (tmp_path / name).symlink_to(target)
    found = {row["relpath"]: row["size_bytes"] for row in rows(tmp_path)}
    assert found == {"ok.mp4": 1, "good.mp4": 1, "gone.mp4": None, "a.mp4": None, "b.mp4": None}


def test_a_name_that_is_not_utf8_gets_a_row(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.mp4")).write_bytes(b"x")
    assert [row["relpath"] for row in rows(tmp_path)] == ["bad\\xff.mp4"]


def test_a_folder_named_like_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "set.csv").mkdir()
    (tmp_path / "set.csv" / "a.mp4").write_bytes(b"x")
    assert [row["relpath"] for row in rows(tmp_path / "set.csv")] == ["a.mp4"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m.csv", b"path,id\na.mp4,1,2,3\n", "row 1: more cells than the header"),
        ("m.csv", b"path\n\xe9.mp4\n", "m.csv: not UTF-8"),
        ("m.csv", b'path\n"a.mp4\rb"\rc\x00\n', "m.csv: "),
        ("m.csv", b"path\na\x00.mp4\n", "row 1: path is"),
        ("m.parquet", b"none", "m.parquet: not a readable Parquet"),
    ],
)
def test_broken_manifests_are_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        rows(tmp_path / name)


def test_manifest_texts_may_hold_any_character(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"path": "a.mp4", "title": "two\u2028lines", "tags": ["\\ud800"], "n": "\\ud800"}\n')
    (row,) = rows(manifest)
    assert (row["title"], row["tags"], row["extra_json"]) == ("two\u2028lines", ["?"], '{"n": "?"}')
