# SPDX-License-Identifier: Apache-2.0
"""From a recipe to operator objects, fingerprints and checks, before a row moves. Nothing heavy is imported here.

    sources -> series -> clips -> scores -> [models] -> [dedup] -> [captions] -> selection -> tokens

A fingerprint covers what can change a stage's rows and nothing else: a changed meter changes `series` and all behind
it, a changed rule `selection` alone, a changed caption setting `captions` (and `selection` if a rule looks at
captions). Fields that an operator lists in `neutral` (threads, time limits) change none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from captioning.checks import table as checks
from operators import aggregate
from operators import cut as cutting
from operators.contract import Meter, Operator, config_of
from operators.cut import CutConfig, SplitConfig
from pipelines import dedup
from pipelines.dedup import Dedup
from pipelines.plan_check import PlanError
from pipelines.recipe import (
    Pack,
    Recipe,
    build_after_captions,
    build_caption,
    build_measure,
    build_meters,
    build_models,
    build_tokenizers,
)
from pipelines.rules import SELECT_VERSION, Rule
from reelmill import tables
from reelmill.column import Column
from reelmill.ids import fingerprint
from reelmill.tokens import shard_columns

SPARE_CPUS = 2  # Ray Data's own tasks need free slots, or a job whose actors hold every CPU hangs
MIN_WORK_S = 8.0  # a worker pays for its start (4 s of imports, and weights) from about this much work on


@dataclass(frozen=True)
class Plan:
    """Everything a run does, as objects. `fps` names the tables."""

    recipe: Recipe
    probe: Operator
    measure: Any  # operators.measure.Measure
    cut: CutConfig
    split: SplitConfig
    models: tuple[Operator, ...]
    dedup: Dedup | None
    rules: tuple[Rule, ...]
    caption: Any | None  # captioning.operator.Caption
    after_captions: tuple[Operator, ...]
    tokenizers: tuple[Any, ...]  # tokenization.operator.Tokenize
    pack: Pack

    @property
    def meters(self) -> tuple[Meter, ...]:
        return self.measure.meters

    @property
    def operators(self) -> tuple[Operator, ...]:
        """All operators in the order in which rows meet them."""
        captions = () if self.caption is None else (self.caption,)
        return (self.probe, self.measure, *self.models, *captions, *self.after_captions, *self.tokenizers)

    @cached_property
    def models_by_name(self) -> dict[str, Operator]:
        """Each model by the name of its table: the operator's, numbered from its second use on."""
        return _by_name(self.models)

    @cached_property
    def after_captions_by_name(self) -> dict[str, Operator]:
        """The same of the operators that read captions."""
        return _by_name(self.after_captions)

    @cached_property
    def model_fps(self) -> dict[str, str]:
        """Name -> fingerprint: of the model and of the models before it whose columns it reads."""
        found: dict[str, str] = {}
        writer: dict[str, str] = {}
        for name, operator in self.models_by_name.items():
            behind = sorted({writer[column.name] for column in operator.reads if column.name in writer})
            found[name] = fingerprint("model", [identity(operator), [found[other] for other in behind]])
            writer |= {column.name: name for column in operator.writes}
        return found

    @property
    def caption_is_cheap(self) -> bool:
        """The caption engine decodes nothing and loads nothing: a small round needs no pool of workers."""
        return self.caption is not None and self.caption.is_cheap

    @cached_property
    def series_columns(self) -> tuple[Column, ...]:
        return _distinct(*tables.SERIES, *self.measure.writes)

    @cached_property
    def score_columns(self) -> tuple[Column, ...]:
        """Columns of the measured scores, keys included."""
        return _distinct(tables.CLIP_ID, tables.SOURCE_ID, *aggregate.score_columns(self.meters))

    def model_columns(self, name: str) -> tuple[Column, ...]:
        """Columns of a model's table, keys included."""
        return _distinct(tables.CLIP_ID, tables.SOURCE_ID, *self.models_by_name[name].writes, *tables.STATE)

    @cached_property
    def fps(self) -> dict[str, str]:
        """Stage -> fingerprint (16 hex digits; `tokens`: spec ids, comma-separated)."""
        found: dict[str, str] = {}

        def add(stage: str, *config: Any) -> None:
            found[stage] = fingerprint(stage, [identity(part) for part in config])

        add("sources", self.probe)
        add("series", found["sources"], self.measure)
        add("clips", found["series"], self.cut, self.split, cutting.VERSION)
        add("scores", found["clips"], aggregate.VERSION, [(meter.name, meter.scores_version) for meter in self.meters])
        add("models", self.model_fps)
        found |= {f"models/{name}": fp for name, fp in self.model_fps.items()}
        if self.dedup is None:
            found["dedup"] = ""
        else:
            add("dedup", dedup.VERSION, self.dedup.model_dump(), found["scores"], found["models"])
        if self.caption is None:
            found["captions"] = found["caption_checks"] = ""
        else:  # the texts are made of scores: a changed meter makes them stale
            budget = self.caption.budget  # a trigger may be a model's column, and details are where `text` read
            looked_up = [found["models"]] if budget.triggers or budget.details else []
            add("captions", self.caption.captioner_id, found["scores"], *looked_up)
            add("caption_checks", checks.VERSION, found["captions"], found["scores"], found["models"])
        after = {n: [identity(o), found["captions"], found["models"]] for n, o in self.after_captions_by_name.items()}
        found |= {f"after_captions/{name}": fingerprint("after_captions", parts) for name, parts in after.items()}
        of_captions = [fp for stage, fp in found.items() if stage.startswith(("caption", "after_captions"))]
        gates = {rule.gate for rule in self.rules}
        add("header_rules", SELECT_VERSION, *(_of_rule(rule) for rule in self.rules if rule.gate == "header"))
        add(
            "selection",
            SELECT_VERSION,
            [_of_rule(rule) for rule in self.rules],
            found["scores"],
            self.split,
            found["models"] if "models" in gates else None,
            found["dedup"],  # the split follows it, rules or none
            of_captions if "captions" in gates else None,
        )
        found["tokens"] = ",".join(operator.spec.spec_id for operator in self.tokenizers)
        return found

    def preflight(self, actors: float, cpus: float) -> None:
        """Raises PlanError when the actors' CPUs leave Ray fewer than SPARE_CPUS (see `preflight`)."""
        preflight(actors, cpus)


def build_plan(recipe: Recipe) -> Plan:
    """The operators of a recipe. Raises RecipeError where a key or name is unknown; `check` does the rest."""
    from operators.probe import Probe

    return Plan(
        recipe=recipe,
        probe=Probe(segment_s=recipe.measure.segment_s),
        measure=build_measure(recipe, tuple(sorted(build_meters(recipe), key=lambda meter: meter.name))),
        cut=recipe.clips,
        split=recipe.split,
        models=build_models(recipe),
        dedup=recipe.dedup,
        rules=recipe.rules,
        caption=build_caption(recipe),
        after_captions=build_after_captions(recipe),
        tokenizers=build_tokenizers(recipe),
        pack=recipe.pack,
    )


def check(plan: Plan) -> None:
    """Raises PlanError if an operator or rule wants a column that nothing before it writes, or of another type."""
    from pipelines.plan_check import check_plan

    check_plan(plan)


def all_columns(plan: Plan) -> list[tuple[str, Column]]:
    """(table, column) of every table that the plan writes, in order."""
    shown: dict[str, tuple[Column, ...]] = {
        "sources": tables.SOURCES,
        "series": plan.series_columns,
        "clips": tables.CLIPS,
        "scores/measure": plan.score_columns,
        **{f"scores/{name}": plan.model_columns(name) for name in plan.models_by_name},
        "duplicates": dedup.DUPLICATES if plan.dedup is not None else (),
        "selection": tables.SELECTION,
    }
    if plan.caption is not None:
        shown["captions"] = tables.CAPTIONS
        shown["caption-checks"], shown["caption-twins"] = checks.CAPTION_CHECKS, checks.CAPTION_TWINS
    for name, operator in plan.after_captions_by_name.items():
        shown[after_captions_rel(name, operator)] = after_captions_columns(operator)
    for operator in plan.tokenizers:
        shown[f"shards/{operator.spec.spec_id}"] = shard_columns(operator.spec)
    return [(table, column) for table, columns in shown.items() for column in columns]


def is_by_rendering(operator: Operator) -> bool:
    """Whether it works on renderings (reelmill.captions) and not on clips."""
    return tables.RENDERING in operator.reads


def after_captions_rel(name: str, operator: Operator) -> str:
    """Where its table lies, but for the fingerprint."""
    return f"{'text' if is_by_rendering(operator) else 'scores'}/{name}"


def after_captions_columns(operator: Operator) -> tuple[Column, ...]:
    """Columns of its table, keys included."""
    keys = (tables.CLIP_ID, tables.SOURCE_ID, *(tables.RENDERINGS if is_by_rendering(operator) else ()))
    return _distinct(*keys, *operator.writes, *tables.STATE)


def _by_name(operators: Sequence[Operator]) -> dict[str, Operator]:
    found: dict[str, Operator] = {}
    for operator in operators:
        count = sum(other.name == operator.name for other in found.values())
        found[f"{operator.name}-{count + 1}" if count else operator.name] = operator
    return found


def identity(value: Any) -> Any:
    """JSON-able identity of a configuration: everything without its `neutral` fields, 2.0 the same as 2."""
    if isinstance(value, Operator | Meter):
        return {name: identity(part) for name, part in config_of(value).items()}
    if is_dataclass(value) and not isinstance(value, type):
        neutral = getattr(value, "neutral", frozenset())
        return {f.name: identity(getattr(value, f.name)) for f in fields(value) if f.name not in neutral}
    if isinstance(value, Mapping):
        return {str(key): identity(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [identity(part) for part in value]
    if isinstance(value, Enum):
        return identity(value.value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{value!r} cannot be part of a fingerprint")


def pool_size(
    operator: Operator,
    num_cpus: float,
    num_gpus: float,
    seconds_per_row: float,
    num_rows: int,
    min_work_s: float = MIN_WORK_S,
    gpu_total_gb: float | None = None,
) -> int:
    """Workers of a round.

    Rounds run one after the other, so each may fill the machine: as many workers as fit into the CPUs (and GPUs) that
    the operator holds, but no more than have `min_work_s` seconds of work each, and never more than rows:

        workers = min(floor(cpus / cpus of one), floor(gpus / gpus of one), ceil(rows * seconds / min_work_s), rows)

    Args:
        num_cpus, num_gpus: what the pool may hold together.
        seconds_per_row: estimated seconds of one row on one worker (from the probe's frames and pixels).
        num_rows: rows to do.
        min_work_s: what a worker must have to do to be worth its start; 0 takes all that fit.
        gpu_total_gb: memory of one GPU; null: not known.

    Raises:
        PlanError: the operator wants a GPU and there is none, or more CPUs than there are.
    """
    needs = operator.resources.shared(gpu_total_gb)
    room = float(num_rows)
    for what, have, want in (("CPUs", num_cpus, needs.num_cpus), ("GPUs", num_gpus, needs.num_gpus)):
        if want:
            room = min(room, math.floor(have / want + 1e-9))  # 1 / 0.1 is 10
        if num_rows and room < 1:
            raise PlanError(f"{operator.name} holds {want:g} {what} a worker, there are {have:g}")
    useful = math.ceil(num_rows * seconds_per_row / min_work_s) if min_work_s else num_rows
    return int(min(room, max(1, useful)))


def preflight(actors: float, cpus: float) -> None:
    """Refuses a run that Ray would hang on.

    Args:
        actors: CPUs that all actors hold together.
        cpus: logical CPUs of the cluster.

    Raises:
        PlanError: actors + SPARE_CPUS > cpus.
    """
    if actors + SPARE_CPUS > cpus:
        raise PlanError(
            f"the pools hold {actors:g} CPUs, Ray has {cpus:g} and needs {SPARE_CPUS} for itself: it would hang. "
            f"Use --workers cpu={max(1, int(cpus) - SPARE_CPUS)}, or give Ray {math.ceil(actors) + SPARE_CPUS} CPUs"
        )


def _of_rule(rule: Rule) -> dict[str, Any]:
    return rule.model_dump(exclude={"source"})  # a citation decides nothing


def _distinct(*columns: Column) -> tuple[Column, ...]:
    """The columns without repeats of the same name; `check` reports repeats that differ."""
    return tuple({column.name: column for column in reversed(columns)}.values())[::-1]
