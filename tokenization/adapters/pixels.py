# SPDX-License-Identifier: Apache-2.0
"""`pixels`, the identity: crops of native frames, so that tokenizer trainers use the same shards and readers."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from reelmill.geometry import InputRule
from reelmill.tokens import Scale, Stream, TokenizerSpec
from tokenization.contract import Codec, Payload, Tokenizer
from tokenization.crops import CropRule


@dataclass(frozen=True, kw_only=True)
class Pixels(Tokenizer):
    """uint8 RGB crops, `count` of each window of `max_frames` frames; shorter clips fail, stills need `max_frames` 1.

    Half of a window's crops are the most detailed native tiles of its first frame, the others lie anywhere at one of
    `scales`. Place, scale, kind and seed stand in the row (`crop_box`, `crop_scale`, `crop_kind`, `crop_seed`).

    Args:
        height_px, width_px: of a crop; clips that are smaller fail.
        count: crops per window.
        scales: whole factors of averaging for the crops that lie anywhere.
        seed: of their draw.
    """

    name: ClassVar[str] = "pixels"
    exact: ClassVar[bool] = True

    height_px: int = 256
    width_px: int = 256
    count: int = 4
    scales: tuple[int, ...] = (1, 2, 4)
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.height_px, self.width_px) < 8 or self.count < 1 or not self.scales or min(self.scales) < 1:
            raise ValueError(
                f"crops of {self.width_px}x{self.height_px} pixels, count {self.count}, scales {self.scales}: give 8 "
                "pixels or more, a count and factors of 1 or more"
            )
        if self.stride is not None and self.stride < self.max_frames:
            raise ValueError(f"stride {self.stride} < max_frames {self.max_frames}: windows of pixels may not overlap")
        self.time(self.max_frames, 0)

    @cached_property
    def rule(self) -> CropRule:
        return CropRule(self.height_px, self.width_px, self.count, tuple(self.scales), self.seed)

    @cached_property
    def spec(self) -> TokenizerSpec:
        crops = {
            "height_px": self.height_px,
            "width_px": self.width_px,
            "count": self.count,
            "scales": list(self.scales),
            "seed": self.seed,
            "detailed": "half, most detailed tiles of the first frame",
        }
        return TokenizerSpec(
            name="pixels",
            family="pixels",
            input=InputRule(multiple=1, fit="crops"),
            time=self.time(self.max_frames, 0, repeats_stills=self.max_frames == 1),
            streams=(Stream("pixel", "ids", (Scale(reduce=(1, 1, 1)),), groups=3, vocab=256),),
            combine="single",
            decode={"kind": "identity"},
            runtime={"dtype": "uint8", "tile": None, "overlap": None, "batch": "one crop", "crops": crops},
            licence="the footage's own",
        )

    def load(self) -> "PixelCodec":
        return PixelCodec(self.spec)


class PixelCodec(Codec):
    """The identity."""

    def __init__(self, spec: TokenizerSpec) -> None:
        self.spec = spec

    def encode(self, frames_THWC: np.ndarray) -> Payload:
        return {"tokens_pixel_s0": frames_THWC}

    def decode(self, payload: Payload, upto_scale: int | None = None) -> np.ndarray:
        return payload["tokens_pixel_s0"]
