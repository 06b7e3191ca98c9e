# SPDX-License-Identifier: Apache-2.0
"""Clip scores: statistics by hand and against numpy, which samples count, facts, damage, and speed."""

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from operators.aggregate import score_clips, score_columns
from operators.catalog import METERS, meter_class
from operators.cut import CutConfig, SplitConfig, cut_clips
from operators.measure import Measure
from operators.meters.content import Content
from operators.meters.exposure import Exposure
from operators.meters.freeze import Freeze
from operators.meters.motion import Motion
from operators.scores import Groups
from reelmill.column import arrow_schema
from reelmill.tables import CLIP_ID, SOURCE_ID
from tests.source_tables import source_table

METERS_USED = (Content(), Exposure(), Freeze(), Motion())
MOTION = [column.name for column in Motion.writes]
CONTENT = [column.name for column in Content.writes]
EXPOSURE = [column.name for column in Exposure.writes]
FREEZE = [column.name for column in Freeze.writes]


def series_of(sources: dict[str, list[dict[str, Any]]]) -> tuple[pa.Table, pa.Table]:
    """(sources, series) from rows per source; time base 1/10, one segment per row."""
    facts, rows = [], []
    for source_id, parts in sources.items():
        starts = [part["frame_pts"][0] for part in parts]
        facts.append(
            {
                "source_id": source_id,
                "media": "video",
                "time_base_num": 1,
                "time_base_den": 10,
                "width_px": 3840,
                "height_px": 2160,
                "codec": "h264",
                "hdr": "sdr",
                "bits_per_pixel": 0.07,
                "segments": [{"start_pts": start, "end_pts": None, "seek_pts": start} for start in starts],
            }
        )
        for number, part in enumerate(parts):
            num = len(part["frame_pts"]) + (part.get("next_pts") is not None)
            quiet = {name: [None, *[1.0] * (num - 1)] for name in (*CONTENT, *FREEZE)}
            keys = [True] + [False] * (len(part["frame_pts"]) - 1)
            rows.append(
                {
                    "source_id": source_id,
                    "segment_index": number,
                    "frame_is_key": keys,
                    "last_duration_pts": 1,
                    "num_corrupt_frames": 0,
                }
                | quiet
                | part
            )
    return source_table(facts), pa.Table.from_pylist(rows, schema=arrow_schema(Measure(meters=METERS_USED).writes))


def scored(tables: tuple[pa.Table, pa.Table]) -> list[dict[str, Any]]:
    sources, series = tables
    clips = cut_clips(sources, series, CutConfig(), SplitConfig())
    table = score_clips(clips, series, sources, METERS_USED)
    assert table.schema.equals(arrow_schema((CLIP_ID, SOURCE_ID, *score_columns(METERS_USED))))
    assert table["clip_id"].to_pylist() == clips["clip_id"].to_pylist()
    return table.to_pylist()


def cut_at(frame: int, num: int) -> dict[str, list[float | None]]:
    values = [None, *[1.0] * (num - 1)]
    values[frame] = 90.0
    return dict.fromkeys(CONTENT, values)


def test_samples_belong_to_the_clip_that_they_lie_in() -> None:
    pts = list(range(40))
    part = {
        "frame_pts": pts,
        **cut_at(20, 40),
        "exposure_pts": [0, 5, 10, 15, 20, 25, 30, 35],
        **{name: [float(i) for i in range(8)] for name in EXPOSURE},
    }
    first, second = scored(series_of({"a" * 32: [part]}))
    assert first["exposure_clipped_share_samples"] == [0, 1, 2, 3]
    assert second["exposure_clipped_share_samples"] == [4, 5, 6, 7]
    assert (first["exposure_clipped_share_mean"], second["exposure_clipped_share_max"]) == (1.5, 7.0)


def test_a_pair_across_a_cut_counts_for_no_clip() -> None:
    freeze = [None, *[5.0] * 39]
    freeze[20] = 200.0
    freeze[1] = freeze[39] = 0.0
    part = {
        "frame_pts": list(range(40)),
        **cut_at(20, 40),
        **dict.fromkeys(FREEZE, freeze),
        "motion_pts": [3, 20, 23],
        **{name: [1.0, 100.0, 3.0] for name in MOTION},
    }
    first, second = scored(series_of({"a" * 32: [part]}))
    assert first["freeze_share"] == pytest.approx(1 / 19)
    assert second["freeze_share"] == pytest.approx(1 / 19)
    assert (first["motion_speed_max"], second["motion_speed_max"]) == (1.0, 3.0)
    assert second["content_lum_max"] == 1.0


def test_segments_are_joined_and_unmeasured_is_null() -> None:
    one = {
        "frame_pts": list(range(20)),
        "next_pts": 20,
        "motion_pts": [5, 10, 15, 20],
        **{name: [1.0, 2.0, None, 4.0] for name in MOTION},
        "exposure_pts": [],
        **{name: [] for name in EXPOSURE},
    }
    two = {
        "frame_pts": list(range(20, 40)),
        "motion_pts": [25],
        **{name: [6.0] for name in MOTION},
        "exposure_pts": [],
        **{name: [] for name in EXPOSURE},
        "num_corrupt_frames": 2,
    }
    (row,) = scored(series_of({"a" * 32: [one, two]}))
    assert row["motion_speed_mean"] == pytest.approx((1 + 2 + 4 + 6) / 4)
    assert row["camera_pan_median"] == 3.0
    assert row["exposure_clipped_share_samples"] is None
    assert row["exposure_clipped_share_mean"] is None
    assert row["freeze_share"] == 0
    assert (row["num_corrupt_frames"], row["is_damaged"]) == (2, True)


def test_damage_touches_the_clip_that_it_ends() -> None:
    part = {"frame_pts": list(range(40)), **cut_at(20, 40), "damage": "Invalid data"}
    rows = scored(series_of({"a" * 32: [part], "b" * 32: [{"frame_pts": list(range(5))}]}))
    assert [row["is_damaged"] for row in rows] == [False, True, False]


def test_facts_come_from_the_clip_and_its_source() -> None:
    tables = series_of({"a" * 32: [{"frame_pts": list(range(30, 70))}], "b" * 32: [{"frame_pts": [0, 2, 4]}]})
    first, second = scored(tables)
    assert (first["width_px"], first["codec"], first["bits_per_pixel"]) == (3840, "h264", 0.07)
    assert (first["num_frames"], first["duration_s"], first["fps"], first["length_class"]) == (40, 4.0, 10.0, "short")
    assert (second["num_frames"], second["duration_s"]) == (3, 0.5)


def test_camera_aggregates() -> None:
    pans = [0.1, 0.1, 0.3, 0.1, 0.1, 0.5, 0.1]
    part = {"frame_pts": list(range(40)), "motion_pts": list(range(3, 38, 5)), **{name: pans for name in MOTION}}
    (row,) = scored(series_of({"a" * 32: [part]}))
    assert row["camera_pan_median"] == pytest.approx(0.1)
    assert row["camera_shake"] == 0  # two jerks in seven are no shaking
    shaky = part | {name: [0.1, -0.2, 0.3, -0.1, 0.2, -0.3, 0.0] for name in MOTION}
    (row,) = scored(series_of({"a" * 32: [shaky]}))
    assert row["camera_shake"] == pytest.approx(np.hypot(1, 1) * 1.4826 * 0.2, rel=1e-6)


def test_group_statistics_equal_numpy() -> None:
    rng = np.random.default_rng(0)
    values, clip = rng.normal(size=500).astype(np.float32), rng.integers(0, 40, 500)
    values[rng.random(500) < 0.1] = np.nan
    clip[clip == 7] = 8  # a clip without values
    groups = Groups(values, clip, 41)
    expected = [values[(clip == k) & ~np.isnan(values)].astype(np.float64) for k in range(41)]
    for ours, numpys in (
        (groups.mean(), np.mean),
        (groups.quantile(0.5), np.median),
        (groups.quantile(0), np.min),
        (groups.quantile(1), np.max),
        (groups.quantile(0.95), lambda v: np.quantile(v, 0.95)),
        (groups.share(lambda v: v < 0), lambda v: np.mean(v < 0)),
        (groups.spread(), lambda v: 1.4826 * np.median(np.abs(v - np.median(v)))),
    ):
        theirs = np.array([numpys(v) if len(v) else np.nan for v in expected], np.float64)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert np.isnan(groups.mean()[[7, 40]]).all()


def test_no_two_scores_share_a_name_and_each_is_documented() -> None:
    columns = score_columns(meter_class(name)() for name in METERS)
    assert all(column.doc for column in columns)
    arrow_schema(columns)


def test_ten_thousand_clips_in_seconds() -> None:
    """500 sources of 20 clips; a unit holds 10^3 to 10^4 clips."""
    frames = 600
    scores = [None, *[1.0] * (frames - 1)]
    for cut in range(30, frames, 30):
        scores[cut] = 90.0
    part = {
        "frame_pts": list(range(frames)),
        **dict.fromkeys(CONTENT, scores),
        "motion_pts": list(range(3, frames, 5)),
        **{name: [0.5] * 120 for name in MOTION},
        "exposure_pts": list(range(0, frames, 5)),
        **{name: [0.5] * 120 for name in EXPOSURE},
    }
    sources, series = series_of({f"{i:032x}": [part] for i in range(500)})
    start = time.process_time()
    clips = cut_clips(sources, series, CutConfig(), SplitConfig())
    cut_s = time.process_time() - start
    table = score_clips(clips, series, sources, METERS_USED)
    score_s = time.process_time() - start - cut_s
    assert table.num_rows == 10_000
    assert cut_s < 30
    assert score_s < 15


def test_bits_per_pixel_are_of_the_clip_and_its_codec() -> None:
    part = {"frame_pts": list(range(40)), **cut_at(20, 40), "frame_bytes": [1000] * 20 + [3000] * 20}
    sources, series = series_of({"a" * 32: [part]})
    for name, value in (("codec", "hevc"), ("width_px", 100), ("height_px", 80)):
        field = sources.schema.field(name)
        sources = sources.set_column(sources.column_names.index(name), field, pa.array([value], field.type))
    first, second = scored((sources, series))
    assert (first["clip_bits_per_pixel"], second["clip_bits_per_pixel"]) == (1.0, 3.0)
    assert first["clip_bits_per_pixel_h264"] == pytest.approx(1.67)
    assert (first["long_side_px"], first["short_side_px"]) == (100, 80)


def test_the_hash_of_a_clips_packets_is_that_of_its_frames_alone() -> None:
    part = {"frame_pts": list(range(40)), **cut_at(20, 40), "frame_hash": [7] * 10 + [8] * 10 + [7] * 10 + [8] * 10}
    first, second = scored(series_of({"a" * 32: [part]}))
    assert first["packet_hash"] == second["packet_hash"] is not None
    part["frame_hash"] = [None, *part["frame_hash"][1:]]
    first, again = scored(series_of({"a" * 32: [part]}))
    assert (first["packet_hash"], again["packet_hash"]) == (None, second["packet_hash"])
