# SPDX-License-Identifier: Apache-2.0
"""A hash of what a packet codes, whatever container it came in: a copy of the bit stream has the same ones.

Containers wrap the same coded pictures differently: MP4 and Matroska put lengths before the units of H.264, HEVC and
AV1, MPEG-TS start codes; parameter sets, delimiters and messages stand in the header, in every packet, or nowhere.
Only the slices (in AV1, frames) are hashed.
"""

import hashlib

from reelmill.packets import length_bytes_of, units_of

HASH_BITS = 52  # so that a float64, into which a list with nulls turns, holds it exactly
_AV1_DELIMITER = b"\x12\x00"
_AV1_SEQUENCE_HEADER = 1


class PayloadHash:
    """Hashes packets of one stream.

    Args:
        codec: FFmpeg's canonical codec name.
        extradata: the stream's parameter sets, which tell how units are separated; null: by start codes.

    Source: ITU-T H.264 table 7-1 and H.265 table 7-1 (unit types that are slices), AV1 5.3 (open bitstream units).
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._codec = codec
        self._length_bytes = length_bytes_of(codec, extradata or b"")

    def __call__(self, data: bytes) -> int:
        """A number below 2^52."""
        hasher = hashlib.blake2b(digest_size=8)
        if self._codec in ("h264", "hevc"):
            for unit in units_of(data, self._length_bytes):
                kind = unit[0] & 31 if self._codec == "h264" else unit[0] >> 1 & 63
                if kind in range(1, 6) if self._codec == "h264" else kind < 32:
                    hasher.update(unit.rstrip(b"\0"))  # zeros before the next start code
        else:
            hasher.update(_without_headers(data) if self._codec == "av1" else data)
        return int.from_bytes(hasher.digest(), "big") >> 64 - HASH_BITS


def _without_headers(data: bytes) -> bytes:
    """An AV1 packet from its first unit that is neither a delimiter nor a sequence header on."""
    data = data.removeprefix(_AV1_DELIMITER)
    while len(data) > 1 and data[0] >> 3 & 15 == _AV1_SEQUENCE_HEADER and data[0] & 2:
        at, size, shift = 1 + (data[0] >> 2 & 1), 0, 0
        while at < len(data) and shift < 56:
            size |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if not data[at - 1] & 128:
                break
        data = data[at + size :]
    return data
