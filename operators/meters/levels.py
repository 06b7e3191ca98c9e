# SPDX-License-Identifier: Apache-2.0
"""What a native luma code means as a full-range level: 0 is black and 255 white, whatever the range and bit depth."""

from operators.contract import StreamInfo

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
