# SPDX-License-Identifier: Apache-2.0
"""Opening a media file, on a local disk or on S3 by range reads, for demuxing and decoding with PyAV.

FFmpeg reads an S3 object through `RangeFile`: blocks of 256 KiB in a bounded cache, reading ahead in doubling steps
(up to 8 MiB) while the reads are sequential. So a header at either end costs a few blocks, and a scan large requests.
"""

import io
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import av
    import av.container
    import av.video.stream

BLOCK_BYTES = 256 * 1024
MAX_AHEAD_BLOCKS = 32
CACHE_BYTES = 32 * 1024 * 1024
MAX_PIXELS = 16384 * 16384  # a header that claims more is taken for damage, before anything of that size is allocated

# Demuxers that FFmpeg may choose: files of pictures in time. Not playlists, which open further files or addresses.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,mxf,ogg,flv,asf,ivf,obu,av1,h264,hevc,"
    "m4v,dv,gif,apng,nut,wtv,rm,yuv4mpegpipe,mp3,wav,flac,aac,caf"
)


class MediaError(ValueError):
    """The file is at fault: not media, no video stream, a header that cannot be true. The message names the file."""


class RangeFile(io.RawIOBase):
    """A seekable read-only file over `fetch(start, end) -> bytes`, with a block cache.

    Args:
        fetch: returns the bytes [start, end) of the object; called with block-aligned bounds (or the end of file).
        size: size of the object in bytes.
        name: shown in errors.

    Raises:
        OSError: from a read, when `fetch` gives fewer bytes than asked for.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, name: str = "") -> None:
        self._fetch, self._size, self._name = fetch, size, name
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next_block = -1  # block after the last fetched one
        self._ahead = 1
        self.failure: Exception | None = None  # FFmpeg may take a failed read for the end: readers look here

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError(f"seek to {origin + offset} in {self._name}: before the start")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        index, skip = divmod(self._position, BLOCK_BYTES)
        if self._position >= self._size or not len(target):
            return 0
        piece = self._block(index)[skip : skip + len(target)]
        target[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def read(self, size: int = -1) -> bytes:
        """As `read` of a buffered file: all of `size` bytes unless the file ends."""
        left = max(self._size - self._position, 0)
        data = bytearray(left if size is None or size < 0 else min(size, left))
        view = memoryview(data)
        while view.nbytes:
            view = view[self.readinto(view) :]
        return bytes(data)

    def _block(self, index: int) -> bytes:
        if index not in self._blocks:
            self._ahead = min(self._ahead * 2, MAX_AHEAD_BLOCKS) if index == self._next_block else 1
            self._load(index, self._ahead)
        self._blocks.move_to_end(index)
        return self._blocks[index]

    def _load(self, index: int, most: int) -> None:
        count = next((n for n in range(1, most) if index + n in self._blocks), most)
        start = index * BLOCK_BYTES
        end = min(start + count * BLOCK_BYTES, self._size)
        try:
            data = self._fetch(start, end)
            if len(data) != end - start:
                raise OSError(f"{self._name}: got {len(data)} of the bytes {start}-{end}")
        except Exception as error:
            self.failure = error
            raise
        for offset in range(0, len(data), BLOCK_BYTES):
            self._blocks[index + offset // BLOCK_BYTES] = data[offset : offset + BLOCK_BYTES]
        self._next_block = index + count
        while len(self._blocks) * BLOCK_BYTES > CACHE_BYTES:
            self._blocks.popitem(last=False)


def open_bytes(uri: str | Path) -> BinaryIO:
    """The file's bytes, seekable: a local file, or an S3 object by range reads.

    Raises:
        MediaError: a local path that is no regular file; opening a FIFO would wait for ever.
        FileNotFoundError, OSError: storage failed.
    """
    uri = str(uri)
    if not uri.startswith("s3://"):
        path = uri.removeprefix("file://")
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise MediaError(f"{uri}: not a regular file but a folder, pipe, socket or device; remove it")
        return open(path, "rb")
    from reelmill.storage import fsspec_s3

    filesystem = fsspec_s3()
    size = filesystem.info(uri, refresh=True)["size"]
    return RangeFile(lambda start, end: filesystem.cat_file(uri, start=start, end=end), size, uri)  # type: ignore[return-value]


def is_image(head: bytes) -> bool:
    """Whether a file that starts with these bytes (at least 16) is a still image: JPEG, PNG, WebP, AVIF or HEIF."""
    if head[4:8] == b"ftyp":
        return head[8:12] in (b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix")
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


class Media:
    """An open container and its video stream. Use as a context manager, or call `close`.

    Attributes:
        uri: what was opened.
        container: PyAV's input container.
        stream: its first video stream that is no cover picture.
        packet_bytes: pts -> bytes of the packets with that pts that `packets` gave since the last seek.
        packet_hashes: likewise what they code, see `reelmill.payload`; null unless `hash_packets` was called.
        is_untimed: AVI with reordered H.264. It stores no presentation times; its packets' pts count in file order.
    """

    def __init__(self, uri: str | Path, threads: int = 1) -> None:
        self.uri = str(uri)
        self._threads = threads
        self._is_fresh = False
        self.packet_bytes: dict[int, int] = {}
        self.packet_hashes: dict[int, int] | None = None
        self._hash: Callable[[bytes], int] | None = None
        self._file: RangeFile | None = None
        self.container: av.container.InputContainer
        self.stream: av.video.stream.VideoStream
        self._open()

    def _open(self) -> None:
        import av

        self._is_fresh = True
        remote = self.uri.startswith("s3://")
        self._file = open_bytes(self.uri) if remote else None  # type: ignore[assignment]
        local = "file:" + self.uri.removeprefix("file://")  # else FFmpeg takes a colon in the name for a protocol
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        try:
            self.container = av.open(self._file or local, metadata_errors="replace", container_options=options)  # type: ignore[arg-type]
        except BaseException:
            self._close_file()
            raise
        try:
            self.stream = self._video_stream()
            context = self.stream.codec_context
            named = (self.container.format.name, context.codec.canonical_name)
            self.is_untimed = named == ("avi", "h264") and bool(context.has_b_frames)
        except MediaError:
            self.close()
            raise

    def _video_stream(self) -> "av.video.stream.VideoStream":
        from av.stream import Discard, Disposition

        covers = Disposition.attached_pic | Disposition.timed_thumbnails
        streams = [s for s in self.container.streams.video if not s.disposition & covers]
        if not streams:
            kinds = sorted({"cover picture" if s.type == "video" else s.type for s in self.container.streams})
            raise MediaError(f"{self.uri}: no video stream (streams: {', '.join(kinds) or 'none'})")
        stream = streams[0]
        if stream.codec_context is None:
            raise MediaError(
                f"{self.uri}: no decoder for its video stream; it is of an unknown codec, encrypted or damaged"
            )
        context = stream.codec_context
        if context.width * context.height > MAX_PIXELS:
            raise MediaError(
                f"{self.uri}: the header claims frames of {context.width}x{context.height} pixels, "
                f"more than the limit of {MAX_PIXELS} pixels"
            )
        for other in self.container.streams:
            if other is not stream and other.index != stream.index:
                other.discard = Discard.all
        context.thread_count = self._threads  # FFmpeg's default is one per core: hundreds of MiB on a large node
        if self._threads > 1:
            context.thread_type = "FRAME"
        return stream

    def packets(self) -> "Iterator[av.Packet]":
        """Packets of the video stream from here on; the last one is empty and flushes the decoder.

        Raises:
            MediaError: the packets are encrypted.
            av.error.FFmpegError, OSError: reading fails.
        """
        self._is_fresh = False
        try:
            for packet in self.container.demux(self.stream):
                if packet.has_sidedata("encryption_info"):  # some of it would decode, to noise
                    raise MediaError(f"{self.uri}: the video is encrypted; decrypt it first")
                if packet.size and packet.pts is not None and not self.is_untimed:
                    self._note(packet, packet.pts)
                yield packet
        except IndexError:  # PyAV 18, after our last packet: a stream that turned up while reading (damaged MPEG-TS)
            return

    def _note(self, packet: "av.Packet", pts: int) -> None:
        """Size and hash; two packets of one pts are the fields of one picture."""
        self.packet_bytes[pts] = self.packet_bytes.get(pts, 0) + packet.size
        if self.packet_hashes is not None and self._hash is not None:
            self.packet_hashes[pts] = self.packet_hashes.get(pts, 0) ^ self._hash(bytes(packet))

    def hash_packets(self) -> None:
        """Fills `packet_hashes` from here on (0.1 ms for 100 kB)."""
        from reelmill.payload import PayloadHash

        context = self.stream.codec_context
        self.packet_hashes = {}
        self._hash = PayloadHash(context.codec.canonical_name, context.extradata)

    def _forget(self) -> None:
        self.packet_bytes.clear()
        if self.packet_hashes is not None:
            self.packet_hashes.clear()

    def seek(self, pts: int) -> None:
        """To a key packet, as the container guesses, at or before `pts`. Raises av.error.FFmpegError, OSError."""
        self._is_fresh = False
        self._forget()
        self.container.seek(pts, stream=self.stream, backward=True)

    def rewind(self) -> None:
        """To the first packet, by opening the file again: sure in every container, unlike seeking to the start."""
        self._forget()
        if not self._is_fresh:
            self.close()
            self._open()

    def check_reads(self) -> None:
        """Raises the error of a failed range read that FFmpeg took for the end of the file."""
        if self._file is not None and self._file.failure is not None:
            raise self._file.failure

    def close(self) -> None:
        self.container.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> "Media":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_media(uri: str | Path, *, threads: int = 1) -> Media:
    """Opens the video at a local path or s3:// URI; the file is never read as a whole.

    Args:
        uri: local path, file:// or s3:// URI.
        threads: decoder threads; 1 decodes in the calling thread.

    Raises:
        FileNotFoundError: no such file.
        MediaError: no video stream, no decoder, or a frame size that cannot be true.
        av.error.FFmpegError: the container cannot be opened.
        OSError: storage failed.
    """
    return Media(uri, threads)
