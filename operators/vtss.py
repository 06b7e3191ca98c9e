# SPDX-License-Identifier: Apache-2.0
"""Koala-36M's Video Training Suitability Score: would a generator learn from this clip?"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.fragments import FAILED, INPUT_FRAMES, FragmentModel
from reelmill.column import Column

NUM_PIECES, FRAME_STEP = 4, 2  # inputs over the clip, and frames from one of an input's frames to the next


@dataclass(frozen=True, kw_only=True)
class Vtss(FragmentModel):
    """VTSS by the network that Koala-36M released: FAST-VQA's, trained on people's verdicts on whole clips.

    Four times 32 frames, every second one from a place drawn in each quarter of the clip, at native size; fragments as
    in `Technical`, over the whole frame, which keep their places for 32 frames. The authors draw once and at random;
    here the seed fixes the draws, and their scores are averaged. Where a clip of fewer than about 250 frames ends, it
    begins anew, as in their code.

    The numbers are the network's own, as UltraVideo published them: -0.06 to 0.07 in its set, 0.01 and more kept.
    Koala-36M's 1 to 5, of which it keeps above 2.5, is another scale, to which the released code gives no bridge.

    Reads: the clip's frames and their source.
    Writes: vtss_score, vtss_spread, vtss_samples, vtss_pixel_share, vtss_weights_hash.

    Args and Raises: see `FragmentModel`; weights: infer.pth of Koala-36M/Training_Suitability_Assessment.
    Source: Wang et al. 2024 (arXiv:2410.08260); KwaiVGI/Koala-36M, training_suitability_assessment at 49b9478, whose
        paper's full network (with image, semantic and feature branches) has no published weights.
    """

    name: ClassVar[str] = "vtss"
    aligned_frames: ClassVar[int] = INPUT_FRAMES
    network: ClassVar[str] = "Koala-36M's VTSS"
    licence: ClassVar[str] = "Koala-36M's: research, not commercial"
    published: ClassVar[str] = "infer.pth of the hub's Koala-36M/Training_Suitability_Assessment (0.1 GB)"

    @property
    def writes(self) -> tuple[Column, ...]:
        return (
            Column(
                "vtss_score", pa.float64(), f"mean of the draws' scores, the network's own scale, about 0; {FAILED}"
            ),
            Column("vtss_spread", pa.float64(), "standard deviation of the draws' scores; null with one draw"),
            Column("vtss_samples", pa.list_(pa.float32()), f"the score of each draw; {FAILED}"),
            *self.facts(),
        )

    def frames_of(self, num_frames: int) -> list[int]:
        return frame_indices(num_frames, self.seed)

    def values(self, raw_DTP: np.ndarray) -> dict[str, Any]:
        draws_D = raw_DTP.mean(axis=(1, 2))
        spread = float(draws_D.std()) if len(draws_D) > 1 else None
        return {"vtss_score": float(draws_D.mean()), "vtss_spread": spread, "vtss_samples": draws_D}


def frame_indices(num_frames: int, seed: int) -> list[int]:
    """32 frames two apart, from a place drawn in each quarter, or from its start if it is no longer."""
    length, reach = num_frames // NUM_PIECES, INPUT_FRAMES * FRAME_STEP
    starts = np.random.default_rng([seed, 0]).integers(0, max(1, length - reach), NUM_PIECES)
    steps = np.arange(INPUT_FRAMES) * FRAME_STEP
    indices = np.arange(NUM_PIECES)[:, None] * length + starts[:, None] + steps
    return [int(index) for index in indices.ravel() % num_frames]
