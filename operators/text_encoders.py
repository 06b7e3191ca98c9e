# SPDX-License-Identifier: Apache-2.0
"""Text encoders that generators are conditioned on: the encoders of T5 and UMT5, and CLIP's text tower."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from operators.image_towers import checkpoint_folder, checkpoint_hash

Family = Literal["t5", "umt5", "clip"]
CLASSES = {"t5": "T5EncoderModel", "umt5": "UMT5EncoderModel", "clip": "CLIPTextModel"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder makes of one text.

    Attributes:
        num_tokens: of the whole text, special tokens among them.
        states_LD: bfloat16 bits (uint16), last hidden state of the tokens that fit, no padding.
        pooled_D: likewise, CLIP's pooled state; null for T5.
    """

    num_tokens: int
    states_LD: np.ndarray
    pooled_D: np.ndarray | None


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A loaded encoder.

    Attributes:
        weights_hash: 64 hex digits: sha256 over the checkpoint's files.
        max_tokens: tokens that are kept of a text.
        encode: texts -> what it makes of each.
    """

    weights_hash: str
    max_tokens: int
    encode: Callable[[Sequence[str]], list[Encoded]]


def load_encoder(
    family: Family, model: str, revision: str | None, max_tokens: int, precision: str, device: str
) -> TextEncoder:
    """Loads an encoder and its tokenizer.

    Args:
        model: a folder, a hub id whose revision is on this machine, or `hf://ORG/NAME@COMMIT`, `s3://bucket/folder/`.
        max_tokens: of a text; CLIP's own context length if that is less.
        precision: bf16 or fp32, of the computation; what is kept is bf16.

    Raises:
        ValueError: weights are missing from the files.
        FileNotFoundError: the checkpoint is not on this machine.
    """
    from transformers import AutoTokenizer

    folder = checkpoint_folder(model, revision)
    network: Any = _network(family, folder, precision).to(device)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if family == "clip":
        max_tokens = min(max_tokens, network.config.max_position_embeddings)

    def encode(texts: Sequence[str]) -> list[Encoded]:
        return _encode(network, tokenizer, list(texts), max_tokens)

    return TextEncoder(checkpoint_hash(folder), max_tokens, encode)


def _network(family: Family, folder: Path, precision: str) -> Any:
    import torch
    import transformers

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    cls: Any = getattr(transformers, CLASSES[family])
    network, loaded = cls.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, dtype=dtype, output_loading_info=True
    )
    if missing := sorted(loaded["missing_keys"]):
        raise ValueError(f"text_features: {folder} lacks {len(missing)} weights of {cls.__name__}: {missing[:3]} ...")
    return network.eval()


def _encode(network: Any, tokenizer: Any, texts: list[str], max_tokens: int) -> list[Encoded]:
    import torch

    lengths = [len(ids) for ids in tokenizer(texts, verbose=False).input_ids]
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
    inputs = {name: inputs[name].to(network.device) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        output = network(**inputs)
    pooled = getattr(output, "pooler_output", None)
    found = []
    for row, mask_L in enumerate(inputs["attention_mask"].bool()):
        states_LD = _bits(output.last_hidden_state[row][mask_L])
        found.append(Encoded(lengths[row], states_LD, None if pooled is None else _bits(pooled[row])))
    return found


def _bits(tensor: Any) -> np.ndarray:
    """bfloat16 as uint16, for numpy has no such type."""
    import torch

    return tensor.to(torch.bfloat16).cpu().contiguous().view(torch.uint16).numpy()
