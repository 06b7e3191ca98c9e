# SPDX-License-Identifier: Apache-2.0
"""What a tokenizer is, what its tokens look like in a shard, and how to read them. Needs numpy and pyarrow only.

A `TokenizerSpec` describes any tokenizer as streams of scales. Six payload shapes fit:

    id grid                    one stream of kind `ids`, one scale
    residual scale grids       one stream of kind `ids`, several scales, combine `residual_sum`
    1-D ids with a prefix      kind `ids`, scales of fixed length 1, 1, 2, 4, ... (`prefix_scales`), combine `prefix_1d`
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

import pyarrow as pa

from reelmill.buckets import Fit, buckets_of
from reelmill.column import Column, arrow_schema
from reelmill.geometry import InputRule, TimeRule, Window
from reelmill.ids import fingerprint
from reelmill.residual import ResidualDecoder
from reelmill.streams import Scale, Stream, one_of, pack, prefix_scales, unpack
from reelmill.tables import CROP_COLUMNS, SHARD_KEYS

__all__ = [
    "InputRule",
    "Plan",
    "PlannedBucket",
    "ResidualDecoder",
    "Scale",
    "Stream",
    "TimeRule",
    "TokenizerSpec",
    "pack",
    "payload_columns",
    "prefix_scales",
    "shard_columns",
    "shard_schema",
    "spec_of_schema",
    "unpack",
]

SPEC_KEY = "reelmill.spec"
COMBINES = ("single", "residual_sum", "prefix_1d", "groups_concat", "shared_index", "pyramid", "codebook_map")
PREFIXES = ("none", "scale", "token")
RUNTIME = ("dtype", "tile", "overlap", "batch")


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
        rows_per_window: in each bucket: 1, or the number of crops.
    """

    frames: tuple[int, ...]
    windows: tuple[Window, ...]
    num_tail_unused: int
    effective_fps: float | None
    buckets: tuple[PlannedBucket, ...]
    rows_per_window: int = 1

    @property
    def num_pixels(self) -> int:
        """Pixels to encode: all windows in all buckets."""
        return len(self.windows) * self.rows_per_window * sum(b.in_t * b.in_h * b.in_w for b in self.buckets)


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
        runtime: `dtype`, `tile`, `overlap` and `batch` (what one forward pass holds), null where there is none;
            whatever else changes tokens may stand beside them.
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
        one_of("combine", self.combine, COMBINES)
        one_of("prefix", self.prefix, PREFIXES)
        columns = [c for s in self.streams for c in (s.column(k) for k in range(len(s.scales)))]
        if not columns or len(set(columns)) != len(columns):
            raise ValueError(f"spec {self.name}: streams give no columns or repeat one: {columns}")
        missing = [key for key in RUNTIME if key not in self.runtime]
        if missing:
            raise ValueError(
                f"spec {self.name}: runtime does not say {missing[0]!r}, which changes tokens; null if none"
            )
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
        raw = asdict(self)
        if not self.input.areas:  # came later: ids of specs without it stay what they were
            del raw["input"]["areas"]
        return json.dumps(raw, sort_keys=True, allow_nan=False)

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

    def plan_times(
        self,
        times_s: tuple[float, ...],
        height_px: int,
        width_px: int,
        fps: float | None,
        max_short_px: float | None = None,
    ) -> Plan:
        """What encoding a clip will give; exact and without looking at a pixel.

        Args:
            times_s: of the clip's frames, ascending.
            height_px, width_px: of the displayed source frame.
            fps: of the clip; null (or 0) for a still.
            max_short_px: most that the short side of a bucket may have, crops excepted; null: the frame's.

        Raises:
            ValueError: the frame is smaller than the tokenizer's multiple in a direction.
        """
        frames = self.time.choose(times_s)
        windows, tail = self.time.windows(len(frames), is_still=not fps)
        fits = self._fits(height_px, width_px, max_short_px) if windows else ()
        buckets = tuple(self.planned(windows[0].length, fit) for fit in fits)
        rows = int(self.runtime["crops"]["count"]) if self.input.is_crops else 1
        return Plan(frames, windows, tail, self.time.effective_fps(fps or None), buckets, rows)

    def _fits(self, height_px: int, width_px: int, max_short_px: float | None) -> tuple[Fit, ...]:
        if not self.input.is_crops:
            return buckets_of(height_px, width_px, self.input, max_short_px)
        rows, columns = (int(self.runtime["crops"][name]) for name in ("height_px", "width_px"))
        if rows > height_px or columns > width_px:
            raise ValueError(f"frames of {width_px}x{height_px} are smaller than the crops of {columns}x{rows}")
        return (Fit(rows, columns, height_px, width_px, 0, 0, (0, 0, width_px, height_px)),)

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
        columns.append(
            Column(
                f"grid_{name.split('_', 1)[1]}",
                pa.list_(pa.int32(), 4),
                f"positions t, h, w and values per position of {name}",
            )
        )
    return tuple(columns)


def shard_columns(spec: TokenizerSpec) -> tuple[Column, ...]:
    """Columns of a shard: the same keys for every spec, its crops' columns if it has crops, and its payload."""
    return (*SHARD_KEYS, *(CROP_COLUMNS if spec.input.is_crops else ()), *payload_columns(spec))


def shard_schema(spec: TokenizerSpec) -> pa.Schema:
    """Arrow schema of a shard, a function of the spec; its metadata holds the spec."""
    return arrow_schema(shard_columns(spec), {SPEC_KEY: spec.to_json()})


def spec_of_schema(schema: pa.Schema) -> TokenizerSpec:
    """The spec in a shard's metadata. Raises ValueError if there is none."""
    text = (schema.metadata or {}).get(SPEC_KEY.encode())
    if text is None:
        raise ValueError(f"no {SPEC_KEY} in the file's metadata; is it a shard?")
    return TokenizerSpec.from_json(text.decode())


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    return {k: _tuples(v) for k, v in value.items()} if isinstance(value, dict) else value


def _stream(raw: dict[str, Any]) -> Stream:
    fields = _tuples(raw)
    return Stream(**{**fields, "scales": tuple(Scale(**scale) for scale in fields["scales"])})
