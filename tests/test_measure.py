# SPDX-License-Identifier: Apache-2.0
"""The one-decode engine on real encoded video: layout of the series, segments, sampling grid, faults, known scenes."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
import pytest

from benchmarks.measure_speed import every_meter
from operators.catalog import meter_class
from operators.contract import DeferredUpdate, Meter, StreamInfo, View
from operators.measure import Clock, Measure, measure_segment, meter_columns, segment_rows
from operators.meters.content import Content
from operators.meters.exposure import Exposure
from operators.meters.freeze import Freeze
from operators.meters.motion import Motion
from operators.probe import Probe
from operators.stitch import SeriesIndex, stitch
from reelmill.column import Column, arrow_schema
from reelmill.tables import SERIES
from tests.source_tables import measured, source_row, source_table
from tests.videos import CLOSED_GOP, OPEN_GOP, numbered, texture, write_video

LOOK_BACK = ("farneback", "redundancy")  # compare with the sample before: null for a segment's first


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames, 24 fps, a key frame every 12."""
    path = tmp_path_factory.mktemp("clips") / "pan.mp4"
    return write_video(path, numbered(texture(60, 144, 256)), fps=24, options=CLOSED_GOP["libx264"])


def test_every_frame_is_in_the_series_and_types_are_as_declared(clip: Path) -> None:
    series = measured(source_table([source_row(clip)]), every_meter())
    assert series.schema.equals(arrow_schema(Measure(meters=every_meter()).writes))
    (row,) = series.to_pylist()
    assert row["error_kind"] is row["error"] is row["damage"] is row["next_pts"] is None
    assert len(row["frame_pts"]) == len(row["frame_is_key"]) == 60
    assert sum(row["frame_is_key"]) == 5
    assert row["decoded_s"] == pytest.approx(60 / 24)
    for name in ("content_hue", "content_sat", "content_lum", "freeze_absdiff"):
        assert len(row[name]) == 60
        assert row[name][0] is None
        assert None not in row[name][1:]
    step = row["frame_pts"][1]
    assert [pts // step for pts in row["exposure_pts"]] == [0, 12, 24, 36, 48]
    assert [pts // step for pts in row["motion_pts"]] == list(range(6, 60, 6))  # the first frame is no pair
    for meter in every_meter():
        if meter.rate_hz:
            assert {len(row[c.name]) for c in meter_columns(meter)} == {len(row[f"{meter.name}_pts"])}


def test_values_are_those_of_the_frames_they_stand_beside(clip: Path) -> None:
    """Motion at a sample compares that frame with the one before it, not with the last sample."""
    row = measure_segment(str(clip), [Motion()])
    every = measure_segment(str(clip), [Motion(rate_hz=1000.0)])
    assert len(every["motion_pts"]) == 59
    at = {pts: value for pts, value in zip(every["motion_pts"], every["motion_speed"], strict=True)}
    assert row["motion_speed"] == [at[pts] for pts in row["motion_pts"]]


@pytest.mark.parametrize(("codec", "gop"), [("libx264", CLOSED_GOP), ("libx265", OPEN_GOP)])
def test_segments_say_the_same_as_the_whole(tmp_path: Path, codec: str, gop: dict[str, Any]) -> None:
    """Each value appears in exactly one segment, pairs across a border among them."""
    path = write_video(tmp_path / "v.mp4", numbered(texture(60, 144, 256)), fps=24, codec=codec, options=gop[codec])
    whole = measured(source_table([source_row(path)]), every_meter()).to_pylist()[0]
    parts = measured(source_table([source_row(path, segment_s=0.6)]), every_meter()).to_pylist()
    assert len(parts) >= 2
    assert [pts for part in parts for pts in part["frame_pts"]] == whole["frame_pts"]
    for before, after in pairwise(parts):
        assert before["next_pts"] == after["frame_pts"][0]
    for meter in every_meter():
        if meter.deferred:  # looks at neighbours: near a border it may say something else
            continue
        for column in meter_columns(meter):
            joined: list[Any] = []
            for part in parts:
                repeats_first = meter.rate_hz is None and meter.pairwise  # a value for the first frame, without pair
                if repeats_first:
                    assert part[column.name][0] is None
                joined += part[column.name][(1 if repeats_first and joined else 0) :]
            expected = whole[column.name]
            if meter.name in LOOK_BACK:
                expected = [None if said is None else value for said, value in zip(joined, expected, strict=True)]
            assert joined == expected, column.name


@dataclass(frozen=True, kw_only=True)
class Brighter(Meter):
    """How much brighter the next frame is; a meter that has to wait, but for one frame only."""

    name: ClassVar[str] = "brighter"
    view: ClassVar[View] = View.PROXY
    deferred: ClassVar[bool] = True
    writes: ClassVar[tuple[Column, ...]] = (
        Column("brighter_step", pa.list_(pa.float64()), "mean level of the next frame minus this one's"),
        Column("brighter_time_s", pa.list_(pa.float64()), "time of this frame"),
    )

    def start(self, info: StreamInfo) -> DeferredUpdate:
        return Levels()


class Levels:
    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def __call__(self, view: np.ndarray, seconds: float) -> None:
        self.seen.append((float(view.mean()), seconds))

    def finish(self) -> list[tuple[Any, ...]]:
        steps = [b - a for (a, _), (b, _) in pairwise(self.seen)]
        return list(zip([*steps, None], (time for _, time in self.seen), strict=True))


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 frames, 24 fps, each brighter than the one before, a key frame every 12."""
    path = tmp_path_factory.mktemp("clips") / "ramp.mp4"
    frames = [np.full((96, 128, 3), 20 + 4 * t, np.uint8) for t in range(48)]
    return write_video(path, frames, fps=24, options=CLOSED_GOP["libx264"])


def test_deferred_meter_sees_every_frame_and_answers_at_the_end(ramp: Path) -> None:
    row = measure_segment(str(ramp), [Brighter()])
    assert len(row["brighter_step"]) == len(row["frame_pts"]) == 48
    assert row["brighter_step"][-1] is None
    assert row["brighter_step"][:-1] == pytest.approx([4] * 47, abs=1.5)
    assert row["brighter_time_s"] == pytest.approx(np.arange(48) / 24)


def test_value_of_the_frame_after_a_segment_is_dropped_and_its_picture_is_used(ramp: Path) -> None:
    segments = source_row(ramp, segment_s=0.5)["segments"]
    first = measure_segment(str(ramp), [Brighter()], **segments[0])
    assert len(first["brighter_step"]) == len(first["frame_pts"]) == 12
    assert first["brighter_step"][-1] == pytest.approx(4, abs=1.5)  # from the frame after the segment


def test_deferred_values_of_segments_stitch_to_those_of_the_whole(ramp: Path) -> None:
    meter, source = Brighter(), source_row(ramp, segment_s=0.5)
    rows = [
        measure_segment(str(ramp), [meter], **segment, is_first=index == 0)
        | {"source_id": source["source_id"], "segment_index": index}
        for index, segment in enumerate(source["segments"])
    ]
    assert len(rows) == 4
    series = pa.Table.from_pylist(rows, schema=arrow_schema(Measure(meters=(meter,)).writes))
    pts, values = stitch(SeriesIndex(series), source["source_id"]).samples(meter)
    whole = measure_segment(str(ramp), [meter])
    assert pts.tolist() == whole["frame_pts"]
    for name, found in values.items():
        np.testing.assert_array_equal(found, np.array(whole[name], float), name)


def test_bytes_of_each_frame_are_those_of_its_packet(clip: Path, tmp_path: Path) -> None:
    import av

    with av.open(str(clip)) as media:
        sizes = {packet.pts: packet.size for packet in media.demux(video=0) if packet.size}
    row = measure_segment(str(clip), [])
    assert row["frame_bytes"] == [sizes[pts] for pts in row["frame_pts"]]
    second = source_row(clip, segment_s=0.5)["segments"][1]
    part = measure_segment(str(clip), [], **second)
    assert part["frame_bytes"] == [sizes[pts] for pts in part["frame_pts"]]
    cv2.imwrite(str(tmp_path / "still.png"), texture(1, 64, 64)[0])
    assert len(measure_segment(str(tmp_path / "still.png"), [])["frame_bytes"]) == 1


def test_variable_frame_rate_and_offset_use_the_time_line(tmp_path: Path) -> None:
    pts = [int(90000 * t) for t in (5.0, 5.1, 5.2, 5.55, 5.6, 6.3, 6.35, 6.4)]
    path = write_video(tmp_path / "v.mkv", texture(8, 96, 128), pts=pts)
    row = measure_segment(str(path), [Exposure(rate_hz=2.0), Freeze()])
    times = [round(p * float(Fraction(1, 1000)), 2) for p in row["exposure_pts"]]
    assert times == [5.0, 5.55, 6.3]  # the first frames at or after 5.0, 5.5, 6.0
    assert len(row["freeze_absdiff"]) == 8


def test_truncated_file_keeps_what_decodes(shared_clip: Any) -> None:
    path = shared_clip("corrupt_truncated_28_of_50.mp4")
    (row,) = measured(source_table([source_row(path)]), every_meter()).to_pylist()
    assert row["error_kind"] is None
    assert len(row["frame_pts"]) == len(row["content_lum"]) == 28
    assert "Invalid data" in row["damage"]


def test_faults_cost_one_row_each(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video at all\n" * 50)
    good = source_row(clip)
    rows = [
        good | {"source_id": f"{i:032x}", "uri": str(tmp_path / name) if name else good["uri"]}
        for i, name in enumerate(("text.mp4", None, "gone.mp4"))
    ]
    series = measured(source_table(rows), [Content()])
    assert series["error_kind"].to_pylist() == ["bad_input", None, "transient"]
    assert series["source_id"].to_pylist() == [row["source_id"] for row in rows]
    assert "not media but text" in series["error"][0].as_py()
    assert series["frame_pts"][0].as_py() is None
    assert len(series["frame_pts"][1]) == 60


def test_time_and_memory_limits_become_rows(clip: Path) -> None:
    for limit in ({"time_limit_s": 1e-6}, {"memory_limit_gb": 0.02}):
        series = measured(source_table([source_row(clip)]), every_meter(), **limit)
        assert series["error_kind"].to_pylist() == ["resource"], limit


def test_still_image_is_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    cv2.imwrite(str(path), texture(1, 300, 400)[0])
    row = measure_segment(str(path), every_meter())
    assert row["frame_pts"] == row["exposure_pts"] == row["sharpness_pts"] == [0]
    assert row["content_lum"] == row["freeze_absdiff"] == [None]
    assert row["motion_pts"] == row["motion_speed"] == []
    assert row["sharpness_laplacian_270"][0] > 0
    assert row["decoded_s"] == 0


def test_clock_names_views_and_meters(clip: Path) -> None:
    clock = Clock()
    measure_segment(str(clip), every_meter(), clock=clock)
    views = {f"view:{meter.view.value}" for meter in every_meter()}
    assert set(clock.seconds) == {meter.name for meter in every_meter()} | views
    assert all(seconds >= 0 for seconds in clock.seconds.values())


def test_wrong_configurations_are_named() -> None:
    with pytest.raises(ValueError, match="'content_hue' is declared twice"):
        Measure(meters=(Content(), Content()))
    with pytest.raises(ValueError, match="meter 'exposure': rate_hz is 0"):
        Measure(meters=(Exposure(rate_hz=0),))
    with pytest.raises(ValueError, match="unknown backend 'opencv'"):
        Measure(meters=(), backend="opencv")
    assert {c.name for c in SERIES} < {c.name for c in Measure(meters=()).writes}


def test_decord_says_the_same_shots(clip: Path) -> None:
    pytest.importorskip("decord")
    pyav = measure_segment(str(clip), [Content(), Freeze()])
    decord = measure_segment(str(clip), [Content(), Freeze()], backend="decord")
    assert decord["frame_pts"] == pyav["frame_pts"]
    if decord["backend"] == "decord":
        np.testing.assert_allclose(decord["content_lum"][1:], pyav["content_lum"][1:], atol=3)
    else:
        assert decord["backend_note"]


# --- scenes with known faults, rendered, encoded and measured -----------------------------------------------------


def scene(tmp_path: Path, frames_THWC: Any, meter: str, fps: int = 24, **options: Any) -> dict[str, np.ndarray]:
    encoder = {"crf": "20", "preset": "veryfast"}
    path = write_video(tmp_path / "scene.mp4", frames_THWC, fps=fps, options=encoder, **options)
    row = measure_segment(str(path), [meter_class(meter)()])
    names = [column.name for column in meter_class(meter).writes]
    return {name: np.array(row[name], float) for name in names}


def test_encoded_letterbox(tmp_path: Path) -> None:
    frames = texture(24, 288, 512)
    frames[:, :20] = frames[:, -20:] = 0  # 7 %
    found = scene(tmp_path, frames, "border")
    assert (found["border_luma_min"] < 3).all()
    assert found["border_top_bar_share"] == pytest.approx(20 / 288, abs=2 / 288)
    assert (found["border_left_bar_share"] == 0).all()


def test_encoded_overexposure_grey_and_freeze(tmp_path: Path) -> None:
    bright = texture(24, 144, 256).astype(np.int32) + 140
    assert (scene(tmp_path, bright.clip(0, 255).astype(np.uint8), "exposure")["exposure_bright_share"] > 0.3).all()
    grey = texture(24, 144, 256)[..., :1].repeat(3, axis=-1)
    assert (scene(tmp_path, grey, "grey")["grey_variance"] < 1.2).all()
    assert (scene(tmp_path, texture(24, 144, 256), "grey")["grey_variance"] > 100).all()
    frozen = texture(24, 144, 256)
    frozen[8:16] = frozen[8]
    repeated = scene(tmp_path, frozen, "freeze")["freeze_absdiff"] < 0.1
    assert repeated.tolist() == [9 <= i < 16 for i in range(24)]


@pytest.mark.parametrize(("height", "fps"), [(180, 24), (360, 24), (360, 60), (540, 30)])
def test_encoded_pan_speed_depends_on_neither_size_nor_rate(tmp_path: Path, height: int, fps: int) -> None:
    """One frame height every two seconds, to the right."""
    speed, width = 0.5, height * 16 // 9
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (40, 160, 3)).astype(np.uint8)
    canvas = cv2.resize(small, (height * 4, height), interpolation=cv2.INTER_CUBIC)
    frames = []
    for number in range(fps):
        matrix = np.array([[1, 0, -number * speed * height / fps], [0, 1, 0]], np.float32)
        frames.append(cv2.warpAffine(canvas, matrix, (width, height), flags=cv2.INTER_LANCZOS4))
    found = scene(tmp_path, frames, "motion", fps=fps)
    assert len(found["camera_pan"]) == 3
    assert np.median(found["camera_pan"]) == pytest.approx(speed, rel=0.1)
    assert np.median(found["motion_speed"]) == pytest.approx(speed, rel=0.1)
    assert abs(np.median(found["camera_tilt"])) < 0.02


def test_series_are_the_same_for_any_number_of_threads(clip: Path) -> None:
    one, two = (measure_segment(str(clip), every_meter(), threads=threads) for threads in (1, 2))
    assert one == two


def test_process_gives_rows_in_order_with_segments(clip: Path) -> None:
    sources = source_table([source_row(clip, segment_s=0.4), source_row(clip) | {"source_id": "f" * 32}])
    series = measured(sources, [Content()])
    expected = segment_rows(sources).select(["source_id", "segment_index"])
    assert series.select(["source_id", "segment_index"]).to_pylist() == expected.to_pylist()
    assert isinstance(series, pa.Table)


@pytest.mark.parametrize("container", ["mkv", "webm"])
def test_a_file_cut_off_without_an_error_is_damaged(tmp_path: Path, container: str) -> None:
    """Matroska demuxers report a file that was cut as a plain end of file; the header tells."""
    codec = "libvpx-vp9" if container == "webm" else "libx264"
    whole = tmp_path / f"whole.{container}"
    write_video(whole, texture(60, 96, 128), fps=10, codec=codec)
    cut = tmp_path / f"cut.{container}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    probe = Probe()
    listed = [(str(path), path.name, path.stat().st_size) for path in (whole, cut)]
    rows = [{"uri": uri, "relpath": name, "size_bytes": size} for uri, name, size in listed]
    schema = pa.schema([(c.name, c.dtype) for c in Probe.reads])
    state = probe.setup()
    try:
        sources = probe.process(state, pa.Table.from_pylist(rows, schema=schema))
    finally:
        probe.close(state)
    first, second = measured(sources, [Content()])["damage"].to_pylist()
    assert first is None
    assert "the file is cut off" in second
