# SPDX-License-Identifier: Apache-2.0
"""The reference tokenizer: no network, no download, always works. It is plumbing, not a competitor of trained ones.

Frame 0 of a window stands alone, the others go in fours (1 + 4 n frames). A latent frame is the linear transform of
4 x 8 x 8 patches (principal components of YCbCr patches, the colour transform folded into the matrix; frame 0 is
shown four times). Ids are residual, VAR-style: the latent map is averaged down to a coarse grid, each position takes
its nearest code, the codes are brought up again and subtracted, and so on to the finest grid, which is coded several
times. Latent frames are coded one by one, so a prefix in time decodes, and a still is the first frame of a window.

Exact: all sums are integers below 2**24 in float32 (`reelmill.residual`), so ids are the same on any CPU, BLAS, number
of threads and batch. Source: residual scales after VAR (arXiv 2404.02905); codes by k-means.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from reelmill.residual import (
    FLOAT,
    PATCH_H,
    PATCH_T,
    PATCH_W,
    ResidualCodebook,
    ResidualDecoder,
    downsample,
    upsample,
)
from reelmill.tokens import InputRule, Scale, Stream, TimeRule, TokenizerSpec
from tokenization.contract import squared_error

SHIPPED = Path(__file__).parent / "codebooks" / "reference.npz"
STREAM = "pixel"
MULTIPLE = 16  # sides of its frames
BAND = 4096  # patches transformed at a time
CHUNK = 512  # positions searched at a time: their scores stay in the cache


def codebook_file(path: str | Path | None) -> Path:
    """The codebook to use: null is the shipped one. Raises ValueError if there is no such file."""
    file = SHIPPED if path is None else Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"codebook {file} does not exist; `fit-tokenizer` makes one")
    return file


def reference_spec(codebook: ResidualCodebook, time: TimeRule, sizes: InputRule) -> TokenizerSpec:
    """The spec of a fitted codebook under a window rule and sizes."""
    scales = tuple(
        Scale(reduce=(1, by, by), vocab=len(codes)) for by, codes in zip(codebook.reduces, codebook.codes, strict=True)
    )
    return TokenizerSpec(
        name="reference",
        family="rvq",
        input=sizes,
        time=time,
        streams=(Stream(STREAM, "ids", scales, stride=(PATCH_T, PATCH_H, PATCH_W)),),
        combine="residual_sum",
        combine_rule={"down": "area, rounded", "up": "bilinear, rounded", "phi": None},
        prefix="scale",
        decode={"kind": "linear_residual", "file": "codebook.npz"},
        runtime={"dtype": "integers in float32", "tile": None, "overlap": None, "batch": "one latent frame"},
        weights_sha256=codebook.sha256,
        licence="Apache-2.0",
    )


class ReferenceTokenizer:
    """Encodes and decodes.

    Args:
        codebook: a fitted one.
        time: window rule; unit 4 and head 1 are the tokenizer's own.
    """

    def __init__(self, codebook: ResidualCodebook, time: TimeRule | None = None) -> None:
        time = time or TimeRule(unit=PATCH_T, head=1)
        if (time.unit, time.head) != (PATCH_T, 1):
            raise ValueError(f"the reference tokenizer has 1 + 4 n frames, not {time.head} + {time.unit} n")
        self.codebook = codebook
        self.time = time
        self.decoder = ResidualDecoder(codebook)
        self._forward_PC = codebook.forward_PC.astype(FLOAT)
        self._still_PC = self._forward_PC.reshape(PATCH_T, -1, codebook.num_channels).sum(axis=0)
        self._search = [search_matrix(codes) for codes in self.decoder.codes]

    @staticmethod
    def load(path: str | Path | None = None, time: TimeRule | None = None) -> "ReferenceTokenizer":
        """Reads a codebook file; null is the shipped one."""
        return ReferenceTokenizer(ResidualCodebook.from_bytes(codebook_file(path).read_bytes()), time)

    @cached_property
    def spec(self) -> TokenizerSpec:
        return reference_spec(self.codebook, self.time, InputRule(multiple=MULTIPLE))

    def encode(self, frames_THWC: np.ndarray) -> list[np.ndarray]:
        """Ids of a window.

        Args:
            frames_THWC: uint8 RGB, T = 1 + 4 n, H and W multiples of 16.

        Returns:
            Per scale, coarse to fine, ids uint16 [1 + n, h, w].

        Raises:
            ValueError: another shape or dtype.
        """
        t, h, w, c = frames_THWC.shape
        if frames_THWC.dtype != np.uint8 or c != 3 or (t - 1) % PATCH_T or h % 16 or w % 16:
            raise ValueError(f"frames are {frames_THWC.dtype} {frames_THWC.shape}; give uint8 [1 + 4 n, 16 a, 16 b, 3]")
        groups = [frames_THWC[:1], *(frames_THWC[i : i + PATCH_T] for i in range(1, t, PATCH_T))]
        slices = [self.quantize(self.latent(group_THWC)) for group_THWC in groups]
        return [np.stack(ids) for ids in zip(*slices, strict=True)]

    def decode(
        self, ids: list[np.ndarray], upto_scale: int | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Frames uint8 [T, H, W, 3]; see `ResidualDecoder.decode`."""
        return self.decoder.decode(ids, upto_scale, size)

    def latent(self, group_THWC: np.ndarray) -> np.ndarray:
        """Integer latents float32 [H / 8, W / 8, C] of four frames; of one frame as if it were shown four times."""
        t, height, width, _ = group_THWC.shape
        transform = self._forward_PC if t == PATCH_T else self._still_PC
        h, w = height // PATCH_H, width // PATCH_W
        out_HWC = np.empty((h, w, self.codebook.num_channels), FLOAT)
        step = max(1, BAND // w)
        for top in range(0, h, step):
            band = out_HWC[top : top + step]
            values = patches_of(group_THWC[:, top * PATCH_H : (top + len(band)) * PATCH_H])
            band[...] = (values @ transform).reshape(band.shape)
        out_HWC *= FLOAT(2.0**-self.codebook.forward_shift)
        return np.rint(out_HWC, out=out_HWC)

    def quantize(self, latent_HWC: np.ndarray) -> list[np.ndarray]:
        """Ids uint16 [h, w] of each scale."""
        residual_HWC, size, ids = latent_HWC, latent_HWC.shape[:2], []
        for scale, by in enumerate(self.codebook.reduces):
            coarse = downsample(residual_HWC, by)
            ids.append(nearest(coarse.reshape(-1, coarse.shape[2]), *self._search[scale]).reshape(coarse.shape[:2]))
            residual_HWC = residual_HWC - upsample(self.decoder.codes[scale][ids[-1]], by, size)
        return ids

    def psnr_per_scale(self, frames_THWC: np.ndarray, ids: list[np.ndarray]) -> list[float]:
        """PSNR in dB over all RGB values of the window, decoded up to each scale; at most 99."""
        size = frames_THWC.shape[1] // PATCH_H, frames_THWC.shape[2] // PATCH_W
        errors = np.zeros(len(ids), np.int64)
        for t in range(ids[0].shape[0]):
            group = frames_THWC[:1] if t == 0 else frames_THWC[4 * t - 3 : 4 * t + 1]
            total_HWC = np.zeros((*size, self.codebook.num_channels), FLOAT)
            for scale, by in enumerate(self.codebook.reduces):
                total_HWC += upsample(self.decoder.embed(ids[scale][t], scale), by, size)
                errors[scale] += squared_error(self.decoder.pixels(total_HWC)[: len(group)], group)
        mean = np.maximum(errors / frames_THWC.size, 255.0**2 / 10**9.9)
        return [float(v) for v in 10 * np.log10(255.0**2 / mean)]


def patches_of(frames_THWC: np.ndarray) -> np.ndarray:
    """Patches float32 [rows * columns, T * 192] of T frames, values minus 128."""
    t, height, width, _ = frames_THWC.shape
    h, w = height // PATCH_H, width // PATCH_W
    tiles = frames_THWC.reshape(t, h, PATCH_H, w, PATCH_W, 3).transpose(1, 3, 0, 2, 4, 5)
    centred = np.bitwise_xor(tiles, np.uint8(0x80), order="C").view(np.int8)
    return centred.reshape(h * w, -1).astype(FLOAT)


def nearest(values_NC: np.ndarray, codes_CK: np.ndarray, half_norms_K: np.ndarray) -> np.ndarray:
    """Index uint16 [N] of the nearest code; the lowest of equals. Exact for integer values and codes."""
    out_N = np.empty(len(values_NC), np.uint16)
    scores = np.empty((CHUNK, codes_CK.shape[1]), FLOAT)
    for start in range(0, len(values_NC), CHUNK):
        part = values_NC[start : start + CHUNK]
        here = np.matmul(part, codes_CK, out=scores[: len(part)])
        here -= half_norms_K
        out_N[start : start + CHUNK] = here.argmax(axis=1)
    return out_N


def search_matrix(codes_KC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(codes_KC.T), np.floor((codes_KC**2).sum(axis=1) / 2)
