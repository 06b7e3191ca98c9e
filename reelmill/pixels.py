# SPDX-License-Identifier: Apache-2.0
"""From a decoded frame to RGB, with the pixel values defined: matrix, range, size, rotation and HDR.

* Matrix as tagged; untagged streams count as BT.709 from 1280 columns or 577 rows on, else BT.601 (players' rule).
* Range as tagged; untagged is limited (full for `yuvj` formats and RGB).
* Scaling: area averaging down, bilinear up, in coded orientation, then rotation; swscale with accurate rounding and
  bit-exact flags, so that machines agree. Results lie within 1 of the exact matrix arithmetic.
* PQ and HLG are tone-mapped to SDR after scaling (`tone_map`); SDR BT.2020 keeps its code values.
"""

from functools import cache
from typing import Any

import numpy as np

SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # AVColorSpace -> swscale's number; others: guessed
MATRIX_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
PQ, HLG = 16, 18  # AVColorTransferCharacteristic
FULL_RANGE = 2  # AVColorRange

SDR_WHITE_NITS = 203.0  # BT.2408: diffuse white of HDR material
PEAK_NITS = 1000.0  # brightest level kept apart; what lies above becomes white
_GAMMA = 1 / 2.2
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # BT.2087
_LUMA_709 = np.array([0.2126, 0.7152, 0.0722], np.float32)
_ROWS_AT_ONCE = 128  # keeps the float copies of a 4K frame at a few MB


def matrix_of(frame: Any) -> int:
    """swscale's number of the frame's YUV matrix, guessed from the size where the stream does not say."""
    known = SWS_MATRIX.get(int(frame.colorspace))
    return known if known is not None else (1 if frame.width >= 1280 or frame.height > 576 else 5)


def is_full_range(frame: Any) -> bool:
    """Whether luma runs over all codes (0-255 at 8 bit) instead of 16-235."""
    return int(frame.color_range) == FULL_RANGE or frame.format.name.startswith("yuvj") or frame.format.is_rgb


def hdr_of(transfer: int) -> str:
    """sdr, pq or hlg from the transfer tag."""
    return {PQ: "pq", HLG: "hlg"}.get(int(transfer), "sdr")


def rotation_of(frame: Any) -> int:
    """Clockwise degrees (0, 90, 180, 270) that turn the coded frame upright, by its display matrix."""
    return round(-frame.rotation / 90) % 4 * 90


def upright(array: np.ndarray, rotation_deg: int) -> np.ndarray:
    """`array` [H, W, ...] turned clockwise by a multiple of 90 degrees; a view."""
    return np.rot90(array, -(rotation_deg // 90)) if rotation_deg else array


def frame_rgb(frame: Any, size: tuple[int, int] | None = None, rotation_deg: int | None = None) -> np.ndarray:
    """uint8 RGB [H, W, 3] of a PyAV frame, upright, at its native size or at `size`.

    Args:
        frame: av.VideoFrame of any pixel format.
        size: (height, width) as displayed, after rotation; null: native.
        rotation_deg: clockwise; null: what the frame's display matrix says.
    """
    turn = rotation_of(frame) if rotation_deg is None else rotation_deg
    height, width = (frame.height, frame.width) if size is None else size if turn % 180 == 0 else size[::-1]
    transfer = int(frame.color_trc)
    if hdr_of(transfer) == "sdr":
        return np.ascontiguousarray(upright(_convert(frame, height, width, "rgb24"), turn))
    return tone_map(np.ascontiguousarray(upright(_convert(frame, height, width, "gbrp16le"), turn)), transfer)


def _convert(frame: Any, height: int, width: int, pixel_format: str) -> np.ndarray:
    """uint8 (rgb24) or uint16 (gbrp16le) RGB [H, W, 3], in coded orientation.

    gbrp16le and not rgb48le: swscale gives wrong colours for the latter where 4:2:0 keeps its height.
    """
    full = is_full_range(frame)
    if frame.format.name.startswith("gray") and not full:  # swscale takes grey for full range, whatever it is told
        codes_HW = _scaled(frame, height, width, "gray16le", True).astype(np.float32)
        top = 255 if pixel_format == "rgb24" else 65535
        grey_HW = ((codes_HW * (255 / 65535) - 16) * (top / 219) + 0.5).clip(0, top)
        return grey_HW.astype(np.uint8 if top == 255 else np.uint16)[..., None].repeat(3, axis=2)
    return _scaled(frame, height, width, pixel_format, full)


def _scaled(frame: Any, height: int, width: int, pixel_format: str, full: bool) -> np.ndarray:
    from av.video.reformatter import Interpolation

    shrinks = height < frame.height or width < frame.width
    flags = (
        (Interpolation.AREA if shrinks else Interpolation.BILINEAR)
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.BITEXACT
    )
    out = frame.reformat(
        width=width,
        height=height,
        format=pixel_format,
        interpolation=flags,
        threads=1,
        src_colorspace=matrix_of(frame),
        src_color_range=2 if full else 1,
        dst_color_range=2,
    )
    return out.to_ndarray()


@cache
def _linear_light(transfer: int) -> np.ndarray:
    """float32 [65536]: code value -> light relative to SDR white. Source: SMPTE ST 2084; ITU-R BT.2100 (HLG)."""
    code = np.linspace(0, 1, 65536)
    if transfer == PQ:
        power = code ** (1 / 78.84375)
        nits = 10000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
    else:
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        nits = PEAK_NITS * scene**1.2  # system gamma of a 1000-nit display, taken per channel
    return (nits / SDR_WHITE_NITS).astype(np.float32)


@cache
def _gamma_codes() -> np.ndarray:
    return np.round(255 * np.linspace(0, 1, 4096) ** _GAMMA).astype(np.uint8)


def tone_map(rgb_HWC: np.ndarray, transfer: int) -> np.ndarray:
    """SDR uint8 BT.709 [H, W, 3] of 16-bit PQ or HLG BT.2020 code values.

    Extended Reinhard on luminance: SDR white 203 nits, 1000 nits become white; display gamma 2.2.

    Args:
        rgb_HWC: uint16 [H, W, 3], full range.
        transfer: 16 (PQ) or 18 (HLG).

    Source: Reinhard et al. 2002, eq. 4; ITU-R BT.2408 (203 nits); BT.2087 (primaries).
    """
    out_HWC = np.empty(rgb_HWC.shape, np.uint8)
    peak = PEAK_NITS / SDR_WHITE_NITS
    for top in range(0, len(rgb_HWC), _ROWS_AT_ONCE):
        light = _linear_light(transfer).take(rgb_HWC[top : top + _ROWS_AT_ONCE]) @ _BT2020_TO_BT709.T
        luma = np.maximum(light @ _LUMA_709, 1e-6)[..., None]
        light *= (1 + luma / peak**2) / (1 + luma)
        light.clip(0, 1, out=light)
        light *= 4095
        light += 0.5
        _gamma_codes().take(light.astype(np.uint16), out=out_HWC[top : top + _ROWS_AT_ONCE], mode="clip")
    return out_HWC
