# SPDX-License-Identifier: Apache-2.0
"""Temporal redundancy: how much of a picture is what it was a second ago."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Score, over
from reelmill.column import Column

PATCHES_ALONG, PATCHES_ACROSS = 32, 18
SAME_LEVEL = 0.1 * 127.5  # a tenth of pixels normalised to -1..1


@dataclass(frozen=True, kw_only=True)
class Redundancy(Meter):
    """Share of the patches that repeat those of the sample before.

    Writes: redundancy_patch_share.
    Source: Hulu-Med's rule for dropping visual tokens (a patch is kept if its mean absolute change of normalised pixels
        is above 0.1); on 32 x 18 patches of luma at the sampling rate, which are ours.
    """

    name: ClassVar[str] = "redundancy"
    view: ClassVar[View] = View.TINY_LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "redundancy_patch_share",
            pa.list_(pa.float32()),
            "share of 32 x 18 patches whose mean absolute luma difference to the sample before is at most 12.75, "
            "0-1 (1: nothing new); null for a segment's first sample",
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (*over(writes, "redundancy_patch_share", "mean", "min"),)
    rate_hz: float | None = 1.0

    def start(self, info: StreamInfo) -> Update:
        import cv2

        last: list[np.ndarray] = []

        def update(view: np.ndarray, seconds: float) -> tuple[float | None]:
            before = last[0] if last else None
            last[:] = [view]
            if before is None or before.shape != view.shape:
                return (None,)
            height, width = view.shape
            patches = (PATCHES_ALONG, PATCHES_ACROSS) if width >= height else (PATCHES_ACROSS, PATCHES_ALONG)
            change = cv2.resize(cv2.absdiff(before, view).astype(np.float32), patches, interpolation=cv2.INTER_AREA)
            return (float((change <= SAME_LEVEL).mean()),)

        return update
