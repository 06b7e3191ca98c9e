# SPDX-License-Identifier: Apache-2.0
"""An image model's embedding of a clip, from a few of its frames."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.image_model import ImageModel, spread
from reelmill.column import Column

FRAMES = Column(
    "embedding_frames",
    pa.list_(pa.list_(pa.float32())),
    "the L2-normalised image embedding of each of the frames, in order of time; null if the row failed",
)


@dataclass(frozen=True, kw_only=True)
class Embedding(ImageModel):
    """Mean of the L2-normalised embeddings of `num_frames` frames, evenly spread over the clip; not normalised again.

    Reads: the clip's frames and their source.
    Writes: embedding, embedding_frames, embedding_model, embedding_weights_hash, embedding_pixel_share; null where the
        row failed.

    Args and Raises: see `ImageModel`.
    """

    name: ClassVar[str] = "embedding"
    version: ClassVar[int] = 2  # 2: embedding_frames

    @property
    def writes(self) -> tuple[Column, ...]:
        return (
            Column(
                "embedding",
                pa.list_(pa.float32()),
                "mean of the L2-normalised image embeddings of frames spread over the clip; null if the row failed",
            ),
            FRAMES,
            *self.model_columns,
            Column(
                "embedding_pixel_share",
                pa.float64(),
                "pixels the model was given over the frame's native pixels, 0-1; null if the row failed",
            ),
        )

    def frames_of(self, frame_pts: list[int]) -> list[int]:
        return spread(frame_pts, self.num_frames)

    def values(self, vectors_TD: np.ndarray, num_pixels: int, row: dict[str, Any]) -> dict[str, Any]:
        share = min(1.0, num_pixels / (row["width_px"] * row["height_px"]))
        return {"embedding": vectors_TD.mean(axis=0), FRAMES.name: list(vectors_TD), "embedding_pixel_share": share}
