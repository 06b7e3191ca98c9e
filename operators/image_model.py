# SPDX-License-Identifier: Apache-2.0
"""What operators share that show a few frames of each clip to an image model."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources, RowError
from operators.decode_child import DecodeChild
from operators.image_towers import ImageTower, open_clip_tower, transformers_tower
from reelmill.column import Column
from reelmill.tables import CLIP_ID, CLIPS, SOURCES, STATE

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
        model: open_clip: `local-dir:/folder` or the name of an architecture; transformers: a folder or a hub id.
        weights: open_clip: checkpoint file of a named architecture.
        revision: transformers: commit of a hub id.
        num_frames: frames per clip; a shorter clip gives all it has.
        device: cpu, or cuda for one GPU per worker.
        time_limit_s: seconds to decode one clip's frames, above which the row fails with kind `resource`.
        memory_limit_gb: private memory of the decode child, likewise.

    Raises:
        ValueError: fewer than one frame, or a field that the backend does not have.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"device", "time_limit_s", "memory_limit_gb"})
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
    device: Literal["cpu", "cuda"] = "cpu"
    time_limit_s: float = 120.0
    memory_limit_gb: float = 4.0

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"{self.name}: num_frames is {self.num_frames}, it must be at least 1")
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
    def values(self, tower: ImageTower, frames_THWC: Sequence[np.ndarray], row: dict[str, Any]) -> dict[str, Any]:
        """The columns of a clip from those frames, but for the ones that name the model."""

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
    def resources(self) -> Resources:  # type: ignore[override]
        """One GPU if `device` is cuda."""
        return Resources(num_cpus=1.0, num_gpus=float(self.device == "cuda"), memory_gb=4.0)

    def setup(self) -> tuple[ImageTower, DecodeChild]:
        if self.backend == "open_clip":
            tower = open_clip_tower(self.model, self.weights, self.device)
        else:
            tower = transformers_tower(self.model, self.revision, self.device)
        return tower, DecodeChild(self.memory_limit_gb)

    def process(self, state: tuple[ImageTower, DecodeChild], batch: pa.Table) -> pa.Table:
        """The batch with the model's columns; a clip whose frames do not decode gets its error and nulls."""
        rows = [self._row(*state, row) for row in batch.select([column.name for column in self.reads]).to_pylist()]
        for column in (*self.writes, *STATE):
            values = pa.array([row.get(column.name) for row in rows], column.dtype)
            batch = batch.drop_columns([column.name]) if column.name in batch.column_names else batch
            batch = batch.append_column(pa.field(column.name, column.dtype), values)
        return batch

    def close(self, state: tuple[ImageTower, DecodeChild]) -> None:
        state[1].close()

    def _row(self, tower: ImageTower, child: DecodeChild, row: dict[str, Any]) -> dict[str, Any]:
        facts = {
            f"{self.name}_model": ":".join(part for part in (self.backend, self.model, self.revision) if part),
            f"{self.name}_weights_hash": tower.weights_hash,
        }
        wanted = self.frames_of(row["frame_pts"])
        if not wanted:
            return facts
        size = decode_size(row["width_px"], row["height_px"], row["pixel_aspect"], tower.short_px)
        call = {"uri": row["uri"], "frame_pts": wanted, "seek_pts": row["seek_pts"], "size": size}
        try:
            frames_THWC = child.call("operators.video:read_frames", call, self.time_limit_s)
        except RowError as error:
            return {"error_kind": error.kind, "error": str(error)}
        return facts | self.values(tower, frames_THWC, row)


def spread(frame_pts: list[int], num: int) -> list[int]:
    """The frames in the middle of `num` equal parts of a clip; all frames if there are no more."""
    total = len(frame_pts)
    return frame_pts if total <= num else [frame_pts[(2 * part + 1) * total // (2 * num)] for part in range(num)]


def decode_size(width_px: int, height_px: int, pixel_aspect: float, short_px: int) -> tuple[int, int]:
    """(height, width) in square pixels with the short side at `short_px`, or as it is if that would enlarge it."""
    width = width_px * pixel_aspect
    scale = min(1.0, short_px / min(width, height_px))
    return round(height_px * scale), round(width * scale)
