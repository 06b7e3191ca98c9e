# SPDX-License-Identifier: Apache-2.0
"""The one decode of the raw footage: each segment is read once, and all meters look at its frames."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from statistics import median_low
from typing import Any, ClassVar

import pyarrow as pa

from operators.contract import Meter, Operator, Resources, RowError, View
from operators.decode_child import DecodeChild
from operators.video import BACKENDS, open_segment
from operators.views import Frame
from reelmill.column import Column, arrow_schema
from reelmill.tables import SEGMENT, SERIES, SOURCES, STATE

_SEGMENT_INDEX = next(column for column in SERIES if column.name == "segment_index")
_READS = ("source_id", "uri", "media", "start_pts", "duration_s", "time_base_num", "time_base_den")
MISSING_S, MISSING_SHARE = 1.0, 0.1  # ours: a header that promises this much more than there is means a cut-off file
WORK = (
    _SEGMENT_INDEX,
    Column("segment", SEGMENT, "the one of the source's `segments` that this row is about"),
    Column("num_segments", pa.int32(), "segments of the source"),
)
SMALL_VIEWS = frozenset({View.TINY, View.TINY_LUMA, View.PROXY, View.COLOR})  # arrays of their own, not the planes
CALLS_AT_ONCE = 16
DECODED_S = Column("decoded_s", pa.float64(), "seconds of media decoded for this row; null if the row failed")
KEYS = ("source_id", "segment_index")


@dataclass(frozen=True, kw_only=True)
class Measure(Operator):
    """Decodes a segment of a source and writes what the meters say about its frames.

    Reads: a row of `segment_rows`: where the frames are, and what the header promises of the last of them.
    Writes: the columns of tables.SERIES, each meter's list columns, `<meter>_pts` of each sampled meter, decoded_s.

    Args:
        meters: what to measure.
        backend: pyav, or another of `operators.video.BACKENDS` for files that it reads exactly.
        threads: decoder threads.
        time_limit_s: seconds for one segment, above which the row fails with kind `resource`.
        memory_limit_gb: private memory of the decode child, likewise.

    Raises:
        ValueError: a meter is given twice, two write one column, a rate is not above 0, or an unknown backend.
    """

    name: ClassVar[str] = "measure"
    version: ClassVar[int] = 4  # 2: frame_bytes; 3: PROXY and COLOR from four rows of each block; 4: frame_hash
    neutral: ClassVar[frozenset[str]] = frozenset({"threads", "time_limit_s", "memory_limit_gb"})
    reads: ClassVar[tuple[Column, ...]] = (*(c for c in SOURCES if c.name in _READS), *WORK)
    resources: ClassVar[Resources] = Resources(num_cpus=1.0, memory_gb=1.5)
    meters: tuple[Meter, ...]
    backend: str = "pyav"
    threads: int = 1
    time_limit_s: float = 900.0
    memory_limit_gb: float = 4.0

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"unknown backend {self.backend!r}; known are {', '.join(BACKENDS)}")
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}, it must be at least 1")
        for meter in self.meters:
            if meter.rate_hz is not None and not meter.rate_hz > 0:
                raise ValueError(f"meter {meter.name!r}: rate_hz is {meter.rate_hz}, it must be above 0")
            assert not (meter.deferred and (meter.pairwise or meter.rate_hz is not None)), meter.name
        arrow_schema(self.writes)  # says which column two meters both write

    @property
    def writes(self) -> tuple[Column, ...]:
        return (*SERIES, *(column for meter in self.meters for column in meter_columns(meter)), DECODED_S)

    def setup(self) -> DecodeChild:
        return DecodeChild(self.memory_limit_gb)

    def process(self, state: DecodeChild, batch: pa.Table) -> pa.Table:
        rows = [self._row(state, row) for row in batch.select([column.name for column in self.reads]).to_pylist()]
        return pa.Table.from_pylist(rows, schema=arrow_schema(self.writes))

    def close(self, state: DecodeChild) -> None:
        state.close()

    def _row(self, child: DecodeChild, row: dict[str, Any]) -> dict[str, Any]:
        keys = {name: row[name] for name in KEYS}
        call = {
            "uri": row["uri"],
            **row["segment"],
            "is_first": row["segment_index"] == 0,
            "meters": self.meters,
            "backend": self.backend,
            "threads": self.threads,
        }
        try:
            result = child.call("operators.measure:measure_segment", call, self.time_limit_s)
            return keys | result | {"damage": result["damage"] or missing_end(row, result)}
        except RowError as error:
            return keys | dict(zip((column.name for column in STATE), (error.kind, str(error)), strict=True))


def missing_end(row: dict[str, Any], result: dict[str, Any]) -> str | None:
    """What to say if frames end long before the header says: some demuxers report a cut-off file as a plain end.

    Null for stills, for all but the last segment, and where the header has no duration. A duration that was counted
    from zero although the first frame is late is not held against the file.
    """
    if row["media"] == "image" or row["segment"]["end_pts"] is not None or not row["duration_s"]:
        return None
    tick_s = row["time_base_num"] / row["time_base_den"]
    end_pts = result["frame_pts"][-1] + (result["last_duration_pts"] or 0)
    end_s = max(end_pts, end_pts - (row["start_pts"] or 0)) * tick_s
    missing_s = row["duration_s"] - end_s
    if missing_s <= max(MISSING_S, MISSING_SHARE * row["duration_s"]):
        return None
    return f"the header says {row['duration_s']:.1f} s, the frames end after {end_s:.1f} s: the file is cut off"


def segment_rows(sources: pa.Table) -> pa.Table:
    """One row per segment of each source: the source's columns, with the columns of WORK in place of `segments`."""
    owners, work = [], []
    for owner, segments in enumerate(sources.column("segments").to_pylist()):
        owners += [owner] * len(segments)
        work += [{"segment_index": i, "segment": s, "num_segments": len(segments)} for i, s in enumerate(segments)]
    table = sources.drop_columns(["segments"]).take(pa.array(owners, pa.int64()))
    columns = pa.Table.from_pylist(work, schema=arrow_schema(WORK).remove_metadata())
    for name in columns.column_names:
        table = table.append_column(name, columns.column(name))
    return table


def meter_columns(meter: Meter) -> tuple[Column, ...]:
    """The series columns of a meter: its own and, if it samples, the pts of its samples."""
    if meter.rate_hz is None:
        return meter.writes
    doc = f"pts of the frames that {meter.name} was sampled at, ascending"
    pts = Column(f"{meter.name}_pts", pa.list_(pa.int64()), doc)
    return (pts, *meter.writes)


class Untimed:
    """Makes views and runs meters without looking at the time."""

    def view(self, frame: Frame, view: View) -> Any:
        return frame.view(view)

    def update(self, name: str, update: Callable[..., Any], *arguments: Any) -> Any:
        return update(*arguments)


@dataclass
class Clock(Untimed):
    """CPU seconds of the calling thread per part: `view:<name>` for the views, the meter's name for its own work."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def view(self, frame: Frame, view: View) -> Any:
        start = time.thread_time()
        array = frame.view(view)
        self.seconds[f"view:{view.value}"] += time.thread_time() - start
        return array

    def update(self, name: str, update: Callable[..., Any], *arguments: Any) -> Any:
        start = time.thread_time()
        values = update(*arguments)
        self.seconds[name] += time.thread_time() - start
        return values


class Track:
    """One meter on one segment: which frames it sees, and the lists that come of it.

    Small views wait until there are CALLS_AT_ONCE of them: after a frame was decoded, a meter's code and tables are no
    longer in the core's caches, and fetching them again costs most of what a small meter costs. Native planes are not
    kept: they are large, and the decoder needs them back.
    """

    def __init__(self, meter: Meter, update: Any, time_base: Fraction, is_first: bool, clock: Untimed) -> None:
        self.meter, self.update, self.clock = meter, update, clock
        self.time_base, self.is_first = time_base, is_first
        self.rate = None if meter.rate_hz is None else Fraction(meter.rate_hz).limit_denominator(10**6)
        grid = time_base * (self.rate or 1)
        self.grid_num, self.grid_den = grid.numerator, grid.denominator
        self.pts: list[int] = []
        self.values: list[tuple[Any, ...]] = []
        self.waiting: list[tuple[Any, ...]] = []  # arguments of the calls to come
        self.calls_at_once = CALLS_AT_ONCE if meter.view in SMALL_VIEWS else 1
        self.num_deferred = 0

    def see(self, before: Frame | None, frame: Frame) -> None:
        """Takes the next frame, `before` being the one before it in this segment."""
        if not self._is_wanted(before, frame):
            return
        self.pts.append(frame.pts)
        self.num_deferred += self.meter.deferred and not frame.is_after
        self.waiting.append(self._arguments(before, frame))
        if len(self.waiting) >= self.calls_at_once:
            self._run()

    def columns(self) -> dict[str, list[Any]]:
        """The meter's list columns."""
        self._run()
        if self.meter.deferred:
            self.values = self.clock.update(self.meter.name, self.update.finish)[: self.num_deferred]
        names = [column.name for column in self.meter.writes]
        lists = dict(zip(names, map(list, zip(*self.values, strict=True)), strict=True)) if self.values else {}
        columns = {name: lists.get(name, []) for name in names}
        return columns if self.rate is None else {f"{self.meter.name}_pts": self.pts, **columns}

    def _is_wanted(self, before: Frame | None, frame: Frame) -> bool:
        if self.rate is None:
            return self.meter.deferred or self.meter.pairwise or not frame.is_after
        if before is None:  # the source's first frame is on the grid; it is no pair
            return self.is_first and not self.meter.pairwise
        return self._tick(before.pts) < self._tick(frame.pts)

    def _tick(self, pts: int) -> int:
        """Number of the last grid point k / rate at or before this time."""
        return pts * self.grid_num // self.grid_den

    def _arguments(self, before: Frame | None, frame: Frame) -> tuple[Any, ...]:
        """What `update` is to be called with; nothing for a frame without predecessor, where pairs are wanted."""
        view = self.clock.view(frame, self.meter.view)
        if not self.meter.pairwise:
            return view, float(frame.pts * self.time_base)
        if before is None:
            return ()
        view_before = self.clock.view(before, self.meter.view)
        return view_before, view, float((frame.pts - before.pts) * self.time_base)

    def _run(self) -> None:
        """Makes the calls that wait, in the order of the frames."""
        unmeasured = (None,) * len(self.meter.writes)
        for arguments in self.waiting:
            self.values.append(self.clock.update(self.meter.name, self.update, *arguments) if arguments else unmeasured)
        self.waiting.clear()


def measure_segment(
    uri: str,
    meters: Iterable[Meter],
    *,
    start_pts: int | None = None,
    end_pts: int | None = None,
    seek_pts: int | None = None,
    is_first: bool = True,
    backend: str = "pyav",
    threads: int = 1,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Decodes a segment and runs the meters. What the decode child does for `Measure`.

    Args:
        uri: local path or s3:// URI.
        meters: what to measure.
        start_pts, end_pts, seek_pts: see `tables.SOURCES`, column segments; null: the whole source.
        is_first: the segment begins the source.
        clock: takes the time per view and meter.

    Returns:
        Values of the series columns but for the keys; error columns are absent.

    Raises:
        RowError: nothing of the segment can be decoded.
    """
    parts = clock or Untimed()
    frame_pts: list[int] = []
    frame_is_key: list[bool] = []
    next_pts = duration_pts = before = None
    with open_segment(
        uri, start_pts=start_pts, end_pts=end_pts, seek_pts=seek_pts, backend=backend, threads=threads
    ) as segment:
        tracks = [Track(m, m.start(segment.info), segment.time_base, is_first, parts) for m in meters]
        for frame in segment:
            for track in tracks:
                track.see(before, frame)
            if frame.is_after:
                next_pts = frame.pts
            else:
                frame_pts.append(frame.pts)
                frame_is_key.append(frame.is_key)
                duration_pts = frame.duration_pts
            before = frame
        if not frame_pts:
            why = segment.damage or "the stream ends before it"
            raise RowError("bad_input", f"{uri}: no frame decodes from pts {start_pts}: {why}")
        fps = segment.info.fps
        last_duration = _last_duration(frame_pts, next_pts, duration_pts, fps, segment.time_base)
        num_ticks = frame_pts[-1] + last_duration - frame_pts[0]
        row = {
            "backend": segment.backend,
            "backend_note": segment.backend_note,
            "frame_pts": frame_pts,
            "frame_is_key": frame_is_key,
            "frame_bytes": [segment.packet_bytes.get(pts) for pts in frame_pts],
            "frame_hash": [(segment.packet_hashes or {}).get(pts) for pts in frame_pts],
            "next_pts": next_pts,
            "last_duration_pts": last_duration,
            "num_corrupt_frames": segment.num_corrupt_frames,
            "damage": segment.damage,
            "decoded_s": float(num_ticks * segment.time_base) if fps else 0.0,
        }
    for track in tracks:
        row |= track.columns()
    return row


def _last_duration(
    frame_pts: list[int], next_pts: int | None, duration_pts: int | None, fps: float, time_base: Fraction
) -> int:
    """Ticks of the last frame: to the next one, as stored, the median step, or by the average rate; at least 1."""
    if next_pts is not None:
        return next_pts - frame_pts[-1]
    if duration_pts:
        return duration_pts
    if len(frame_pts) > 1:
        return median_low(b - a for a, b in pairwise(frame_pts))
    return max(1, round(1 / (fps * time_base))) if fps else 1
