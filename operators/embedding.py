# SPDX-License-Identifier: Apache-2.0
"""An image model's embedding of a clip, from a few of its frames."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa

from operators.contract import Operator, Resources, RowError
from operators.decode_child import DecodeChild
from operators.image_towers import ImageTower, mean_embedding, open_clip_tower, transformers_tower
from reelmill.column import Column
from reelmill.tables import CLIP_ID, CLIPS, SOURCES, STATE

_READS = {column.name: column for column in (*SOURCES, *CLIPS)}


@dataclass(frozen=True, kw_only=True)
class Embedding(Operator):
    """Mean of the L2-normalised embeddings of `num_frames` frames, evenly spread over the clip; not normalised again.

    What the model sees: a frame is decoded with its short side at the model's input size (area scaling; never
    enlarged here) and then goes through the model's own preprocessing. A model with a 224-pixel input gets 0.6 % of a
    3840 x 2160 frame's pixels, and its centre crop leaves out 44 % of a 16:9 picture: good for what a clip is about,
    blind to native detail.

    Reads: the clip's frames and their source.
    Writes: embedding, embedding_model, embedding_weights_hash, embedding_pixel_share; null where the row failed.

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

    name: ClassVar[str] = "embedding"
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
            raise ValueError(f"embedding: num_frames is {self.num_frames}, it must be at least 1")
        if self.backend not in ("open_clip", "transformers"):
            raise ValueError(f"embedding: backend is {self.backend!r}; known are open_clip, transformers")
        foreign = "weights" if self.backend == "transformers" else "revision"
        value = getattr(self, foreign)
        if value is not None:
            raise ValueError(f"embedding: {foreign} is {value!r}, but backend {self.backend} has no {foreign}")

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        """One GPU if `device` is cuda."""
        return Resources(num_cpus=1.0, num_gpus=float(self.device == "cuda"), memory_gb=4.0)

    @property
    def writes(self) -> tuple[Column, ...]:
        return (
            Column(
                "embedding",
                pa.list_(pa.float32()),
                "mean of the L2-normalised image embeddings of frames spread over the clip; null if the row failed",
            ),
            Column("embedding_model", pa.string(), "its backend, model and revision; null if the row failed"),
            Column("embedding_weights_hash", pa.string(), "sha256 over the checkpoint's files; null if the row failed"),
            Column(
                "embedding_pixel_share",
                pa.float64(),
                "pixels the model was given over the frame's native pixels, 0-1; null if the row failed",
            ),
        )

    def setup(self) -> tuple[ImageTower, DecodeChild]:
        if self.backend == "open_clip":
            tower = open_clip_tower(self.model, self.weights, self.device)
        else:
            tower = transformers_tower(self.model, self.revision, self.device)
        return tower, DecodeChild(self.memory_limit_gb)

    def process(self, state: tuple[ImageTower, DecodeChild], batch: pa.Table) -> pa.Table:
        """The batch with the embedding's columns; a clip whose frames do not decode gets its error and nulls."""
        rows = [self._row(*state, row) for row in batch.select([column.name for column in self.reads]).to_pylist()]
        for column in (*self.writes, *STATE):
            values = pa.array([row.get(column.name) for row in rows], column.dtype)
            batch = batch.drop_columns([column.name]) if column.name in batch.column_names else batch
            batch = batch.append_column(pa.field(column.name, column.dtype), values)
        return batch

    def close(self, state: tuple[ImageTower, DecodeChild]) -> None:
        state[1].close()

    def _row(self, tower: ImageTower, child: DecodeChild, row: dict[str, Any]) -> dict[str, Any]:
        call = {
            "uri": row["uri"],
            "frame_pts": spread(row["frame_pts"], self.num_frames),
            "seek_pts": row["seek_pts"],
            "size": decode_size(row["width_px"], row["height_px"], row["pixel_aspect"], tower.short_px),
        }
        try:
            frames_THWC = child.call("operators.video:read_frames", call, self.time_limit_s)
        except RowError as error:
            return {"error_kind": error.kind, "error": str(error)}
        vector, num_pixels = mean_embedding(tower, frames_THWC)
        return {
            "embedding": vector,
            "embedding_model": ":".join(part for part in (self.backend, self.model, self.revision) if part),
            "embedding_weights_hash": tower.weights_hash,
            "embedding_pixel_share": min(1.0, num_pixels / (row["width_px"] * row["height_px"])),
        }


def spread(frame_pts: list[int], num: int) -> list[int]:
    """The frames in the middle of `num` equal parts of a clip; all frames if there are no more."""
    total = len(frame_pts)
    return frame_pts if total <= num else [frame_pts[(2 * part + 1) * total // (2 * num)] for part in range(num)]


def decode_size(width_px: int, height_px: int, pixel_aspect: float, short_px: int) -> tuple[int, int]:
    """(height, width) in square pixels with the short side at `short_px`, or as it is if that would enlarge it."""
    width = width_px * pixel_aspect
    scale = min(1.0, short_px / min(width, height_px))
    return round(height_px * scale), round(width * scale)
