# SPDX-License-Identifier: Apache-2.0
"""Does a clip end where it began? The semantic check that finds a change of scene which no cut detector saw."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.image_model import ImageModel
from reelmill.column import Column


@dataclass(frozen=True, kw_only=True)
class EndSimilarity(ImageModel):
    """Cosine of the embedding of a clip's first `num_frames` frames and that of its last `num_frames`.

    An embedding here is the mean of the frames' L2-normalised ones, as in `Embedding`. A clip below twice `num_frames`
    is halved. A dissolve that stayed inside makes the ends differ; so does a camera that turns to something new.

    Reads: the clip's frames and their source.
    Writes: end_similarity, end_similarity_model, end_similarity_weights_hash; null where the row failed.

    Args: see `ImageModel`; num_frames: frames at each end.

    Source: UltraVideo (arXiv:2506.13691) compares the first five with the last five frames by DINOv2 and publishes no
    threshold; Goku (arXiv:2502.04896) asks 0.85 at 480p and 0.90 at 720p, by DINOv2 at 1 frame a second.
    """

    name: ClassVar[str] = "end_similarity"
    num_frames: int = 5

    @property
    def writes(self) -> tuple[Column, ...]:
        return (
            Column(
                "end_similarity",
                pa.float64(),
                "cosine of the image embeddings of the clip's first and last frames, -1 to 1; null for a clip of one "
                "frame, or if the row failed",
            ),
            *self.model_columns,
        )

    def frames_of(self, frame_pts: list[int]) -> list[int]:
        num = min(self.num_frames, len(frame_pts) // 2)
        return [*frame_pts[:num], *frame_pts[len(frame_pts) - num :]] if num else []

    def values(self, vectors_TD: np.ndarray, num_pixels: int, row: dict[str, Any]) -> dict[str, Any]:
        half = len(vectors_TD) // 2
        first_D, last_D = vectors_TD[:half].mean(axis=0), vectors_TD[half:].mean(axis=0)
        scale = np.linalg.norm(first_D) * np.linalg.norm(last_D)
        return {"end_similarity": float(first_D @ last_D / max(scale, 1e-12))}
