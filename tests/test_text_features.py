# SPDX-License-Identifier: Apache-2.0
"""Text features against the libraries' documented calls, with tiny random checkpoints read by the real paths."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from operators.text_encoders import CLASSES
from operators.text_features import TextFeatures
from reelmill.captions import EMPTY, MAIN_TEXTS, Captions, Renderings, rendering_rows
from reelmill.tables import CAPTION_TEXTS
from reelmill.views import View
from tests.test_heads import tiny_open_clip
from tests.test_mill import mill, moving_texture, rows
from tests.videos import write_video

MAX_TOKENS = 24
SHAPE: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}


def save_encoder(folder: Path, family: str) -> Path:
    """A random checkpoint with a tokenizer of letters and marks that ends each text as the family does."""
    import torch
    import transformers as hf
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    marks = ["<pad>", "<s>", "</s>", "<unk>"]
    words = [*marks, *(chr(c) for c in range(32, 127))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    template = "<s> $A </s>" if family == "clip" else "$A </s>"
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    ends = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ends).save_pretrained(folder)
    torch.manual_seed(0)
    if family == "clip":
        clip: Any = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        ids: Any = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": MAX_TOKENS}
        network: Any = hf.CLIPTextModel(hf.CLIPTextConfig(vocab_size=len(words), **clip, **ids))
    else:
        config: Any = hf.T5Config if family == "t5" else hf.UMT5Config
        network = getattr(hf, CLASSES[family])(config(vocab_size=len(words), **SHAPE, feed_forward_proj="gated-gelu"))
    network.save_pretrained(folder)
    return folder


def library(folder: Path, family: str, text: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The call that the library's documentation shows, one text at a time."""
    import torch
    import transformers as hf

    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    network: Any = getattr(hf, CLASSES[family]).from_pretrained(folder).eval()
    inputs = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    with torch.no_grad():
        output = network(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask)
    pooled = getattr(output, "pooler_output", None)
    return output.last_hidden_state[0].numpy(), None if pooled is None else pooled[0].numpy()


def floats(stored: bytes, shape: list[int]) -> np.ndarray:
    return (np.frombuffer(stored, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)


TEXTS = {name: f"{name} of a boat." if name != "Background" else None for name in CAPTION_TEXTS}
TEXTS["Summarized Description"] = "A boat leaves the harbour and sails out to sea."


def captions(*ids: str) -> pa.Table:
    return pa.Table.from_pylist([{"clip_id": i, "source_id": "s", **TEXTS} for i in ids])


@pytest.mark.parametrize("family", list(CLASSES))
def test_features_are_the_librarys_last_hidden_state(family: Any, tmp_path: Path) -> None:
    save_encoder(tmp_path, family)
    operator = TextFeatures(family=family, model=str(tmp_path), max_tokens=MAX_TOKENS, precision="fp32", batch_size=3)
    table = rendering_rows(captions("a", "b"), operator.renderings, with_empty=True)
    found = operator.process(operator.setup(), table).to_pylist()
    assert [row["rendering"] for row in found] == [*MAIN_TEXTS, *MAIN_TEXTS, EMPTY]
    num_special = 2 if family == "clip" else 1
    for row in found:
        states_LD, pooled_D = library(tmp_path, family, row["rendered_text"])
        assert row["embedding_shape"] == list(states_LD.shape)
        np.testing.assert_allclose(floats(row["embedding"], row["embedding_shape"]), states_LD, rtol=2**-8, atol=1e-4)
        assert (row["pooled_embedding"] is None) == (pooled_D is None) == (family != "clip")
        if pooled_D is not None:
            np.testing.assert_allclose(floats(row["pooled_embedding"], [-1]), pooled_D, rtol=2**-8, atol=1e-4)
        assert row["num_tokens"] == len(row["rendered_text"]) + num_special
        assert row["is_truncated"] == (row["num_tokens"] > MAX_TOKENS)
        assert row["embedding_shape"][0] == min(MAX_TOKENS, row["num_tokens"])
    assert list(operator.told([pa.Table.from_pylist(found)])) == [
        f"2 of 2 captions on {name} are longer than {MAX_TOKENS} tokens and were cut" for name in MAIN_TEXTS
    ]


def test_a_missing_weight_is_an_error(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_encoder(tmp_path, "t5")
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("encoder.final_layer_norm.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights of T5EncoderModel"):
        TextFeatures(family="t5", model=str(tmp_path)).setup()


def test_renderings_are_what_the_reader_may_draw() -> None:
    found = Renderings().rows(captions("a"))
    assert [row["rendering"] for row in found] == list(MAIN_TEXTS)
    drawn = {Captions().choose(TEXTS, np.random.default_rng(seed)) for seed in range(300)}
    for row in found:
        assert (row["rendered_text"], tuple(row["rendered_fields"])) in drawn
        assert row["rendered_fields"][0] == row["rendering"]
        assert len(row["rendered_fields"]) == 2
    assert Renderings().rows(captions("a")) == found
    extras = {row["rendered_fields"][1] for row in Renderings().rows(captions(*map(str, range(60))))}
    assert extras == set(CAPTION_TEXTS) - set(MAIN_TEXTS) - {"Background"}  # each has its turn, none that is null
    assert Renderings(seed=1).rows(captions(*"abcdef")) != Renderings().rows(captions(*"abcdef"))


def test_a_run_scores_and_encodes_its_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "footage").mkdir()
    (tmp_path / "clip").mkdir()
    write_video(tmp_path / "footage" / "plain.mp4", moving_texture(3, 24), fps=24)
    tiny_open_clip(tmp_path / "clip")
    model, clip = save_encoder(tmp_path / "t5", "t5"), f"backend: open_clip, model: 'local-dir:{tmp_path}/clip'"
    features = f"{{op: text_features, family: t5, model: {model}, max_tokens: {MAX_TOKENS}}}"
    change = (
        f"models=[{{op: embedding, {clip}}}]",
        f"after_captions=[{features}, {{op: video_clip_score, {clip}, text: Brief Description}}]",
        "rules.freeze={name: match, column: video_clip_score, min: 1, gate: captions, tier: condition_only}",
        "tokens.0.heights=[64]",
        "tokens.0.max_frames=5",
    )
    run = mill(tmp_path / "set", tmp_path / "footage", *change)
    found = rows(run, run.after_captions["text_features"].rel)
    clips = {row["clip_id"] for row in rows(run, run.captions.rel)}
    assert {row["clip_id"] for row in found} == {*clips, ""}
    assert [row["rendering"] for row in found if not row["clip_id"]] == [EMPTY]
    assert "text_features: 1 of 1 captions on Summarized Description are longer than 24" in capsys.readouterr().err
    assert len(run.manifest["truncated"]["text_features"]) == 2  # the measured texts lack a detailed description
    assert run.manifest["tables"]["text"] == [run.after_captions["text_features"].rel]

    (score,) = rows(run, run.manifest["tables"]["scores"]["video_clip_score"])
    assert -1 < score["video_clip_score"] < 1
    (reason,) = [r for row in rows(run, run.selection.rel) for r in row["reasons"] if r["rule"] == "match"]
    assert reason["value"] == score["video_clip_score"]
    view = View.load(run.store.root)
    assert view.attributes(view.units("selection")[0], ["video_clip_score"])["video_clip_score"].to_pylist() == [
        score["video_clip_score"]
    ]
    assert not mill(tmp_path / "set", tmp_path / "footage", *change).did_work
