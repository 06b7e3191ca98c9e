# SPDX-License-Identifier: Apache-2.0
"""Captions that are nearly the same though they are of different sources: a captioner that describes by rote.

A caption is the set of its words and pairs of neighbouring words, kept as the `SIZE` smallest of their hashes; the
share of what two sets have in common (Jaccard) is estimated from those. A caption of fewer than `SIZE` is exact.

Source: bottom-k sketches and their bands: Broder 1997, "On the resemblance and containment of documents".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

SIZE = 96  # of a sketch: the estimate of 0.7 is off by 0.05
BANDS, ROWS = 24, 2  # two captions at 0.65 meet in a band with a probability of 1 - 1e-6
NEIGHBOURS = 8  # of a band that a caption is compared with, so that a thousand equal ones stay cheap
MIN_WORDS = 8  # ours: fewer words are alike by chance ("A man walks.")


def sketch(text: str | None) -> bytes | None:
    """The hashes of a caption, ascending, little-endian uint32; null below `MIN_WORDS` words."""
    from hashlib import blake2b

    words = re.findall(r"\w+", (text or "").lower())
    if len(words) < MIN_WORDS:
        return None
    items = {*words, *(f"{a} {b}" for a, b in pairwise(words))}
    hashes = sorted({int.from_bytes(blake2b(item.encode(), digest_size=4).digest(), "little") for item in items})
    return np.array(hashes[:SIZE], "<u4").tobytes()


def resemblance(first: bytes, second: bytes) -> float:
    """Estimated Jaccard similarity of two sketches, 0-1; exact if both hold their whole sets."""
    a, b = (set(np.frombuffer(one, "<u4").tolist()) for one in (first, second))
    union = a | b
    if max(len(a), len(b)) < SIZE:
        return len(a & b) / len(union)
    smallest = sorted(union)[:SIZE]
    return sum(value in a and value in b for value in smallest) / SIZE


@dataclass(frozen=True)
class Twin:
    """The caption that is most like another one."""

    row: int
    similarity: float


def twins(sketches: Sequence[bytes | None], sources: Sequence[str]) -> list[Twin | None]:
    """For each caption the one most like it of another source, among those that share a band; null: none does."""
    best: list[Twin | None] = [None] * len(sketches)
    rows = [row for row, value in enumerate(sketches) if value is not None]
    keys_BN = _band_keys([sketches[row] or b"" for row in rows])
    compared: set[tuple[int, int]] = set()
    for keys_N in keys_BN:
        order = np.argsort(keys_N, kind="stable")
        edges = np.flatnonzero(np.diff(keys_N[order])) + 1
        for group in np.split(order, edges):
            if len(group) > 1:
                _compare([rows[i] for i in group], sketches, sources, compared, best)
    return best


def _compare(
    group: list[int],
    sketches: Sequence[bytes | None],
    sources: Sequence[str],
    compared: set[tuple[int, int]],
    best: list[Twin | None],
) -> None:
    for place, row in enumerate(group):
        others = (other for other in islice(group, place + 1, None) if sources[other] != sources[row])
        for other in islice(others, NEIGHBOURS):
            if (row, other) in compared:
                continue
            compared.add((row, other))
            first, second = sketches[row], sketches[other]
            assert first is not None
            assert second is not None
            similarity = resemblance(first, second)
            for one, twin in ((row, other), (other, row)):
                known = best[one]
                if known is None or similarity > known.similarity:
                    best[one] = Twin(twin, similarity)


def _band_keys(sketches: Sequence[bytes]) -> np.ndarray:
    """uint64 [BANDS, N]: equal where two captions agree in all rows of a band."""
    rng = np.random.default_rng(0)
    factors = rng.integers(1, 2**32, (BANDS * ROWS, 1), dtype=np.uint64) | np.uint64(1)
    keys_BN = np.empty((BANDS, len(sketches)), np.uint64)
    for column, value in enumerate(sketches):
        hashes = np.frombuffer(value, "<u4").astype(np.uint64)
        least = ((hashes * factors) & np.uint64(0xFFFFFFFF)).min(axis=1).reshape(BANDS, ROWS)
        keys_BN[:, column] = (least[:, 0] << np.uint64(32)) | least[:, 1]
    return keys_BN
