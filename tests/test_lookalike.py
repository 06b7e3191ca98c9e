# SPDX-License-Identifier: Apache-2.0
"""Copies told from other clips of the same scene, on encoded clips; the accuracy is benchmarks/dedup.py --copies."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.ladders import copies as ladder
from operators.likely_copies import MOST_IN_CROWD, Likely, add_near, likely_pairs
from operators.lookalike import Track, copies, likeness_of, track_of
from operators.measure import measure_segment
from operators.meters.video_hash import SIDE, VideoHash, content, sample_of

HEIGHT, WIDTH = 90, 160


def scene(start: tuple[int, int], end: tuple[int, int], num: int = 48, seed: int = 0) -> np.ndarray:
    """A window that moves over a picture of soft blobs: uint8 [T, H, W]."""
    import cv2

    rng = np.random.default_rng(seed)
    noises = [rng.uniform(0, 255, (n, 2 * n)) for n in (4, 8)]
    picture = np.mean([cv2.resize(noise, (400, 200), interpolation=cv2.INTER_CUBIC) for noise in noises], axis=0)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    places = [np.array(start) + (np.array(end) - start) * share for share in np.linspace(0, 1, num)]
    return np.stack([picture[round(y) : round(y) + HEIGHT, round(x) : round(x) + WIDTH] for x, y in places])


def hash_of(path: Path, frames_THW: np.ndarray, encoding: ladder.Encoding = ladder.Encoding()) -> bytes:  # noqa: B008
    ladder.write(path, frames_THW, 24.0, encoding)
    return b"".join(measure_segment(str(path), [VideoHash()])["video_hash_dct"])


@pytest.fixture(scope="module")
def hashes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """An original, its copies, and three clips of the same scene along other paths."""
    path = tmp_path_factory.mktemp("clips") / "a.mp4"
    frames_THW, rng = scene((20, 20), (200, 60)), np.random.default_rng(0)
    found = {"original": hash_of(path, frames_THW)}
    for name, change in (ladder.PROMISED | ladder.MIRRORED).items():
        if "HEVC" not in name and "half" not in name:  # x265 is slow to start; size is in the others
            found[name] = hash_of(path, *change(frames_THW, rng))
    for number, (start, end) in enumerate((((200, 60), (20, 20)), ((20, 60), (200, 20)), ((100, 5), (120, 100)))):
        found[f"other path {number}"] = hash_of(path, scene(start, end))
    return found


def test_all_copies_are_found_and_nothing_else(hashes: dict[str, bytes]) -> None:
    names = list(hashes)
    for mirrored in (False, True):
        pairs = copies(list(hashes.values()), mirrored)
        found = {names[b] if a == 0 else names[a] for a, b in zip(pairs.first, pairs.second, strict=True) if a == 0}
        same = {n for n in names if "other" not in n} - {"original"} - (set() if mirrored else {"mirrored"})
        assert found == same
        assert not {names[i] for i in (*pairs.first, *pairs.second)} & {n for n in names if "other" in n}


def test_the_pose_says_what_was_done(hashes: dict[str, bytes]) -> None:
    original = track_of(hashes["original"])
    faster = likeness_of(original, track_of(hashes["1.1 x speed"]))
    trimmed = likeness_of(original, track_of(hashes["trimmed to 64 %"]))
    assert faster is not None
    assert trimmed is not None
    assert faster.pose[0] == pytest.approx(1.1, abs=0.03)
    assert trimmed.pose[1] == pytest.approx(11 / 24, abs=0.1)
    assert likeness_of(original, original) == likeness_of(original, original)


def test_a_still_clip_is_a_copy_only_of_the_same_picture() -> None:
    pictures = [scene((x, 20), (x, 20), 1)[0] for x in (20, 20, 70)]
    hashes = [b"".join(sample_of(picture, t / 8) for t in range(16)) for picture in pictures]
    pairs = copies(hashes)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0], [1])
    one = [sample_of(picture, 0.0) for picture in pictures]
    assert len(copies([*one, hashes[0]])) == 1  # stills among themselves, never with a clip
    assert len(copies([])) == 0


def test_bars_and_black_frames() -> None:
    levels = np.array([0] * 3 + [90] * 10 + [16] * 5)
    assert content(levels) == slice(3, 13)
    assert content(np.zeros(9)) == slice(0, 9)
    black = Track(np.arange(8) / 8, np.zeros((8, SIDE, SIDE), np.float32))
    found = likeness_of(black, black)
    assert found is None or not found.is_copy


def test_in_a_crowd_each_clip_meets_the_best_and_the_nearest_and_the_work_is_bounded() -> None:
    rng = np.random.default_rng(0)
    vectors = np.full((400, 64), 0.125) + rng.normal(0, 0.002, (400, 64))
    vectors[399] = vectors[200]  # a copy within the crowd
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likely = Likely(400)
    add_near(likely, vectors.astype(np.float32), np.arange(400))
    worse, better = np.divmod(likely.bounded(), 400)
    found = set(zip(better.tolist(), worse.tolist(), strict=True))
    assert {(0, clip) for clip in range(1, 400)} <= found
    assert (200, 399) in found
    assert (better < worse).all()
    assert np.bincount(worse).max() <= 2 * MOST_IN_CROWD
    assert likely_pairs(np.zeros((0, 64), np.float16), np.zeros(0, np.int32), 0).shape == (0, 2)
