# SPDX-License-Identifier: Apache-2.0
"""Whether the picture has colour at all."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Score, over
from reelmill.column import Column


@dataclass(frozen=True, kw_only=True)
class Grey(Meter):
    """Mean over the pixels of the variance among a pixel's R, G and B: 0 for a black-and-white picture.

    Writes: grey_variance.
    Source: UltraVideo's grey statistic (a frame is bad below 1.2). A toned (sepia) picture is not grey by it; see
        `color_hue_spread`.
    """

    name: ClassVar[str] = "grey"
    view: ClassVar[View] = View.COLOR
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "grey_variance",
            pa.list_(pa.float32()),
            "mean over the pixels of the variance among R, G and B, squared levels of 255; near 0 is grey",
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (*over(writes, "grey_variance", "samples", "median", "max"),)
    rate_hz: float | None = 2.0

    def start(self, info: StreamInfo) -> Update:
        import cv2

        def update(view: np.ndarray, seconds: float) -> tuple[float]:
            b, g, r = cv2.split(view)
            squares = sum(cv2.norm(x, y, cv2.NORM_L2SQR) for x, y in ((b, g), (g, r), (r, b)))
            return (squares / 9 / b.size,)  # var(a, b, c) = ((a-b)^2 + (b-c)^2 + (c-a)^2) / 9

        return update
