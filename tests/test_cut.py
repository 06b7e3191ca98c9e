# SPDX-License-Identifier: Apache-2.0
"""Shots and clips: PySceneDetect's cuts, exact spans, windows, trims, holes, and segments that do not show."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from operators.cut import CutConfig, DetectorConfig, SplitConfig, cut_clips, find_shots
from operators.measure import Measure
from operators.meters.content import Content
from operators.stitch import SeriesIndex, stitch
from reelmill.column import arrow_schema
from reelmill.ids import clip_id
from reelmill.tables import CLIPS
from tests.source_tables import measured, source_row, source_table

CONTENT, ADAPTIVE = DetectorConfig(kind="content"), DetectorConfig(kind="adaptive")
SOURCE = "5" * 32


def made(
    scores: list[float],
    *,
    tick: int = 1,
    fps: int = 10,
    media: str = "video",
    keys: tuple[int, ...] = (0,),
    borders: tuple[int, ...] = (),
    lost: tuple[int, ...] = (),
) -> tuple[pa.Table, pa.Table]:
    """(sources, series) of a source whose frames have these scores, in segments that begin at `borders`.

    Args:
        tick: pts step between frames; the time base is 1 / (fps * tick).
        keys: frames that are key frames.
        lost: segments that failed.
    """
    starts = [0, *borders]
    ends = [*borders, len(scores)]
    segments = [
        {"start_pts": a * tick, "end_pts": None if b == len(scores) else b * tick, "seek_pts": a * tick}
        for a, b in zip(starts, ends, strict=True)
    ]
    source = {
        "source_id": SOURCE,
        "media": media,
        "segments": segments,
        "time_base_num": 1,
        "time_base_den": fps * tick,
    }
    rows: list[dict[str, Any]] = []
    for number, (a, b) in enumerate(zip(starts, ends, strict=True)):
        if number in lost:
            rows.append({"source_id": SOURCE, "segment_index": number, "error_kind": "bad_input", "error": "broken"})
            continue
        values = [None, *scores[a + 1 : b + 1]]
        rows.append(
            {
                "source_id": SOURCE,
                "segment_index": number,
                "frame_pts": [i * tick for i in range(a, b)],
                "frame_is_key": [i in keys for i in range(a, b)],
                "next_pts": None if b == len(scores) else b * tick,
                "last_duration_pts": tick,
                "content_hue": values,
                "content_sat": values,
                "content_lum": values,
            }
        )
    schema = arrow_schema(Measure(meters=(Content(),)).writes)
    return source_table([source]), pa.Table.from_pylist(rows[::-1], schema=schema)  # rows in any order


def spans(clips: pa.Table) -> list[tuple[int, int]]:
    return list(zip(clips["start_pts"].to_pylist(), clips["end_pts"].to_pylist(), strict=True))


def cut(tables: tuple[pa.Table, pa.Table], split: SplitConfig = SplitConfig(), **config: Any) -> pa.Table:  # noqa: B008
    return cut_clips(*tables, CutConfig(**config), split)


# --- PySceneDetect ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dj_series(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[pa.Table, pa.Table]]:
    """(sources, series) of the three clips, each measured once."""
    from tests.conftest import CLIPS as FOLDER

    found = {}
    for name in ("dj_video1.mp4", "dj_video2.mp4", "dj_video3.mp4"):
        if not (FOLDER / name).exists():
            pytest.skip("the shared clips are not there")
        sources = source_table([source_row(FOLDER / name)])
        found[name] = sources, measured(sources, [Content()])
    return found


@pytest.mark.parametrize(
    ("name", "detector", "published"),
    [
        ("dj_video1.mp4", CONTENT, [144, 237]),
        ("dj_video2.mp4", CONTENT, []),
        ("dj_video3.mp4", CONTENT, [103]),
        ("dj_video1.mp4", ADAPTIVE, [144, 237]),
        ("dj_video2.mp4", ADAPTIVE, []),
        ("dj_video3.mp4", ADAPTIVE, [103, 264, 675, 698, 1060, 1091, 1123]),
    ],
)
def test_published_cuts(dj_series: Any, name: str, detector: DetectorConfig, published: list[int]) -> None:
    clips = cut(dj_series[name], detector=detector)
    edges = np.cumsum([0, *clips["num_frames"].to_pylist()]).tolist()
    assert edges[1:-1] == published
    pts = [p for frames in clips["frame_pts"].to_pylist() for p in frames]
    assert pts == dj_series[name][1]["frame_pts"][0].as_py()


def test_equal_to_pyscenedetect_on_a_real_file(shared_clip: Any, dj_series: Any) -> None:
    """The library's own run over the file (its decoder, its downscale, its manager)."""
    from scenedetect import AdaptiveDetector, ContentDetector, detect

    path = str(shared_clip("dj_video3.mp4"))
    loose = DetectorConfig(threshold=20.0, min_shot_frames=7)
    for theirs, ours in ((ContentDetector(threshold=20.0, min_scene_len=7), loose), (AdaptiveDetector(), ADAPTIVE)):
        scenes = detect(path, theirs, start_in_scene=True)
        clips = cut(dj_series["dj_video3.mp4"], detector=ours)
        assert clips["num_frames"].to_pylist() == [end.frame_num - start.frame_num for start, end in scenes]
        assert len(scenes) > 1


@pytest.mark.parametrize("seed", range(6))
def test_decision_rule_equals_pyscenedetect_on_wild_scores(seed: int) -> None:
    """The real classes on pictures (flat grey levels, so that the score is the jump / 3) against the stored scores."""
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

    rng = np.random.default_rng(seed)
    levels = np.where(rng.random(300) < 0.12, rng.integers(0, 255, 300), 0).cumsum() % 256
    frames = [np.full((4, 4, 3), level, np.uint8) for level in levels]
    scores = np.abs(np.diff(levels.astype(float), prepend=levels[0])) / 3
    scores[0] = np.nan  # unknown, which PySceneDetect takes for 0
    follows = np.arange(300) > 0
    for theirs, ours in (
        (ContentDetector(threshold=20, min_scene_len=9), DetectorConfig(threshold=20.0, min_shot_frames=9)),
        (
            AdaptiveDetector(adaptive_threshold=2.5, min_scene_len=6, window_width=3, min_content_val=10),
            DetectorConfig(kind="adaptive", threshold=2.5, min_shot_frames=6, window_frames=3, min_score=10.0),
        ),
    ):
        cuts = [c.frame_num for i, f in enumerate(frames) for c in theirs.process_frame(FrameTimecode(i, 30.0), f)]
        assert [start for start, _ in find_shots(scores, follows, ours)] == sorted({0, *cuts})
        assert cuts


# --- segments, holes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segment_s", [0.5, 9.0])
def test_segments_do_not_show_in_the_clips(dj_series: Any, segment_s: float) -> None:
    """All columns of the clips of a real file, cut from 3 and from 6 segments and from one."""
    sources, _ = dj_series["dj_video3.mp4"]
    parts = source_table([source_row(Path(sources["uri"][0].as_py()), segment_s=segment_s)])
    assert len(parts["segments"][0]) >= 3
    series = measured(parts, [Content()])
    for config in ({}, {"detector": ADAPTIVE, "trim_s": 0.2, "max_s": 5.0}):
        whole = cut(dj_series["dj_video3.mp4"], **config)
        assert whole.num_rows > 1
        assert cut((parts, series), **config).equals(whole)


def test_a_cut_on_a_border_is_one_cut_and_no_cut_is_none() -> None:
    scores = [0.0] * 100
    assert spans(cut(made(scores, borders=(30, 60)))) == [(0, 100)]
    scores[60] = 90
    assert spans(cut(made(scores, borders=(30, 60)))) == [(0, 60), (60, 100)]


def test_a_lost_segment_leaves_a_hole_and_no_clip_spans_it() -> None:
    clips = cut(made([0.0] * 90, borders=(30, 60), lost=(1,), keys=(0, 60)))
    assert spans(clips) == [(0, 30), (60, 90)]
    assert clips["seek_pts"].to_pylist() == [0, 60]
    assert cut(made([0.0] * 90, borders=(30, 60), lost=(0, 1, 2))).num_rows == 0


def test_cuts_after_a_hole_lie_where_the_scores_say() -> None:
    scores = [0.0] * 90
    scores[75] = 90
    assert spans(cut(made(scores, borders=(30, 60), lost=(1,)), detector=DetectorConfig(min_shot_frames=10))) == [
        (0, 30),
        (60, 75),
        (75, 90),
    ]


def test_stitched_series_knows_holes() -> None:
    _, series = made([float(i) for i in range(9)], borders=(3, 6), lost=(1,))
    frames = stitch(SeriesIndex(series), SOURCE)
    assert frames.pts.tolist() == [0, 1, 2, 6, 7, 8]
    assert frames.ends.tolist() == [1, 2, 3, 7, 8, 9]
    assert frames.follows.tolist() == [False, True, True, False, True, True]
    np.testing.assert_array_equal(frames.frames("content_lum"), [np.nan, 1, 2, np.nan, 7, 8])


# --- spans --------------------------------------------------------------------------------------------------------


def test_columns_of_a_clip_by_hand() -> None:
    scores = [0.0] * 80
    scores[31] = 99
    clips = cut(made(scores, tick=3, fps=10, keys=(0, 12, 30, 40))).to_pylist()
    assert [c["clip_index"] for c in clips] == [c["shot_index"] for c in clips] == [0, 1]
    second = clips[1]
    assert (second["start_pts"], second["end_pts"]) == (93, 240)
    assert second["clip_id"] == clip_id(SOURCE, 93, 240, 1, 30)
    assert second["seek_pts"] == 90
    assert second["frame_pts"] == list(range(93, 240, 3))
    assert second["num_frames"] == 49
    assert second["start_s"] == pytest.approx(3.1)
    assert second["duration_s"] == pytest.approx(4.9)
    assert second["fps"] == pytest.approx(10)
    assert [c["length_class"] for c in clips] == ["short", "short"]
    assert not second["is_trimmed"]
    assert cut(made(scores)).schema.equals(arrow_schema(CLIPS))


@pytest.mark.parametrize(("frames", "length_class"), [(29, "too_short"), (30, "short"), (100, "short"), (101, "long")])
def test_length_classes(frames: int, length_class: str) -> None:
    clips = cut(made([0.0] * frames, fps=10))
    assert clips["length_class"].to_pylist() == [length_class]


def test_a_very_short_shot_is_a_clip_too() -> None:
    scores = [0.0] * 60
    scores[20] = scores[22] = 99
    clips = cut(made(scores), detector=DetectorConfig(min_shot_frames=0))
    assert spans(clips) == [(0, 20), (20, 22), (22, 60)]
    assert clips["length_class"].to_pylist() == ["too_short", "too_short", "short"]


def test_trim_takes_both_edges_of_each_shot() -> None:
    scores = [0.0] * 100
    scores[50] = 99
    clips = cut(made(scores), trim_s=0.5)
    assert spans(clips) == [(5, 45), (55, 95)]
    assert clips["is_trimmed"].to_pylist() == [True, True]
    kept = cut(made([0.0] * 8), trim_s=0.5)  # a shot that would vanish stays
    assert spans(kept) == [(0, 8)]
    assert kept["is_trimmed"].to_pylist() == [False]


def test_windows_of_long_shots() -> None:
    assert spans(cut(made([0.0] * 250), max_s=10.0)) == [(0, 100), (100, 200), (200, 250)]
    shared = cut(made([0.0] * 210), max_s=10.0, min_last_s=3.0)  # 1 s left: the last two windows share
    assert spans(shared) == [(0, 100), (100, 155), (155, 210)]
    assert shared["shot_index"].to_pylist() == [0, 0, 0]
    assert spans(cut(made([0.0] * 210), max_s=10.0, min_last_s=0.0)) == [(0, 100), (100, 200), (200, 210)]
    assert spans(cut(made([0.0] * 100), max_s=10.0)) == [(0, 100)]


def test_windows_never_exceed_the_limit_at_awkward_rates() -> None:
    for fps in (24, 7, 30):
        clips = cut(made([0.0] * 300, fps=fps, tick=7), max_s=1.99, min_last_s=1.0)
        assert max(clips["duration_s"].to_pylist()) <= 1.99
        assert sum(clips["num_frames"].to_pylist()) == 300
        assert [p for f in clips["frame_pts"].to_pylist() for p in f] == list(range(0, 2100, 7))
    slow = cut(made([0.0] * 5, fps=1), max_s=0.5, min_last_s=0.0)  # a frame is longer than the limit
    assert slow["num_frames"].to_pylist() == [1] * 5


def test_still_image() -> None:
    clips = cut(made([0.0], media="image")).to_pylist()
    assert len(clips) == 1
    still = clips[0]
    assert (still["length_class"], still["duration_s"], still["fps"], still["num_frames"]) == ("still", 0, None, 1)
    assert (still["start_pts"], still["end_pts"]) == (0, 1)


def test_split_goes_by_source() -> None:
    scores = [0.0] * 60
    scores[30] = 99
    for fraction, side in ((0.0, "train"), (1.0, "val")):
        assert cut(made(scores), SplitConfig(val_fraction=fraction))["split"].to_pylist() == [side] * 2


def test_missing_meter_and_wrong_settings_are_named() -> None:
    sources, series = made([0.0] * 9)
    with pytest.raises(ValueError, match=r"meter 'content', add it to measure\.meters"):
        cut_clips(sources, series.drop_columns(["content_hue"]), CutConfig(), SplitConfig())
    for wrong in ({"trim_s": -1.0}, {"short_s": 11.0}, {"max_s": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            CutConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kind 'fast'"):
        DetectorConfig(kind="fast")  # type: ignore[arg-type]


def test_recipe_reader_refuses_unknown_keys() -> None:
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(CutConfig)
    config = adapter.validate_json('{"detector": {"kind": "adaptive"}, "max_s": 8}')
    assert config == CutConfig(detector=ADAPTIVE, max_s=8.0)
    for text in ('{"trim": 1}', '{"detector": {"treshold": 3}}', '{"trim_s": "1"}'):
        with pytest.raises(ValidationError):
            adapter.validate_json(text)


def test_sources_without_series_have_no_clips() -> None:
    _, series = made([0.0] * 9)
    other = source_table([{"source_id": "a" * 32, "error_kind": "bad_input", "error": "x"}])
    assert cut_clips(other, series, CutConfig(), SplitConfig()).num_rows == 0
