# SPDX-License-Identifier: Apache-2.0
"""What a native luma code means as a full-range level: 0 is black and 255 white, whatever the range and bit depth."""

from functools import cache

import numpy as np

from operators.contract import StreamInfo
from reelmill.pixels import HLG, PQ, tone_map

BLACK_CODE, WHITE_CODE = 16, 235  # limited range, 8 bits (ITU-R BT.709, BT.2020)


def gain(info: StreamInfo) -> float:
    """Levels per code of the native luma plane."""
    span = 255 if info.is_full_range else WHITE_CODE - BLACK_CODE
    return 255.0 / span / (1 << (info.bit_depth - 8))


def black_code(info: StreamInfo) -> int:
    """The native luma code of level 0."""
    return 0 if info.is_full_range else BLACK_CODE << (info.bit_depth - 8)


def code_of(level: float, info: StreamInfo) -> float:
    """The native luma code (not rounded) of a level."""
    return level / gain(info) + black_code(info)


@cache
def shown_levels(info: StreamInfo) -> np.ndarray:
    """float64 [codes]: the level at which each luma code is shown on an SDR display.

    SDR: the straight line through black and white, which leaves 0-255 below black and above white. PQ and HLG: what
    `reelmill.pixels.tone_map` makes of a grey of that code (203 nits is level 186, 1000 nits and more are white), so
    that a level means the same in every stream and agrees with the views that models see. Treat it as read-only.
    """
    lines = (np.arange(1 << info.bit_depth) - black_code(info)) * gain(info)
    if info.hdr == "sdr":
        return lines
    codes = np.rint(lines.clip(0, 255) * 257).astype(np.uint16)
    transfer = PQ if info.hdr == "pq" else HLG
    return tone_map(np.repeat(codes[None, :, None], 3, axis=2), transfer)[0, :, 0].astype(np.float64)
