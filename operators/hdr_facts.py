# SPDX-License-Identifier: Apache-2.0
"""What a stream says of its high dynamic range beside the transfer tag: light levels, mastering display, layers.

Read from the side data of one decoded frame, where FFmpeg puts what the container and the bit stream say. The frame
must be dropped soon after: PyAV's list of side data keeps its frame alive until the garbage collector runs.
"""

import struct
from typing import Any

COLUMNS = (
    "max_cll_nits",
    "max_fall_nits",
    "mastering_max_nits",
    "mastering_min_nits",
    "has_hdr10plus",
    "has_dolby_vision",
)
DOLBY_VISION_TAGS = ("dvh1", "dvhe", "dva1", "dvav", "dav1")


def hdr_facts(frame: Any, codec_tag: str) -> dict[str, float | bool | None]:
    """Values of COLUMNS. A level of 0 means "unknown" in the standard and becomes null.

    Args:
        frame: the first av.VideoFrame of the stream.
        codec_tag: the container's four letters for the stream's codec.

    Source: CTA-861.3 (content light level); SMPTE ST 2086 (mastering display), ST 2094-40 (HDR10+); layouts of
    FFmpeg's AVContentLightMetadata and AVMasteringDisplayMetadata.
    """
    data = {item.type.name: item for item in frame.side_data}
    light = data.get("CONTENT_LIGHT_LEVEL")
    cll, fall = struct.unpack_from("<II", bytes(light)) if light is not None else (0, 0)
    display = data.get("MASTERING_DISPLAY_METADATA")
    low, high = _luminance(bytes(display)) if display is not None else (None, None)
    return {
        "max_cll_nits": float(cll) or None,
        "max_fall_nits": float(fall) or None,
        "mastering_max_nits": high or None,
        "mastering_min_nits": low if high else None,
        "has_hdr10plus": "DYNAMIC_HDR_PLUS" in data,
        "has_dolby_vision": not data.keys().isdisjoint({"DOVI_RPU_BUFFER", "DOVI_METADATA"})
        or codec_tag.lower() in DOLBY_VISION_TAGS,
    }


def _luminance(metadata: bytes) -> tuple[float | None, float | None]:
    """(minimum, maximum) in nits: rationals behind eight rationals of chromaticities; a flag says if they are set."""
    if len(metadata) < 88:
        return None, None
    low, low_of, high, high_of, _, is_set = struct.unpack_from("<6i", metadata, 64)
    return (low / low_of, high / high_of) if is_set and low_of and high_of else (None, None)
