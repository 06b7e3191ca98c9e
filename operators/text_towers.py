# SPDX-License-Identifier: Apache-2.0
"""Text encoders that share a space with an image tower: open_clip's, and CLIP and SigLIP of transformers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.image_towers import checkpoint_folder, checkpoint_hash, open_clip_files, open_clip_here
from operators.weights import files_hash


@dataclass(frozen=True, slots=True)
class TextTower:
    """A loaded text encoder.

    Args:
        scale: what a cosine is multiplied by before a softmax, as the model was trained.
        weights_hash: as of the image tower of the same checkpoint.
        max_tokens: the model's context length.
        count: tokens of a text, special ones among them, however many.
        encode: texts -> float32 [N, D], rows of length 1. Texts are cut at the model's context length.
    """

    scale: float
    weights_hash: str
    max_tokens: int
    count: Callable[[str], int]
    encode: Callable[[Sequence[str]], np.ndarray]


def open_clip_texts(model: str, weights: str | None) -> TextTower:
    """The text tower of an open_clip model. Raises as `image_towers.open_clip_tower`."""
    import open_clip
    import torch

    model, weights = open_clip_here(model, weights)
    weights_hash = files_hash(open_clip_files(model, weights))
    loaded: Any = open_clip.create_model_from_pretrained(
        model, pretrained=weights, precision="fp32", weights_only=True, return_transform=False
    )
    network = loaded.eval()
    tokenizer: Any = open_clip.get_tokenizer(model)

    def encode(texts: Sequence[str]) -> np.ndarray:
        with torch.inference_mode():
            return network.encode_text(tokenizer(list(texts)), normalize=True).float().numpy()

    def count(text: str) -> int:
        if hasattr(tokenizer, "encode"):  # open_clip's own, which counts no special tokens
            return len(tokenizer.encode(text)) + 2
        return len(tokenizer.tokenizer(text).input_ids)

    scale = network.logit_scale.exp().item()
    return TextTower(scale, weights_hash, network.context_length, count, encode)


def transformers_texts(model: str, revision: str | None) -> TextTower:
    """The text tower of a CLIP or SigLIP checkpoint of transformers with both towers and a tokenizer.

    Raises:
        ValueError: the checkpoint has no text tower.
        FileNotFoundError: it is not on this machine.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = checkpoint_folder(model, revision)
    network: Any = AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False).eval()
    if not hasattr(network, "get_text_features"):
        raise ValueError(f"topics: {folder} has no text tower; give the checkpoint with both towers")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    length = network.config.text_config.max_position_embeddings

    def encode(texts: Sequence[str]) -> np.ndarray:
        # SigLIP was trained on texts padded to the full length
        inputs = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            features: Any = network.get_text_features(**inputs)
        vectors = getattr(features, "pooler_output", features)
        return torch.nn.functional.normalize(vectors.float(), dim=-1).numpy()

    def count(text: str) -> int:
        return len(tokenizer(text).input_ids)

    return TextTower(network.logit_scale.exp().item(), checkpoint_hash(folder), length, count, encode)
