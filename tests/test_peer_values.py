# SPDX-License-Identifier: Apache-2.0
"""What Data-Juicer's own tests say of its clips, asked of our meters and the probe. Splits: tests/test_cut.py."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from operators.aggregate import score_clips
from operators.cut import CutConfig, SplitConfig, cut_clips
from operators.meters.farneback import Farneback
from operators.probe import Probe
from operators.shots import DetectorConfig
from pipelines.listing import list_sources
from tests.source_tables import measured, source_row, source_table

NAMES = ("dj_video1.mp4", "dj_video2.mp4", "dj_video3.mp4")
MOTION = (1.869, 3.521, 1.173)  # tests/ops/filter/test_video_motion_score_filter.py
WHOLE = CutConfig(detector=DetectorConfig(kind="none"))


@pytest.fixture(scope="module")
def scores() -> Callable[..., list[dict[str, Any]]]:
    """Scores of the three clips, each as one clip, by a `Farneback` of the given fields."""

    @cache
    def of(folder: Path, *fields: tuple[str, int]) -> list[dict[str, Any]]:
        meters = (Farneback(**dict(fields)),)  # type: ignore[arg-type]
        sources = source_table([source_row(folder / name, segment_s=1000) for name in NAMES])
        series = measured(sources, meters)
        clips = cut_clips(sources, series, WHOLE, SplitConfig())
        return score_clips(clips, series, sources, meters).to_pylist()

    return of


def kept(scores: list[dict[str, Any]], column: str, low: float = -np.inf, high: float = np.inf) -> set[int]:
    return {number for number, row in enumerate(scores, 1) if low <= row[column] <= high}


def test_motion_scores_are_near_the_published_ones(shared_clips: Path, scores: Any) -> None:
    """Data-Juicer's first pair is of neighbouring frames (it does not seek after the first frame), ours is not."""
    found = [row["farneback_length_px_mean"] for row in scores(shared_clips)]
    assert found == pytest.approx(MOTION, rel=0.05)


def test_motion_bands_keep_the_published_clips(shared_clips: Path, scores: Any) -> None:
    native = scores(shared_clips)
    assert kept(native, "farneback_length_px_mean", low=3.0) == {2}
    assert kept(native, "farneback_length_px_mean", high=1.5) == {3}
    assert kept(native, "farneback_length_px_mean", 1.5, 3.0) == {1}
    small = scores(shared_clips, ("short_side_px", 120))
    assert kept(small, "farneback_length_px_mean", low=1.0) == {1, 2}
    stretched = scores(shared_clips, ("short_side_px", 120), ("long_side_px", 160))
    assert kept(stretched, "farneback_length_share_mean", low=0.005) == {1, 2}


@pytest.fixture(scope="module")
def facts() -> Any:
    operator = Probe()
    state = operator.setup()
    yield lambda table: operator.process(state, table)
    operator.close(state)


@pytest.fixture
def headers(shared_clips: Path, facts: Any) -> dict[int, dict[str, Any]]:
    listed = list_sources(str(shared_clips), ("mp4",), ()).rows
    rows = {row["relpath"]: row for row in facts(_only(listed)).to_pylist()}
    return {number: rows[name] for number, name in enumerate(NAMES, 1)}


def _only(listed: pa.Table) -> pa.Table:
    return listed.filter(pa.array([name in NAMES for name in listed["relpath"].to_pylist()]))


def test_resolutions(headers: dict[int, dict[str, Any]]) -> None:
    sizes = {number: (row["width_px"], row["height_px"]) for number, row in headers.items()}
    assert sizes == {1: (640, 360), 2: (480, 640), 3: (362, 640)}
    assert {n for n, (w, h) in sizes.items() if w >= 480 and h >= 480} == {2}
    assert {n for n, (w, h) in sizes.items() if w <= 640 and h <= 480} == {1}
    assert {n for n, (w, _) in sizes.items() if 400 <= w <= 500} == {2}


def test_durations(headers: dict[int, dict[str, Any]]) -> None:
    seconds = {number: row["duration_s"] for number, row in headers.items()}
    assert {n for n, s in seconds.items() if s <= 15} == {1}
    assert {n for n, s in seconds.items() if s >= 30} == {3}
    assert {n for n, s in seconds.items() if 16 <= s <= 42} == {2}


def test_aspects_with_the_bounds_included(headers: dict[int, dict[str, Any]]) -> None:
    aspects = {n: row["width_px"] * row["pixel_aspect"] / row["height_px"] for n, row in headers.items()}
    assert aspects == pytest.approx({1: 16 / 9, 2: 3 / 4, 3: 181 / 320})
    assert {n for n, aspect in aspects.items() if 3 / 4 <= aspect <= 16 / 9} == {1, 2}
