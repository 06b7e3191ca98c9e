# SPDX-License-Identifier: Apache-2.0
"""What a file says about itself: one `sources` row per listed file, and the segments in which it will be decoded.

Reads the header, the container's index and one frame, not the whole file, except for long MPEG streams, which have no
index. The file is opened in a decode child,
because demuxers crash on hostile files as decoders do. A file that cannot be opened keeps its row, with a message that
says what is wrong and what to do; its id is set whenever its bytes can be read.
"""

import itertools
import os
import time
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, ClassVar

import pyarrow as pa

from operators.contract import Operator, Resources, RowError
from operators.decode_child import DecodeChild
from operators.hdr_facts import hdr_facts
from operators.video import media_errors
from reelmill import ids, tables
from reelmill.column import Column, arrow_schema

LISTED = ("relpath", "uri", "size_bytes", "etag", "mtime_s", "title", "tags", "extra_json")
MAX_INDEX_ENTRIES = 3_000_000  # 14 hours at 60 fps; beyond, the index is not walked in Python
UNINDEXED = ("mpegts", "mpeg")  # containers without an index: long files are demuxed to find their key frames
SCAN_S = 60.0  # a scan that takes longer is given up; the file then stays one segment
WRONG_S, WRONG_SHARE = 1.0, 0.1  # ours: a header's duration that is further from the index's is not believed

PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
TRANSFERS = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
MATRICES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
}
RANGES = {1: "limited", 2: "full"}


@dataclass(frozen=True, kw_only=True)
class Probe(Operator):
    """Facts of each listed file.

    Args:
        segment_s: sources longer than this are cut into segments of about this length, at key frames, seconds.
        time_limit_s: longest time for one file, seconds.
        memory_limit_gb: private memory of the child; a header that asks for more costs that row only.

    Reads: the listing's columns. Writes: all other columns of `tables.SOURCES`.
    Raises: ValueError: a limit that is not positive.
    """

    name: ClassVar[str] = "probe"
    reads: ClassVar[tuple[Column, ...]] = tuple(c for c in tables.SOURCES if c.name in LISTED)
    resources: ClassVar[Resources] = Resources(num_cpus=1.0, memory_gb=1.0)

    segment_s: float = 60.0
    time_limit_s: float = 120.0
    memory_limit_gb: float = 2.0

    def __post_init__(self) -> None:
        for field in ("segment_s", "time_limit_s", "memory_limit_gb"):
            if not getattr(self, field) > 0:
                raise ValueError(f"probe.{field} is {getattr(self, field)}; give a number above 0")

    @property
    def writes(self) -> tuple[Column, ...]:
        return tuple(c for c in tables.SOURCES if c.name not in LISTED)

    def setup(self) -> DecodeChild:
        return DecodeChild(self.memory_limit_gb)

    def process(self, state: DecodeChild, batch: pa.Table) -> pa.Table:
        rows = [row | self._facts(state, row) for row in batch.select(list(LISTED)).to_pylist()]
        return pa.Table.from_pylist(rows, schema=arrow_schema(tables.SOURCES))

    def close(self, state: DecodeChild) -> None:
        state.close()

    def _facts(self, child: DecodeChild, row: dict[str, Any]) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        try:
            facts["source_id"] = source_id_of(row["relpath"], row["uri"])
            kwargs = {"uri": row["uri"], "segment_s": self.segment_s}
            facts |= child.call("operators.probe:facts_of", kwargs, self.time_limit_s)
        except RowError as error:
            facts |= {"error_kind": error.kind, "error": str(error)}
        return facts


def source_id_of(relpath: str, uri: str) -> str:
    """The source id of a file: two range reads. Raises RowError if its bytes cannot be read."""
    from reelmill.media import open_bytes

    with media_errors(uri), open_bytes(uri) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(ids.HEAD_BYTES)
        file.seek(max(size - ids.HEAD_BYTES, 0))
        return ids.source_id(relpath, size, head, file.read(ids.HEAD_BYTES))


def facts_of(uri: str, segment_s: float) -> dict[str, Any]:
    """Columns of `tables.SOURCES` that the file itself tells. Runs in the decode child. Raises RowError."""
    from reelmill.media import is_image, open_bytes, open_media

    with media_errors(uri):
        with open_bytes(uri) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            head = file.read(16)
        if is_image(head):
            return _image_facts(uri, size)
        with open_media(uri) as media:
            return _video_facts(media, size, segment_s)


def _image_facts(uri: str, size: int) -> dict[str, Any]:
    from PIL import ExifTags

    from reelmill.stills import open_image

    with open_image(uri) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        width, height, name = image.width, image.height, (image.format or "").lower()
    rotation = {3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}.get(orientation, 0)
    shown = (width, height) if rotation % 180 == 0 else (height, width)
    return {
        "media": "image",
        "container": name,
        "codec": name,
        "width_px": shown[0],
        "height_px": shown[1],
        "coded_width_px": width,
        "coded_height_px": height,
        "rotation_deg": rotation,
        "pixel_aspect": 1.0,
        "is_vfr": False,
        "num_frames": 1,
        "duration_s": 0.0,
        "time_base_num": 1,
        "time_base_den": 1,
        "start_pts": 0,
        "bit_depth": 8,
        "chroma": "rgb",
        "hdr": "sdr",
        "has_hdr10plus": False,
        "has_dolby_vision": False,
        "is_interlaced": False,
        "num_audio_streams": 0,
        "bits_per_pixel": 8 * size / (width * height),
        "segments": [_segment(0, None)],
    }


def _video_facts(media: Any, size: int, segment_s: float) -> dict[str, Any]:
    frame = _first_frame(media)
    stream, container = media.stream, media.container
    index = Index.of(media, frame.pts)
    if container.format.name in UNINDEXED and (_duration_s(media, index) or 0) > segment_s:
        index = Index.scanned(media.uri)
    time_base = stream.time_base or Fraction(1)
    duration_s = _duration_s(media, index)
    rate = stream.average_rate or stream.guessed_rate
    num_frames = index.num_frames or stream.frames or None
    pixels = frame.width * frame.height
    declared, most = stream.codec_context.bit_rate, 8 * size / duration_s if duration_s else None
    bit_rate = min(declared, most) if declared and most else declared or most  # MPEG-1 declares 104 Mb/s for "variable"
    if index.num_bytes and duration_s:
        bit_rate = index.num_bytes * 8 / duration_s
    return {
        "media": "video",
        "container": _container_name(container.format.name, media.uri),
        "codec": stream.codec_context.codec.canonical_name,
        "profile": stream.profile,
        "fps": float(rate) if rate else None,
        "is_vfr": index.is_vfr,
        "num_frames": num_frames,
        "duration_s": duration_s,
        "time_base_num": time_base.numerator,
        "time_base_den": time_base.denominator,
        "start_pts": frame.pts,
        "is_interlaced": True if frame.interlaced_frame else _is_interlaced(stream.codec_context.field_order),
        "bit_rate_bps": float(bit_rate) if bit_rate else None,
        "bits_per_pixel": _bits_per_pixel(index, num_frames, bit_rate, rate, pixels),
        "num_audio_streams": len(container.streams.audio),
        "segments": index.segments(frame.pts, duration_s, time_base, segment_s),
        **_picture_facts(frame, media),
    }


def _first_frame(media: Any) -> Any:
    """The first frame that decodes; also the proof that the file is neither encrypted nor empty."""
    from av.error import FFmpegError

    from reelmill.media import MediaError
    from reelmill.spans import iter_span

    try:
        frame = next(iter_span(media, None, None), None)
    except FFmpegError as error:
        media.check_reads()
        raise MediaError(
            f"{media.uri}: its first frame does not decode: {error}; the file is damaged, encrypted or "
            "cut off, copy it again"
        ) from error
    if frame is None:
        raise MediaError(f"{media.uri}: a header but no frame follows; the file is cut off, copy it again")
    return frame


def _picture_facts(frame: Any, media: Any) -> dict[str, Any]:
    from reelmill.pixels import hdr_of, rotation_of
    from reelmill.spans import droppable_of

    stream = media.stream
    rotation = rotation_of(frame)
    width, height = (frame.width, frame.height) if rotation % 180 == 0 else (frame.height, frame.width)
    aspect = float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1) or 1.0
    full = frame.format.name.startswith("yuvj")
    context = stream.codec_context
    transfer = _tag(frame.color_trc, context.color_trc)
    return {
        "width_px": width,
        "height_px": height,
        "coded_width_px": frame.width,
        "coded_height_px": frame.height,
        "rotation_deg": rotation,
        "pixel_aspect": aspect if rotation % 180 == 0 else 1 / aspect,
        "bit_depth": frame.format.components[0].bits,
        "chroma": "4:0:0" if droppable_of(media).is_monochrome else _chroma(frame.format),
        "color_primaries": PRIMARIES.get(_tag(frame.color_primaries, context.color_primaries)),
        "color_transfer": TRANSFERS.get(transfer),
        "color_matrix": MATRICES.get(_tag(frame.colorspace, context.colorspace)),
        "color_range": "full" if full else RANGES.get(int(frame.color_range) or int(context.color_range)),
        "hdr": hdr_of(transfer),
        **hdr_facts(frame, context.codec_tag),
    }


def _tag(of_frame: int, of_stream: int) -> int:
    """The frame's tag, or the container's where the frame's is `unspecified` (2)."""
    return int(of_frame) if int(of_frame) != 2 else int(of_stream)


def _chroma(video_format: Any) -> str:
    if video_format.is_rgb or video_format.has_palette:
        return "rgb"
    if len(video_format.components) < 3:
        return "4:0:0"
    ratio = 16 // video_format.chroma_width(16), 16 // video_format.chroma_height(16)
    return {(1, 1): "4:4:4", (2, 1): "4:2:2", (4, 1): "4:1:1", (1, 2): "4:4:0", (4, 4): "4:1:0"}.get(ratio, "4:2:0")


def _is_interlaced(field_order: int) -> bool | None:
    return None if field_order == 0 else field_order != 1


def _container_name(names: str, uri: str) -> str:
    known = names.split(",")
    suffix = PurePosixPath(uri).suffix.lower().removeprefix(".")
    return suffix if suffix in known else "mp4" if "mp4" in known else known[0]


def _duration_s(media: Any, index: "Index") -> float | None:
    stream = media.stream
    if stream.duration is not None and stream.time_base:
        stated = float(stream.duration * stream.time_base)
    else:
        stated = media.container.duration / 1e6 if media.container.duration else None
    if index.num_ticks is None or stated is None:
        return stated
    counted = float(index.num_ticks * stream.time_base)
    return stated if abs(stated - counted) <= max(WRONG_S, WRONG_SHARE * counted) else counted


def _bits_per_pixel(
    index: "Index", num_frames: int | None, bit_rate: float | None, rate: Fraction | None, pixels: int
) -> float | None:
    if index.num_bytes and num_frames:
        return 8 * index.num_bytes / (pixels * num_frames)
    return float(bit_rate / (float(rate) * pixels)) if bit_rate and rate else None


@dataclass(frozen=True, slots=True)
class Index:
    """What the container's index tells without reading media data.

    Attributes:
        key_pts: presentation times of the key frames. MP4 stores decoding times; they are shifted by the first frame's
            delay, which is exact for closed GOPs and may lie a few frames early for open ones: the reader copes.
        num_frames, num_bytes, is_vfr: null unless the index lists every frame.
        num_ticks: from the first to the end of the last listed frame, the last as long as most are; null likewise.
    """

    key_pts: list[int]
    num_frames: int | None = None
    num_bytes: int | None = None
    is_vfr: bool | None = None
    num_ticks: int | None = None

    @classmethod
    def of(cls, media: Any, start_pts: int) -> "Index":
        entries = media.stream.index_entries
        if "matroska" in media.container.format.name and len(entries) <= 1:
            _load_cues(media)
            entries = media.stream.index_entries
        if not len(entries) or len(entries) > MAX_INDEX_ENTRIES:
            return cls([])
        times = [(e.timestamp, e.is_keyframe, e.size) for e in entries if not e.is_discard]
        if not times or media.container.format.name not in ("mov,mp4,m4a,3gp,3g2,mj2", "avi"):
            return cls([t for t, is_key, _ in times if is_key])
        delay = start_pts - times[0][0]
        steps = sorted(b[0] - a[0] for a, b in itertools.pairwise(times))
        is_vfr = _is_vfr(steps)
        num_bytes = sum(size for _, _, size in times) or None
        num_ticks = times[-1][0] - times[0][0] + steps[len(steps) // 2] if steps else None
        keys = [] if media.is_untimed else [t + delay for t, is_key, _ in times if is_key]
        return cls(keys, len(times), num_bytes, is_vfr, num_ticks)

    @classmethod
    def scanned(cls, uri: str) -> "Index":
        """The index by a demux pass (about 1 ms a 4K frame); empty if times come twice or it takes too long."""
        from reelmill.media import open_media
        from reelmill.spans import droppable_of

        deadline = time.monotonic() + SCAN_S
        before: int | None = None
        times: list[tuple[int, bool, int]] = []
        with open_media(uri) as media:  # anew: to rewind would close the container that the other facts are read from
            for packet in media.packets():
                if packet.size and packet.pts is not None and packet.dts is not None:
                    if (before is not None and packet.dts < before) or time.monotonic() > deadline:
                        return cls([])
                    before = packet.dts
                    times.append((packet.pts, packet.is_keyframe, packet.size))
            media.check_reads()
            whole_frames = droppable_of(media).whole_frames
        key_pts = sorted(t for t, is_key, _ in times if is_key)
        if not whole_frames:  # the fields of a picture may be packets of their own
            return cls(key_pts)
        steps = sorted(b - a for a, b in itertools.pairwise(sorted(t for t, _, _ in times)))
        return cls(key_pts, len(times), sum(size for _, _, size in times), _is_vfr(steps))

    def segments(
        self, start_pts: int, duration_s: float | None, time_base: Fraction, segment_s: float
    ) -> list[dict[str, Any]]:
        """Pieces of at least `segment_s`, borders on key frames; one piece if short or if the index has gaps."""
        if duration_s is None or duration_s <= segment_s or not self._covers(start_pts, duration_s, time_base):
            return [_segment(start_pts, None)]
        step = max(round(segment_s / time_base), 1)
        end = start_pts + round(duration_s / time_base)
        borders = [start_pts]
        while (at := bisect_left(self.key_pts, borders[-1] + step)) < len(self.key_pts):
            if end - self.key_pts[at] < step // 2:
                break  # a last piece shorter than half a segment stays with the one before
            borders.append(self.key_pts[at])
        return [_segment(a, b) for a, b in zip(borders, [*borders[1:], None], strict=True)]

    def _covers(self, start_pts: int, duration_s: float, time_base: Fraction) -> bool:
        """Whether the keys reach the last tenth of the stream: a fragmented file's index ends at its first fragment."""
        return bool(self.key_pts) and (self.key_pts[-1] - start_pts) * time_base >= 0.9 * duration_s - 30


def _is_vfr(steps: list[int]) -> bool:
    """Whether the sorted durations of frames differ by more than half of their median."""
    return bool(steps) and steps[-1] - steps[0] > 0.5 * max(steps[len(steps) // 2], 1)


def _load_cues(media: Any) -> None:
    """Matroska's index stands at the file's end and is read by the first seek."""
    from av.error import FFmpegError

    try:
        media.container.seek(round((media.container.duration or 0) * 0.9), backward=True)
    except FFmpegError:
        media.check_reads()  # a file without cues keeps its single segment


def _segment(start_pts: int, end_pts: int | None) -> dict[str, Any]:
    return {"start_pts": start_pts, "end_pts": end_pts, "seek_pts": start_pts}
