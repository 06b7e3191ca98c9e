# SPDX-License-Identifier: Apache-2.0
"""Several operators as one: what a round with more than one model runs."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from operators.contract import Operator, Resources
from reelmill.column import Column
from reelmill.tables import STATE

STATE_NAMES = tuple(column.name for column in STATE)


@dataclass(frozen=True, kw_only=True)
class Chain(Operator):
    """Runs its operators one after the other on the same rows.

    A row that one of them failed keeps the first error; the operators behind it still see the row, so that one
    model's failure does not hide another's result.
    """

    name: ClassVar[str] = "models"
    operators: tuple[Operator, ...]

    @property
    def writes(self) -> tuple[Column, ...]:
        written = (column for operator in self.operators for column in operator.writes)
        return tuple(column for column in written if column.name not in STATE_NAMES)

    @property
    def reads(self) -> tuple[Column, ...]:  # type: ignore[override]
        return tuple(column for operator in self.operators for column in operator.reads)

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        """The most CPUs and GPUs that one of them holds (they run in turn), the memory of all."""
        parts = [operator.resources for operator in self.operators]
        return Resources(
            num_cpus=max(part.num_cpus for part in parts),
            num_gpus=max(part.num_gpus for part in parts),
            memory_gb=sum(part.memory_gb for part in parts),
        )

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return all(operator.exact for operator in self.operators)

    def setup(self) -> list[Any]:
        return [operator.setup() for operator in self.operators]

    def process(self, state: list[Any], batch: pa.Table) -> pa.Table:
        inputs = [name for name in batch.column_names if name not in STATE_NAMES]
        table, errors = batch.select(inputs), [(None, None)] * batch.num_rows
        for operator, worker in zip(self.operators, state, strict=True):
            result = operator.process(worker, table)
            errors = _first(errors, result)
            table = result.drop_columns([name for name in STATE_NAMES if name in result.column_names])
        for index, column in enumerate(STATE):
            table = table.append_column(column.name, pa.array([error[index] for error in errors], column.dtype))
        return table

    def close(self, state: list[Any]) -> None:
        for operator, worker in zip(self.operators, state, strict=True):
            operator.close(worker)


def _first(errors: list[tuple[Any, Any]], result: pa.Table) -> list[tuple[Any, Any]]:
    if STATE_NAMES[0] not in result.column_names:
        return errors
    found = zip(*(result.column(name).to_pylist() for name in STATE_NAMES), strict=True)
    return [old if old[0] is not None else new for old, new in zip(errors, found, strict=True)]
