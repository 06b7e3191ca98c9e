# SPDX-License-Identifier: Apache-2.0
"""Noise, blocks, bands, woven fields and detail on pictures whose defect is known."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from operators.contract import Meter, StreamInfo
from operators.measure import measure_segment
from operators.meters.banding import Banding
from operators.meters.blockiness import Blockiness
from operators.meters.detail import Detail, glcm_entropies, histogram_entropy
from operators.meters.interlace import Interlace
from operators.meters.noise import Noise
from tests.videos import write_video

H, W = 720, 1280
METERS = (Noise(), Blockiness(), Banding(), Detail(), Interlace())


def info(
    height: int = H, width: int = W, bit_depth: int = 8, is_full_range: bool = True, hdr: str = "sdr"
) -> StreamInfo:
    return StreamInfo(
        width_px=width, height_px=height, fps=30.0, bit_depth=bit_depth, is_full_range=is_full_range, hdr=hdr
    )


def says(meter: Meter, *pictures: np.ndarray, about: StreamInfo | None = None) -> dict[str, Any]:
    height, width = pictures[0].shape
    update = meter.start(about or info(height, width))
    values = update(*pictures, 1 / 30 if meter.pairwise else 0.0)
    return dict(zip((column.name for column in meter.writes), values, strict=True))


@cache
def scene(seed: int = 0) -> np.ndarray:
    """float32 [900, 2000], 20-235: smooth tones with sharp-edged patches, no noise of its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 215, (9, 20)).astype(np.float32)
    picture_HW = cv2.resize(coarse, (2000, 900), interpolation=cv2.INTER_CUBIC)
    for _ in range(220):
        x, y, w, h = rng.integers(0, 1960), rng.integers(0, 860), rng.integers(6, 60), rng.integers(6, 60)
        picture_HW[y : y + h, x : x + w] += rng.uniform(-40, 40)
    return cv2.GaussianBlur(picture_HW, (0, 0), 0.7).clip(20, 235)


def seen(x: float = 0.0, y: float = 0.0, height: int = H, width: int = W) -> np.ndarray:
    """float32 [height, width]: the scene moved left and up by x, y pixels."""
    matrix = np.array([[1, 0, -40 - x], [0, 1, -40 - y]], np.float64)
    return cv2.warpAffine(scene(), matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def coded(levels_HW: np.ndarray) -> np.ndarray:
    return np.rint(levels_HW).clip(0, 255).astype(np.uint8)


def grey(frames: Iterable[np.ndarray]) -> np.ndarray:
    """[T, H, W, 3] of luma frames."""
    return np.repeat(np.stack(list(frames))[..., None], 3, axis=3)


def noisy(sigma: float, seed: int = 0) -> np.ndarray:
    return seen() + np.random.default_rng(seed).normal(0, sigma, (H, W)).astype(np.float32)


# --- noise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [1.0, 2.0, 5.0, 10.0])
def test_noise_is_the_deviation_that_was_added(sigma: float) -> None:
    assert says(Noise(), coded(noisy(sigma)))["noise_sigma"] == pytest.approx(sigma, rel=0.15)


def test_noise_is_in_levels_whatever_the_coding() -> None:
    levels = noisy(4.0)
    full = says(Noise(), coded(levels))["noise_sigma"]
    limited = coded(levels * 219 / 255 + 16)
    deep = np.rint((levels * 219 / 255 + 16) * 4).astype(np.uint16)
    assert says(Noise(), limited, about=info(is_full_range=False))["noise_sigma"] == pytest.approx(full, rel=0.05)
    ten = info(bit_depth=10, is_full_range=False)
    assert says(Noise(), deep, about=ten)["noise_sigma"] == pytest.approx(full, rel=0.05)


def test_noise_is_not_texture_and_a_smooth_picture_has_none() -> None:
    assert says(Noise(), coded(seen()))["noise_sigma"] < 0.6
    y, x = np.mgrid[0:H, 0:W]
    assert says(Noise(), coded(128 + 80 * np.sin(x * 0.9) * np.sin(y * 0.8)))["noise_sigma"] is None


def test_coarse_grain_shows_at_the_second_scale() -> None:
    grain = np.random.default_rng(3).normal(0, 6, (1080, 1920)).astype(np.float32)
    coarse = cv2.resize(grain, (3840, 2160), interpolation=cv2.INTER_CUBIC)
    found = says(Noise(), coded(128 + coarse))
    assert found["noise_sigma_1080"] > 2 * found["noise_sigma"]
    assert says(Noise(), coded(noisy(4.0)))["noise_sigma_1080"] is None


# --- blocks -----------------------------------------------------------------------------------------------------


def blocky(levels_HW: np.ndarray, quantiser: float) -> np.ndarray:
    """Every 8 x 8 block rounded in the DCT domain."""
    blocks = levels_HW.reshape(H // 8, 8, W // 8, 8).transpose(0, 2, 1, 3)
    k = np.arange(8)
    dct = np.sqrt(2 / 8) * np.cos(np.pi * k[:, None] * (k + 0.5) / 8)
    dct[0] /= np.sqrt(2)
    coefficients = dct @ blocks @ dct.T
    rounded = np.round(coefficients / quantiser) * quantiser
    return (dct.T @ rounded @ dct).transpose(0, 2, 1, 3).reshape(H, W)


def test_blockiness_grows_with_the_quantiser_and_is_one_without() -> None:
    levels = noisy(2.0)
    ratios = [says(Blockiness(), coded(blocky(levels, q)))["blockiness_ratio_8"] for q in (4, 24, 60)]
    clean = says(Blockiness(), coded(levels))["blockiness_ratio_8"]
    assert clean < 1.15
    assert clean < ratios[0] < ratios[1] < ratios[2]
    assert ratios[1] > 1.3


def test_blocks_that_were_enlarged_are_found_at_their_new_distance() -> None:
    enlarged = cv2.resize(
        blocky(noisy(2.0), 48).astype(np.float32), None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC
    )
    found = says(Blockiness(), coded(enlarged))
    assert found["blockiness_grid_px"] == 12
    assert found["blockiness_ratio"] > 3 * found["blockiness_ratio_8"]


def test_a_shifted_grid_is_the_same_grid() -> None:
    picture = coded(blocky(noisy(2.0), 40))
    whole = says(Blockiness(), picture)["blockiness_ratio_8"]
    assert says(Blockiness(), picture[3:, 5:])["blockiness_ratio_8"] == pytest.approx(whole, rel=0.1)


# --- bands ------------------------------------------------------------------------------------------------------


def slope(bits: int, dither: float = 0.0) -> np.ndarray:
    """uint16 10-bit codes, full range: a sky that brightens by 60 levels from top to bottom."""
    y, x = np.mgrid[0:H, 0:W]
    levels = 120 + 60 * y / H + 6 * x / W
    levels = levels + np.random.default_rng(1).normal(0, 1, (H, W)) * dither
    step = 2.0 ** (8 - bits)
    return np.rint(np.floor(levels / step) * step * 4).clip(0, 1023).astype(np.uint16)


def test_bands_are_seen_in_a_coarse_sky_and_not_in_a_fine_or_dithered_one() -> None:
    ten = info(bit_depth=10)
    shares = {bits: says(Banding(), slope(bits), about=ten) for bits in (10, 7, 6)}
    assert shares[10]["banding_share"] == 0
    assert shares[7]["banding_strong_share"] > 0.3
    assert shares[6]["banding_share"] > 0.3
    assert says(Banding(), slope(8, dither=1.0), about=ten)["banding_share"] < 0.02


def test_edges_and_texture_are_no_bands() -> None:
    assert says(Banding(), coded(seen()))["banding_share"] < 0.1
    y, x = np.mgrid[0:H, 0:W]
    assert says(Banding(), coded(60 + 120 * ((x // 90 + y // 90) % 2)))["banding_share"] == 0


# --- fields -----------------------------------------------------------------------------------------------------


def woven(first_HW: np.ndarray, second_HW: np.ndarray) -> np.ndarray:
    frame_HW = first_HW.copy()
    frame_HW[1::2] = second_HW[1::2]
    return coded(frame_HW)


@pytest.mark.parametrize("step", [1.5, 5.0, 12.0])
@pytest.mark.parametrize("is_bottom_first", [False, True])
def test_woven_fields_are_combed_and_whole_frames_are_not(step: float, is_bottom_first: bool) -> None:
    moments = [seen(x=step * i, y=0.4 * step * i) for i in range(4)]
    pairs = [(moments[0], moments[1]), (moments[2], moments[3])]
    frames = [woven(b, a) if is_bottom_first else woven(a, b) for a, b in pairs]
    assert says(Interlace(), *frames)["interlace_comb_share"] > 0.5
    whole = says(Interlace(), coded(moments[0]), coded(moments[2]))
    assert whole["interlace_comb_share"] < 0.05


def test_blinds_before_a_moving_camera_are_no_comb() -> None:
    blinds = np.where(np.arange(H)[:, None] % 2, 0.6, 1.0)
    pictures = [coded(seen(x=6.0 * i) * blinds) for i in range(2)]
    assert says(Interlace(), *pictures)["interlace_comb_share"] < 0.1


def test_nothing_is_said_of_fields_while_nothing_moves() -> None:
    still = [coded(noisy(2.0, seed)) for seed in (0, 1)]
    assert says(Interlace(), *still)["interlace_comb_share"] is None


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mp4"), ("mpeg2video", "mkv")])
def test_a_combed_film_is_told_after_coding(tmp_path: Path, codec: str, suffix: str) -> None:
    moments = [seen(x=4.0 * i) for i in range(8)]
    films = {
        "woven": [woven(a, b) for a, b in zip(moments[::2], moments[1::2], strict=True)],
        "whole": [coded(m) for m in moments[::2]],
    }
    found = {}
    for name, frames in films.items():
        options = {"crf": "24"} if codec == "libx264" else {"qmin": "4", "qmax": "4"}
        path = write_video(tmp_path / f"{name}.{suffix}", grey(frames), codec=codec, options=options)
        series = measure_segment(str(path), (Interlace(rate_hz=30),))
        found[name] = np.median([v for v in series["interlace_comb_share"] if v is not None])
    assert found["woven"] > 0.4
    assert found["whole"] < 0.05


# --- detail -----------------------------------------------------------------------------------------------------


def test_entropies_by_hand() -> None:
    assert histogram_entropy(np.array([[0, 0, 255, 255]], np.uint8)) == pytest.approx(1.0)
    flat = np.full((2, 64, 64), 90, np.uint8)
    assert glcm_entropies(flat)[0] == pytest.approx(0.0, abs=1e-9)
    stripes = np.tile(np.array([0, 255], np.uint8), (1, 64, 32))
    # along the rows two pairs in equal numbers at odd distances (1 bit) as at even ones; down the columns the same
    assert glcm_entropies(stripes)[0] == pytest.approx(1.0, abs=0.01)


def test_detail_falls_with_blur_in_every_measure() -> None:
    picture = noisy(6.0)
    found = [says(Detail(), coded(cv2.GaussianBlur(picture, (0, 0), s) if s else picture)) for s in (0, 1.0, 3.0)]
    for name in ("detail_glcm_entropy", "detail_gradient", "detail_entropy"):
        values = [f[name] for f in found]
        assert values[0] > values[1] > values[2], name
    assert found[0]["detail_jpeg_ratio"] < found[2]["detail_jpeg_ratio"]


# --- anything ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.name)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 16), (63, 200), (271, 481), (2160, 66), (720, 1281)])
def test_odd_and_tiny_pictures_give_numbers_or_nulls(meter: Meter, height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    pictures = [rng.integers(0, 256, (height, width)).astype(np.uint8) for _ in range(1 + meter.pairwise)]
    for value in says(meter, *pictures).values():
        assert value is None or np.isfinite(value)


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.name)
@pytest.mark.parametrize("level", [0, 128, 1023])
def test_flat_pictures_of_ten_bits_give_numbers_or_nulls(meter: Meter, level: int) -> None:
    pictures = [np.full((540, 960), level, np.uint16)] * (1 + meter.pairwise)
    for value in says(meter, *pictures, about=info(540, 960, bit_depth=10)).values():
        assert value is None or np.isfinite(value)


def test_a_monochrome_film_of_odd_size_and_twelve_bits_is_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 201, 303)).astype(np.uint8)
    path = write_video(tmp_path / "v.mkv", grey(frames), codec="ffv1", pix_fmt="gray12le")
    series = measure_segment(str(path), METERS)
    assert len(series["noise_sigma"]) == len(series["noise_pts"]) == 1
