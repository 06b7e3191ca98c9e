# SPDX-License-Identifier: Apache-2.0
"""What is committed: a table's unit files and the parts of unfinished units. There is no other state.

    <table>/unit=0042/part-<hash>.parquet    committed by workers, one file per block of rows
    <table>/unit-0042.parquet                all rows of a finished unit, one per id, sorted; parts deleted

A unit file's footer says what it was made of: `reelmill.fp` (fingerprint), `reelmill.input` (hash of the input it
covers), `reelmill.content` (hash of its rows; the input hash of the next table) and `reelmill.retry` (rows whose error
may go away). Ids may stand in several parts, because work is done at least once; compaction keeps one row each.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.storage import Store

RETRYABLE = ("transient", "resource", "internal")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Footer of a unit file."""

    fp: str
    input: str
    content: str
    num_retry: int


def table_hash(table: pa.Table) -> str:
    """Hash of a table's names, types and values (of its plain Parquet form), whatever its chunks and metadata."""
    sink = pa.BufferOutputStream()
    plain = table.replace_schema_metadata(None).combine_chunks()
    pq.write_table(plain, sink, compression="none", store_schema=False, write_statistics=False)
    return hashlib.blake2b(sink.getvalue(), digest_size=16).hexdigest()


def join_hashes(*hashes: str) -> str:
    return hashlib.blake2b("\n".join(hashes).encode(), digest_size=16).hexdigest()


def row_ids(table: pa.Table, key: tuple[str, ...]) -> list[str]:
    """One id per row: the key columns joined by `/`."""
    columns = [table.column(name).to_pylist() for name in key]
    return ["/".join(map(str, values)) for values in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Ledger:
    """The units of one table.

    Args:
        store: the data set.
        rel: the table's folder below the root.
        key: columns that identify a row.
        fp: fingerprint of what the rows are made with.
        newest_wins: a part's row replaces the unit file's row of the same id even if neither failed (sources that
            were replaced by another file of the same name).
    """

    store: Store
    rel: str
    key: tuple[str, ...]
    fp: str

    def unit_file(self, unit: int) -> str:
        return f"{self.rel}/unit-{unit:04d}.parquet"

    def part_dir(self, unit: int) -> str:
        return f"{self.rel}/unit={unit:04d}"

    def stamp(self, unit: int) -> Stamp | None:
        """Footer of the unit's file; None if the unit was never finished (or under another fingerprint)."""
        if not self.store.exists(self.unit_file(unit)):
            return None
        metadata = self.store.read_metadata(self.unit_file(unit))
        stamp = Stamp(
            metadata.get("reelmill.fp", ""),
            metadata.get("reelmill.input", ""),
            metadata.get("reelmill.content", ""),
            int(metadata.get("reelmill.retry", "0")),
        )
        return stamp if stamp.fp == self.fp else None

    def content(self, unit: int) -> str:
        """Hash of the finished unit's rows. Raises ValueError if it is not finished."""
        stamp = self.stamp(unit)
        if stamp is None:
            raise ValueError(f"{self.store.uri(self.unit_file(unit))} does not exist or has another fingerprint")
        return stamp.content

    def write_part(self, unit: int, table: pa.Table) -> int:
        """Commits rows; the name follows from their ids, so a repeated block replaces its own file."""
        name = join_hashes(*sorted(set(row_ids(table, self.key))))[:16]
        return self.store.write_table(f"{self.part_dir(unit)}/part-{name}.parquet", table, {"reelmill.fp": self.fp})

    def parts(self, unit: int) -> list[str]:
        """Committed parts of this fingerprint."""
        names = [f"{self.part_dir(unit)}/{name}" for name in self.store.list(self.part_dir(unit))]
        return [rel for rel in names if self.store.read_metadata(rel).get("reelmill.fp") == self.fp]

    def committed(self, unit: int, expected: "Expected | None" = None) -> dict[str, str | None]:
        """Error kind (null if good) of every committed id of the unit that counts; a good row beats a failed one."""
        files = self.parts(unit)
        if self.stamp(unit) is not None:
            files = [self.unit_file(unit), *files]
        found: dict[str, str | None] = {}
        names = [*self.key, "error_kind", *(expected.columns if expected else ())]
        for rel in files:
            table = current(self.store.read_table(rel, list(dict.fromkeys(names))), self.key, expected)
            for row, kind in zip(row_ids(table, self.key), table.column("error_kind").to_pylist(), strict=True):
                if row not in found or kind is None:
                    found[row] = kind
        return found

    def read(self, unit: int, columns: list[str] | None = None) -> pa.Table:
        """Rows of a finished unit."""
        return self.store.read_table(self.unit_file(unit), columns)

    def write_unit(self, unit: int, table: pa.Table, input_hash: str) -> None:
        """Writes the unit's file from its rows: the commit of the unit."""
        kinds = table.column("error_kind").to_pylist() if "error_kind" in table.column_names else []
        num_retry = sum(kind in RETRYABLE for kind in kinds)
        stamp = {
            "reelmill.fp": self.fp,
            "reelmill.input": input_hash,
            "reelmill.content": table_hash(table),
            "reelmill.retry": str(num_retry),
        }
        self.store.write_table(self.unit_file(unit), table, stamp)

    def compact(self, unit: int, schema: pa.Schema, input_hash: str, expected: "Expected | None" = None) -> None:
        """Makes the unit's file of its parts and its earlier file, then deletes those parts."""
        parts = self.parts(unit)
        files = [*parts, self.unit_file(unit)] if self.stamp(unit) is not None else parts
        tables = [self.store.read_table(rel).select(schema.names).cast(schema) for rel in files]
        merged = current(pa.concat_tables(tables), self.key, expected) if tables else schema.empty_table()
        self.write_unit(unit, self.one_row_each(merged), input_hash)
        self.delete_parts(unit, parts)

    def delete_parts(self, unit: int, parts: list[str]) -> None:
        """Deletes these parts and no others: a second run may have committed more meanwhile."""
        for rel in parts:
            self.store.delete(rel)
        if not self.store.list(self.part_dir(unit)):
            self.store.delete_dir(self.part_dir(unit))

    def one_row_each(self, table: pa.Table) -> pa.Table:
        """Sorted by id, one row per id: a good one if there is one, else the first in the table's order."""
        failed = [kind is not None for kind in table.column("error_kind").to_pylist()]
        ids = row_ids(table, self.key)
        order = sorted(range(table.num_rows), key=lambda i: (ids[i], failed[i], i))
        keep = [i for n, i in enumerate(order) if n == 0 or ids[order[n - 1]] != ids[i]]
        columns = [table.column(name) for name in self.key]
        keep.sort(key=lambda i: tuple(column[i].as_py() for column in columns))
        return table.take(pa.array(keep, pa.int64()))


@dataclass(frozen=True)
class Expected:
    """What committed rows must still say of their input: the input's own columns, by id."""

    columns: tuple[str, ...]
    rows: dict[str, dict[str, Any]]


def current(table: pa.Table, key: tuple[str, ...], expected: Expected | None) -> pa.Table:
    """Without the rows whose input has changed since; ids that are not expected at all stay."""
    if expected is None:
        return table
    facts = table.select(list(expected.columns)).to_pylist()
    ids = row_ids(table, key)
    keep = [expected.rows.get(name, row) == row for name, row in zip(ids, facts, strict=True)]
    return table.filter(pa.array(keep, pa.bool_()))


def to_do(
    ids: Iterable[str], committed: dict[str, str | None], attempts: dict[str, int], max_attempts: int, redo_errors: bool
) -> list[str]:
    """Ids still to be worked on, in the order given.

    Those without a row, and those whose row failed with an error that may go away and was tried fewer than
    `max_attempts` times; with `redo_errors` all that failed.
    """
    wanted = []
    for row in ids:
        kind = committed.get(row, "missing")
        may_retry = kind in RETRYABLE and attempts.get(row, 0) < max_attempts
        if kind == "missing" or may_retry or (redo_errors and kind is not None):
            wanted.append(row)
    return wanted
