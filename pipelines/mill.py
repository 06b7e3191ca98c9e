# SPDX-License-Identifier: Apache-2.0
"""The whole run, top to bottom: listing, probe, measure, clips, models, captions, selection, tokens, packing, view.

Each step looks at what is committed and does the rest; a run over finished work lists the input, reads some footers
and does nothing. Ray is started by the first step that needs it.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import pyarrow as pa

from pipelines import unit_tasks
from pipelines.caption_checks import CheckUnit, FindTwins
from pipelines.dataset import DataSet
from pipelines.ledger import Expected, Ledger, table_hash
from pipelines.manifest import (
    RunLog,
    Stopwatch,
    load_manifest,
    new_manifest,
    num_units_for,
    read_attempts,
    save_manifest,
)
from pipelines.model_weights import CAPTION
from pipelines.plan import MIN_WORK_S, Plan, after_captions_columns, is_by_rendering, pool_size
from pipelines.rounds import (
    Budget,
    Round,
    RoundResult,
    StageJob,
    files_hash,
    finish_units,
    pending_units,
    run_in_process,
    unit_blocks,
)
from reelmill import tables
from reelmill.ids import unit_of

STAGES = (
    "probe",
    "measure",
    "clips",
    "models",
    "dedup",
    "caption",
    "after_captions",
    "select",
    "tokenize",
    "pack",
    "report",
)
CHEAP_S = 0.01  # a row that costs less is arithmetic on stored numbers
SMALL_ROUND_S = 5.0  # a cheap round that is estimated to be shorter needs no actors
PROBE_S, PROBE_S3_S = 0.1, 0.3  # of one file
MAX_ROWS_PER_PLAN = 20_000  # rows of work the driver holds at once


class Progress(Protocol):
    """What the command line shows while a run goes on."""

    def start(self, stage: str, num_rows: int, already: int) -> None: ...
    def advance(self, num_rows: int, num_failed: int) -> None: ...
    def finish(self, result: RoundResult) -> None: ...
    def say(self, line: str) -> None: ...


@dataclass(frozen=True)
class Options:
    """How to run; nothing here changes results.

    Args:
        input: directory, glob, manifest file or s3 URI; None works on what is already listed.
        out: the data set's root.
        only: run just this stage of STAGES.
        limit: take the first so many sources of the listing.
        address: Ray address, `local`, or `in-process` for no Ray at all; None decides by itself.
        num_cpus, num_gpus: size of the pools; None takes this machine (or the cluster).
        strict: our own bugs end the run.
        absent_models: models to leave for a later run, as their weights are not here.
    """

    input: str | None
    out: str
    only: str | None = None
    limit: int | None = None
    address: str | None = None
    num_cpus: int | None = None
    num_gpus: int = 0
    strict: bool = False
    absent_models: frozenset[str] = frozenset()
    budget: Budget = field(default_factory=Budget)


class Mill(DataSet):
    """One run over one data set.

    Args:
        plan: what to do.
        options: how.
        progress: told what goes on.
        argv: the command line, for the run log.
    """

    def __init__(self, plan: Plan, options: Options, progress: Progress, argv: Sequence[str] = ()) -> None:
        super().__init__(plan, options.out)
        self.options, self.progress, self.argv = options, progress, list(argv)
        self.log = RunLog(self.store)
        self.results: list[RoundResult] = []
        self.manifest: dict[str, Any] = {}
        self._stack = ExitStack()
        self._attempts = read_attempts(self.store)
        self._is_ray_up = False
        self._cpus = self.options.num_cpus or 1

    # --- the run -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Everything that is not done yet. What is committed stays committed, however this ends."""
        self.log.add_start(self.argv, self.plan.recipe.recipe)
        try:
            with self._stack:
                self._list()
                for stage, step in self._steps().items():
                    if self.options.only in (None, stage):
                        step()
                        self._save()
        finally:
            self._save()
            if self.manifest:
                self.log.flush()

    def _steps(self) -> dict[str, Callable[[], None]]:
        return {
            "probe": self._probe,
            "measure": self._measure,
            "clips": self._clips,
            "models": self._models,
            "dedup": self._dedup,
            "caption": self._caption,
            "after_captions": self._after_captions,
            "select": self._select,
            "tokenize": self._tokenize,
            "pack": self._pack,
        }

    @property
    def did_work(self) -> bool:
        """Whether any stage wrote rows."""
        return any(result.num_rows for result in self.results)

    def exit_code(self) -> int:
        """1 if rows stand that failed by our own bugs, whichever run made them, else 0."""
        ledgers = [self.sources, self.series, *self.model_scores.values(), self.captions, *self.after_captions.values()]
        ledgers += [self.tokens(operator.spec.spec_id) for operator in self.plan.tokenizers]
        return int(any(self._has_internal(ledger, unit) for ledger in ledgers for unit in self.units_of(ledger)))

    def _has_internal(self, ledger: Ledger, unit: int) -> bool:
        stamp = ledger.stamp(unit)
        if stamp is None or not stamp.num_retry:
            return False
        return "internal" in ledger.read(unit, ["error_kind"]).column("error_kind").to_pylist()

    def _save(self) -> None:
        if self.manifest:
            save_manifest(self.store, self.manifest)

    # --- listing and ledgers -----------------------------------------------------------------------------------

    def _list(self) -> None:
        from pipelines.listing import list_sources

        earlier = load_manifest(self.store)
        self.listing: dict[int, pa.Table] = {}
        if self.options.input is None:
            if earlier is None:
                raise ValueError(f"{self.store.root} holds no data set yet: give its input with --in")
            self.manifest = earlier
        else:
            sources = self.plan.recipe.sources
            listing = list_sources(self.options.input, sources.suffixes, sources.image_suffixes)
            rows = listing.rows.slice(0, self.options.limit) if self.options.limit else listing.rows
            num_units = earlier["num_units"] if earlier else num_units_for(listing.rows.num_rows)
            self.manifest = earlier or new_manifest(self.options.input, num_units)
            self.manifest["input"] = self.options.input
            self.manifest["ignored_files"] = {"num": listing.num_ignored, "examples": listing.ignored_examples}
            units = [unit_of(relpath, num_units) for relpath in rows.column("relpath").to_pylist()]
            for unit in sorted(set(units)):
                self.listing[unit] = rows.take(pa.array([i for i, u in enumerate(units) if u == unit], pa.int64()))
        self._describe()
        self._save()  # before the first part: the number of units must outlive a kill

    def _describe(self) -> None:
        plan, manifest = self.plan, self.manifest
        manifest["recipe"] = plan.recipe.model_dump(mode="json", by_alias=True)
        manifest["recipe_name"] = plan.recipe.recipe
        manifest["fingerprints"] = dict(plan.fps)
        manifest["exact"] = {_label(op): op.exact for op in plan.operators}
        manifest["tables"] |= {
            "sources": self.sources.rel,
            "series": self.series.rel,
            "clips": self.clips.rel,
            "scores": {"measure": self.scores.rel, **{name: t.rel for name, t in self.model_scores.items()}}
            | {name: t.rel for name, t in self.after_captions.items() if t.rel.startswith("scores/")},
            "text": [t.rel for t in self.after_captions.values() if t.rel.startswith("text/")],
            "duplicates": self.duplicates.rel if plan.dedup else None,
            "selection": self.selection.rel,
            "captions": self.captions.rel if plan.caption else None,
            "caption_checks": [self.caption_checks.rel, self.caption_twins.rel] if plan.caption else [],
        }
        text = plan.recipe.to_yaml().encode()
        if not self.store.exists("recipe.yaml") or self.store.read_bytes("recipe.yaml") != text:
            self.store.write_bytes("recipe.yaml", text)

    # --- steps -------------------------------------------------------------------------------------------------

    def _probe(self) -> None:
        job = StageJob("probe", self.plan.probe, tables.SOURCES, self.sources, self.options.strict)
        self._round(
            Round(
                job=job,
                units=sorted(self.listing),
                rows=self.listing.__getitem__,
                input_hash=lambda unit: table_hash(self.listing[unit]),
                seconds=lambda row: PROBE_S3_S if row["uri"].startswith("s3://") else PROBE_S,
                expected=self._listed,
                runs_here=True,
            )
        )

    def _listed(self, unit: int) -> Expected:
        """A source's row counts while the listing says the same of it; a replaced file is probed again."""
        names = tuple(self.listing[unit].column_names)
        return Expected(names, {row["relpath"]: row for row in self.listing[unit].to_pylist()})

    def _measure(self) -> None:
        job = StageJob("measure", self.plan.measure, self.plan.series_columns, self.series, self.options.strict)
        self._round(
            Round(
                job=job,
                units=[unit for unit in self.units_of(self.sources) if self.sources.stamp(unit) is not None],
                rows=partial(unit_tasks.rows_to_measure, self.sources, self.plan.rules),
                input_hash=lambda unit: files_hash(self.sources.content(unit), self.plan.fps["header_rules"]),
                seconds=unit_tasks.measure_seconds,
            )
        )

    def _clips(self) -> None:
        task = unit_tasks.CutUnit(self.sources, self.series, self.clips, self.scores, self.plan)
        self._unit_tasks("clips", task, self.units_of(self.series))

    def _models(self) -> None:
        for name, operator in self.plan.models_by_name.items():
            if name in self.options.absent_models:
                continue
            columns = self.plan.model_columns(name)
            job = StageJob(name, operator, columns, self.model_scores[name], self.options.strict)
            self._round(
                Round(
                    job=job,
                    units=self.units_of(self.clips),
                    rows=partial(self.model_rows, name),
                    input_hash=partial(self.model_hash, name),
                    seconds=lambda row, operator=operator: operator.seconds_per_row,
                    runs_here=operator.seconds_per_row < CHEAP_S,
                )
            )

    def _dedup(self) -> None:
        if self.plan.dedup is None:
            return
        from pipelines.dedup import DedupAll

        units = self.units_of(self.clips)
        task = DedupAll(self.plan.dedup, self.duplicates, partial(self.kept_rows, "models"), self.dedup_hash)
        watch, result = Stopwatch(), RoundResult("dedup", num_workers=1)
        result.num_rows = task(units)
        result.seconds = watch.seconds
        self._finish(result, self.duplicates.fp)

    def _caption(self) -> None:
        caption = self.plan.caption
        if caption is None or CAPTION in self.options.absent_models:
            return
        job = StageJob("caption", caption, tables.CAPTIONS, self.captions, self.options.strict)
        self._round(
            Round(
                job=job,
                units=self.units_of(self.clips),
                rows=partial(self.kept_rows, "dedup"),
                input_hash=partial(self.kept_hash, "dedup"),
                seconds=lambda row: caption.seconds_per_clip,
                runs_here=self.plan.caption_is_cheap,
            )
        )

    def _after_captions(self) -> None:
        for name, operator in self.plan.after_captions_by_name.items():
            if name in self.options.absent_models:
                continue
            ledger = self.after_captions[name]
            job = StageJob(name, operator, after_captions_columns(operator), ledger, self.options.strict)
            self._round(
                Round(
                    job=job,
                    units=[unit for unit in self.units_of(self.captions) if self.captions.stamp(unit) is not None],
                    rows=partial(self.captioned_rows, name),
                    input_hash=self.captioned_hash,
                    seconds=lambda row, operator=operator: operator.seconds_per_row,
                )
            )
            self._tell_truncated(name, operator, ledger)

    def _tell_truncated(self, name: str, operator: Any, ledger: Ledger) -> None:
        """Captions that an encoder cut are told of whenever there are any, and counted in the manifest."""
        if is_by_rendering(operator):
            tables_ = (ledger.read(unit, ["rendering", "is_truncated"]) for unit in self.units_of(ledger))
            lines = list(operator.told(tables_))
            self.manifest.setdefault("truncated", {})[name] = lines
            for line in lines:
                self.progress.say(f"{name}: {line}")

    def _check_captions(self) -> None:
        """Part of `select`: a changed check is decided by at once, and costs no caption."""
        if self.plan.caption is None:
            return
        units = self.units_of(self.captions)
        self._unit_tasks("check", CheckUnit(self.captions, self.select_task("dedup"), self.caption_checks), units)
        watch, result = Stopwatch(), RoundResult("twins", num_workers=1)
        result.num_rows = FindTwins(self.caption_checks, self.caption_twins)(units)
        result.seconds = watch.seconds
        self._finish(result, self.caption_twins.fp)

    def _select(self) -> None:
        self._check_captions()
        self._unit_tasks("select", self.select_task("captions"), self.units_of(self.clips))
        self.manifest["counts"] = unit_tasks.count_rows(self.sources, self.clips, self.selection, self.units_of)

    def _tokenize(self) -> None:
        for operator in self.plan.tokenizers:
            spec_id = operator.spec.spec_id
            self.manifest["specs"][spec_id] = operator.spec.to_dict()
            self._remember("tokens", f"tokens/{spec_id}")
            job = StageJob(
                "tokenize", operator, unit_tasks.token_columns(operator), self.tokens(spec_id), self.options.strict
            )
            self._round(
                Round(
                    job=job,
                    units=self.units_of(self.clips),
                    rows=partial(self.kept_rows, "captions"),
                    input_hash=partial(self.kept_hash, "captions"),
                    seconds=partial(unit_tasks.tokenize_seconds, operator),
                    is_compacted=False,
                )
            )

    def _pack(self) -> None:
        for operator in self.plan.tokenizers:
            spec_id = operator.spec.spec_id
            task = unit_tasks.PackUnit(
                self.tokens(spec_id),
                f"shards/{spec_id}",
                operator.spec,
                self.plan.recipe.pack,
                self.select_task("captions"),
            )
            self._unit_tasks("pack", task, self.units_of(self.clips))
            unit_tasks.write_spec(self.store, f"shards/{spec_id}", operator)
            self._remember("shards", f"shards/{spec_id}")
        self.publish()

    def publish(self) -> None:
        """Writes the view over the shards there are and the tables of this plan, and makes it the latest."""
        from pipelines.views import write_view

        if self.manifest["tables"]["shards"]:
            self.manifest["view"] = write_view(self.store, self.manifest)
            self._save()

    def _remember(self, kind: str, rel: str) -> None:
        if rel not in self.manifest["tables"][kind]:
            self.manifest["tables"][kind].append(rel)

    # --- running rounds ----------------------------------------------------------------------------------------

    def _round(self, round_: Round) -> None:
        job, budget = round_.job, self.options.budget
        attempts = self._attempts.get((job.name, job.ledger.fp), {})
        watch, result = Stopwatch(), RoundResult(job.name)
        may_retry = self.options.budget.max_attempts > 0
        for units in _batches(pending_units(round_, budget, may_retry), round_, MAX_ROWS_PER_PLAN):
            blocks = [block for unit in units for block in unit_blocks(round_, unit, budget, attempts)]
            self._blocks(round_, blocks, result)
            finish_units(round_, units, self._map_units)
        result.seconds = watch.seconds
        self._finish(result, job.ledger.fp)

    def _blocks(self, round_: Round, blocks: list[pa.Table], result: RoundResult) -> None:
        if not blocks:
            return
        num_rows = sum(block.num_rows for block in blocks)
        self.progress.start(round_.job.name, num_rows, 0)
        for receipt in self._receipts(round_, blocks, result):
            result.add(receipt)
            for failure in receipt.failures:
                self.log.add("failed", stage=result.stage, fp=round_.job.ledger.fp, **failure)
            for note in receipt.notes:
                self.log.add("row", stage=result.stage, id=note["id"], **json.loads(note["json"]))
            self.progress.advance(receipt.num_inputs, len(receipt.failures))

    def _receipts(self, round_: Round, blocks: list[pa.Table], result: RoundResult) -> Iterator[Any]:
        seconds = sum(round_.seconds(row) for block in blocks for row in block.to_pylist())
        is_small = round_.runs_here and seconds < SMALL_ROUND_S
        if self.options.address == "in-process" or is_small:
            result.num_workers = 1
            return run_in_process(round_.job, blocks)
        from pipelines.run import gpu_memory_gb, run_on_ray

        self._start_ray()
        gpu_total_gb = gpu_memory_gb(round_.job.operator.resources)
        num_rows = sum(block.num_rows for block in blocks)
        per_row, min_work_s = seconds / num_rows, 0.0 if self.options.num_cpus else MIN_WORK_S  # what was asked for
        pool = pool_size(
            round_.job.operator, self._cpus, self.options.num_gpus, per_row, num_rows, min_work_s, gpu_total_gb
        )
        result.num_workers = min(pool, len(blocks))
        return run_on_ray(round_.job, blocks, result.num_workers, self.progress.say)

    def _start_ray(self) -> None:
        if self._is_ray_up:
            return
        from pipelines.run import SPARE_CPUS, cluster, is_inside_job

        options = self.options
        is_local = options.address == "local" or (options.address is None and not is_inside_job())
        actors = options.num_cpus or os.cpu_count() or 1
        wanted = {"CPU": options.num_cpus + SPARE_CPUS if options.num_cpus else 0, "GPU": options.num_gpus}
        wait_for = {} if is_local else {name: float(num) for name, num in wanted.items() if num}
        resources = self._stack.enter_context(cluster(options.address, actors, wait_for, self.progress.say))
        have = int(resources.get("CPU", 0))
        self._cpus = options.num_cpus or (actors if is_local else max(1, have - SPARE_CPUS))
        self.plan.preflight(self._cpus, have)
        self._is_ray_up = True

    def _unit_tasks(self, stage: str, task: Callable[[int], int], units: list[int]) -> None:
        watch, result = Stopwatch(), RoundResult(stage, num_workers=1)
        for unit, num_rows in zip(units, self._map_units(task, units), strict=True):
            if num_rows:
                self.progress.say(f"{stage}: unit {unit:04d}, {num_rows} rows")
            result.num_rows += num_rows
        result.seconds = watch.seconds
        self._finish(result, "")

    def _map_units(self, task: Callable[[int], int], units: list[int]) -> Iterable[int]:
        """Runs a unit task: on the workers if Ray is up and there are several units, else here."""
        if not self._is_ray_up or len(units) < 2:
            return map(task, units)
        from pipelines.run import map_on_ray

        return map_on_ray(task, units, self._cpus)

    def _finish(self, result: RoundResult, fp: str) -> None:
        self.results.append(result)
        self.progress.finish(result)
        kinds: dict[str, int] = {}
        for failure in result.failures:
            kinds[failure["kind"]] = kinds.get(failure["kind"], 0) + 1
        if result.num_rows or result.failures:
            self.log.add(
                "stage",
                stage=result.stage,
                rows=result.num_rows,
                inputs=result.num_inputs,
                failed=kinds,
                seconds=round(result.seconds, 3),
                worker_seconds=round(result.worker_seconds, 3),
                decoded_s=round(result.decoded_s, 3),
                bytes=result.num_bytes,
                workers=result.num_workers,
            )
            self.log.flush()


def _label(operator: Any) -> str:
    spec = getattr(operator, "spec", None)
    return operator.name if spec is None else f"{operator.name} {spec.spec_id}"


def _batches(units: list[int], round_: Round, max_rows: int) -> Iterator[list[int]]:
    """Units in groups that one plan takes, so that the driver never holds all rows of a large data set."""
    group: list[int] = []
    num_rows = 0
    for unit in units:
        group.append(unit)
        num_rows += round_.rows(unit).num_rows
        if num_rows >= max_rows:
            yield group
            group, num_rows = [], 0
    if group:
        yield group
