# SPDX-License-Identifier: Apache-2.0
"""What the packets of a stream tell without decoding: the times of all frames, and which packets need no decoding.

A packet of H.264 or HEVC can be left out if no other picture refers to it. FFmpeg's `skip_frame=NONREF` looks at the
type alone, which is wrong in HEVC streams with temporal layers (a picture "of no reference" is one for its own layer
only) and in H.264 coded as fields (the second field has a packet and a time of its own). So the rule is kept here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from reelmill.media import Media, open_media

_H264_SLICES, _H264_PARAMETERS, _H264_SPS = range(1, 6), (7, 8, 13, 15), 7
_HEVC_SLICES, _HEVC_PARAMETERS, _HEVC_SPS = range(32), (32, 33, 34), 33
_HEVC_SUBLAYER_NON_REFERENCE = (0, 2, 4, 6, 8, 10, 12, 14)  # TRAIL_N, TSA_N, STSA_N, RADL_N, RASL_N, reserved
_LENGTH_AT = {"h264": 4, "hevc": 21}  # byte of avcC, hvcC
LOOK_BYTES = 128  # of a unit: its header, or a sequence parameter set
_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """The frames of a stream by its packets, in presentation order; without those outside the edit list.

    Attributes:
        pts: ascending, in `time_base`.
        is_key: the container's or parser's key flag.
        num_bytes: size of the packet that carries the frame.
        duration_pts: ticks; null where not stored.
        leading_at: pts of the first key frame that is followed, in file order, by a picture shown before it (open
            GOP); null if there is none.
        fault: why the packets do not give one time per frame; null if they do. The other fields then hold what was
            read up to the fault.
        time_base: seconds per tick.
        fps: the stream's average rate; 0 if not stated.
    """

    pts: list[int]
    is_key: list[bool]
    num_bytes: list[int]
    duration_pts: list[int | None]
    leading_at: int | None
    fault: str | None
    time_base: Fraction
    fps: float


def frame_index(media: Media) -> FrameIndex:
    """Demuxes the whole stream (about 1 ms a 4K frame) from its start.

    Args:
        media: an open `reelmill.media.Media`; it stands at its end afterwards.

    Raises:
        av.error.FFmpegError, OSError: reading fails.
    """
    media.rewind()
    times: list[tuple[int, bool, int, int | None]] = []
    key_pts = leading_at = None
    fault = "the container stores no presentation times" if media.is_untimed else None
    starts_with_key: bool | None = None
    shows_all = media.stream.codec_context.codec.canonical_name != "vp8"
    for packet in media.packets():
        if not packet.size:
            continue
        if starts_with_key is None:
            starts_with_key = packet.is_keyframe
        if packet.is_discard or not (shows_all or bytes(packet)[0] >> 4 & 1):
            continue  # outside the edit list, or a VP8 picture that serves as reference only
        if packet.pts is None:
            fault = "packets without presentation times"
            break
        if packet.is_keyframe:
            key_pts = packet.pts
        elif key_pts is not None and packet.pts < key_pts and leading_at is None:
            leading_at = key_pts
        times.append((packet.pts, packet.is_keyframe, packet.size, packet.duration or None))
    media.check_reads()
    if fault is None and not starts_with_key:
        fault = "the stream does not start with a key frame"
    times.sort(key=lambda t: t[0])
    if fault is None and len({t[0] for t in times}) != len(times):
        fault = "two packets have one presentation time"
    pts, is_key, num_bytes, duration_pts = (list(column) for column in zip(*times, strict=True)) if times else ([],) * 4
    stream = media.stream
    rate = float(stream.average_rate or 0)
    return FrameIndex(pts, is_key, num_bytes, duration_pts, leading_at, fault, stream.time_base or Fraction(1), rate)


def has_one_timeline(media: Media) -> bool:
    """Whether no time of the stream can come twice, so that a seek by time can be trusted.

    Only MPEG streams can fail: recorders join files by appending them, and each part's times start anew. Their packets
    are demuxed once per process and file; all other containers have one index or increasing times by definition.
    """
    if media.container.format.name not in ("mpegts", "mpeg"):
        return True
    return _ascends(media.uri, media.container.size)


@lru_cache(maxsize=256)
def _ascends(uri: str, num_bytes: int) -> bool:
    """Whether decoding times ascend over the whole file; `num_bytes` only tells a file from its successor."""
    from av.error import FFmpegError

    before: int | None = None
    with open_media(uri) as media:
        try:
            for packet in media.packets():
                if packet.dts is None:
                    continue
                if before is not None and packet.dts < before:
                    return False
                before = packet.dts
        except FFmpegError:
            return False
        media.check_reads()
    return True


class Droppable:
    """Tells which packets of a stream no other picture needs, so that a reader who does not want them can leave them.

    Args:
        codec: FFmpeg's canonical codec name; other than h264 and hevc nothing is ever droppable.
        extradata: the stream's parameter sets, as avcC/hvcC or as Annex B; null: those in the packets count.

    Attributes:
        whole_frames: each packet is known to hold a whole picture. Always true but for H.264, where the sequence
            parameters must say that there are no field pictures.
        is_monochrome: H.264 says 4:0:0; its decoder gives 4:2:0 with grey chroma all the same.

    Source: ITU-T H.264 7.4.1 (nal_ref_idc), 7.3.2.1.1 (frame_mbs_only_flag); ITU-T H.265 3.x (sub-layer non-reference
    picture), table 7-1; ISO/IEC 14496-15 (avcC, hvcC).
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._codec = codec
        self._top_layer: int | None = None  # HEVC: highest temporal id that the sequence may have
        self.whole_frames, self.is_monochrome = codec != "h264", False
        data = extradata or b""
        self._length_bytes = length_bytes_of(codec, data)
        if codec in _LENGTH_AT:
            for unit in _configured_units(data, codec) if self._length_bytes else units_of(data, 0, LOOK_BYTES):
                self._learn(unit)

    def __call__(self, data: bytes) -> bool:
        """Whether this packet can be left out without a change to any other picture."""
        if self._codec not in ("h264", "hevc"):
            return False
        units = list(units_of(data, self._length_bytes, LOOK_BYTES))
        for unit in units:
            self._learn(unit)
        return self._h264(units) if self._codec == "h264" else self._hevc(units)

    def _learn(self, unit: bytes) -> None:
        if self._codec == "h264" and len(unit) > 4 and unit[0] & 31 == _H264_SPS:
            self.whole_frames, self.is_monochrome = _sequence(unit)
        elif self._codec == "hevc" and len(unit) > 2 and unit[0] >> 1 & 63 == _HEVC_SPS:
            self._top_layer = unit[2] >> 1 & 7

    def _h264(self, units: list[bytes]) -> bool:
        kinds = [(unit[0] & 31, unit[0] >> 5 & 3) for unit in units]
        if not self.whole_frames or any(kind in _H264_PARAMETERS for kind, _ in kinds):
            return False
        references = [reference for kind, reference in kinds if kind in _H264_SLICES]
        return bool(references) and not any(references)

    def _hevc(self, units: list[bytes]) -> bool:
        kinds = [(unit[0] >> 1 & 63, (unit[1] & 7) - 1) for unit in units if len(unit) > 1]
        if self._top_layer is None or any(kind in _HEVC_PARAMETERS for kind, _ in kinds):
            return False
        slices = [(kind, layer) for kind, layer in kinds if kind in _HEVC_SLICES]
        return bool(slices) and all(
            kind in _HEVC_SUBLAYER_NON_REFERENCE and layer == self._top_layer for kind, layer in slices
        )


def length_bytes_of(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each NAL unit as an avcC or hvcC record says; 0: there are start codes instead."""
    at = _LENGTH_AT.get(codec)
    configured = at is not None and len(extradata) > at + 1 and extradata[0] == 1
    return (extradata[at] & 3) + 1 if at is not None and configured else 0


def units_of(data: bytes, length_bytes: int, most: int | None = None) -> Iterator[bytes]:
    """NAL units, or their first `most` bytes: length-prefixed, or after start codes if `length_bytes` is 0."""
    at = 0
    if length_bytes:
        while at + length_bytes < len(data):
            size = int.from_bytes(data[at : at + length_bytes], "big")
            at += length_bytes
            if size:
                yield data[at : at + (size if most is None else min(size, most))]
            at += size
        return
    at = data.find(b"\0\0\1")
    while at >= 0:
        after = data.find(b"\0\0\1", at + 3)
        end = after if after >= 0 else len(data)
        unit = data[at + 3 : end if most is None else min(at + 3 + most, end)]
        if unit:
            yield unit
        at = after


def _configured_units(data: bytes, codec: str) -> Iterator[bytes]:
    """The parameter sets of an avcC or hvcC record (its sequence sets at least)."""
    if codec == "h264":
        at, arrays = 6, [data[5] & 31]
    else:
        at, arrays = 23, [0] * (data[22] if len(data) > 22 else 0)
    for count in arrays:
        if codec == "hevc":
            count = int.from_bytes(data[at + 1 : at + 3], "big")
            at += 3
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            if not size or at + 2 + size > len(data):
                return
            yield data[at + 2 : at + 2 + size]
            at += 2 + size


class _Bits:
    """A bit reader with Exp-Golomb codes; raises IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data.replace(b"\0\0\3", b"\0\0"), 0

    def bit(self) -> int:
        value = self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
        self._at += 1
        return value

    def bits(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self.bit()
        return value

    def golomb(self) -> int:
        zeros = 0
        while not self.bit():
            zeros += 1
        return (1 << zeros) - 1 + self.bits(zeros)


def _sequence(sps: bytes) -> tuple[bool, bool]:
    """(frame_mbs_only_flag, chroma_format_idc is 0) of an H.264 sequence parameter set; false where not readable."""
    bits = _Bits(sps[1:])
    is_monochrome = False
    try:
        profile = bits.bits(24) >> 16
        bits.golomb()
        if profile in _HIGH_PROFILES:
            chroma = bits.golomb()
            is_monochrome = chroma == 0
            if not _skip_depths(bits, chroma):
                return False, is_monochrome
        bits.golomb()  # log2_max_frame_num
        order = bits.golomb()
        if order == 0:
            bits.golomb()
        elif order == 1:
            bits.bit()
            bits.golomb()
            bits.golomb()
            for _ in range(bits.golomb()):
                bits.golomb()
        bits.golomb()  # max_num_ref_frames
        bits.bit()
        bits.golomb()  # width
        bits.golomb()  # height
        return bool(bits.bit()), is_monochrome
    except IndexError:
        return False, is_monochrome


def _skip_depths(bits: _Bits, chroma: int) -> bool:
    """Reads past the other fields of the High profiles; false if scaling lists follow, which are not read here."""
    if chroma == 3:
        bits.bit()
    bits.golomb()  # luma depth
    bits.golomb()  # chroma depth
    bits.bit()
    return not bits.bit()
