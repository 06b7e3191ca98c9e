# SPDX-License-Identifier: Apache-2.0
"""Freezes, repeats, blends, flicker and redundancy of films whose timing is known, encoded and measured."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from operators.contract import Meter, StreamInfo
from operators.measure import measure_segment
from operators.meters.blend import Blend, pulse
from operators.meters.flicker import Flicker, unsteadiness
from operators.meters.freeze import Freeze, rhythm, told
from operators.meters.redundancy import Redundancy
from operators.scores import Groups
from tests.videos import write_video

H, W, FPS = 270, 480, 30
METERS = (Freeze(), Blend(), Flicker(), Redundancy(rate_hz=10))


@cache
def canvas() -> np.ndarray:
    """float32 [600, 1600, 3], detail at all scales."""
    rng = np.random.default_rng(0)
    picture = np.zeros((600, 1600, 3), np.float32)
    for octave in range(1, 7):
        noise = rng.standard_normal((600 >> (6 - octave), 1600 >> (6 - octave), 3)).astype(np.float32)
        picture += cv2.resize(noise, (1600, 600), interpolation=cv2.INTER_CUBIC) * 2.0 ** (-0.7 * octave)
    return (picture - picture.min()) / np.ptp(picture) * 200 + 20


def moment(x: float) -> np.ndarray:
    """float32 [H, W, 3]: the canvas moved left by x pixels."""
    matrix = np.array([[1, 0, -100 - x], [0, 1, -100]], np.float64)
    return cv2.warpAffine(canvas(), matrix, (W, H), flags=cv2.INTER_CUBIC)


def film(show: Callable[[int], np.ndarray], num_frames: int = 40) -> np.ndarray:
    return np.stack([np.rint(show(i)).clip(0, 255).astype(np.uint8) for i in range(num_frames)])


def said(path: Path, frames: np.ndarray, codec: str = "libx264", crf: int = 23) -> dict[str, Any]:
    """Series and scores of the encoded film."""
    options = {"preset": "veryfast", "crf": str(crf)} if codec == "libx264" else None
    series = measure_segment(str(write_video(path, frames, codec=codec, fps=FPS, options=options)), METERS)
    return series | scores_of(series, METERS, len(frames))


def scores_of(series: dict[str, Any], meters: tuple[Meter, ...], num_frames: int) -> dict[str, Any]:
    facts = pa.table({"num_frames": [num_frames], "duration_s": [num_frames / FPS], "fps": [float(FPS)]})
    found = {}
    for meter in meters:
        values = {c.name: np.array([np.nan if v is None else v for v in series[c.name]]) for c in meter.writes}
        groups = {name: Groups(v, np.zeros(len(v), np.int64), 1) for name, v in values.items()}
        found |= {score.column.name: float(score.compute(groups, facts)[0]) for score in meter.scores}
    return found


# --- repeats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "share"),
    [(lambda i: i, 0.0), (lambda i: i * 4 // 5, 0.2), (lambda i: i // 2, 0.5), (lambda i: i * 2 // 5, 0.6)],
    ids=["30 in 30", "24 in 30", "doubled", "24 in 60"],
)
@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_true_frame_rate(tmp_path: Path, source: Callable[[int], int], share: float, codec: str) -> None:
    found = said(tmp_path / "v.mp4", film(lambda i: moment(3.0 * source(i))), codec)
    assert found["duplicate_share"] == pytest.approx(share, abs=0.04)
    assert found["true_fps"] == pytest.approx(FPS * (1 - share), abs=1.2)


def test_a_rhythm_tells_repeats_that_a_coder_changes_by_half_of_what_moves() -> None:
    rng = np.random.default_rng(0)
    moving = rng.uniform(6, 9, 61)
    doubled = np.where(np.arange(61) % 2, moving, 0.5 * moving)
    np.testing.assert_array_equal(told(doubled).is_repeat, np.arange(61) % 2 == 0)
    film_in_60 = np.where(np.isin(np.arange(61) % 5, (0, 2)), moving, 0.5 * moving)
    np.testing.assert_array_equal(told(film_in_60).is_repeat, ~np.isin(np.arange(61) % 5, (0, 2)))
    key_frames = np.where(np.arange(61) % 5 == 0, 2 * moving, moving)  # louder ones are no rhythm of repeats
    assert not told(key_frames).is_repeat.any()
    assert not rhythm(moving)[0].any()
    assert not rhythm(doubled[:20])[1].any()  # too short for a rhythm


def test_a_rhythm_ends_where_the_footage_does() -> None:
    moving = np.random.default_rng(1).uniform(6, 9, 90)
    change = np.where((np.arange(90) % 2 == 0) & (np.arange(90) < 45), 0.5 * moving, moving)
    assert told(change).is_repeat[:45].sum() == 23
    assert told(change).is_repeat[60:].sum() == 0


def test_a_stop_is_a_freeze_and_not_a_lower_frame_rate(tmp_path: Path) -> None:
    grain = np.random.default_rng(1).normal(0, 2, (H, W, 3))
    found = said(tmp_path / "v.mp4", film(lambda i: moment(3.0 * min(i, 15)) + grain))
    assert found["freeze_share"] == pytest.approx(24 / 39, abs=0.06)
    assert found["freeze_longest_s"] == pytest.approx(24 / FPS, abs=0.1)
    assert found["true_fps"] == pytest.approx(FPS, abs=1)


def test_something_small_before_a_fixed_camera_is_no_freeze(tmp_path: Path) -> None:
    def show(i: int) -> np.ndarray:
        frame = moment(0.0).copy()
        frame[130:142, 60 + 2 * i : 72 + 2 * i] = 250
        return frame

    found = said(tmp_path / "v.mp4", film(show))
    assert found["freeze_absdiff_median"] < 0.1  # what a mean over the picture takes for a repeat
    assert found["freeze_share"] < 0.1


def test_noise_of_a_fixed_camera_is_no_freeze_if_the_coder_keeps_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    found = said(tmp_path / "v.mp4", film(lambda i: moment(0.0) + rng.normal(0, 3, (H, W, 3)), 24), crf=16)
    assert found["freeze_share"] == 0


def test_a_slow_start_is_no_repeat() -> None:
    change = np.concatenate([np.full(20, 0.6), np.full(20, 8.0)])
    assert told(change).is_repeat.sum() == 0
    change[[3, 30, 31]] = 0.1, 0.9, 1.0
    np.testing.assert_array_equal(np.flatnonzero(told(change).is_repeat), [3, 30, 31])


@pytest.mark.parametrize("num", [1, 2, 3, 5, 6, 11])
def test_repeats_of_short_clips(num: int) -> None:
    assert told(np.zeros(num)).is_repeat.all()
    assert not told(np.full(num, 5.0)).is_repeat.any()


# --- blends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "period"), [(0.8, 5), (25 / 30, 6), (0.5, 2)])
def test_blends_make_the_contrast_pulse(tmp_path: Path, ratio: float, period: int) -> None:
    def show(i: int) -> np.ndarray:
        at, weight = int(i * ratio + 1e-9), (i * ratio + 1e-9) % 1
        return (1 - weight) * moment(20.0 * at) + weight * moment(20.0 * (at + 1))

    found = said(tmp_path / "v.mp4", film(show, 48))
    assert found["blend_pulse"] > 0.15
    assert found["blend_period_frames"] == period


@pytest.mark.parametrize("crf", [18, 30])
def test_an_honest_pan_does_not_pulse(tmp_path: Path, crf: int) -> None:
    assert said(tmp_path / "v.mp4", film(lambda i: moment(9.0 * i), 48), crf=crf)["blend_pulse"] < 0.1


def test_pulse_of_short_and_constant_series() -> None:
    assert np.isnan(pulse(np.ones(7))[0])
    assert pulse(np.ones(8)) == (0.0, 0)
    assert pulse(np.tile([1.0, 2.0], 12))[1] == 2


# --- flicker ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amplitude", [0.02, 0.05])
def test_flicker_has_its_amplitude(tmp_path: Path, amplitude: float) -> None:
    found = said(tmp_path / "v.mp4", film(lambda i: moment(2.0 * i) * (1 + amplitude * (-1) ** i / 2)), crf=12)
    assert found["flicker_share"] == pytest.approx(amplitude, rel=0.35)


def test_fades_flashes_and_passers_by_do_not_flicker(tmp_path: Path) -> None:
    fade = film(lambda i: moment(2.0 * i) * (1 - i / 44))
    flash = film(lambda i: moment(2.0 * i) * (1.2 if i in (20, 21) else 0.8))

    def passer(i: int) -> np.ndarray:
        frame = moment(0.0).copy()
        frame[40:230, 10 * i : 10 * i + 100] = 240
        return frame

    for name, frames in (("fade", fade), ("flash", flash), ("passer", film(passer))):
        assert said(tmp_path / f"{name}.mp4", frames)["flicker_share"] < 0.008, name


def test_unsteadiness_by_hand() -> None:
    assert np.isnan(unsteadiness(np.zeros(6)))
    assert unsteadiness(np.full(20, -3.0)) == 0.0
    assert unsteadiness(np.tile([4.0, -4.0], 10)) == pytest.approx(4.0)


# --- redundancy -------------------------------------------------------------------------------------------------


def test_redundancy_is_the_share_of_patches_that_stay(tmp_path: Path) -> None:
    def show(i: int) -> np.ndarray:
        frame = np.full((H, W, 3), 60.0)
        frame[:, : W // 4] = 60 + 90 * (i // 3 % 2)  # a sample lies every third frame
        return frame

    found = said(tmp_path / "v.mp4", film(show))
    assert found["redundancy_patch_share"][0] is None
    assert found["redundancy_patch_share_mean"] == pytest.approx(0.75, abs=0.02)


# --- anything ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.name)
@pytest.mark.parametrize(("height", "width"), [(1, 64), (64, 64), (256, 90), (33, 256)])
def test_odd_views_give_numbers(meter: Meter, height: int, width: int) -> None:
    view = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)  # of TINY_LUMA
    update = meter.start(StreamInfo(width_px=width, height_px=height, fps=30))
    values = update(view, view.copy(), 0.1) if meter.pairwise else update(view, 0.0)
    assert all(value is None or np.isfinite(value) for value in values)
