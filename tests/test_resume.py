# SPDX-License-Identifier: Apache-2.0
"""Cut off at the worst places, with input that changes meanwhile: nothing lost, nothing twice, nothing stale."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipelines.manifest
import pipelines.mill
from operators.contract import RowError
from operators.decode_child import DecodeChild
from operators.probe import source_id_of
from pipelines.ledger import Ledger
from pipelines.mill import Mill, Options
from pipelines.plan import build_plan, check
from pipelines.progress import RunProgress
from pipelines.recipe import load_recipe
from pipelines.reselect import reselect
from pipelines.rounds import Budget, StageWorker
from reelmill.inspection import verify_view
from reelmill.shards import ShardDataset
from reelmill.storage import Store
from reelmill.views import View
from tests.videos import CLOSED_GOP, write_video

RECIPE = """recipe: mini
measure: {meters: [{meter: content}]}
clips: {short_s: 0.2}
rules:
  - {name: size, column: long_side_px, min: 16, gate: header}
  - {name: length, column: length_class, in: [still, short, long]}
captions: null
tokens: [{tokenizer: reference, max_frames: 5, heights: [64], psnr: none}]
"""


class Killed(BaseException):
    """SIGKILL as seen from inside: nothing after it runs, not even what catches exceptions."""


@pytest.fixture
def place(tmp_path) -> Path:
    (tmp_path / "mini.yaml").write_text(RECIPE)
    (tmp_path / "in").mkdir()
    return tmp_path


def video(path: Path, seed: int, num_frames: int = 10, **options: Any) -> None:
    rng = np.random.default_rng(seed)
    still = np.kron(rng.integers(30, 225, (6, 12, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    write_video(path, np.stack([still[:, t : t + 128] for t in range(num_frames)]), fps=10, **options)
    os.utime(path, ns=(seed * 10**9, seed * 10**9))  # another file has another time, however fast the test is


def mill(place: Path, *overrides: str, **options: Any) -> Mill:
    plan = build_plan(load_recipe(str(place / "mini.yaml"), list(overrides)))
    check(plan)
    defaults = {"input": str(place / "in"), "out": str(place / "set"), "address": "in-process", "strict": True}
    run = Mill(plan, Options(**{**defaults, **options}), RunProgress())
    run.run()
    return run


def rows(run: Mill, rel: str) -> list[dict[str, Any]]:
    names = [name for name in run.store.list(rel) if name.endswith(".parquet")]
    return [row for name in names for row in run.store.read_table(f"{rel}/{name}").to_pylist()]


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, when: Any = lambda *args: True) -> None:
    """Dies when `owner.name` is called with arguments for which `when` holds."""
    original = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if when(*args):
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


def test_packing_half_the_tokens_does_not_make_the_unit_done(place, monkeypatch):
    for seed in (1, 2):
        video(place / "in" / f"{seed}.mp4", seed)
    calls = []
    with monkeypatch.context() as patch:
        kill_at(
            patch,
            StageWorker,
            "__call__",
            lambda worker, block: (worker.job.name == "tokenize" and calls.append(1)) or len(calls) > 1,
        )
        with pytest.raises(Killed):
            mill(place, budget=Budget(block_rows=1))
    assert len(rows(mill(place, only="pack", input=None), "shards/" + os.listdir(place / "set/shards")[0])) > 0
    run = mill(place)
    kept = {row["clip_id"] for row in rows(run, run.selection.rel)}
    assert {row["clip_id"] for row in rows(run, run.manifest["tables"]["shards"][0])} == kept
    assert len(kept) == 2
    assert not mill(place).did_work


def test_the_number_of_units_outlives_a_kill_in_the_first_stage(place, monkeypatch):
    monkeypatch.setattr(pipelines.manifest, "UNIT_SOURCES", 2)
    for seed in range(6):
        video(place / "in" / f"{seed}.mp4", seed, num_frames=8)
    with monkeypatch.context() as patch:
        kill_at(patch, pipelines.mill, "finish_units")
        with pytest.raises(Killed):
            mill(place, limit=1)
    run = mill(place)
    assert run.manifest["num_units"] == 4, "sized by the listing, not by --limit"
    assert len({row["relpath"] for row in rows(run, "sources")}) == len(rows(run, "sources")) == 6
    tokens = [(r["clip_id"], r["window_index"], r["bucket"]) for r in rows(run, run.manifest["tables"]["shards"][0])]
    assert len(tokens) == len(set(tokens))
    assert not mill(place).did_work


@pytest.mark.parametrize("cut", ["before compaction", "before the parts are deleted", "not at all"])
def test_a_file_replaced_by_another_of_the_same_name(place, monkeypatch, cut):
    video(place / "in/a.mp4", 1, num_frames=10)
    video(place / "in/b.mp4", 2, num_frames=10)
    with monkeypatch.context() as patch:
        if cut == "before compaction":
            kill_at(patch, pipelines.mill, "finish_units")
        if cut == "before the parts are deleted":
            kill_at(patch, Ledger, "delete_parts")
        if cut == "not at all":
            mill(place)
        else:
            with pytest.raises(Killed):
                mill(place)
    video(place / "in/a.mp4", 7, num_frames=25)
    run = mill(place)
    source = {row["relpath"]: row for row in rows(run, "sources")}["a.mp4"]
    assert source["source_id"] == source_id_of("a.mp4", str(place / "in/a.mp4"))
    assert sorted(row["num_frames"] for row in rows(run, run.clips.rel)) == [10, 25]
    assert not mill(place).did_work


def test_a_changed_sidecar_arrives(place):
    video(place / "in/a.mp4", 1)
    (place / "in/a.txt").write_text("old title")
    mill(place, only="probe")
    (place / "in/a.txt").write_text("new title")
    assert [row["title"] for row in rows(mill(place, only="probe"), "sources")] == ["new title"]


def test_no_view_names_a_shard_file_that_may_still_change(place, monkeypatch):
    for seed in range(2):
        video(place / "in" / f"short{seed}.mp4", seed, num_frames=10)
        video(place / "in" / f"long{seed}.mp4", 9 + seed, num_frames=40)
    setting = "clips.long_s=2"
    mill(place, setting, "rules.length.in=[still]")
    with monkeypatch.context() as patch:
        kill_at(patch, Ledger, "write_unit", lambda ledger, *rest: ledger.rel.startswith("tokens"))
        with pytest.raises(Killed):
            mill(place, setting, "rules.length.in=[still,short]")
    reselect(str(place / "set"), None, ["rules.length.in=[still,short,long]"])
    store = Store(place / "set")
    mill(place, setting)
    for name in store.list("views"):
        if name.endswith(".json"):
            for entry in json.loads(store.read_bytes(f"views/{name}"))["shards"]:
                assert hashlib.sha256(store.read_bytes(entry["path"])).hexdigest() == entry["sha256"]


def test_an_old_view_keeps_its_samples_when_sources_come_and_change(place):
    for seed in range(3):
        video(place / "in" / f"{seed}.mp4", seed)
    run = mill(place)
    version = run.manifest["view"].split("/")[-1].removesuffix(".json")
    before = ShardDataset(str(place / "set"), version, split=None)
    video(place / "in/0.mp4", 50, num_frames=12)
    video(place / "in/new.mp4", 51, num_frames=12)
    assert mill(place).manifest["view"] != run.manifest["view"]
    after = ShardDataset(str(place / "set"), version, split=None)
    assert (len(after), after.view_hash) == (len(before), before.view_hash)
    assert verify_view(View.load(str(place / "set"), version)) == []


def test_rows_that_failed_by_our_bug_keep_the_exit_code(place, monkeypatch):
    video(place / "in/a.mp4", 1)
    original = DecodeChild.call

    def call(child: DecodeChild, target: str, kwargs: dict[str, Any], timeout_s: float) -> Any:
        if target.endswith("measure_segment"):
            raise KeyError("a bug of ours")
        return original(child, target, kwargs, timeout_s)

    monkeypatch.setattr(DecodeChild, "call", call)
    codes = [mill(place, strict=False).exit_code() for _ in range(5)]
    assert codes == [1] * 5
    attempts = [
        row["error_kind"]
        for row in rows(
            mill(place, strict=False),
            "series-" + next(name.split("-", 1)[1] for name in os.listdir(place / "set") if name.startswith("series-")),
        )
    ]
    assert attempts == ["internal"]


def test_a_clip_at_a_hole_is_marked_and_a_failed_segment_is_tried_again(place, monkeypatch):
    video(place / "in/a.mp4", 2, num_frames=60, options=CLOSED_GOP["libx264"])
    original = DecodeChild.call

    def call(child: DecodeChild, target: str, kwargs: dict[str, Any], timeout_s: float) -> Any:
        if target.endswith("measure_segment") and not kwargs["is_first"]:
            raise RowError("resource", "time limit")
        return original(child, target, kwargs, timeout_s)

    with monkeypatch.context() as patch:
        patch.setattr(DecodeChild, "call", call)
        run = mill(place, "measure.segment_s=2")
    assert [row["is_damaged"] for row in rows(run, run.scores.rel)] == [True]
    run = mill(place, "measure.segment_s=2")
    assert [(row["num_frames"], row["is_damaged"]) for row in rows(run, run.scores.rel)] == [(60, False)]


def test_select_says_which_sources_a_looser_header_rule_lets_in(place, capsys):
    video(place / "in/a.mp4", 1)
    mill(place, "rules.size.min=1000")
    reselect(str(place / "set"), None, ["rules.size.min=16"])
    assert "1 sources pass the header rules now and are not measured yet" in capsys.readouterr().out


def test_a_source_that_is_away_for_a_while_is_tried_again(place):
    video(place / "in/a.mp4", 1)
    mill(place, only="probe")
    (place / "in/a.mp4").rename(place / "away.mp4")
    run = mill(place, input=None, strict=False)
    assert [row["error_kind"] for row in rows(run, run.series.rel)] == ["transient"]
    (place / "away.mp4").rename(place / "in/a.mp4")
    run = mill(place)
    assert [row["error_kind"] for row in rows(run, run.series.rel)] == [None]


def test_several_units_on_workers_give_what_one_process_gives(place, monkeypatch):
    """Probing, measuring, tokenizing in actors; compaction, cutting, selection, packing as tasks, unit by unit."""
    monkeypatch.setattr(pipelines.manifest, "UNIT_SOURCES", 2)
    for seed in range(6):
        video(place / "in" / f"{seed}.mp4", seed, num_frames=8)
    here = mill(place, out=str(place / "here"))
    mill(place, out=str(place / "there"), address="local", num_cpus=2, budget=Budget(block_rows=1))
    assert here.manifest["num_units"] == 4
    for rel in ("shards", here.clips.rel, here.scores.rel, here.selection.rel):
        files = [path.relative_to(place / "here") for path in sorted((place / "here" / rel).rglob("*.parquet"))]
        assert files
        for path in files:
            assert (place / "here" / path).read_bytes() == (place / "there" / path).read_bytes(), path
