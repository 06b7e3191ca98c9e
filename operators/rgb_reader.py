# SPDX-License-Identifier: Apache-2.0
"""What the readers other than PyAV share: the proof that they give the right frames, and their segments of RGB frames.

A reader is used for a file only where it agrees with the packets on the number of frames and on their times, and with
PyAV on the first picture. The packets are demuxed first, which costs about 1 ms a 4K frame.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from operators.video import Closing
from operators.views import Frame, RgbFrame, rgb_geometry
from reelmill.media import Media, open_media
from reelmill.packets import FrameIndex, frame_index
from reelmill.spans import read_span

PICTURE_CELLS = (9, 16)  # rows and columns of the averages that are compared
PICTURE_TOLERANCE = 3.0  # ours: mean codes; readers that are right lie below 1.5, a wrong range or matrix at 2 to 13


def index_of(uri: str, reader: str, codecs: Collection[str]) -> tuple[str | None, FrameIndex | None]:
    """(reason, None) if by its header or its packets `reader` must not read this file, else (None, its frames)."""
    if uri.startswith("s3://"):
        return f"{reader} reads local files only", None
    with open_media(uri) as media:
        reason = _header_reason(media, reader, codecs)
        if reason is not None:
            return reason, None
        index = frame_index(media)
        stated = media.stream.frames
    if index.fault is not None:
        return index.fault, None
    if stated and stated != len(index.pts):
        return f"the header states {stated} frames, the file has {len(index.pts)}", None
    return None, index


def _header_reason(media: Media, reader: str, codecs: Collection[str]) -> str | None:
    context = media.stream.codec_context
    codec = context.codec.canonical_name
    if codec not in codecs:
        return f"{reader} is not used for {codec}"
    if context.format is None or context.format.components[0].bits > 8:
        return f"{reader} gives 8-bit frames only"
    return None


def times_reason(reader: str, index: FrameIndex, starts_s: Sequence[float]) -> str | None:
    """Compares a reader's frame count and start times, less those of its first frame, with the packets'."""
    if len(starts_s) != len(index.pts):
        return f"{reader} counts {len(starts_s)} frames, the packets are {len(index.pts)}"
    for start_s, pts in zip(starts_s, index.pts, strict=True):
        if not is_at(index, start_s - starts_s[0], pts - index.pts[0]):
            return f"{reader} places the frame of pts {pts} at {start_s:.4f} s"
    return None


def is_at(index: FrameIndex, seconds: float, ticks: int) -> bool:
    """Whether a time is that of so many ticks, to a tick or a millisecond."""
    return abs(float(seconds) - float(ticks * index.time_base)) <= max(float(index.time_base), 1e-3)


def picture_reason(reader: str, uri: str, index: FrameIndex, first_HWC: np.ndarray) -> str | None:
    """Compares a reader's first frame with PyAV's, by averages of cells: size, rotation, range, tone mapping.

    Grey averages are compared because readers differ, and may, in how they enlarge the chroma planes.
    """
    ours_HWC = read_span(uri, index.pts[:1])[0]
    (rows, columns), (our_rows, our_columns) = first_HWC.shape[:2], ours_HWC.shape[:2]
    if (rows, columns) != (our_rows, our_columns):
        return f"{reader} gives frames of {columns}x{rows}, PyAV of {our_columns}x{our_rows}"
    gap = float(np.abs(_cells(ours_HWC) - _cells(first_HWC)).mean())
    if gap <= PICTURE_TOLERANCE:
        return None
    return f"{reader}'s first picture differs from PyAV's by {gap:.1f} codes on average"


def _cells(rgb_HWC: np.ndarray) -> np.ndarray:
    import cv2

    rows, columns = (min(n, size) for n, size in zip(PICTURE_CELLS, rgb_HWC.shape, strict=False))
    return cv2.resize(cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY), (columns, rows), interpolation=cv2.INTER_AREA) * 1.0


class RgbSegment(Closing):
    """A segment of upright RGB frames, whose luma is BT.601 at full range.

    Subclasses give `backend` and `_pictures`. Frames of the reader count from 0 in presentation order.
    """

    backend: str
    backend_note: str | None = None
    num_corrupt_frames = 0  # these readers do not say
    damage: str | None = None
    packet_hashes: dict[int, int] | None = None

    def __init__(self, index: FrameIndex, start_pts: int | None, end_pts: int | None, first_HWC: np.ndarray) -> None:
        self.time_base = index.time_base
        self.packet_bytes = dict(zip(index.pts, index.num_bytes, strict=True))
        self._index = index
        self._start = 0 if start_pts is None else bisect_left(index.pts, start_pts)
        self._end = len(index.pts) if end_pts is None else bisect_left(index.pts, end_pts)
        self._geometry = rgb_geometry(first_HWC.shape[1], first_HWC.shape[0], index.fps)
        self.info = self._geometry.info

    def _pictures(self, start: int, stop: int) -> Iterator[Any]:
        """uint8 RGB [H, W, 3] of the frames start ... stop - 1; calls `_damaged` if there are fewer."""
        raise NotImplementedError

    def _damaged(self, damage: str) -> None:
        """Notes why the segment ends early."""
        self.damage = damage

    def __iter__(self) -> Iterator[Frame]:
        stop = min(self._end + 1, len(self._index.pts))
        for i, rgb_HWC in enumerate(self._pictures(self._start, stop), self._start):
            yield RgbFrame(
                rgb_HWC,
                self._geometry,
                self._index.pts[i],
                duration_pts=self._index.duration_pts[i],
                is_key=self._index.is_key[i],
                is_after=i >= self._end,
            )
