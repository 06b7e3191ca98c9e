# SPDX-License-Identifier: Apache-2.0
"""Small networks on the stored embeddings of frames: aesthetics and nudity. Nothing is decoded again."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources
from operators.embedding import FRAMES
from operators.state_dicts import fitting, read_state
from operators.weights import Need, Weights, locate, weights_hash
from reelmill.column import Column
from reelmill.tables import CLIP_ID, STATE

_FAILED = "null if the clip has no embedding"


class Linear(NamedTuple):
    """One layer of a published stack: its number in the state dict, its size, and whether a ReLU follows."""

    index: int
    inputs: int
    outputs: int
    is_activated: bool = False


Head = Callable[[np.ndarray], np.ndarray]  # float32 [T, D] -> [T]


@dataclass(frozen=True, kw_only=True)
class FrameHead(Operator):
    """A stack of linear layers over `embedding_frames`; a value per frame, their mean and extreme over the clip.

    Args:
        weights: where the published weights are: a path, s3://, or hf://ORG/NAME@COMMIT/FILE.
        sha256: of that file; null: not checked.

    Raises:
        ValueError: the weights are no such stack, or the embedding comes from a model with another length.
    """

    layers: ClassVar[tuple[Linear, ...]]
    wants: ClassVar[str]  # the embedding that the head was trained on
    licence: ClassVar[str]
    published: ClassVar[str]  # where people get the weights
    exact: ClassVar[bool] = False
    resources: ClassVar[Resources] = Resources(num_cpus=1.0, memory_gb=0.5)
    seconds_per_row: ClassVar[float] = 0.002
    reads: ClassVar[tuple[Column, ...]] = (CLIP_ID, FRAMES)

    weights: str
    sha256: str | None = None

    def __post_init__(self) -> None:
        Weights(self.weights, self.sha256)

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Need(Weights(self.weights, self.sha256), self.licence, self.published),)

    def setup(self) -> tuple[Head, str]:
        path = locate(Weights(self.weights, self.sha256))
        return linear_stack(read_state(path), self.layers, self.name), weights_hash(path)

    def process(self, state: tuple[Head, str], batch: pa.Table) -> pa.Table:
        head, digest = state
        values = [self._values(head, frames) for frames in batch[FRAMES.name].to_pylist()]
        columns = self.columns_of(values)
        columns[f"{self.name}_weights_hash"] = [None if value is None else digest for value in values]
        for column in (*self.writes, *STATE):
            cells = columns.get(column.name, [None] * len(batch))
            batch = batch.append_column(column.name, pa.array(cells, column.dtype))
        return batch

    def _values(self, head: Head, frames: Sequence[Sequence[float]] | None) -> np.ndarray | None:
        if frames is None:
            return None
        frames_TD = np.array(frames, np.float32)
        wanted = self.layers[0].inputs
        if frames_TD.shape[1] != wanted:
            raise ValueError(
                f"{self.name}: the embedding has {frames_TD.shape[1]} numbers, the head wants {wanted}: "
                f"it was trained on {self.wants}"
            )
        return head(frames_TD)

    @abstractmethod
    def columns_of(self, values: list[np.ndarray | None]) -> dict[str, list[Any]]:
        """The score columns from each clip's values per frame."""


@dataclass(frozen=True, kw_only=True)
class Aesthetic(FrameHead):
    """LAION's aesthetic predictor v2 (sac+logos+ava1-l14-linearMSE): how much people would like each frame, about 1-10.

    It sees CLIP's 224-pixel picture: composition and colour, not sharpness.

    Reads: embedding_frames of OpenAI's CLIP ViT-L/14.
    Writes: aesthetic_samples, aesthetic_mean, aesthetic_min, aesthetic_weights_hash.
    Source: christophschuhmann/improved-aesthetic-predictor (Apache-2.0): five linear layers, no activation between
        them. Published cuts: 4 (InternVid, Movie Gen), 4.5 (Open-Sora 1.2), 4.75 (Open-Sora Plan 1.3).
    """

    name: ClassVar[str] = "aesthetic"
    wants: ClassVar[str] = "OpenAI's CLIP ViT-L/14"
    licence: ClassVar[str] = "Apache-2.0"
    published: ClassVar[str] = "sac+logos+ava1-l14-linearMSE.pth of christophschuhmann/improved-aesthetic-predictor"
    layers: ClassVar[tuple[Linear, ...]] = (
        Linear(0, 768, 1024),
        Linear(2, 1024, 128),
        Linear(4, 128, 64),
        Linear(6, 64, 16),
        Linear(7, 16, 1),
    )
    writes: ClassVar[tuple[Column, ...]] = (  # type: ignore[assignment]
        Column("aesthetic_samples", pa.list_(pa.float32()), f"score of each frame, about 1-10; {_FAILED}"),
        Column("aesthetic_mean", pa.float64(), f"their mean; {_FAILED}"),
        Column("aesthetic_min", pa.float64(), f"the lowest of them; {_FAILED}"),
        Column("aesthetic_weights_hash", pa.string(), f"sha256 of the head's weights; {_FAILED}"),
    )

    def columns_of(self, values: list[np.ndarray | None]) -> dict[str, list[Any]]:
        return {
            "aesthetic_samples": values,
            "aesthetic_mean": [None if v is None else float(v.mean()) for v in values],
            "aesthetic_min": [None if v is None else float(v.min()) for v in values],
        }


@dataclass(frozen=True, kw_only=True)
class Nsfw(FrameHead):
    """LAION's detector of nudity on OpenCLIP ViT-H/14 embeddings: about 0 (safe) to 1, the raw output of a regression.

    Reads: embedding_frames of OpenCLIP's ViT-H/14.
    Writes: nsfw_samples, nsfw_max, nsfw_weights_hash.
    Source: LAION-AI/CLIP-based-NSFW-Detector, h14_nsfw (MIT): seven linear layers, ReLU after the first five.
    """

    name: ClassVar[str] = "nsfw"
    wants: ClassVar[str] = "OpenCLIP's ViT-H/14"
    licence: ClassVar[str] = "MIT"
    published: ClassVar[str] = "h14_nsfw.pth of LAION-AI/CLIP-based-NSFW-Detector"
    layers: ClassVar[tuple[Linear, ...]] = (
        Linear(0, 1024, 1024, True),
        Linear(3, 1024, 2048, True),
        Linear(6, 2048, 1024, True),
        Linear(9, 1024, 256, True),
        Linear(12, 256, 128, True),
        Linear(15, 128, 16),
        Linear(16, 16, 1),
    )
    writes: ClassVar[tuple[Column, ...]] = (  # type: ignore[assignment]
        Column("nsfw_samples", pa.list_(pa.float32()), f"score of each frame, about 0-1; {_FAILED}"),
        Column("nsfw_max", pa.float64(), f"the highest of them; {_FAILED}"),
        Column("nsfw_weights_hash", pa.string(), f"sha256 of the head's weights; {_FAILED}"),
    )

    def columns_of(self, values: list[np.ndarray | None]) -> dict[str, list[Any]]:
        return {"nsfw_samples": values, "nsfw_max": [None if v is None else float(v.max()) for v in values]}


def linear_stack(state: dict[str, Any], layers: Sequence[Linear], what: str) -> Head:
    """The function that a published `layers.<n>.weight`, `layers.<n>.bias` state dict computes.

    Raises:
        ValueError: a layer is missing or has another shape.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        shapes[f"layers.{layer.index}.weight"] = (layer.outputs, layer.inputs)
        shapes[f"layers.{layer.index}.bias"] = (layer.outputs,)
    tensors = {name: tensor.numpy() for name, tensor in fitting(state, shapes, what).items()}

    def head(values_TD: np.ndarray) -> np.ndarray:
        for layer in layers:
            values_TD = values_TD @ tensors[f"layers.{layer.index}.weight"].T + tensors[f"layers.{layer.index}.bias"]
            values_TD = np.maximum(values_TD, 0) if layer.is_activated else values_TD
        return values_TD[:, 0]

    return head
