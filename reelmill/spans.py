# SPDX-License-Identifier: Apache-2.0
"""Exact frames of a source by presentation time (pts), from a local disk or S3.

A seek in a container is a guess: it can land behind the wanted frame, or before an open-GOP key whose leading pictures
cannot be decoded. So decoding starts only at a key packet with pts <= the first wanted pts, and a frame counts only if
its pts is wanted; otherwise the seek is repeated 1 s earlier, 2 s, 4 s ..., and finally the file is decoded from its
start. Frames are addressed by the pts that a sequential decode gave them, never by index / fps.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.media import Media, MediaError, is_image, open_bytes, open_media
from reelmill.pixels import frame_rgb, hdr_of, rotation_of, tone_map, upright
from reelmill.stills import read_image

__all__ = [
    "Media",
    "MediaError",
    "SpanError",
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


class _TooLate(Exception):
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
    for target in _seek_targets(media, wanted[0], seek_pts):
        found: list[str] = []
        for frame in _checked(media, target, wanted[done], found):
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
    for target in _seek_targets(media, start_pts, seek_pts):
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
        except _TooLate:
            assert previous is None


def _checked(media: Media, target: int | None, first_pts: int, found: list[str]) -> Iterator[Any]:
    """Frames of one try. Landing late or damage after a seek end it, so that an earlier try can follow."""
    from av.error import FFmpegError

    try:
        yield from _decoded(media, target, first_pts)
    except _TooLate as late:
        found.append(str(late))
    except FFmpegError as error:
        media.check_reads()
        found.append(f"decoding fails before it: {error}")


def _seek_targets(media: Media, start_pts: int | None, seek_pts: int | None) -> Iterator[int | None]:
    """Where to seek, try by try: `seek_pts`, 1 s earlier, 2 s, 4 s ...; None = decode from the start."""
    if seek_pts is not None and start_pts is not None and media.stream.time_base:
        first = media.stream.start_time or 0
        second = max(round(1 / media.stream.time_base), 1)
        target, step = min(seek_pts, start_pts), second
        while target > first:
            yield target
            target, step = target - step, step * 2
    yield None


def _decoded(media: Media, target: int | None, start_pts: int | None) -> Iterator[Any]:
    """Decoded frames in presentation order, from a key packet with pts <= start_pts on. Each has a pts."""
    from av.error import FFmpegError

    if target is None:
        media.rewind()
    else:
        try:
            media.seek(target)
        except FFmpegError as error:
            media.check_reads()
            raise _TooLate(f"seek to {target} fails: {error}") from error
    is_primed = target is None
    for packet in media.packets():
        if not packet.size and packet.dts is not None:
            continue  # an AVI's mark of a dropped frame; decoding it would end the stream
        if not is_primed and packet.size:
            if not packet.is_keyframe:
                continue
            if packet.pts is None or (start_pts is not None and packet.pts > start_pts):
                raise _TooLate(f"seek to {target} lands at pts {packet.pts}")
            is_primed = True
        for frame in media.stream.codec_context.decode(packet if packet.size else None):
            if frame.pts is None:
                raise SpanError(f"{media.uri}: a frame has no pts; remux the file into mp4 or mkv")
            yield frame
    media.check_reads()
    if not is_primed:
        raise _TooLate(f"seek to {target} finds no key frame")
