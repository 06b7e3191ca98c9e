# SPDX-License-Identifier: Apache-2.0
"""VidTok with finite scalar quantization (arXiv 2412.13061), by diffusers: a grid of ids."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from reelmill.tokens import Scale, Stream, TokenizerSpec
from tokenization.contract import Payload
from tokenization.networks import NetworkCodec, NetworkTokenizer, torch_dtype

BATCH_FRAMES = 16  # of models that are not causal: the class encodes so many at a time and drops the rest


@dataclass(frozen=True, kw_only=True)
class VidTok(NetworkTokenizer):
    """Ids [t, h, w] of `AutoencoderVidTok` with regularizer `fsq`.

    Causal models take 1 + 4 n frames; their `encode` wants the first frame repeated in front, which only `forward` of
    the class does by itself (17 frames would come back as 13). Others take 16 n frames.
    """

    name: ClassVar[str] = "vidtok"
    classes: ClassVar[tuple[str, ...]] = ("AutoencoderVidTok",)

    @property
    def strides(self) -> tuple[int, int]:
        """(frames, pixels) of a position."""
        levels = len(self.setting("ch_mult"))
        tempo, space = self.setting("tempo_ds"), self.setting("spatial_ds")
        return 2 ** (2 if tempo is None else len(tempo)), 2 ** (levels - 1 if space is None else len(space))

    @cached_property
    def spec(self) -> TokenizerSpec:
        if self.setting("regularizer") != "fsq":
            raise ValueError(f"weights {self.weights!r}: regularizer is {self.setting('regularizer')!r}, not 'fsq'")
        (by_t, by), is_causal = self.strides, self.setting("is_causal")
        stream = Stream("pixel", "ids", (Scale(reduce=(1, 1, 1)),), (by_t, by, by), vocab=self.setting("codebook_size"))
        return TokenizerSpec(
            name="vidtok",
            family="fsq",
            input=self.input_rule(by, (-1.0, 1.0)),
            time=self.time(by_t, 1) if is_causal else self.time(BATCH_FRAMES, 0),
            streams=(stream,),
            combine="single",
            decode={"kind": "diffusers", "class": "AutoencoderVidTok", "call": "decode(ids, decode_from_indices=True)"},
            **self.stated(),
        )

    def load(self) -> "VidTokCodec":
        from diffusers import AutoencoderVidTok  # type: ignore[attr-defined]

        return VidTokCodec(
            self,
            AutoencoderVidTok.from_pretrained(self.folder, use_safetensors=True, torch_dtype=torch_dtype(self.dtype)),
        )


class VidTokCodec(NetworkCodec):
    """See `VidTok`."""

    def encode(self, frames_THWC: np.ndarray) -> Payload:
        if self.spec.time.head:
            before = np.repeat(frames_THWC[:1], self.spec.time.unit - 1, axis=0)
            frames_THWC = np.concatenate([before, frames_THWC])
        frames_1CTHW = self.pixels_in(frames_THWC)
        _, ids_1thw = self.module.encode(frames_1CTHW)
        return {"tokens_pixel_s0": ids_1thw[0].cpu().numpy()}

    def decode(self, payload: Payload, upto_scale: int | None = None) -> np.ndarray:
        ids_1thw = self.tensor(payload["tokens_pixel_s0"]).int()
        return self.pixels_out(self.module.decode(ids_1thw, decode_from_indices=True))
