# SPDX-License-Identifier: Apache-2.0
"""Single values of a Parquet column: where a page holds one row, that page alone is decompressed, into its place.

A decoded row group lies in memory that was never touched before, and is copied once more into a batch; decoding row
by row keeps the bytes in the processor's cache. It needs pages as `pack` writes them: one plain value each, version 1,
zstd or not compressed. Every other layout is pyarrow's: `pages_of` says null.

Source: Apache Parquet format, parquet.thrift (PageHeader) and "Data pages"; Thrift compact protocol.
"""

import re
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa

Read = Callable[[int, int], Any]  # (start, size) -> that many bytes, or fewer at the end
Decompress = Callable[[Any, memoryview], int]  # (stored bytes, where to) -> bytes written

CODECS = ("ZSTD", "UNCOMPRESSED")
MAX_LEAD = 10  # bytes before a value: levels, length
_HEADER_BYTES = 64
_VARINT = rb"([\x80-\xff]{0,4}[\x00-\x7f])"
_HEADER = re.compile(
    rb"\x15\x00"  # 1: a data page of version 1
    rb"\x15"
    + _VARINT
    + rb"\x15"
    + _VARINT  # 2, 3: bytes without and with compression
    + rb"(?:\x2c|\x15"
    + _VARINT
    + rb"\x1c)"  # 4, if there is one: CRC-32; 5, the data page's own header:
    rb"\x15\x02\x15\x00\x15\x06\x15\x06"  # one value, plain, levels by run length
    rb"(?:\x1c\x00)?\x00\x00",  # statistics, empty
    re.DOTALL,
)
_LEVELS = (b"\x02\0\0\0\x02\x01", b"\x02\0\0\0\x03\x01")  # of one value that is there: as a run, or packed in bits
_NO_LEVELS = (b"",)


class PageError(ValueError):
    """A page's bytes are not what they should be."""


class Page(NamedTuple):
    """A page of one value.

    Args:
        start, size: of its stored bytes.
        raw_size: without compression.
        crc: of the stored bytes; null: not to be looked at.
    """

    start: int
    size: int
    raw_size: int
    crc: int | None


class Pages:
    """A column chunk whose pages hold one row each.

    Args:
        codec: ZSTD or UNCOMPRESSED.
        has_levels: definition levels stand before a value.
        pages: row by row.
    """

    def __init__(self, codec: str, has_levels: bool, pages: list[Page]) -> None:
        self.pages, self.lead = pages, 10 if has_levels else 4
        self._levels = _LEVELS if has_levels else _NO_LEVELS
        self._decompress = decompressor(codec)

    def fill(self, read: Read, row: int, place: memoryview) -> None:
        """Writes a row's value to `place`, whose first `lead` bytes are overwritten too.

        Raises:
            PageError: the value has another size, or the page is damaged.
        """
        page, size = self.pages[row], len(place) - self.lead
        if page.raw_size != len(place):
            raise PageError(f"has {page.raw_size - self.lead} bytes, its grid wants {size}")
        stored = read(page.start, page.size)
        if len(stored) != page.size:
            raise PageError(f"ends after {len(stored)} of {page.size} bytes")
        if page.crc is not None and zlib.crc32(stored) != page.crc:
            raise PageError("is damaged: its checksum differs")
        if self._decompress(stored, place) != page.raw_size:
            raise PageError("is damaged: it is shorter than its header says")
        lead = bytes(place[: self.lead])
        if lead[:-4] not in self._levels or int.from_bytes(lead[-4:], "little") != size:
            raise PageError(f"is null or damaged: it begins with {lead.hex(' ')}")


def pages_of(read: Read, file: Any, group: int, column: int, check: bool = True) -> Pages | None:
    """The pages of a column chunk, found by walking from header to header; null if they are not of the known kind.

    Args:
        read: of the file.
        file: pq.ParquetFile; only its metadata is used.
        check: whether `fill` compares the pages' checksums, where they have some.
    """
    chunk, kind = file.metadata.row_group(group).column(column), file.schema.column(column)
    if chunk.compression not in CODECS or chunk.has_dictionary_page or kind.physical_type != "BYTE_ARRAY":
        return None
    if kind.max_repetition_level or kind.max_definition_level > 1:
        return None
    at, end, pages = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size, []
    while at < end:
        found = _HEADER.match(read(at, _HEADER_BYTES))
        if found is None:
            return None
        raw_size, size, crc = found.groups()
        start = at + found.end()
        at = start + _int(size)
        pages.append(Page(start, at - start, _int(raw_size), _int(crc) & 0xFFFFFFFF if check and crc else None))
        if at <= start:
            return None
    if at != end or len(pages) != chunk.num_values:
        return None
    return Pages(chunk.compression, kind.max_definition_level == 1, pages)


def _int(varint: bytes) -> int:
    """A zigzag number of Thrift's compact protocol, of at most five bytes of seven bits."""
    raw = int.from_bytes(varint, "little")
    value = raw & 0x7F | raw >> 1 & 0x3F80 | raw >> 2 & 0x1FC000 | raw >> 3 & 0xFE00000 | raw >> 4 & 0x7F0000000
    return value >> 1 ^ -(value & 1)


def decompressor(codec: str) -> Decompress:
    """How a page's bytes are decompressed. Not to be shared by threads: it holds zstd's context.

    pyarrow makes a new zstd context for every call, 25 us, and a buffer of its own: with the package zstandard neither.
    """
    if codec == "UNCOMPRESSED":
        return _copied
    try:
        import zstandard
    except ImportError:
        return _by_pyarrow

    context = zstandard.ZstdDecompressor()

    def into(stored: Any, place: memoryview) -> int:
        try:
            return context.stream_reader(stored).readinto(place)
        except zstandard.ZstdError as error:
            raise PageError(f"is damaged: {error}") from error

    return into


def _copied(stored: Any, place: memoryview) -> int:
    if len(stored) != len(place):
        return len(stored)
    place[:] = stored
    return len(stored)


def _by_pyarrow(stored: Any, place: memoryview) -> int:
    try:
        raw = pa.Codec("zstd").decompress(stored, len(place))
    except OSError as error:
        raise PageError(f"is damaged: {error}") from error
    place[:] = memoryview(raw).cast("B")
    return len(place)
