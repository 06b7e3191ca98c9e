# SPDX-License-Identifier: Apache-2.0
"""The effective resolution of pictures whose size is real, and of the same pictures enlarged."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from benchmarks.fit_resolution import fit
from benchmarks.ladders import degrade, resolution_samples
from benchmarks.ladders.stills import RENDERED
from operators.catalog import meter_class
from operators.contract import StreamInfo, View
from operators.meters.resolution import NUM_FLAT, NUM_TEXTURED, Network, Resolution, look
from operators.scores import Groups
from operators.video import open_segment

SCALE, PROBABILITY, PSNR = (column.name for column in Resolution.writes)


def info(luma_HW: np.ndarray, bit_depth: int = 8, is_full_range: bool = True) -> StreamInfo:
    height, width = luma_HW.shape
    return StreamInfo(width, height, 30.0, bit_depth, is_full_range)


def says(luma_HW: np.ndarray, **facts: Any) -> dict[str, float | None]:
    values = Resolution().start(info(luma_HW, **facts))(luma_HW, 0.0)
    return dict(zip((SCALE, PROBABILITY, PSNR), values, strict=True))


def known(value: float | None) -> float:
    assert value is not None
    return value


@cache
def leaves(seed: int = 0, height: int = 720, width: int = 1280) -> np.ndarray:
    """Dead leaves: textured discs of all sizes over one another, as crisp as pixels can be; made at x3 and averaged."""
    rng = np.random.default_rng(seed)
    canvas = np.full((height * 3, width * 3), 128, np.uint8)
    for radius in np.sort(rng.pareto(1.0, 6000) * 12 + 12)[::-1]:
        centre = int(rng.integers(width * 3)), int(rng.integers(height * 3))
        cv2.circle(canvas, centre, int(min(radius, 600)), int(rng.integers(30, 226)), -1)
    fine = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    for octave in range(4):
        noise = rng.standard_normal((height >> octave, width >> octave)).astype(np.float32)
        fine += 5 * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.rint(fine.clip(0, 255)).astype(np.uint8)


def test_native_ranks_above_enlarged_by_2_and_3() -> None:
    for seed in (0, 1):
        native = says(leaves(seed))
        for factor in (2.0, 3.0):
            for kernel in ("bicubic", "lanczos", "bilinear"):
                copy = says(degrade.enlarged(leaves(seed), factor, kernel))
                assert known(native[PROBABILITY]) < 0.5 < known(copy[PROBABILITY]), (seed, factor, kernel)
                assert known(native[SCALE]) > known(copy[SCALE]) + 0.2
                assert known(native[PSNR]) < known(copy[PSNR])


def test_sharpening_grain_and_coding_do_not_hide_an_enlargement() -> None:
    native_master = leaves(height=728, width=1288)
    copy_master = degrade.enlarged(native_master, 2.0, "lanczos")
    for finish in ("unsharp", "cas", "grain"):
        for coding in ("none", "crf28"):
            native, copy = (resolution_samples.finish(m, finish, coding, 1) for m in (native_master, copy_master))
            assert known(says(native)[PROBABILITY]) < known(says(copy)[PROBABILITY]), (finish, coding)


@pytest.mark.parametrize("still", [still for still in RENDERED if still.name in ("noon_lake", "forest_floor")])
def test_rendered_scenes_rank_right(still: Any) -> None:
    _, master = next(resolution_samples.masters(still, resolution_samples.read_still(still)))
    native = says(master[:720, :1280])
    copies = [says(degrade.enlarged(master, factor)[:720, :1280]) for factor in (2.0, 3.0)]
    assert all(known(native[PROBABILITY]) < known(copy[PROBABILITY]) for copy in copies)
    assert all(known(native[SCALE]) > known(copy[SCALE]) for copy in copies)


def test_unknown_where_nobody_could_tell() -> None:
    rng = np.random.default_rng(0)
    gradient = np.tile(np.linspace(60, 200, 1280), (720, 1)).astype(np.uint8)
    grainy_sky = degrade.grain(np.full((720, 1280), 120, np.uint8), 3.0, 1)
    pictures = {
        "black": np.zeros((720, 1280), np.uint8),
        "flat": np.full((720, 1280), 128, np.uint8),
        "gradient": gradient,
        "grainy sky": grainy_sky,
        "small": leaves()[:360, :640],
        "dark": (leaves() // 32).astype(np.uint8),
    }
    for name, picture in pictures.items():
        said = says(picture)
        assert said[SCALE] is None, name
        assert said[PROBABILITY] is None, name
    for size in ((1, 1), (2, 5000), (17, 33), (5, 3)):
        assert says(rng.integers(0, 255, size).astype(np.uint8)) == {SCALE: None, PROBABILITY: None, PSNR: None}


def test_bit_depth_range_and_odd_sizes_change_nothing() -> None:
    eight = says(leaves())
    deep = says(leaves().astype(np.uint16) * 4, bit_depth=10)
    limited = says(np.rint(leaves() / 255 * 876 + 64).astype(np.uint16), bit_depth=10, is_full_range=False)
    odd = says(np.ascontiguousarray(leaves()[:719, :1279]))
    for other in (deep, limited, odd):
        assert known(other[SCALE]) == pytest.approx(known(eight[SCALE]), abs=0.05)
        assert known(other[PROBABILITY]) == pytest.approx(known(eight[PROBABILITY]), abs=0.05)
        assert known(other[PSNR]) == pytest.approx(known(eight[PSNR]), abs=0.5)


def test_portrait_is_judged_like_landscape() -> None:
    copy = degrade.enlarged(leaves(), 2.0)
    for picture in (leaves(), copy):
        upright = np.ascontiguousarray(picture.T)
        assert known(says(upright)[SCALE]) == pytest.approx(known(says(picture)[SCALE]), abs=0.15)


def test_sharp_bars_and_a_sharp_caption_do_not_make_an_enlargement_native() -> None:
    copy = degrade.enlarged(leaves(height=1080, width=1920), 2.0)
    boxed = copy.copy()
    boxed[:131], boxed[-131:] = 0, 0
    cv2.putText(copy, "A CAPTION OF SOME LENGTH", (500, 1000), cv2.FONT_HERSHEY_SIMPLEX, 2, 235, 4)
    for picture in (boxed, copy):
        assert known(says(picture)[PROBABILITY]) > 0.5
        assert known(says(picture)[SCALE]) < 0.75


def test_windows_are_spread_over_the_picture() -> None:
    busy_corner = np.full((1080, 1920), 128, np.uint8)
    busy_corner[:540, :960] = leaves()[:540, :960]
    windows = look(busy_corner, 1.0, 0)
    assert windows is not None
    textured = windows.spectra_NB[:NUM_TEXTURED, 1]
    assert windows.spectra_NB.shape[0] == NUM_TEXTURED + NUM_FLAT
    assert 16 <= int((textured > 1).sum()) <= 36  # at most 6 in each of the corner's cells, and those on its edges


def test_scores_of_a_clip_take_the_most_native_sample() -> None:
    values = np.array([0.4, 0.9, np.nan, np.nan])
    groups = {name: Groups(values, np.array([0, 0, 0, 1]), 2) for name in (SCALE, PROBABILITY, PSNR)}
    facts = pa.table({"width_px": pa.array([2160, None], pa.int32()), "height_px": pa.array([3840, 720], pa.int32())})
    found = {score.column.name: score.compute(groups, facts) for score in Resolution.scores}
    assert found["resolution_native_scale_max"][0] == pytest.approx(0.9)
    assert found["resolution_upscaled_probability_min"][0] == pytest.approx(0.4)
    assert found["resolution_effective_short_px"][0] == pytest.approx(0.9 * 2160)
    assert np.isnan(found["resolution_effective_short_px"][1])
    assert list(found["resolution_num_known"]) == [2, 0]


def test_fitted_networks_learn_and_repeat() -> None:
    recipes, spectra = [], []
    for seed in range(4):
        for factor in (1.0, 2.0):
            picture = leaves(seed) if factor == 1 else degrade.enlarged(leaves(seed), factor)
            for shift in range(6):
                windows = look(np.ascontiguousarray(picture[shift * 3 :, shift * 5 :]), 1.0, 0)
                assert windows is not None
                spectra.append(windows.spectra_NB)
                recipes.append(resolution_samples.Recipe((factor, factor), "bicubic" if factor > 1 else "none"))
    count = len(recipes)
    names = np.array(["x"] * count)
    samples = resolution_samples.Samples(
        names, names, names, names, recipes, np.stack(spectra), np.ones(count, bool), np.zeros(count), np.zeros(count)
    )
    is_used = np.arange(count) < 36
    first, again = (fit(samples, is_used, networks=1, epochs=60) for _ in range(2))
    assert all(np.array_equal(first.layers[name], again.layers[name]) for name in first.layers)
    logits = np.array([first(s)[0] for s in samples.spectra[36:]])
    assert logits[:6].max() < logits[6:].min()


def test_shipped_coefficients_are_small_and_the_meter_is_in_the_catalog() -> None:
    assert meter_class("resolution") is Resolution
    assert sum(array.nbytes for array in Network.shipped().layers.values()) < 200_000


@pytest.mark.parametrize("name", ["uhd_motorcycle_2160p30_h264.mp4", "uhd_portrait_phone_2160p60_h264.mp4"])
def test_real_4k_ranks_above_its_enlarged_copies(shared_clip: Callable[[str], Path], name: str) -> None:
    with open_segment(str(shared_clip(name))) as segment:
        frame = next(iter(segment))
        stream = segment.info
        luma_HW = np.ascontiguousarray(frame.view(View.LUMA))
    update = Resolution().start(stream)
    native_scale, native_probability, _ = update(luma_HW, 0.0)
    for factor in (2.0, 3.0):
        scale, probability, _ = update(degrade.enlarged(luma_HW, factor), 0.0)
        assert native_scale > scale
        assert native_probability < probability
