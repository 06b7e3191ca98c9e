# SPDX-License-Identifier: Apache-2.0
"""decord as a reader, only where it can be shown to give the right frames.

decord 0.6.0 cannot open AV1, gives wrong frames after an open-GOP key (leading pictures are dropped, its counter is
not), spins for ever when a container reports more frames than it has (dmlc/decord #373), and knows 8-bit RGB only. So
it reads only what passes the checks of `reason_against`.
"""

from collections.abc import Iterator
from typing import Any

from operators.rgb_reader import RgbSegment, index_of, picture_reason, times_reason
from reelmill.packets import FrameIndex

CODECS = ("h264", "hevc", "vp8", "vp9", "mpeg4", "mjpeg", "prores")


def reason_against(uri: str) -> tuple[str | None, FrameIndex | None]:
    """(reason, None) if decord must not read this file, else (None, its frames by the packets)."""
    reason, index = index_of(uri, "decord", CODECS)
    if index is None:
        return reason, None
    if index.leading_at is not None:
        key_pts = index.leading_at
        return f"open GOP at pts {key_pts}: decord loses the pictures that lead its key frame", None
    reason = _reader_reason(uri, index)
    return (None, index) if reason is None else (reason, None)


def _reader_reason(uri: str, index: FrameIndex) -> str | None:
    import decord

    try:
        reader = decord.VideoReader(uri, num_threads=1)
        if len(reader) != len(index.pts):
            return f"decord counts {len(reader)} frames, the packets are {len(index.pts)}"
        starts_s = reader.get_frame_timestamp(range(len(reader)))[:, 0].tolist()
        first_HWC = reader[0].asnumpy()
    except (decord.DECORDError, RuntimeError) as error:
        return f"decord cannot open it: {str(error).splitlines()[-1][:120]}"
    return times_reason("decord", index, starts_s) or picture_reason("decord", uri, index, first_HWC)


class DecordSegment(RgbSegment):
    """A segment decoded by decord."""

    backend = "decord"

    def __init__(self, uri: str, index: FrameIndex, start_pts: int | None, end_pts: int | None, threads: int) -> None:
        import decord

        self._reader = decord.VideoReader(uri, num_threads=threads)
        super().__init__(index, start_pts, end_pts, self._reader[0].asnumpy())

    def _pictures(self, start: int, stop: int) -> Iterator[Any]:
        import decord

        self._reader.seek_accurate(start)
        for _ in range(start, stop):
            try:
                rgb_HWC = self._reader.next().asnumpy()
            except (decord.DECORDError, StopIteration) as error:
                self._damaged(f"decord: {str(error).splitlines()[-1][:200] if str(error) else 'stream ends early'}")
                return
            yield rgb_HWC
