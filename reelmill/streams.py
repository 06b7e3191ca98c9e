# SPDX-License-Identifier: Apache-2.0
"""Streams of scales: how large their grids are, and how their values become the bytes of a shard's column."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelmill.geometry import TimeRule

KINDS = ("ids", "bits", "latent")
ROLES = ("tokens", "logvar", "features", "codebook")
FLOATS = ("float16", "bfloat16", "float32")

Grid = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Scale:
    """How large one scale's grid is. Exactly one of the three rules is given.

    Args:
        reduce: divides the stream's finest grid (t, h, w), rounding up.
        fixed: the grid itself; (1, 1, n) for n ordered 1-D ids.
        table: pairs (bucket "TxHxW", grid), for tokenizers with a schedule per size.
        vocab: ids of this scale; null: the stream's.
    """

    reduce: Grid | None = None
    fixed: Grid | None = None
    table: tuple[tuple[str, Grid], ...] | None = None
    vocab: int | None = None

    def __post_init__(self) -> None:
        if sum(rule is not None for rule in (self.reduce, self.fixed, self.table)) != 1:
            raise ValueError(f"a scale needs one of reduce, fixed and table, got {self}")

    def grid(self, finest: Grid, bucket: str) -> Grid:
        """Positions (t, h, w). Raises ValueError if a table lacks the bucket."""
        if self.fixed is not None:
            return self.fixed
        if self.reduce is not None:
            t, h, w = (-(-size // by) for size, by in zip(finest, self.reduce, strict=True))
            return t, h, w
        grids = dict(self.table or ())
        if bucket not in grids:
            raise ValueError(f"no grid for bucket {bucket}; the scale's table has {', '.join(grids)}")
        return grids[bucket]


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of tokens or latents.

    Args:
        name: lower-case identifier, part of the column names.
        kind: `ids`, `bits` or `latent`.
        scales: coarse to fine.
        stride: frames, rows and columns of a position of the finest grid.
        role: `tokens`, or what it is beside them: `logvar`, `features` (before the quantizer), `codebook`.
        groups: values per position; the channels of a latent.
        vocab: size of the vocabulary of an id.
        bits: bits per group of kind `bits`; each group fills whole bytes.
        store_dtype: of a latent: float16, bfloat16 or float32.
        axes: order in memory: THWG, or GTHW (channels first, as most latent models read).
        mean, std: per-channel latent statistics, to normalise with; null if unknown or not a latent. Rows per latent
            frame where the model has them per frame.
    """

    name: str
    kind: str
    scales: tuple[Scale, ...]
    stride: Grid = (1, 1, 1)
    role: str = "tokens"
    groups: int = 1
    vocab: int | None = None
    bits: int | None = None
    store_dtype: str | None = None
    axes: str = "THWG"
    mean: tuple[tuple[float, ...], ...] | None = None
    std: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        one_of(f"stream {self.name}: kind", self.kind, KINDS)
        one_of(f"stream {self.name}: role", self.role, ROLES)
        one_of(f"stream {self.name}: axes", self.axes, ("THWG", "GTHW"))
        needs = {"ids": "vocab", "bits": "bits", "latent": "store_dtype"}[self.kind]
        has_own_vocabs = self.kind == "ids" and all(scale.vocab for scale in self.scales)
        if getattr(self, needs) is None and not has_own_vocabs:
            raise ValueError(f"stream {self.name} of kind {self.kind} needs {needs}")
        if self.kind == "latent":
            one_of(f"stream {self.name}: store_dtype", str(self.store_dtype), FLOATS)

    def column(self, scale: int) -> str:
        return f"{'tokens' if self.role == 'tokens' else 'aux'}_{self.name}_s{scale}"

    def vocab_of(self, scale: int) -> int | None:
        return self.scales[scale].vocab or self.vocab

    def dtype(self, scale: int) -> np.dtype[Any]:
        """Little-endian dtype in the shard; bfloat16 is stored as its upper 16 bits."""
        if self.kind == "latent":
            return np.dtype({"float16": "<f2", "bfloat16": "<u2", "float32": "<f4"}[str(self.store_dtype)])
        if self.kind == "bits":
            return np.dtype("u1")
        vocab = self.vocab_of(scale)
        assert vocab is not None
        return np.dtype("u1" if vocab <= 1 << 8 else "<u2" if vocab <= 1 << 16 else "<u4")

    def bits_per_position(self, scale: int) -> float:
        """Information per position if every value were equally likely."""
        if self.kind == "ids":
            return self.groups * float(np.log2(self.vocab_of(scale) or 1))
        if self.kind == "bits":
            return self.groups * float(self.bits or 0)
        return self.groups * 8.0 * self.dtype(scale).itemsize

    def grid_of(self, values: np.ndarray) -> tuple[int, int, int, int]:
        """(t, h, w, values per position) of an array in this stream's axes; a last axis of one value may be missing."""
        shape = values.shape if values.ndim == 4 else (*values.shape, 1)
        g, t, h, w = shape if self.axes == "GTHW" else (shape[3], *shape[:3])
        return t, h, w, g

    def shape(
        self, scale: int, time: TimeRule, frames: int, height_px: int, width_px: int
    ) -> tuple[int, int, int, int]:
        """(t, h, w, values per position) of a window."""
        finest = (time.latent_frames(frames, self.stride[0]), height_px // self.stride[1], width_px // self.stride[2])
        per_group = -(-(self.bits or 0) // 8) if self.kind == "bits" else 1
        return *self.scales[scale].grid(finest, f"{frames}x{height_px}x{width_px}"), self.groups * per_group


def prefix_scales(num: int) -> tuple[Scale, ...]:
    """Columns for `num` ordered 1-D ids of which any prefix decodes: 1, 1, 2, 4, ... ids, the last what is left."""
    starts = [0, *(1 << k for k in range((num - 1).bit_length())), num]
    return tuple(Scale(fixed=(1, 1, end - start)) for start, end in itertools.pairwise(starts))


def pack(stream: Stream, scale: int, values: np.ndarray) -> bytes:
    """The payload of one scale. `bits` are given as packed uint8, bfloat16 as float32 (rounded to nearest even).

    Raises:
        ValueError: an id outside the vocabulary.
    """
    dtype, vocab = stream.dtype(scale), stream.vocab_of(scale)
    if stream.kind == "ids" and values.size and not (int(values.min()) >= 0 and int(values.max()) < (vocab or 0)):
        raise ValueError(f"{stream.column(scale)}: ids {values.min()}..{values.max()} outside 0..{(vocab or 0) - 1}")
    if stream.store_dtype == "bfloat16":
        raw = np.ascontiguousarray(values, "<f4").view("<u4")
        values = (raw + 0x7FFF + ((raw >> 16) & 1)) >> 16
    return np.ascontiguousarray(values, dtype).tobytes()


def unpack(stream: Stream, scale: int, data: Any, grid: Any) -> np.ndarray:
    """Inverse of `pack`: [t, h, w] or [t, h, w, g] (axes as the stream says); bfloat16 comes back as float32.

    Args:
        data: bytes, or anything with a buffer of them.
        grid: t, h, w and values per position.

    Raises:
        ValueError: the payload's length does not fit the grid.
    """
    values = np.frombuffer(data, stream.dtype(scale))
    if stream.store_dtype == "bfloat16":
        values = (values.astype("<u4") << 16).view("<f4")
    t, h, w, g = grid
    if values.size != t * h * w * g:
        wanted = t * h * w * g
        raise ValueError(f"{stream.column(scale)} has {values.size} values, its grid {t, h, w, g} wants {wanted}")
    shape = (g, t, h, w) if stream.axes == "GTHW" else (t, h, w) if g == 1 else (t, h, w, g)
    return values.reshape(shape)


def one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}; it must be one of {', '.join(allowed)}")
