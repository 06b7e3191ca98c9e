# SPDX-License-Identifier: Apache-2.0
"""A tiny operator that misbehaves on demand, importable by Ray workers."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from operators.contract import Operator, RowError
from reelmill.column import Column
from reelmill.tables import CLIP_ID, STATE

VALUE = Column("value", pa.int64(), "a number")
DOUBLE = Column("double", pa.int64(), "twice the value; null if it failed")
COLUMNS = (CLIP_ID, VALUE, DOUBLE, *STATE)


@dataclass(frozen=True, kw_only=True)
class Double(Operator):
    """Doubles a number.

    Args:
        refuse: values that fail as bad input.
        break_on: values that raise like a bug of ours.
        die_on: values that take the worker process down, every time.
        die_once: folder; the first worker that meets value 7 dies.
    """

    name: ClassVar[str] = "double"
    reads: ClassVar[tuple[Column, ...]] = (CLIP_ID, VALUE)
    refuse: tuple[int, ...] = ()
    break_on: tuple[int, ...] = ()
    die_on: tuple[int, ...] = ()
    die_once: str | None = None

    @property
    def writes(self) -> tuple[Column, ...]:
        return (DOUBLE, *STATE)

    def process(self, state: Any, batch: pa.Table) -> pa.Table:
        rows = []
        for row in batch.to_pylist():
            self._misbehave(row["value"])
            try:
                rows.append(row | {"double": self._double(row["value"]), "error_kind": None, "error": None})
            except RowError as error:
                rows.append(row | {"double": None, "error_kind": error.kind, "error": str(error)})
        return pa.Table.from_pylist(rows, schema=pa.schema([(c.name, c.dtype) for c in COLUMNS]))

    def _double(self, value: int) -> int:
        if value in self.refuse:
            raise RowError("bad_input", f"{value} is refused")
        if value in self.break_on:
            raise KeyError(value)
        return 2 * value

    def _misbehave(self, value: int) -> None:
        if value in self.die_on:
            os._exit(9)
        if self.die_once and value == 7:
            marker = Path(self.die_once) / "died"
            if not marker.exists():
                marker.touch()
                os._exit(9)
