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
from operators.meters.layout import Layout
from operators.meters.transnet import Transnet
from operators.shots import Transition, find_transitions
from operators.stitch import SeriesIndex, stitch
from operators.transnet_shots import LAGS
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
        found[name] = sources, measured(sources, [Content(), Layout()])
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


@pytest.mark.parametrize(
    ("config", "published"),
    [
        ({"detector": DetectorConfig(kind="threshold")}, (1, 1, 1)),
        ({"detector": DetectorConfig(luma_only=True)}, (2, 1, 2)),
        ({"detector": DetectorConfig(kind="key_frames")}, (3, 3, 6)),
        ({"detector": DetectorConfig(kind="none"), "max_s": 10.0, "min_last_s": 0.0}, (2, 3, 5)),
        ({"detector": DetectorConfig(kind="none"), "max_s": 10.0, "min_last_s": 3.0, "drop_last": True}, (1, 3, 5)),
    ],
    ids=["threshold", "luma", "key_frames", "duration", "duration_min_last"],
)
def test_published_numbers_of_clips(dj_series: Any, config: dict[str, Any], published: tuple[int, ...]) -> None:
    """Data-Juicer's tests of its split mappers, on its own three clips."""
    assert tuple(cut(tables, **config).num_rows for tables in dj_series.values()) == published


def test_published_key_frames(dj_series: Any) -> None:
    clips = cut(dj_series["dj_video3.mp4"], detector=DetectorConfig(kind="key_frames"))
    times = [0, 4.292, 14.708, 25.125, 35.542, 45.958]
    np.testing.assert_allclose(clips["start_s"].to_pylist(), times, atol=0.001)


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
        series = {f"content_{part}": scores for part in ("hue", "sat", "lum")}
        shots = find_shots(find_transitions(series, follows, ~follows, ours), len(scores))
        assert [start for start, _ in shots] == sorted({0, *cuts})
        assert cuts


def test_dips_to_black_equal_pyscenedetect() -> None:
    from scenedetect import FrameTimecode, ThresholdDetector

    levels = np.concatenate([np.full(40, 90), np.linspace(90, 0, 12), np.linspace(0, 70, 9), np.full(40, 70)])
    theirs = ThresholdDetector(threshold=12, min_scene_len=15)
    frames = [np.full((2, 2, 3), level, np.float32) for level in levels]
    cuts = [c.frame_num for i, f in enumerate(frames) for c in theirs.process_frame(FrameTimecode(i, 30.0), f)]
    follows = np.arange(len(levels)) > 0
    found = find_transitions({"layout_level": levels}, follows, ~follows, DetectorConfig(kind="threshold"))
    assert [t.start for t in found] == cuts
    assert len(cuts) == 1


# --- TransNetV2 and the layout ------------------------------------------------------------------------------------

TRANSNET = DetectorConfig(kind="transnet")


def heads(num: int, **peaks: Any) -> dict[str, np.ndarray]:
    """Quiet series of a source, with `name={first: values}` written into column transnet_name or layout_name."""
    names = ["transnet_cut", "transnet_gradual", "layout_wipe", *(f"layout_change_{lag}" for lag in (*LAGS, "far"))]
    series = {name: np.full(num, 0.6 if "change" in name else 0.0) for name in names}
    series["layout_change_4"][:] = 0.2
    series["layout_level"] = np.full(num, 90.0)
    for short, places in peaks.items():
        (name,) = [name for name in names if name.endswith(short)]
        for first, values in places.items():
            series[name][first : first + len(values)] = values
    return series


def transitions(series: dict[str, np.ndarray], config: DetectorConfig = TRANSNET) -> list[tuple[str, int, int]]:
    follows = np.arange(len(series["transnet_cut"])) > 0
    return [(t.kind, t.start, t.end) for t in find_transitions(series, follows, ~follows, config)]


def test_a_cut_is_after_the_probable_frame_and_a_dissolve_is_as_wide_as_the_second_head_says() -> None:
    assert transitions(heads(90, cut={40: [0.9]}, gradual={40: [0.9]})) == [("cut", 41, 41)]
    wide = [0.15, *[0.8] * 10, 0.15]
    series = heads(90, cut={40: [0.2, 0.5, 0.2]}, gradual={35: wide})
    assert transitions(series) == [("gradual", 35, 47)]
    assert find_shots([Transition("gradual", 35, 47)], 90) == [(0, 35), (47, 90)]


def test_a_faint_but_long_dissolve_counts_and_a_short_doubt_does_not() -> None:
    assert transitions(heads(90, cut={40: [0.12]}, gradual={35: [0.6] * 12})) == [("gradual", 35, 47)]
    assert transitions(heads(90, cut={40: [0.12]}, gradual={38: [0.6] * 3})) == []
    assert transitions(heads(90, cut={40: [0.05]}, gradual={35: [0.6] * 12})) == []


def test_what_returns_to_the_same_scene_is_no_transition() -> None:
    flash = heads(90, cut={40: [0.8]}, change_12={30: [0.02] * 20})
    assert transitions(flash) == []
    assert transitions(flash, DetectorConfig(kind="transnet", same_below=None)) == [("cut", 41, 41)]
    blast = heads(90, cut={40: [0.8]}, gradual={35: [0.9] * 14}, change_36={35: [0.02] * 14})
    assert transitions(blast) == []


def test_a_faint_dissolve_that_a_fast_camera_explains_is_none() -> None:
    faint = {"cut": {40: [0.3]}, "gradual": {35: [0.6] * 12}}
    assert transitions(heads(90, **faint, change_far={30: [0.1] * 20})) == []
    assert transitions(heads(90, **faint, change_far={30: [0.3] * 20})) == [("gradual", 35, 47)]
    sure = {"cut": {40: [0.3]}, "gradual": {35: [0.9] * 12}}
    assert transitions(heads(90, **sure, change_far={30: [0.1] * 20})) == [("gradual", 35, 47)]


def test_a_long_dissolve_that_the_network_hardly_sees_counts_if_the_scene_changes_slowly() -> None:
    seen = {"gradual": {35: [0.15] * 12}, "change_36": {0: [0.1] * 30, 30: [0.8] * 24, 54: [0.1] * 60}}
    assert transitions(heads(120, **seen, change_12={30: [0.3] * 24})) == [("gradual", 35, 47)]
    assert transitions(heads(120, **seen, change_12={30: [0.8] * 24})) == []  # a camera that turns away
    assert transitions(heads(120, **seen, change_12={30: [0.3] * 24}, change_far={30: [0.1] * 24})) == []


def test_a_change_of_focus_and_a_short_turn_are_no_transitions() -> None:
    sure = {"cut": {40: [0.9]}, "gradual": {30: [0.9] * 24}}
    assert transitions(heads(90, **sure, change_12={38: [0.01] * 8})) == []
    fade = heads(90, **sure, change_12={38: [0.01] * 8})
    fade["layout_level"] = np.linspace(90, 0, 90)
    assert transitions(fade) == [("gradual", 30, 54)]
    turn = {"cut": {40: [0.6]}, "gradual": {38: [0.7] * 7}}
    assert transitions(heads(90, **turn, change_4={36: [0.9] * 12})) == []
    assert transitions(heads(90, **turn)) == [("gradual", 38, 45)]


def test_the_end_of_a_whip_pan_is_no_cut() -> None:
    assert transitions(heads(90, cut={40: [0.5]}, change_4={30: [0.9] * 8})) == []
    assert transitions(heads(90, cut={40: [0.8]}, change_4={30: [0.9] * 8})) == [("cut", 41, 41)]


def test_wipes_are_cut_out_with_a_margin_and_can_be_switched_off() -> None:
    series = heads(90, wipe={30: [0.8] * 20})
    assert transitions(series) == [("wipe", 27, 53)]
    assert transitions(series, DetectorConfig(kind="transnet", wipe_threshold=None)) == []


def test_the_black_between_two_fades_belongs_to_them() -> None:
    series = heads(120, cut={33: [0.6], 55: [0.6]}, gradual={30: [0.8] * 8, 50: [0.8] * 8})
    assert transitions(series) == [("gradual", 30, 58)]
    assert transitions(heads(120, cut={33: [0.9], 40: [0.9]})) == [("cut", 34, 34), ("cut", 41, 41)]


def test_clips_say_what_lies_beside_them() -> None:
    values = heads(300, cut={99: [0.9], 205: [0.9]}, gradual={99: [0.9], 200: [0.9] * 11})
    sources, series = made([0.0] * 300)
    for name, column in values.items():
        series = series.append_column(name, pa.array([column.tolist()], pa.list_(pa.float32())))
    clips = cut((sources, series), detector=TRANSNET, max_s=6.0, min_last_s=1.0).to_pylist()
    assert [(c["start_pts"], c["end_pts"]) for c in clips] == [
        (0, 60),
        (60, 100),
        (100, 160),
        (160, 200),
        (211, 271),
        (271, 300),
    ]
    sides = [(c["transition_in"], c["transition_out"]) for c in clips]
    assert sides == [
        ("start", "window"),
        ("window", "cut"),
        ("cut", "window"),
        ("window", "gradual"),
        ("gradual", "window"),
        ("window", "end"),
    ]
    assert [c["is_trimmed"] for c in clips] == [False, False, True, True, True, True]


def test_a_rendered_film_from_decode_to_clips(tmp_path: Path) -> None:
    """A cut, a dissolve and a wipe, with segment borders between them."""
    from tests.test_transnet import mixed, moving
    from tests.videos import write_video

    shots = [moving(seed, 110, 0.3) for seed in (1, 2, 3, 4)]
    ramp = np.linspace(0, 1, 256)[None, :, None]
    dissolve = [mixed(shots[1][60 + k], shots[2][k], (k + 1) / 21) for k in range(20)]
    wipe = [
        mixed(shots[2][70 + k], shots[3][k], np.clip((k + 1) / 17 * 1.05 - ramp, 0, 0.05) / 0.05) for k in range(16)
    ]
    film = [*shots[0][:55], *shots[1][:60], *dissolve, *shots[2][20:70], *wipe, *shots[3][16:80]]
    path = write_video(
        tmp_path / "film.mp4",
        [frame[:, :, ::-1] for frame in film],
        options={"preset": "veryfast", "crf": "20", "g": "50", "sc_threshold": "0"},
    )
    sources = source_table([source_row(path, segment_s=3.0)])
    assert len(sources["segments"][0]) == 3
    clips = cut((sources, measured(sources, [Layout(), Transnet()])), detector=TRANSNET).to_pylist()
    assert [c["transition_out"] for c in clips] == ["cut", "gradual", "wipe", "end"]
    edges = np.cumsum([0, 55, 60, 20, 50, 16])  # first frames of: shot, shot, dissolve, shot, wipe, shot
    np.testing.assert_allclose([round(c["start_s"] * 30) for c in clips], edges[[0, 1, 3, 5]], atol=4)


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
    with pytest.raises(ValueError, match=r"layout_change_4.* meter 'transnet', add it"):
        cut_clips(sources, series, CutConfig(detector=TRANSNET), SplitConfig())
    with pytest.raises(ValueError, match=r"threshold 3\.0"):
        DetectorConfig(kind="transnet", threshold=3.0)
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
