# SPDX-License-Identifier: Apache-2.0
"""Clip scores from the series: one number per clip and measure, in a few vector operations per unit of sources.

A pair of frames counts for a clip only if both lie in it. Means, medians and the like are over the values that are not
null; a clip without any has a null score: it was not measured.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from operators.contract import Meter
from operators.scores import Groups
from operators.stitch import SeriesIndex, Stitched, stitch
from reelmill.column import Column, arrow_schema
from reelmill.tables import CLIP_ID, SOURCE_ID, SOURCES

VERSION = 2  # 2: packet_hash

SOURCE_FACTS = (
    "media",
    "container",
    "codec",
    "width_px",
    "height_px",
    "rotation_deg",
    "pixel_aspect",
    "is_vfr",
    "bit_depth",
    "chroma",
    "color_primaries",
    "color_transfer",
    "color_range",
    "hdr",
    "is_interlaced",
    "bit_rate_bps",
    "bits_per_pixel",
    "num_audio_streams",
)
# Bits that H.264 needs for the picture of one bit of this codec. Ours: the inverse of the bits per pixel at which a
# 4K picture starts to fall apart, 0.02 in H.264 (Open-Sora 2.0's floor), 0.012 in HEVC and VP9, 0.008 in AV1.
H264_BITS = {"h264": 1.0, "hevc": 1.67, "vp9": 1.67, "av1": 2.5, "vp8": 0.8, "mpeg4": 0.7, "mpeg2video": 0.5}
CLIP_FACTS = (
    Column("num_frames", pa.int32(), "frames in the clip"),
    Column("duration_s", pa.float64(), "seconds of the clip from the first frame to the end; 0 for a still"),
    Column("fps", pa.float64(), "effective frames per second of the clip; null for a still"),
    Column("length_class", pa.string(), "still, too_short, short or long, by the recipe's bounds"),
)
SIZE_FACTS = (
    Column("long_side_px", pa.int32(), "larger of width and height after rotation, pixels; null if unknown"),
    Column("short_side_px", pa.int32(), "smaller of width and height after rotation, pixels; null if unknown"),
)
BITS_FACTS = (
    Column(
        "clip_bits_per_pixel",
        pa.float64(),
        "8 * bytes of the clip's frames / (coded pixels * frames); null where the reader does not know the bytes",
    ),
    Column(
        "clip_bits_per_pixel_h264",
        pa.float64(),
        "the same as if it were H.264: times 1.67 for HEVC and VP9, 2.5 for AV1, 0.5 for MPEG-2 (ours, see H264_BITS); "
        "null for codecs without a number, such as those that code each frame by itself",
    ),
)
PACKET_HASH = Column(
    "packet_hash",
    pa.string(),
    "32 hex digits over what the packets of the clip's frames code, the same in any container: equal for a copy of the "
    "bit stream; null where the reader does not see packets",
)
DAMAGE_FACTS = (
    Column(
        "num_corrupt_frames",
        pa.int32(),
        "frames that the decoder flagged as damaged in the segments that the clip touches",
    ),
    Column(
        "is_damaged",
        pa.bool_(),
        "a touched segment has flagged frames, or frames next to the clip could not be decoded",
    ),
)


def score_columns(meters: Iterable[Meter]) -> tuple[Column, ...]:
    """What `score_clips` writes beside clip_id and source_id, with these meters."""
    sources = {column.name: column for column in SOURCES}
    facts = (
        *CLIP_FACTS,
        *(sources[name] for name in SOURCE_FACTS),
        *SIZE_FACTS,
        *BITS_FACTS,
        PACKET_HASH,
        *DAMAGE_FACTS,
    )
    return (*facts, *(score.column for meter in meters for score in meter.scores))


def score_clips(clips: pa.Table, series: pa.Table, sources: pa.Table, meters: Iterable[Meter]) -> pa.Table:
    """One row of scores per clip, in the order of `clips`.

    Args:
        clips: rows of tables.CLIPS.
        series: rows of tables.SERIES with the columns of `meters`, all segments of the clips' sources.
        sources: rows of tables.SOURCES of those sources.

    Returns:
        clip_id, source_id and the columns of `score_columns(meters)`.
    """
    meters = tuple(meters)
    clips = clips.combine_chunks()
    places = _Places(clips, SeriesIndex(series))
    columns: dict[str, Any] = {name: clips[name] for name in ("clip_id", "source_id")}
    columns |= {column.name: clips[column.name] for column in CLIP_FACTS}
    columns |= _source_facts(clips, sources)
    columns |= _sizes(columns)
    columns |= _bits(places.bytes_per_frame(), columns)
    columns["packet_hash"] = places.packet_hashes()
    columns |= places.damage()
    names = (*SOURCE_FACTS, *(column.name for column in (*CLIP_FACTS, *SIZE_FACTS, *BITS_FACTS)))
    facts = pa.table({name: columns[name] for name in names})
    for meter in meters:
        columns |= _scores_of(meter, places, facts)
    schema = arrow_schema((CLIP_ID, SOURCE_ID, *score_columns(meters)))
    arrays = [_array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


class _Places:
    """Where the clips lie in the series of their sources."""

    def __init__(self, clips: pa.Table, index: SeriesIndex) -> None:
        self.num_clips = clips.num_rows
        self.start, self.end = (clips[name].to_numpy() for name in ("start_pts", "end_pts"))
        source_ids = clips["source_id"].to_pylist()
        self.clips_of: dict[str, list[int]] = {}
        for clip, source_id in enumerate(source_ids):
            self.clips_of.setdefault(source_id, []).append(clip)
        self.frames: dict[str, Stitched] = {source_id: stitch(index, source_id) for source_id in self.clips_of}

    def groups(self, meter: Meter) -> dict[str, Groups]:
        """The meter's values by series column, each with the clip that it lies in."""
        parts: dict[str, list[np.ndarray]] = {column.name: [] for column in meter.writes}
        owners: list[np.ndarray] = []
        for source_id, clip_list in self.clips_of.items():
            pts, values = self.frames[source_id].samples(meter)
            owner, inside = self._owners(pts, np.array(clip_list), meter.pairwise)
            owners.append(owner[inside])
            for name, column in values.items():
                parts[name].append(column[inside])
        owner = np.concatenate([np.zeros(0, np.int64), *owners])
        return {
            name: Groups(np.concatenate([np.zeros(0), *column]), owner, self.num_clips)
            for name, column in parts.items()
        }

    def _owners(self, pts: np.ndarray, clips: np.ndarray, pairwise: bool) -> tuple[np.ndarray, np.ndarray]:
        """Clip of each sample, and whether it lies in one; a pair whose second frame begins the clip does not."""
        order = clips[np.argsort(self.start[clips])]
        place = np.searchsorted(self.start[order], pts, side="left" if pairwise else "right") - 1
        owner = order[np.maximum(place, 0)]
        return owner, (place >= 0) & (pts < self.end[owner])

    def bytes_per_frame(self) -> np.ndarray:
        """Mean bytes of a frame of each clip; NaN where they are not known of every frame."""
        result = np.full(self.num_clips, np.nan)
        for clip_list, frames, values in self._of_packets("frame_bytes"):
            total, num_unknown = _running(np.nan_to_num(values)), _running(np.isnan(values))
            first, last = (np.searchsorted(frames.pts, side[clip_list]) for side in (self.start, self.end))
            mean = (total[last] - total[first]) / np.maximum(last - first, 1)
            result[clip_list] = np.where(num_unknown[last] == num_unknown[first], mean, np.nan)
        return result

    def packet_hashes(self) -> list[str | None]:
        """Hash over the frames' hashes of each clip; None where one is not known."""
        result: list[str | None] = [None] * self.num_clips
        for clip_list, frames, values in self._of_packets("frame_hash"):
            for clip in clip_list:
                first, last = np.searchsorted(frames.pts, [self.start[clip], self.end[clip]], side="left")
                part = values[first:last]
                if len(part) and not np.isnan(part).any():
                    result[clip] = hashlib.blake2b(part.astype("<i8").tobytes(), digest_size=16).hexdigest()
        return result

    def _of_packets(self, name: str) -> Iterator[tuple[list[int], Stitched, np.ndarray]]:
        """Clips, frames and a column of one value per frame of each source that has it of every frame."""
        for source_id, clip_list in self.clips_of.items():
            frames = self.frames[source_id]
            if name in frames.index.series.column_names:
                values = np.concatenate([np.zeros(0), *(frames.index.values(name, row) for row in frames.rows)])
                if len(values) == len(frames.pts):
                    yield clip_list, frames, values

    def damage(self) -> dict[str, list[Any]]:
        """num_corrupt_frames and is_damaged of each clip."""
        num_corrupt, is_damaged = [0] * self.num_clips, [False] * self.num_clips
        for source_id, clip_list in self.clips_of.items():
            frames = self.frames[source_id]
            corrupt, damage = (frames.index.scalars(name) for name in ("num_corrupt_frames", "damage"))
            for clip in clip_list:
                first, last = np.searchsorted(frames.pts, [self.start[clip], self.end[clip]], side="left")
                rows = np.unique(frames.row[first:last])
                num_corrupt[clip] = sum(corrupt[row] or 0 for row in rows)
                is_last = last == len(frames.row) or frames.row[last] != frames.row[last - 1]
                is_cut_off = is_last and damage[frames.row[last - 1]] is not None
                is_damaged[clip] = bool(is_cut_off or num_corrupt[clip] or _is_at_hole(frames, source_id, first, last))
        return {"num_corrupt_frames": num_corrupt, "is_damaged": is_damaged}


def _sizes(columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    width, height = (columns[name].to_numpy().astype(np.float64) for name in ("width_px", "height_px"))
    return {"long_side_px": np.maximum(width, height), "short_side_px": np.minimum(width, height)}


def _bits(bytes_per_frame: np.ndarray, columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    width, height = (columns[name].to_numpy().astype(np.float64) for name in ("width_px", "height_px"))
    bits = 8 * bytes_per_frame / (width * height)
    weight = np.array([H264_BITS.get(codec, np.nan) for codec in columns["codec"].to_pylist()], np.float64)
    return {"clip_bits_per_pixel": bits, "clip_bits_per_pixel_h264": bits * weight}


def _running(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _is_at_hole(frames: Stitched, source_id: str, first: int, last: int) -> bool:
    """Whether frames are missing right before frame `first` or right before frame `last`."""
    rows, num = frames.index.rows_of(source_id), len(frames.row)
    is_open = not frames.follows[first] if first else frames.row[0] != rows[0]
    is_broken = not frames.follows[last] if last < num else frames.row[-1] != rows[-1]
    return bool(is_open or is_broken)


def _scores_of(meter: Meter, places: _Places, facts: pa.Table) -> dict[str, Any]:
    if not meter.scores:
        return {}
    groups = places.groups(meter)
    return {score.column.name: score.compute(groups, facts) for score in meter.scores}


def _source_facts(clips: pa.Table, sources: pa.Table) -> dict[str, pa.ChunkedArray]:
    row_of = {source_id: row for row, source_id in enumerate(sources["source_id"].to_pylist())}
    rows = pa.array([row_of[source_id] for source_id in clips["source_id"].to_pylist()], pa.int64())
    return {name: sources[name].take(rows) for name in SOURCE_FACTS}


def _array(values: Any, dtype: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values.cast(dtype)
    if isinstance(values, np.ndarray):
        return pa.array(values, dtype, mask=np.isnan(values))
    return pa.array(values, dtype)
