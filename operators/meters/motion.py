# SPDX-License-Identifier: Apache-2.0
"""How fast the picture moves, and what of it the camera does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Groups, Score, over
from reelmill.column import Column

GRID_PX = 8  # spacing of the flow samples that the camera is fitted to
TEXTURE_LEVEL = 2.0  # mean absolute gradient (levels per pixel) above which a sample's flow can be trusted
MIN_TEXTURED_SHARE = 0.05  # of the samples; below it the camera is unknown
INLIER_PX, INLIER_SHARE = 0.25, 0.15  # a sample follows the camera within 0.25 px + 15 % of the camera's own flow
FIT_STEPS = 10
_SERIES = pa.list_(pa.float32())
_UNKNOWN = "null where too little of the picture has texture"


_SHAKE = Column(
    "camera_shake",
    pa.float64(),
    "unsteadiness: robust standard deviation of the camera's pan and tilt speed "
    "around their medians, frame heights per second; null if unknown",
)


def _shake(groups: Mapping[str, Groups], facts: pa.Table) -> np.ndarray:
    return np.hypot(groups["camera_pan"].spread(), groups["camera_tilt"].spread())


@dataclass(frozen=True, kw_only=True)
class Motion(Meter):
    """Optical flow between neighbouring frames, and the similarity (shift, zoom, roll) that explains most of it.

    Speeds are per second and in frame heights, so they depend neither on the frame rate nor on the size.

    Writes: motion_speed, motion_residual_speed, camera_pan, camera_tilt, camera_zoom, camera_roll, camera_inlier_share.
    Source: DIS flow (Kroeger et al. 2016, OpenCV preset ULTRAFAST) on luma at 270 px height; similarity by reweighted
        least squares with a Geman-McClure weight narrowed step by step (Yang et al. 2020); bounds ours.
    """

    name: ClassVar[str] = "motion"
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
    )
    rate_hz: float | None = 4.0

    def start(self, info: StreamInfo) -> Update:
        import cv2

        dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

        def update(before: np.ndarray, view: np.ndarray, step_s: float) -> tuple[float | None, ...]:
            if min(view.shape) < 32:  # smaller than DIS can take
                return (None,) * len(self.writes)
            flow_HW = dis.calc(before, view, None).view(np.complex64)[..., 0]
            per_second = 1 / (view.shape[0] * step_s)
            speed = float(np.abs(flow_HW).mean()) * per_second
            z, flow, is_textured = _samples(flow_HW, view)
            if is_textured.mean() < MIN_TEXTURED_SHARE:
                return (speed, *(None,) * (len(self.writes) - 1))
            growth, shift = fit_similarity(z[is_textured], flow[is_textured])
            camera_flow = z * growth + shift
            residual = np.abs(flow - camera_flow)
            is_inlier = residual <= INLIER_PX + INLIER_SHARE * np.abs(camera_flow)
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


def _samples(flow_HW: np.ndarray, luma_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions about the centre (x + iy, pixels), flow and whether there is texture, on a grid."""
    import cv2

    height, width = luma_HW.shape
    dx_HW, dy_HW = (cv2.Sobel(luma_HW, cv2.CV_32F, dx, 1 - dx, scale=0.125) for dx in (1, 0))  # levels per pixel
    texture_HW = cv2.blur(np.abs(dx_HW) + np.abs(dy_HW), (GRID_PX, GRID_PX))
    y, x = np.mgrid[GRID_PX // 2 : height : GRID_PX, GRID_PX // 2 : width : GRID_PX]
    z = (x - (width - 1) / 2) + 1j * (y - (height - 1) / 2)
    return z.ravel(), flow_HW[y, x].ravel().astype(np.complex128), texture_HW[y, x].ravel() > TEXTURE_LEVEL


def fit_similarity(z: np.ndarray, flow: np.ndarray) -> tuple[complex, complex]:
    """The complex `growth`, `shift` with flow = growth * z + shift for most of the samples.

    Args:
        z, flow: [N] complex positions and displacements, pixels; x is real, y (down) imaginary.

    Returns:
        growth (real part: relative growth, imaginary: clockwise radians) and shift of the picture at z = 0.
    """
    growth: complex = 0j
    shift = complex(np.median(np.real(flow)), np.median(np.imag(flow)))
    scale = max(4 * float(np.median(np.abs(flow - shift))), INLIER_PX)
    ratio = (INLIER_PX / scale) ** (1 / (FIT_STEPS - 1))
    for _ in range(FIT_STEPS):
        residual = np.abs(flow - growth * z - shift)
        weight = 1 / (1 + (residual / scale) ** 2) ** 2
        weight /= weight.sum()
        z_mean, flow_mean = weight @ z, weight @ flow
        centred = z - z_mean
        growth = complex((weight * centred.conj()) @ (flow - flow_mean) / ((weight @ np.abs(centred) ** 2) or 1.0))
        shift = complex(flow_mean - z_mean * growth)
        scale *= ratio
    return growth, shift
