# SPDX-License-Identifier: Apache-2.0
"""Fits the reference tokenizer: principal components, then k-means per residual scale. Deterministic on one machine.

    python -m pipelines fit-tokenizer FOLDER --out codebook.npz      on your own footage
    python -m tokenization.fit tokenization/codebooks/reference.npz  how the shipped codebook was made

The shipped codebook is fitted on made-up footage (`tokenization.synthetic`), so that it is free of anyone's rights.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.residual import (
    FLOAT,
    PATCH_T,
    PATCH_VALUES,
    ResidualCodebook,
    downsample,
    latent_bound,
    upsample,
)
from reelmill.storage import Store, is_s3
from reelmill.views import LATEST
from tokenization.reference import ReferenceTokenizer, nearest, patches_of, search_matrix

YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])  # BT.601
LATENT_NORM = 2400.0  # latents are scaled so that none is longer: what the exact sums allow (reelmill.residual)
SHRINK = (1.0, 0.85, 0.7, 0.5)  # of that, where a fit's codes are long: the first that the exact sums allow is taken
MEDIA = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".png", ".jpg", ".jpeg", ".webp", ".avif")


@dataclass(frozen=True)
class FitConfig:
    """How to fit.

    Args:
        channels: principal components kept.
        reduces: per scale, finest positions per coarse one in rows and columns.
        vocabs: codes per scale.
        iterations: of k-means.
        max_vectors: at most so many vectors per k-means, drawn at random.
        max_windows: windows of 1 + 8 frames used.
        side_px: windows are cut to squares of this side; multiple of 64.
    """

    channels: int = 64
    reduces: tuple[int, ...] = (8, 4, 2, 1, 1, 1)
    vocabs: tuple[int, ...] = (1024, 2048, 2048, 2048, 2048, 2048)
    iterations: int = 12
    max_vectors: int = 400_000
    max_windows: int = 320
    side_px: int = 256


def fit(windows: Iterable[np.ndarray], config: FitConfig, seed: int = 0) -> ResidualCodebook:
    """A codebook from windows of uint8 RGB [1 + 4 n, H, W, 3], H and W multiples of 16.

    Raises:
        ValueError: fewer patches than the finest scale has codes.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    groups = [group for window in windows for group in _groups(window)]
    num = sum(g.shape[1] * g.shape[2] // 64 for g in groups)
    if num < max(config.vocabs):
        raise ValueError(f"{num} patches are too few to fit {max(config.vocabs)} codes; give more or larger footage")
    basis = _components(groups, config)
    encoder = ReferenceTokenizer(ResidualCodebook(*_transform(basis, LATENT_NORM), codes=(), reduces=(), config={}))
    residuals = [encoder.latent(group).astype(np.int16) for group in groups]
    del groups
    codes: list[np.ndarray] = []
    for by, vocab in zip(config.reduces, config.vocabs, strict=True):
        codes.append(_fit_scale(residuals, by, vocab, config, rng))
    return _exact(basis, codes, config.reduces, {**asdict(config), "seed": seed, "num_patches": num})


def _exact(
    basis: np.ndarray, codes: list[np.ndarray], reduces: tuple[int, ...], config: dict[str, Any]
) -> ResidualCodebook:
    """The codebook in the finest units in which all its sums are exact."""
    for shrink in SHRINK:
        scaled = tuple(np.rint(part * shrink).astype(np.int16) for part in codes)
        book = ResidualCodebook(*_transform(basis, LATENT_NORM * shrink), scaled, reduces, config)
        try:
            book.check()
        except ValueError:
            if shrink == SHRINK[-1]:
                raise
            continue
        return book
    raise AssertionError("unreachable")


def fit_tokenizer(source: str, out: str | Path, *, seed: int = 0, config: FitConfig | None = None) -> Path:
    """Fits a codebook and writes it.

    Args:
        source: folder of videos and images, one file, a data set (its kept training clips), or "synthetic".
        out: file to write (.npz).
        seed: of the choice of windows and of k-means.

    Raises:
        ValueError: no readable footage.
    """
    config = config or FitConfig()
    book = fit(_windows(source, config, seed), config, seed)
    path = Path(out).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_bytes(book.to_bytes())
    os.replace(temporary, path)
    return path


def _windows(source: str, config: FitConfig, seed: int) -> Iterator[np.ndarray]:
    if source == "synthetic":
        from tokenization.synthetic import synthetic_windows

        return synthetic_windows(config.max_windows, seed, config.side_px)
    if is_s3(source) or (Path(source).is_dir() and Store(source).exists(LATEST)):
        return _dataset_windows(source, config, seed)
    return _file_windows(source, config, seed)


def _dataset_windows(root: str, config: FitConfig, seed: int) -> Iterator[np.ndarray]:
    from reelmill.clips import ClipDataset
    from reelmill.sampling import Shuffle

    clips = ClipDataset(root, split="train", num_frames=9, shuffle=Shuffle(seed=seed))
    rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
    for _number in range(config.max_windows):
        sample = clips[int(rng.integers(len(clips)))]
        yield _square(sample["frames_THWC"], config.side_px, rng)


def _file_windows(source: str, config: FitConfig, seed: int) -> Iterator[np.ndarray]:
    """Windows of all files, the same number of each, at random places."""
    path = Path(source).expanduser()
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in MEDIA) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ValueError(f"{source}: no videos or images ({', '.join(MEDIA)})")
    per_file = -(-config.max_windows // len(files))
    for number, file in enumerate(files):
        rng = np.random.Generator(np.random.Philox(key=[seed, number]))
        yield from _windows_of(file, per_file, config.side_px, rng)


def _windows_of(file: Path, count: int, side_px: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Squares cut from runs of nine frames; runs are spread over the file. Unreadable files give none."""
    from av.error import FFmpegError

    from reelmill.media import is_image
    from reelmill.spans import MediaError, SpanError, frame_rgb, iter_span, open_media, read_image

    with open(file, "rb") as head:
        still = is_image(head.read(16))
    try:
        if still:
            image = read_image(file)[None]
            yield from (_square(image, side_px, rng) for _ in range(count))
            return
        with open_media(file) as media:
            run: list[np.ndarray] = []
            made = 0
            for frame in iter_span(media, None, None):
                run.append(frame_rgb(frame))
                if len(run) == 9:
                    run_THWC = np.stack(run)
                    run.clear()
                    for _ in range(min(8, count - made)):
                        yield _square(run_THWC, side_px, rng)
                        made += 1
                if made >= count:
                    return
    except (MediaError, SpanError, FFmpegError):
        return  # the files of a folder are the user's mix; a codebook needs no single one of them


def _square(frames_THWC: np.ndarray, side_px: int, rng: np.random.Generator) -> np.ndarray:
    """A random square, smaller where the frame is; at a still, and at fewer than nine frames, frame 0 alone."""
    t, height, width, _ = frames_THWC.shape
    rows, columns = (min(side_px, size // 16 * 16) for size in (height, width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    length = 1 + (t - 1) // PATCH_T * PATCH_T
    return frames_THWC[:length, top : top + rows, left : left + columns]


def _groups(window_THWC: np.ndarray) -> list[np.ndarray]:
    return [window_THWC[:1], *(window_THWC[i : i + PATCH_T] for i in range(1, len(window_THWC), PATCH_T))]


def _components(groups: list[np.ndarray], config: FitConfig) -> np.ndarray:
    """Principal components [values of a YCbCr patch, channels], the strongest first."""
    to_ycc = np.kron(np.eye(PATCH_VALUES // 3), YCBCR.T)
    second = np.zeros((PATCH_VALUES, PATCH_VALUES))
    for group in groups:
        patches = patches_of(group)
        if len(group) == 1:
            patches = np.tile(patches, (1, PATCH_T))
        second += (patches.T @ patches).astype(np.float64)
    values, vectors = np.linalg.eigh(to_ycc.T @ second @ to_ycc)
    basis = vectors[:, np.argsort(-values, kind="stable")[: config.channels]]
    return basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])])


def _transform(basis: np.ndarray, latent_norm: float) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Forward and inverse matrices as integers, with their shifts; no latent is longer than `latent_norm`."""
    to_ycc = np.kron(np.eye(PATCH_VALUES // 3), YCBCR.T)
    forward = to_ycc @ basis
    unit = latent_bound(forward, 0) / latent_norm
    forward /= unit
    inverse = unit * (np.linalg.inv(to_ycc).T @ basis).T
    forward_shift = int(np.floor(np.log2(2**24 / (128 * np.abs(forward).sum(axis=0).max()))))
    forward_shift = min(forward_shift, int(np.log2(32767 / np.abs(forward).max())))
    inverse_shift = min(11, int(np.log2(32767 / np.abs(inverse).max())))
    return (
        np.rint(forward * 2**forward_shift).astype(np.int16),
        np.rint(inverse * 2**inverse_shift).astype(np.int16),
        forward_shift,
        inverse_shift,
    )


def _fit_scale(
    residuals: list[np.ndarray], by: int, vocab: int, config: FitConfig, rng: np.random.Generator
) -> np.ndarray:
    """Codes int16 [vocab, C] of one scale; replaces each residual by what is left of it."""
    coarse = [downsample(r.astype(FLOAT), by) for r in residuals]
    vectors = np.concatenate([c.reshape(-1, c.shape[2]) for c in coarse])
    if len(vectors) > config.max_vectors:
        vectors = vectors[np.sort(rng.choice(len(vectors), config.max_vectors, replace=False))]
    codes = kmeans(vectors, vocab, config.iterations, rng)
    search = search_matrix(codes)
    for i, map_HWC in enumerate(coarse):
        ids = nearest(map_HWC.reshape(-1, map_HWC.shape[2]), *search).reshape(map_HWC.shape[:2])
        up = upsample(codes[ids], by, residuals[i].shape[:2])
        residuals[i] = (residuals[i].astype(FLOAT) - up).astype(np.int16)
    return codes.astype(np.int16)


def kmeans(vectors_NC: np.ndarray, vocab: int, iterations: int, rng: np.random.Generator) -> np.ndarray:
    """Integer centres float32 [vocab, C]; a code that nothing chose moves to one of the worst coded vectors."""
    codes = vectors_NC[np.sort(rng.choice(len(vectors_NC), vocab, replace=len(vectors_NC) < vocab))].copy()
    for _ in range(iterations):
        ids = nearest(vectors_NC, *search_matrix(codes))
        counts = np.bincount(ids, minlength=vocab)
        order = np.argsort(ids, kind="stable")
        used = np.flatnonzero(counts)
        starts = np.concatenate([[0], np.cumsum(counts[used])[:-1]])
        sums = np.add.reduceat(vectors_NC[order].astype(np.float64), starts, axis=0)
        errors = ((vectors_NC - codes[ids]) ** 2).sum(axis=1)
        codes[used] = np.rint(sums / counts[used, None])
        unused = np.flatnonzero(counts == 0)
        worst = np.argsort(-errors, kind="stable")[: 8 * len(unused)]
        codes[unused[: len(worst)]] = vectors_NC[rng.permutation(worst)[: len(unused)]]
    return codes


if __name__ == "__main__":
    print(fit_tokenizer("synthetic", sys.argv[1]))
