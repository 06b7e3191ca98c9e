# SPDX-License-Identifier: Apache-2.0
"""Clips from the series alone. Nothing is decoded, so any of this can change at no cost.

`operators.shots` says where shots end. Every frame that was decoded lies in a shot or in a gradual transition between
two; every shot becomes at least one clip; nothing is dropped for being short, unless the recipe asks for it.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.shots import DetectorConfig, Transition, find_shots, find_transitions, needed_columns
from operators.stitch import SeriesIndex, Stitched, stitch
from reelmill.column import arrow_schema
from reelmill.ids import clip_id, split_of
from reelmill.tables import CLIPS

VERSION = 2
BOUND_TOLERANCE_S = 1e-3  # so that 90 frames of 30 fps are 3 s in a container that rounds times to milliseconds
_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}  # read by pydantic, which this module does not import


@dataclass(frozen=True, kw_only=True)
class CutConfig:
    """How shots become clips.

    Args:
        detector: where shots end.
        trim_s: seconds cut off at both edges of each shot; a shot that would vanish keeps its frames.
        short_s, long_s: a clip below `short_s` is `too_short`, up to `long_s` `short`, above it `long`; 3 and 10 are
            UltraVideo's.
        max_s: longest clip; longer shots become windows of at most this many seconds. Null: no limit.
        min_last_s: a last window shorter than this shares its frames evenly with the window before it.
        drop_last: such a window is left out instead. The windows before it stay as they are.
    """

    detector: DetectorConfig = field(default_factory=DetectorConfig)
    trim_s: float = 0.0
    short_s: float = 3.0
    long_s: float = 10.0
    max_s: float | None = None
    min_last_s: float = 3.0
    drop_last: bool = False
    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    def __post_init__(self) -> None:
        if self.trim_s < 0 or self.min_last_s < 0:
            raise ValueError(f"trim_s and min_last_s must not be negative, got {self.trim_s} and {self.min_last_s}")
        if not 0 <= self.short_s <= self.long_s:
            raise ValueError(f"short_s {self.short_s} must lie between 0 and long_s {self.long_s}")
        if self.max_s is not None and self.max_s <= 0:
            raise ValueError(f"max_s {self.max_s} must be above 0, or null for no limit")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Share of sources that go to `val`, drawn by a hash of the source and the seed."""

    val_fraction: float = 0.05
    seed: int = 0
    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    def __post_init__(self) -> None:
        if not 0 <= self.val_fraction <= 1:
            raise ValueError(f"val_fraction {self.val_fraction} must lie between 0 and 1")


@dataclass(frozen=True)
class Piece:
    """Frames [start, end) of a stitched source that become a clip, and what lies on either side (see tables.CLIPS)."""

    shot_index: int
    start: int
    end: int
    is_trimmed: bool
    before: str
    after: str


def cut_clips(sources: pa.Table, series: pa.Table, config: CutConfig, split: SplitConfig) -> pa.Table:
    """Clips of all sources that have frames, in the order of `sources` and of time.

    Args:
        sources: rows of tables.SOURCES.
        series: rows of tables.SERIES with the columns of `needed_columns`, all segments of those sources.

    Returns:
        A table of tables.CLIPS.

    Raises:
        ValueError: the series lack columns that the detector reads.
    """
    needed = needed_columns(config.detector)
    missing = [name for name in needed if name not in series.column_names]
    if missing:
        raise ValueError(
            f"series have no {', '.join(missing)}: detector {config.detector.kind!r} cuts shots from meter "
            f"{needed[missing[0]]!r}, add it to measure.meters of the recipe"
        )
    index = SeriesIndex(series)
    facts = sources.select(["source_id", "media", "time_base_num", "time_base_den", "segments"]).to_pylist()
    rows: list[dict[str, Any]] = []
    for source in facts:
        if index.rows_of(source["source_id"]):
            rows.extend(_clips_of(source, stitch(index, source["source_id"]), config, split))
    return pa.Table.from_pylist(rows, schema=arrow_schema(CLIPS))


def _clips_of(source: dict[str, Any], frames: Stitched, config: CutConfig, split: SplitConfig) -> list[dict[str, Any]]:
    if not len(frames.pts):
        return []
    time_base = Fraction(source["time_base_num"], source["time_base_den"])
    transitions = _transitions(frames, config.detector)
    before = {t.end: t.kind for t in transitions} | {0: "start"}
    after = {t.start: t.kind for t in transitions} | {len(frames.pts): "end"}
    pieces = []
    for shot_index, (start, end) in enumerate(find_shots(transitions, len(frames.pts))):
        first, last = _trim(frames, start, end, _ticks(config.trim_s, time_base))
        is_trimmed = (first, last) != (start, end) or bool({before[start], after[end]} & {"gradual", "wipe"})
        for a, b in _windows(frames, first, last, config, time_base):
            sides = before[start] if a == first else "window", after[end] if b == last else "window"
            pieces.append(Piece(shot_index, a, b, is_trimmed, *sides))
    side = split_of(source["source_id"], split.val_fraction, split.seed)
    return [_clip(source, frames, piece, number, config, side) for number, piece in enumerate(pieces)]


def _transitions(frames: Stitched, detector: DetectorConfig) -> list[Transition]:
    needed = needed_columns(detector)
    series = {name: frames.frames(name) if meter == "content" else frames.each(name) for name, meter in needed.items()}
    return find_transitions(series, frames.follows, frames.is_key, detector)


def _ticks(seconds: float, time_base: Fraction) -> int:
    return int(Fraction(seconds).limit_denominator(10**6) / time_base)


def _trim(frames: Stitched, start: int, end: int, ticks: int) -> tuple[int, int]:
    """The frames of [start, end) that lie at least `ticks` inside it; all of them if none do."""
    if ticks <= 0:
        return start, end
    first = start + int(np.searchsorted(frames.pts[start:end], frames.pts[start] + ticks, side="left"))
    last = start + int(np.searchsorted(frames.ends[start:end], frames.ends[end - 1] - ticks, side="right"))
    return (first, last) if first < last else (start, end)


def _windows(frames: Stitched, start: int, end: int, config: CutConfig, time_base: Fraction) -> list[tuple[int, int]]:
    """[start, end) in pieces of at most `max_s`; where the last is too short, the last two even, or it is left out."""
    if config.max_s is None:
        return [(start, end)]
    longest = _ticks(config.max_s, time_base)
    edges = [start]
    while frames.ends[end - 1] - frames.pts[edges[-1]] > longest:
        room = int(np.searchsorted(frames.ends[edges[-1] : end], frames.pts[edges[-1]] + longest, side="right"))
        edges.append(edges[-1] + max(room, 1))
        if edges[-1] >= end:
            edges.pop()
            break
    last_ticks = frames.ends[end - 1] - frames.pts[edges[-1]]
    if len(edges) > 1 and last_ticks < _ticks(config.min_last_s, time_base):
        if config.drop_last:
            return list(pairwise(edges))
        edges[-1] = max((edges[-2] + end) // 2, edges[-2] + 1)
    return list(pairwise([*edges, end]))


def _clip(
    source: dict[str, Any], frames: Stitched, piece: Piece, number: int, config: CutConfig, side: str
) -> dict[str, Any]:
    num, den = source["time_base_num"], source["time_base_den"]
    start_pts, end_pts = int(frames.pts[piece.start]), int(frames.ends[piece.end - 1])
    is_still = source["media"] == "image"
    duration_s = 0.0 if is_still else (end_pts - start_pts) * num / den
    num_frames = piece.end - piece.start
    return {
        "clip_id": clip_id(source["source_id"], start_pts, end_pts, num, den),
        "source_id": source["source_id"],
        "clip_index": number,
        "shot_index": piece.shot_index,
        "start_pts": start_pts,
        "end_pts": end_pts,
        "time_base_num": num,
        "time_base_den": den,
        "seek_pts": _seek_pts(source, frames, piece.start),
        "frame_pts": frames.pts[piece.start : piece.end],
        "num_frames": num_frames,
        "start_s": start_pts * num / den,
        "duration_s": duration_s,
        "fps": None if is_still else num_frames / duration_s,
        "length_class": "still" if is_still else _length_class(duration_s, config),
        "is_trimmed": piece.is_trimmed,
        "transition_in": piece.before,
        "transition_out": piece.after,
        "split": side,
    }


def _seek_pts(source: dict[str, Any], frames: Stitched, start: int) -> int:
    """The last key frame at or before frame `start`; where its segment shows none, that segment's seek point."""
    keys = np.flatnonzero(frames.is_key[: start + 1] & (frames.row[: start + 1] == frames.row[start]))
    if len(keys):
        return int(frames.pts[keys[-1]])
    return source["segments"][frames.index.scalars("segment_index")[frames.row[start]]]["seek_pts"]


def _length_class(duration_s: float, config: CutConfig) -> str:
    if duration_s < config.short_s - BOUND_TOLERANCE_S:
        return "too_short"
    return "short" if duration_s <= config.long_s + BOUND_TOLERANCE_S else "long"
