# SPDX-License-Identifier: Apache-2.0
"""What an operator and a meter are. Read this file first.

An `Operator` maps a table of rows to a table of the same rows with more columns; it never drops a row and never
imports ray. A `Meter` looks at the frames of one decode and says numbers; it knows nothing of clips. Both are frozen
dataclasses: their fields are their whole configuration, and the fingerprint is made from them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from math import ceil
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from operators.scores import Score
from operators.weights import Need
from reelmill.column import Column
from reelmill.tables import STATE


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker of an operator holds: logical CPUs, GPUs (may be a fraction), resident memory."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory_gb: float = 1.0
    gpu_memory_gb: float = 0.0  # above 0: the share of a GPU follows from how much memory the GPUs have

    def on(self, device: str, gpu_memory_gb: float) -> "Resources":
        """The same, with that much of a GPU if `device` is cuda."""
        return replace(self, num_gpus=1.0, gpu_memory_gb=gpu_memory_gb) if device == "cuda" else self

    def shared(self, gpu_total_gb: float | None) -> "Resources":
        """With the share of a GPU of `gpu_total_gb` that its memory is, in hundredths; null: not known, a whole one."""
        if not self.gpu_memory_gb or not gpu_total_gb:
            return self
        return replace(self, num_gpus=min(1.0, ceil(100 * self.gpu_memory_gb / gpu_total_gb) / 100))


RUN_LOG = "run_log_json"
"""A column that `process` may add: per row a JSON object for the run log (times, attempts), or null. It never enters a
table, since it may differ between two equal runs."""


class RowError(Exception):
    """A row cannot be processed; it becomes that row's `error_kind` and `error`, and the run goes on."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Operator(ABC):
    """Adds columns to rows. Subclasses are `@dataclass(frozen=True, kw_only=True)`."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[Column, ...]] = ()
    resources: ClassVar[Resources] = Resources()
    neutral: ClassVar[frozenset[str]] = frozenset()  # fields that change speed, never results; not fingerprinted
    exact: ClassVar[bool] = True  # same bytes for any batch, worker and machine of one kind
    tolerance: ClassVar[float] = 1e-4  # else: what numbers may differ by, in float32 on machines of one kind
    seconds_per_row: ClassVar[float] = 2.0  # about, on one worker: sizes the pool
    expands: ClassVar[bool] = False  # may give several rows per input row (windows of a clip), never none

    @property
    def needs(self) -> tuple[Need, ...]:
        """The weights that `setup` reads."""
        return ()

    @property
    @abstractmethod
    def writes(self) -> tuple[Column, ...]:
        """Columns that `process` adds; may depend on the configuration."""

    def setup(self) -> Any:
        """Called once per worker: load weights, start children. Its result is handed to every `process`."""
        return None

    @abstractmethod
    def process(self, state: Any, batch: pa.Table) -> pa.Table:
        """Same rows in the same order, with the columns of `writes` (and `error_kind`, `error` where a row failed)."""

    def with_writes(self, batch: pa.Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """The batch with the columns of `writes` and a row's state, from one mapping per row; what it lacks is null.

        RUN_LOG is added where a row has it.
        """
        for column in (*self.writes, *STATE):
            batch = batch.drop_columns([column.name]) if column.name in batch.column_names else batch
            values = pa.array([row.get(column.name) for row in rows], column.dtype)
            batch = batch.append_column(pa.field(column.name, column.dtype), values)
        if any(RUN_LOG in row for row in rows):
            batch = batch.append_column(RUN_LOG, pa.array([row.get(RUN_LOG) for row in rows], pa.string()))
        return batch

    def close(self, state: Any) -> None:  # noqa: B027 - most operators hold nothing
        """Called when the worker ends: stop children. Must be safe to call twice."""


class View(StrEnum):
    """What a meter wants to see. The reader makes each view at most once a frame and shares it."""

    TINY = "tiny"  # uint8 [h, 64..256, 3] BGR: the frame scaled to TINY_WIDTH_PX wide, for shot detection
    TINY_LUMA = "tiny_luma"  # uint8 [h, 64..256] BT.601 luma of TINY
    PROXY = "proxy"  # uint8 [270, w] luma, 0-255 full range whatever the bit depth
    LUMA = "luma"  # uint8 or uint16 [H, W] native luma plane; no copy unless the source is rotated
    COLOR = "color"  # uint8 [270, w, 3] BGR at proxy size
    PIXELS = "pixels"  # uint8 [H, W, 3] RGB at native size; dear at 4K


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """Facts about the decoded stream that meters may need."""

    width_px: int
    height_px: int
    fps: float
    bit_depth: int = 8
    is_full_range: bool = False
    hdr: str = "sdr"


# One value per column of `writes`, null (None) where nothing can be said, from
#   (view, seconds)         a frame and its time on the source's time line, or, of a pairwise meter,
#   (before, view, step_s)  two neighbouring frames and the seconds between them.
Update = Callable[..., tuple[Any, ...]]


class DeferredUpdate(Protocol):
    """The update of a meter whose values need the frames that follow: a network over a window, say.

    It is called with every frame of the segment and, where there is one, with the first frame after it.
    """

    def __call__(self, view: Any, seconds: float) -> None: ...

    def finish(self) -> list[tuple[Any, ...]]:
        """One tuple per frame that it was called with, in order; that of the frame after the segment is dropped."""
        ...


class Meter(ABC):
    """Says numbers about frames. Subclasses are `@dataclass(frozen=True, kw_only=True)` and set their own `rate_hz`."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    view: ClassVar[View]
    writes: ClassVar[tuple[Column, ...]]  # list columns of the series table: `<meter>_<noun>_<unit>`
    scores: ClassVar[tuple[Score, ...]] = ()  # what a clip is told of them; see operators.scores
    scores_version: ClassVar[int] = 1  # raise it when `scores` change and `writes` do not: nothing is decoded again
    neutral: ClassVar[frozenset[str]] = frozenset()
    pairwise: ClassVar[bool] = False  # a value compares the sampled frame with the frame before it
    deferred: ClassVar[bool] = False  # `start` gives a DeferredUpdate: the values come when the segment ends
    rate_hz: float | None = None  # samples per second; None: every frame

    @abstractmethod
    def start(self, info: StreamInfo) -> Callable[..., Any]:
        """A fresh `Update` (`DeferredUpdate` if so declared) for one segment.

        It may keep what it made of a view: the same array may come again.

        Series layout: a meter with `rate_hz=None` gives one value per entry of `frame_pts`; a pairwise one gives one
        more at the end, for the first frame after the segment, when `next_pts` is not null (so that stitching loses no
        pair); the value of the segment's first frame is null. A sampled meter's values stand beside their times in the
        added column `<meter>_pts`: a sample is the first frame with t >= k / rate_hz, whatever the segments are, so
        the first frame after a segment may be among them and a segment's first frame, but for the source's, is not.
        """


def config_of(thing: Operator | Meter) -> dict[str, Any]:
    """JSON-able identity of an operator or meter for fingerprints: name, version, fields that can change results."""
    settings = {f.name: getattr(thing, f.name) for f in fields(thing) if f.name not in thing.neutral}  # type: ignore[arg-type]
    return {"name": thing.name, "version": thing.version, **settings}


@contextmanager
def row_errors(kinds: dict[type[BaseException], str]) -> Iterator[None]:
    """Turns the listed exceptions into RowError of the given kind; everything else propagates as our bug."""
    try:
        yield
    except tuple(kinds) as error:
        kind = next(k for t, k in kinds.items() if isinstance(error, t))
        raise RowError(kind, f"{type(error).__name__}: {error}") from error
