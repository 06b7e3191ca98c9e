# SPDX-License-Identifier: Apache-2.0
"""Numpy decoder of linear residual tokenizers: ids of each scale to latents to pixels, exactly.

Every number is an integer (or a dyadic fraction) below 2**24 held in float32, so each product and each sum is exact in
any order: the result is the same on every machine, BLAS build and number of threads. `ResidualCodebook.check`
proves the bound for a codebook; see `tokenization.reference` for the encoder.

Shapes: ids_thw; latents_THWC with C latent channels on the finest grid; frames_THWC uint8 RGB.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

BAND = 512  # patches made at a time: their values stay in the cache
EXACT = float(1 << 24)  # float32 holds every integer up to here
PATCH_T, PATCH_H, PATCH_W = 4, 8, 8
PATCH_VALUES = PATCH_T * PATCH_H * PATCH_W * 3
FLOAT = np.float32


@dataclass(frozen=True, eq=False)
class ResidualCodebook:
    """A fitted linear residual tokenizer.

    Args:
        forward_PC: int16 [768, C], patch (t, y, x, rgb; minus 128) to latent, times 2**forward_shift.
        inverse_CP: int16 [C, 768], latent to patch, times 2**inverse_shift.
        codes: per scale int16 [K, C], coarse to fine.
        reduces: per scale, how many finest positions in rows and columns one of its positions covers.
        config: how it was fitted; informative.
    """

    forward_PC: np.ndarray
    inverse_CP: np.ndarray
    forward_shift: int
    inverse_shift: int
    codes: tuple[np.ndarray, ...]
    reduces: tuple[int, ...]
    config: dict[str, Any]

    @cached_property
    def sha256(self) -> str:
        """Over the arrays' contents, whatever the file's compression."""
        hasher = hashlib.sha256(json.dumps([self.forward_shift, self.inverse_shift, self.reduces]).encode())
        for array in (self.forward_PC, self.inverse_CP, *self.codes):
            hasher.update(f"{array.shape}".encode())
            hasher.update(np.ascontiguousarray(array, "<i2").tobytes())
        return hasher.hexdigest()

    @property
    def num_channels(self) -> int:
        return self.forward_PC.shape[1]

    def check(self) -> None:
        """Raises ValueError where a sum could leave the integers that float32 holds exactly."""
        columns = np.abs(self.forward_PC.astype(np.int64))
        sums = {"the forward transform": 128.0 * float(columns.sum(axis=0).max())}
        rounding = 0.5 * self.num_channels**0.5
        residual = latent_bound(self.forward_PC, self.forward_shift) + rounding
        norms = [float(np.sqrt((c.astype(np.float64) ** 2).sum(axis=1)).max()) for c in self.codes]
        for k, norm in enumerate(norms):
            sums[f"the code search of scale {k}"] = residual * norm + norm**2 / 2 + 1
            residual += norm + rounding
        rows = np.sqrt((self.inverse_CP.astype(np.float64) ** 2).sum(axis=0)).max()
        sums["the inverse transform"] = sum(norms) * float(rows)
        sums["the interpolation"] = max(norms) * 4.0 * max(self.reduces) ** 2
        for where, bound in sums.items():
            if bound >= EXACT:
                raise ValueError(f"codebook is not exact: {where} may reach {bound:.3g}, the limit is {EXACT:.3g}")

    def to_bytes(self) -> bytes:
        """An .npz file, compressed, without pickles."""
        sink = io.BytesIO()
        meta = {
            "forward_shift": self.forward_shift,
            "inverse_shift": self.inverse_shift,
            "reduces": list(self.reduces),
            "config": self.config,
        }
        np.savez_compressed(
            sink,
            allow_pickle=False,
            forward_PC=self.forward_PC,
            inverse_CP=self.inverse_CP,
            meta=np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8),
            **{f"codes_{k}": codes for k, codes in enumerate(self.codes)},
        )
        return sink.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "ResidualCodebook":
        """Raises ValueError if the file is not a codebook or not exact."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                meta = json.loads(arrays["meta"].tobytes())
                codes = tuple(arrays[f"codes_{k}"] for k in range(len(meta["reduces"])))
                book = ResidualCodebook(
                    arrays["forward_PC"],
                    arrays["inverse_CP"],
                    meta["forward_shift"],
                    meta["inverse_shift"],
                    codes,
                    tuple(meta["reduces"]),
                    meta["config"],
                )
        except (KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"not a codebook of a linear residual tokenizer: {error!r}") from error
        book.check()
        return book


class ResidualDecoder:
    """Ids back to pixels.

    Args:
        codebook: as shipped beside the shards.
    """

    def __init__(self, codebook: ResidualCodebook) -> None:
        self.codebook = codebook
        self.codes = [codes.astype(FLOAT) for codes in codebook.codes]
        self._inverse_CP = codebook.inverse_CP.astype(FLOAT)

    def embed(self, ids_thw: np.ndarray, scale: int) -> np.ndarray:
        """Code vectors float32 [t, h, w, C] of one scale's ids."""
        return self.codes[scale][ids_thw]

    def accumulate(
        self, ids: Sequence[np.ndarray], upto_scale: int | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Sum of the scales' codes on the finest grid: the decoder's input, float32 [T, H, W, C].

        Args:
            ids: ids_thw per scale, coarse to fine; finer ones may be missing.
            upto_scale: last scale to add; null: all given.
            size: rows and columns of the finest grid; needed where no given scale is the finest.
        """
        ids = ids[: None if upto_scale is None else upto_scale + 1]
        reduces = self.codebook.reduces[: len(ids)]
        if size is None:
            coarse, by = ids[-1].shape, reduces[-1]
            size = coarse[1] * by, coarse[2] * by
        return np.stack([self._accumulate_slice([i[t] for i in ids], size) for t in range(ids[0].shape[0])])

    def decode(
        self, ids: Sequence[np.ndarray], upto_scale: int | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Frames uint8 [1 + 4 n, 8 H, 8 W, 3] of ids over 1 + n latent frames. Arguments as in `accumulate`."""
        latents_THWC = self.accumulate(ids, upto_scale, size)
        slices = [self.pixels(latent_HWC) for latent_HWC in latents_THWC]
        return np.concatenate([slices[0][:1], *slices[1:]])

    def pixels(self, latent_HWC: np.ndarray) -> np.ndarray:
        """Four frames uint8 [4, 8 H, 8 W, 3] of one latent frame. The head frame is the first of them."""
        h, w, c = latent_HWC.shape
        out_THWC = np.empty((PATCH_T, h * PATCH_H, w * PATCH_W, 3), np.uint8)
        step = max(1, BAND // w)
        for top in range(0, h, step):
            band = latent_HWC[top : top + step]
            values = band.reshape(-1, c) @ self._inverse_CP
            values *= FLOAT(2.0**-self.codebook.inverse_shift)
            values += FLOAT(128)
            np.clip(np.rint(values, out=values), 0, 255, out=values)
            rows = band.shape[0]
            patches = values.astype(np.uint8).reshape(rows, w, PATCH_T, PATCH_H, PATCH_W, 3)
            here = out_THWC[:, top * PATCH_H : (top + rows) * PATCH_H]
            here[...] = patches.transpose(2, 0, 3, 1, 4, 5).reshape(here.shape)
        return out_THWC

    def _accumulate_slice(self, ids_hw: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
        total_HWC = np.zeros((*size, self.codebook.num_channels), FLOAT)
        for scale, ids in enumerate(ids_hw):
            total_HWC += upsample(self.codes[scale][ids], self.codebook.reduces[scale], size)
        return total_HWC


def latent_bound(forward_PC: np.ndarray, shift: int) -> float:
    """Upper bound of a latent's norm: pixels lie within 128 of the middle."""
    norm = np.linalg.norm(forward_PC.astype(np.float64), 2)
    return float(norm) * 128.0 * PATCH_VALUES**0.5 / 2**shift


def upsample(codes_hwC: np.ndarray, by: int, size: tuple[int, int]) -> np.ndarray:
    """Bilinear by a whole factor, rounded to integers and cut to `size`: [h, w, C] to [H, W, C]."""
    if by == 1:
        return codes_hwC
    h, w, c = codes_hwC.shape
    tall = _weights(h, by, size[0]) @ codes_hwC.reshape(h, w * c)
    wide = _weights(w, by, size[1]) @ tall.reshape(size[0], w, c)
    return np.rint(wide, out=wide)


def downsample(latent_HWC: np.ndarray, by: int) -> np.ndarray:
    """Mean over squares of `by` positions, the last ones cut off by the edge, rounded to integers: [h, w, C]."""
    if by == 1:
        return latent_HWC
    rows, columns = (np.arange(0, size, by) for size in latent_HWC.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(latent_HWC, rows, axis=0), columns, axis=1)
    heights, widths = (
        np.minimum(edges + by, size) - edges
        for edges, size in ((rows, latent_HWC.shape[0]), (columns, latent_HWC.shape[1]))
    )
    return np.rint(sums / (heights[:, None, None] * widths[:, None]).astype(FLOAT))


def _weights(coarse: int, by: int, fine: int) -> np.ndarray:
    """Bilinear weights [fine, coarse], pixel centres aligned, edges repeated; multiples of 1 / (2 by)."""
    centre = (np.arange(fine) + 0.5) / by - 0.5
    low = np.floor(centre).astype(int)
    share = (centre - low).astype(FLOAT)
    weights = np.zeros((fine, coarse), FLOAT)
    for index, weight in ((low, 1 - share), (low + 1, share)):
        np.add.at(weights, (np.arange(fine), np.clip(index, 0, coarse - 1)), weight)
    return weights
