# SPDX-License-Identifier: Apache-2.0
"""How fast the picture moves, and what of it the camera does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.align import aligned
from operators.meters.camera import CLASSES, SURELY, behind_HW, camera_classes, fit_similarity, flow_samples, follows
from operators.meters.stillness import is_still
from operators.scores import Groups, Score, over
from reelmill.column import Column

FINEST_SCALE = 1  # half of 270 rows; at the preset's 2 a shift of 2 px is off by 2 %, at 1 by 0.5 %
PATCH_STRIDE = 6  # at the preset's 4 twice the time and no more right: 0.7 % median error of the length with both
MIN_TEXTURED_SHARE = 0.05  # of the samples; below it the camera is unknown
_SERIES = pa.list_(pa.float32())
_UNKNOWN = "null where too little of the picture has texture"


_SHAKE = Column(
    "camera_shake",
    pa.float64(),
    "unsteadiness: robust standard deviation of the camera's pan and tilt speed "
    "around their medians, frame heights per second; null if unknown",
)


_CLASS = Column(
    "camera_class",
    pa.string(),
    f"what the camera does in the clip, one of {', '.join(CLASSES)}; unknown if too little of the picture has texture, "
    "too much of it moves otherwise, or there are fewer than three pairs; never null",
)


def _shake(groups: Mapping[str, Groups], facts: pa.Table) -> np.ndarray:
    return np.hypot(groups["camera_pan"].spread(), groups["camera_tilt"].spread())


@dataclass(frozen=True, kw_only=True)
class Motion(Meter):
    """Optical flow between neighbouring frames, and the similarity (shift, zoom, roll) that explains most of it.

    Speeds are per second and in frame heights, so they depend neither on the frame rate nor on the size.

    Writes: motion_speed, motion_residual_speed, camera_pan, camera_tilt, camera_zoom, camera_roll, camera_inlier_share.
    Source: DIS flow (Kroeger et al. 2016, OpenCV preset ULTRAFAST one scale finer, patches further apart) on luma at
        270 px height; the camera by `camera.fit_similarity` on the flow, then `align.aligned` on the pixels, none if
        `stillness.is_still`; bounds ours.
    """

    name: ClassVar[str] = "motion"
    version: ClassVar[int] = 4  # 2: camera elected, then aligned; 3: fewer patches; 4: false small movements are none
    view: ClassVar[View] = View.PROXY
    pairwise: ClassVar[bool] = True
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "motion_speed",
            _SERIES,
            "mean length of the optical flow, frame heights per second; null if the frame is too small for flow",
        ),
        Column(
            "motion_residual_speed",
            _SERIES,
            f"mean length of the flow that the camera does not explain, frame heights per second; {_UNKNOWN}",
        ),
        Column(
            "camera_pan",
            _SERIES,
            "horizontal camera speed, frame heights per second, positive when the camera turns right "
            f"(the picture moves left); {_UNKNOWN}",
        ),
        Column(
            "camera_tilt",
            _SERIES,
            "vertical camera speed, frame heights per second, positive when the camera turns up "
            f"(the picture moves down); {_UNKNOWN}",
        ),
        Column(
            "camera_zoom",
            _SERIES,
            "natural logarithm of the picture's growth per second, positive when zooming in or moving forward; "
            f"{_UNKNOWN}",
        ),
        Column(
            "camera_roll",
            _SERIES,
            "rotation of the picture about its centre, degrees per second, positive when it turns clockwise; "
            f"{_UNKNOWN}",
        ),
        Column(
            "camera_inlier_share", _SERIES, f"share of the textured picture that follows the camera, 0-1; {_UNKNOWN}"
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "motion_speed", "mean", "median", "max"),
        *over(writes, "motion_residual_speed", "mean"),
        *over(writes, "camera_pan", "median", "spread"),
        *over(writes, "camera_tilt", "median", "spread"),
        *over(writes, "camera_zoom", "median", "spread"),
        *over(writes, "camera_roll", "median", "spread"),
        *over(writes, "camera_inlier_share", "mean"),
        Score(_SHAKE, _shake),
        Score(_CLASS, lambda groups, facts: camera_classes(groups, facts["fps"].to_pylist())),
    )
    rate_hz: float | None = 4.0

    def start(self, info: StreamInfo) -> Update:
        import cv2

        dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        dis.setFinestScale(FINEST_SCALE)
        dis.setPatchStride(PATCH_STRIDE)

        def update(before: np.ndarray, view: np.ndarray, step_s: float) -> tuple[float | None, ...]:
            if min(view.shape) < 32:  # smaller than DIS can take
                return (None,) * len(self.writes)
            flow_HW = dis.calc(before, view, None).view(np.complex64)[..., 0]
            per_second = 1 / (view.shape[0] * step_s)
            speed = float(np.abs(flow_HW).mean()) * per_second
            z, flow, is_textured = flow_samples(flow_HW, view)
            if is_textured.mean() < MIN_TEXTURED_SHARE:
                return (speed, *(None,) * (len(self.writes) - 1))
            growth, shift = fit_similarity(z[is_textured], flow[is_textured])
            _, is_behind = follows(z, flow, growth, shift, SURELY)
            growth, shift = aligned(before, view, growth, shift, behind_HW(is_behind & is_textured, view.shape))
            if is_still(before, view, growth, shift):
                growth = shift = 0j
            residual, is_inlier = follows(z, flow, growth, shift)
            return (
                speed,
                float(residual.mean()) * per_second,
                -shift.real * per_second,
                shift.imag * per_second,
                float(np.log(abs(1 + growth))) / step_s,
                float(np.degrees(np.angle(1 + growth))) / step_s,
                float(is_inlier[is_textured].mean()),
            )

        return update
