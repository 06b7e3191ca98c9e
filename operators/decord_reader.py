# SPDX-License-Identifier: Apache-2.0
"""decord as a reader, only where it can be shown to give the right frames.

decord 0.6.0 cannot open AV1, gives wrong frames after an open-GOP key (leading pictures are dropped, its counter is
not), spins for ever when a container reports more frames than it has (dmlc/decord #373), and knows 8-bit RGB only. So
the packets are demuxed first with PyAV, which costs about 1 ms a 4K frame; decord reads only what passes the checks of
`reason_against`, and its own list of frame times must agree with the packets'.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from operators.video import Closing
from operators.views import Frame, RgbFrame, rgb_geometry
from reelmill.media import Media, open_media

CODECS = ("h264", "hevc", "vp8", "vp9", "mpeg4", "mjpeg", "prores")


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """Times of a stream's frames by its packets, in presentation order."""

    pts: list[int]
    is_key: list[bool]
    duration_pts: list[int | None]
    time_base: Fraction
    fps: float


def reason_against(uri: str) -> tuple[str | None, PacketIndex | None]:
    """(reason, None) if decord must not read this file, else (None, its packets' times)."""
    if uri.startswith("s3://"):
        return "decord reads local files only", None
    with open_media(uri) as media:
        reason = _header_reason(media)
        if reason is not None:
            return reason, None
        reason, index = _demux(media)
    return (reason, None) if reason is not None or index is None else _times_reason(uri, index)


def _header_reason(media: Media) -> str | None:
    context = media.stream.codec_context
    codec = context.codec.canonical_name
    if codec not in CODECS:
        return f"decord is not used for {codec}"
    if context.format is None or context.format.components[0].bits > 8:
        return "decord gives 8-bit frames only"
    return None


def _demux(media: Media) -> tuple[str | None, PacketIndex | None]:
    times: list[tuple[int, bool, int | None]] = []
    key_pts: int | None = None
    for packet in media.packets():
        if not packet.size:
            continue
        if packet.pts is None:
            return "packets without presentation times", None
        if packet.is_keyframe:
            key_pts = packet.pts
        elif key_pts is not None and packet.pts < key_pts:
            return f"open GOP at pts {key_pts}: decord loses the pictures that lead its key frame", None
        times.append((packet.pts, packet.is_keyframe, packet.duration or None))
    stated = media.stream.frames
    if stated and stated != len(times):
        return f"the header states {stated} frames, the file has {len(times)}", None
    if not times or not times[0][1]:
        return "the stream does not start with a key frame", None
    times.sort()
    pts = [t[0] for t in times]
    if len(set(pts)) != len(pts):
        return "two packets have one presentation time", None
    stream = media.stream
    return None, PacketIndex(
        pts,
        [t[1] for t in times],
        [t[2] for t in times],
        stream.time_base or Fraction(1),
        float(stream.average_rate or 0),
    )


def _times_reason(uri: str, index: PacketIndex) -> tuple[str | None, PacketIndex | None]:
    """Compares decord's frame count and start times with the packets'."""
    import decord

    try:
        reader = decord.VideoReader(uri, num_threads=1)
    except (decord.DECORDError, RuntimeError) as error:
        return f"decord cannot open it: {str(error).splitlines()[-1][:120]}", None
    if len(reader) != len(index.pts):
        return f"decord counts {len(reader)} frames, the packets are {len(index.pts)}", None
    starts_s = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    shift = float(starts_s[0]) - float(index.pts[0] * index.time_base)
    for start_s, pts in zip(starts_s, index.pts, strict=True):
        if abs(float(start_s) - shift - float(pts * index.time_base)) > max(float(index.time_base), 1e-3):
            return f"decord places the frame of pts {pts} at {float(start_s):.4f} s", None
    return None, index


class DecordSegment(Closing):
    """A segment decoded by decord: upright RGB frames, whose luma is BT.601 at full range."""

    backend = "decord"
    backend_note: str | None = None
    num_corrupt_frames = 0  # decord does not say

    def __init__(self, uri: str, index: PacketIndex, start_pts: int | None, end_pts: int | None, threads: int) -> None:
        import decord

        self.damage: str | None = None
        self.time_base = index.time_base
        self._index = index
        self._reader = decord.VideoReader(uri, num_threads=threads)
        self._start = 0 if start_pts is None else bisect_left(index.pts, start_pts)
        self._end = len(index.pts) if end_pts is None else bisect_left(index.pts, end_pts)
        first_HWC = self._reader[0].asnumpy()
        self._geometry = rgb_geometry(first_HWC.shape[1], first_HWC.shape[0], index.fps)
        self.info = self._geometry.info

    def __iter__(self) -> Iterator[Frame]:
        import decord

        self._reader.seek_accurate(self._start)
        for i in range(self._start, min(self._end + 1, len(self._index.pts))):
            try:
                rgb_HWC = self._reader.next().asnumpy()
            except (decord.DECORDError, StopIteration) as error:
                self.damage = f"decord: {str(error).splitlines()[-1][:200] if str(error) else 'stream ends early'}"
                return
            yield RgbFrame(
                rgb_HWC,
                self._geometry,
                self._index.pts[i],
                duration_pts=self._index.duration_pts[i],
                is_key=self._index.is_key[i],
                is_after=i >= self._end,
            )
