# SPDX-License-Identifier: Apache-2.0
"""Checks of captions: on labelled captions, by hand where a labelled file cannot say it, and in a whole run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from benchmarks.caption_checks import FILES, Count, measure
from captioning.checks import table, twins
from captioning.checks.contradictions import CONTRADICTIONS
from pipelines.caption_checks import find_twins
from pipelines.manifest import load_manifest
from pipelines.reselect import reselect
from reelmill.tables import CAPTION_TEXTS
from reelmill.views import View
from tests.test_caption_measured import any_facts, caption, texts_of
from tests.test_mill import mill, moving_texture, rows
from tests.videos import write_video

MADE_TO_PASS = ("first", "second")


@pytest.fixture(scope="module")
def counts() -> dict[str, dict[str, Count]]:
    return {name: measure(path) for name, path in FILES.items()}


@pytest.mark.parametrize("name", MADE_TO_PASS)
def test_precision_and_recall_of_every_check(counts: dict[str, dict[str, Count]], name: str) -> None:
    least = {"first": 25, "second": 15}[name]
    for check, count in counts[name].items():
        print(f"{name:7} {check:13} precision {count.precision:.2f} recall {count.recall:.2f}")
        assert min(count.hits + count.misses, count.false_alarms + count.passed) >= least, check
        assert count.precision >= 0.95, check
        assert count.recall >= 0.80, check


def test_the_files_are_about_the_same_checks_and_share_no_caption(counts: dict[str, dict[str, Count]]) -> None:
    wanted = {kind.name for kind in CONTRADICTIONS} | {
        *("completeness", "length", "repetition", "boilerplate", "language", "novelty", "twins")
    }
    assert {name: set(found) for name, found in counts.items()} == dict.fromkeys(FILES, wanted)


FULL = {name: f"The {name} of a heron by a lake." for name in CAPTION_TEXTS}


def test_what_was_not_measured_is_not_judged() -> None:
    found = table.check_caption({**FULL, "Camera Movement": "Slow pan."}, {"camera_class": "unknown"})
    assert {found[f"contradicts_{kind.name}"] for kind in CONTRADICTIONS} == {None}
    assert found.get("caption_num_contradictions") is None
    assert table.check_caption({**FULL, "status": "failed"}, {}) == {}
    assert table.check_caption(dict.fromkeys(CAPTION_TEXTS), {}) == {}


def test_a_contradiction_says_what_stands_against_what() -> None:
    row = {**FULL, "Camera Movement": "The camera pans left.", "camera_movements": ["pan_left"]}
    found = table.check_caption(row, {"camera_class": "static"})
    assert found["contradicts_camera"] is True
    assert found["caption_num_contradictions"] == 1
    assert found["caption_contradictions"] == [
        {"topic": "camera", "measured": "static", "field": "Camera Movement", "said": "pans left"},
        {"topic": "camera", "measured": "static", "field": "labels", "said": "moving"},
    ]
    assert table.check_caption(row, {"camera_class": "pan_left"})["contradicts_camera"] is False


def test_levels_of_hdr_say_nothing_of_brightness() -> None:
    row = {**FULL, "Lighting": "A very dark scene."}
    bright = {"exposure_luma_mean": 0.8, "hdr": "sdr"}
    assert table.check_caption(row, bright)["contradicts_brightness"] is True
    assert table.check_caption(row, {**bright, "hdr": "pq"})["contradicts_brightness"] is None


def test_a_long_text_that_loops_at_its_end_is_found() -> None:
    words = " ".join(f"word{number}" for number in range(600))
    assert table.check_caption({"Detailed Description": words}, {})["caption_is_repetitive"] is False
    loop = f"{words} {'and then it goes on ' * 12}"
    assert table.check_caption({"Detailed Description": loop}, {})["caption_is_repetitive"] is True


@settings(max_examples=60, deadline=None)
@given(any_facts)
def test_sentences_made_of_measurements_pass(facts: dict[str, Any]) -> None:
    texts = texts_of(caption(facts))
    found = table.check_caption({**texts, "caption_grounding": "measured"}, facts)
    assert not found.get("caption_contradictions")
    flags = ("caption_is_repetitive", "caption_is_foreign", "summary_adds_facts", "caption_has_boilerplate")
    assert not any(found.get(flag) for flag in flags)


def sketches(*texts: str) -> Iterator[bytes | None]:
    return map(twins.sketch, texts)


def test_twins_are_of_other_sources_and_found_among_thousands() -> None:
    words = np.random.default_rng(0).integers(0, 5000, (300, 60))
    plain = [" ".join(f"w{word}" for word in caption) for caption in words]
    texts = [*plain, plain[7] + " once", plain[8]]
    ids = [f"clip{i:04d}" for i in range(len(texts))]
    sources = [*ids[:-1], ids[8]]  # the last clip is of the same source as the one it repeats
    found = find_twins(pa.table({"clip_id": ids, "source_id": sources, "caption_sketch": list(sketches(*texts))}))
    rote = [row for row in found.to_pylist() if row["caption_is_rote"]]
    assert {row["clip_id"]: row["caption_twin"] for row in rote} == {ids[7]: ids[-2], ids[-2]: ids[7]}
    assert all(row["caption_twin_similarity"] > 0.9 for row in rote)


def test_a_caption_that_thousands_have_costs_a_few_comparisons_each(monkeypatch: pytest.MonkeyPatch) -> None:
    num = 0
    whole = twins.resemblance

    def counted(first: bytes, second: bytes) -> float:
        nonlocal num
        num += 1
        return whole(first, second)

    monkeypatch.setattr(twins, "resemblance", counted)
    same = list(sketches("A person walks through a street in a large city during the day.")) * 300
    found = twins.twins(same, [str(i) for i in range(300)])
    assert {twin.similarity for twin in found if twin} == {1.0}
    assert None not in found
    assert num <= 300 * twins.NEIGHBOURS


RULE = "rules.freeze={name: whole, column: caption_num_missing, max: 2, gate: captions, tier: condition_only}"


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footage")
    write_video(folder / "plain.mp4", moving_texture(3, 24), fps=24)
    return mill(tmp_path_factory.mktemp("out") / "set", folder, RULE, "tokens.0.heights=[128]", "tokens.0.max_frames=5")


def test_a_rule_decides_by_a_flag(checked) -> None:
    checks = {row["clip_id"]: row for row in rows(checked, checked.caption_checks.rel)}
    captions = {row["clip_id"]: row for row in rows(checked, checked.captions.rel)}
    assert checks.keys() == captions.keys()
    for clip_id, check in checks.items():
        assert check["caption_num_missing"] == sum(captions[clip_id][name] is None for name in CAPTION_TEXTS)
        assert check["contradicts_orientation"] is check["summary_adds_facts"] is False
        assert check["contradicts_text"] is None  # the recipe reads no text
    reasons = {row["clip_id"]: row["reasons"] for row in rows(checked, checked.selection.rel)}
    marked = {clip: [r["value"] for r in found if r["rule"] == "whole"] for clip, found in reasons.items()}
    wanted = {clip: [num] if (num := row["caption_num_missing"]) > 2 else [] for clip, row in checks.items()}
    assert {clip: marked[clip] for clip in checks} == wanted
    assert any(wanted.values())


def test_readers_can_ask_for_a_check(checked) -> None:
    view = View.load(checked.store.root)
    found = view.attributes(view.units("selection")[0], ["caption_num_missing", "caption_is_rote"])
    assert found.num_rows == 1
    assert set(found["caption_is_rote"].to_pylist()) == {None}  # sentences made of numbers are alike on purpose


def test_changed_checks_cost_no_caption(checked, monkeypatch) -> None:
    out = Path(checked.store.root)
    files = {path: path.stat().st_mtime_ns for path in (out / checked.captions.rel).rglob("*.parquet")}
    monkeypatch.setattr(table, "VERSION", table.VERSION + 1)
    reselect(str(out), None, ["rules.whole.max=9"])
    manifest = load_manifest(checked.store)
    assert manifest is not None
    assert manifest["tables"]["captions"] == checked.captions.rel
    assert not set(manifest["tables"]["caption_checks"]) & {checked.caption_checks.rel, checked.caption_twins.rel}
    assert all(list((out / rel).glob("unit-*.parquet")) for rel in manifest["tables"]["caption_checks"])
    assert {path: path.stat().st_mtime_ns for path in files} == files
