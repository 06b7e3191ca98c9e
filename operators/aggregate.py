# SPDX-License-Identifier: Apache-2.0
"""Clip scores from the series: one number per clip and measure, in a few vector operations per unit of sources.

A pair of frames counts for a clip only if both lie in it. Means, medians and the like are over the values that are not
null; a clip without any has a null score: it was not measured.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from operators.contract import Meter
from operators.stitch import SeriesIndex, Stitched, stitch
from reelmill.column import Column, arrow_schema
from reelmill.tables import CLIP_ID, SOURCE_ID, SOURCES

VERSION = 1
FREEZE_LEVEL = 0.1  # of 255: a repeated frame stays below it in H.264, HEVC, VP9 and AV1 (measured)

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
CLIP_FACTS = (
    Column("num_frames", pa.int32(), "frames in the clip"),
    Column("duration_s", pa.float64(), "seconds of the clip from the first frame to the end; 0 for a still"),
    Column("fps", pa.float64(), "effective frames per second of the clip; null for a still"),
    Column("length_class", pa.string(), "still, too_short, short or long, by the recipe's bounds"),
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


class Groups:
    """Values of many clips, sorted within each clip, nulls left out. Statistics are arrays over the clips."""

    def __init__(self, values: np.ndarray, clip: np.ndarray, num_clips: int) -> None:
        is_known = ~np.isnan(values)
        self.values, self.clip, self.num_clips = values[is_known].astype(np.float64), clip[is_known], num_clips
        order = np.lexsort((self.values, self.clip))
        self.sorted = self.values[order]
        self.counts = np.bincount(self.clip, minlength=num_clips)
        self.starts = np.cumsum(self.counts) - self.counts

    def mean(self) -> np.ndarray:
        """Mean; NaN for a clip without values."""
        return self._per_count(np.bincount(self.clip, weights=self.values, minlength=self.num_clips))

    def share(self, is_hit: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Share of values that `is_hit` says true of; NaN for a clip without values."""
        return self._per_count(np.bincount(self.clip, weights=is_hit(self.values), minlength=self.num_clips))

    def quantile(self, q: float) -> np.ndarray:
        """Quantile with linear interpolation, as numpy.quantile; NaN for a clip without values."""
        result = np.full(self.num_clips, np.nan)
        has = self.counts > 0
        position = q * (self.counts[has] - 1)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, self.counts[has] - 1)
        first = self.starts[has]
        weight = position - low
        result[has] = self.sorted[first + low] * (1 - weight) + self.sorted[first + high] * weight
        return result

    def spread(self) -> np.ndarray:
        """1.4826 times the median absolute deviation from the median: the standard deviation of a normal variable."""
        deviation = np.abs(self.values - self.quantile(0.5)[self.clip])
        return 1.4826 * Groups(deviation, self.clip, self.num_clips).quantile(0.5)

    def _per_count(self, total: np.ndarray) -> np.ndarray:
        return np.divide(total, self.counts, out=np.full(self.num_clips, np.nan), where=self.counts > 0)


STATISTICS: dict[str, tuple[str, Callable[[Groups], np.ndarray]]] = {
    "mean": ("mean", Groups.mean),
    "median": ("median", lambda groups: groups.quantile(0.5)),
    "min": ("smallest value", lambda groups: groups.quantile(0.0)),
    "max": ("largest value", lambda groups: groups.quantile(1.0)),
    "p95": ("95th percentile", lambda groups: groups.quantile(0.95)),
    "spread": ("robust standard deviation (1.4826 times the median absolute deviation)", Groups.spread),
}
# series column -> statistics of it, each written as <series column>_<statistic>; `samples` keeps the values themselves
STATISTICS_OF: dict[str, tuple[str, ...]] = {
    "content_lum": ("mean", "max"),
    "exposure_clipped_share": ("samples", "mean", "max"),
    "exposure_dark_share": ("mean",),
    "exposure_bright_share": ("mean",),
    "exposure_luma": ("mean", "min", "max"),
    "border_luma_min": ("samples", "median"),
    "border_top_bar_share": ("min",),
    "border_bottom_bar_share": ("min",),
    "border_left_bar_share": ("min",),
    "border_right_bar_share": ("min",),
    "grey_variance": ("samples", "median", "max"),
    "freeze_absdiff": ("median",),
    "sharpness_laplacian_1080": ("median", "max"),
    "sharpness_laplacian_270": ("median", "max"),
    "motion_speed": ("mean", "median", "max"),
    "motion_residual_speed": ("mean",),
    "camera_pan": ("median", "spread"),
    "camera_tilt": ("median", "spread"),
    "camera_zoom": ("median", "spread"),
    "camera_roll": ("median", "spread"),
    "camera_inlier_share": ("mean",),
    "color_luma_p05": ("mean",),
    "color_luma_p50": ("mean",),
    "color_luma_p95": ("mean",),
    "color_saturation": ("mean",),
    "color_chroma": ("mean",),
    "color_hue_spread": ("median",),
    "color_warmth": ("mean",),
}


@dataclass(frozen=True)
class Derived:
    """A score made of several others or by a threshold of its own, from a meter's groups by series column."""

    meter: str
    column: Column
    compute: Callable[[dict[str, Groups]], np.ndarray]


def _freeze_share(groups: dict[str, Groups]) -> np.ndarray:
    return groups["freeze_absdiff"].share(lambda values: values < FREEZE_LEVEL)


def _bar_share(groups: dict[str, Groups]) -> np.ndarray:
    sides = ("top", "bottom", "left", "right")
    return np.max([groups[f"border_{side}_bar_share"].quantile(0.0) for side in sides], axis=0)


def _shake(groups: dict[str, Groups]) -> np.ndarray:
    return np.hypot(groups["camera_pan"].spread(), groups["camera_tilt"].spread())


DERIVED = (
    Derived(
        "freeze",
        Column(
            "freeze_share",
            pa.float64(),
            "share of frames that repeat the one before (mean absolute luma difference below "
            f"{FREEZE_LEVEL} of 255), 0-1; null for a clip of one frame",
        ),
        _freeze_share,
    ),
    Derived(
        "border",
        Column(
            "border_bar_share",
            pa.float64(),
            "depth of the deepest black bar on any side that is there in every sample, "
            "share of the height or width; null if all samples are black",
        ),
        _bar_share,
    ),
    Derived(
        "motion",
        Column(
            "camera_shake",
            pa.float64(),
            "unsteadiness: robust standard deviation of the camera's pan and tilt speed "
            "around their medians, frame heights per second; null if unknown",
        ),
        _shake,
    ),
)


def score_columns(meters: Iterable[Meter]) -> tuple[Column, ...]:
    """What `score_clips` writes beside clip_id and source_id, with these meters."""
    sources = {column.name: column for column in SOURCES}
    facts = (*CLIP_FACTS, *(sources[name] for name in SOURCE_FACTS), *DAMAGE_FACTS)
    return (*facts, *(column for meter in meters for column in _columns_of(meter)))


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
    columns |= places.damage()
    for meter in meters:
        columns |= _scores_of(meter, places)
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


def _is_at_hole(frames: Stitched, source_id: str, first: int, last: int) -> bool:
    """Whether frames are missing right before frame `first` or right before frame `last`."""
    rows, num = frames.index.rows_of(source_id), len(frames.row)
    is_open = not frames.follows[first] if first else frames.row[0] != rows[0]
    is_broken = not frames.follows[last] if last < num else frames.row[-1] != rows[-1]
    return bool(is_open or is_broken)


def _columns_of(meter: Meter) -> list[Column]:
    columns = []
    for series in meter.writes:
        for statistic in STATISTICS_OF.get(series.name, ()):
            if statistic == "samples":
                doc = f"every sample in the clip: {series.doc}; null if there is none"
                columns.append(Column(f"{series.name}_samples", pa.list_(pa.float32()), doc))
            else:
                doc = f"{STATISTICS[statistic][0]} over the clip: {series.doc}; null if nothing was measured"
                columns.append(Column(f"{series.name}_{statistic}", pa.float64(), doc))
    return columns + [derived.column for derived in DERIVED if derived.meter == meter.name]


def _scores_of(meter: Meter, places: _Places) -> dict[str, Any]:
    groups = places.groups(meter)
    scores: dict[str, Any] = {}
    for name, group in groups.items():
        for statistic in STATISTICS_OF.get(name, ()):
            is_list = statistic == "samples"
            scores[f"{name}_{statistic}"] = _samples(group) if is_list else STATISTICS[statistic][1](group)
    for derived in DERIVED:
        if derived.meter == meter.name:
            scores[derived.column.name] = derived.compute(groups)
    return scores


def _samples(group: Groups) -> pa.Array:
    """The values of each clip in time order; null for a clip without any."""
    order = np.argsort(group.clip, kind="stable")
    offsets = np.append(group.starts, group.counts.sum()).astype(np.int32)
    values = pa.array(group.values[order], pa.float32())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(group.counts == 0))


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
