# SPDX-License-Identifier: Apache-2.0
"""The visual tokenizer of Emu3 (arXiv 2409.18869), by transformers: a grid of ids, 4 x 8 x 8 pixels each."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from reelmill.tokens import Scale, Stream, TokenizerSpec
from tokenization.contract import Payload
from tokenization.networks import NetworkCodec, NetworkTokenizer, torch_dtype


@dataclass(frozen=True, kw_only=True)
class Emu3(NetworkTokenizer):
    """Ids [t, h, w] of `Emu3VQVAE`; windows of 4 n frames, a still is shown four times, as the class does."""

    name: ClassVar[str] = "emu3"
    classes: ClassVar[tuple[str, ...]] = ("Emu3VQVAE", "emu3_vqgan")

    @cached_property
    def spec(self) -> TokenizerSpec:
        by_t = self.setting("temporal_downsample_factor")
        by = 2 ** (len(self.setting("channel_multiplier")) - 1)
        stream = Stream("pixel", "ids", (Scale(reduce=(1, 1, 1)),), (by_t, by, by), vocab=self.setting("codebook_size"))
        return TokenizerSpec(
            name="emu3",
            family="vq",
            input=self.input_rule(by, (-1.0, 1.0)),
            time=self.time(by_t, 0, repeats_stills=True),
            streams=(stream,),
            combine="single",
            decode={"kind": "transformers", "class": "Emu3VQVAE", "call": "decode(ids)"},
            **self.stated(),
        )

    def load(self) -> "Emu3Codec":
        from transformers.models.emu3 import Emu3VQVAE

        return Emu3Codec(
            self, Emu3VQVAE.from_pretrained(self.folder, use_safetensors=True, dtype=torch_dtype(self.dtype))
        )


class Emu3Codec(NetworkCodec):
    """See `Emu3`. The class takes [B, T, C, H, W]."""

    def encode(self, frames_THWC: np.ndarray) -> Payload:
        import torch

        frames_1TCHW = self.pixels_in(frames_THWC).transpose(1, 2)
        # The class cuts ids to the image's size, of a video along time and rows: a size that cuts nothing.
        ids_thw = self.module.encode(frames_1TCHW, torch.tensor([[1 << 20, 1 << 20]])).image_tokens[0]
        return {"tokens_pixel_s0": ids_thw.cpu().numpy()}

    def decode(self, payload: Payload, upto_scale: int | None = None) -> np.ndarray:
        return self.pixels_out(self.module.decode(self.tensor(payload["tokens_pixel_s0"])).transpose(1, 2))
