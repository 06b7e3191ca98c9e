# SPDX-License-Identifier: Apache-2.0
"""The engine `transformers` on random checkpoints of the real classes, real clips, through a Ray actor and without."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest

from captioning.budget import Tier
from captioning.config import Budget, Decoding, LocalModel
from captioning.details import DetailRule
from captioning.operator import Caption
from captioning.schema import CaptionTexts, json_schema
from operators.weights import weights_hash
from pipelines.ledger import Ledger
from pipelines.rounds import UNIT, StageJob
from pipelines.run import cluster, run_on_ray
from reelmill.spans import read_span
from reelmill.storage import Store
from reelmill.tables import CAPTION_TEXTS, CAPTIONS
from tests.caption_rows import clip_rows
from tests.conftest import CLIPS as SHARED
from tests.tiny_models import save_qwen

TINY = Budget(tiers=(Tier(name="tiny", max_tokens=64, max_frames=4),))
CLIPS = ("street_walk_720p.mp4", "av1_360p.mkv", "uhd_portrait_phone_2160p60_h264.mp4")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: save_qwen(root / family, family) for family in ("qwen3_vl", "qwen2_5_vl")}


def operator(folder: Path, **model: Any) -> Caption:
    return Caption(
        engine="transformers",
        model=LocalModel(uri=str(folder), precision="fp32", device="cpu", **model),
        budget=TINY,
        decoding=Decoding(max_new_tokens=700),
        language=None,  # random weights write no English
    )


def run(operator: Caption, table: pa.Table) -> list[dict[str, Any]]:
    state = operator.setup()
    try:
        return operator.process(state, table).to_pylist()
    finally:
        operator.close(state)


def texts(row: dict[str, Any]) -> dict[str, str]:
    return {name: row[name] for name in CAPTION_TEXTS}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    if missing := [name for name in CLIPS if not (SHARED / name).exists()]:
        pytest.skip(f"the shared clips {', '.join(missing)} are not there ({SHARED})")
    return clip_rows(SHARED / name for name in CLIPS)


@pytest.mark.timeout(600)
def test_real_clips_through_a_ray_actor_and_again_without(
    folders: dict[str, Path], table: pa.Table, tmp_path: Path
) -> None:
    caption = operator(folders["qwen3_vl"])
    job = StageJob("caption", caption, CAPTIONS, Ledger(Store(tmp_path), "captions", ("clip_id",), "fp"), strict=True)
    block = table.append_column(UNIT, pa.array([0] * table.num_rows, pa.int32()))
    with cluster("local", 1, {}, print):
        (receipt,) = run_on_ray(job, [block], 1, print)
    job.ledger.compact(0, job.schema, "input", None)
    found = sorted(job.ledger.read(0).to_pylist(), key=lambda row: row["clip_id"])
    assert [row["status"] for row in found] == ["ok"] * 3
    assert [json.loads(note["json"])["repairs"] for note in receipt.notes] == [0] * 3
    for row in found:
        jsonschema.validate(texts(row), json_schema(CaptionTexts))
        assert all(texts(row).values())
        assert row["caption_weights_hash"] == weights_hash(folders["qwen3_vl"])
        assert row["caption_engine"].startswith("transformers ")
    assert len({row["Detailed Description"] for row in found}) == 3
    again = sorted(run(caption, table), key=lambda row: row["clip_id"])  # another process, another order of clips
    assert [texts(row) for row in again] == [texts(row) for row in found]
    walk = next(row for row in found if row["clip_id"] == "street_walk_720p")
    assert len(walk["seen_grid_thw"]) == 2  # 13 seconds: two parts, merged
    phone = next(row for row in found if row["clip_id"].startswith("uhd"))
    assert phone["seen_width_px"] < phone["seen_height_px"] <= 3840


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
def test_the_processor_makes_the_tokens_that_were_planned(
    folders: dict[str, Path], table: pa.Table, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captioning.transformers_engine import TransformersModel

    counted = []
    ask = TransformersModel._generate

    def counting(self: Any, question: Any) -> Any:
        reply = ask(self, question)
        counted.extend((m.sight.plan.num_tokens, reply.num_visual_tokens) for m in question.messages if m.sight)
        return reply

    monkeypatch.setattr(TransformersModel, "_generate", counting)
    (row,) = run(operator(folders[family]), table.slice(1, 1))
    assert row["status"] == "ok"
    assert len(counted) >= 2
    assert all(planned == made > 0 for planned, made in counted)
    assert row["num_visual_tokens"] == counted[0][0] <= 64


@pytest.mark.parametrize(("family", "factor", "columns"), [("qwen3_vl", 32, 2), ("qwen2_5_vl", 28, 3)])
def test_text_that_the_frames_show_too_small_is_shown_at_native_size(
    folders: dict[str, Path], table: pa.Table, family: str, factor: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    from captioning.transformers_engine import TransformersModel

    phone = table.to_pylist()[2]
    assert (phone["width_px"], phone["height_px"]) == (2160, 3840)
    line = {"pts": phone["frame_pts"][10], "text": "EXIT", "left": 0.5, "top": 0.25, "width": 0.02, "height": 0.005}
    shown = []
    inputs = TransformersModel._inputs

    def noting(self: Any, messages: Any) -> Any:
        shown.append((messages, inputs(self, messages)))
        return shown[-1][1]

    monkeypatch.setattr(TransformersModel, "_inputs", noting)
    tier = Tier(name="tiny", max_tokens=80, max_frames=2)
    caption = replace(operator(folders[family]), budget=Budget(tiers=(tier,), details=DetailRule()))
    (found,) = run(caption, table.slice(2, 1).append_column("text_boxes", pa.array([[line]])))
    assert found["status"] == "ok"
    (detail,) = found["seen_details"]
    assert (detail["index"], detail["time_s"]) == (10, pytest.approx(10 / 60, abs=0.01))
    assert (detail["width_px"], detail["height_px"]) == (columns * factor, 2 * factor)
    assert detail["left_px"] <= 1080
    assert detail["left_px"] + detail["width_px"] >= 1080 + 0.02 * 2160
    sight, made = next((m.sight, made) for messages, made in shown for m in messages if m.sight)
    num_tokens = columns * 2
    image_token = AutoTokenizer.from_pretrained(folders[family]).convert_tokens_to_ids("<|image_pad|>")
    assert int((made["input_ids"] == image_token).sum()) == num_tokens
    assert found["num_visual_tokens"] == sight.num_tokens == sight.plan.num_tokens + num_tokens <= 80
    (native_HWC,) = read_span(phone["uri"], [line["pts"]], phone["seek_pts"])
    top, left = detail["top_px"], detail["left_px"]
    part_HWC = native_HWC[top : top + detail["height_px"], left : left + detail["width_px"]]
    assert np.array_equal(sight.details[0].pixels_HWC, part_HWC)


def test_what_vllm_is_given_is_what_was_planned(folders: dict[str, Path], table: pa.Table) -> None:
    from captioning.conversation import Message
    from captioning.looks import parts_of, plan_parts, see
    from captioning.operator import frames_request
    from captioning.processors import load_processor, rule_of
    from captioning.vllm_engine import engine_arguments, prompt_of
    from operators.decode_child import DecodeChild

    processor, child = load_processor(folders["qwen3_vl"]), DecodeChild(2.0)
    rule, frames = rule_of(processor), frames_request(table.slice(1, 1).to_pylist()[0])
    assert rule is not None
    parts = parts_of(frames, 10.0)
    (sight,) = see(parts, plan_parts(parts, frames, {}, TINY, TINY.tiers[0], rule), frames, child)
    child.close()
    prompt = prompt_of((Message("user", "What?", sight),), processor, rule)
    assert prompt["prompt"].count("<|video_pad|>") == 1
    ((pixels_THWC, metadata),) = prompt["multi_modal_data"]["video"]
    assert [index / metadata["fps"] for index in metadata["frames_indices"]] == pytest.approx(sight.times_s, abs=1e-3)
    made = processor.video_processor(  # its own resizing, as vLLM calls it
        videos=[pixels_THWC], video_metadata=[metadata], cap_pixels_per_frame=False, **prompt["mm_processor_kwargs"]
    )
    assert tuple(made["video_grid_thw"][0].tolist()) == sight.plan.grid_thw
    assert engine_arguments("m", LocalModel(uri="m"))["trust_remote_code"] is False
    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(ValueError, match="engine vllm needs vLLM"):
            Caption(engine="vllm", model=LocalModel(uri=str(folders["qwen3_vl"]))).setup()


def test_a_broken_or_foreign_checkpoint_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(folders["qwen3_vl"], tmp_path / "broken"))
    with pytest.raises(ValueError, match="the recipe says 0000"):
        operator(folder, sha256="0" * 64).setup()
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of its model: \['lm_head.weight'\]"):
        operator(folder).setup()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        operator(folder).setup()
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        operator(tmp_path / "none").setup()


def test_the_id_follows_model_and_settings_and_not_the_machine(folders: dict[str, Path]) -> None:
    first = operator(folders["qwen3_vl"])
    ids = {first.captioner_id, operator(folders["qwen2_5_vl"]).captioner_id}
    for change in ({"decoding": Decoding(seed=1)}, {"plan": "single"}, {"language": "en"}, {"budget": Budget()}):
        settings = {"engine": "transformers", "model": first.model, "budget": TINY, "language": None}
        settings |= {"decoding": first.decoding, **change}
        ids.add(Caption(**settings).captioner_id)
    assert len(ids) == 6
    assert operator(folders["qwen3_vl"], memory_gb=99.0, num_parallel=7).captioner_id == first.captioner_id
    assert not first.exact
    assert Caption().exact
    assert first.resources.num_gpus == 0
