# SPDX-License-Identifier: Apache-2.0
"""Selection: the vectorised function against a slow one, row by row, and the cases that are easy to get wrong."""

import math
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.cut import SplitConfig
from pipelines.recipe_text import build
from pipelines.rules import GATES, Rule
from pipelines.select import (
    SELECTION_SCHEMA,
    decide,
    decide_sources,
    decide_unit,
    merge_summaries,
    selection_table,
    summary,
)
from reelmill.ids import split_of

SCHEMA = {
    "clip_id": pl.String,
    "source_id": pl.String,
    "error_kind": pl.String,
    "speed": pl.Float32,
    "count": pl.Int32,
    "codec": pl.String,
    "is_damaged": pl.Boolean,
    "grey_samples": pl.List(pl.Float32),
}


def clip_rows(*rows: dict[str, Any]) -> pl.DataFrame:
    filled = [{"clip_id": f"{i:032x}", "source_id": f"{i // 2:032x}"} | row for i, row in enumerate(rows)]
    return pl.DataFrame([{name: row.get(name) for name in SCHEMA} for row in filled], schema=SCHEMA)


def reasons_of(selection: pl.DataFrame) -> list[list[str]]:
    return [[reason["rule"] for reason in reasons] for reasons in selection.get_column("reasons").to_list()]


def rule(**options: Any) -> Rule:
    return build(Rule, {"name": options.get("column", "r") + "_rule"} | options, "rule")


# --- a slow reference --------------------------------------------------------------------------------------------


def slow_outside(value: float, judge: Rule, single: bool) -> bool:
    low, high = (None if v is None else float(np.float32(v)) if single else v for v in (judge.min, judge.max))
    return (low is not None and value < low) or (high is not None and value > high)


def slow_judge(value: Any, judge: Rule, single: bool) -> str | None:
    """`bad`, `null` or None (the value meets the rule)."""
    if judge.max_bad_share is not None:
        samples = [v for v in value or [] if v is not None and not math.isnan(v)]
        if not samples:
            return "null"
        num_bad = sum(slow_outside(v, judge, True) for v in samples)
        return "bad" if num_bad / len(samples) > judge.max_bad_share else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "null"
    if judge.in_ is not None:
        return None if value in judge.in_ else "bad"
    return "bad" if slow_outside(value, judge, single) else None


def slow_decide(rows: pl.DataFrame, rules: list[Rule], gate: str) -> list[tuple[str, str, str, list[str]]]:
    found = []
    for row in sorted(rows.to_dicts(), key=lambda row: row["clip_id"]):
        tier, reasons, decided = "train", [], gate
        if row["error_kind"] is not None:
            found.append((row["clip_id"], "reject", "header", [f"failed:{row['error_kind']}"]))
            continue
        for name in GATES[1 : GATES.index(gate) + 1]:
            for judge in [r for r in rules if r.gate == name]:
                verdict = slow_judge(row[judge.column], judge, rows.schema[judge.column] == pl.Float32)
                if verdict == "bad" or (verdict == "null" and judge.on_null == "reject"):
                    reasons.append(judge.name if verdict == "bad" else f"unmeasured:{judge.column}")
                    tier = "reject" if "reject" in (tier, judge.tier) else "condition_only"
            if tier == "reject":
                decided = name
                break
        found.append((row["clip_id"], tier, decided, reasons))
    return found


numbers = st.none() | st.floats(width=32) | st.sampled_from([0.1, 0.12, 3.0]).map(lambda v: float(np.float32(v)))
thresholds = st.sampled_from([-1.0, 0.0, 0.1, 0.12, 2.5, 3.0, 1e6])
row_strategy = st.fixed_dictionaries(
    {
        "speed": numbers,
        "count": st.none() | st.integers(-3, 5),
        "codec": st.sampled_from([None, "h264", "hevc", "av1"]),
        "is_damaged": st.sampled_from([None, True, False]),
        "grey_samples": st.none() | st.lists(numbers, max_size=5),
        "error_kind": st.sampled_from([None, None, None, "bad_input", "internal"]),
    }
)


@st.composite
def rule_strategy(draw: st.DrawFn) -> dict[str, Any]:
    options: dict[str, Any] = {
        "on_null": draw(st.sampled_from(["reject", "keep"])),
        "gate": draw(st.sampled_from(GATES[1:])),
        "tier": draw(st.sampled_from(["reject", "condition_only"])),
        "column": draw(st.sampled_from(["speed", "count", "codec", "is_damaged", "grey_samples"])),
    }
    if options["column"] == "codec":
        return options | {"in": draw(st.lists(st.sampled_from(["h264", "hevc"]), min_size=1))}
    if options["column"] == "is_damaged":
        return options | {"in": [draw(st.booleans())]}
    if options["column"] == "count" and draw(st.booleans()):
        return options | {"in": draw(st.lists(st.integers(-3, 5), min_size=1))}
    bounds = sorted([draw(thresholds), draw(thresholds)])
    shape = draw(st.sampled_from([("min",), ("max",), ("min", "max")]))
    options |= {name: bounds[name == "max"] for name in shape}
    if options["column"] == "grey_samples":
        options["max_bad_share"] = draw(st.sampled_from([0.0, 0.2, 0.25, 0.5, 1.0]))
    return options


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(row_strategy, max_size=8),
    options=st.lists(rule_strategy(), max_size=6),
    gate=st.sampled_from(GATES),
    order=st.randoms(use_true_random=False),
)
def test_equals_the_slow_reference(
    rows: list[dict[str, Any]], options: list[dict[str, Any]], gate: str, order: Any
) -> None:
    table = clip_rows(*rows)
    rules = [rule(**{"name": f"r{i}"} | option) for i, option in enumerate(options)]
    if gate == "header":
        assert set(decide(table, rules, gate=gate).get_column("tier")) <= {"train"}
        return
    found = decide(table, rules, gate=gate)
    values = found.select("clip_id", "tier", "decided_gate").rows()
    got = [(clip, tier, decided, names) for (clip, tier, decided), names in zip(values, reasons_of(found), strict=True)]
    assert got == slow_decide(table, rules, gate)
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=order.randint(0, 99))
    assert decide(shuffled, rules, gate=gate).equals(found)
    assert selection_table(found).schema.equals(SELECTION_SCHEMA)


# --- single cases ------------------------------------------------------------------------------------------------


def test_a_reason_says_value_and_threshold() -> None:
    table = clip_rows({"speed": 0.5, "codec": "vp9", "is_damaged": True, "grey_samples": [1.0, 5.0, 5.0, 5.0]})
    rules = [
        rule(column="speed", min=1, max=2.5),
        rule(column="codec", **{"in": ["h264", "hevc"]}),
        rule(column="is_damaged", **{"in": [False]}),
        rule(column="grey_samples", min=1.2, max_bad_share=0.05),
    ]
    reasons = decide(table, rules, gate="captions").get_column("reasons").to_list()[0]
    assert [(r["value"], r["value_text"], r["threshold"], r["unmeasured"]) for r in reasons] == [
        (0.5, None, "1 .. 2.5", False),
        (None, "vp9", "in [h264, hevc]", False),
        (None, "true", "in [false]", False),
        (0.25, None, "<= 5 % of samples outside >= 1.2", False),
    ]


def test_five_percent_exactly_is_not_more_than_five_percent() -> None:
    judge = rule(column="grey_samples", min=3, max_bad_share=0.05)
    table = clip_rows({"grey_samples": [0.0] + [9.0] * 19}, {"grey_samples": [0.0] * 2 + [9.0] * 37})
    assert decide(table, [judge], gate="measure").get_column("tier").to_list() == ["train", "reject"]


def test_a_float32_column_compares_at_its_own_precision() -> None:
    judge = rule(column="speed", min=0.12, max=0.12)
    assert decide(clip_rows({"speed": 0.12}), [judge], gate="measure").get_column("tier").to_list() == ["train"]


def test_not_a_number_is_unmeasured() -> None:
    table = clip_rows({"speed": math.nan}, {"speed": math.inf}, {"grey_samples": [math.nan]})
    grey = rule(column="grey_samples", min=0, max_bad_share=0, on_null="keep")
    rules = [rule(column="speed", min=0, on_null="reject"), grey]
    assert reasons_of(decide(table, rules, gate="measure")) == [["unmeasured:speed"], [], ["unmeasured:speed"]]


def test_a_rejected_clip_is_not_looked_at_by_dearer_gates() -> None:
    table = clip_rows({"speed": 0.0}, {"speed": 9.0})  # `count` is what a model would have written
    rules = [rule(column="speed", min=1), rule(column="count", min=1, gate="models")]
    found = decide(table, rules, gate="models")
    assert reasons_of(found) == [["speed_rule"], ["unmeasured:count"]]
    assert found.get_column("decided_gate").to_list() == ["measure", "models"]
    same = decide(table.with_columns(count=pl.Series([-5, None], dtype=pl.Int32)), rules, gate="models")
    assert same.equals(found), "scores of an earlier, looser recipe must not show"


def test_condition_only_goes_on_and_reject_wins() -> None:
    table = clip_rows({"speed": 0.0, "count": 5}, {"speed": 0.0, "count": 0})
    rules = [rule(column="speed", min=1, tier="condition_only"), rule(column="count", min=1, gate="models")]
    found = decide(table, rules, gate="models")
    assert found.get_column("tier").to_list() == ["condition_only", "reject"]
    assert reasons_of(found) == [["speed_rule"], ["speed_rule", "count_rule"]]


def test_failed_is_counted_apart_and_models_fail_only_for_rules_that_look_at_them() -> None:
    table = clip_rows({"error_kind": "transient"}, {"speed": 0.0}, {"speed": 9.0}, {"speed": 9.0, "count": 1})
    table = table.with_columns(models_error_kind=pl.Series([None, None, "resource", None], dtype=pl.String))
    by_speed = [rule(column="speed", min=1)]
    assert reasons_of(decide(table, by_speed, gate="captions")) == [["failed:transient"], ["speed_rule"], [], []]
    rules = [*by_speed, rule(column="count", min=1, gate="models")]
    found = decide(table, rules, gate="captions")
    assert reasons_of(found)[2] == ["failed:resource"]
    counts = {row["outcome"] or row["rule"]: row["num_clips"] for row in summary(found).to_dicts()}
    expected = {"train": 1, "reject": 1, "failed": 2, "speed_rule": 1, "failed:transient": 1, "failed:resource": 1}
    assert counts == expected


def source_rows(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = {
        "source_id": pl.String,
        "error_kind": pl.String,
        "width_px": pl.Int32,
        "height_px": pl.Int32,
        "pixel_aspect": pl.Float64,
        "fps": pl.Float64,
    }
    filled = [{"source_id": f"{i:032x}", "pixel_aspect": 1.0} | row for i, row in enumerate(rows)]
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in filled], schema=schema)


def test_header_rules_see_the_long_side_and_spare_the_decode() -> None:
    sources = source_rows(
        {"width_px": 2160, "height_px": 3840}, {"width_px": 1920, "height_px": 1080}, {"error_kind": "bad_input"}, {}
    )
    judge = rule(name="uhd", column="long_side_px", min=3840, gate="header")
    found = decide_sources(sources, [judge, rule(column="speed", min=1)])
    assert found.get_column("tier").to_list() == ["train", "reject", "reject", "reject"]
    assert reasons_of(found) == [[], ["uhd"], ["failed:bad_input"], ["unmeasured:long_side_px"]]
    assert found.get_column("clip_id").null_count() == 4
    assert found.get_column("reasons").to_list()[1][0]["value"] == 1920


def test_a_unit_lists_rejected_sources_once_and_leaves_their_clips_out() -> None:
    sources = source_rows(
        {"width_px": 3840, "height_px": 2160, "fps": 30.0}, {"width_px": 640, "height_px": 360, "fps": 12.0}
    )
    scores = clip_rows({"speed": 2.0}, {"speed": 0.0}, {"speed": 2.0}).with_columns(fps=pl.lit(15.0))
    rules = [
        rule(name="uhd", column="long_side_px", min=3840, gate="header"),
        rule(name="source_fps", column="fps", min=50, gate="header", tier="condition_only"),
        rule(column="speed", min=1),
    ]
    found = decide_unit(sources, scores, rules, gate="captions")
    assert found.get_column("clip_id").to_list() == [None, f"{0:032x}", f"{1:032x}"]
    assert reasons_of(found) == [["uhd", "source_fps"], ["source_fps"], ["source_fps", "speed_rule"]]
    assert found.get_column("tier").to_list() == ["reject", "condition_only", "reject"]
    assert found.get_column("reasons").to_list()[1][0]["value"] == 30.0, "the file's fps, not the clip's"
    counts = {r["outcome"] or r["rule"]: (r["num_clips"], r["num_sources"]) for r in summary(found).to_dicts()}
    outcomes, rules_hit = {"condition_only": (1, 0), "reject": (1, 1)}, {"source_fps": (2, 1), "speed_rule": (1, 0)}
    assert counts == {**outcomes, **rules_hit, "uhd": (0, 1)}


def test_summaries_of_units_add_up() -> None:
    rules = [rule(column="speed", min=1), rule(column="count", min=1)]
    rows = [{"speed": float(i % 3), "count": i % 2, "error_kind": "internal" if i == 5 else None} for i in range(12)]
    table = clip_rows(*rows)
    whole = summary(decide(table, rules, gate="measure"))
    parts = [summary(decide(part, rules, gate="measure")) for part in (table[:5], table[5:])]
    assert merge_summaries(parts).equals(whole)
    alone = whole.filter(pl.col("rule") == "speed_rule").get_column("num_clips_alone").item()
    assert alone == sum(row["speed"] < 1 and row["count"] >= 1 and row["error_kind"] is None for row in rows)


def test_the_split_is_by_source() -> None:
    table = clip_rows(*[{"speed": 1.0} for _ in range(200)])
    found = decide(table, [], gate="measure", split=SplitConfig(val_fraction=0.3, seed=7))
    assert found.get_column("split").to_list() == [split_of(s, 0.3, 7) for s in found.get_column("source_id")]
    assert found.group_by("source_id").agg(pl.col("split").n_unique()).get_column("split").max() == 1
    assert set(found.get_column("split")) == {"train", "val"}


def test_the_benchmark_counts_what_a_looser_rule_admits() -> None:
    from benchmarks.select_rows import measure

    result = measure(3000)
    assert result["rows"] == 3000
    assert result["kept_before"] > 0
    assert 0 < result["newly_admitted"] == result["kept_after"] - result["kept_before"]


def test_no_rows() -> None:
    found = decide(clip_rows(), [rule(column="speed", min=1)], gate="captions")
    assert selection_table(found).num_rows == 0
    assert summary(found).height == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "sped", "min": 1}, "no column 'sped' at gate measure; did you mean 'speed'?"),
        ({"column": "codec", "min": 1}, "min and max need a number, 'codec' is "),
        ({"column": "grey_samples", "min": 1}, "a rule on a list needs max_bad_share"),
        ({"column": "speed", "min": 1, "max_bad_share": 0.1}, "max_bad_share needs a list of samples"),
        ({"column": "count", "in": ["1"]}, "in holds '1', which is no int32"),
    ],
)
def test_wrong_columns_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        decide(clip_rows({"speed": 1.0}), [rule(**options)], gate="measure")


def test_files_without_an_id_are_counted_one_by_one() -> None:
    row = {"clip_id": None, "source_id": None, "tier": "reject", "split": "val", "decided_gate": "header"}
    reason = {
        "rule": "failed:bad_input",
        "column": "error_kind",
        "gate": "header",
        "value": None,
        "value_text": None,
        "threshold": "computed",
        "unmeasured": True,
    }
    selection = pa.Table.from_pylist([row | {"reasons": [reason]}] * 3, schema=SELECTION_SCHEMA)
    counts = {r["outcome"] or r["rule"]: r["num_sources"] for r in summary(pl.DataFrame(selection)).to_dicts()}
    assert counts == {"failed": 3, "failed:bad_input": 3}


def test_a_rule_with_where_is_about_those_rows_only() -> None:
    rows = clip_rows({"speed": 9.0, "count": 480}, {"speed": 9.0, "count": 720}, {"speed": 9.0}, {"count": 800})
    judge = rule(name="tier", column="speed", max=8, where={"column": "count", "min": 720})
    selection = decide(rows, [judge], gate="measure")
    assert reasons_of(selection) == [[], ["tier"], [], ["unmeasured:speed"]]
    assert judge.threshold == "<= 8 where count >= 720"
    assert selection.get_column("reasons").to_list()[1][0]["threshold"] == judge.threshold


def test_where_sees_header_columns_too() -> None:
    sources = pl.DataFrame({"source_id": ["a", "b"], "width_px": [3840, 1280], "height_px": [2160, 720]}).with_columns(
        pixel_aspect=pl.lit(1.0), bit_rate_bps=pl.Series([4e5, 4e5])
    )
    judge = rule(column="bit_rate_bps", min=5e5, gate="header", where={"column": "short_side_px", "min": 1080})
    assert decide_sources(sources, [judge]).get_column("tier").to_list() == ["reject", "train"]
    clips = pl.DataFrame({"clip_id": ["c", "d"], "source_id": ["a", "b"]})
    assert decide(clips, [judge], gate="header", sources=sources).get_column("tier").to_list() == ["reject", "train"]
