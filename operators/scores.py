# SPDX-License-Identifier: Apache-2.0
"""How a meter's series become scores of a clip. A meter lists its scores beside what it measures:

scores = (
    *over(writes, "sharpness_laplacian_1080", "median", "max"),  # sharpness_laplacian_1080_median, _max
    Score(Column("freeze_share", ...), lambda groups, facts: groups["freeze_absdiff"].share(lambda v: v < 0.1)),
)
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from reelmill.column import Column


class Groups:
    """One series column's values of many clips, nulls left out. Statistics are arrays over the clips.

    Attributes:
        values, clip: [N] values (numbers, or bytes, of which there are no statistics) and the clip each lies in; a
            clip's values are in time order.
        num_clips: clips, with or without values.
    """

    def __init__(self, values: np.ndarray, clip: np.ndarray, num_clips: int) -> None:
        if values.dtype == object:
            is_known = np.array([value is not None for value in values], bool)
        else:
            values = values.astype(np.float64)
            is_known = ~np.isnan(values)
        self.values, self.clip, self.num_clips = values[is_known], clip[is_known], num_clips
        self.counts = np.bincount(self.clip, minlength=num_clips)
        self.starts = np.cumsum(self.counts) - self.counts

    @cached_property
    def sorted(self) -> np.ndarray:
        """[N] values, ascending within each clip."""
        return self.values[np.lexsort((self.values, self.clip))]

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

    def each(self, compute: Callable[[np.ndarray], float]) -> np.ndarray:
        """`compute` of each clip's values [n] in time order; NaN for a clip without values."""
        order = np.argsort(self.clip, kind="stable")
        ordered = self.values[order]
        result = np.full(self.num_clips, np.nan)
        for clip in np.flatnonzero(self.counts):
            first = self.starts[clip]
            result[clip] = compute(ordered[first : first + self.counts[clip]])
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
    "p05": ("5th percentile", lambda groups: groups.quantile(0.05)),
    "p95": ("95th percentile", lambda groups: groups.quantile(0.95)),
    "spread": ("robust standard deviation (1.4826 times the median absolute deviation)", Groups.spread),
}


@dataclass(frozen=True)
class Score:
    """A number per clip, from one meter's series.

    Args:
        column: the score; its doc says what null means.
        compute: (the meter's groups by series column, facts of the clips) -> one value per clip, NaN or None where
            nothing can be said. `facts` has a row per clip with the columns num_frames, duration_s, fps and the
            source's (width_px, height_px, codec, bits_per_pixel ...), see `operators.aggregate.SOURCE_FACTS`.
    """

    column: Column
    compute: Callable[[Mapping[str, Groups], pa.Table], Any]


def over(columns: Iterable[Column], name: str, *statistics: str) -> tuple[Score, ...]:
    """Scores `<name>_<statistic>` of a series column; `samples` keeps the values themselves, as a list.

    Args:
        columns: the meter's `writes`.
        name: one of them.
        statistics: keys of STATISTICS, or `samples`.
    """
    doc = next(column.doc for column in columns if column.name == name)
    return tuple(_score(name, doc, statistic) for statistic in statistics)


def _score(name: str, doc: str, statistic: str) -> Score:
    if statistic == "samples":
        doc = f"every sample in the clip: {doc}; null if there is none"
        return Score(
            Column(f"{name}_samples", pa.list_(pa.float32()), doc), lambda groups, facts: _samples(groups[name])
        )
    what, compute = STATISTICS[statistic]
    doc = f"{what} over the clip: {doc}; null if nothing was measured"
    return Score(Column(f"{name}_{statistic}", pa.float64(), doc), lambda groups, facts: compute(groups[name]))


def _samples(group: Groups) -> pa.Array:
    """The values of each clip in time order; null for a clip without any."""
    order = np.argsort(group.clip, kind="stable")
    offsets = np.append(group.starts, group.counts.sum()).astype(np.int32)
    values = pa.array(group.values[order], pa.float32())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(group.counts == 0))
