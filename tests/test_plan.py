# SPDX-License-Identifier: Apache-2.0
"""Plans: which edit changes which fingerprint, what `check` catches, and the sizes of pools and blocks."""

import resource
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from captioning.config import Budget
from operators.contract import Operator, Resources
from pipelines.plan import Plan, PlanError, all_columns, build_plan, check, identity, pool_size, preflight
from pipelines.recipe import load_recipe
from pipelines.recipe_text import RecipeError
from reelmill.column import Column
from reelmill.tables import CLIP_ID, STATE

ROOT = Path(__file__).parent.parent


def plan_of(*overrides: str, recipe: str = "quickstart") -> Plan:
    return build_plan(load_recipe(recipe, overrides))


def changed(*overrides: str) -> set[str]:
    before, after = plan_of().fps, plan_of(*overrides).fps
    assert before.keys() == after.keys()
    return {stage for stage in before if before[stage] != after[stage]}


BEHIND_CLIPS = {"clips", "scores", "selection", "captions", "caption_checks"}
BEHIND_SERIES = BEHIND_CLIPS | {"series"}


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("measure.meters.exposure.rate_hz=4.0", BEHIND_SERIES),
        ("measure.segment_s=30.0", BEHIND_SERIES | {"sources"}),
        ("measure.backend=decord", BEHIND_SERIES),
        ("clips.detector.threshold=30.0", BEHIND_CLIPS),
        ("clips.trim_s=0.5", BEHIND_CLIPS),
        ("split.val_fraction=0.5", BEHIND_CLIPS),
        ("rules.exposure.max=0.5", {"selection"}),
        ("rules.exposure.tier=condition_only", {"selection"}),
        ("rules.size.min=320", {"selection", "header_rules"}),
        # what changes no result changes no fingerprint
        ("rules.exposure.source=ours again", set()),
        ("recipe=another", set()),
        ("measure.threads=2", set()),
        ("measure.time_limit_s=10.0", set()),
        ("measure.memory_limit_gb=2.0", set()),
        ("measure.meters.exposure.rate_hz=2.0", set()),
        ("pack.max_mb=10.0", set()),
        ("sources.suffixes=[mp4]", set()),
    ],
)
def test_an_edit_changes_the_fingerprints_it_must_and_no_other(override: str, stages: set[str]) -> None:
    assert changed(override) == stages


def test_the_order_of_meters_does_not_matter() -> None:
    meters = load_recipe("quickstart").model_dump()["measure"]["meters"]
    listed = "[" + ", ".join(f"{{meter: {item['meter']}}}" for item in reversed(meters)) + "]"
    assert changed(f"measure.meters={listed}") == set()


def test_captions_count_for_the_selection_only_if_a_rule_looks_at_them() -> None:
    plan = plan_of()

    @dataclass(frozen=True, kw_only=True)
    class Other:
        captioner_id: str = "another"
        budget: Budget = field(default_factory=Budget)

    other = replace(plan, caption=Other())
    assert {stage for stage in plan.fps if plan.fps[stage] != other.fps[stage]} == {"captions", "caption_checks"}
    looking = plan_of("rules.grey={name: grey, column: status, in: [ok], gate: captions}")
    other = replace(looking, caption=Other())
    behind = {stage for stage in plan.fps if looking.fps[stage] != other.fps[stage]}
    assert behind == {"captions", "caption_checks", "selection"}


def test_a_codebook_changes_only_the_tokens() -> None:
    spec = type("Spec", (), {"spec_id": "another"})()
    plan = plan_of()
    other = replace(plan, tokenizers=(type("Other", (), {"spec": spec})(),))
    assert {stage for stage in plan.fps if plan.fps[stage] != other.fps[stage]} == {"tokens"}


def test_identity_takes_numbers_by_value() -> None:
    assert identity({"a": (2.0, 2.5, True, None)}) == {"a": [2, 2.5, True, None]}
    with pytest.raises(TypeError, match="cannot be part of a fingerprint"):
        identity({"a": object()})


# --- check -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Model(Operator):
    """Reads what it is told to and writes `beauty`; fails rows whose clip id starts with `bad`."""

    name: ClassVar[str] = "beauty"
    reads_column: Column = CLIP_ID
    writes_name: str = "beauty"
    kind: str = "internal"

    @property
    def reads(self) -> tuple[Column, ...]:  # type: ignore[override]
        return (self.reads_column,)

    @property
    def writes(self) -> tuple[Column, ...]:
        return (Column(self.writes_name, pa.float64(), "0-1; null if failed"),)

    def process(self, state: Any, batch: pa.Table) -> pa.Table:
        failed = [clip.startswith("bad") for clip in batch.column("clip_id").to_pylist()]
        batch = batch.append_column(self.writes_name, pa.array([None if bad else 1.0 for bad in failed], pa.float64()))
        for column, text in zip(STATE, (self.kind, self.writes_name), strict=True):
            batch = batch.append_column(column.name, pa.array([text if bad else None for bad in failed], pa.string()))
        return batch


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "rules.grey.column=grey_varianc_samples",
            r"rules\[5\] \(grey\): there is no column 'grey_varianc_samples' "
            r"at gate 'measure'; did you mean 'grey_variance_samples'\?",
        ),
        ("rules.grey.column=grey_variance_median", r"rules\[5\] \(grey\): max_bad_share needs a list of samples"),
        (
            "rules.freeze.column=grey_variance_samples",
            r"rules\[7\] \(freeze\): .* a rule on a list needs max_bad_share",
        ),
        ("rules.freeze.column=codec", r"min and max need a number, 'codec' is string"),
        ("rules.damage.in=[1]", r"in holds 1, which is no bool as column 'is_damaged' is"),
        ("rules.length.in=[1]", r"in holds 1, which is no string"),
        (
            "rules.size={name: size, column: display_aspect, max: 3}",
            r"no column 'display_aspect' at gate 'measure'; it exists at gate 'header'",
        ),
        (
            "rules.freeze.where={column: short_sid_px, max: 9}",
            r"where: there is no column 'short_sid_px'.*'short_side_px'",
        ),
        ("rules.freeze.where={column: codec, max: 9}", r"where needs a number, 'codec' is string"),
        ("rules.freeze.where={column: width_px}", r"where on 'width_px' needs min and/or max"),
        ("rules.damage.column=status", r"no column 'status' at gate 'measure'; it exists at gate 'captions'"),
        ("measure.meters=[{meter: grey}]", r"shots are cut from content_hue, .*: add \{meter: content\}"),
    ],
)
def test_check_names_the_rule_and_the_nearest_column(override: str, message: str) -> None:
    with pytest.raises((PlanError, RecipeError), match=message):
        check(plan_of(override))


def test_check_compares_reads_with_writes() -> None:
    plan = plan_of("rules.text=null")
    check(replace(plan, models=(Model(), Model(writes_name="charm", reads_column=Model().writes[0]))))
    cases = [
        (Model(reads_column=Column("widht_px", pa.int32(), "x")), r"beauty reads 'widht_px'.*did you mean 'width_px'"),
        (Model(reads_column=Column("width_px", pa.string(), "x")), "reads 'width_px' as string, in .* it is int32"),
        (Model(writes_name="grey_variance_median"), "column 'grey_variance_median' of scores is written twice"),
    ]
    for model, message in cases:
        with pytest.raises(PlanError, match=message):
            check(replace(plan, models=(model,)))


def test_a_rule_may_look_at_a_model_from_its_gate_on() -> None:
    rule = "rules.grey={name: grey, column: beauty, min: 0.5, gate: %s}"
    check(replace(plan_of("rules.text=null", rule % "models"), models=(Model(),)))
    with pytest.raises(PlanError, match="'beauty' at gate 'measure'; it exists at gate 'models'"):
        check(replace(plan_of("rules.text=null", rule % "measure"), models=(Model(),)))


def test_all_columns_are_listed_once_with_their_doc() -> None:
    listed = [(table, column.name) for table, column in all_columns(replace(plan_of(), models=(Model(),)))]
    assert len(listed) == len(set(listed))
    tables = list(dict.fromkeys(table for table, _ in listed))
    assert tables[:7] == ["sources", "series", "clips", "scores/measure", "scores/beauty", "selection", "captions"]
    assert tables[7:9] == ["caption-checks", "caption-twins"]
    assert tables[9].startswith("shards/")
    assert {("series", "exposure_pts"), ("series", "frame_pts"), ("scores/measure", "freeze_share")} <= set(listed)
    assert ("scores/beauty", "beauty") in listed


def test_pools_fill_the_machine_but_not_beyond_the_work() -> None:
    @dataclass(frozen=True, kw_only=True)
    class OnGpu(Model):
        resources: ClassVar[Resources] = Resources(num_cpus=2, num_gpus=0.5)

    assert pool_size(Model(), 14, 0, 8.0, 1000) == 14
    assert pool_size(Model(), 14, 0, 0.3, 10) == 1, "3 s of work are not worth two workers"
    assert pool_size(Model(), 14, 0, 100.0, 3) == 3, "no more workers than rows"
    assert pool_size(OnGpu(), 14, 1, 2.0, 1000) == 2
    assert pool_size(OnGpu(), 14, 4, 2.0, 1000) == 7, "CPUs bound it: 2 a worker"
    with pytest.raises(PlanError, match=r"beauty holds 0\.5 GPUs a worker, there are 0"):
        pool_size(OnGpu(), 14, 0, 2.0, 1000)


def test_a_share_of_a_gpu_follows_from_its_memory() -> None:
    needs = Resources().on("cuda", 6.0)
    assert Resources().on("cpu", 6.0).num_gpus == 0
    assert [needs.shared(total).num_gpus for total in (None, 80.0, 24.0, 5.0)] == [1.0, 0.08, 0.25, 1.0]

    class Shared(Model):
        resources = needs

    assert pool_size(Shared(), 64, 2, 2.0, 1000, gpu_total_gb=60.0) == 20


def test_preflight_refuses_what_ray_would_hang_on() -> None:
    preflight(6, 8)
    with pytest.raises(PlanError, match=r"hold 7 CPUs, Ray has 8 and needs 2 .* --workers cpu=6, or give Ray 9 CPUs"):
        preflight(7, 8)


def test_check_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipelines.plan import build_plan, check; from pipelines.recipe import load_recipe\n"
        "check(build_plan(load_recipe('ultravideo')))\n"
        "heavy = {'torch', 'cv2', 'av', 'ray', 'transformers', 'open_clip', 'decord', 'scenedetect', 'polars'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 3.0  # CPU seconds, usually 0.8: wall time would count the neighbours
