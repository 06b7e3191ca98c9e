# SPDX-License-Identifier: Apache-2.0
"""Small data sets with random tokens, for tests of packing and reading; nothing is decoded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.pack import pack_unit
from pipelines.views import write_view
from reelmill.column import arrow_schema
from reelmill.ids import clip_id, split_of
from reelmill.storage import Store
from reelmill.tables import CAPTION_TEXTS, CAPTIONS, CLIPS, SELECTION, SOURCES
from reelmill.tokens import InputRule, Scale, Stream, TimeRule, TokenizerSpec, pack, shard_schema

SPEC = TokenizerSpec(
    name="random",
    family="rvq",
    input=InputRule(multiple=16),
    time=TimeRule(unit=4, head=1, max_frames=5),
    streams=(
        Stream(
            "pixel",
            "ids",
            tuple(Scale(reduce=(1, by, by), vocab=vocab) for by, vocab in ((4, 200), (2, 4000), (1, 4000))),
            stride=(4, 8, 8),
        ),
    ),
    combine="residual_sum",
    prefix="scale",
    runtime={"dtype": "float32", "tile": None, "overlap": None, "batch": "one window"},
)
LATENT = replace(
    SPEC,
    name="latent",
    family="continuous",
    streams=(
        Stream(
            "pixel",
            "latent",
            (Scale(reduce=(1, 1, 1)),),
            stride=(4, 8, 8),
            groups=3,
            store_dtype="bfloat16",
            axes="GTHW",
        ),
    ),
    combine="single",
    prefix="none",
)
SIZES = ((64, 64), (128, 96))


def source_name(unit: int, number: int) -> str:
    return f"{unit * 0x80 + number:02x}".ljust(32, "0")


def token_rows(
    clips: list[dict[str, Any]],
    windows: int = 2,
    sizes: tuple[tuple[int, int], ...] = SIZES,
    spec: TokenizerSpec = SPEC,
) -> pa.Table:
    """Rows as `tokenize` writes them; tokens depend on the clip, the window and the size only."""
    rows = []
    for clip in clips:
        for window in range(windows):
            for height, width in sizes:
                rng = np.random.default_rng([int(clip["clip_id"][:8], 16), window, height])
                row = {
                    **{k: clip[k] for k in ("clip_id", "source_id", "time_base_num", "time_base_den")},
                    "window_index": window,
                    "bucket": f"5x{height}x{width}",
                    "aug_id": "none",
                    "frame_pts": list(range(5 * window, 5 * window + 5)),
                    "effective_fps": 30.0,
                    "in_t": 5,
                    "in_h": height,
                    "in_w": width,
                    "crop_box": [0, 0, width, height],
                    "source_width_px": 200,
                    "source_height_px": 150,
                    "num_tail_frames_unused": 0,
                    "psnr_db": [20.0, 25.0, 30.0] if window == 0 else None,
                }
                for stream, k in spec.columns():
                    shape = stream.shape(k, spec.time, 5, height, width)
                    row[stream.column(k)] = pack(stream, k, _random(stream, k, shape, rng))
                    row[f"grid_pixel_s{k}"] = list(shape)
                rows.append(row)
    return pa.Table.from_pylist(rows, schema=shard_schema(spec))


def _random(stream: Stream, k: int, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if stream.kind == "latent":
        return rng.normal(size=(shape[3], *shape[:3])).astype(np.float32)
    return rng.integers(0, stream.vocab_of(k) or 0, shape[:3])


def clip_rows(unit: int, sources: int, clips: int) -> list[dict[str, Any]]:
    rows = []
    for s in range(sources):
        source = source_name(unit, s)
        for c in range(clips):
            rows.append(
                {
                    "clip_id": clip_id(source, 10 * c, 10 * c + 10, 1, 30),
                    "source_id": source,
                    "clip_index": c,
                    "shot_index": c,
                    "start_pts": 0,
                    "end_pts": 10,
                    "time_base_num": 1,
                    "time_base_den": 30,
                    "seek_pts": 0,
                    "frame_pts": list(range(10)),
                    "num_frames": 10,
                    "start_s": c / 3,
                    "duration_s": 1 / 3,
                    "fps": 30.0,
                    "length_class": "short",
                    "is_trimmed": False,
                    "split": split_of(source, 0.2),
                }
            )
    return rows


def selection_rows(clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every fifth clip is condition_only, every seventh rejected; one source was rejected before it was decoded."""
    rows: list[dict[str, Any]] = [
        {
            "clip_id": None,
            "source_id": "f" * 32,
            "tier": "reject",
            "split": "train",
            "decided_gate": "header",
            "reasons": [],
        }
    ]
    for i, clip in enumerate(clips):
        tier = "reject" if i % 7 == 6 else "condition_only" if i % 5 == 4 else "train"
        rows.append(
            {
                "clip_id": clip["clip_id"],
                "source_id": clip["source_id"],
                "tier": tier,
                "split": clip["split"],
                "decided_gate": "captions",
                "reasons": [],
            }
        )
    return rows


def score_table(clips: list[dict[str, Any]]) -> pa.Table:
    return pa.table(
        {
            "clip_id": [clip["clip_id"] for clip in clips],
            "source_id": [clip["source_id"] for clip in clips],
            "motion_speed": pa.array([i / len(clips) for i in range(len(clips))], pa.float32()),
            "topic": ["nature" if i % 3 else "city" for i in range(len(clips))],
            "video_clip_score": pa.array([0.25] * len(clips), pa.float64()),
        }
    )


def caption_rows(clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for the whole clip and one for its second half."""
    rows = []
    for clip in clips:
        for start, end, text in ((0, 10, "whole"), (5, 10, "second half")):
            texts = {name: f"{text} of {clip['clip_id']}" for name in CAPTION_TEXTS}
            rows.append(
                {
                    "clip_id": clip["clip_id"],
                    "source_id": clip["source_id"],
                    "span_start_pts": start,
                    "span_end_pts": end,
                    **texts,
                    "caption_grounding": "measured",
                    "evidence": [],
                    "shot_scale": "wide",
                    "camera_movements": ["pan_left", "zoom_in"],
                    "status": "ok",
                    "captioner_id": "c0",
                }
            )
    return rows


def write_set(
    root: Path,
    *,
    units: int = 2,
    sources: int = 4,
    clips: int = 3,
    group_bytes: int = 4000,
    max_mb: float = 0.03,
    spec: TokenizerSpec = SPEC,
    tokens: Callable[[list[dict[str, Any]]], pa.Table] = token_rows,
) -> dict[str, Any]:
    """Writes a data set and its view; returns the manifest. `tokens` makes the rows of `spec` from those of clips."""
    store = Store(root)
    for unit in range(units):
        rows = clip_rows(unit, sources, clips)
        name = f"unit-{unit:04d}.parquet"
        facts = {"width_px": 200, "height_px": 150, "media": "video"}
        source_rows = [{"source_id": s, "relpath": f"{s}.mp4", **facts} for s in sorted({r["source_id"] for r in rows})]
        for table, columns, content in (
            ("clips-aa", CLIPS, rows),
            ("selection-bb", SELECTION, selection_rows(rows)),
            ("sources", SOURCES, source_rows),
            ("captions/c0", CAPTIONS, caption_rows(rows)),
        ):
            store.write_table(f"{table}/{name}", pa.Table.from_pylist(content, schema=arrow_schema(columns)))
        store.write_table(f"scores/measure-cc/{name}", score_table(rows))
        for file, data in pack_unit(tokens(rows), spec, unit=unit, max_mb=max_mb, group_bytes=group_bytes):
            store.write_bytes(f"shards/{spec.spec_id}/{file}", data)
    manifest = {
        "recipe_name": "test",
        "num_units": units,
        "specs": {spec.spec_id: spec.to_dict()},
        "tables": {
            "sources": "sources",
            "clips": "clips-aa",
            "selection": "selection-bb",
            "captions": "captions/c0",
            "scores": {"measure": "scores/measure-cc", "models": None},
            "shards": [f"shards/{spec.spec_id}"],
        },
    }
    write_view(store, manifest)
    return manifest
