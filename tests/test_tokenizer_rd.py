# SPDX-License-Identifier: Apache-2.0
"""The pieces of the rate-distortion picture."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.tokenizer_rd import MULTI, SINGLE, Clip, at_bits, av1, draw, read_clip, stills
from tokenization.synthetic import synthetic_windows


def test_single_scale_never_has_fewer_bits_than_the_prefix_it_is_held_against() -> None:
    bits = np.cumsum([np.log2(codes) / by**2 for by, codes in zip(MULTI.reduces, MULTI.vocabs, strict=True)])
    for scale, codes in SINGLE.items():
        assert 0 <= np.log2(codes).sum() - bits[scale] <= 0.05


def test_codecs_cost_more_and_look_better_along_their_curves(tmp_path: Path) -> None:
    clip = Clip("made up", next(synthetic_windows(1, 3, 128, 17)), [])
    curves = {"JPEG": stills(clip, "JPEG", (5, 60)), "AV1": av1(clip)}
    for curve in curves.values():
        assert [b for b, _ in curve] == sorted(b for b, _ in curve)
        assert curve[-1][1] > curve[0][1] + 2
    draw([{"clip": clip.name, "curves": curves}], tmp_path / "rd.png")
    assert (tmp_path / "rd.png").stat().st_size > 10_000


def test_between_points_over_the_logarithm_and_nothing_outside() -> None:
    curve = [(0.01, 20.0), (0.1, 30.0), (1.0, 32.0)]
    assert at_bits(curve, 10**-1.5) == pytest.approx(25.0)
    assert at_bits(curve, 0.009) is None
    assert at_bits(curve, 1.1) is None


def test_small_and_broken_clips_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no video")
    assert read_clip(tmp_path / "x.mp4") is None
