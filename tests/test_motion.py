# SPDX-License-Identifier: Apache-2.0
"""The camera found behind moving things, the alignment of pixels, the class of a clip, and Farneback's comparison."""

from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from operators.aggregate import score_clips
from operators.contract import StreamInfo
from operators.cut import CutConfig, SplitConfig, cut_clips
from operators.measure import Measure, measure_segment
from operators.meters.align import aligned
from operators.meters.camera import CLASSES, camera_class, fit_similarity
from operators.meters.farneback import Farneback
from operators.meters.motion import Motion
from operators.meters.stillness import is_still
from operators.shots import DetectorConfig
from reelmill.column import arrow_schema
from tests.source_tables import measured, source_row, source_table
from tests.videos import write_video

H, W = 270, 480
FULL = StreamInfo(width_px=W, height_px=H, fps=30.0, is_full_range=True)


@cache
def canvas(seed: int = 0) -> np.ndarray:
    """float32 [600, 1000] with detail at all scales, 16-236."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((600, 1000), np.float32)
    for octave in range(1, 7):
        noise = rng.standard_normal((600 >> (6 - octave), 1000 >> (6 - octave))).astype(np.float32)
        picture += cv2.resize(noise, (1000, 600), interpolation=cv2.INTER_CUBIC) * 2.0 ** (-0.8 * octave)
    picture -= picture.min()
    return picture / picture.max() * 220 + 16


def shot(x: float = 0, y: float = 0, *, growth: float = 1, deg: float = 0, seed: int = 0) -> np.ndarray:
    """uint8 [270, 480] of the canvas moved by x, y (right and down), grown and turned (clockwise) about the middle."""
    factor = growth * np.exp(1j * np.radians(deg))
    matrix = np.array([[factor.real, -factor.imag, 0], [factor.imag, factor.real, 0]])
    matrix[:, 2] = [(W - 1) / 2 + x, (H - 1) / 2 + y] - matrix[:, :2] @ [499.5, 299.5]
    flags: Any = {"flags": cv2.INTER_CUBIC, "borderMode": cv2.BORDER_REFLECT}
    return cv2.warpAffine(canvas(seed), matrix, (W, H), **flags).clip(0, 255).round().astype(np.uint8)


def with_thing(picture: np.ndarray, x: int, y: int, half: float) -> np.ndarray:
    """An ellipse of another picture, moving with its place."""
    thing, mask = shot(x - W // 2, y - H // 2, seed=3), np.zeros(picture.shape, np.uint8)
    cv2.ellipse(mask, (x, y), (int(W * half), int(H * half)), 0, 0, 360, 1, -1)
    return np.where(mask > 0, thing, picture)


def says(before: np.ndarray, after: np.ndarray, fps: float = 30) -> dict[str, Any]:
    values = Motion().start(FULL)(before, after, 1 / fps)
    return dict(zip((column.name for column in Motion.writes), values, strict=True))


@pytest.mark.parametrize("px", [2, 5, 12, 30])
def test_the_camera_behind_a_thing_on_a_third_of_the_picture(px: float) -> None:
    before = with_thing(shot(), 200, 150, 0.33)
    after = with_thing(shot(-px), 209, 147, 0.33)
    found = says(before, after)
    assert found["camera_pan"] == pytest.approx(px * 30 / H, rel=0.05)
    assert abs(found["camera_tilt"]) < 0.05 * px * 30 / H
    assert 0.4 < found["camera_inlier_share"] < 0.9


def test_a_tripod_before_which_half_of_the_picture_moves() -> None:
    found = says(with_thing(shot(), 230, 140, 0.4), with_thing(shot(), 238, 146, 0.4))
    path = np.array([found["camera_pan"], found["camera_tilt"], found["camera_zoom"], np.radians(found["camera_roll"])])
    assert np.abs(path).max() < 0.01
    assert found["motion_residual_speed"] > 0.3


@pytest.mark.parametrize(("growth", "deg"), [(1.008, 0.0), (0.985, 0.0), (1.0, 0.5), (1.004, -0.3)])
def test_slow_zoom_and_roll_of_a_defocused_picture(growth: float, deg: float) -> None:
    """Blurred and noisy: the flow alone is some percent short, the pixels say the rest."""
    rng = np.random.default_rng(0)
    frames = [cv2.GaussianBlur(p, (0, 0), 3).astype(np.float32) for p in (shot(), shot(growth=growth, deg=deg))]
    before, after = ((f + rng.normal(0, 1, f.shape)).clip(0, 255).astype(np.uint8) for f in frames)
    found = says(before, after)
    assert found["camera_zoom"] == pytest.approx(np.log(growth) * 30, rel=0.05, abs=0.01)
    assert found["camera_roll"] == pytest.approx(deg * 30, rel=0.05, abs=0.3)


def test_alignment_under_a_change_of_light_and_its_refusal() -> None:
    after = (shot(1.5, -0.8).astype(np.float32) * 0.85 + 9).astype(np.uint8)
    everywhere = np.ones((H, W), bool)
    growth, shift = aligned(shot(), after, 0j, 1 + 0j, everywhere)
    assert shift == pytest.approx(1.5 - 0.8j, abs=0.1)
    assert abs(growth) < 1e-3
    assert aligned(shot(), after, 0j, 1 + 0j, np.zeros((H, W), bool)) == (0j, 1 + 0j)


def test_flicker_and_grain_are_no_movement_and_a_fifth_of_a_pixel_is_one() -> None:
    rng = np.random.default_rng(0)
    small = 0.1 + 0.05j
    first, second = ((shot() * gain + rng.normal(0, 8, (H, W))).clip(0, 255).astype(np.uint8) for gain in (1.0, 0.9))
    assert is_still(first, second, 0j, small)
    assert is_still(first, second, 0.001 + 0j, -small)
    assert not is_still(shot(), shot(0.2), 0j, 0.2 + 0j)
    assert not is_still(shot(), shot(growth=1.001), 0.001 + 0j, 0j)
    assert not is_still(first, second, 0j, 5 + 0j)  # nothing but small movements is questioned


@pytest.mark.parametrize("px", [0.3, 1.0])
def test_a_slow_pan_is_no_tripod(px: float) -> None:
    found = says(shot(), shot(-px))
    assert found["camera_pan"] == pytest.approx(px * 30 / H, rel=0.15)


def test_fit_of_few_and_equal_samples() -> None:
    z = np.array([1 + 1j, -1 - 1j, 2 + 0j])
    growth, shift = fit_similarity(z, np.full(3, 2 - 1j))
    assert (abs(growth), abs(shift - (2 - 1j))) == pytest.approx((0, 0), abs=0.05)
    growth, shift = fit_similarity(z[:1], np.zeros(1, complex))
    assert abs(growth) + abs(shift) == 0


@pytest.mark.parametrize("shape", [(270, 31), (32, 40), (35, 33), (270, 153), (270, 1080)])
def test_odd_and_small_pictures(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    values = Motion().start(FULL)(picture, picture, 1 / 30)
    assert len(values) == len(Motion.writes)
    assert (values[0] is None) == (min(shape) < 32)


# --- class ------------------------------------------------------------------------------------------------------


def path(pan: Any = 0.0, tilt: Any = 0.0, zoom: Any = 0.0, roll: Any = 0.0, num: int = 12) -> np.ndarray:
    return np.stack(np.broadcast_arrays(np.zeros(num), pan, tilt, zoom, roll)[1:], axis=1)


WOBBLE = np.sin(np.arange(12) * 2.3)


@pytest.mark.parametrize(
    ("walked", "name"),
    [
        (path(0.003, -0.002), "static"),
        (path(0.3), "pan_right"),
        (path(-0.05, 0.01), "pan_left"),
        (path(0.01, 0.2), "tilt_up"),
        (path(tilt=-0.2 + 0.05 * WOBBLE), "tilt_down"),
        (path(zoom=0.1), "zoom_in"),
        (path(0.01, zoom=-0.2), "zoom_out"),
        (path(roll=8.0), "roll"),
        (path(roll=-8.0), "roll"),
        (path(0.2 * WOBBLE, 0.1 * WOBBLE[::-1]), "handheld"),
        (path(0.2, 0.15), "mixed"),
        (path(0.2, zoom=0.4), "mixed"),
        (path(0.3, num=2), "unknown"),
    ],
)
def test_class_of_a_path(walked: np.ndarray, name: str) -> None:
    assert camera_class(walked, len(walked), 0.9, 30.0) == name
    assert name in CLASSES


def test_class_is_unknown_where_the_camera_mostly_is() -> None:
    assert camera_class(path(0.3), 30, 0.9, 30.0) == "unknown"
    assert camera_class(path(0.3), 12, 0.1, 30.0) == "unknown"
    assert camera_class(path(0.001), 12, 0.1, 30.0) == "static"  # noise and water hide that the rest stands still
    assert camera_class(path(num=0), 0, float("nan"), 0.0) == "unknown"


def test_class_goes_through_the_scores_as_text(tmp_path: Path) -> None:
    moves = [lambda i: (0, 0), lambda i: (-6 * i, 0)]
    paths = [tmp_path / "still.mp4", tmp_path / "pan.mp4"]
    for file, move in zip(paths, moves, strict=True):
        frames = [np.repeat(shot(*move(i))[..., None], 3, axis=2) for i in range(24)]
        write_video(file, frames, fps=12, options={"crf": "20"})
    meters = (Motion(rate_hz=None),)
    sources = source_table([source_row(file) | {"source_id": str(n) * 32} for n, file in enumerate(paths)])
    series = measured(sources, meters)
    clips = cut_clips(sources, series, CutConfig(detector=DetectorConfig(kind="none")), SplitConfig())
    table = score_clips(clips, series, sources, meters)
    assert table.schema.field("camera_class").type == pa.string()
    assert table["camera_class"].to_pylist() == ["static", "pan_right"]
    assert table["camera_pan_median"][1].as_py() == pytest.approx(6 * 12 / H, rel=0.05)


# --- farneback --------------------------------------------------------------------------------------------------


def lengths(clip: Path, meter: Farneback, **segment: Any) -> dict[int, Any]:
    row = measure_segment(str(clip), [meter], **segment)
    return dict(zip(row["farneback_pts"], row["farneback_length_px"], strict=True))


def test_farneback_is_the_shift_between_samples_whatever_the_segments(tmp_path: Path) -> None:
    frames = [np.repeat(shot(i)[..., None], 3, axis=2) for i in range(20)]
    clip = write_video(tmp_path / "c.mp4", frames, fps=10, options={"crf": "18", "g": "5"})
    whole = lengths(clip, Farneback(rate_hz=5))
    ticks = list(whole)
    assert whole[ticks[0]] is None
    assert np.median([v for v in whole.values() if v is not None]) == pytest.approx(2, rel=0.1)
    middle = ticks[5]
    later = lengths(clip, Farneback(rate_hz=5), start_pts=middle, seek_pts=middle, is_first=False)
    known = {pts: value for pts, value in later.items() if value is not None}
    assert len(known) >= 3
    assert known == {pts: whole[pts] for pts in known}


def test_farneback_counts_only_pairs_inside_the_clip(tmp_path: Path) -> None:
    frames = [np.repeat(shot(i if i < 10 else 0, seed=i // 10)[..., None], 3, axis=2) for i in range(20)]
    clip = write_video(tmp_path / "c.mp4", frames, fps=10, options={"crf": "18"})
    meters = (Farneback(rate_hz=5),)
    sources = source_table([source_row(clip)])
    series = measured(sources, meters)
    clips = cut_clips(
        sources, series, CutConfig(detector=DetectorConfig(kind="none"), max_s=1, min_last_s=0), SplitConfig()
    )
    found = score_clips(clips, series, sources, meters)["farneback_length_px_mean"].to_pylist()
    assert found[0] == pytest.approx(2, rel=0.1)
    assert found[1] < 0.2  # the pair across the cut is long


def test_farneback_reads_deep_luma_and_scales() -> None:
    deep = StreamInfo(width_px=W, height_px=H, fps=30, bit_depth=10)
    update, small = Farneback().start(deep), Farneback(short_side_px=135).start(FULL)
    for time, x in enumerate((0, 3)):
        codes = shot(x).astype(np.float32) * (876 / 255) + 64
        native, half = update(codes.astype(np.uint16), float(time)), small(shot(x), float(time))
    assert native[0] == pytest.approx(3, rel=0.1)
    assert half[0] == pytest.approx(1.5, rel=0.1)
    assert half[1] == pytest.approx(native[1], rel=0.1)
    tiny = Farneback().start(FULL)
    assert [tiny(np.zeros((16, 16), np.uint8), float(t))[0] for t in range(2)] == [None, None]


def test_farneback_names_wrong_sizes() -> None:
    with pytest.raises(ValueError, match="short_side_px is 8"):
        Farneback(short_side_px=8)
    with pytest.raises(ValueError, match="long_side_px needs short_side_px"):
        Farneback(long_side_px=160)
    assert arrow_schema(Measure(meters=(Motion(), Farneback())).writes)


def test_noise_on_a_blank_picture_moves_nothing() -> None:
    rng = np.random.default_rng(0)
    noisy = [(120 + rng.normal(0, 2, (H, W))).astype(np.uint8) for _ in range(2)]
    found = says(noisy[0], noisy[1])
    assert found["camera_pan"] is None or abs(found["camera_pan"]) < 0.02


def test_street_walk_is_no_tripod(shared_clip: Any) -> None:
    from benchmarks.ladders.moving import scores_of

    series = measure_segment(str(shared_clip("street_walk_720p.mp4")), [Motion()])
    assert scores_of(series, [Motion()], 15.0)["camera_class"] not in ("static", "unknown")
