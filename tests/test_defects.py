# SPDX-License-Identifier: Apache-2.0
"""The operator `defects`: probabilities of yes from real classes and from a server, and what a recipe makes of them."""

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from captioning import defects
from captioning.budget import Tier
from captioning.config import Decoding, LocalModel, Server
from captioning.defects import Defects
from captioning.yes_no import Odds, asked, odds_of, word_ids
from operators.catalog import operator_class
from pipelines.plan import identity
from pipelines.recipe import RecipeError, build_models, parse_recipe
from tests.caption_rows import clip_rows
from tests.caption_server import CaptionServer, caption_server
from tests.tiny_models import save_qwen
from tests.videos import texture, write_video

TINY = Tier(name="tiny", max_tokens=48, max_frames=4)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_video(path, texture(24, 96, 160, seed=1, speed_px=3.0), fps=12)
    return clip_rows([path])


@pytest.fixture(scope="module")
def server() -> Any:
    with caption_server() as server:
        yield server


def run(operator: Defects, table: pa.Table) -> dict[str, Any]:
    state = operator.setup()
    try:
        (row,) = operator.process(state, table).to_pylist()
    finally:
        operator.close(state)
    return row


def local(folder: Path, **options: Any) -> Defects:
    model = LocalModel(uri=str(folder), precision="fp32", device="cpu")
    return Defects(engine="transformers", model=model, tier=TINY, **options)


def remote(server: CaptionServer, **options: Any) -> Defects:
    return Defects(engine="openai", server=Server(url=server.url, model="m", max_retries=0), tier=TINY, **options)


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
def test_a_shared_opening_gives_what_the_whole_prompt_gives(family: str, table: pa.Table, tmp_path: Path) -> None:
    import torch

    from captioning.engines import Clip, ClipFacts
    from captioning.operator import frames_request
    from captioning.transformers_engine import TransformersModel

    operator = local(save_qwen(tmp_path / family, family, words=("yes", "Yes", "no")))
    state = operator.setup()
    row = table.to_pylist()[0]
    (sight,) = state._loop.run_until_complete(state.see(Clip(ClipFacts({}), frames_request(row), row), 0))
    state.close()
    assert operator.model is not None
    model = TransformersModel(operator.model, Decoding())
    opening, questions = defects.opening(sight), list(operator.questions.values())
    found = model._odds(opening, questions)
    words = word_ids(model._processor.tokenizer)
    assert [len(words[word]) for word in ("yes", "no")] == [2, 1]
    for question, odds in zip(questions, found, strict=True):
        with torch.inference_mode():
            logits = model._network(**model._inputs(asked(opening, question))).logits[0, -1]
        yes, no = (float(logits.softmax(-1)[words[word]].sum()) for word in ("yes", "no"))
        assert odds.yes == pytest.approx(yes / (yes + no), abs=1e-4)
        assert odds.share == pytest.approx(yes + no, abs=1e-4)
    assert len({round(odds.yes, 4) for odds in found}) == len(questions)  # each question is a prompt of its own


def test_rows_of_a_local_model(table: pa.Table, tmp_path: Path) -> None:
    folder = save_qwen(tmp_path / "model", "qwen3_vl", words=("yes", "no"))
    operator = local(folder, chunk_s=1.0)
    row = run(operator, table)
    assert row["error"] is None
    assert 0 <= row["defects_answer_share"] <= 1
    assert row["defects_frames"] >= 2 * 2  # two parts
    assert len(row["defects_weights_hash"]) == 64
    assert set(row) >= {column.name for column in operator.writes}


def test_rows_of_a_server(server: CaptionServer, table: pa.Table) -> None:
    def chances(question: str) -> list[tuple[str, float]]:
        if "watermark" in question:
            return [("Yes", 0.5), (" yes", 0.1), ("No", 0.2), ("Maybe", 0.1)]
        if "flicker" in question or "jump" in question:
            return [("The", 0.8), ("No", 0.1), ("Yes", 0.05)]
        return [("No", 0.9), ("Yes", 0.1)]

    server.chances = chances
    row = run(remote(server), table)
    assert row["error"] is None
    assert row["defect_watermark"] == pytest.approx(0.75)
    assert row["defect_flicker"] is None  # it talked of something else
    assert row["defect_shake"] == pytest.approx(0.1)
    assert row["defects_answer_share"] == pytest.approx(0.15)
    texts = [request["messages"][-1]["content"][-1]["text"] for request in server.requests]
    assert len(texts) == len(set(texts)) == 16
    server.chances = lambda question: []
    row = run(remote(server), table)
    assert row["error_kind"] == "transient"
    assert "log-probabilities" in row["error"]
    assert row["defect_watermark"] is None


def test_the_worst_part_counts() -> None:
    parts = [[Odds(0.2, 0.9), Odds(0.1, 0.2)], [Odds(0.7, 0.8), Odds(0.9, 0.3)], [Odds(0.9, 0.4), Odds(0.5, 0.4)]]
    found = defects.columns(["blur", "shake"], parts)
    assert found == {"defect_blur": 0.7, "defect_shake": None, "defects_answer_share": 0.2}
    assert odds_of([("▁YES", 0.375), ("no.", 0.125), ("yesterday", 0.4)]) == Odds(0.75, 0.5)
    assert odds_of([("maybe", 1.0)]) == Odds(0.5, 0.0)


def test_a_vocabulary_without_the_words() -> None:
    tokenizer = SimpleNamespace(get_vocab=lambda: {"Ġyes": 3, "Yes": 4, "NO": 5, "nor": 6})
    assert word_ids(tokenizer) == {"yes": [3, 4], "no": [5]}
    with pytest.raises(ValueError, match="no token 'no'"):
        word_ids(SimpleNamespace(get_vocab=lambda: {"yes": 1}))


def test_what_a_recipe_may_say() -> None:
    item = {"op": "defects", "engine": "transformers", "model": {"uri": "/models/vlm"}}
    (operator,) = build_models(parse_recipe({"recipe": "r", "models": [{**item, "questions": {"smoke": "Smoke?"}}]}))
    assert operator_class("defects") is type(operator) is Defects
    assert [column.name for column in operator.writes][:2] == ["defect_smoke", "defects_answer_share"]
    assert [need.weights.uri for need in operator.needs] == ["/models/vlm"]
    assert len(Defects(engine="vllm", model=LocalModel(uri="m")).questions) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "transformers"}, "engine 'transformers' needs 'model'"),
        ({"engine": "openai", "model": {"uri": "m"}}, "engine 'openai' has no 'model'"),
        ({"engine": "vllm", "model": {"uri": "m"}, "questions": {"Bad name": "?"}}, "'Bad name' names a column"),
        ({"engine": "vllm", "model": {"uri": "m"}, "questions": {}}, "questions is empty"),
        ({"engine": "measured"}, 'engine: "measured"'),
    ],
)
def test_what_a_recipe_may_not_say(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe({"recipe": "r", "models": [{"op": "defects", **options}]})


def test_what_makes_it_another_operator() -> None:
    one = Defects(engine="openai", server=Server(url="http://a/v1", model="m"))
    assert one.server is not None
    assert identity(one) == identity(replace(one, server=replace(one.server, url="http://b/v1", num_parallel=99)))
    assert identity(one) != identity(replace(one, server=replace(one.server, model="n")))
    assert identity(one) != identity(replace(one, questions={"shake": "Does it shake?"}))
    spoken = "".join(defects.prompts()[name] for name in ("system", "opening", "closing"))
    digest = hashlib.sha256(" ".join(spoken.split()).encode()).hexdigest()[:8]
    assert (Defects.version, digest) == (1, "08d18841"), "raise the version when the frame of the questions changes"
