# SPDX-License-Identifier: Apache-2.0
"""Which files a run works on: a directory, a glob, one file or a manifest, on a local disk or on S3.

    footage/                 every media file below it, recursively
    footage/**/*.mp4         a glob
    s3://bucket/footage/     the same two on S3
    footage/list.csv         a manifest: .csv, .jsonl or .parquet with a column path, uri or url

A manifest may give `id` (takes the place of the relative path in the source id), `title` and `tags`; every other column
is carried along in `extra_json`. Beside a file, `clip.txt` (a title) or `clip.json` ({"title": ..., "tags": [...]})
does the same for directories and globs.
"""

import csv
import glob
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from reelmill import tables
from reelmill.column import arrow_schema

LISTED = ("relpath", "uri", "size_bytes", "etag", "mtime_s", "title", "tags", "extra_json")
SCHEMA = pa.schema([arrow_schema(tables.SOURCES).field(name) for name in LISTED])
MANIFEST_SUFFIXES = ("csv", "jsonl", "parquet")
PATH_COLUMNS = ("path", "uri", "url")
NUM_EXAMPLES = 10


@dataclass(frozen=True)
class Listing:
    """The files of a run.

    Attributes:
        rows: relpath, uri, size_bytes, etag, mtime_s, title, tags, extra_json; sorted by relpath, each one once.
        num_ignored: files below the input whose suffix is not listed in the recipe (sidecars do not count).
        ignored_examples: up to 10 of their relative paths.
    """

    rows: pa.Table
    num_ignored: int
    ignored_examples: list[str]


@dataclass(frozen=True, slots=True)
class _File:
    relpath: str
    uri: str
    size_bytes: int | None
    etag: str | None
    mtime_s: float | None


def list_sources(uri: str, suffixes: Iterable[str], image_suffixes: Iterable[str]) -> Listing:
    """Lists the media files of an input.

    Args:
        uri: directory, glob, file or manifest; local or s3://.
        suffixes, image_suffixes: without a dot, lower case; files with other suffixes are counted, not listed.

    Raises:
        FileNotFoundError: there is no such input.
        ValueError: a manifest without a path column, a row without a path, two rows with one id, no matching file.
    """
    wanted = frozenset(s.lower().lstrip(".") for s in (*suffixes, *image_suffixes))
    if _suffix(uri) in MANIFEST_SUFFIXES and not glob.has_magic(uri) and not os.path.isdir(uri):
        return _from_manifest(uri)
    files = sorted(_s3_files(uri) if uri.startswith("s3://") else _local_files(uri), key=lambda f: f.relpath)
    media = [f for f in files if _suffix(f.relpath) in wanted]
    by_path = {f.relpath: f for f in files}
    sidecars = {f.relpath: _sidecar(f, by_path) for f in media}
    used = {side.relpath for side in sidecars.values() if side}
    ignored = [f.relpath for f in files if _suffix(f.relpath) not in wanted and f.relpath not in used]
    if not media:
        found = f"{len(ignored)} files of other kinds, e.g. {ignored[0]}" if ignored else "no files"
        raise ValueError(
            f"{uri}: no file with a suffix of the recipe's sources ({', '.join(sorted(wanted))}); found {found}"
        )
    rows = [_row(f) | _sidecar_texts(sidecars[f.relpath]) for f in media]
    return Listing(pa.Table.from_pylist(rows, schema=SCHEMA), len(ignored), ignored[:NUM_EXAMPLES])


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower().lstrip(".")


def _row(file: _File) -> dict[str, Any]:
    return {
        "relpath": file.relpath,
        "uri": file.uri,
        "size_bytes": file.size_bytes,
        "etag": file.etag,
        "mtime_s": file.mtime_s,
        "title": None,
        "tags": None,
        "extra_json": None,
    }


def _local_files(uri: str) -> Iterator[_File]:
    root = Path(uri.removeprefix("file://")).expanduser().absolute()
    if root.is_dir():
        yield from (_local(path, root) for path in _walk(root, frozenset()))
    elif root.exists():
        yield _local(root, root.parent)
        yield from (
            _local(p, root.parent)
            for p in (root.with_suffix(".json"), root.with_suffix(".txt"))
            if p.exists() and p != root
        )
    elif glob.has_magic(str(root)):
        base = _glob_base(str(root))
        yield from (_local(Path(p), Path(base)) for p in glob.glob(str(root), recursive=True) if os.path.isfile(p))
    else:
        raise FileNotFoundError(f"{uri}: no such file or directory")


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Files below a folder, hidden ones left out. Links are followed, but for one to a folder that it stands in.

    A folder that may not be read is given as if it were a file, so that it is counted and named.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        names = os.listdir(folder)
    except PermissionError:
        if not above:
            raise
        yield folder
        return
    for path in (folder / name for name in names if not name.startswith(".")):
        if os.path.isdir(path):
            yield from _walk(path, above | {real})
        else:
            yield path


def _local(path: Path, root: Path) -> _File:
    """Size and time are null if the file is not there (a broken link, a wrong manifest): probing will say why."""
    relpath, uri = (_text(os.fsencode(p)) for p in (path.relative_to(root), path))
    try:
        facts = path.stat()
    except OSError:
        return _File(relpath, uri, None, None, None)
    return _File(relpath, uri, facts.st_size, None, facts.st_mtime)


def _text(name: bytes) -> str:
    """A file name as text; bytes that are not UTF-8 are written \\xff, and the file will not be found by that name."""
    return name.decode("utf-8", errors="backslashreplace")


def _glob_base(pattern: str) -> str:
    """The folder before the first part with a wildcard."""
    parts = pattern.split("/")
    return "/".join(parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])


def _s3_files(uri: str) -> Iterator[_File]:
    from reelmill.storage import fsspec_s3

    filesystem = fsspec_s3()
    if glob.has_magic(uri):
        base = _glob_base(uri)
        found = filesystem.glob(uri, detail=True)
    else:
        base = uri.rstrip("/")
        found = filesystem.find(base, detail=True)
        if list(found) == [base.removeprefix("s3://")]:
            base = base.rpartition("/")[0]
    if not found:
        raise FileNotFoundError(f"{uri}: no such file or directory")
    prefix = base.removeprefix("s3://") + "/"
    for key, facts in found.items():
        if facts["type"] == "file" and not key.endswith("/"):
            yield _s3_file(key, key.removeprefix(prefix), facts)


def _s3_file(key: str, relpath: str, facts: dict[str, Any]) -> _File:
    modified = facts.get("LastModified")
    etag = facts.get("ETag")
    return _File(
        relpath,
        f"s3://{key}",
        facts["size"],
        etag.strip('"') if etag else None,
        modified.timestamp() if modified else None,
    )


def _sidecar(file: _File, files: dict[str, _File]) -> _File | None:
    stem = PurePosixPath(file.relpath)
    return next((files[p] for p in (str(stem.with_suffix(".json")), str(stem.with_suffix(".txt"))) if p in files), None)


def _sidecar_texts(file: _File | None) -> dict[str, Any]:
    """Title and tags of a sidecar; a broken one is an error, because a silent null would change captions."""
    if file is None:
        return {}
    text = _read(file.uri).decode("utf-8", errors="replace").strip()
    if _suffix(file.relpath) == "txt":
        return {"title": text or None}
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file.uri}: not JSON ({error}); a sidecar is an object with `title` and `tags`") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file.uri}: {type(data).__name__} instead of an object with `title` and `tags`")
    return _texts(data, file.uri)


def _texts(data: dict[str, Any], place: str) -> dict[str, Any]:
    title, tags = data.get("title"), data.get("tags")
    if isinstance(tags, str):
        tags = [t.strip() for t in tags.replace(";", ",").split(",") if t.strip()]
    if tags is not None and not (isinstance(tags, list) and all(isinstance(t, str) for t in tags)):
        raise ValueError(f"{place}: tags is {tags!r}; give a list of texts, or one text with commas")
    return {
        "title": _storable(str(title)) if title not in (None, "") else None,
        "tags": [_storable(t) for t in tags] if tags else None,
    }


def _storable(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can write (`\\ud800`) and UTF-8 cannot."""
    return text.encode("utf-8", errors="replace").decode()


def _read(uri: str) -> bytes:
    from reelmill.media import open_bytes

    with open_bytes(uri) as file:
        return file.read()


# --- manifests -------------------------------------------------------------------------------------------------------


def _from_manifest(uri: str) -> Listing:
    records = _records(uri)
    folder = uri.rpartition("/")[0] if uri.startswith("s3://") else str(Path(uri).expanduser().absolute().parent)
    stat = _Stat()
    rows: dict[str, dict[str, Any]] = {}
    for number, record in enumerate(records, 1):
        row = _manifest_row(record, folder, f"{uri}: row {number}", stat)
        if row["relpath"] in rows:
            raise ValueError(f"{uri}: row {number}: id {row['relpath']!r} comes twice; give each file its own `id`")
        rows[row["relpath"]] = row
    if not rows:
        raise ValueError(f"{uri}: the manifest has no rows")
    return Listing(pa.Table.from_pylist([rows[key] for key in sorted(rows)], schema=SCHEMA), 0, [])


def _records(uri: str) -> list[dict[str, Any]]:
    data = _read(uri)
    if _suffix(uri) == "parquet":
        import pyarrow.parquet as pq

        try:
            return pq.read_table(io.BytesIO(data)).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{uri}: not a readable Parquet file: {error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{uri}: not UTF-8 text: {error}; save it as UTF-8") from error
    if _suffix(uri) == "csv":
        return _csv_records(uri, text)
    records = []
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would cut at the U+2028 of a title
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{uri}: line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{uri}: line {number} is not an object")
        records.append(record)
    return records


def _csv_records(uri: str, text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        records = [dict(row) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{uri}: line {reader.line_num} is not CSV: {error}") from error
    for number, record in enumerate(records, 1):
        if None in record:
            raise ValueError(f"{uri}: row {number}: more cells than the header has columns; put quotes around commas")
    return records


def _manifest_row(record: dict[str, Any], folder: str, place: str, stat: "_Stat") -> dict[str, Any]:
    column = next((c for c in PATH_COLUMNS if c in record), None)
    if column is None:
        raise ValueError(
            f"{place}: no column {', '.join(PATH_COLUMNS[:-1])} or {PATH_COLUMNS[-1]}; "
            f"columns are {', '.join(map(str, record))}"
        )
    given = record[column]
    if not isinstance(given, str) or not given or "\0" in given:
        raise ValueError(f"{place}: {column} is {given!r}; give the path of a file")
    uri = _absolute(_storable(given), folder, place)
    relpath = _storable(str(record["id"])) if record.get("id") not in (None, "") else _below(uri, folder)
    rest = {k: v for k, v in record.items() if k not in (column, "id", "title", "tags") and v not in (None, "")}
    size, etag, mtime = stat(uri)
    row = _row(_File(relpath, uri, size, etag, mtime)) | _texts(record, place)
    extra = json.dumps(rest, sort_keys=True, default=str, ensure_ascii=False) if rest else None
    return row | {"extra_json": _storable(extra) if extra else None}


def _absolute(path: str, folder: str, place: str) -> str:
    if path.startswith(("s3://", "/")):
        return path
    if path.startswith("file://"):
        return path.removeprefix("file://")
    if "://" in path:
        raise ValueError(f"{place}: {path!r}: only local paths and s3:// URIs can be read")
    if folder.startswith("s3://"):
        return f"{folder}/{path.removeprefix('./')}"
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


def _below(uri: str, folder: str) -> str:
    """Path below the manifest's folder if it lies there (so that a copy elsewhere keeps its ids), else the URI."""
    return uri.removeprefix(folder.rstrip("/") + "/")


class _Stat:
    """Size, ETag and modification time of a file; all null when it is not there: probing will say why."""

    def __init__(self) -> None:
        self._s3: Any = None

    def __call__(self, uri: str) -> tuple[int | None, str | None, float | None]:
        try:
            file = self._s3_file(uri) if uri.startswith("s3://") else _local(Path(uri), Path("/"))
        except FileNotFoundError:
            return None, None, None
        return file.size_bytes, file.etag, file.mtime_s

    def _s3_file(self, uri: str) -> _File:
        if self._s3 is None:
            from reelmill.storage import fsspec_s3

            self._s3 = fsspec_s3()
        return _s3_file(uri.removeprefix("s3://"), "", self._s3.info(uri))
