# SPDX-License-Identifier: Apache-2.0
"""The tokenize operator: kept clips to token rows, one per window, size bucket (or crop) and augmentation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources, RowError
from operators.decode_child import DecodeChild
from operators.text import Text
from reelmill.column import Column, arrow_schema
from reelmill.mirror import FLIP
from reelmill.tables import CLIPS, ERROR, ERROR_KIND, SOURCES
from reelmill.tokens import Plan, PlannedBucket, TokenizerSpec, pack, shard_columns
from tokenization.adapters.reference import Reference
from tokenization.contract import Codec, Tokenizer
from tokenization.crops import Crop
from tokenization.frames import ClipFrames, Cut

PSNR = ("first", "all", "none")
AUGMENTATIONS = ("none", FLIP)

DECODED_S = Column("decoded_s", pa.float64(), "media seconds decoded for the clip; 0 in all rows but its first")


def _named(columns: tuple[Column, ...], *names: str) -> tuple[Column, ...]:
    return tuple(column for column in columns if column.name in names)


EFFECTIVE = (Column("resolution_effective_short_px", pa.float64(), "of the meter `resolution`; null if unknown"),)
TEXT_SEEN = _named(Text.writes, "text_area_share_max")


@dataclass(frozen=True, kw_only=True)
class Tokenize(Operator):
    """Tokens of clips.

    A clip is decoded once, in a child process; each window is scaled from the native frames to every bucket, so a
    bucket's tokens do not depend on which other buckets are asked for. While a window is encoded, the next one is
    decoded; no more are held. A failed clip gives one row with its error.

    Args:
        tokenizer: what encodes (`tokenization.catalog`); its settings are the other keys of the recipe's item.
        psnr: of which windows to record the PSNR per scale: the `first` of each clip and bucket, `all`, `none`.
        min_native_scale: a size is encoded only up to the clip's effective resolution divided by it, so that an
            enlarged picture does not pass for 4K; 0.6 is what docs/resolution.md suggests. Null: up to the frame's own
            size, as where the resolution is unknown. Not part of the spec: clips that have their tokens keep them.
        augs: what is encoded of each window: `none` (as it is), `hflip`. No window is flipped unless the operator
            `text` looked at its clip and saw no text, which would be mirrored.
        memory_limit_gb, time_limit_s: of the decode child: private memory, and seconds per window.

    Raises:
        ValueError: a value that is none of these.
    """

    name: ClassVar[str] = "tokenize"
    expands: ClassVar[bool] = True

    tokenizer: Any = field(default_factory=Reference)
    psnr: str = "first"
    min_native_scale: float | None = None
    augs: tuple[str, ...] = ("none",)
    memory_limit_gb: float = 4.0
    time_limit_s: float = 300.0

    def __post_init__(self) -> None:
        if not isinstance(self.tokenizer, Tokenizer):
            raise ValueError(f"tokenizer is {self.tokenizer!r}; build one by `tokenization.catalog.tokenizer_class`")
        if self.psnr not in PSNR:
            raise ValueError(f"psnr is {self.psnr!r}; it must be one of {', '.join(PSNR)}")
        if self.min_native_scale is not None and not 0 < self.min_native_scale <= 1:
            raise ValueError(f"min_native_scale is {self.min_native_scale}; give a share above 0 and up to 1, or null")
        if not self.augs or set(self.augs) - set(AUGMENTATIONS) or len(set(self.augs)) < len(self.augs):
            raise ValueError(f"augs is {list(self.augs)}; list some of {', '.join(AUGMENTATIONS)}, each once")

    @property
    def reads(self) -> tuple[Column, ...]:  # type: ignore[override]
        return (
            *_named(CLIPS, "clip_id", "source_id", "frame_pts", "seek_pts", "time_base_num", "time_base_den", "fps"),
            *_named(SOURCES, "uri", "media", "width_px", "height_px"),
            *(TEXT_SEEN if FLIP in self.augs else ()),
            *(EFFECTIVE if self.min_native_scale is not None else ()),
        )

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return self.tokenizer.exact

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        return self.tokenizer.resources

    @property
    def spec(self) -> TokenizerSpec:
        return self.tokenizer.spec

    @property
    def writes(self) -> tuple[Column, ...]:
        return (*shard_columns(self.spec), DECODED_S, ERROR_KIND, ERROR)

    def files_to_ship(self) -> dict[str, bytes]:
        """Files that belong beside the shards: what decodes them."""
        return self.tokenizer.files_to_ship()

    def plan(self, row: dict[str, Any]) -> Plan:
        """What a row's clip will give. Raises ValueError if the frame is too small."""
        tick_s = row["time_base_num"] / row["time_base_den"]
        times_s = tuple((pts - row["frame_pts"][0]) * tick_s for pts in row["frame_pts"])
        fps = None if row["media"] == "image" else row["fps"]
        effective_px = row.get(EFFECTIVE[0].name) if self.min_native_scale is not None else None
        most_px = None if effective_px is None else effective_px / (self.min_native_scale or 1.0)
        return self.spec.plan_times(times_s, row["height_px"], row["width_px"], fps, most_px)

    def setup(self) -> "_State":
        return _State(self.tokenizer.load(), DecodeChild(self.memory_limit_gb))

    def close(self, state: "_State") -> None:
        state.child.close()

    def process(self, state: "_State", batch: pa.Table) -> pa.Table:
        """Rows of `writes`: the windows of each clip, in the clips' order."""
        rows = batch.select([column.name for column in self.reads]).to_pylist()
        jobs = [self._job(row) for row in rows]
        found: list[list[dict[str, Any]]] = [[] for _ in rows]
        failed: dict[int, RowError] = {}
        for number, index, cut in state.child.ahead(self._cuts(state.child, jobs)):
            if number in failed:
                continue
            try:
                found[number] += self._window_rows(state.codec, jobs[number], index, cut)
            except RowError as error:
                failed[number] = error
        for number, error in failed.items():
            keys = {"clip_id": rows[number]["clip_id"], "source_id": rows[number]["source_id"]}
            found[number] = [{**keys, "error_kind": error.kind, "error": str(error)}]
        return pa.Table.from_pylist([row for some in found for row in some], schema=arrow_schema(self.writes))

    def _job(self, row: dict[str, Any]) -> "_ClipJob | RowError":
        try:
            return _ClipJob.of(self, row)
        except RowError as error:
            return error

    def _cuts(
        self, child: DecodeChild, jobs: Sequence["_ClipJob | RowError"]
    ) -> Iterator[tuple[int, int, Cut | RowError]]:
        """(job, window, frames or why there are none); the windows of a job end with its error."""
        for number, job in enumerate(jobs):
            if isinstance(job, RowError):
                yield number, 0, job
                continue
            for index in range(len(job.plan.windows)):
                arguments = {"clip": job.frames, "index": index}
                try:
                    cut = child.call("tokenization.frames:next_window", arguments, self.time_limit_s)
                except RowError as error:
                    yield number, index, error
                    break
                yield number, index, cut

    def _window_rows(
        self, codec: Codec, job: "_ClipJob | RowError", index: int, cut: Cut | RowError
    ) -> list[dict[str, Any]]:
        """Raises RowError where there are no frames."""
        if isinstance(cut, RowError):
            raise cut
        assert isinstance(job, _ClipJob)
        rows = []
        for keys, bucket, frames_THWC in job.pieces(index, cut):
            for aug in self._augs(job.row):
                seen = frames_THWC if aug == "none" else np.ascontiguousarray(frames_THWC[:, :, ::-1])
                aug_id = "+".join([part for part in (keys["aug_id"], aug) if part != "none"]) or "none"
                rows.append({**keys, "aug_id": aug_id} | self._payload(codec, index, bucket, seen))
        if index == 0:
            rows[0]["decoded_s"] = job.decoded_s
        return rows

    def _augs(self, row: dict[str, Any]) -> list[str]:
        """A flip only where text was looked for and none was seen."""
        return [aug for aug in self.augs if aug != FLIP or row[TEXT_SEEN[0].name] == 0]

    def _payload(self, codec: Codec, index: int, bucket: PlannedBucket, frames_THWC: np.ndarray) -> dict[str, Any]:
        """Token columns, grids and PSNR of one window."""
        payload = codec.encode(frames_THWC)
        out: dict[str, Any] = {"psnr_db": None}
        for stream, scale in self.spec.columns():
            column = stream.column(scale)
            grid = stream.grid_of(payload[column])
            assert grid == bucket.shapes[column], f"{column}: planned {bucket.shapes[column]}, encoded {grid}"
            out[column] = pack(stream, scale, payload[column])
            out[f"grid_{column.split('_', 1)[1]}"] = list(grid)
        is_wanted = self.psnr == "all" or (self.psnr == "first" and index == 0)
        if is_wanted and self.spec.decode.get("kind") != "identity":
            out["psnr_db"] = codec.psnr_per_scale(frames_THWC, payload)
        return out


@dataclass(frozen=True)
class _State:
    codec: Codec
    child: DecodeChild


@dataclass(frozen=True)
class _ClipJob:
    """A clip's row, its plan, and what the decode child needs."""

    row: dict[str, Any]
    plan: Plan
    pts: tuple[int, ...]
    frames: ClipFrames

    @staticmethod
    def of(operator: Tokenize, row: dict[str, Any]) -> "_ClipJob":
        """Raises RowError if there is nothing to encode."""
        try:
            plan = operator.plan(row)
        except ValueError as error:
            raise RowError("bad_input", str(error)) from error
        if not plan.windows:
            raise RowError("bad_input", f"{len(plan.frames)} frames are fewer than the shortest window")
        pts = tuple(row["frame_pts"][i] for i in plan.frames)
        fits = tuple(bucket.fit for bucket in plan.buckets)
        is_image = row["media"] == "image"
        crops = getattr(operator.tokenizer, "rule", None) if operator.spec.input.is_crops else None
        place = (row["uri"], is_image, pts, row["seek_pts"], plan.windows, fits)
        return _ClipJob(row, plan, pts, ClipFrames(*place, crops=crops, key=row["clip_id"]))

    @property
    def decoded_s(self) -> float:
        """Media seconds from the seek point to the last frame used."""
        if self.frames.is_image:
            return 0.0
        last = self.plan.windows[-1].start + self.plan.windows[-1].length - 1
        first_pts = self.row["seek_pts"] if self.row["seek_pts"] is not None else self.row["frame_pts"][0]
        ticks = self.pts[last] - first_pts
        return ticks * self.row["time_base_num"] / self.row["time_base_den"] + 1 / (self.row["fps"] or 1.0)

    def pieces(self, index: int, cut: Any) -> Iterator[tuple[dict[str, Any], PlannedBucket, np.ndarray]]:
        """(keys, bucket, frames) of each size or crop of a window, as the decode child gave them."""
        rule = self.frames.crops
        if rule is None:
            for bucket, frames_THWC in zip(self.plan.buckets, cut, strict=True):
                yield self.keys(index, bucket), bucket, frames_THWC
            return
        (bucket,) = self.plan.buckets
        for number, (crop, frames_THWC) in enumerate(zip(*cut, strict=True)):
            yield self.keys(index, bucket) | _crop_keys(number, crop, bucket, rule.seed), bucket, frames_THWC

    def keys(self, index: int, bucket: PlannedBucket) -> dict[str, Any]:
        """The columns of SHARD_KEYS but `psnr_db`."""
        window, row = self.plan.windows[index], self.row
        pts = [self.pts[min(i, len(self.pts) - 1)] for i in range(window.start, window.start + window.length)]
        return {
            **{name: row[name] for name in ("clip_id", "source_id", "time_base_num", "time_base_den")},
            "window_index": index,
            "bucket": bucket.bucket,
            "aug_id": "none",
            "frame_pts": pts,
            "effective_fps": self.plan.effective_fps,
            "in_t": bucket.in_t,
            "in_h": bucket.in_h,
            "in_w": bucket.in_w,
            "crop_box": list(bucket.fit.crop_box),
            "source_width_px": row["width_px"],
            "source_height_px": row["height_px"],
            "num_tail_frames_unused": self.plan.num_tail_unused,
            "decoded_s": 0.0,
        }


def _crop_keys(number: int, crop: Crop, bucket: PlannedBucket, seed: int) -> dict[str, Any]:
    return {
        "aug_id": f"crop{number}",
        "crop_box": [crop.left, crop.top, bucket.in_w * crop.scale, bucket.in_h * crop.scale],
        "crop_scale": float(crop.scale),
        "crop_kind": crop.kind,
        "crop_detail": crop.detail,
        "crop_seed": seed,
    }
