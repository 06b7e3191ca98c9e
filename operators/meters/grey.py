# SPDX-License-Identifier: Apache-2.0
"""Whether the picture has colour at all."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Score, over
from reelmill.column import Column

TINT_HEIGHT_PX = 68  # COLOR is averaged down to this: a coder's chroma noise goes, patches of colour stay
NUM_TONES = 24
_SERIES = pa.list_(pa.float32())
_CHROMA = np.array([[0.5, -0.331264, -0.168736], [-0.081312, -0.418688, 0.5]], np.float32)  # BT.601: B, G, R -> Cb, Cr
_LUMA = np.array([0.114, 0.587, 0.299], np.float32)


@dataclass(frozen=True, kw_only=True)
class Grey(Meter):
    """Mean over the pixels of the variance among R, G and B (published), and how much colour brightness cannot explain.

    A black-and-white film may be toned (sepia, cyanotype) or carry a coder's colour noise. What all of them share: the
    colour of a patch follows from its brightness. `grey_tint_residual` is what is left of chroma after that.

    Writes: grey_variance, grey_tint_residual.
    Source: UltraVideo's grey statistic (a frame is bad below 1.2); the residual is ours.
    """

    name: ClassVar[str] = "grey"
    version: ClassVar[int] = 2
    view: ClassVar[View] = View.COLOR
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "grey_variance",
            _SERIES,
            "mean over the pixels of the variance among R, G and B, squared levels of 255; near 0 is grey",
        ),
        Column(
            "grey_tint_residual",
            _SERIES,
            "root mean square distance of (Cb, Cr) from the mean of pixels of the same brightness, levels of 255, at "
            "68 rows; near 0 in grey and toned (sepia) pictures",
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "grey_variance", "samples", "median", "max"),
        *over(writes, "grey_tint_residual", "samples", "median", "max"),
    )
    rate_hz: float | None = 2.0

    def start(self, info: StreamInfo) -> Update:
        import cv2

        def update(view: np.ndarray, seconds: float) -> tuple[float, float]:
            b, g, r = cv2.split(view)
            squares = sum(cv2.norm(x, y, cv2.NORM_L2SQR) for x, y in ((b, g), (g, r), (r, b)))
            return squares / 9 / b.size, _residual(view)  # var(a, b, c) = ((a-b)^2 + (b-c)^2 + (c-a)^2) / 9

        return update


def _residual(color_HWC: np.ndarray) -> float:
    """Root mean square of chroma minus the chroma usual at that luma (a broken line through means of equal shares)."""
    import cv2

    height, width = color_HWC.shape[:2]
    size = max(1, round(width * TINT_HEIGHT_PX / height)), TINT_HEIGHT_PX
    small_NC = cv2.resize(color_HWC.astype(np.float32), size, interpolation=cv2.INTER_AREA).reshape(-1, 3)
    luma = small_NC @ _LUMA
    order = np.argsort(luma)
    chroma_N2 = (small_NC @ _CHROMA.T)[order]
    edges = np.linspace(0, len(luma), NUM_TONES + 1).astype(int)
    counts = np.diff(edges)
    tones = np.add.reduceat(luma[order], edges[:-1]) / counts
    usual_K2 = np.add.reduceat(chroma_N2, edges[:-1]) / counts[:, None]
    squares = sum(np.square(chroma_N2[:, i] - np.interp(luma[order], tones, usual_K2[:, i])).mean() for i in (0, 1))
    return float(np.sqrt(squares))
