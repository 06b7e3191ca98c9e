# SPDX-License-Identifier: Apache-2.0
"""Amount of fine detail, in the measures that the 4K image sets were chosen and judged by."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.levels import black_code, gain
from operators.meters.patches import patches_of
from operators.scores import Score, over
from reelmill.column import Column

ACROSS, DOWN, PATCH_PX = 4, 3, 64
GREY_LEVELS = 64
# (rows down, columns right) -> how many of the 16 (distance 1-4; 0, 45, 90, 135 degrees) fall on it after rounding
_DIAGONAL = {1: 2, 2: 1, 3: 1}
OFFSETS = {
    **{(0, d): 1 for d in (1, 2, 3, 4)},
    **{(d, 0): 1 for d in (1, 2, 3, 4)},
    **{(d, d): n for d, n in _DIAGONAL.items()},
    **{(d, -d): n for d, n in _DIAGONAL.items()},
}
NUM_MATRICES = sum(OFFSETS.values())
RARE = 256  # counts from here on are handled one by one
_COUNT_LOG = np.array([*(n * np.log2(max(n, 1)) for n in range(RARE)), 0.0])
JPEG_QUALITY = 95
_SERIES = pa.list_(pa.float32())


@dataclass(frozen=True, kw_only=True)
class Detail(Meter):
    """Entropy of grey-level co-occurrence, of the histogram, mean gradient and how well patches compress.

    Writes: detail_glcm_entropy, detail_glcm_score, detail_entropy, detail_gradient, detail_jpeg_ratio.
    Source: Diffusion-4K (arXiv 2503.18352) and its evaluation code: 64x64 patches, 64 grey levels, distances 1 to 4,
        angles 0, 45, 90, 135 degrees; raw size over file size. UltraHR-100K ranks by GLCM detail and Shannon entropy.
        Ours: 12 spread patches instead of all, luma instead of RGB's grey, JPEG 95 of the patches' luma. The paper's
        formula is `detail_glcm_entropy`; its code takes the entropy of how often values occur in the 16 matrices, which
        is below 1 and is what its tables print: `detail_glcm_score`.
    """

    name: ClassVar[str] = "detail"
    view: ClassVar[View] = View.LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "detail_glcm_entropy", _SERIES, "entropy of the co-occurrence matrices, bits, mean over patches; null: tiny"
        ),
        Column("detail_glcm_score", _SERIES, "the same as Diffusion-4K's code computes it, bits; null: tiny"),
        Column(
            "detail_entropy", _SERIES, "entropy of the histogram of luma (256 levels) in the patches, bits; null: tiny"
        ),
        Column("detail_gradient", _SERIES, "mean length of the gradient between neighbours, levels of 255; null: tiny"),
        Column("detail_jpeg_ratio", _SERIES, "size of the patches' luma over that of a JPEG of quality 95; null: tiny"),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "detail_glcm_entropy", "median"),
        *over(writes, "detail_glcm_score", "median"),
        *over(writes, "detail_entropy", "median"),
        *over(writes, "detail_gradient", "median"),
        *over(writes, "detail_jpeg_ratio", "median"),
    )
    rate_hz: float | None = 1.0

    def start(self, info: StreamInfo) -> Update:
        scale, black = gain(info), black_code(info)

        def update(view: np.ndarray, seconds: float) -> tuple[float | None, ...]:
            patches = patches_of(view, ACROSS, DOWN, PATCH_PX)
            if patches is None:
                return (None,) * len(self.writes)
            levels = ((patches.astype(np.float32) - black) * scale).clip(0, 255)
            codes = np.rint(levels).astype(np.uint8)
            return *glcm_entropies(codes), histogram_entropy(codes), mean_gradient(levels), jpeg_ratio(codes)

        return update


def glcm_entropies(codes_NHW: np.ndarray) -> tuple[float, float]:
    """(entropy of the matrices, entropy of their values as skimage.measure.shannon_entropy takes it), bits.

    Args:
        codes_NHW: uint8 [N, PATCH_PX, PATCH_PX], full range.
    """
    num = len(codes_NHW)
    grey = (codes_NHW // (256 // GREY_LEVELS)).astype(np.int64)  # bincount takes five times as long on int32
    first = grey * GREY_LEVELS + (np.arange(num) * GREY_LEVELS**2)[:, None, None]
    entropy = 0.0
    values: dict[int, np.ndarray] = {}
    for (down, right), weight in OFFSETS.items():
        a, b = _pairs(first, grey, down, right)
        cells = np.bincount((a + b).ravel(), minlength=num * GREY_LEVELS**2)
        pairs = a[0].size
        how_often = _count_of_counts(cells, num)
        large = cells[cells >= RARE]
        entropy += weight * (np.log2(pairs) - (how_often.sum(0) @ _COUNT_LOG + large @ np.log2(large)) / pairs / num)
        values[pairs] = values.get(pairs, 0) + how_often * weight
    return float(entropy / NUM_MATRICES), _value_entropy(list(values.values()))


def _pairs(a_NHW: np.ndarray, b_NHW: np.ndarray, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = a_NHW.shape[1:]
    lows = slice(0, height - down), slice(down, height)
    wide = slice(0, width - abs(right)), slice(abs(right), width)
    columns = wide if right >= 0 else wide[::-1]
    return a_NHW[:, lows[0], columns[0]], b_NHW[:, lows[1], columns[1]]


def _count_of_counts(cells: np.ndarray, num: int) -> np.ndarray:
    """[num, RARE + 1]: in how many cells of each patch's matrix each count stands; RARE stands for itself and above."""
    taken = np.flatnonzero(cells)  # a tenth of them
    keys = np.minimum(cells[taken], RARE) + taken // GREY_LEVELS**2 * (RARE + 1)
    how_often = np.bincount(keys, minlength=num * (RARE + 1)).reshape(num, RARE + 1)
    how_often[:, 0] = GREY_LEVELS**2 - how_often.sum(axis=1)
    return how_often


def _value_entropy(groups: list[np.ndarray]) -> float:
    """Entropy of the distribution of values. The same count out of another total is another value, but for 0.

    Counts of RARE and above are taken to be all different, which changes the sixth digit.
    """
    total = NUM_MATRICES * GREY_LEVELS**2
    zeros = np.sum([group[:, :1] for group in groups], axis=0)
    shares = np.concatenate([zeros, *(group[:, 1:RARE] for group in groups)], axis=1) / total
    num_rare = np.sum([group[:, RARE] for group in groups], axis=0)
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(1) + num_rare / total * np.log2(total)
    return float(entropy.mean())


def histogram_entropy(codes: np.ndarray) -> float:
    """Shannon entropy of the values of a uint8 array, bits."""
    counts = np.bincount(codes.ravel(), minlength=256)
    shares = counts[counts > 0] / codes.size
    return float(-(shares * np.log2(shares)).sum())


def mean_gradient(levels_NHW: np.ndarray) -> float:
    """Mean over the pixels of the length of (difference to the right, difference down)."""
    right = levels_NHW[:, :-1, 1:] - levels_NHW[:, :-1, :-1]
    down = levels_NHW[:, 1:, :-1] - levels_NHW[:, :-1, :-1]
    return float(np.sqrt(right * right + down * down).mean())


def jpeg_ratio(codes_NHW: np.ndarray) -> float:
    """Bytes of the patches over bytes of one grey JPEG with all of them below each other."""
    import cv2

    column = codes_NHW.reshape(-1, codes_NHW.shape[2])
    done, data = cv2.imencode(".jpg", column, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done
    return column.size / len(data)
