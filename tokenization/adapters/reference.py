# SPDX-License-Identifier: Apache-2.0
"""The reference tokenizer as a recipe names it."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from reelmill.residual import PATCH_T, ResidualCodebook
from reelmill.tokens import TokenizerSpec
from tokenization.contract import Codec, Payload, SizedTokenizer
from tokenization.reference import MULTIPLE, ReferenceTokenizer, codebook_file, reference_spec


@dataclass(frozen=True, kw_only=True)
class Reference(SizedTokenizer):
    """Fitted, weight-free, always works (`tokenization.reference`). Windows have 1 + 4 n frames.

    Args:
        codebook: file made by `fit-tokenizer`; null: the shipped one.

    Raises:
        ValueError: a codebook that does not exist or is none, an illegal window.
    """

    name: ClassVar[str] = "reference"
    exact: ClassVar[bool] = True

    codebook: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        codebook_file(self.codebook)
        self.time(PATCH_T, 1)

    @cached_property
    def _codebook(self) -> ResidualCodebook:
        return ResidualCodebook.from_bytes(codebook_file(self.codebook).read_bytes())

    @cached_property
    def spec(self) -> TokenizerSpec:
        return reference_spec(self._codebook, self.time(PATCH_T, 1), self.input_rule(MULTIPLE))

    def load(self) -> "ReferenceCodec":
        return ReferenceCodec(self.spec, ReferenceTokenizer(self._codebook, self.time(PATCH_T, 1)))

    def files_to_ship(self) -> dict[str, bytes]:
        return {"codebook.npz": codebook_file(self.codebook).read_bytes()}


class ReferenceCodec(Codec):
    """Names the columns of `ReferenceTokenizer`."""

    def __init__(self, spec: TokenizerSpec, tokenizer: ReferenceTokenizer) -> None:
        self.spec, self.tokenizer = spec, tokenizer

    def encode(self, frames_THWC: np.ndarray) -> Payload:
        ids = self.tokenizer.encode(frames_THWC)
        return {self.spec.streams[0].column(k): ids_thw for k, ids_thw in enumerate(ids)}

    def decode(self, payload: Payload, upto_scale: int | None = None) -> np.ndarray:
        return self.tokenizer.decode(self._ids(payload), upto_scale)

    def psnr_per_scale(self, frames_THWC: np.ndarray, payload: Payload) -> list[float]:
        return self.tokenizer.psnr_per_scale(frames_THWC, self._ids(payload))

    def _ids(self, payload: Payload) -> list[np.ndarray]:
        return [payload[self.spec.streams[0].column(k)] for k in range(len(self.spec.streams[0].scales))]
