# SPDX-License-Identifier: Apache-2.0
"""From a recipe to operator objects, fingerprints and checks, before a row moves. Nothing heavy is imported here.

    sources -> series -> clips -> scores -> [models] -> [captions] -> selection -> tokens

A fingerprint covers what can change a stage's rows and nothing else: a changed meter changes `series` and all behind
it, a changed rule `selection` alone, a changed caption setting `captions` (and `selection` if a rule looks at
captions). Fields that an operator lists in `neutral` (threads, time limits) change none.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from operators import aggregate, cut
from operators.contract import Meter, Operator, config_of
from pipelines.chain import Chain
from pipelines.plan_check import PlanError
from pipelines.recipe import Pack, Recipe, build_caption, build_measure, build_meters, build_models, build_tokenizers
from pipelines.rules import SELECT_VERSION, Rule
from reelmill import tables
from reelmill.column import Column
from reelmill.ids import fingerprint

SPARE_CPUS = 2  # Ray Data's own tasks need free slots, or a job whose actors hold every CPU hangs
BLOCK_TARGET_S = 45.0
MIN_WORK_S = 20.0  # a worker pays for its start (imports, weights) from about this much work on


@dataclass(frozen=True)
class Plan:
    """Everything a run does, as objects. `fps` names the tables."""

    recipe: Recipe
    probe: Operator
    measure: Any  # operators.measure.Measure
    cut: cut.CutConfig
    split: cut.SplitConfig
    models: tuple[Operator, ...]
    rules: tuple[Rule, ...]
    caption: Any | None  # captioning.operator.Caption
    tokenizers: tuple[Any, ...]  # tokenization.operator.Tokenize
    pack: Pack

    @property
    def meters(self) -> tuple[Meter, ...]:
        return self.measure.meters

    @property
    def operators(self) -> tuple[Operator, ...]:
        """All operators in the order in which rows meet them."""
        captions = () if self.caption is None else (self.caption,)
        return (self.probe, self.measure, *self.models, *captions, *self.tokenizers)

    @property
    def model_chain(self) -> Chain:
        """The models as one operator. Raises ValueError if the recipe has none."""
        if not self.models:
            raise ValueError("the recipe lists no models")
        return Chain(operators=self.models)

    @property
    def caption_is_cheap(self) -> bool:
        """The caption engine needs no model: the round is not worth a pool of workers."""
        return self.caption is not None and self.caption.engine == "measured"

    @cached_property
    def series_columns(self) -> tuple[Column, ...]:
        return _distinct(*tables.SERIES, *self.measure.writes)

    @cached_property
    def score_columns(self) -> tuple[Column, ...]:
        """Columns of the measured scores, keys included."""
        return _distinct(tables.CLIP_ID, tables.SOURCE_ID, *aggregate.score_columns(self.meters))

    @cached_property
    def model_columns(self) -> tuple[Column, ...]:
        written = self.model_chain.writes if self.models else ()
        return _distinct(tables.CLIP_ID, tables.SOURCE_ID, *written, *tables.STATE)

    @cached_property
    def fps(self) -> dict[str, str]:
        """Stage -> fingerprint (16 hex digits; `captions`: the captioner's id; `tokens`: spec ids, comma-separated)."""
        found: dict[str, str] = {}

        def add(stage: str, *config: Any) -> None:
            found[stage] = fingerprint(stage, [identity(part) for part in config])

        add("sources", self.probe)
        add("series", found["sources"], self.measure)
        add("clips", found["series"], self.cut, self.split, cut.VERSION)
        add("scores", found["clips"], aggregate.VERSION)
        add("models", *self.models)
        found["captions"] = "" if self.caption is None else self.caption.captioner_id
        gates = {rule.gate for rule in self.rules}
        add("header_rules", SELECT_VERSION, *(_of_rule(rule) for rule in self.rules if rule.gate == "header"))
        add(
            "selection", SELECT_VERSION, [_of_rule(rule) for rule in self.rules], found["scores"], self.split,
            found["models"] if "models" in gates else None, found["captions"] if "captions" in gates else None,
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
        rules=recipe.rules,
        caption=build_caption(recipe),
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
        "scores/models": plan.model_columns if plan.models else (),
        "selection": tables.SELECTION,
        "captions": tables.CAPTIONS if plan.caption is not None else (),
    }
    for operator in plan.tokenizers:
        shown[f"shards/{operator.spec.spec_id}"] = _distinct(*tables.SHARD_KEYS, *operator.writes)
    return [(table, column) for table, columns in shown.items() for column in columns]


def identity(value: Any) -> Any:
    """JSON-able identity of a configuration: operators and meters without their neutral fields, 2.0 the same as 2."""
    if isinstance(value, Operator | Meter):
        return {name: identity(part) for name, part in config_of(value).items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: identity(getattr(value, field.name)) for field in fields(value)}
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


def size_pools(
    plan: Plan, num_cpus: float, num_gpus: float, seconds_per_row: Mapping[str, float], num_rows: Mapping[str, int]
) -> dict[str, int]:
    """Workers per stage.

    Rounds run one after the other, so each may fill the machine: as many workers as fit into the CPUs (and GPUs) that
    the operator holds, but no more than have MIN_WORK_S seconds of work each, and never more than rows:

        workers = min(floor(cpus / cpus of one), floor(gpus / gpus of one), ceil(rows * seconds / MIN_WORK_S), rows)

    Args:
        num_cpus, num_gpus: what the pools may hold together (on a machine: its CPUs minus SPARE_CPUS, at least 1).
        seconds_per_row: stage (probe, measure, models, caption, tokenize) -> seconds of one row on one worker.
        num_rows: stage -> rows to do; stages that are missing get a pool of 0.

    Raises:
        PlanError: an operator wants a GPU and there is none, or more CPUs than there are.
    """
    stages = {"probe": plan.probe, "measure": plan.measure}
    stages |= {"models": plan.model_chain} if plan.models else {}
    stages |= {"caption": plan.caption} if plan.caption is not None else {}
    stages |= {"tokenize": plan.tokenizers[0]} if plan.tokenizers else {}
    pools = {}
    for stage, operator in stages.items():
        rows = num_rows.get(stage, 0)
        useful = min(rows, math.ceil(rows * seconds_per_row.get(stage, 1.0) / MIN_WORK_S))
        pools[stage] = min(_fitting(stage, operator, num_cpus, num_gpus), useful)
    return pools


def _fitting(stage: str, operator: Operator, num_cpus: float, num_gpus: float) -> int:
    needs = operator.resources
    room = math.inf
    for what, have, want in (("CPUs", num_cpus, needs.num_cpus), ("GPUs", num_gpus, needs.num_gpus)):
        if want:
            room = min(room, math.floor(have / want))
        if room < 1:
            raise PlanError(f"{stage}: {operator.name} holds {want:g} {what} a worker, there are {have:g}")
    return int(room) if math.isfinite(room) else 1


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


def block_rows(seconds_per_row: float, target_s: float = BLOCK_TARGET_S) -> int:
    """Rows of a block that keep a worker busy for about `target_s` seconds; at least 1."""
    if seconds_per_row <= 0:
        raise ValueError(f"seconds per row is {seconds_per_row}, it must be above 0")
    return max(1, round(target_s / seconds_per_row))


def decode_seconds(pixels: int, num_frames: int, px_per_s: float) -> float:
    """Seconds to decode and measure `num_frames` frames of `pixels` pixels at a measured rate."""
    return pixels * num_frames / px_per_s


def _of_rule(rule: Rule) -> dict[str, Any]:
    return rule.model_dump(exclude={"source"})  # a citation decides nothing


def _distinct(*columns: Column) -> tuple[Column, ...]:
    """The columns without repeats of the same name; `check` reports repeats that differ."""
    return tuple({column.name: column for column in reversed(columns)}.values())[::-1]
