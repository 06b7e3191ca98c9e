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
    import cv2

    laplacian_HW = cv2.Laplacian(luma_HW, cv2.CV_16S if luma_HW.dtype == np.uint8 else cv2.CV_32F)
    mean = cv2.mean(laplacian_HW)[0]  # norm and mean are three times as fast as meanStdDev
    return cv2.norm(laplacian_HW, cv2.NORM_L2SQR) / laplacian_HW.size - mean**2


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
