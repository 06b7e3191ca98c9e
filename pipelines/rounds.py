# SPDX-License-Identifier: Apache-2.0
"""A round: rows of many units go through one operator and are committed by the worker that made them.

This module knows nothing of Ray. `StageWorker` is a plain class; `pipelines.run` puts it into actors, `run_in_process`
calls it here. Either way the rows that come out are the same.
"""

import dataclasses
import json
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from operators.contract import RUN_LOG, Operator, RowError
from pipelines.ledger import Expected, Ledger, join_hashes, row_ids, to_do
from reelmill.column import Column, arrow_schema

SMALL_UNIT_BLOCKS, MIN_BLOCK_S = 8, 2.0  # a small unit gives this many blocks, so that several workers have some
UNIT = "unit"  # the column of a block that says which unit each row belongs to

FAILURE = pa.struct([("id", pa.string()), ("kind", pa.string()), ("error", pa.string())])
NOTE = pa.struct([("id", pa.string()), ("json", pa.string())])
RECEIPT = pa.schema(
    [
        ("num_rows", pa.int64()),
        ("num_inputs", pa.int64()),
        ("seconds", pa.float64()),
        ("decoded_s", pa.float64()),
        ("num_bytes", pa.int64()),
        ("failures", pa.list_(FAILURE)),
        ("notes", pa.list_(NOTE)),
    ]
)


@dataclass(frozen=True)
class StageJob:
    """All that a worker needs; small and picklable.

    Args:
        name: the stage, as the run log and the summary call it.
        operator: what each row goes through.
        columns: the table's columns, the state columns among them.
        ledger: where rows are committed.
        strict: let our own bugs crash the run instead of becoming rows of kind `internal`.
    """

    name: str
    operator: Operator
    columns: tuple[Column, ...]
    ledger: Ledger
    strict: bool = False

    @property
    def schema(self) -> pa.Schema:
        return arrow_schema(self.columns)


@dataclass(frozen=True)
class Receipt:
    """What a worker did with one block."""

    num_rows: int
    num_inputs: int
    seconds: float
    decoded_s: float
    num_bytes: int
    failures: list[dict[str, str]]
    notes: list[dict[str, str]] = field(default_factory=list)  # what the operator says to the run log, by row

    @staticmethod
    def from_table(table: pa.Table) -> "list[Receipt]":
        return [Receipt(**row) for row in table.to_pylist()]

    def to_table(self) -> pa.Table:
        return pa.Table.from_pylist([dataclasses.asdict(self)], schema=RECEIPT)


class StageWorker:
    """Runs one stage's operator on blocks of rows and commits what comes out."""

    def __init__(self, job: StageJob) -> None:
        self.job = job
        self._state: Any = None
        self._notes: list[dict[str, str]] = []
        self._is_ready = False

    def __call__(self, block: pa.Table) -> pa.Table:
        """A block (the operator's input columns and `unit`) to one receipt row."""
        started = time.monotonic()
        self._notes.clear()
        if not self._is_ready:
            self._state = self.job.operator.setup()
            self._is_ready = True
        result = self._process(block.drop_columns([UNIT]))
        num_bytes = self._commit(block, result)
        seconds = time.monotonic() - started
        return self._receipt(result, block.num_rows, seconds, num_bytes).to_table()

    def close(self) -> None:
        if self._is_ready:
            self.job.operator.close(self._state)
            self._is_ready = False

    def _process(self, batch: pa.Table) -> pa.Table:
        try:
            return self._checked(batch, self.job.operator.process(self._state, batch))
        except Exception as error:
            if self.job.strict:
                raise
            if not isinstance(error, RowError):  # a bug of ours that single rows may not show: said, not lost
                logging.getLogger(__name__).warning("%s: row by row after", self.job.operator.name, exc_info=True)
        return pa.concat_tables(self._process_alone(batch.slice(i, 1)) for i in range(batch.num_rows))

    def _process_alone(self, row: pa.Table) -> pa.Table:
        try:
            return self._checked(row, self.job.operator.process(self._state, row))
        except RowError as error:
            return error_rows(self.job, row, error.kind, str(error))
        except Exception:  # noqa: BLE001 - as above
            return error_rows(self.job, row, "internal", traceback.format_exc())

    def _checked(self, batch: pa.Table, result: pa.Table) -> pa.Table:
        schema, key = self.job.schema, self.job.ledger.key
        missing = [name for name in schema.names if name not in result.column_names]
        if missing:
            raise TypeError(f"{self.job.operator.name} did not write {', '.join(missing)}")
        lost = set(row_ids(batch, key)) ^ set(row_ids(result, key))
        if lost:
            raise TypeError(f"{self.job.operator.name} dropped or made up {len(lost)} rows, such as {min(lost)}")
        if RUN_LOG in result.column_names:
            notes = zip(row_ids(result, key), result.column(RUN_LOG).to_pylist(), strict=True)
            self._notes += [{"id": row, "json": text} for row, text in notes if text is not None]
        return result.select(schema.names).cast(schema)

    def _commit(self, block: pa.Table, result: pa.Table) -> int:
        key = self.job.ledger.key
        unit_of_id = dict(zip(row_ids(block, key), block.column(UNIT).to_pylist(), strict=True))
        units = [unit_of_id[row] for row in row_ids(result, key)]
        num_bytes = 0
        for unit in sorted(set(units)):
            rows = pa.array([i for i, u in enumerate(units) if u == unit], pa.int64())
            num_bytes += self.job.ledger.write_part(unit, result.take(rows))
        return num_bytes

    def _receipt(self, result: pa.Table, num_inputs: int, seconds: float, num_bytes: int) -> Receipt:
        kinds, errors = (result.column(name).to_pylist() for name in ("error_kind", "error"))
        failures = [
            {"id": row, "kind": kind, "error": error}
            for row, kind, error in zip(row_ids(result, self.job.ledger.key), kinds, errors, strict=True)
            if kind is not None
        ]
        decoded = 0.0
        if "decoded_s" in result.column_names:
            decoded = sum(value or 0.0 for value in result.column("decoded_s").to_pylist())
        return Receipt(result.num_rows, num_inputs, seconds, decoded, num_bytes, failures, list(self._notes))


def error_rows(job: StageJob, batch: pa.Table, kind: str, message: str) -> pa.Table:
    """Rows for inputs that could not be processed: what the input already says, the error, and nulls."""
    rows = [
        {name: row.get(name) for name in job.schema.names} | {"error_kind": kind, "error": message}
        for row in batch.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=job.schema)


@dataclass(frozen=True)
class Round:
    """One stage over all its units.

    Args:
        job: operator and ledger.
        units: the units that have input.
        rows: input rows of a unit; must hold the ledger's key and what the operator reads.
        input_hash: hash of a unit's input, cheap; equal to the committed one means that the unit is done.
        seconds: estimated seconds of one input row on one CPU; sizes the blocks and the pool.
        stale: ids of a unit whose committed row no longer counts.
        is_compacted: whether a finished unit becomes one file (tokens are packed instead).
        runs_here: cheap and free of native decoders, or with them in a child: small rounds need no actors.
    """

    job: StageJob
    units: list[int]
    rows: Callable[[int], pa.Table]
    input_hash: Callable[[int], str]
    seconds: Callable[[dict[str, Any]], float] = lambda row: 1.0
    expected: Callable[[int], Expected | None] = lambda unit: None
    is_compacted: bool = True
    runs_here: bool = False


@dataclass
class RoundResult:
    """What a round did, for the run log and the summary."""

    stage: str
    num_rows: int = 0
    num_inputs: int = 0
    seconds: float = 0.0
    worker_seconds: float = 0.0
    decoded_s: float = 0.0
    num_bytes: int = 0
    num_workers: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)

    def add(self, receipt: Receipt) -> None:
        self.num_rows += receipt.num_rows
        self.num_inputs += receipt.num_inputs
        self.worker_seconds += receipt.seconds
        self.decoded_s += receipt.decoded_s
        self.num_bytes += receipt.num_bytes
        self.failures.extend(receipt.failures)


@dataclass(frozen=True)
class Budget:
    """How work is cut and retried.

    Args:
        block_s: at most so many estimated seconds of work in a block, and an eighth of its unit's; a block is what is
            scheduled, committed and lost together.
        block_rows: fixed rows per block instead; for tests of layouts.
        max_attempts: runs that may try a row again whose error may go away.
        redo_errors: try every failed row again, final ones too.
    """

    block_s: float = 30.0
    block_rows: int | None = None
    max_attempts: int = 3
    redo_errors: bool = False


def unit_blocks(round_: Round, unit: int, budget: Budget, attempts: dict[str, int]) -> list[pa.Table]:
    """The blocks still to do of a unit.

    Blocks are cut from the unit's full, sorted list of ids and then thinned by what is committed, so that which rows
    stand together depends on the work list alone, not on when a run was interrupted.
    """
    table = round_.rows(unit)
    ids = row_ids(table, round_.job.ledger.key)
    if not ids:
        return []
    committed = round_.job.ledger.committed(unit, round_.expected(unit))
    wanted = set(to_do(ids, committed, attempts, budget.max_attempts, budget.redo_errors))
    if not wanted:
        return []
    seconds = [round_.seconds(row) for row in table.to_pylist()]
    table = table.append_column(UNIT, pa.array([unit] * table.num_rows, pa.int32()))
    blocks = []
    for group in _groups(sorted(range(len(ids)), key=ids.__getitem__), seconds, budget):
        rows = [i for i in group if ids[i] in wanted]
        if rows:
            blocks.append(table.take(pa.array(rows, pa.int64())))
    return blocks


def _groups(order: list[int], seconds: list[float], budget: Budget) -> Iterator[list[int]]:
    group: list[int] = []
    load = 0.0
    block_s = min(budget.block_s, max(MIN_BLOCK_S, sum(seconds) / SMALL_UNIT_BLOCKS))
    for i in order:
        is_full = len(group) >= budget.block_rows if budget.block_rows else load + seconds[i] > block_s
        if group and is_full:
            yield group
            group, load = [], 0.0
        group.append(i)
        load += seconds[i]
    if group:
        yield group


def pending_units(round_: Round, budget: Budget, may_retry: bool) -> list[int]:
    """Units whose input is not all committed, or that hold failed rows worth another try."""
    pending = []
    for unit in round_.units:
        stamp = round_.job.ledger.stamp(unit)
        is_done = stamp is not None and stamp.input == round_.input_hash(unit)
        has_retry = is_done and stamp is not None and stamp.num_retry > 0 and may_retry
        if not is_done or has_retry or budget.redo_errors:
            pending.append(unit)
    return pending


@dataclass(frozen=True)
class CompactUnit:
    """Makes a unit's file of its parts, unless the file is there and says the same."""

    job: StageJob
    input_hashes: dict[int, str]
    expected: dict[int, Expected | None]

    def __call__(self, unit: int) -> int:
        """Returns 0: rows are counted when they are made."""
        ledger, input_hash = self.job.ledger, self.input_hashes[unit]
        stamp = ledger.stamp(unit)
        if stamp is None or stamp.input != input_hash or ledger.parts(unit):
            ledger.compact(unit, self.job.schema, input_hash, self.expected[unit])
        return 0


MapUnits = Callable[[Callable[[int], int], list[int]], Iterable[int]]


def finish_units(round_: Round, units: list[int], map_units: MapUnits = map) -> None:
    """Compacts the units whose rows are all committed; `map_units` may spread them over workers."""
    if not round_.is_compacted:
        return
    hashes = {unit: round_.input_hash(unit) for unit in units}
    task = CompactUnit(round_.job, hashes, {unit: round_.expected(unit) for unit in units})
    sum(map_units(task, units))


def run_in_process(job: StageJob, blocks: list[pa.Table]) -> Iterator[Receipt]:
    """Runs blocks one after the other in this process, through the same worker class that the actors use."""
    worker = StageWorker(job)
    try:
        for block in blocks:
            yield from Receipt.from_table(worker(block))
    finally:
        worker.close()


def files_hash(*parts: Any) -> str:
    """Input hash of a unit: the contents of the files it is computed from, and what decides over them."""
    return join_hashes(*(part if isinstance(part, str) else json.dumps(part, sort_keys=True) for part in parts))
