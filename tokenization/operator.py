# SPDX-License-Identifier: Apache-2.0
"""The tokenize operator: kept clips to token rows, one per window and size bucket."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources, RowError
from operators.decode_child import DecodeChild
from reelmill.column import Column, arrow_schema
from reelmill.residual import ResidualCodebook
from reelmill.tables import CLIPS, ERROR, ERROR_KIND, SOURCES
from reelmill.tokens import Plan, PlannedBucket, TimeRule, TokenizerSpec, pack, shard_columns
from tokenization.frames import ClipFrames
from tokenization.reference import ReferenceTokenizer, codebook_file, reference_spec

TOKENIZERS = ("reference",)
PSNR = ("first", "all", "none")

DECODED_S = Column("decoded_s", pa.float64(), "media seconds decoded for the clip; 0 in all rows but its first")


def _named(columns: tuple[Column, ...], *names: str) -> tuple[Column, ...]:
    return tuple(column for column in columns if column.name in names)


@dataclass(frozen=True, kw_only=True)
class Tokenize(Operator):
    """Tokens of clips.

    A clip is decoded once, in a child process; each window is scaled from the native frames to every bucket, so a
    bucket's tokens do not depend on which other buckets are asked for. One window is held at a time. A failed clip
    gives one row with its error.

    Args:
        tokenizer: `reference` (fitted, weight-free).
        codebook: file made by `fit-tokenizer`; null: the shipped one.
        heights: sizes of the short side to encode at, as in 720p, never above the clip's own; a clip smaller than all
            of them is encoded at the next smaller standard size.
        max_frames: longest window; 1 + 4 n frames are legal for the reference tokenizer.
        stride: frames between the starts of two windows; null: no frame comes twice.
        frame_policy: `native`, or frames per second to resample to by the nearest time stamp.
        psnr: of which windows to record the PSNR per scale: the `first` of each clip and bucket, `all`, `none`.
        memory_limit_gb, time_limit_s: of the decode child: private memory, and seconds per window.

    Raises:
        ValueError: an unknown tokenizer, a codebook that does not exist or is none, an illegal window.
    """

    name: ClassVar[str] = "tokenize"
    reads: ClassVar[tuple[Column, ...]] = (
        *_named(CLIPS, "clip_id", "source_id", "frame_pts", "seek_pts", "time_base_num", "time_base_den", "fps"),
        *_named(SOURCES, "uri", "media", "width_px", "height_px"),
    )
    resources: ClassVar[Resources] = Resources(num_cpus=1.0, memory_gb=3.0)
    exact: ClassVar[bool] = True
    expands: ClassVar[bool] = True

    tokenizer: str = "reference"
    codebook: str | None = None
    heights: tuple[int, ...] = (360, 720)
    max_frames: int = 17
    stride: int | None = None
    frame_policy: str | float = "native"
    psnr: str = "first"
    memory_limit_gb: float = 4.0
    time_limit_s: float = 300.0

    def __post_init__(self) -> None:
        if self.tokenizer not in TOKENIZERS:
            raise ValueError(f"tokenizer is {self.tokenizer!r}; it must be one of {', '.join(TOKENIZERS)}")
        if self.psnr not in PSNR:
            raise ValueError(f"psnr is {self.psnr!r}; it must be one of {', '.join(PSNR)}")
        if not self.heights or min(self.heights) < 16:
            raise ValueError(f"heights is {self.heights}; give sizes of 16 pixels or more")
        codebook_file(self.codebook)
        self._time()

    def _time(self) -> TimeRule:
        policy = self.frame_policy if isinstance(self.frame_policy, str) else float(self.frame_policy)
        return TimeRule(unit=4, head=1, max_frames=self.max_frames, stride=self.stride, frame_policy=policy)

    @cached_property
    def _codebook(self) -> ResidualCodebook:
        return ResidualCodebook.from_bytes(codebook_file(self.codebook).read_bytes())

    @cached_property
    def spec(self) -> TokenizerSpec:
        return reference_spec(self._codebook, self._time(), tuple(self.heights))

    @property
    def writes(self) -> tuple[Column, ...]:
        return (*shard_columns(self.spec), DECODED_S, ERROR_KIND, ERROR)

    def files_to_ship(self) -> dict[str, bytes]:
        """Files that belong beside the shards: what decodes them."""
        return {"codebook.npz": codebook_file(self.codebook).read_bytes()}

    def plan(self, row: dict[str, Any]) -> Plan:
        """What a row's clip will give. Raises ValueError if the frame is too small."""
        tick_s = row["time_base_num"] / row["time_base_den"]
        times_s = tuple((pts - row["frame_pts"][0]) * tick_s for pts in row["frame_pts"])
        fps = None if row["media"] == "image" else row["fps"]
        return self.spec.plan_times(times_s, row["height_px"], row["width_px"], fps)

    def setup(self) -> "_State":
        return _State(ReferenceTokenizer(self._codebook, self._time()), DecodeChild(self.memory_limit_gb))

    def close(self, state: "_State") -> None:
        state.child.close()

    def process(self, state: "_State", batch: pa.Table) -> pa.Table:
        """Rows of `writes`: the windows of each clip, in the clips' order."""
        rows: list[dict[str, Any]] = []
        for row in batch.select([column.name for column in self.reads]).to_pylist():
            try:
                rows += self._clip_rows(state, row)
            except RowError as error:
                keys = {"clip_id": row["clip_id"], "source_id": row["source_id"]}
                rows.append({**keys, "error_kind": error.kind, "error": str(error)})
        return pa.Table.from_pylist(rows, schema=arrow_schema(self.writes))

    def _clip_rows(self, state: "_State", row: dict[str, Any]) -> list[dict[str, Any]]:
        job = _ClipJob.of(self, row)
        rows = []
        for index in range(len(job.plan.windows)):
            arguments = {"clip": job.frames, "index": index}
            sized = state.child.call("tokenization.frames:next_window", arguments, self.time_limit_s)
            for bucket, frames_THWC in zip(job.plan.buckets, sized, strict=True):
                rows.append(job.keys(index, bucket) | self._payload(state.tokenizer, index, bucket, frames_THWC))
        rows[0]["decoded_s"] = job.decoded_s
        return rows

    def _payload(
        self, tokenizer: ReferenceTokenizer, index: int, bucket: PlannedBucket, frames_THWC: np.ndarray
    ) -> dict[str, Any]:
        """Token columns, grids and PSNR of one window."""
        ids = tokenizer.encode(frames_THWC)
        (stream,) = self.spec.streams
        out: dict[str, Any] = {"psnr_db": None}
        for scale, ids_thw in enumerate(ids):
            column = stream.column(scale)
            shape = (*ids_thw.shape, 1)
            assert shape == bucket.shapes[column], f"{column}: planned {bucket.shapes[column]}, encoded {shape}"
            out[column] = pack(stream, scale, ids_thw)
            out[f"grid_{column.split('_', 1)[1]}"] = list(shape)
        if self.psnr == "all" or (self.psnr == "first" and index == 0):
            out["psnr_db"] = tokenizer.psnr_per_scale(frames_THWC, ids)
        return out


@dataclass(frozen=True)
class _State:
    tokenizer: ReferenceTokenizer
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
        return _ClipJob(row, plan, pts, ClipFrames(row["uri"], is_image, pts, row["seek_pts"], plan.windows, fits))

    @property
    def decoded_s(self) -> float:
        """Media seconds from the seek point to the last frame used."""
        if self.frames.is_image:
            return 0.0
        last = self.plan.windows[-1].start + self.plan.windows[-1].length - 1
        first_pts = self.row["seek_pts"] if self.row["seek_pts"] is not None else self.row["frame_pts"][0]
        ticks = self.pts[last] - first_pts
        return ticks * self.row["time_base_num"] / self.row["time_base_den"] + 1 / (self.row["fps"] or 1.0)

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
