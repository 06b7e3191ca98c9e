# SPDX-License-Identifier: Apache-2.0
"""Heads and topics on stored embeddings, against the published layouts and the libraries' own calls."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from operators.contract import Operator
from operators.heads import Aesthetic, FrameHead, Nsfw
from operators.state_dicts import read_state
from operators.topics import Topics, themes

# The published modules, with the paddings between the layers that give them their numbers (torch.nn names).
AESTHETIC: list[Any] = [(768, 1024), "Dropout", (1024, 128), "Dropout", (128, 64), "Dropout", (64, 16), (16, 1)]
NSFW: list[Any] = [(1024, 1024), "ReLU", "Dropout", (1024, 2048), "ReLU", "Dropout", (2048, 1024), "ReLU", "Dropout"]
NSFW += [(1024, 256), "ReLU", "Dropout", (256, 128), "ReLU", "Dropout", (128, 16), (16, 1)]


def published(layers: list[Any]) -> Any:
    """A module whose only child is called `layers`, as published, with random weights."""
    import torch

    torch.manual_seed(0)
    built = [getattr(torch.nn, part)() if isinstance(part, str) else torch.nn.Linear(*part) for part in layers]
    module = torch.nn.Module()
    module.layers = torch.nn.Sequential(*built)
    return module.eval()


def embedded(size: int, *num_frames: int | None) -> pa.Table:
    rng = np.random.default_rng(0)
    clips = [None if num is None else rng.standard_normal((num, size)).astype(np.float32) for num in num_frames]
    unit = [None if clip is None else list(clip / np.linalg.norm(clip, axis=1, keepdims=True)) for clip in clips]
    ids = [f"c{i}" for i in range(len(clips))]
    return pa.table({"clip_id": ids, "embedding_frames": pa.array(unit, pa.list_(pa.list_(pa.float32())))})


def run(operator: Operator, table: pa.Table) -> list[dict[str, Any]]:
    return operator.process(operator.setup(), table).to_pylist()


@pytest.mark.parametrize(
    ("head", "layers", "suffix"),
    [(Aesthetic, AESTHETIC, "pth"), (Aesthetic, AESTHETIC, "safetensors"), (Nsfw, NSFW, "pth")],
)
def test_a_head_computes_what_the_published_module_does(
    head: type[FrameHead], layers: list[Any], suffix: str, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    module, path = published(layers), tmp_path / f"head.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(module.state_dict(), path)
    table = embedded(head.layers[0].inputs, 3, None, 1)
    rows = run(head(weights=str(path)), table)
    with torch.no_grad():
        wanted = module.layers(torch.tensor(table["embedding_frames"][0].as_py()))[:, 0].numpy()
    name = head.name
    np.testing.assert_allclose(rows[0][f"{name}_samples"], wanted, atol=1e-5)
    if head is Aesthetic:
        assert (rows[0]["aesthetic_mean"], rows[0]["aesthetic_min"]) == pytest.approx((wanted.mean(), wanted.min()))
    else:
        assert rows[0]["nsfw_max"] == pytest.approx(wanted.max())
    assert len(rows[0][f"{name}_weights_hash"]) == 64
    assert rows[1][f"{name}_samples"] is None
    assert rows[1][f"{name}_weights_hash"] is None


def test_foreign_weights_and_embeddings_are_named(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "head.pth"
    torch.save(published(NSFW).state_dict(), path)
    with pytest.raises(ValueError, match=r"no weights of aesthetic: layers.0.weight is .1024, 1024., not .1024, 768."):
        Aesthetic(weights=str(path)).setup()
    with pytest.raises(ValueError, match="has 512 numbers, the head wants 1024: it was trained on OpenCLIP's ViT-H/14"):
        run(Nsfw(weights=str(path)), embedded(512, 1))
    torch.save({"state_dict": published(NSFW)}, path)  # a pickled module: code of a stranger
    with pytest.raises(ValueError, match="not a state dict that can be read safely"):
        read_state(path)


def tiny_open_clip(folder: Path) -> None:
    import torch
    from open_clip import CLIP
    from safetensors.torch import save_file

    vision: Any = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text: Any = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    torch.manual_seed(0)
    tensors = {name: t.contiguous().clone() for name, t in CLIP(24, vision, text).state_dict().items()}
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}}
    config["preprocess_cfg"] = {"mean": [0.5] * 3, "std": [0.2] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "open_clip_model.safetensors")


def tiny_clip(folder: Path) -> None:
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    letters = [chr(c) for c in range(97, 123)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters), ".</w>"]
    CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[]).save_pretrained(folder)
    shape: Any = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = shape | {"vocab_size": len(words), "max_position_embeddings": 40, "bos_token_id": 0, "eos_token_id": 1}
    vision = shape | {"image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)


def library_texts(backend: str, folder: Path, texts: list[str]) -> np.ndarray:
    """The call that the library's documentation shows."""
    import torch

    if backend == "open_clip":
        import open_clip

        loaded: Any = open_clip.create_model_from_pretrained(f"local-dir:{folder}", return_transform=False)
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        with torch.no_grad():
            return loaded.eval().encode_text(tokenizer(texts), normalize=True).numpy()
    from transformers import AutoTokenizer, CLIPModel

    inputs = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        features: Any = CLIPModel.from_pretrained(folder).eval().get_text_features(**inputs)
    return torch.nn.functional.normalize(features.pooler_output, dim=-1).numpy()


@pytest.mark.parametrize("backend", ["open_clip", "transformers"])
def test_topics_are_the_nearest_sentences(backend: Any, tmp_path: Path) -> None:
    (tiny_open_clip if backend == "open_clip" else tiny_clip)(tmp_path)
    table = embedded(24, 2, None)
    model = f"local-dir:{tmp_path}" if backend == "open_clip" else str(tmp_path)
    first, failed = run(Topics(backend=backend, model=model), table)
    topics = themes()["genre"]
    vectors = library_texts(backend, tmp_path, [f"a photo of {topic}." for topic in topics])
    clip = np.mean(table["embedding_frames"][0].as_py(), axis=0)
    cosines = vectors @ clip / np.linalg.norm(clip)
    assert first["topic_genre"] == topics[int(cosines.argmax())]
    assert first["topic_genre_cosine"] == pytest.approx(cosines.max(), abs=1e-4)
    assert 1 / len(topics) <= first["topic_genre_probability"] <= 1
    assert failed["topic_genre"] is None
    with pytest.raises(ValueError, match=r"has 7 numbers.*give topics the checkpoint of `embedding`"):
        run(Topics(backend=backend, model=model), embedded(7, 1))


def test_the_list_of_topics_is_whole() -> None:
    assert len(themes()) == 7
    assert 100 <= sum(map(len, themes().values())) <= 130
    assert all(len(set(topics)) == len(topics) for topics in themes().values())
    with pytest.raises(ValueError, match=r"must hold .. once"):
        Topics(backend="transformers", model="m", template="a photo")
