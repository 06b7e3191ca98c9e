# SPDX-License-Identifier: Apache-2.0
"""Reading sources inside the mill: segments for the meters, exact frames for models, errors told apart.

    with open_segment(uri, start_pts=s, end_pts=e, seek_pts=k, backend="pyav", threads=1) as segment:
        for frame in segment:                       # operators.views.Frame, in presentation order, lazily decoded
            frame.view(View.TINY)
        segment.damage, segment.num_corrupt_frames  # complete after the loop, as is segment.packet_bytes

Every exception that a file or its storage causes leaves this module as RowError; what else comes is our bug.
"""

import errno
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from operators.contract import RowError, StreamInfo
from operators.views import Frame, RgbFrame, geometry_of, luma_depth, rgb_geometry
from reelmill.media import Media, MediaError, is_image, open_bytes, open_media
from reelmill.payload import PayloadHash
from reelmill.pixels import frame_rgb
from reelmill.spans import SpanError, iter_frames, iter_span, read_image, read_span

BACKENDS = ("pyav", "decord", "torchcodec", "torchcodec-cuda")


def read_frames(
    uri: str,
    frame_pts: Sequence[int],
    seek_pts: int | None = None,
    size: tuple[int, int] | None = None,
    threads: int = 1,
) -> np.ndarray:
    """The frames with these pts as uint8 RGB [T, H, W, 3], upright, HDR tone-mapped; run it in a decode child.

    Args:
        uri: local path or s3:// URI of a video or a still image.
        frame_pts: ascending, in the stream's time base.
        seek_pts: pts of a key frame at or before the first; null: decode from the start.
        size: (height, width) as displayed; null: native.

    Raises:
        RowError: bad_input, transient or resource.
    """
    with media_errors(uri):
        return read_span(uri, frame_pts, seek_pts, size=size, threads=threads)


def each_frame(uri: str, frame_pts: Sequence[int], seek_pts: int | None = None) -> Iterator[np.ndarray]:
    """The same frames at native size, one after the other: a 4K clip would not fit into memory.

    Raises:
        RowError: bad_input, transient or resource.
    """
    with media_errors(uri):
        with open_bytes(uri) as file:
            image = is_image(file.read(16))
        if image:
            yield from [read_image(uri)] * len(frame_pts)
            return
        with open_media(uri) as media:
            for frame in iter_frames(media, [int(pts) for pts in frame_pts], seek_pts):
                yield frame_rgb(frame, None)


class Segment(Protocol):
    """Frames of one segment and, after the last, what was found out. See `open_segment`."""

    info: StreamInfo
    time_base: Fraction
    backend: str  # one of BACKENDS: what really reads
    backend_note: str | None  # why the wanted backend does not; null if it does
    num_corrupt_frames: int  # frames of the segment that the decoder flagged
    damage: str | None  # decoding error that ended the segment early; null if it came to its end
    packet_bytes: dict[int, int]  # pts -> bytes of the packet that carried the frame, complete after the loop
    packet_hashes: dict[int, int] | None  # likewise what it codes, see reelmill.payload; null if the reader cannot say

    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...
    def __enter__(self) -> "Segment": ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_segment(
    uri: str,
    *,
    start_pts: int | None = None,
    end_pts: int | None = None,
    seek_pts: int | None = None,
    backend: str = "pyav",
    threads: int = 1,
) -> Segment:
    """Opens the frames of [start_pts, end_pts) of a source, plus the first frame after it (`frame.is_after`).

    Args:
        uri: local path or s3:// URI; a still image is a source of one frame (pts 0, time base 1).
        start_pts: null: from the first frame.
        end_pts: null: to the end.
        seek_pts: pts of a key frame at or before `start_pts`; null: decode from the start.
        backend: pyav, or another of BACKENDS where it can be trusted; else PyAV reads and `backend_note` says why.
        threads: decoder threads.

    Raises:
        RowError: the file cannot be opened or no frame of the segment decodes.
        ValueError: unknown backend.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; known are {', '.join(BACKENDS)}")
    with media_errors(uri):
        with open_bytes(uri) as file:
            image = is_image(file.read(16))
        if image:
            return ImageSegment(uri, backend)
        note = None
        if backend == "decord":
            from operators.decord_reader import DecordSegment, reason_against

            note, index = reason_against(uri)
            if index is not None:
                return DecordSegment(uri, index, start_pts, end_pts, threads)
        elif backend != "pyav":
            from operators.torchcodec_reader import TorchcodecSegment
            from operators.torchcodec_reader import reason_against as torchcodec_reason

            note, index = torchcodec_reason(uri, backend)
            if index is not None:
                return TorchcodecSegment(uri, backend, index, start_pts, end_pts, threads)
        return PyavSegment(uri, start_pts, end_pts, seek_pts, threads, note)


class Closing:
    """Context-manager half of a segment."""

    def close(self) -> None:
        """Frees the file; the frames already given stay valid."""

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PyavSegment(Closing):
    """A segment decoded by PyAV. One pass; the first frame is decoded at once, for `info`."""

    backend = "pyav"

    def __init__(
        self,
        uri: str,
        start_pts: int | None,
        end_pts: int | None,
        seek_pts: int | None,
        threads: int,
        backend_note: str | None,
    ) -> None:
        self.backend_note = backend_note
        self.num_corrupt_frames = 0
        self.damage: str | None = None
        self._end_pts = end_pts
        self._media: Media = open_media(uri, threads=threads)
        self._media.hash_packets()
        self.packet_bytes, self.packet_hashes = self._media.packet_bytes, self._media.packet_hashes
        self._frames: Generator[Any, None, None] = self._raw(iter_span(self._media, start_pts, end_pts, seek_pts))
        stream = self._media.stream
        self.time_base = stream.time_base or Fraction(1)
        self._first = next(self._frames, None)
        if self._first is None:
            self.close()
            raise RowError(
                "bad_input",
                f"{uri}: no frame decodes from pts {start_pts}: {self.damage or 'the stream ends before it'}",
            )
        self._geometry = geometry_of(self._first, float(stream.average_rate or stream.guessed_rate or 0))
        self.info = self._geometry.info

    def __iter__(self) -> Iterator[Frame]:
        source, self._first = self._first, None
        while source is not None:
            is_after = self._end_pts is not None and source.pts >= self._end_pts
            if self._has_changed(source):
                return
            self.num_corrupt_frames += bool(source.is_corrupt) and not is_after
            yield Frame(source, self._geometry, is_after=is_after)
            source = next(self._frames, None)

    def _raw(self, frames: Iterator[Any]) -> Generator[Any, None, None]:
        """The frames up to the stream's end or to its first damage."""
        from av.error import FFmpegError

        try:
            with media_errors(self._media.uri, passes=(FFmpegError, SpanError)):
                yield from frames
        except (FFmpegError, SpanError) as error:
            with media_errors(self._media.uri):
                self._media.check_reads()
            self.damage = f"{type(error).__name__}: {error}"

    def _has_changed(self, source: Any) -> bool:
        """Frames of another size or depth cannot be compared with those before; the segment ends there."""
        width, height = self._geometry.coded((self.info.width_px, self.info.height_px))
        if (source.width, source.height) != (width, height):
            change = f"frame size changes at pts {source.pts} from {width}x{height} to {source.width}x{source.height}"
        elif luma_depth(source) != self.info.bit_depth:
            change = f"depth changes at pts {source.pts} from {self.info.bit_depth} to {luma_depth(source)} bit"
        else:
            return False
        self.damage = change
        return True

    def close(self) -> None:
        self._frames.close()
        self._first = None
        self._media.close()


class ImageSegment(Closing):
    """A still image as a source of one frame: pts 0, time base 1 s, upright by EXIF."""

    backend = "pyav"
    num_corrupt_frames = 0
    damage: str | None = None
    time_base = Fraction(1)

    def __init__(self, uri: str, backend: str) -> None:
        self.backend_note = None if backend == "pyav" else f"still images are not read by {backend}"
        self._rgb = read_image(uri)
        with open_bytes(uri) as file:
            data = file.read()
        self.packet_bytes = {0: len(data)}
        self.packet_hashes: dict[int, int] | None = {0: PayloadHash("image", None)(data)}
        self._geometry = rgb_geometry(self._rgb.shape[1], self._rgb.shape[0], 0.0)
        self.info = self._geometry.info

    def __iter__(self) -> Iterator[Frame]:
        yield RgbFrame(self._rgb, self._geometry, 0)


@contextmanager
def media_errors(uri: str, passes: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
    """Turns what a file or its storage causes into RowError; `passes` and our own bugs go through as they are."""
    try:
        yield
    except passes:
        raise
    except MEDIA_FAULTS as error:
        raise RowError("bad_input", str(error)) from error
    except MemoryError as error:
        raise RowError("resource", f"{uri}: out of memory while decoding") from error
    except _native_errors() as error:
        with media_errors(uri):  # the diagnosis reads the file once more
            kind, message = _diagnosis(uri, error)
        raise RowError(kind, message) from error


MEDIA_FAULTS = (MediaError, SpanError)


def _native_errors() -> tuple[type[BaseException], ...]:
    """FFmpeg's errors and those of storage. Imported here: s3 clients are not needed for local files."""
    import sys

    from av.error import FFmpegError

    errors: list[type[BaseException]] = [FFmpegError, OSError]
    if "botocore" in sys.modules:
        from botocore.exceptions import BotoCoreError, ClientError

        errors += [BotoCoreError, ClientError]
    if "aiohttp" in sys.modules:
        from aiohttp import ClientError as HttpError

        errors.append(HttpError)
    return tuple(errors)


def _diagnosis(uri: str, error: BaseException) -> tuple[str, str]:
    """(kind, message) of an exception of FFmpeg or of storage."""
    from av.error import FFmpegError

    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return "transient", f"{uri}: no such file: moved after the listing, a broken link, or a name that is not UTF-8"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "bad_input", f"{uri}: a link that leads back to itself; remove it"
    if isinstance(error, PermissionError):
        return "transient", f"{uri}: access denied; give this machine the right to read it, then run again"
    if not isinstance(error, FFmpegError):
        return "transient", f"{uri}: storage failed: {type(error).__name__}: {error}"
    if isinstance(error, MemoryError):
        return "resource", f"{uri}: out of memory in the decoder"
    return "bad_input", f"{uri}: {_what_is_wrong(uri)} ({type(error).__name__}: {error.strerror})"


def _what_is_wrong(uri: str) -> str:
    """Why FFmpeg refuses a file, by a look at its first bytes, and what can be done."""
    with open_bytes(uri) as file:
        head = file.read(512)
    if not head:
        return "the file is empty (0 bytes); copy it again or remove it"
    if head[4:8] == b"ftyp":
        return (
            "an MP4/MOV whose index (moov) is missing or damaged, as after an interrupted recording or copy; "
            "copy it again, or rebuild the index with a repair tool"
        )
    if all(byte in b"\t\r\n\f" or byte >= 32 for byte in head):
        return f"not media but text ({head[:24].decode(errors='replace')!r} ...); remove it or correct its suffix"
    return "not a media file, or damaged at its start; copy it again or remove it"
