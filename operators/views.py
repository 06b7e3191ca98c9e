# SPDX-License-Identifier: Apache-2.0
"""A decoded frame and the views that meters look at, each made at most once a frame, from the planes as they are.

Nobody converts a 4K frame to RGB to look at its mean: TINY samples the planes, PROXY and COLOR average them at the
proxy's size. Only PIXELS, and COLOR of packed formats, go through swscale. All views stand upright.

TINY is PySceneDetect's picture: width 256, point-to-point bilinear sampling without averaging (chroma: the nearest
sample), then BGR. Its content detector therefore gives the published scores (tests/test_views.py compares them).

PROXY and COLOR are means of blocks of 2^n x 2^n samples, of which at most four rows are read, then bilinear sampling
for what remains of the factor, which is less than 2. At 3840x2160 n is 3 and nothing remains. Rows and columns at the
bottom and right that fill no block are left out (at most 2^n - 1).
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.contract import StreamInfo, View
from operators.planes import averaged, eight_bit, sampled, sampled_chroma, turned
from reelmill.pixels import MATRIX_WEIGHTS, frame_rgb, hdr_of, is_full_range, matrix_of, rotation_of, tone_map

TINY_WIDTH_PX = 256
PROXY_HEIGHT_PX = 270
_PLANAR = re.compile(r"(yuva?j?4\d\dp|gray)(9|10|12|14|16)?(le)?$")


@dataclass(frozen=True, slots=True)
class Geometry:
    """What all frames of one stream share, taken from its first frame."""

    info: StreamInfo
    rotation_deg: int
    yuv_to_bgr: np.ndarray  # float32 [3, 4]: 8-bit Y, U, V, 1 -> B, G, R

    @property
    def tiny_size(self) -> tuple[int, int]:
        """(width, height) of TINY, upright; never larger than the frame."""
        width, height = self.info.width_px, self.info.height_px
        factor = max(width / TINY_WIDTH_PX, 1.0)
        return max(1, round(width / factor)), max(1, round(height / factor))

    @property
    def proxy_size(self) -> tuple[int, int]:
        """(width, height) of PROXY and COLOR, upright: 270 rows whatever the frame's size."""
        return max(1, round(PROXY_HEIGHT_PX * self.info.width_px / self.info.height_px)), PROXY_HEIGHT_PX

    def coded(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) as coded of an upright (width, height)."""
        return size if self.rotation_deg % 180 == 0 else (size[1], size[0])


def geometry_of(frame: Any, fps: float) -> Geometry:
    """The geometry of a stream from its first av.VideoFrame."""
    rotation = rotation_of(frame)
    width, height = (frame.width, frame.height) if rotation % 180 == 0 else (frame.height, frame.width)
    shown = _planar(frame)
    full = is_full_range(shown)
    info = StreamInfo(
        width_px=width,
        height_px=height,
        fps=fps,
        bit_depth=luma_depth(frame),
        is_full_range=full,
        hdr=hdr_of(frame.color_trc),
    )
    return Geometry(info, rotation, yuv_to_bgr(matrix_of(frame), full))


def yuv_to_bgr(matrix: int, full_range: bool) -> np.ndarray:
    """float32 [3, 4] that takes 8-bit (Y, U, V, 1) to 8-bit (B, G, R). Source: ITU-R BT.601, BT.709, BT.2020."""
    kr, kb = MATRIX_WEIGHTS[matrix]
    kg = 1 - kr - kb
    y, c = (1.0, 1.0) if full_range else (255 / 219, 255 / 224)
    rows = np.array(
        [
            [y, 2 * (1 - kb) * c, 0],
            [y, -2 * (1 - kb) * kb / kg * c, -2 * (1 - kr) * kr / kg * c],
            [y, 0, 2 * (1 - kr) * c],
        ]
    )
    black = np.array([0 if full_range else 16, 128, 128])
    return np.column_stack([rows, -rows @ black]).astype(np.float32)


def _planar(frame: Any) -> Any:
    """The frame itself if its luma is a plane of its own, else a 4:4:4 copy (packed, palette and RGB formats)."""
    if _PLANAR.match(frame.format.name):
        return frame
    return frame.reformat(
        format="yuv444p",
        dst_colorspace="ITU709",
        dst_color_range="MPEG",
        src_color_range="JPEG" if is_full_range(frame) else "MPEG",
        threads=1,
    )


def luma_depth(frame: Any) -> int:
    """Bits of the luma that the views read: 8 for formats that `_planar` converts."""
    return frame.format.components[0].bits if _PLANAR.match(frame.format.name) else 8


def plane_of(frame: Any, index: int, bit_depth: int) -> np.ndarray:
    """uint8 or uint16 [h, w] of one plane of a planar av.VideoFrame; no copy."""
    plane = frame.planes[index]
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    rows = np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // np.dtype(dtype).itemsize)
    return rows[:, : plane.width]


class Frame:
    """One decoded frame: its time, its flags and its views.

    Attributes:
        pts: presentation time in the stream's time base.
        duration_pts: ticks; null if not stored.
        is_key, is_corrupt: the decoder's flags.
        is_after: the first frame after the segment, given so that pairs across the border are not lost.
    """

    __slots__ = (
        "_geometry",
        "_planar",
        "_planes",
        "_small_planes",
        "_source",
        "_views",
        "duration_pts",
        "is_after",
        "is_corrupt",
        "is_key",
        "pts",
    )

    def __init__(self, source: Any, geometry: Geometry, *, is_after: bool = False) -> None:
        self.pts: int = source.pts
        self.duration_pts: int | None = source.duration or None
        self.is_key, self.is_corrupt, self.is_after = bool(source.key_frame), bool(source.is_corrupt), is_after
        self._source, self._geometry = source, geometry
        self._planar: Any = None
        self._planes: dict[int, np.ndarray] = {}
        self._small_planes: dict[int, np.ndarray] = {}
        self._views: dict[View, np.ndarray] = {}

    def view(self, view: View) -> np.ndarray:
        """The array of that view, see `contract.View`; made on the first call and shared: do not write into it."""
        if view not in self._views:
            self._views[view] = getattr(self, f"_{view.value}")()
        return self._views[view]

    def _planar_frame(self) -> Any:
        if self._planar is None:
            self._planar = _planar(self._source)
        return self._planar

    def _plane(self, index: int) -> np.ndarray:
        if index not in self._planes:
            self._planes[index] = plane_of(self._planar_frame(), index, self._geometry.info.bit_depth)
        return self._planes[index]

    def _turned(self, array: np.ndarray) -> np.ndarray:
        return turned(array, self._geometry.rotation_deg)

    def _luma(self) -> np.ndarray:
        return self._turned(self._plane(0))

    def _tiny(self) -> np.ndarray:
        size = self._geometry.coded(self._geometry.tiny_size)
        depth = self._geometry.info.bit_depth
        small = [eight_bit(sampled(self._plane(0), size), depth)]
        small += [eight_bit(sampled_chroma(self._plane(i), size), depth) for i in self._chroma()]
        return self._turned(self._bgr(small))

    def _tiny_luma(self) -> np.ndarray:
        import cv2

        return cv2.cvtColor(self.view(View.TINY), cv2.COLOR_BGR2GRAY)

    def _chroma(self) -> tuple[int, ...]:
        """Indices of the chroma planes; empty for monochrome."""
        return (1, 2) if len(self._planar_frame().format.components) >= 3 else ()

    def _bgr(self, planes: list[np.ndarray]) -> np.ndarray:
        """BGR of 8-bit Y, U and V planes of one size, or of Y alone."""
        import cv2

        if len(planes) == 1:
            planes = planes + [np.full_like(planes[0], 128)] * 2
        return cv2.transform(cv2.merge(planes), self._geometry.yuv_to_bgr)

    def _at_proxy_size(self, index: int) -> np.ndarray:
        """Code values of a plane in its own depth, as coded (not upright): shared by PROXY and COLOR."""
        if index not in self._small_planes:
            size = self._geometry.coded(self._geometry.proxy_size)
            self._small_planes[index] = averaged(self._plane(index), size)
        return self._small_planes[index]

    def _proxy(self) -> np.ndarray:
        import cv2

        small = eight_bit(self._at_proxy_size(0), self._geometry.info.bit_depth)
        if not self._geometry.info.is_full_range:
            small = cv2.LUT(small, _FULL_FROM_LIMITED)
        return self._turned(small)

    def _color(self) -> np.ndarray:
        geometry = self._geometry
        if not _PLANAR.match(self._source.format.name):
            width, height = geometry.proxy_size
            rgb_HWC = frame_rgb(self._source, (height, width), geometry.rotation_deg)
            return np.ascontiguousarray(rgb_HWC[:, :, ::-1])
        small = [self._at_proxy_size(i) for i in (0, *self._chroma())]
        if geometry.info.hdr != "sdr":
            return self._turned(self._tone_mapped(small))
        return self._turned(self._bgr([eight_bit(plane, geometry.info.bit_depth) for plane in small]))

    def _tone_mapped(self, planes: list[np.ndarray]) -> np.ndarray:
        """SDR BGR of HDR planes of one size and of the stream's depth."""
        import cv2

        depth = self._geometry.info.bit_depth
        if len(planes) == 1:
            planes = planes + [np.full_like(planes[0], 128 << depth - 8)] * 2
        scale = 257 / (1 << depth - 8), 257.0  # 16-bit full-range codes from those of the stream, and from 8-bit ones
        matrix = self._geometry.yuv_to_bgr[::-1] * np.array([*[scale[0]] * 3, scale[1]], np.float32)
        codes_HWC = cv2.transform(cv2.merge([plane.astype(np.float32) for plane in planes]), matrix) + np.float32(0.5)
        rgb_HWC = tone_map(codes_HWC.clip(0, 65535).astype(np.uint16), int(self._source.color_trc))
        return cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2BGR)

    def _pixels(self) -> np.ndarray:
        return frame_rgb(self._source, None, self._geometry.rotation_deg)


_FULL_FROM_LIMITED = np.clip(np.round((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)


def _area(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    if array.shape[1::-1] == size:
        return array
    shrinks = array.shape[1] >= size[0] and array.shape[0] >= size[1]
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


class RgbFrame(Frame):
    """A frame that exists only as RGB: a still image, or what decord gives. Luma is BT.601, full range."""

    __slots__ = ("_rgb",)

    def __init__(
        self,
        rgb_HWC: np.ndarray,
        geometry: Geometry,
        pts: int,
        *,
        duration_pts: int | None = None,
        is_key: bool = True,
        is_after: bool = False,
    ) -> None:
        self.pts, self.duration_pts = pts, duration_pts
        self.is_key, self.is_corrupt, self.is_after = is_key, False, is_after
        self._rgb, self._geometry = rgb_HWC, geometry
        self._views = {}

    def _luma(self) -> np.ndarray:
        import cv2

        return cv2.cvtColor(self._rgb, cv2.COLOR_RGB2GRAY)

    def _tiny(self) -> np.ndarray:
        import cv2

        small = cv2.resize(self._rgb, self._geometry.tiny_size, interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(small[:, :, ::-1])

    def _proxy(self) -> np.ndarray:
        return averaged(self.view(View.LUMA), self._geometry.proxy_size)

    def _color(self) -> np.ndarray:
        return np.ascontiguousarray(_area(self._rgb, self._geometry.proxy_size)[:, :, ::-1])

    def _pixels(self) -> np.ndarray:
        return self._rgb


def rgb_geometry(width_px: int, height_px: int, fps: float) -> Geometry:
    """Geometry of a source of RGB frames that stand upright."""
    info = StreamInfo(width_px=width_px, height_px=height_px, fps=fps, bit_depth=8, is_full_range=True, hdr="sdr")
    return Geometry(info, 0, yuv_to_bgr(5, True))
