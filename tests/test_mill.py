# SPDX-License-Identifier: Apache-2.0
"""The whole mill on small rendered footage: accounting, doing nothing twice, and what a change recomputes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.cli import parse_workers
from pipelines.mill import Mill, Options
from pipelines.plan import build_plan, check
from pipelines.progress import RunProgress
from pipelines.recipe import load_recipe
from pipelines.rounds import Budget
from reelmill.storage import Store, fsspec_s3
from tests.s3server import Faults
from tests.videos import write_video

H, W = 180, 320


def moving_texture(seed: int, num_frames: int, speed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    still = np.kron(rng.integers(30, 225, (H // 30, (W + 160) // 40, 3)), np.ones((30, 40, 1))).astype(np.uint8)
    return np.stack([still[:, t * speed : t * speed + W] for t in range(num_frames)])


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    """Two shots in one file, one plain file, one in a folder with the same name, a still, and four bad files."""
    import cv2

    root = tmp_path_factory.mktemp("footage")
    write_video(root / "two_shots.mp4", np.concatenate([moving_texture(1, 24), moving_texture(2, 24)]), fps=24)
    write_video(root / "plain.mp4", moving_texture(3, 30), fps=30)
    (root / "sub").mkdir()
    write_video(root / "sub" / "plain.mp4", moving_texture(4, 30), fps=30)
    cv2.imwrite(str(root / "still.png"), moving_texture(5, 1)[0])
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mp4").write_text("this is no video")
    (root / "notes.txt").write_text("not media")
    (root / "cut_short.mp4").write_bytes((root / "plain.mp4").read_bytes()[:2000])
    return root


def mill(out, footage, *overrides, **options):
    light = ["models=[]", "rules.text=null", "tokens.0.max_frames=9", "tokens.0.heights=[128]"]
    plan = build_plan(load_recipe("quickstart", [*light, *overrides]))
    check(plan)
    defaults = {"input": str(footage), "out": str(out), "address": "in-process", "strict": True}
    run = Mill(plan, Options(**{**defaults, **options}), RunProgress())
    run.run()
    return run


@pytest.fixture(scope="module")
def milled(tmp_path_factory, footage):
    out = tmp_path_factory.mktemp("out") / "set"
    return mill(out, footage)


def rows(run, rel):
    names = [name for name in run.store.list(rel) if name.endswith(".parquet")]
    return [row for name in names for row in run.store.read_table(f"{rel}/{name}").to_pylist()]


def snapshot(out) -> dict[str, bytes]:
    root = Path(out)
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and "runs" not in p.parts
    }


def test_every_media_file_has_a_row_with_its_state(milled):
    found = {row["relpath"]: row["error_kind"] for row in rows(milled, "sources")}
    assert found == {
        "two_shots.mp4": None,
        "plain.mp4": None,
        "sub/plain.mp4": None,
        "still.png": None,
        "empty.mp4": "bad_input",
        "text.mp4": "bad_input",
        "cut_short.mp4": "bad_input",
    }
    assert milled.manifest["ignored_files"] == {"num": 1, "examples": ["notes.txt"]}
    assert milled.exit_code() == 0


def test_clips_are_cut_to_the_frame(milled):
    sources = {row["source_id"]: row["relpath"] for row in rows(milled, "sources")}
    clips = sorted((sources[c["source_id"]], c["clip_index"], c["num_frames"]) for c in rows(milled, milled.clips.rel))
    assert clips == [
        ("plain.mp4", 0, 30),
        ("still.png", 0, 1),
        ("sub/plain.mp4", 0, 30),
        ("two_shots.mp4", 0, 24),
        ("two_shots.mp4", 1, 24),
    ]
    assert len({c["clip_id"] for c in rows(milled, milled.clips.rel)}) == 5, "equal names in two folders do not collide"


def test_kept_clips_have_tokens_and_captions(milled):
    kept = {r["clip_id"] for r in rows(milled, milled.selection.rel) if r["clip_id"] and r["tier"] != "reject"}
    assert len(kept) >= 4
    shards = rows(milled, milled.manifest["tables"]["shards"][0])
    assert {row["clip_id"] for row in shards} == kept
    assert {row["clip_id"] for row in rows(milled, milled.captions.rel)} == kept
    assert len({(r["clip_id"], r["window_index"], r["bucket"]) for r in shards}) == len(shards)


def test_a_second_run_does_nothing(milled, footage):
    before = snapshot(milled.store.root)
    again = mill(milled.store.root, footage)
    assert not again.did_work
    assert snapshot(milled.store.root) == before


def test_more_workers_other_blocks_same_bytes(milled, footage, tmp_path):
    other = mill(tmp_path / "set", footage, budget=Budget(block_rows=1))
    for table in ("shards", milled.clips.rel, milled.scores.rel, milled.captions.rel, milled.selection.rel):

        def of(run, rel=table):
            return {k: v for k, v in snapshot(run.store.root).items() if k.startswith(rel)}

        assert of(other) == of(milled), table


def test_new_source_is_added_and_the_rest_kept(footage, tmp_path):
    import shutil

    grown = tmp_path / "in"
    shutil.copytree(footage, grown)
    first = mill(tmp_path / "set", grown)
    packed = {k: v for k, v in snapshot(first.store.root).items() if k.startswith("shards") and k.endswith(".parquet")}
    write_video(grown / "late.mp4", moving_texture(9, 20), fps=20)
    second = mill(tmp_path / "set", grown)
    did = {result.stage: result.num_inputs for result in second.results}
    assert (did["probe"], did["measure"], did["caption"], did["tokenize"]) == (1, 1, 1, 1)
    after = {k: v for k, v in snapshot(second.store.root).items() if k.startswith("shards") and k.endswith(".parquet")}
    assert packed.items() <= after.items(), "shards are append-only"
    assert len(after) == len(packed) + 1


def test_what_a_change_recomputes(footage, tmp_path):
    out = tmp_path / "set"
    mill(out, footage, "rules.length.in=[still]")

    def work(*overrides):
        return {r.stage: r.num_inputs for r in mill(out, footage, *overrides).results if r.num_rows}

    looser = work()
    assert not {"measure", "clips"} & looser.keys(), "a looser rule decodes nothing to measure"
    assert looser["tokenize"] == looser["caption"] == 4, "only the newly admitted clips are computed"
    assert work("rules.length.in=[still]").keys() <= {"select", "pack"}, "a stricter rule computes nothing"
    meter = work("measure.meters.exposure.rate_hz=3")
    assert meter["measure"] == 4, "a changed meter decodes again"
    assert "tokenize" not in meter, "its clips have their ids and so their tokens"


def test_limit_and_only(footage, tmp_path):
    run = mill(tmp_path / "set", footage, limit=2, only="probe")
    assert len(rows(run, "sources")) == 2
    assert not Store(tmp_path / "set").exists("clips")


def test_s3_to_s3_through_faults_gives_the_same_shards(footage, milled, s3, s3_bucket):
    """Errors, stalls and cut connections on every kind of request cost time, not rows."""
    fs = fsspec_s3()
    for path in sorted(p for p in footage.rglob("*") if p.is_file()):
        fs.pipe_file(f"{s3_bucket}/raw/{path.relative_to(footage)}", path.read_bytes())
    s3.reset(Faults(error=0.1, stall=0.01, cut=0.03, stall_s=(2, 4), seed=7))
    run = mill(f"{s3_bucket}/set", f"{s3_bucket}/raw")
    assert s3.num_injected > 10
    assert {row["relpath"]: row["error_kind"] for row in rows(run, "sources")} == {
        row["relpath"]: row["error_kind"] for row in rows(milled, "sources")
    }
    local = {k: v for k, v in snapshot(milled.store.root).items() if k.startswith("shards")}
    assert local
    assert {key: run.store.read_bytes(key) for key in local} == local


def test_workers_option():
    assert parse_workers("cpu=8,gpu=2") == (8, 2)
    assert parse_workers(None) == (None, 0)
    with pytest.raises(ValueError, match="cpu=N,gpu=M"):
        parse_workers("cpus=8")


@pytest.mark.parametrize(("on_null", "tier"), [("keep", "train"), ("reject", "reject")])
def test_a_rule_on_a_model_that_is_not_here_finds_nulls(footage, tmp_path, on_null, tier):
    rule = f"rules=[{{name: fast, column: flow_speed_mean, min: 1, on_null: {on_null}, gate: models}}]"
    settings = ["models=[{op: flow, weights: none.pth}]", rule, "tokens=[]", "captions=null"]
    plan = build_plan(load_recipe("quickstart", settings))
    source = footage / "plain.mp4"
    options = Options(input=str(source), out=str(tmp_path), address="in-process", absent_models=frozenset({"flow"}))
    run = Mill(plan, options, RunProgress())
    run.run()
    (row,) = rows(run, run.selection.rel)
    assert (row["tier"], row["decided_gate"]) == (tier, "captions" if tier == "train" else "models")
    assert [reason["rule"] for reason in row["reasons"]] == ["unmeasured:flow_speed_mean"] * (tier == "reject")


def test_models_round_writes_scores_that_rules_can_use(footage, tmp_path):
    """A recipe with a model: a tiny random CLIP in the real layout, loaded by the real path."""
    import torch
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    from tests.test_heads import AESTHETIC, published

    shape: Any = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = CLIPVisionModelWithProjection(CLIPVisionConfig(**shape, image_size=32, patch_size=16, projection_dim=768))
    network.save_pretrained(tmp_path / "clip")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        tmp_path / "clip"
    )
    model = f"models=[{{op: embedding, backend: transformers, model: {tmp_path / 'clip'}}}]"
    rule = "rules.text={name: seen, column: embedding_pixel_share, min: 0.0001, gate: models}"
    plan = build_plan(load_recipe("quickstart", [model, rule, "tokens=[]"]))
    check(plan)
    run = Mill(
        plan, Options(input=str(footage), out=str(tmp_path / "set"), address="in-process", strict=True), RunProgress()
    )
    run.run()
    scores = rows(run, run.model_scores["embedding"].rel)
    assert len(scores) >= 4
    assert all(len(row["embedding"]) == 768 and row["error_kind"] is None for row in scores)
    assert {row["decided_gate"] for row in rows(run, run.selection.rel) if row["tier"] == "train"} == {"captions"}

    head = published(AESTHETIC)
    torch.save(head.state_dict(), tmp_path / "head.pth")
    models = model.replace("]", f", {{op: aesthetic, weights: {tmp_path}/head.pth}}]")
    plan = build_plan(load_recipe("quickstart", [models, rule, "tokens=[]"]))
    check(plan)
    again = Mill(plan, Options(input=None, out=run.options.out, address="in-process", strict=True), RunProgress())
    again.run()
    assert {result.stage for result in again.results if result.num_rows} >= {"aesthetic"}
    assert not {result.stage for result in again.results if result.num_rows} & {"measure", "embedding"}
    assert all(row["aesthetic_mean"] is not None for row in rows(again, again.model_scores["aesthetic"].rel))
