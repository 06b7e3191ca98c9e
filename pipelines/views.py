# SPDX-License-Identifier: Apache-2.0
"""Writes a view: which shard files (with hashes) and which tables a reader joins. Immutable; `views/latest` names one.

The version is a hash of the content, so the same data gives the same view wherever it is written. A new threshold,
captioner or score is a new view over the same shard files.
"""

import hashlib
import json
from typing import Any

from pipelines.pack import shard_name, shard_place
from reelmill.ids import fingerprint
from reelmill.storage import Store
from reelmill.views import FORMAT, LATEST, load_view_json

Known = dict[str, dict[str, Any]]


def write_view(store: Store, manifest: dict[str, Any], hashes: dict[str, str] | None = None) -> str:
    """Writes `views/v-<hash>.json` and points `views/latest` to it.

    Args:
        store: the data set.
        manifest: as in manifest.json: tables, specs, num_units.
        hashes: sha256 of shard files that the caller knows, by path; others are taken from the latest view or read.

    Returns:
        The view's path.
    """
    tables = manifest["tables"]
    known = _known_files(store)
    for path, digest in (hashes or {}).items():
        known[path] = {"bytes": store.size(path), "sha256": digest}
    shards = [entry for rel in sorted(tables["shards"]) for entry in _shard_entries(store, rel, known)]
    specs = {entry["spec_id"] for entry in shards}
    view = {
        "format": FORMAT,
        "recipe_name": manifest.get("recipe_name"),
        "num_units": manifest["num_units"],
        "specs": {spec_id: manifest["specs"][spec_id] for spec_id in sorted(specs)},
        "shards": shards,
        "tables": _joined_tables(store, tables),
        "counts": _counts(shards),
    }
    version = f"v-{fingerprint('view', view)}"
    rel = f"views/{version}.json"
    if not store.exists(rel):
        store.write_bytes(rel, (json.dumps({"version": version, **view}, indent=1, sort_keys=True) + "\n").encode())
    if not store.exists(LATEST) or store.read_bytes(LATEST).decode().strip() != version:
        store.write_bytes(LATEST, f"{version}\n".encode())
    return rel


def _known_files(store: Store) -> Known:
    """Files of the latest view: a path with the same size has the same bytes, since shards never change."""
    if not store.exists(LATEST):
        return {}
    return {entry["path"]: entry for entry in load_view_json(store, "latest")["shards"]}


def _shard_entries(store: Store, rel: str, known: Known) -> list[dict[str, Any]]:
    """The shard files of a spec, generation by generation.

    A generation counts once its first piece is there, with as many pieces as that one says: an attempt that was cut
    off may have left others.
    """
    entries = []
    packed = _packed(store, rel.replace("shards/", "tokens/", 1))
    for name in store.list(rel):
        place = shard_place(name)
        if place is not None and place[2] == 0 and (packed is None or place[:2] in packed):
            unit, generation, _ = place
            num_pieces = int(store.read_metadata(f"{rel}/{name}")["reelmill.num_pieces"])
            names = [shard_name(unit, generation, piece) for piece in range(num_pieces)]
            entries += [_shard_entry(store, rel, piece, known) for piece in names]
    return entries


def _packed(store: Store, tokens_rel: str) -> set[tuple[int, int]] | None:
    """(unit, generation) of the shard files that the token ledger commits; null if there is no ledger at all.

    A run that died between a shard file and the ledger leaves a file that the next run may write otherwise.
    """
    names = store.list(tokens_rel)
    if not names:
        return None
    found = set()
    for name in names:
        if name.startswith("unit-"):
            for generation in store.read_table(f"{tokens_rel}/{name}", ["generation"]).column(0).unique().to_pylist():
                found.add((int(name[5:-8]), generation))
    return found


def _shard_entry(store: Store, rel: str, name: str, known: Known) -> dict[str, Any]:
    place = shard_place(name)
    assert place is not None
    path = f"{rel}/{name}"
    with store.open_parquet(path) as file:
        footer = file.metadata
    column = next(i for i in range(footer.num_columns) if footer.schema.column(i).path == "bucket")
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    row_groups = [{"bucket": group.column(column).statistics.min, "rows": group.num_rows} for group in groups]
    return {
        "path": path,
        "spec_id": rel.split("/")[-1],
        "unit": place[0],
        "generation": place[1],
        "piece": place[2],
        "rows": footer.num_rows,
        "row_groups": row_groups,
        **_file_facts(store, path, known),
    }


def _file_facts(store: Store, path: str, known: Known) -> dict[str, Any]:
    size = store.size(path)
    if path in known and known[path]["bytes"] == size:
        return {"bytes": size, "sha256": known[path]["sha256"]}
    return {"bytes": size, "sha256": hashlib.sha256(store.read_bytes(path)).hexdigest()}


def _joined_tables(store: Store, tables: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Kind -> tables of that kind, each with its unit files. Several captioners and scores may stand side by side."""
    scores = tables.get("scores") or {}
    rels = {
        "clips": [tables.get("clips")],
        "sources": [tables.get("sources")],
        "scores": [scores[key] for key in sorted(scores)],
        "captions": tables["captions"] if isinstance(tables.get("captions"), list) else [tables.get("captions")],
    }
    for kind in ("caption_checks", "text"):
        if tables.get(kind):
            rels[kind] = tables[kind]
    if tables.get("duplicates"):
        rels["duplicates"] = [tables["duplicates"]]
    joined = {kind: [_table_entry(store, rel) for rel in names if rel] for kind, names in rels.items()}
    return {"selection": [_frozen_selection(store, tables["selection"])] if tables.get("selection") else [], **joined}


def _table_entry(store: Store, rel: str) -> dict[str, Any]:
    """Rows and content of each unit file as they are now. Later runs may add rows; none changes a clip's row."""
    files = {}
    for name in _unit_names(store, rel):
        content = store.read_metadata(f"{rel}/{name}").get("reelmill.content")
        files[name] = {"rows": store.num_rows(f"{rel}/{name}"), "content": content}
    return {"path": rel, "files": files}


def _frozen_selection(store: Store, rel: str) -> dict[str, Any]:
    """A copy of the selection that no run rewrites: it decides which samples the view has, and so their order."""
    data = {name: store.read_bytes(f"{rel}/{name}") for name in _unit_names(store, rel)}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in data.items()}
    target = f"views/selection-{fingerprint('selection', hashes)}"
    for name, content in data.items():
        if not store.exists(f"{target}/{name}"):
            store.write_bytes(f"{target}/{name}", content)
    files = {
        name: {"rows": store.num_rows(f"{target}/{name}"), "bytes": len(content), "sha256": hashes[name]}
        for name, content in data.items()
    }
    return {"path": target, "files": files}


def _unit_names(store: Store, rel: str) -> list[str]:
    return [name for name in store.list(rel) if name.startswith("unit-") and name.endswith(".parquet")]


def _counts(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows and bytes per spec, rows per bucket."""
    counts: dict[str, Any] = {}
    for entry in shards:
        total = counts.setdefault(entry["spec_id"], {"files": 0, "rows": 0, "bytes": 0, "buckets": {}})
        total["files"] += 1
        total["rows"] += entry["rows"]
        total["bytes"] += entry["bytes"]
        for group in entry["row_groups"]:
            total["buckets"][group["bucket"]] = total["buckets"].get(group["bucket"], 0) + group["rows"]
    return counts
