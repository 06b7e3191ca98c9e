# SPDX-License-Identifier: Apache-2.0
"""Woven fields against what is taken for them: doubled lines, tilts, fine noise, a tripod; all depths and sizes."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from operators.measure import measure_segment
from operators.meters.interlace import Interlace
from tests.test_defect_meters import coded, grey, info, says, seen, woven
from tests.videos import write_video


def comb(*pictures: np.ndarray) -> float | None:
    return says(Interlace(), *pictures)["interlace_comb_share"]


@cache
def leaves() -> np.ndarray:
    """float32 [760, 1280]: detail of a few pixels in every direction."""
    noise_HW = np.random.default_rng(4).normal(0, 1, (760, 1280)).astype(np.float32)
    return 120 + 150 * cv2.GaussianBlur(noise_HW, (0, 0), 1.6)


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_tilting_camera_is_no_comb(step: int) -> None:
    assert comb(*(coded(leaves()[step * i :][:720]) for i in range(2))) in (None, 0)


def test_doubled_lines_are_no_comb_though_they_move_by_whole_pairs() -> None:
    assert comb(*(np.repeat(coded(leaves()[2 * i :][:720:2]), 2, axis=0) for i in range(2))) == 0


def test_fine_noise_under_a_moving_camera_is_no_comb() -> None:
    noise_HW = np.random.default_rng(1).normal(120, 40, (730, 1300)).astype(np.float32)
    assert comb(coded(noise_HW[:720, :1280]), coded(noise_HW[3:723, 5:1285])) in (None, 0)


@pytest.mark.parametrize("is_woven", [False, True])
def test_an_object_before_a_tripod_is_judged_by_itself(is_woven: bool) -> None:
    object_HW = np.random.default_rng(2).uniform(20, 235, (45, 45)).astype(np.float32)
    object_HW = cv2.resize(object_HW, (360, 360), interpolation=cv2.INTER_CUBIC)

    def at(time: int) -> np.ndarray:
        picture_HW = seen().copy()
        picture_HW[160:520, 200 + 6 * time : 560 + 6 * time] = object_HW
        return picture_HW

    frames = [woven(at(t), at(t + 1)) if is_woven else coded(at(t)) for t in (0, 2)]
    found = comb(*frames)
    assert found is not None
    assert found > 0.5 if is_woven else found == 0


def test_ten_bits_say_what_eight_say() -> None:
    moments = [seen(x=3.0 * i) for i in range(4)]
    frames = [woven(moments[0], moments[1]), woven(moments[2], moments[3])]
    deep = [frame.astype(np.uint16) * 4 for frame in frames]
    about = info(bit_depth=10, is_full_range=False)
    assert says(Interlace(), *deep, about=about)["interlace_comb_share"] == comb(*frames)


def test_a_film_coded_as_interlaced_is_told_and_one_of_whole_frames_is_not(tmp_path: Path) -> None:
    moments = [seen(x=4.0 * i) for i in range(8)]
    found = {}
    for name, frames in {
        "woven": [woven(a, b) for a, b in zip(moments[::2], moments[1::2], strict=True)],
        "whole": [coded(m) for m in moments[::2]],
    }.items():
        options = {"crf": "23", "x264-params": "tff=1"}
        path = write_video(tmp_path / f"{name}.mp4", grey(frames), codec="libx264", options=options)
        series = measure_segment(str(path), (Interlace(rate_hz=30),))
        found[name] = [value for value in series["interlace_comb_share"] if value is not None]
    assert min(found["woven"]) > 0.5
    assert max(found["whole"]) == 0
