# SPDX-License-Identifier: Apache-2.0
"""The engine `openai` against a loopback server that fails in every way: no row is lost, none silently accepted."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from captioning import prompts
from captioning.budget import Tier
from captioning.config import Budget, Decoding, Server, Trigger
from captioning.details import DetailRule
from captioning.operator import Caption
from operators.contract import RUN_LOG
from pipelines.plan_check import PlanError
from reelmill.tables import CAPTION_TEXTS
from tests.caption_rows import clip_rows
from tests.caption_server import FAULTS, CaptionServer, caption_server
from tests.test_mill import mill, rows
from tests.videos import texture, write_video

TINY = Budget(tiers=(Tier(name="tiny", max_tokens=45, max_frames=3),))  # 3 frames of 3 x 5 tokens of 32 pixels
HTTP = ("429", "500", "stall", "empty")  # the rest are answers


@pytest.fixture(scope="module")
def server() -> Any:
    with caption_server() as server:
        yield server


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(4):
        write_video(folder / f"clip{seed}.mp4", texture(12, 96, 160, seed=seed, speed_px=3.0), fps=12)
    return clip_rows(sorted(folder.glob("*.mp4")))


def caption(server: CaptionServer, **options: Any) -> Caption:
    connection = {"url": server.url, "model": "m", "max_retries": 1, "deadline_s": 60.0, "num_parallel": 3}
    connection |= {name: options.pop(name) for name in ("deadline_s", "api_key_env") if name in options}
    return Caption(engine="openai", **{"server": Server(**connection), "budget": TINY, **options})


def run(operator: Caption, table: pa.Table) -> list[dict[str, Any]]:
    state = operator.setup()
    try:
        return operator.process(state, table).to_pylist()
    finally:
        operator.close(state)


def statuses(found: list[dict[str, Any]]) -> list[str]:
    for row in found:
        is_failed = row["status"] == "failed"
        assert is_failed == (row["error_kind"] is not None) == (row["error"] is not None)
        assert all((row[name] is None) == is_failed for name in CAPTION_TEXTS)
    return [row["status"] for row in found]


def test_texts_labels_and_provenance_of_good_answers(server: CaptionServer, table: pa.Table) -> None:
    server.reset()
    found = run(caption(server), table)
    assert statuses(found) == ["ok"] * 4
    assert (
        len({row["Brief Description"] for row in found}) == len({row["Summarized Description"] for row in found}) == 4
    )
    row = found[0]
    assert (row["caption_grounding"], row["caption_model"], row["caption_tier"]) == ("model", "m", "tiny")
    assert (row["shot_scale"], row["camera_movements"], row["setting"]) == ("extreme_wide", ["static"], "indoor")
    assert [frame["index"] for frame in row["seen_frames"]] == [2, 6, 10]
    assert [frame["time_s"] for frame in row["seen_frames"]] == pytest.approx([2 / 12, 6 / 12, 10 / 12])
    assert (row["seen_width_px"], row["seen_height_px"], row["num_visual_tokens"]) == (160, 96, 45)
    assert (row["num_prompt_tokens"], row["num_output_tokens"], row["finish_reason"]) == (300, 30, "stop")
    assert json.loads(row["decoding_json"])["temperature"] == 0
    assert json.loads(row[RUN_LOG])["attempts"] == 3
    assert [e["field"] for e in row["evidence"]] == ["scene", "picture"]


def test_what_is_sent_is_what_was_planned(
    server: CaptionServer, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.reset()
    monkeypatch.setenv("CAPTION_KEY", "secret-key")
    found = run(caption(server, api_key_env="CAPTION_KEY"), table.slice(0, 1))
    assert "secret-key" not in json.dumps(found)
    looks = [request for request in server.requests if isinstance(request["messages"][1]["content"], list)]
    assert len(server.requests) == 3
    assert [len(looks), {request["authorization"] for request in looks}] == [2, {"Bearer secret-key"}]
    one, other = (request["messages"][1]["content"] for request in looks)
    assert one[:-1] == other[:-1]  # the pictures stand first, so that a server can use them again
    assert [part["text"] for part in one if part["type"] == "text"][:3] == [f"<{t} seconds>" for t in (0.2, 0.5, 0.8)]
    assert _picture(next(part for part in one if part["type"] == "image_url")).shape == (96, 160, 3)
    monkeypatch.delenv("CAPTION_KEY")
    with pytest.raises(ValueError, match="the variable CAPTION_KEY is not set"):
        run(caption(server, api_key_env="CAPTION_KEY"), table)


def _picture(part: dict[str, Any]) -> np.ndarray:
    jpeg = np.frombuffer(base64.b64decode(part["image_url"]["url"].partition(",")[2]), np.uint8)
    picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def test_small_text_is_sent_at_native_size_after_the_frames(server: CaptionServer, tmp_path: Path) -> None:
    server.reset()
    write_video(tmp_path / "wide.mp4", texture(12, 480, 640, seed=1), fps=12)
    clip = clip_rows([tmp_path / "wide.mp4"])
    pts = clip.to_pylist()[0]["frame_pts"]
    lines = [{"pts": pts[3], "text": "EXIT", "left": 0.1, "top": 0.5, "width": 0.08, "height": 0.03}]
    budget = replace(TINY, details=DetailRule(max_share=0.3))
    (row,) = run(caption(server, budget=budget), clip.append_column("text_boxes", pa.array([lines])))
    (detail,) = row["seen_details"]
    assert (detail["index"], detail["width_px"], detail["height_px"]) == (3, 96, 32)
    assert row["num_visual_tokens"] <= 45
    sent = server.requests[0]["messages"][1]["content"]
    assert [part["type"] for part in sent[-3:]] == ["text", "image_url", "text"]
    assert sent[-3]["text"] == "Part of the frame at 0.2 seconds, at full size, to read what is written there:"
    assert _picture(sent[-2]).shape == (32, 96, 3)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_once_costs_a_try_and_always_costs_the_row(server: CaptionServer, table: pa.Table, fault: str) -> None:
    two, patience = table.slice(0, 2), {"deadline_s": 4.0} if fault == "stall" else {}
    if fault != "empty":  # an answer without a choice is not asked for again by itself
        server.reset(lambda key, times: fault if times == 0 else None)
        found = run(caption(server, **patience), two)
        assert statuses(found) == (["ok"] * 2 if fault in HTTP else ["repaired"] * 2)
        assert all(json.loads(row[RUN_LOG])["attempts"] == 6 for row in found)
    server.reset(lambda key, times: fault)
    found = run(caption(server, decoding=Decoding(max_repairs=1), **patience), two)
    assert statuses(found) == ["failed"] * 2
    assert {row["error_kind"] for row in found} == {"transient"}
    said = {"429": "fault 429", "500": "fault 500", "stall": "no answer|timed out", "empty": "no choice"}
    said |= {"truncated": "cut off", "missing": "required", "control": "control character", "language": "not English"}
    assert all(re.search(said.get(fault, "JSON"), row["error"]) for row in found)
    assert all(row["caption_tier"] == "tiny" for row in found)


def test_mixed_faults_lose_no_row(server: CaptionServer, table: pa.Table) -> None:
    def fault(key: str, times: int) -> str | None:
        draw = int(key, 16)
        kind = [name for name in FAULTS if name != "stall"][draw % 9]
        return kind if draw % 5 < 2 and times <= draw % 4 else None

    server.reset(fault)
    server.delay_s = 0.02
    found = run(caption(server, decoding=Decoding(max_repairs=1)), pa.concat_tables([table] * 5))
    counts = {status: statuses(found).count(status) for status in ("ok", "repaired", "failed")}
    assert sum(counts.values()) == 20
    assert 1 < server.most_open <= 3
    server.delay_s = 0.0


def test_an_answer_that_stays_invalid_raises_the_tier(server: CaptionServer, table: pa.Table) -> None:
    tiers = tuple(Tier(name=name, max_tokens=tokens, max_frames=3) for name, tokens in (("low", 15), ("high", 45)))
    server.reset(lambda key, times: "fence" if len(server.requests) <= 2 else None)
    operator = caption(server, budget=Budget(tiers=tiers), decoding=Decoding(max_repairs=1))
    (row,) = run(operator, table.slice(0, 1))
    assert (row["caption_tier"], row["caption_trigger"], row["num_visual_tokens"]) == ("high", "invalid", 45)
    server.reset()
    budget = Budget(tiers=tiers, triggers=(Trigger(column="fps", min=10), Trigger(column="no_such", min=0)))
    (row,) = run(caption(server, budget=budget), table.slice(0, 1))
    assert (row["caption_tier"], row["caption_trigger"]) == ("high", "fps")


def test_one_answer_for_all_and_a_long_clip_in_parts(server: CaptionServer, table: pa.Table) -> None:
    server.reset()
    (row,) = run(caption(server, plan="single"), table.slice(0, 1))
    assert (row["status"], len(server.requests)) == ("ok", 1)
    server.reset()
    budget = Budget(tiers=TINY.tiers, chunk_s=0.5)
    (row,) = run(caption(server, budget=budget), table.slice(0, 1))
    asked = [request["response_format"]["json_schema"]["name"] for request in server.requests]
    assert asked == ["Scene", "Picture", "Scene", "Picture", "Merged", "Summary"]
    assert [frame["index"] for frame in row["seen_frames"]] == [1, 3, 5, 7, 9, 11]
    assert (row["num_visual_tokens"], len(row["seen_grid_thw"])) == (90, 2)
    merge = server.requests[4]["messages"][1]["content"]
    assert '"seconds": "0.0-0.5"' in merge
    assert '"seconds": "0.5-1.0"' in merge


def test_measured_movement_is_told_and_recorded(server: CaptionServer, table: pa.Table) -> None:
    server.reset()
    names = [name for name in table.column_names if name.startswith("camera_")]
    measured = {"camera_class": "static", "camera_inlier_share_mean": 0.9, "fps": 12.0, "duration_s": 1.0}
    values = dict.fromkeys(names, 0.0) | measured
    still = table.slice(0, 1).to_pylist()[0] | values | {"title": 'A "{schema}" of {texts}'}
    (row,) = run(caption(server), pa.Table.from_pylist([still], schema=table.schema))
    told = {e["sentence"]: e["columns"] for e in row["evidence"]}
    assert "camera_shake" in told["The camera is static."]
    text = server.requests[0]["messages"][1]["content"][-1]["text"]
    assert "The camera is static." in text
    assert '"{schema}" of {texts}' in text  # what a source is called is never filled in


def test_a_changed_prompt_captions_again_and_an_unchanged_one_nothing(
    server: CaptionServer, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    footage = tmp_path / "in"
    footage.mkdir()
    for seed in range(2):
        write_video(footage / f"{seed}.mp4", texture(12, 96, 160, seed=seed, speed_px=3.0), fps=12)
    tiers = "[{name: tiny, max_tokens: 45, max_frames: 3}]"
    settings = f"captions={{engine: openai, server: {{url: '{server.url}', model: m}}, budget: {{tiers: {tiers}}}}}"
    overrides = [settings, "tokens=[]", "rules=[]"]
    server.reset()
    first = mill(tmp_path / "out", footage, *overrides)
    num_asked = len(server.requests)
    assert num_asked == 6
    assert len(rows(first, first.captions.rel)) == 2
    events = [
        json.loads(line)
        for name in first.store.list("runs")
        for line in first.store.read_bytes(f"runs/{name}").splitlines()
    ]
    assert [event["attempts"] for event in events if event["event"] == "row"] == [3, 3]
    again = mill(tmp_path / "out", footage, *overrides)
    assert (again.did_work, len(server.requests)) == (False, num_asked)
    changed = tmp_path / "prompts.yaml"
    changed.write_text(prompts.PATH.read_text().replace("plain English", "short English"))
    monkeypatch.setattr(prompts, "PATH", changed)
    other = mill(tmp_path / "out", footage, *overrides)
    assert len(server.requests) == 2 * num_asked
    assert other.captions.rel != first.captions.rel
    assert [row["prompt_hash"] for row in rows(other, other.captions.rel)] == [prompts.prompt_hash()] * 2


def test_details_come_from_the_text_that_was_read(server: CaptionServer, tmp_path: Path) -> None:
    footage = tmp_path / "in"
    footage.mkdir()
    frames_THWC = np.full((12, 360, 640, 3), 90, np.uint8)
    for frame_HWC in frames_THWC:
        cv2.putText(frame_HWC, "EXIT 42", (200, 200), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2, cv2.LINE_AA)
    write_video(footage / "sign.mp4", frames_THWC, fps=12)
    budget = "{tiers: [{name: tiny, max_tokens: 60, max_frames: 2}], details: {max_share: 0.4}}"
    settings = f"captions={{engine: openai, server: {{url: '{server.url}', model: m}}, budget: {budget}}}"
    server.reset()
    run = mill(
        tmp_path / "out",
        footage,
        settings,
        "models=[{op: text, num_frames: 1, width_px: 640}]",
        "tokens=[]",
        "rules=[]",
    )
    (row,) = rows(run, run.captions.rel)
    (detail,) = row["seen_details"]
    box = _picture(server.requests[0]["messages"][1]["content"][-2])
    assert box.shape == (detail["height_px"], detail["width_px"], 3)
    assert (box > 200).mean() > 0.03  # letters
    with pytest.raises(PlanError, match=r"captions.budget.details: nothing reads text; add \{op: text\} to models"):
        mill(tmp_path / "out", footage, settings)
