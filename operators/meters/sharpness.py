# SPDX-License-Identifier: Apache-2.0
"""Fine detail at stated scales. A variance of the Laplacian means nothing without its scale."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.levels import gain
from operators.scores import Score, over
from reelmill.column import Column

SCALES_PX = (1080, 270)  # of the short side
STRIP_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Sharpness(Meter):
    """Variance of the Laplacian of luma, with the frame's short side scaled to 1080 and to 270 pixels.

    Writes: sharpness_laplacian_1080, sharpness_laplacian_270.
    Source: Pech-Pacheco et al. 2000 (variance of the Laplacian); 3x3 kernel, area scaling. The same frame gave 81 at
        2160 and 813 at 540 pixels, hence the scale in the name. It cannot tell real 4K from upscaled.
    """

    name: ClassVar[str] = "sharpness"
    view: ClassVar[View] = View.LUMA
    writes: ClassVar[tuple[Column, ...]] = tuple(
        Column(
            f"sharpness_laplacian_{px}",
            pa.list_(pa.float32()),
            f"variance of the Laplacian of luma (0-255), the short side scaled to {px} px; null if it is smaller",
        )
        for px in SCALES_PX
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "sharpness_laplacian_1080", "median", "max"),
        *over(writes, "sharpness_laplacian_270", "median", "max"),
    )
    rate_hz: float | None = 2.0

    def start(self, info: StreamInfo) -> Update:
        factor = gain(info) ** 2

        def update(view: np.ndarray, seconds: float) -> tuple[float | None, ...]:
            values: list[float | None] = []
            scaled = view
            for px in SCALES_PX:
                if min(scaled.shape) < px:
                    values.append(None)
                    continue
                scaled = _scaled(scaled, px)
                values.append(_laplacian_variance(scaled) * factor)
            return tuple(values)

        return update


def _laplacian_variance(luma_HW: np.ndarray) -> float:
    """Variance of the Laplacian, in strips that stay in the core's cache."""
    import cv2

    depth = cv2.CV_16S if luma_HW.dtype == np.uint8 else cv2.CV_32F
    last = len(luma_HW)
    squares = total = 0.0
    for top in range(0, last, STRIP_ROWS):
        first, end = max(top - 1, 0), min(top + STRIP_ROWS, last)  # with a row on either side where there is one
        laplacian_HW = cv2.Laplacian(luma_HW[first : end + 1], depth)[top - first : end - first]
        squares += cv2.norm(laplacian_HW, cv2.NORM_L2SQR)  # norm and mean are three times as fast as meanStdDev
        total += cv2.mean(laplacian_HW)[0] * laplacian_HW.size
    return squares / luma_HW.size - (total / luma_HW.size) ** 2


def _scaled(luma_HW: np.ndarray, short_px: int) -> np.ndarray:
    """The plane with its short side scaled down to `short_px`: first by halves, which is much the cheapest."""
    import cv2

    height, width = luma_HW.shape
    while min(height, width) >= 2 * short_px and height % 2 == width % 2 == 0:
        height, width = height // 2, width // 2
        luma_HW = cv2.resize(luma_HW, (width, height), interpolation=cv2.INTER_AREA)
    scale = short_px / min(height, width)
    size = (round(width * scale), round(height * scale))
    return luma_HW if size == (width, height) else cv2.resize(luma_HW, size, interpolation=cv2.INTER_AREA)
