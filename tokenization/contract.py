# SPDX-License-Identifier: Apache-2.0
"""What a tokenizer is to the `tokenize` operator: a configuration that knows its spec, and a loaded codec.

A `Tokenizer` is a frozen dataclass; its fields are the keys of an item of the recipe's `tokens`. It answers `spec` and
`plan` without loading anything. A `Codec` turns one window of frames into payload columns and back. A payload maps
column names (`tokens_<stream>_s<k>`) to arrays as `reelmill.streams.pack` takes them: ids of any integer type, bits
as packed uint8, latents as float, axes as the stream says.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from operators.contract import Resources
from reelmill.geometry import InputRule, TimeRule
from reelmill.tokens import TokenizerSpec

Payload = dict[str, np.ndarray]


class Codec(ABC):
    """A loaded tokenizer."""

    spec: TokenizerSpec

    @abstractmethod
    def encode(self, frames_THWC: np.ndarray) -> Payload:
        """The payload of one window of a legal length and size, uint8 RGB; range and layout are the codec's matter."""

    @abstractmethod
    def decode(self, payload: Payload, upto_scale: int | None = None) -> np.ndarray:
        """Frames uint8 [T, H, W, 3] from a payload, or from its coarse scales where the spec's prefix allows it."""

    def psnr_per_scale(self, frames_THWC: np.ndarray, payload: Payload) -> list[float]:
        """PSNR in dB over all RGB values, decoded up to each scale that can be; at most 99."""
        num = len(self.spec.streams[0].scales) if self.spec.prefix != "none" else 1
        steps = range(num) if num > 1 else [None]
        return [psnr_db(self.decode(payload, step), frames_THWC) for step in steps]


@dataclass(frozen=True, kw_only=True)
class Tokenizer(ABC):
    """Settings that every tokenizer has.

    Args:
        max_frames: longest window; the longest legal length not above it is used.
        stride: frames between the starts of two windows; null: no frame comes twice.
        frame_policy: `native`, or frames per second to resample to by the nearest time stamp.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = False  # same bytes on any machine of one kind, whatever the batch
    resources: ClassVar[Resources] = Resources(num_cpus=1.0, memory_gb=3.0)

    max_frames: int = 17
    stride: int | None = None
    frame_policy: str | float = "native"

    def time(self, unit: int, head: int, **options: Any) -> TimeRule:
        """The window rule of a tokenizer whose legal lengths are head + unit * n; `options` override the recipe."""
        policy = self.frame_policy if isinstance(self.frame_policy, str) else float(self.frame_policy)
        recipe = {"max_frames": self.max_frames, "stride": self.stride, "frame_policy": policy}
        return TimeRule(unit=unit, head=head, **{**recipe, **options})

    @cached_property
    @abstractmethod
    def spec(self) -> TokenizerSpec:
        """Everything that decides a token. Must not load weights into memory to answer."""

    @abstractmethod
    def load(self) -> Codec:
        """Once per worker."""

    def files_to_ship(self) -> dict[str, bytes]:
        """Small files that belong beside the shards: what decodes them."""
        return {}


@dataclass(frozen=True, kw_only=True)
class SizedTokenizer(Tokenizer):
    """A tokenizer that encodes whole frames, at one or several sizes.

    Args:
        heights: sizes of the short side to encode at, as in 720p, never above the clip's own; a clip smaller than all
            of them is encoded at the next smaller standard size.
        areas: in place of heights: sizes as the side of a square of the same area, whose buckets have any aspect up to
            4:1, as in PixArt-Sigma; [2880] is its 4K table.
        multiple: sides of buckets are multiples of it, such as 64 for a generator's patches; null: the tokenizer's own.
        pad: what is more than a multiple is padded to the next one by repeating edges, and nothing is cut off.
    """

    heights: tuple[int, ...] = (360, 720)
    areas: tuple[int, ...] = ()
    multiple: int | None = None
    pad: bool = False

    def __post_init__(self) -> None:
        for name, sizes in (("heights", self.heights), ("areas", self.areas or (16,))):
            if not sizes or min(sizes) < 16:
                raise ValueError(f"{name} is {sizes}; give sizes of 16 pixels or more")

    def input_rule(self, own_multiple: int, value_range: tuple[float, float] = (0.0, 255.0)) -> InputRule:
        """The spec's input rule, as the recipe asks for it. Raises ValueError for a multiple that the network lacks."""
        multiple = self.multiple or own_multiple
        if multiple % own_multiple:
            raise ValueError(f"multiple is {multiple}; this tokenizer needs multiples of {own_multiple}")
        return InputRule(
            multiple=multiple,
            heights=() if self.areas else tuple(self.heights),
            areas=tuple(self.areas),
            value_range=value_range,
            fit="area_pad" if self.pad else "area_center_crop",
        )


def psnr_db(decoded_THWC: np.ndarray, frames_THWC: np.ndarray) -> float:
    """PSNR of two uint8 arrays of one shape; at most 99."""
    assert decoded_THWC.shape == frames_THWC.shape, f"decoded {decoded_THWC.shape} from {frames_THWC.shape}"
    mean = squared_error(decoded_THWC, frames_THWC) / frames_THWC.size
    return float(10 * np.log10(255.0**2 / max(mean, 255.0**2 / 10**9.9)))


def squared_error(a: np.ndarray, b: np.ndarray) -> int:
    """Sum of squared differences of two uint8 arrays."""
    import cv2

    return round(cv2.norm(a.ravel(), b.ravel(), cv2.NORM_L2SQR))  # added up in integers, then a root and its square
