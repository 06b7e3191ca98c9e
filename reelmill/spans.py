# SPDX-License-Identifier: Apache-2.0
"""Exact frames of a source by presentation time (pts), from a local disk or S3.

A seek in a container is a guess: it can land behind the wanted frame, or before an open-GOP key whose leading pictures
cannot be decoded. So decoding starts only at a key packet with pts <= the first wanted pts, and a frame counts only if
its pts is wanted; otherwise the seek is repeated 1 s earlier, 2 s, 4 s ..., and finally the file is decoded from its
start. Frames are addressed by the pts that a sequential decode gave them, never by index / fps.
AVI stores no times for reordered H.264: its frames are decoded from the start and take the times in order.

Sparse reads of H.264 and HEVC leave out the pictures that are neither wanted nor referred to (`reelmill.packets`).
"""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.media import Media, MediaError, is_image, open_bytes, open_media
from reelmill.packets import Droppable, FrameIndex, frame_index, has_one_timeline
from reelmill.pixels import frame_rgb, hdr_of, rotation_of, tone_map, upright
from reelmill.stills import read_image

__all__ = [
    "FrameIndex",
    "Media",
    "MediaError",
    "SpanError",
    "frame_index",
    "frame_rgb",
    "hdr_of",
    "iter_frames",
    "iter_span",
    "open_media",
    "read_image",
    "read_span",
    "rotation_of",
    "tone_map",
    "upright",
]


class SpanError(ValueError):
    """A wanted frame cannot be had. The message names the file, the pts and what the file gave instead."""


class TooLate(Exception):
    """A seek landed behind the wanted frame; the next try starts earlier."""


def read_span(
    uri: str | Path,
    frame_pts: Sequence[int],
    seek_pts: int | None = None,
    *,
    size: tuple[int, int] | None = None,
    threads: int = 1,
) -> np.ndarray:
    """The frames with the given pts as uint8 RGB [T, H, W, 3], upright, HDR tone-mapped.

    Args:
        uri: local path or s3:// URI of a video or a still image (an image is one frame; its pts is not looked at).
        frame_pts: ascending (a repeated pts repeats the frame), in the video stream's time base.
        seek_pts: pts of a key frame at or before the first one; null: decode from the start.
        size: (height, width) as displayed; null: the native displayed size.
        threads: decoder threads.

    Raises:
        SpanError: a pts is not in the file, or the file is damaged before it.
        MediaError, FileNotFoundError, OSError, av.error.FFmpegError: the file cannot be opened.
    """
    wanted = [int(p) for p in frame_pts]
    if not wanted:
        raise SpanError(f"{uri}: no frame asked for")
    with open_bytes(uri) as file:
        image = is_image(file.read(16))
    if image:
        return np.stack([read_image(uri, size)] * len(wanted))
    with open_media(uri, threads=threads) as media:
        return _stacked((frame_rgb(f, size) for f in iter_frames(media, wanted, seek_pts)), wanted, media.uri)


def _stacked(frames: Iterator[np.ndarray], wanted: Sequence[int], uri: str) -> np.ndarray:
    """[T, H, W, 3] filled frame by frame: a list and `np.stack` would hold a 4K clip twice."""
    first_HWC = next(frames)
    frames_THWC = np.empty((len(wanted), *first_HWC.shape), np.uint8)
    frames_THWC[0] = first_HWC
    for index, rgb_HWC in enumerate(frames, 1):
        if rgb_HWC.shape != first_HWC.shape:
            raise SpanError(
                f"{uri}: the frame size changes at pts {wanted[index]} from "
                f"{first_HWC.shape[1]}x{first_HWC.shape[0]} to {rgb_HWC.shape[1]}x{rgb_HWC.shape[0]}"
            )
        frames_THWC[index] = rgb_HWC
    return frames_THWC


def iter_frames(media: Media, frame_pts: Sequence[int], seek_pts: int | None = None) -> Iterator[Any]:
    """Yields the av.VideoFrame of each wanted pts, in order. Raises SpanError when one is not in the file."""
    wanted = list(frame_pts)
    if any(b < a for a, b in itertools.pairwise(wanted)):
        raise SpanError(f"{media.uri}: the wanted pts do not ascend: {wanted[:8]}")
    done = 0
    targets = list(seek_targets(media, wanted[0], seek_pts))
    tries = [(targets[0], True)] if _can_drop(media) else []
    for target, drops in [*tries, *((target, False) for target in targets)]:
        found: list[str] = []
        only = frozenset(wanted[done:]) if drops else None
        for frame in _checked(media, target, wanted[done], found, only):
            if frame.pts < wanted[done] or (frame.is_corrupt and target is not None):
                continue
            if frame.pts > wanted[done]:
                found.append(f"next pts is {frame.pts}")
                break
            while done < len(wanted) and frame.pts == wanted[done]:
                yield frame
                done += 1
            if done == len(wanted):
                return
    raise SpanError(
        f"{media.uri}: no frame with pts {wanted[done]} (time base {media.stream.time_base}); "
        f"{found[-1] if found else 'the stream ends before it'}"
    )


def iter_span(media: Media, start_pts: int | None, end_pts: int | None, seek_pts: int | None = None) -> Iterator[Any]:
    """Yields every frame of [start_pts, end_pts) and then, if there is one, the first frame at or after `end_pts`.

    Args:
        start_pts: null: from the first frame. Need not be the pts of a frame.
        end_pts: exclusive; null: to the end of the stream.
        seek_pts: pts of a key frame at or before `start_pts`; null: decode from the start.

    Raises:
        SpanError: pts are missing or do not ascend.
        av.error.FFmpegError: the stream is damaged; the frames before it have been yielded.
    """
    previous: int | None = None
    for target in seek_targets(media, start_pts, seek_pts):
        try:
            for frame in _decoded(media, target, start_pts):
                if start_pts is not None and frame.pts < start_pts:
                    continue
                if previous is not None and frame.pts <= previous:
                    raise SpanError(
                        f"{media.uri}: pts {frame.pts} follows {previous}; the container stores no usable "
                        "presentation times, remux or re-encode the file"
                    )
                previous = frame.pts
                yield frame
                if end_pts is not None and frame.pts >= end_pts:
                    return
            return
        except TooLate:
            assert previous is None


def droppable_of(media: Media) -> Droppable:
    """The rule for the stream's packets."""
    context = media.stream.codec_context
    return Droppable(context.codec.canonical_name, context.extradata)


def _can_drop(media: Media) -> bool:
    return media.stream.codec_context.codec.canonical_name in ("h264", "hevc") and not media.is_untimed


def _checked(
    media: Media, target: int | None, first_pts: int, found: list[str], only: frozenset[int] | None
) -> Iterator[Any]:
    """Frames of one try. Landing late or damage after a seek end it, so that an earlier try can follow."""
    from av.error import FFmpegError

    try:
        yield from _decoded(media, target, first_pts, only)
    except TooLate as late:
        found.append(str(late))
    except FFmpegError as error:
        media.check_reads()
        found.append(f"decoding fails before it: {error}")


def seek_targets(media: Media, start_pts: int | None, seek_pts: int | None) -> Iterator[int | None]:
    """Where to seek, try by try: `seek_pts`, 1 s earlier, 2 s, 4 s ...; None = decode from the start."""
    first, base = media.stream.start_time or 0, media.stream.time_base
    if seek_pts is not None and start_pts is not None and base and not media.is_untimed:
        second = max(round(1 / base), 1)
        target, step = min(seek_pts, start_pts), second
        while target > first and has_one_timeline(media):
            yield target
            target, step = target - step, step * 2
    yield None


def move(media: Media, target: int | None) -> None:
    """Seeks to `target`, or to the first packet for null. Raises TooLate if the container cannot seek there."""
    from av.error import FFmpegError

    if target is None:
        media.rewind()
        return
    try:
        media.seek(target)
    except FFmpegError as error:
        media.check_reads()
        raise TooLate(f"seek to {target} fails: {error}") from error


def _decoded(
    media: Media, target: int | None, start_pts: int | None, only: frozenset[int] | None = None
) -> Iterator[Any]:
    """Decoded frames in presentation order, from a key packet with pts <= start_pts on. Each has a pts.

    `only`: pictures of other pts may be missing, if no picture needs them.
    """
    move(media, target)
    droppable = droppable_of(media) if only is not None else None
    file_order = _FileOrder() if media.is_untimed else None
    is_primed = target is None
    for packet in media.packets():
        if not packet.size and packet.dts is not None:
            continue  # an AVI's mark of a dropped frame; decoding it would end the stream
        if not is_primed and packet.size:
            if not packet.is_keyframe:
                continue
            if packet.pts is None or (start_pts is not None and packet.pts > start_pts):
                raise TooLate(f"seek to {target} lands at pts {packet.pts}")
            is_primed = True
        if droppable is not None and packet.size and droppable(bytes(packet)) and _is_unwanted(packet, only):
            continue
        if file_order is not None:
            file_order.add(packet)
        for frame in media.stream.codec_context.decode(packet if packet.size else None):
            if file_order is not None:
                file_order.give_time(frame, media.packet_bytes)
            if frame.pts is None:
                raise SpanError(f"{media.uri}: a frame has no pts; remux the file into mp4 or mkv")
            yield frame
    media.check_reads()
    if not is_primed:
        raise TooLate(f"seek to {target} finds no key frame")


def _is_unwanted(packet: Any, only: frozenset[int] | None) -> bool:
    return only is not None and packet.pts is not None and packet.pts not in only


class _FileOrder:
    """Times for the frames of an untimed stream: the k-th frame that comes out has the k-th packet's time."""

    def __init__(self) -> None:
        self._times: deque[int] = deque()
        self._bytes: dict[int, int] = {}

    def add(self, packet: Any) -> None:
        time = packet.dts if packet.pts is None else packet.pts
        if packet.size and time is not None:
            self._times.append(time)
            self._bytes[time] = packet.size

    def give_time(self, frame: Any, packet_bytes: dict[int, int]) -> None:
        """Until now the frame's pts only says which packet it came from."""
        size = self._bytes.pop(frame.pts, None)
        frame.pts = self._times.popleft() if self._times else None
        if size is not None and frame.pts is not None:
            packet_bytes[frame.pts] = size
