# SPDX-License-Identifier: Apache-2.0
"""`inspect`: what a media file is, or all that a data set knows of one clip or source."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.manifest import load_manifest
from reelmill.storage import Store, is_s3

MAX_LIST = 8  # values of a list that are shown


def inspect_path(path: str, row: str | None) -> None:
    """Prints facts. Raises ValueError if `path` is neither a media file nor a data set, or `row` is in no table."""
    if not is_s3(path) and not Path(path).exists():
        raise ValueError(f"{path}: no such file or directory")
    if is_s3(path) or Path(path).is_dir():
        _inspect_data_set(Store(path), row)
    else:
        _inspect_media(path)


def _inspect_media(path: str) -> None:
    from operators.probe import Probe
    from pipelines.listing import list_sources

    suffix = Path(path).suffix.lstrip(".").lower()
    listing = list_sources(path, (suffix,), ())
    probe = Probe()
    facts = probe.process(probe.setup(), listing.rows).to_pylist()[0]
    _print_row(Console(), facts, title=path)


def _inspect_data_set(store: Store, row: str | None) -> None:
    console = Console()
    manifest = load_manifest(store)
    if manifest is None:
        raise ValueError(f"{store.root} is no data set: it has no manifest.json")
    if row is None:
        _print_row(
            console, {"recipe": manifest["recipe_name"], "input": manifest["input"], **manifest["counts"]}, store.root
        )
        for name, rel in _tables(manifest):
            files = [f for f in store.list(rel) if f.endswith(".parquet")]
            console.print(
                f"{name:<14} {rel}  {sum(store.num_rows(f'{rel}/{f}') for f in files)} rows in {len(files)} files"
            )
        return
    found = 0
    for name, rel in _tables(manifest):
        for facts in _matching(store, rel, row):
            _print_row(console, facts, f"{name}: {rel}")
            found += 1
    if not found:
        raise ValueError(f"{store.root}: no row whose clip id, source id or file name begins with {row!r}")


def _tables(manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    tables = manifest["tables"]
    named = {
        "sources": tables["sources"],
        "clips": tables.get("clips"),
        **{f"scores/{k}": v for k, v in tables["scores"].items()},
        "duplicates": tables.get("duplicates"),
        "selection": tables.get("selection"),
        "captions": tables.get("captions"),
    }
    yield from ((name, rel) for name, rel in named.items() if rel)
    yield from (("shards", rel) for rel in tables["shards"])


def _matching(store: Store, rel: str, row: str) -> Iterator[dict[str, Any]]:
    for name in store.list(rel):
        if not name.endswith(".parquet"):
            continue
        schema = store.open_parquet(f"{rel}/{name}").schema_arrow
        columns = [
            field.name
            for field in schema
            if not pa.types.is_binary(field.type) and not pa.types.is_large_binary(field.type)
        ]
        for facts in store.read_table(f"{rel}/{name}", columns).to_pylist():
            keys = [facts.get(key) for key in ("clip_id", "source_id", "relpath")]
            if any(key is not None and key.startswith(row) for key in keys):
                yield facts


def _print_row(console: Console, facts: dict[str, Any], title: str) -> None:
    table = Table(title=Text(title), title_justify="left", show_header=False)  # Text: names may look like markup
    for name, value in facts.items():
        if value is not None:
            table.add_row(name, Text(_short(value)))
    console.print(table)


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > MAX_LIST:
        return f"[{', '.join(map(str, value[:MAX_LIST]))}, ... {len(value)} values]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
