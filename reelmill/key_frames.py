# SPDX-License-Identifier: Apache-2.0
"""Key frames alone: a look at a whole film for a fraction of a decode.

Asking the decoder to skip all others (`skip_frame=NONKEY`) makes it wait for later key frames before it gives one.
Here each key packet is decoded and drained by itself, which gives the same pixels as the decode of the whole stream.
"""

from collections.abc import Iterator
from typing import Any

from reelmill.media import Media
from reelmill.spans import SpanError, TooLate, droppable_of, iter_span, move, seek_targets


def iter_key_frames(media: Media, start_pts: int | None = None, end_pts: int | None = None) -> Iterator[Any]:
    """Yields the key frames of [start_pts, end_pts), each decoded from its packet alone.

    A key frame that does not decode from its packet (a recovery point whose picture builds up over several, damage)
    is left out. H.264 that may hold field pictures is decoded in full instead.

    Args:
        start_pts: null: from the start. Need not be the pts of a frame.
        end_pts: exclusive; null: to the end of the stream.

    Raises:
        SpanError: a key frame has no pts.
        OSError: storage failed.
    """
    if media.is_untimed or not droppable_of(media).whole_frames:
        for frame in iter_span(media, start_pts, end_pts, start_pts):
            if frame.key_frame and not frame.is_corrupt and (end_pts is None or frame.pts < end_pts):
                yield frame
        return
    for packet in _key_packets(media, start_pts):
        if end_pts is not None and packet.pts >= end_pts:
            return
        if start_pts is None or packet.pts >= start_pts:
            yield from _alone(media, packet)


def _key_packets(media: Media, start_pts: int | None) -> Iterator[Any]:
    """Key packets from one with pts <= start_pts on. All packets are read: told to leave out those between
    (`discard = nonkey`), FFmpeg's MP4 demuxer gives the key packets wrong times."""
    for target in seek_targets(media, start_pts, start_pts):
        first = None
        try:
            move(media, target)
        except TooLate:
            continue
        for packet in media.packets():
            if not packet.size or not packet.is_keyframe or packet.is_discard:
                continue
            if packet.pts is None:
                raise SpanError(f"{media.uri}: a key frame has no pts; remux the file into mp4 or mkv")
            first = packet.pts if first is None else first
            if target is not None and start_pts is not None and first > start_pts:
                break
            yield packet
        else:
            media.check_reads()
            return


def _alone(media: Media, packet: Any) -> Iterator[Any]:
    """The frame of a key packet, by a decoder that has seen no other."""
    from av.error import FFmpegError

    context = media.stream.codec_context
    try:
        frames = [*context.decode(packet), *context.decode(None)]
    except FFmpegError:
        frames = []
    context.flush_buffers()
    yield from (frame for frame in frames if frame.pts == packet.pts and not frame.is_corrupt)
