# SPDX-License-Identifier: Apache-2.0
"""What the meters say about pictures whose faults and movements are known."""

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest

from operators.catalog import METERS, OPERATORS, meter_class, operator_class
from operators.contract import Meter, StreamInfo, View, config_of
from operators.meters.border import Border
from operators.meters.color import Color
from operators.meters.content import Content
from operators.meters.exposure import Exposure
from operators.meters.freeze import Freeze
from operators.meters.grey import Grey
from operators.meters.motion import Motion, fit_similarity
from operators.meters.sharpness import Sharpness

INFO = StreamInfo(width_px=480, height_px=270, fps=30.0)
FULL = StreamInfo(width_px=480, height_px=270, fps=30.0, is_full_range=True)
H, W = 270, 480


def says(meter: Meter, *arguments: Any, info: StreamInfo = FULL) -> dict[str, Any]:
    values = meter.start(info)(*arguments)
    return dict(zip((column.name for column in meter.writes), values, strict=True))


@cache
def canvas(seed: int = 0, height: int = 1400, width: int = 2200) -> np.ndarray:
    """A picture with detail at all scales, float 16-236."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width), np.float32)
    for octave in range(1, 8):
        noise = rng.standard_normal((height >> (7 - octave), width >> (7 - octave))).astype(np.float32)
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * 2.0 ** (-0.8 * octave)
    picture -= picture.min()
    return picture / picture.max() * 220 + 16


def shot(*, x: float = 0, y: float = 0, growth: float = 1, clockwise_deg: float = 0) -> np.ndarray:
    """uint8 [270, 480] of the canvas moved by x, y (pixels, right and down), grown and turned about the centre."""
    height, width = canvas().shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -clockwise_deg, growth)
    matrix[:, 2] += (W - width) / 2 + x, (H - height) / 2 + y
    turned = cv2.warpAffine(canvas(), matrix, (W, H), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)
    return turned.clip(0, 255).round().astype(np.uint8)


# --- exposure ---------------------------------------------------------------------------------------------------


def test_exposure_counts_clipped_pixels_in_both_ranges() -> None:
    full = np.full((100, 100), 128, np.uint8)
    full[:20] = 255
    full[20:25] = 2
    found = says(Exposure(), full, 0.0, info=FULL)
    assert found["exposure_bright_share"] == pytest.approx(0.20)
    assert found["exposure_dark_share"] == pytest.approx(0.05)
    assert found["exposure_clipped_share"] == pytest.approx(0.25)
    limited = np.full((100, 100), 126, np.uint8)
    limited[:20] = 235  # white
    limited[20:25] = 16  # black
    found = says(Exposure(), limited, 0.0, info=INFO)
    assert found["exposure_clipped_share"] == pytest.approx(0.25)
    assert says(Exposure(), np.full((9, 9), 228, np.uint8), 0.0, info=INFO)["exposure_clipped_share"] == 0
    assert found["exposure_luma"] == pytest.approx(0.2 + 0.75 * (126 - 16) / 219, abs=0.001)


def test_exposure_does_not_depend_on_bit_depth_or_size() -> None:
    eight = (canvas()[:1080, :1920]).astype(np.uint8)
    ten = StreamInfo(width_px=1920, height_px=1080, fps=30, bit_depth=10, is_full_range=True)
    deep = says(Exposure(), eight.astype(np.uint16) * 4 + 2, 0.0, info=ten)
    assert deep["exposure_luma"] == pytest.approx(says(Exposure(), eight, 0.0)["exposure_luma"], abs=0.003)
    small = says(Exposure(), cv2.resize(eight, (960, 540), interpolation=cv2.INTER_AREA), 0.0)
    assert small["exposure_luma"] == pytest.approx(deep["exposure_luma"], abs=0.003)


# --- border -----------------------------------------------------------------------------------------------------


def barred(*, top: float = 0, bottom: float = 0, left: float = 0, right: float = 0) -> np.ndarray:
    """Limited-range luma [1000, 1600] with black bars of these shares of the height or width."""
    height, width = 1000, 1600
    luma = (canvas()[:height, :width] * 219 / 255 + 16).astype(np.uint8)
    luma[: round(top * height)] = luma[height - round(bottom * height) :] = 16
    luma[:, : round(left * width)] = luma[:, width - round(right * width) :] = 17
    return luma


def test_letterbox_of_three_percent_is_black_by_the_published_strip() -> None:
    found = says(Border(), barred(top=0.03, bottom=0.03), 0.0, info=INFO)
    assert found["border_luma_min"] < 3
    assert found["border_top_luma"] < 3
    assert found["border_left_luma"] > 20
    assert found["border_top_bar_share"] == pytest.approx(0.03)
    assert found["border_bottom_bar_share"] == pytest.approx(0.03)
    assert found["border_left_bar_share"] == 0


def test_one_percent_bar_hides_in_the_strip_but_not_from_the_depth() -> None:
    found = says(Border(), barred(bottom=0.01), 0.0, info=INFO)
    assert found["border_luma_min"] > 3
    assert found["border_bottom_bar_share"] == pytest.approx(0.01)
    assert found["border_top_bar_share"] == 0


def test_pillarbox_and_black_frames() -> None:
    found = says(Border(), barred(left=0.125, right=0.125), 0.0, info=INFO)
    assert found["border_left_luma"] < 3
    assert found["border_right_bar_share"] == pytest.approx(0.125)
    black = says(Border(), np.full((90, 160), 16, np.uint8), 0.0, info=INFO)
    assert black["border_luma_min"] == 0
    assert black["border_top_bar_share"] is None


def test_border_reads_ten_bit_luma_and_views_with_a_stride() -> None:
    padded = np.zeros((1000, 1664), np.uint16)
    padded[:, :1600] = barred(top=0.1).astype(np.uint16) * 4
    ten = StreamInfo(width_px=1600, height_px=1000, fps=30, bit_depth=10)
    found = says(Border(), padded[:, :1600], 0.0, info=ten)
    assert found["border_top_bar_share"] == pytest.approx(0.1)
    assert found["border_top_luma"] < 0.1


# --- grey, color ------------------------------------------------------------------------------------------------


def test_grey_variance_by_hand() -> None:
    pixel_BGR = np.array([[[10, 40, 100]]], np.uint8)
    assert says(Grey(), pixel_BGR, 0.0)["grey_variance"] == pytest.approx(np.var([10, 40, 100]))


def test_grey_against_sepia_against_colour() -> None:
    luma = shot()
    grey = cv2.cvtColor(luma, cv2.COLOR_GRAY2BGR)
    sepia = (luma[..., None] * np.array([0.55, 0.8, 1.0])).astype(np.uint8)
    colour = np.stack([shot(), shot(x=200), shot(y=150)], axis=-1)
    variance = [says(Grey(), picture, 0.0)["grey_variance"] for picture in (grey, sepia, colour)]
    assert variance[0] == 0
    assert variance[1] > 100
    tones = [says(Color(), picture, 0.0) for picture in (grey, sepia, colour)]
    assert [t["color_hue_spread"] < 0.01 for t in tones] == [True, True, False]
    assert tones[0]["color_chroma"] < 0.01 < tones[1]["color_chroma"]
    assert tones[1]["color_warmth"] > 0.15
    assert abs(tones[0]["color_warmth"]) < 1e-6


def test_color_percentiles_and_saturation_by_hand() -> None:
    steps = np.repeat(np.arange(100, dtype=np.uint8), 10).reshape(10, 100, order="F")
    found = says(Color(), cv2.cvtColor(steps, cv2.COLOR_GRAY2BGR), 0.0)
    assert found["color_luma_p05"] * 255 == pytest.approx(4, abs=1)
    assert found["color_luma_p50"] * 255 == pytest.approx(49, abs=1)
    assert found["color_luma_p95"] * 255 == pytest.approx(94, abs=1)
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 200
    assert says(Color(), red, 0.0)["color_saturation"] == pytest.approx(1)


# --- content, freeze, sharpness -----------------------------------------------------------------------------------


def test_content_equals_pyscenedetect_frame_by_frame() -> None:
    """Every component and the score, on random pictures, against the real detector."""
    from scenedetect import FrameTimecode
    from scenedetect.detectors import ContentDetector
    from scenedetect.stats_manager import StatsManager

    rng = np.random.default_rng(3)
    frames_THWC = rng.integers(0, 256, (6, 36, 64, 3), dtype=np.uint8)
    detector = ContentDetector(weights=ContentDetector.Components(1, 1, 1, 0))
    detector.stats_manager = StatsManager()
    update = Content().start(INFO)
    for number, frame in enumerate(frames_THWC):
        time = FrameTimecode(number, 30.0)
        detector.process_frame(time, frame)
        if number:
            theirs = detector.stats_manager.get_metrics(time, ["delta_hue", "delta_sat", "delta_lum", "content_val"])
            ours = update(frames_THWC[number - 1], frame, 1 / 30)
            assert (*ours, sum(ours) / 3) == pytest.approx(theirs, abs=1e-9)


def test_content_keeps_no_stale_frame() -> None:
    a, b = (np.full((36, 64, 3), level, np.uint8) for level in (10, 60))
    update = Content().start(INFO)
    assert update(a, b, 1 / 30)[2] == 50
    assert update(a, a, 1 / 30)[2] == 0  # `a` is not the frame last seen
    assert update(a, b.copy(), 1 / 30)[2] == 50


def test_freeze_is_the_mean_difference() -> None:
    picture = shot()
    assert says(Freeze(), picture, picture.copy(), 1 / 30)["freeze_absdiff"] == 0
    brighter = picture.copy()
    brighter[:135] = np.minimum(brighter[:135], 245) + 10
    found = says(Freeze(), picture, brighter, 1 / 30)
    assert found["freeze_absdiff"] == pytest.approx(5, abs=0.1)
    assert found["freeze_block_absdiff"] == pytest.approx(10, abs=0.1)


def test_sharpness_falls_with_blur_and_has_a_scale() -> None:
    sharp = canvas()[:1080, :1920].astype(np.uint8)
    values = [
        says(Sharpness(), cv2.GaussianBlur(sharp, (0, 0), sigma) if sigma else sharp, 0.0) for sigma in (0, 1, 2, 4, 8)
    ]
    for column in ("sharpness_laplacian_1080", "sharpness_laplacian_270"):
        series = [value[column] for value in values]
        assert series == sorted(series, reverse=True)
        assert series[0] > 3 * series[-1]
    enlarged = cv2.resize(sharp, (3840, 2160), interpolation=cv2.INTER_NEAREST)
    same = says(Sharpness(), enlarged, 0.0)
    assert same == pytest.approx(values[0], rel=1e-6)
    assert says(Sharpness(), sharp[:720, :1280], 0.0)["sharpness_laplacian_1080"] is None
    portrait = says(Sharpness(), np.ascontiguousarray(np.rot90(sharp)), 0.0)
    assert portrait == pytest.approx(values[0], rel=1e-6)


def test_sharpness_is_the_same_in_ten_bits_and_limited_range() -> None:
    sharp = canvas()[:1080, :1920].astype(np.uint8)
    ten = StreamInfo(width_px=1920, height_px=1080, fps=30, bit_depth=10)
    deep = (sharp.astype(np.float64) * 219 / 255 * 4 + 64).round().astype(np.uint16)
    assert says(Sharpness(), deep, 0.0, info=ten) == pytest.approx(says(Sharpness(), sharp, 0.0), rel=0.03)


# --- motion -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [24, 30, 60])
@pytest.mark.parametrize(("pan", "tilt"), [(0.2, 0.0), (-1.0, 0.0), (0.0, 0.4), (0.6, -0.3)])
def test_pan_and_tilt_within_ten_percent_at_any_frame_rate(fps: int, pan: float, tilt: float) -> None:
    step = H / fps
    found = says(Motion(), shot(), shot(x=-pan * step, y=tilt * step), 1 / fps)
    speed = np.hypot(pan, tilt)
    assert found["motion_speed"] == pytest.approx(speed, rel=0.1)
    assert found["camera_pan"] == pytest.approx(pan, abs=0.1 * speed)
    assert found["camera_tilt"] == pytest.approx(tilt, abs=0.1 * speed)
    assert abs(found["camera_zoom"]) < 0.02
    assert abs(found["camera_roll"]) < 0.5
    assert found["camera_inlier_share"] > 0.95
    assert found["motion_residual_speed"] < 0.1 * speed


@pytest.mark.parametrize("growth", [0.98, 0.995, 1.005, 1.02])
def test_zoom_has_sign_and_size(growth: float) -> None:
    found = says(Motion(), shot(), shot(growth=growth), 1 / 30)
    assert found["camera_zoom"] == pytest.approx(np.log(growth) * 30, rel=0.1)
    assert abs(found["camera_pan"]) < 0.05
    assert found["camera_inlier_share"] > 0.9


@pytest.mark.parametrize("degrees", [-0.5, 0.2, 1.0])
def test_roll_has_sign_and_size(degrees: float) -> None:
    found = says(Motion(), shot(), shot(clockwise_deg=degrees), 1 / 30)
    assert found["camera_roll"] == pytest.approx(degrees * 30, rel=0.1)
    assert abs(found["camera_zoom"]) < 0.05


def with_object(picture: np.ndarray, x: int) -> np.ndarray:
    picture = picture.copy()
    picture[60:200, x : x + 170] = canvas(seed=7)[:140, :170].astype(np.uint8)
    return picture


def test_object_before_a_still_camera_is_no_camera_movement() -> None:
    found = says(Motion(), with_object(shot(), 100), with_object(shot(), 105), 1 / 30)
    for column in ("camera_pan", "camera_tilt", "camera_zoom"):
        assert abs(found[column]) < 0.02
    assert found["motion_speed"] > 0.05
    assert found["motion_residual_speed"] == pytest.approx(found["motion_speed"], rel=0.1)
    assert 0.4 < found["camera_inlier_share"] < 0.95


def test_object_against_a_moving_camera() -> None:
    found = says(Motion(), with_object(shot(), 100), with_object(shot(x=-3), 106), 1 / 30)
    assert found["camera_pan"] == pytest.approx(3 / H * 30, rel=0.1)


def test_still_camera_with_sensor_noise_does_not_move() -> None:
    rng = np.random.default_rng(0)
    noisy = [(shot() + rng.normal(0, 2, (H, W))).clip(0, 255).astype(np.uint8) for _ in range(2)]
    found = says(Motion(), *noisy, 1 / 30)
    assert abs(found["camera_pan"]) < 0.01
    assert abs(found["camera_roll"]) < 0.5
    assert found["motion_speed"] < 0.05


def test_motion_says_nothing_of_a_blank_wall() -> None:
    wall = np.full((H, W), 120, np.uint8)
    found = says(Motion(), wall, wall, 1 / 30)
    assert found["motion_speed"] == pytest.approx(0, abs=1e-3)
    assert found["camera_pan"] is None
    assert found["camera_inlier_share"] is None


def test_fit_similarity_ignores_forty_percent_of_outliers() -> None:
    rng = np.random.default_rng(1)
    z = rng.uniform(-200, 200, 2000) + 1j * rng.uniform(-130, 130, 2000)
    flow = (0.01 + 0.02j) * z + (3 - 1j) + rng.normal(0, 0.05, 2000)
    flow[:800] = 9 + 6j
    growth, shift = fit_similarity(z, flow)
    assert abs(growth - (0.01 + 0.02j)) < 3e-4
    assert abs(shift - (3 - 1j)) < 0.05


# --- catalog ----------------------------------------------------------------------------------------------------


def test_catalog_names_every_meter_and_suggests_the_nearest() -> None:
    for name in METERS:
        cls = meter_class(name)
        assert cls.name == name
        assert is_dataclass(cls)
        assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert {f.name for f in fields(cls)} <= {"rate_hz", "device", "short_side_px", "long_side_px"}
        assert isinstance(cls.view, View)
        assert all(column.doc for column in cls.writes)
        assert config_of(cls())["name"] == name
    with pytest.raises(ValueError, match="unknown meter 'exposur'; did you mean 'exposure'"):
        meter_class("exposur")
    with pytest.raises(ValueError, match=f"unknown operator 'zzz'; known: {', '.join(sorted(OPERATORS))}"):
        operator_class("zzz")


def test_meters_import_no_heavy_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from operators.catalog import METERS, meter_class; [meter_class(n)() for n in METERS];"
        "print(sorted({'cv2', 'av', 'torch', 'scenedetect', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
