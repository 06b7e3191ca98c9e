# SPDX-License-Identifier: Apache-2.0
"""Everything that touches Ray: how to start or join it, and how a round's blocks go through a pool of actors.

A round is one Ray Data plan: blocks -> a fixed pool of actors -> receipts. Ray moves rows of text and numbers; pixels
stay in the worker. Correctness does not rest on Ray: workers commit, and the work list is what is not committed.

What each setting guards against (Ray 2.60):
    max_restarts, max_task_retries   the defaults retry a segfaulting row for ever
    max_errored_blocks = 0           anything else drops whole blocks in silence
    CPUs >= actors + 2               a pool that holds every CPU hangs the job
    execution_no_progress_timeout_s  a stalled plan ends, and its rows are then tried alone
    address = "local"                a stray RAY_ADDRESS would send a laptop's run to somebody's cluster
"""

import logging
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import pyarrow as pa

from operators.contract import Resources
from pipelines.ledger import row_ids
from pipelines.rounds import Receipt, StageJob, StageWorker, error_rows

MAX_RESTARTS = 3
STRIKES = 3  # how often a row may take its worker down, alone, before it becomes an error row
NO_PROGRESS_S = 1800
CONNECT_TIMEOUT_S = 10.0
SPARE_CPUS = 2  # Ray Data needs free slots for its own tasks

_QUIET_ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def is_inside_job() -> bool:
    """True in the driver of a `ray job submit`: then the job's cluster is the one to use."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@contextmanager
def cluster(
    address: str | None, num_actors: int, wait_for: dict[str, float], say: Callable[[str], None]
) -> Iterator[Mapping[str, float]]:
    """Starts Ray on this machine, or joins a cluster; yields its resources.

    Args:
        address: None (this machine, or the job's cluster inside `ray job submit`), `local`, `auto` or a Ray address.
        num_actors: the largest pool of the run; on this machine Ray gets at least that many CPUs and two more.
        wait_for: resources to wait for on a cluster, such as {"CPU": 64, "GPU": 8}.
        say: prints a line.
    """
    os.environ.update({key: value for key, value in _QUIET_ENV.items() if key not in os.environ})
    where = address or ("auto" if is_inside_job() else "local")
    if where == "local":
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # else `uv run` builds a second environment per job
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray's own, of its own settings
        import ray
        import ray.data

    terminate = signal.getsignal(signal.SIGTERM)  # ray.init puts its own handler there
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if where == "local":
        with _native_stderr_to_null(), _said_in_words():
            ray.init(
                address="local",
                num_cpus=max(os.cpu_count() or 1, num_actors + SPARE_CPUS),
                object_store_memory=512 << 20,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    else:
        _check_reachable(where)
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR)
    if terminate is not None:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield _wait_for(wait_for, say)
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises ValueError if nothing answers at host:port; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ValueError(f"--address {address}: nothing answers there ({error})") from error


@contextmanager
def _native_stderr_to_null() -> Iterator[None]:
    """Ray's C++ side announces its log level on stderr; what goes wrong in `ray.init` is raised, not printed."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextmanager
def _said_in_words() -> Iterator[None]:
    """Raises ValueError for what Ray raises where its processes do not come up: a bare Exception, on a busy machine."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"Ray did not start on this machine: {error}. The usual reason is a very busy machine, or "
            "too little memory: run it again, or without Ray by --address in-process"
        ) from error


def _ask_autoscaler(wanted: Mapping[str, float]) -> None:
    """Asks for nodes: with no workers at the start, nothing else would. No effect on a cluster of fixed size."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{name: 1.0} for name, num in wanted.items() for _ in range(int(num))])


def _wait_for(wanted: dict[str, float], say: Callable[[str], None]) -> Mapping[str, float]:
    import ray

    if wanted:
        _ask_autoscaler(wanted)
    said = 0.0
    while True:
        resources = ray.cluster_resources()
        missing = {name: num for name, num in wanted.items() if resources.get(name, 0.0) < num}
        if not missing:
            return resources
        if time.monotonic() - said > 30:
            have = ", ".join(f"{name} {resources.get(name, 0):g} of {num:g}" for name, num in missing.items())
            say(f"waiting for nodes: {have}")
            said = time.monotonic()
        time.sleep(1)


def map_on_ray(task: Callable[[int], int], units: list[int], num_workers: int) -> Iterator[int]:
    """Results of a unit task, in the order of the units; each unit is one Ray task, tried again if its worker dies."""
    import ray

    remote = ray.remote(num_cpus=1, max_retries=MAX_RESTARTS)(_call)
    shared = ray.put(task)
    waiting = [*units]
    running: list[Any] = []
    while waiting or running:
        while waiting and len(running) < num_workers:
            running.append(remote.remote(shared, waiting.pop(0)))
        yield ray.get(running.pop(0))


def _call(task: Callable[[int], int], unit: int) -> int:
    return task(unit)


def run_on_ray(
    job: StageJob, blocks: list[pa.Table], num_workers: int, say: Callable[[str], None]
) -> Iterator[Receipt]:
    """Runs the blocks through a pool of actors; rows that keep taking their worker down become error rows.

    Raises:
        Exception: whatever the operator raised, in strict mode.
    """
    from ray.data.exceptions import ExecutionTimeoutError  # a plain Exception, not a RayError
    from ray.exceptions import RayError

    done: set[int] = set()
    try:
        for index, receipt in _plan(job, blocks, num_workers):
            done.add(index)
            yield receipt
        return
    except (RayError, ExecutionTimeoutError) as error:
        if _is_user_error(error):
            raise
        say(f"{job.name}: a worker keeps dying ({type(error).__name__}); trying the remaining rows one by one")
    rest = [block.slice(i, 1) for n, block in enumerate(blocks) if n not in done for i in range(block.num_rows)]
    yield from _alone(job, rest, num_workers)


def _is_user_error(error: BaseException) -> bool:
    """An exception of the operator (strict mode) rather than the death of its process."""
    from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError, WorkerCrashedError

    deaths = (ActorDiedError, ActorUnavailableError, WorkerCrashedError)
    return isinstance(error, RayTaskError) and not isinstance(error.cause, deaths) and not isinstance(error, deaths)


class _Numbered:
    """A stage worker that says which block a receipt belongs to."""

    def __init__(self, job: StageJob) -> None:
        self.worker = StageWorker(job)

    def __call__(self, block: pa.Table) -> pa.Table:
        numbers = block.column("block").unique()
        receipt = self.worker(block.drop_columns(["block"]))
        return receipt.append_column("block", numbers.slice(0, receipt.num_rows))


def gpu_memory_gb(resources: Resources) -> float | None:
    """Memory of one GPU of the cluster, by asking a worker that holds one; null where none is wanted."""
    return _gpu_memory_gb() if resources.gpu_memory_gb else None


@lru_cache(maxsize=1)
def _gpu_memory_gb() -> float | None:
    import ray

    if not ray.cluster_resources().get("GPU"):
        return None
    return ray.get(ray.remote(num_cpus=0, num_gpus=0.01)(_total_gb).remote())


def _total_gb() -> float:
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 1e9


def _plan(job: StageJob, blocks: list[pa.Table], num_workers: int) -> Iterator[tuple[int, Receipt]]:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    numbered = [
        block.append_column("block", pa.array([n] * block.num_rows, pa.int32())) for n, block in enumerate(blocks)
    ]
    resources = job.operator.resources.shared(gpu_memory_gb(job.operator.resources))
    named = type(job.name, (_Numbered,), {})  # Ray's logs then speak of the stage
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # max_restarts has no named argument in Ray 2.60; its old form warns
        plan = ray.data.from_blocks(numbered).map_batches(
            named,
            fn_constructor_args=(job,),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=min(num_workers, len(blocks))),
            num_cpus=resources.num_cpus,
            num_gpus=resources.num_gpus or None,
            max_restarts=MAX_RESTARTS,
            max_task_retries=MAX_RESTARTS,
        )
    for batch in plan.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        receipts: Any = batch  # a pyarrow table, which Ray's annotation does not know
        numbers = receipts.column("block").to_pylist()
        yield from zip(numbers, Receipt.from_table(receipts.drop_columns(["block"])), strict=True)


def _alone(job: StageJob, rows: list[pa.Table], num_workers: int) -> Iterator[Receipt]:
    """Each row by itself, in actors that are not restarted, so that a death has a name."""
    import ray
    from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, WorkerCrashedError

    resources = job.operator.resources.shared(gpu_memory_gb(job.operator.resources))
    actor_class = ray.remote(num_cpus=resources.num_cpus, num_gpus=resources.num_gpus or 0, max_restarts=0)(StageWorker)
    waiting, strikes = list(range(len(rows))), dict.fromkeys(range(len(rows)), 0)
    idle: list[Any] = [actor_class.remote(job) for _ in range(min(num_workers, len(rows)))]
    running: dict[Any, tuple[int, Any]] = {}
    while waiting or running:
        while waiting and idle:
            row, actor = waiting.pop(0), idle.pop()
            running[actor.__call__.remote(rows[row])] = (row, actor)
        ready, _ = ray.wait(list(running), num_returns=1, timeout=NO_PROGRESS_S)
        for future in ready or list(running)[:1]:
            row, actor = running.pop(future)
            try:
                yield from Receipt.from_table(ray.get(future, timeout=0 if not ready else None))
                idle.append(actor)
            except (ActorDiedError, ActorUnavailableError, WorkerCrashedError, GetTimeoutError) as error:
                with suppress(ValueError):
                    ray.kill(actor)
                idle.append(actor_class.remote(job))
                strikes[row] += 1
                if strikes[row] < STRIKES:
                    waiting.append(row)
                else:
                    yield _give_up(job, rows[row], error)


def _give_up(job: StageJob, row: pa.Table, error: BaseException) -> Receipt:
    message = f"its worker died or hung {STRIKES} times with this row alone: {type(error).__name__}"
    failed = error_rows(job, row, "resource", message)
    unit = row.column("unit")[0].as_py()
    num_bytes = job.ledger.write_part(unit, failed)
    failures = [{"id": name, "kind": "resource", "error": message} for name in row_ids(failed, job.ledger.key)]
    return Receipt(1, 1, 0.0, 0.0, num_bytes, failures)
