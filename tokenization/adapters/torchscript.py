# SPDX-License-Identifier: Apache-2.0
"""Tokenizers shipped as a pair of TorchScript files, as NVIDIA's Cosmos ones are: `encoder.jit` and `decoder.jit`."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from reelmill.tokens import Scale, Stream, TokenizerSpec
from tokenization.contract import Payload
from tokenization.networks import NetworkCodec, NetworkTokenizer, torch_dtype

FILES = ("encoder.jit", "decoder.jit")


@dataclass(frozen=True, kw_only=True)
class TorchScript(NetworkTokenizer):
    """Ids [t, h, w] or latents [C, t, h, w] of windows of 1 + k n frames.

    The files say nothing about themselves, so the recipe does. Cosmos-0.1-Tokenizer-DV8x8x8: by_frames 8, by_px 8,
    vocab 64000; -CV8x8x8: by_frames 8, by_px 8, channels 16. Their encoders take [B, 3, T, H, W] in -1..1 and give
    (ids, codes) or (latent,); what the file really gives is compared with what was said, window by window. A
    TorchScript file is a program: take it from where you would take code.

    Args:
        by_frames: frames of a position, after the first frame.
        by_px: pixels of a position, across and down.
        vocab: size of the vocabulary, of a tokenizer with ids.
        channels: of a latent, of one without.
        multiple: frame sizes are cut to multiples of it; Cosmos pads to 16.
        store_dtype: of latents in the shards: float16, bfloat16 or float32.

    Raises:
        ValueError: neither or both of `vocab` and `channels`; a folder without the two files.
    Source: NVIDIA/Cosmos-Tokenizer, cosmos_tokenizer/video_lib.py.
    """

    name: ClassVar[str] = "torchscript"
    classes: ClassVar[tuple[str, ...]] = ()

    by_frames: int = 8
    by_px: int = 8
    vocab: int | None = None
    channels: int | None = None
    multiple: int = 16
    store_dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.vocab is None) == (self.channels is None):
            raise ValueError("torchscript: give vocab (a tokenizer with ids) or channels (one with latents)")
        if self.by_frames < 1 or self.by_px < 1 or self.multiple % self.by_px:
            sizes = f"by_frames {self.by_frames}, by_px {self.by_px}, multiple {self.multiple}"
            raise ValueError(f"torchscript: {sizes}: multiple must be one of by_px")

    @cached_property
    def spec(self) -> TokenizerSpec:
        if missing := [name for name in FILES if not (self.folder / name).is_file()]:
            raise ValueError(
                f"weights {self.weights!r}: there is no {missing[0]}; give a folder with {' and '.join(FILES)}"
            )
        what: dict[str, Any] = {"kind": "ids", "vocab": self.vocab}
        if self.channels is not None:
            what = {"kind": "latent", "groups": self.channels, "store_dtype": self.store_dtype, "axes": "GTHW"}
        stride = (self.by_frames, self.by_px, self.by_px)
        return TokenizerSpec(
            name="torchscript",
            family="kl" if self.vocab is None else "vq",
            input=self.input_rule(self.by_px, (-1.0, 1.0)),
            time=self.time(self.by_frames, 1),
            streams=(Stream(name="pixel", scales=(Scale(reduce=(1, 1, 1)),), stride=stride, **what),),
            combine="single",
            decode={"kind": "torchscript", "file": FILES[1]},
            **self.stated(),
        )

    def load(self) -> "TorchScriptCodec":
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # deprecated, and shipped all the same
            encoder, decoder = (torch.jit.load(self.folder / name, map_location=self.device) for name in FILES)
        return TorchScriptCodec(self, torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder}))


class TorchScriptCodec(NetworkCodec):
    """See `TorchScript`."""

    def __init__(self, tokenizer: TorchScript, module: Any) -> None:
        super().__init__(tokenizer, module.to(torch_dtype(tokenizer.dtype)))

    def encode(self, frames_THWC: np.ndarray) -> Payload:
        import torch

        with torch.inference_mode():
            found = self.module["encoder"](self.pixels_in(frames_THWC))
        first = found if isinstance(found, torch.Tensor) else found[0]
        stream = self.spec.streams[0]
        planned = stream.shape(0, self.spec.time, *frames_THWC.shape[:3])
        shape = planned[:3] if stream.kind == "ids" else (planned[3], *planned[:3])
        if tuple(first.shape[1:]) != shape:
            raise ValueError(
                f"torchscript: the encoder gives {tuple(first.shape[1:])} for {frames_THWC.shape[:3]} frames, rows and "
                f"columns, by_frames and by_px say {shape}"
            )
        return {"tokens_pixel_s0": (first[0].float() if stream.kind == "latent" else first[0]).cpu().numpy()}

    def decode(self, payload: Payload, upto_scale: int | None = None) -> np.ndarray:
        import torch

        tokens = np.asarray(payload["tokens_pixel_s0"])
        tokens = tokens.astype(np.float32) if self.spec.streams[0].kind == "latent" else tokens
        with torch.inference_mode():
            return self.pixels_out(self.module["decoder"](self.tensor(tokens)))
