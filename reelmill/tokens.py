# SPDX-License-Identifier: Apache-2.0
"""What a tokenizer is, what its tokens look like in a shard, and how to read them. Needs numpy and pyarrow only.

A `TokenizerSpec` describes any tokenizer as streams of scales. Six payload shapes fit:

    id grid                    one stream of kind `ids`, one scale
    residual scale grids       one stream of kind `ids`, several scales, combine `residual_sum`
    1-D ids with a prefix      kind `ids`, scales of fixed length 1, 1, 2, 4, ..., combine `prefix_1d`
    bit vectors, grouped ids   kind `bits` (packed, first bit in the lowest position), or `ids` with `groups` > 1
    continuous latents         kind `latent`, optionally a second stream with role `logvar`
    per-sample codebook + map  kind `latent` with role `codebook`, and the map as `ids`

A shard row holds one binary column per stream and scale, `tokens_<stream>_s<k>` (`aux_...` for other roles than
tokens), little-endian, C order, and its shape beside it in `grid_<stream>_s<k>` = (t, h, w, values per position).
The file's metadata `reelmill.spec` holds the spec as JSON, so a shard explains itself.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from reelmill.column import Column, arrow_schema
from reelmill.geometry import Fit, InputRule, TimeRule, Window, buckets_of
from reelmill.ids import fingerprint
from reelmill.residual import ResidualDecoder
from reelmill.tables import SHARD_KEYS

__all__ = [
    "InputRule", "Plan", "PlannedBucket", "ResidualDecoder", "Scale", "Stream", "TimeRule", "TokenizerSpec", "pack",
    "payload_columns", "shard_columns", "shard_schema", "spec_of_schema", "unpack",
]

SPEC_KEY = "reelmill.spec"
KINDS = ("ids", "bits", "latent")
ROLES = ("tokens", "logvar", "features", "codebook")
COMBINES = ("single", "residual_sum", "prefix_1d", "groups_concat", "shared_index", "pyramid", "codebook_map")
PREFIXES = ("none", "scale", "token")
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
        _one_of(f"stream {self.name}: kind", self.kind, KINDS)
        _one_of(f"stream {self.name}: role", self.role, ROLES)
        _one_of(f"stream {self.name}: axes", self.axes, ("THWG", "GTHW"))
        needs = {"ids": "vocab", "bits": "bits", "latent": "store_dtype"}[self.kind]
        has_own_vocabs = self.kind == "ids" and all(scale.vocab for scale in self.scales)
        if getattr(self, needs) is None and not has_own_vocabs:
            raise ValueError(f"stream {self.name} of kind {self.kind} needs {needs}")
        if self.kind == "latent":
            _one_of(f"stream {self.name}: store_dtype", str(self.store_dtype), FLOATS)

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

    def shape(self, scale: int, time: TimeRule, frames: int, height_px: int, width_px: int) -> tuple[int, int, int, int]:
        """(t, h, w, values per position) of a window."""
        finest = (time.latent_frames(frames, self.stride[0]), height_px // self.stride[1], width_px // self.stride[2])
        per_group = -(-(self.bits or 0) // 8) if self.kind == "bits" else 1
        return *self.scales[scale].grid(finest, f"{frames}x{height_px}x{width_px}"), self.groups * per_group


@dataclass(frozen=True, slots=True)
class PlannedBucket:
    """One size that a clip's windows are encoded at.

    Args:
        bucket: "TxHxW" of the encoded window.
        fit: how a source frame is brought to the bucket's size.
        shapes: per column, (t, h, w, values per position) of one window.
        num_tokens: positions of one window, over all token streams and scales.
        num_bytes: payload of one window before compression.
        bits_per_pixel: of one window, at log2(vocabulary) bits an id.
    """

    bucket: str
    in_t: int
    in_h: int
    in_w: int
    fit: Fit
    shapes: dict[str, tuple[int, int, int, int]]
    num_tokens: int
    num_bytes: int
    bits_per_pixel: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What encoding a clip will give, known before a frame is decoded.

    Args:
        frames: positions of the encoded frames in the clip, after resampling.
        windows: pieces of `frames`.
        num_tail_unused: entries of `frames` that no window covers.
        effective_fps: of `frames`; null for a still.
    """

    frames: tuple[int, ...]
    windows: tuple[Window, ...]
    num_tail_unused: int
    effective_fps: float | None
    buckets: tuple[PlannedBucket, ...]

    @property
    def num_pixels(self) -> int:
        """Pixels to encode: all windows in all buckets."""
        return len(self.windows) * sum(b.in_t * b.in_h * b.in_w for b in self.buckets)


@dataclass(frozen=True)
class TokenizerSpec:
    """Everything that decides a token, and everything needed to use it.

    Args:
        name, family: of the tokenizer; `family` is informative (vq, rvq, fsq, lfq, bsq, kl, ...).
        input: pixels it eats and how frames are brought to a bucket's size.
        time: legal window lengths, stride, frame policy.
        streams: what it says.
        combine: how scales or groups become the decoder's input; `combine_rule` has the details (down, up, phi).
        prefix: the shortest thing that decodes: `none`, a `scale`, a `token`.
        decode: recipe for the decoder: {"kind": "linear_residual", "file": ...} or the adapter and its arguments.
        runtime: dtype, tile, overlap, batch rule: they change tokens.
        weights_sha256: of the weights or the codebook; null if there are none.
        licence: of the weights.
    """

    name: str
    family: str
    input: InputRule
    time: TimeRule
    streams: tuple[Stream, ...]
    combine: str
    combine_rule: dict[str, Any] = field(default_factory=dict)
    prefix: str = "none"
    decode: dict[str, Any] = field(default_factory=dict)
    runtime: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str | None = None
    code_version: str = "1"
    licence: str = ""

    def __post_init__(self) -> None:
        _one_of("combine", self.combine, COMBINES)
        _one_of("prefix", self.prefix, PREFIXES)
        columns = [c for s in self.streams for c in (s.column(k) for k in range(len(s.scales)))]
        if not columns or len(set(columns)) != len(columns):
            raise ValueError(f"spec {self.name}: streams give no columns or repeat one: {columns}")
        for key in ("combine_rule", "decode", "runtime"):
            object.__setattr__(self, key, json.loads(json.dumps(getattr(self, key), allow_nan=False)))

    def __hash__(self) -> int:
        return hash(self.spec_id)

    @property
    def spec_id(self) -> str:
        """16 hex digits over every field."""
        return fingerprint("tokenizer", self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        return json.loads(self.to_json())

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "TokenizerSpec":
        """Inverse of `to_json`. Raises ValueError on keys that are missing or unknown."""
        raw = json.loads(text)
        try:
            streams = tuple(_stream(s) for s in raw.pop("streams"))
            rules = {"input": InputRule(**_tuples(raw.pop("input"))), "time": TimeRule(**_tuples(raw.pop("time")))}
            return TokenizerSpec(streams=streams, **rules, **raw)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a tokenizer spec: {error}; it starts with {text[:80]!r}") from error

    def columns(self) -> list[tuple[Stream, int]]:
        """(stream, scale) of each payload column, coarse to fine within a stream."""
        return [(stream, k) for stream in self.streams for k in range(len(stream.scales))]

    def plan(self, num_frames: int, height_px: int, width_px: int, fps: float | None) -> Plan:
        """Windows, buckets, grids, counts and bytes of a clip at a constant rate; see `plan_times`."""
        times_s = tuple(i / fps for i in range(num_frames)) if fps else (0.0,)
        return self.plan_times(times_s, height_px, width_px, fps)

    def plan_times(self, times_s: tuple[float, ...], height_px: int, width_px: int, fps: float | None) -> Plan:
        """What encoding a clip will give; exact and without looking at a pixel.

        Args:
            times_s: of the clip's frames, ascending.
            height_px, width_px: of the displayed source frame.
            fps: of the clip; null (or 0) for a still.

        Raises:
            ValueError: the frame is smaller than the tokenizer's multiple in a direction.
        """
        frames = self.time.choose(times_s)
        windows, tail = self.time.windows(len(frames), is_still=not fps)
        fits = buckets_of(height_px, width_px, self.input.heights, self.input.multiple) if windows else ()
        buckets = tuple(self.planned(windows[0].length, fit) for fit in fits)
        return Plan(frames, windows, tail, self.time.effective_fps(fps or None), buckets)

    def planned(self, frames: int, fit: Fit) -> PlannedBucket:
        """Shapes, counts and bytes of one window."""
        height_px, width_px = fit.height_px, fit.width_px
        shapes, num_tokens, num_bytes, num_bits = {}, 0, 0, 0.0
        for stream, k in self.columns():
            shape = stream.shape(k, self.time, frames, height_px, width_px)
            positions = shape[0] * shape[1] * shape[2]
            shapes[stream.column(k)] = shape
            num_bytes += positions * shape[3] * stream.dtype(k).itemsize
            if stream.role == "tokens":
                num_tokens += positions
                num_bits += positions * stream.bits_per_position(k)
        bpp = num_bits / (frames * height_px * width_px)
        name = f"{frames}x{height_px}x{width_px}"
        return PlannedBucket(name, frames, height_px, width_px, fit, shapes, num_tokens, num_bytes, bpp)


def payload_columns(spec: TokenizerSpec) -> tuple[Column, ...]:
    """Columns that the spec adds to a row: payload and grid of each stream and scale."""
    columns = []
    for stream, k in spec.columns():
        name = stream.column(k)
        what = f"{stream.dtype(k).name} little-endian, axes {stream.axes}, stream {stream.name}, scale {k}"
        columns.append(Column(name, pa.large_binary(), f"{stream.kind} as {what}"))
        columns.append(Column(f"grid_{name.split('_', 1)[1]}", pa.list_(pa.int32(), 4),
                              f"positions t, h, w and values per position of {name}"))
    return tuple(columns)


def shard_columns(spec: TokenizerSpec) -> tuple[Column, ...]:
    return (*SHARD_KEYS, *payload_columns(spec))


def shard_schema(spec: TokenizerSpec) -> pa.Schema:
    """Arrow schema of a shard, a function of the spec; its metadata holds the spec."""
    return arrow_schema(shard_columns(spec), {SPEC_KEY: spec.to_json()})


def spec_of_schema(schema: pa.Schema) -> TokenizerSpec:
    """The spec in a shard's metadata. Raises ValueError if there is none."""
    text = (schema.metadata or {}).get(SPEC_KEY.encode())
    if text is None:
        raise ValueError(f"no {SPEC_KEY} in the file's metadata; is it a shard?")
    return TokenizerSpec.from_json(text.decode())


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


def unpack(stream: Stream, scale: int, data: bytes | memoryview, grid: tuple[int, ...] | list[int]) -> np.ndarray:
    """Inverse of `pack`: [t, h, w] or [t, h, w, g] (axes as the stream says); bfloat16 comes back as float32.

    Raises:
        ValueError: the payload's length does not fit the grid.
    """
    values = np.frombuffer(data, stream.dtype(scale))
    if stream.store_dtype == "bfloat16":
        values = (values.astype("<u4") << 16).view("<f4")
    t, h, w, g = grid
    if values.size != t * h * w * g:
        raise ValueError(f"{stream.column(scale)} has {values.size} values, its grid {tuple(grid)} wants {t * h * w * g}")
    shape = (g, t, h, w) if stream.axes == "GTHW" else (t, h, w) if g == 1 else (t, h, w, g)
    return values.reshape(shape)


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}; it must be one of {', '.join(allowed)}")


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    return {k: _tuples(v) for k, v in value.items()} if isinstance(value, dict) else value


def _stream(raw: dict[str, Any]) -> Stream:
    fields = _tuples(raw)
    return Stream(**{**fields, "scales": tuple(Scale(**scale) for scale in fields["scales"])})
