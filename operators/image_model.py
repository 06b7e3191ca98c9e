# SPDX-License-Identifier: Apache-2.0
"""What operators share that show a few frames of each clip to an image model."""

import time
from abc import abstractmethod
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources
from operators.decode_ahead import Call, Decoded, decode_ahead
from operators.decode_child import DecodeChild
from operators.gpu_batches import Batches
from operators.image_towers import (
    ImageTower,
    checkpoint_needs,
    frame_embeddings,
    open_clip_tower,
    transformers_tower,
)
from operators.weights import Need
from reelmill.column import Column
from reelmill.tables import CLIP_ID, CLIPS, SOURCES

_READS = {column.name: column for column in (*SOURCES, *CLIPS)}


@dataclass(frozen=True, kw_only=True)
class ImageModel(Operator):
    """Decodes `frames_of` a clip in a child process and writes what `values` says about them.

    What the model sees: a frame is decoded with its short side at the model's input size (area scaling; never
    enlarged here) and then goes through the model's own preprocessing. A model with a 224-pixel input gets 0.6 % of a
    3840 x 2160 frame's pixels, and its centre crop leaves out 44 % of a 16:9 picture: good for what a clip is about,
    blind to native detail.

    Args:
        backend: the library that reads the checkpoint.
        model: a place `hf://ORG/NAME@COMMIT` or `s3://bucket/folder/`; or, with open_clip, `local-dir:/folder` or the
            name of an architecture, with transformers a folder or a hub id.
        weights: open_clip: checkpoint file of a named architecture.
        revision: transformers: commit of a hub id.
        num_frames: frames per clip; a shorter clip gives all it has.
        batch_size: frames in one forward pass, of several clips if need be.
        device: cpu, or cuda.
        gpu_memory_gb: memory on the GPU that one worker needs; several share a GPU that has more.
        time_limit_s: seconds to decode one clip's frames, above which the row fails with kind `resource`.
        memory_limit_gb: private memory of the decode child, likewise.

    Raises:
        ValueError: fewer than one frame, or a field that the backend does not have.
    """

    neutral: ClassVar[frozenset[str]] = frozenset(
        {"batch_size", "device", "gpu_memory_gb", "time_limit_s", "memory_limit_gb"}
    )
    exact: ClassVar[bool] = False  # matrix products differ in the last digits between machines
    reads: ClassVar[tuple[Column, ...]] = (
        CLIP_ID,
        *(_READS[name] for name in ("uri", "seek_pts", "frame_pts", "width_px", "height_px", "pixel_aspect")),
    )

    backend: Literal["open_clip", "transformers"]
    model: str
    weights: str | None = None
    revision: str | None = None
    num_frames: int = 3
    batch_size: int = 64
    device: Literal["cpu", "cuda"] = "cpu"
    gpu_memory_gb: float = 6.0
    time_limit_s: float = 120.0
    memory_limit_gb: float = 4.0

    def __post_init__(self) -> None:
        for field in ("num_frames", "batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"{self.name}: {field} is {getattr(self, field)}, it must be at least 1")
        if self.backend not in ("open_clip", "transformers"):
            raise ValueError(f"{self.name}: backend is {self.backend!r}; known are open_clip, transformers")
        foreign = "weights" if self.backend == "transformers" else "revision"
        value = getattr(self, foreign)
        if value is not None:
            raise ValueError(f"{self.name}: {foreign} is {value!r}, but backend {self.backend} has no {foreign}")

    @abstractmethod
    def frames_of(self, frame_pts: list[int]) -> list[int]:
        """The frames of a clip that are looked at, ascending; none: nothing is decoded and `values` is not asked."""

    @abstractmethod
    def values(self, vectors_TD: np.ndarray, num_pixels: int, row: dict[str, Any]) -> dict[str, Any]:
        """The columns of a clip, but for the ones that name the model.

        Args:
            vectors_TD: the L2-normalised embeddings of those frames.
            num_pixels: that the model was given of a frame.
        """

    @property
    def model_columns(self) -> tuple[Column, Column]:
        """The two columns that say which model made the numbers."""
        return (
            Column(f"{self.name}_model", pa.string(), "its backend, model and revision; null if the row failed"),
            Column(
                f"{self.name}_weights_hash", pa.string(), "sha256 over the checkpoint's files; null if the row failed"
            ),
        )

    @property
    def needs(self) -> tuple[Need, ...]:
        return checkpoint_needs(self.backend, self.model, self.weights, self.revision)

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        """A share of a GPU if `device` is cuda."""
        return Resources(num_cpus=1.0, memory_gb=4.0).on(self.device, self.gpu_memory_gb)

    def setup(self) -> tuple[ImageTower, Batches, DecodeChild]:
        if self.backend == "open_clip":
            tower = open_clip_tower(self.model, self.weights, self.device)
        else:
            tower = transformers_tower(self.model, self.revision, self.device)
        encode = Batches(tower.encode, self.batch_size, self.device)
        if self.device == "cuda":
            encode.warm_up(tower.preprocess(np.zeros((tower.short_px, tower.short_px * 16 // 9, 3), np.uint8)))
        return tower, encode, DecodeChild(self.memory_limit_gb)

    def process(self, state: tuple[ImageTower, Batches, DecodeChild], batch: pa.Table) -> pa.Table:
        """The batch with the model's columns; a clip whose frames do not decode gets its error and nulls."""
        tower, encode, child = state
        rows = batch.select([column.name for column in self.reads]).to_pylist()
        calls = (self._call(tower, row) for row in rows)
        # clips of one forward pass; as many are decoded ahead. A CPU gains nothing from more, and would wait for them
        num = 1 if self.device == "cpu" else max(1, self.batch_size // self.num_frames)
        decoded = decode_ahead(child, "operators.video:read_frames", calls, self.time_limit_s, num)
        cells: list[dict[str, Any]] = []
        with closing(decoded):
            while group := list(islice(decoded, num)):
                cells += self._looked_at(tower, encode, rows[len(cells) : len(cells) + num], group)
        return self.with_writes(batch, cells)

    def close(self, state: tuple[ImageTower, Batches, DecodeChild]) -> None:
        state[2].close()

    def _call(self, tower: ImageTower, row: dict[str, Any]) -> Call | None:
        """How the clip's frames are decoded; null if none is looked at."""
        wanted = self.frames_of(row["frame_pts"])
        size = decode_size(row["width_px"], row["height_px"], row["pixel_aspect"], tower.short_px)
        call = {"uri": row["uri"], "frame_pts": wanted, "seek_pts": row["seek_pts"], "size": size}
        return call if wanted else None

    def _looked_at(
        self, tower: ImageTower, encode: Batches, rows: list[dict[str, Any]], decoded: list[Decoded]
    ) -> list[dict[str, Any]]:
        """The columns of some clips, whose frames go through the model together."""
        since = time.time()
        frames = [[tower.preprocess(f) for f in clip.frames] if clip.frames is not None else [] for clip in decoded]
        embedded = iter(frame_embeddings(encode, [frame for of_clip in frames for frame in of_clip]))
        found = []
        for row, clip, of_clip in zip(rows, decoded, frames, strict=True):
            own = [next(embedded) for _ in of_clip]
            found.append(clip.failure if clip.error else self._cells(tower, row, own) | clip.log(since))
        return found

    def _cells(self, tower: ImageTower, row: dict[str, Any], own: list[tuple[np.ndarray, int]]) -> dict[str, Any]:
        """The columns of one clip from its frames' embeddings."""
        facts = {
            f"{self.name}_model": ":".join(part for part in (self.backend, self.model, self.revision) if part),
            f"{self.name}_weights_hash": tower.weights_hash,
        }
        if not own:
            return facts
        return facts | self.values(np.stack([vector for vector, _ in own]), own[0][1], row)


def spread(frame_pts: list[int], num: int) -> list[int]:
    """The frames in the middle of `num` equal parts of a clip; all frames if there are no more."""
    total = len(frame_pts)
    return frame_pts if total <= num else [frame_pts[(2 * part + 1) * total // (2 * num)] for part in range(num)]


def decode_size(width_px: int, height_px: int, pixel_aspect: float, short_px: int) -> tuple[int, int]:
    """(height, width) in square pixels with the short side at `short_px`, or as it is if that would enlarge it."""
    width = width_px * pixel_aspect
    scale = min(1.0, short_px / min(width, height_px))
    return round(height_px * scale), round(width * scale)
