# SPDX-License-Identifier: Apache-2.0
"""Video hashes of clips that nobody filmed, by the million, with planted copies: for `benchmarks.dedup --hashes`.

A clip is a window that moves over one photograph, before or behind a window of another, with a soft border between: so
the pictures have the frequencies of photographs, and hardly two are the same. Some clips form crowds, as they do in
large collections: one station ident, coded again and again; plain skies; black.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.ladders.stills import PHOTOS, RENDERED, install_packages, read_still
from operators.meters.video_hash import PICTURE_PX, SAMPLE, SIDE

AT_ONCE = 5000
NUM_SAMPLES, RATE_HZ = 24, 8.0
PLANTED = 0.01  # of the clips are copies of another 1 %
IDENT, SKY, BLACK = 0.01, 0.01, 0.005
NOISE = 0.3  # levels, of the coefficients of a coded picture
WINDOWS = 500  # of each photograph

_DCT = np.cos(np.pi * np.outer(np.arange(SIDE), np.arange(PICTURE_PX) + 0.5) / PICTURE_PX) * np.sqrt(2 / PICTURE_PX)
_DCT[0] /= np.sqrt(2)


@dataclass(frozen=True)
class Batch:
    """Some of the clips.

    Attributes:
        samples_NT: of SAMPLE.
        copies: change -> (rows of originals, rows of their copies).
        crowd_N: name of the crowd that a clip is of, or empty.
    """

    samples_NT: np.ndarray
    copies: dict[str, tuple[np.ndarray, np.ndarray]]
    crowd_N: np.ndarray


def windows(rng: np.random.Generator) -> np.ndarray:
    """float32 [W, 2, 32, 32]: windows of photographs, and each a little further on."""
    import cv2

    install_packages()
    found = []
    for still in (*PHOTOS, *RENDERED):
        luma_HW = cv2.cvtColor(read_still(still), cv2.COLOR_BGR2GRAY)
        for _ in range(WINDOWS):
            size = np.array(luma_HW.shape) * rng.uniform(0.2, 0.6, 2)
            room = np.array(luma_HW.shape) - size
            start = rng.uniform(0, 1, 2) * room
            end = np.clip(start + rng.uniform(-0.4, 0.4, 2) * size, 0, room)
            pair = []
            for top, left in (start, end):
                part = luma_HW[int(top) : int(top + size[0]), int(left) : int(left + size[1])]
                pair.append(cv2.resize(part, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_AREA))
            found.append(np.stack(pair)[:, :: rng.choice([-1, 1]), :: rng.choice([-1, 1])])
    return np.stack(found).astype(np.float32)


def _ends(windows_W2YX: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [N, 2, 32, 32]: the first and the last picture of clips."""
    front, back = (windows_W2YX[rng.integers(0, len(windows_W2YX), num)] for _ in range(2))
    angle, place = rng.uniform(0, 2 * np.pi, (num, 1, 1)), rng.uniform(-0.35, 0.35, (num, 1, 1))
    y, x = np.mgrid[:PICTURE_PX, :PICTURE_PX] / PICTURE_PX - 0.5
    mask = 1 / (1 + np.exp(-20 * (x * np.cos(angle) + y * np.sin(angle) - place)))[:, None]
    ends = mask * front + (1 - mask) * back[:, :1]
    return (ends * rng.uniform(0.6, 1.0, (num, 1, 1, 1))).astype(np.float32)


def _samples(ends_N2YX: np.ndarray, at_T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """SAMPLE [N, T] of clips that go from their first to their last picture, at places `at_T`, 0-1."""
    dct = _DCT @ ends_N2YX @ _DCT.T
    at = at_T[:, None, None]
    moving = dct[:, :1] * (1 - at) + dct[:, 1:] * at
    samples = np.zeros(moving.shape[:2], SAMPLE)
    samples["seconds"] = np.arange(len(at_T)) / RATE_HZ
    samples["dct_YX"] = moving + rng.normal(0, NOISE, moving.shape)
    return samples


def _cropped(ends_N2YX: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    import cv2

    found, kept = np.empty_like(ends_N2YX), 0.95
    for clip, pair in enumerate(ends_N2YX):
        left, top = rng.uniform(0, 1 - kept, 2) * PICTURE_PX
        shift = (kept - 1) / 2  # pixel centres
        matrix = np.array([[kept, 0, left + shift], [0, kept, top + shift]])
        for k in range(2):
            found[clip, k] = cv2.warpAffine(
                pair[k], matrix, pair[k].shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )
    return found


def _with_logo(ends_N2YX: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    found = ends_N2YX.copy()
    rows, columns = round(0.1 * PICTURE_PX), round(0.16 * PICTURE_PX)
    for pair in found:
        top, left = rng.choice([1, PICTURE_PX - rows - 1]), rng.choice([1, PICTURE_PX - columns - 1])
        pair[:, top : top + rows, left : left + columns] = 220
    return found


_WHOLE = np.arange(NUM_SAMPLES) / (NUM_SAMPLES - 1)
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CHANGES: dict[str, tuple[Change | None, np.ndarray]] = {
    "coded again": (None, _WHOLE),
    "cropped to 95 %": (_cropped, _WHOLE),
    "logo": (_with_logo, _WHOLE),
    "1.1 x speed": (None, (_WHOLE * 1.1)[_WHOLE * 1.1 <= 1]),
    "trimmed to 64 %": (None, _WHOLE[5:20] + 0.4 * _WHOLE[1]),
}


def batches(num: int, rng: np.random.Generator) -> Iterator[Batch]:
    """`num` clips (a multiple of AT_ONCE), in random order but for the copies, which come last of each batch."""
    windows_W2YX = windows(rng)
    ident, sky = _ends(windows_W2YX, 1, rng), np.linspace(120, 200, PICTURE_PX, dtype=np.float32)[:, None]
    for start in range(0, num, AT_ONCE):
        ends = _ends(windows_W2YX, AT_ONCE, rng)
        kind = rng.uniform(0, 1, AT_ONCE)
        crowd = np.select([kind < IDENT, kind < IDENT + SKY, kind < IDENT + SKY + BLACK], ["ident", "sky", "black"], "")
        ends[crowd == "ident"] = ident
        ends[crowd == "sky"] = sky * rng.uniform(0.7, 1.2, (int((crowd == "sky").sum()), 1, 1, 1))
        ends[crowd == "black"] = 1
        samples, copies = _samples(ends, _WHOLE, rng), {}
        per_change = int(PLANTED * AT_ONCE) // len(CHANGES)
        originals = np.flatnonzero(crowd[: AT_ONCE // 2] == "")
        for k, (name, (change, at_T)) in enumerate(CHANGES.items()):
            source = originals[k * per_change : (k + 1) * per_change]
            target = AT_ONCE - (k + 1) * per_change + np.arange(per_change)
            changed = change(ends[source], rng) if change else ends[source]
            samples[target] = np.zeros((), SAMPLE)
            samples[target, : len(at_T)] = _samples(changed, at_T, rng)
            samples["seconds"][target, len(at_T) :] = np.nan
            crowd[target] = ""
            copies[name] = (start + source, start + target)
        yield Batch(samples, copies, crowd)
