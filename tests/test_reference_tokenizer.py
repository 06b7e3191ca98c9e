# SPDX-License-Identifier: Apache-2.0
"""The reference tokenizer: exact, monotone, self-contained."""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reelmill.residual import ResidualCodebook, downsample, latent_bound, upsample
from reelmill.spans import frame_rgb, iter_span, open_media
from reelmill.tokens import TimeRule
from tokenization import reference
from tokenization.fit import LATENT_NORM, FitConfig, fit, fit_tokenizer, kmeans
from tokenization.reference import SHIPPED, ReferenceTokenizer, patches_of, squared_error
from tokenization.synthetic import synthetic_windows

SMALL = FitConfig(channels=16, reduces=(4, 2, 1), vocabs=(16, 32, 64), iterations=4, max_windows=3, side_px=64)


@pytest.fixture(scope="module")
def shipped() -> ReferenceTokenizer:
    return ReferenceTokenizer.load()


@pytest.fixture(scope="module")
def window_THWC() -> np.ndarray:
    return next(synthetic_windows(1, seed=99, side_px=96, frames=9))


def test_shipped_codebook_is_small_and_says_how_it_was_made(shipped: ReferenceTokenizer) -> None:
    assert SHIPPED.stat().st_size <= 2_000_000
    config = {f.name: getattr(FitConfig(), f.name) for f in dataclasses.fields(FitConfig)}
    stored = {k: tuple(v) if isinstance(v, list) else v for k, v in shipped.codebook.config.items()}
    assert config.items() <= stored.items()
    assert shipped.spec.weights_sha256 == shipped.codebook.sha256


def test_round_trip_gives_the_planned_shapes(shipped: ReferenceTokenizer, window_THWC: np.ndarray) -> None:
    ids = shipped.encode(window_THWC)
    (bucket,) = shipped.spec.plan(9, 96, 96, 30.0).buckets
    assert [(*i.shape, 1) for i in ids] == list(bucket.shapes.values())
    assert all(i.max() < len(codes) for i, codes in zip(ids, shipped.codebook.codes, strict=True))
    back = shipped.decode(ids)
    assert back.shape == window_THWC.shape
    assert back.dtype == np.uint8


def test_psnr_rises_with_each_scale_and_is_that_of_the_decoder(
    shipped: ReferenceTokenizer, window_THWC: np.ndarray
) -> None:
    ids = shipped.encode(window_THWC)
    psnr = shipped.psnr_per_scale(window_THWC, ids)
    assert all(b > a for a, b in itertools.pairwise(psnr))
    for scale, value in enumerate(psnr):
        decoded = shipped.decode(ids[: scale + 1], size=(12, 12))
        error = ((decoded.astype(float) - window_THWC) ** 2).mean()
        assert value == pytest.approx(10 * np.log10(255**2 / error), abs=1e-6)
        np.testing.assert_array_equal(decoded, shipped.decode(ids, upto_scale=scale, size=(12, 12)))


@pytest.mark.parametrize("name", ["street_walk_720p.mp4", "uhd_motorcycle_2160p30_h264.mp4"])
def test_psnr_rises_with_each_scale_on_real_footage(
    name: str, shared_clip: Callable[[str], Path], shipped: ReferenceTokenizer
) -> None:
    frames = []
    with open_media(shared_clip(name)) as media:
        for frame in iter_span(media, None, None):
            frames.append(frame_rgb(frame, (720, 1280)))
            if len(frames) == 5:
                break
    frames_THWC = np.stack(frames)
    psnr = shipped.psnr_per_scale(frames_THWC, shipped.encode(frames_THWC))
    assert all(b > a for a, b in itertools.pairwise(psnr))
    assert psnr[-1] > psnr[0] + 6


def test_a_latent_frame_does_not_depend_on_its_neighbours(shipped: ReferenceTokenizer, window_THWC: np.ndarray) -> None:
    whole, still, first = shipped.encode(window_THWC), shipped.encode(window_THWC[:1]), shipped.encode(window_THWC[:5])
    for a, b, c in zip(whole, still, first, strict=True):
        np.testing.assert_array_equal(a[:1], b)
        np.testing.assert_array_equal(a[:2], c)


def test_sums_are_exact_whatever_the_order(
    shipped: ReferenceTokenizer, window_THWC: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = shipped.codebook
    group = window_THWC[1:5]
    sums = patches_of(group).astype(np.int64) @ book.forward_PC.astype(np.int64)
    latent = shipped.latent(group)
    np.testing.assert_array_equal(latent.reshape(sums.shape), np.rint(sums / 2**book.forward_shift))
    wanted = shipped.encode(window_THWC)
    monkeypatch.setattr(reference, "CHUNK", 7)
    monkeypatch.setattr(reference, "BAND", 13)
    for a, b in zip(wanted, shipped.encode(window_THWC), strict=True):
        np.testing.assert_array_equal(a, b)


def test_search_is_the_nearest_code_by_integers(shipped: ReferenceTokenizer, window_THWC: np.ndarray) -> None:
    latent = shipped.latent(window_THWC[1:5])
    coarse = downsample(latent, shipped.codebook.reduces[0]).reshape(-1, latent.shape[2]).astype(np.int64)
    codes = shipped.codebook.codes[0].astype(np.int64)
    scores = coarse @ codes.T - (codes**2).sum(axis=1) // 2
    np.testing.assert_array_equal(shipped.quantize(latent)[0].ravel(), scores.argmax(axis=1))


def test_codes_of_all_scales_sum_to_the_decoders_input(shipped: ReferenceTokenizer, window_THWC: np.ndarray) -> None:
    ids = shipped.encode(window_THWC)
    decoder = shipped.decoder
    total = sum(
        np.stack([upsample(part, by, (12, 12)) for part in decoder.embed(i, k)])
        for k, (i, by) in enumerate(zip(ids, shipped.codebook.reduces, strict=True))
    )
    np.testing.assert_array_equal(total, decoder.accumulate(ids))


def test_flat_frames_come_back_almost_exactly(shipped: ReferenceTokenizer) -> None:
    for level in (0, 16, 128, 235, 255):
        frames = np.full((5, 64, 64, 3), level, np.uint8)
        assert np.abs(shipped.decode(shipped.encode(frames)).astype(int) - level).max() <= 3


def test_other_shapes_are_refused(shipped: ReferenceTokenizer) -> None:
    for shape in ((4, 64, 64, 3), (5, 64, 60, 3), (5, 64, 64, 1)):
        with pytest.raises(ValueError, match="give uint8"):
            shipped.encode(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=r"1 \+ 4 n frames"):
        ReferenceTokenizer(shipped.codebook, TimeRule(unit=8, head=1))


def test_grids_that_do_not_divide_evenly() -> None:
    latent = np.arange(5 * 7 * 2, dtype=np.float32).reshape(5, 7, 2)
    coarse = downsample(latent, 4)
    assert coarse.shape == (2, 2, 2)
    np.testing.assert_array_equal(coarse[1, 1], np.rint(latent[4:, 4:].mean(axis=(0, 1))))
    assert upsample(coarse, 4, (5, 7)).shape == latent.shape
    np.testing.assert_array_equal(upsample(np.full((2, 2, 2), 7, np.float32), 4, (5, 7)), np.full((5, 7, 2), 7))


def test_fit_is_deterministic_and_the_seed_matters(tmp_path: Path) -> None:
    books = [fit(synthetic_windows(3, 5, 64), SMALL, seed) for seed in (5, 5, 6)]
    assert books[0].sha256 == books[1].sha256 != books[2].sha256
    assert books[0].to_bytes() == books[1].to_bytes()
    again = ResidualCodebook.from_bytes(books[0].to_bytes())
    assert again.sha256 == books[0].sha256
    assert again.reduces == SMALL.reduces


def test_fit_tokenizer_on_files(tmp_path: Path) -> None:
    from PIL import Image

    for i, window in enumerate(synthetic_windows(3, 1, 96)):
        Image.fromarray(window[0]).save(tmp_path / f"{i}.png")
    path = fit_tokenizer(
        str(tmp_path), tmp_path / "out" / "book.npz", config=dataclasses.replace(SMALL, max_windows=30)
    )
    tokenizer = ReferenceTokenizer.load(path)
    assert tokenizer.spec.spec_id != ReferenceTokenizer.load().spec.spec_id
    with pytest.raises(ValueError, match="no videos or images"):
        fit_tokenizer(str(tmp_path / "nothing"), tmp_path / "x.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no videos or images"):
        fit_tokenizer(str(tmp_path / "empty"), tmp_path / "x.npz")
    with pytest.raises(ValueError, match="too few"):
        fit(synthetic_windows(1, 0, 64, 1), FitConfig(), 0)


def test_a_fit_whose_codes_are_long_takes_coarser_units() -> None:
    """A loud square on grey: the codes are as long as the latents, scale after scale."""
    loud = np.full((1, 64, 64, 3), 128, np.uint8)
    loud[:, :32, :32], loud[:, :32, 32:] = np.random.default_rng(0).integers(0, 2, (2, 32, 32, 3), dtype=np.uint8) * 255
    config = dataclasses.replace(SMALL, reduces=(1,) * 6, vocabs=(4, 4, 4, 4, 4, 4), iterations=1)
    book = fit([loud], config)
    book.check()
    bound = latent_bound(book.forward_PC, book.forward_shift)
    assert bound <= LATENT_NORM * 1.01


def test_an_inexact_codebook_is_refused() -> None:
    book = ReferenceTokenizer.load().codebook
    loud = dataclasses.replace(book, codes=(*book.codes[:-1], np.full_like(book.codes[-1], 9000)))
    with pytest.raises(ValueError, match="code search of scale 5 may reach"):
        ResidualCodebook.from_bytes(loud.to_bytes())
    with pytest.raises(ValueError, match="not a codebook"):
        ResidualCodebook.from_bytes(b"PK\x03\x04 nonsense")


def test_kmeans_reuses_dead_codes() -> None:
    rng = np.random.default_rng(0)
    vectors = np.rint(rng.normal(size=(400, 3)) * 20).astype(np.float32)
    vectors[:300] = 0
    codes = kmeans(vectors, 32, 6, np.random.default_rng(1))
    assert len(np.unique(codes, axis=0)) > 20


def test_kmeans_of_fewer_vectors_than_dead_codes() -> None:
    vectors = np.rint(np.random.default_rng(0).normal(size=(5, 3)) * 20).astype(np.float32)
    codes = kmeans(vectors, 64, 3, np.random.default_rng(1))
    assert {tuple(code) for code in codes} == {tuple(vector) for vector in vectors}


def test_squared_error_is_exact() -> None:
    for shape in ((3, 40, 40), (4, 313, 401, 3)):
        a, b = (np.random.default_rng(s).integers(0, 256, shape, dtype=np.uint8) for s in (0, 1))
        assert squared_error(a, b) == int(((a.astype(int) - b) ** 2).sum())
    white = np.full((4, 720, 1280, 3), 255, np.uint8)
    assert squared_error(white, np.zeros_like(white)) == white.size * 255**2


def test_tokens_are_the_same_on_every_machine(shipped: ReferenceTokenizer) -> None:
    """Integers all the way: this digest was made once, and no CPU or BLAS may change it."""
    y, x = np.mgrid[:64, :96]
    frames_THWC = np.stack(
        [np.stack([(3 * x + 2 * y + 5 * t) % 256, (x * y + 7 * t) % 256, (x - y + t) % 256], axis=-1) for t in range(5)]
    ).astype(np.uint8)
    digest = hashlib.sha256(b"".join(ids.astype("<u2").tobytes() for ids in shipped.encode(frames_THWC))).hexdigest()
    assert digest[:16] == GOLDEN


GOLDEN = "05edc19d451ba298"
