# SPDX-License-Identifier: Apache-2.0
"""Technical quality at native resolution: FasterVQA over fragments cut out of the full frames."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.fragments import FAILED, INPUT_FRAMES, INPUT_PX, FragmentModel
from reelmill.column import Column

NUM_PIECES, PIECE_FRAMES = 8, 4  # of the clip in time, and consecutive frames of each
RAW_MEAN, RAW_STD = 0.14759505, 0.03613452  # of FasterVQA's raw scores, by its authors, for the logistic scale


@dataclass(frozen=True, kw_only=True)
class Technical(FragmentModel):
    """FasterVQA's score: noise, blur, blocks, bad light; not what is shown.

    32 frames, four in each eighth of the clip, are decoded at native size; 7 x 7 fragments of 32 x 32 pixels are cut
    out of each tile of the frame at places drawn anew for each draw. One draw over the whole of a 3840 x 2160 frame
    sees 0.6 % of its pixels, and its score varies; 2 x 2 tiles and 3 draws see 7 %.

    Reads: the clip's frames and their source.
    Writes: technical_score, technical_spread, technical_tile_samples, technical_tile_min, technical_raw_samples,
        technical_pixel_share, technical_weights_hash.

    Args: see `FragmentModel`; weights: FAST_VQA_3D_1*1.pth (FasterVQA).
        tiles: tiles along and across; fewer where a tile would be smaller than 224 pixels.

    Raises: see `FragmentModel`.
    Source: Wu et al. 2022 (arXiv:2210.05357); best no-reference metric on 4K in AVT-VQDB-UHD-1-NVC (arXiv:2511.00969).
        Frames smaller than a tile's 224 pixels are enlarged. Tiles are ours.
    """

    name: ClassVar[str] = "technical"
    aligned_frames: ClassVar[int] = 8
    network: ClassVar[str] = "FasterVQA"
    licence: ClassVar[str] = "MIT"
    published: ClassVar[str] = (
        "FAST_VQA_3D_1*1.pth of VQAssessment/FAST-VQA-and-FasterVQA, its pretrained models (110 MB)"
    )

    tiles: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tiles < 1:
            raise ValueError(f"technical: tiles is {self.tiles}, it must be at least 1")

    @property
    def writes(self) -> tuple[Column, ...]:
        return (
            Column("technical_score", pa.float64(), f"mean over draws and tiles on the logistic scale, 0-1; {FAILED}"),
            Column("technical_spread", pa.float64(), "standard deviation of the draws' scores; null with one draw"),
            Column("technical_tile_samples", pa.list_(pa.float32()), f"score of each tile, row by row; {FAILED}"),
            Column("technical_tile_min", pa.float64(), f"the lowest of them; {FAILED}"),
            Column(
                "technical_raw_samples",
                pa.list_(pa.float32()),
                f"the network's own numbers: draw after draw, tiles row by row; {FAILED}",
            ),
            *self.facts(),
        )

    def tiles_of(self, row: dict[str, Any]) -> int:
        return max(1, min(self.tiles, min(row["width_px"], row["height_px"]) // INPUT_PX))

    def frames_of(self, num_frames: int) -> list[int]:
        return frame_indices(num_frames, self.seed)

    def values(self, raw_DTP: np.ndarray) -> dict[str, Any]:
        return summary(raw_DTP[..., 0])


def summary(raw_DT: np.ndarray) -> dict[str, Any]:
    """The score columns of raw scores [draws, tiles]."""
    scores_DT = 1 / (1 + np.exp(-(raw_DT - RAW_MEAN) / RAW_STD))
    tiles_T = scores_DT.mean(axis=0)
    return {
        "technical_score": float(scores_DT.mean()),
        "technical_spread": float(scores_DT.mean(axis=1).std()) if len(scores_DT) > 1 else None,
        "technical_tile_samples": tiles_T,
        "technical_tile_min": float(tiles_T.min()),
        "technical_raw_samples": raw_DT.ravel(),
    }


def frame_indices(num_frames: int, seed: int) -> list[int]:
    """Four consecutive frames, at a place drawn, in each eighth of a clip; a clip of fewer than 32 gives some twice."""
    length = num_frames // NUM_PIECES
    if length < PIECE_FRAMES:
        return [k * num_frames // INPUT_FRAMES for k in range(INPUT_FRAMES)]
    starts = np.random.default_rng([seed, 0]).integers(0, length - PIECE_FRAMES + 1, NUM_PIECES)
    return [piece * length + int(start) + k for piece, start in enumerate(starts) for k in range(PIECE_FRAMES)]
