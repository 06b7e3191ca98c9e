# SPDX-License-Identifier: Apache-2.0
"""Tokenizers that a recipe may name, and where they live. Nothing is imported until a name is asked for."""

from difflib import get_close_matches
from importlib import import_module

from tokenization.contract import Tokenizer

TOKENIZERS: dict[str, str] = {
    "reference": "tokenization.adapters.reference:Reference",
    "pixels": "tokenization.adapters.pixels:Pixels",
    "vidtok": "tokenization.adapters.vidtok:VidTok",
    "diffusers_vae": "tokenization.adapters.diffusers_vae:DiffusersVae",
    "emu3": "tokenization.adapters.emu3:Emu3",
    "hieratok": "tokenization.adapters.hieratok:HieraTok",
    "torchscript": "tokenization.adapters.torchscript:TorchScript",
    "code": "tokenization.adapters.code:Code",
}


def tokenizer_class(name: str) -> type[Tokenizer]:
    """The tokenizer called `name`. Raises ValueError with the nearest known name."""
    if name not in TOKENIZERS:
        near = get_close_matches(name, TOKENIZERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(TOKENIZERS)}"
        raise ValueError(f"unknown tokenizer {name!r}; {hint}")
    module, _, attribute = TOKENIZERS[name].partition(":")
    return getattr(import_module(module), attribute)
