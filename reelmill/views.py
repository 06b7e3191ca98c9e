# SPDX-License-Identifier: Apache-2.0
"""A view: the shard files and the tables that a reader joins, fixed for ever under one version."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reelmill.residual import ResidualCodebook, ResidualDecoder
from reelmill.storage import Store
from reelmill.tokens import TokenizerSpec

FORMAT = 1
LATEST = "views/latest"
ATTRIBUTE_TABLES = ("selection", "clips", "scores", "duplicates", "sources", "captions", "caption_checks")
"""Kinds of tables that columns are taken from, in this order."""

Filter = tuple[str, str, Any]  # (column, operator as in pyarrow.parquet filters, value)


def load_view_json(store: Store, version: str) -> dict[str, Any]:
    """The view's file. Raises ValueError if there is none of that version, or in another format."""
    if version == "latest":
        if not store.exists(LATEST):
            raise ValueError(f"{store.uri(LATEST)} does not exist: no view has been written yet")
        version = store.read_bytes(LATEST).decode().strip()
    rel = f"views/{version}.json"
    if not store.exists(rel):
        there = [name.removesuffix(".json") for name in store.list("views") if name.endswith(".json")]
        raise ValueError(f"{store.uri('views')} has no version {version!r}; it has {', '.join(there) or 'none'}")
    view = json.loads(store.read_bytes(rel))
    if view.get("format") != FORMAT:
        raise ValueError(f"{store.uri(rel)} has format {view.get('format')!r}; this reelmill reads format {FORMAT}")
    return view


def rows_of(keys: pa.ChunkedArray, table_keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """For each of `keys` its first row among `table_keys`; null where there is none."""
    return pc.call_function("index_in", [keys], pc.SetLookupOptions(table_keys.combine_chunks()))


@dataclass(frozen=True)
class View:
    """A loaded view. `data` is its JSON."""

    store: Store
    data: dict[str, Any]

    @staticmethod
    def load(root: str, version: str = "latest") -> "View":
        store = Store(root)
        return View(store, load_view_json(store, version))

    @property
    def version(self) -> str:
        return self.data["version"]

    @cached_property
    def specs(self) -> dict[str, TokenizerSpec]:
        return {key: TokenizerSpec.from_json(json.dumps(raw)) for key, raw in self.data["specs"].items()}

    def spec_id(self, wanted: str | None) -> str:
        """The id, or the only one. Raises ValueError if it is not in the view, or if none is named of several."""
        if wanted is None and len(self.specs) == 1:
            return next(iter(self.specs))
        if wanted not in self.specs:
            raise ValueError(
                f"view {self.version} has the specs {', '.join(self.specs) or 'none'}; name one of them"
                + (f", not {wanted!r}" if wanted else "")
            )
        return wanted

    def shards(self, spec_id: str) -> list[dict[str, Any]]:
        return [entry for entry in self.data["shards"] if entry["spec_id"] == spec_id]

    def decoder(self, spec_id: str) -> ResidualDecoder:
        """The numpy decoder that ships beside the shards. Raises ValueError if there is none, or another one."""
        spec = self.specs[spec_id]
        if spec.decode.get("kind") != "linear_residual":
            raise ValueError(f"spec {spec_id} ({spec.name}) decodes by {spec.decode}, not with numpy alone")
        path = f"shards/{spec_id}/{spec.decode['file']}"
        codebook = ResidualCodebook.from_bytes(self.store.read_bytes(path))
        if codebook.sha256 != spec.weights_sha256:
            raise ValueError(f"{self.store.uri(path)} is not the codebook of spec {spec_id} (sha256 differs)")
        return ResidualDecoder(codebook)

    def table_paths(self, kind: str) -> list[str]:
        return [entry["path"] for entry in self.data["tables"].get(kind, [])]

    def units(self, kind: str) -> list[int]:
        """Units that a table of this kind has."""
        names = {name for entry in self.data["tables"].get(kind, []) for name in entry["files"]}
        return sorted(int(name[5:-8]) for name in names)

    def unit_files(self, kind: str, unit: int) -> list[str]:
        """Paths of the unit's file in each table of the kind; tables that lack the unit are left out."""
        name = f"unit-{unit:04d}.parquet"
        return [f"{entry['path']}/{name}" for entry in self.data["tables"].get(kind, []) if name in entry["files"]]

    def columns(self) -> frozenset[str]:
        """Names that `attributes` knows, by the tables of the first unit."""
        units = self.units("selection")
        names: set[str] = set()
        for path in (path for kind in ATTRIBUTE_TABLES for unit in units[:1] for path in self.unit_files(kind, unit)):
            with self.store.open_parquet(path) as file:
                names.update(file.schema_arrow.names)
        return frozenset(names)

    def attributes(self, unit: int, columns: Sequence[str], filters: Sequence[Filter] = ()) -> pa.Table:
        """One row per clip of the unit: clip_id, source_id and `columns`, for which the filters hold.

        A column is taken from the first of `ATTRIBUTE_TABLES` that has it; of a clip's several captions, the first.

        Raises:
            ValueError: no table has a column.
        """
        names = list(dict.fromkeys(["clip_id", "source_id", *columns, *(column for column, _, _ in filters)]))
        table = self._first(unit)
        missing = [name for name in names if name not in table.column_names]
        for kind in ATTRIBUTE_TABLES:
            for path in self.unit_files(kind, unit):
                table, missing = self._joined(table, path, missing)
        if missing:
            near = get_close_matches(missing[0], self.columns(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no table of view {self.version} has the column {missing[0]!r}{hint}")
        if filters:
            table = table.filter(pq.filters_to_expression([list(filters)]))
        return table.select(list(dict.fromkeys(["clip_id", "source_id", *columns])))

    def _first(self, unit: int) -> pa.Table:
        paths = self.unit_files("selection", unit)
        if not paths:
            raise ValueError(f"view {self.version} has no selection of unit {unit:04d}, whose clips are in its shards")
        table = self.store.read_table(paths[0], ["clip_id", "source_id", "tier", "split"])
        return table.filter(table.column("clip_id").is_valid())

    def _joined(self, left: pa.Table, path: str, missing: list[str]) -> tuple[pa.Table, list[str]]:
        if not missing:
            return left, missing
        with self.store.open_parquet(path) as file:
            here = [name for name in missing if name in file.schema_arrow.names]
            if not here:
                return left, missing
            key = "clip_id" if "clip_id" in file.schema_arrow.names else "source_id"
            right = file.read(columns=list(dict.fromkeys([key, *here])))
        found = right.select(here).take(rows_of(left.column(key), right.column(key)))
        for name in here:
            left = left.append_column(found.schema.field(name), found.column(name))
        return left, [name for name in missing if name not in here]
