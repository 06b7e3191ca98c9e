# SPDX-License-Identifier: Apache-2.0
"""A small finished data set on disk, made by hand: what the report and the demo's comparison read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reelmill import ids
from reelmill.column import arrow_schema
from reelmill.residual import ResidualCodebook
from reelmill.storage import Store
from reelmill.tables import CAPTIONS, CLIPS, SELECTION, SERIES, SHARD_KEYS, SOURCES
from reelmill.tokens import pack, shard_schema
from tests.videos import texture, write_video

NASTY = "<b>\"&'<script>.mp4"  # a file name that must be escaped
FPS, FRAMES, CUT, HEIGHT, WIDTH = 24, 48, 20, 96, 160
TICK = 512  # an mp4 of 24 frames a second counts 1/12288 s
BASE = FPS * TICK
UNIT = "unit-0000.parquet"
RULES = [
    {
        "name": "border",
        "column": "border_luma_min_samples",
        "min": 3.0,
        "max_bad_share": 0.25,
        "gate": "measure",
        "tier": "reject",
        "source": "test",
    },
    {
        "name": "motion",
        "column": "motion_speed_mean",
        "min": 0.05,
        "max": 5.0,
        "gate": "measure",
        "tier": "reject",
        "source": "ours <i>",
    },
    {"name": "size", "column": "long_side_px", "min": 100, "gate": "header", "tier": "reject", "source": "ours"},
]


def _table(
    columns: tuple[Any, ...], rows: list[dict[str, Any]], more: list[tuple[str, pa.DataType]] | None = None
) -> pa.Table:
    schema = arrow_schema(columns)
    for name, dtype in more or []:
        schema = schema.append(pa.field(name, dtype))
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def _source(relpath: str, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "source_id": ids.source_id(relpath, 1, b"", b""),
        "relpath": relpath,
        "uri": str(folder / relpath),
        "size_bytes": 1000,
        "media": "video",
        "container": "mp4",
        "codec": "h264",
        "width_px": WIDTH,
        "height_px": HEIGHT,
        "rotation_deg": 0,
        "fps": float(FPS),
        "is_vfr": False,
        "duration_s": FRAMES / FPS,
        "num_frames": FRAMES,
        "bit_depth": 8,
        "hdr": "sdr",
        "time_base_num": 1,
        "time_base_den": BASE,
        **more,
    }


def _clip(source: dict[str, Any], index: int, start: int, end: int) -> dict[str, Any]:
    return {
        "clip_id": ids.clip_id(source["source_id"], start * TICK, end * TICK, 1, BASE),
        "source_id": source["source_id"],
        "clip_index": index,
        "shot_index": index,
        "start_pts": start * TICK,
        "end_pts": end * TICK,
        "time_base_num": 1,
        "time_base_den": BASE,
        "seek_pts": 0,
        "frame_pts": [t * TICK for t in range(start, end)],
        "num_frames": end - start,
        "start_s": start / FPS,
        "duration_s": (end - start) / FPS,
        "fps": float(FPS),
        "length_class": "short",
        "is_trimmed": False,
        "split": "train",
    }


def _series(source: dict[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    content = rng.uniform(0, 6, FRAMES)
    content[CUT] = 80
    sampled = [t * TICK for t in range(0, FRAMES, 6)]
    return {
        "source_id": source["source_id"],
        "segment_index": 0,
        "backend": "pyav",
        "frame_pts": [t * TICK for t in range(FRAMES)],
        "frame_is_key": [t % 12 == 0 for t in range(FRAMES)],
        "num_corrupt_frames": 0,
        **{f"content_{part}": [None, *content[1:].tolist()] for part in ("hue", "sat", "lum")},
        "motion_pts": sampled,
        "motion_speed": [None, *rng.uniform(0, 1, len(sampled) - 1).tolist()],
        "border_pts": sampled,
        "border_luma_min": rng.uniform(20, 60, len(sampled)).tolist(),
    }


SERIES_MORE = [
    *((f"content_{p}", pa.list_(pa.float32())) for p in ("hue", "sat", "lum")),
    ("motion_pts", pa.list_(pa.int64())),
    ("motion_speed", pa.list_(pa.float32())),
    ("border_pts", pa.list_(pa.int64())),
    ("border_luma_min", pa.list_(pa.float32())),
]


def tiny_codebook() -> ResidualCodebook:
    """Mean colour of a patch, coded twice: coarse over 2 x 2 patches, then the rest."""
    forward = np.zeros((4, 8, 8, 3, 3), np.int16)
    forward[..., [0, 1, 2], [0, 1, 2]] = 16
    inverse = np.zeros((3, 4, 8, 8, 3), np.int16)
    inverse[[0, 1, 2], ..., [0, 1, 2]] = 64
    grid = np.stack(np.meshgrid(*[np.arange(-384, 385, 192)] * 3), -1).reshape(-1, 3).astype(np.int16)
    return ResidualCodebook(
        forward.reshape(768, 3), inverse.reshape(3, 768), 10, 8, (grid, grid // 4), (2, 1), {"made": "by hand"}
    )


def _write_shards(store: Store, rel: str, clip: dict[str, Any], frames_THWC: np.ndarray) -> Any:
    from tokenization.reference import ReferenceTokenizer

    tokenizer = ReferenceTokenizer(tiny_codebook())
    spec, window = tokenizer.spec, frames_THWC[:17]
    row: dict[str, Any] = {
        "clip_id": clip["clip_id"],
        "source_id": clip["source_id"],
        "window_index": 0,
        "bucket": f"17x{HEIGHT}x{WIDTH}",
        "aug_id": "none",
        "frame_pts": clip["frame_pts"][:17],
        "time_base_num": 1,
        "time_base_den": BASE,
        "effective_fps": float(FPS),
        "in_t": 17,
        "in_h": HEIGHT,
        "in_w": WIDTH,
        "crop_box": [0, 0, WIDTH, HEIGHT],
        "source_width_px": WIDTH,
        "source_height_px": HEIGHT,
        "num_tail_frames_unused": 3,
    }
    ids_by_scale = tokenizer.encode(window)
    row["psnr_db"] = tokenizer.psnr_per_scale(window, ids_by_scale)
    stream = spec.streams[0]
    for scale, ids_thw in enumerate(ids_by_scale):
        column = stream.column(scale)
        row[column] = pack(stream, scale, ids_thw)
        row[f"grid_{column.split('_', 1)[1]}"] = [*ids_thw.shape, 1]
    schema = shard_schema(spec)
    assert set(schema.names) >= {c.name for c in SHARD_KEYS}
    store.write_table(f"{rel}/{UNIT}", pa.Table.from_pylist([row], schema=schema))
    store.write_bytes(f"{rel}/spec.json", spec.to_json().encode())
    store.write_bytes(f"{rel}/{spec.decode['file']}", tokenizer.codebook.to_bytes())
    return spec


def write_dataset(root: Path, media: Path) -> dict[str, Any]:
    """Two clips of one video (one kept, one rejected), a failed source, one that a header rule rejects."""
    media.mkdir(parents=True, exist_ok=True)
    frames_THWC = np.concatenate([texture(CUT, HEIGHT, WIDTH, seed=1), texture(FRAMES - CUT, HEIGHT, WIDTH, seed=2)])
    write_video(media / NASTY, frames_THWC, fps=FPS, options={"preset": "ultrafast", "g": "12"})
    store = Store(root)
    good = _source(NASTY, media, title="A <title> & more", tags=["x"])
    small = _source("small.mp4", media, width_px=64, height_px=48)
    broken = {
        "source_id": "f" * 32,
        "relpath": "broken.mp4",
        "size_bytes": 3,
        "error_kind": "bad_input",
        "error": "moov <atom> not found",
    }
    kept, rejected = _clip(good, 0, 0, CUT), _clip(good, 1, CUT, FRAMES)
    reason = {
        "rule": "motion",
        "column": "motion_speed_mean",
        "gate": "measure",
        "value": 0.01,
        "value_text": None,
        "threshold": "0.05 .. 5",
        "unmeasured": False,
    }
    header_reason = {
        **reason,
        "rule": "size",
        "column": "long_side_px",
        "gate": "header",
        "value": 64.0,
        "threshold": ">= 100",
    }
    selection = [
        {
            "clip_id": kept["clip_id"],
            "source_id": good["source_id"],
            "tier": "train",
            "split": "train",
            "decided_gate": "captions",
            "reasons": [],
        },
        {
            "clip_id": rejected["clip_id"],
            "source_id": good["source_id"],
            "tier": "reject",
            "split": "train",
            "decided_gate": "measure",
            "reasons": [reason],
        },
        {
            "clip_id": None,
            "source_id": small["source_id"],
            "tier": "reject",
            "split": "train",
            "decided_gate": "header",
            "reasons": [header_reason],
        },
    ]
    caption = {
        "clip_id": kept["clip_id"],
        "source_id": good["source_id"],
        "Brief Description": "A <texture> that moves.",
        "Camera Movement": "The camera pans.",
        "caption_grounding": "measured",
        "status": "ok",
        "captioner_id": "c",
    }
    scores = pa.table(
        {
            "clip_id": [kept["clip_id"], rejected["clip_id"]],
            "source_id": [good["source_id"]] * 2,
            "motion_speed_mean": [0.4, 0.01],
            "border_luma_min_samples": pa.array([[20.0, 30.0], [1.0, None]], pa.list_(pa.float32())),
            "is_damaged": [False, False],
        }
    )
    spec = _write_shards(store, "shards/s", kept, frames_THWC)
    for rel, table in {
        "sources": _table(SOURCES, [good, small, broken]),
        "series-a": _table(SERIES, [_series(good)], SERIES_MORE),
        "clips-a": _table(CLIPS, [kept, rejected]),
        "scores/measure-a": scores,
        "selection-a": _table(SELECTION, selection),
        "captions/c": _table(CAPTIONS, [caption]),
        "tokens/s": pa.Table.from_pylist(
            [
                {
                    "clip_id": kept["clip_id"],
                    "source_id": good["source_id"],
                    "num_rows": 1,
                    "generation": 0,
                    "error_kind": None,
                    "error": None,
                }
            ]
        ),
    }.items():
        store.write_table(f"{rel}/{UNIT}", table)
    manifest = _manifest(media, spec)
    store.write_bytes("manifest.json", json.dumps(manifest).encode())
    events = [
        {
            "event": "run",
            "argv": ["run"],
            "host": "box",
            "cpus": 2,
            "platform": "Linux",
            "time": "2026-01-01T10:00:00+00:00",
        },
        {
            "event": "stage",
            "stage": "measure",
            "rows": 1,
            "seconds": 2.0,
            "worker_seconds": 2.0,
            "decoded_s": 2.0,
            "bytes": 100,
            "workers": 1,
            "time": "",
        },
        {
            "event": "stage",
            "stage": "tokenize",
            "rows": 1,
            "seconds": 1.0,
            "decoded_s": 0.8,
            "bytes": 5,
            "workers": 1,
            "time": "",
        },
    ]
    store.write_bytes("runs/r.jsonl", "\n".join(map(json.dumps, events)).encode())
    return manifest


def _manifest(media: Path, spec: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "reelmill": "0",
        "input": str(media),
        "recipe_name": "test & more",
        "num_units": 1,
        "view": None,
        "recipe": {"rules": RULES, "clips": {"detector": {"kind": "content", "threshold": 27.0}}},
        "versions": {"av": "1"},
        "specs": {"s": spec.to_dict()},
        "tables": {
            "sources": "sources",
            "series": "series-a",
            "clips": "clips-a",
            "scores": {"measure": "scores/measure-a", "models": None},
            "selection": "selection-a",
            "captions": "captions/c",
            "shards": ["shards/s"],
            "tokens": ["tokens/s"],
        },
        "fingerprints": {},
        "exact": {},
        "counts": {},
        "ignored_files": {"num": 2, "examples": ["notes<1>.txt"]},
    }


def write_empty_dataset(root: Path) -> None:
    """A data set whose input held no media: a manifest and empty tables."""
    store = Store(root)
    store.write_table(f"sources/{UNIT}", _table(SOURCES, []))
    manifest = {
        "format": 1,
        "reelmill": "0",
        "input": "nowhere",
        "recipe_name": "empty",
        "num_units": 1,
        "recipe": {"rules": RULES},
        "versions": {},
        "specs": {},
        "tables": {
            "sources": "sources",
            "series": "series-a",
            "clips": "clips-a",
            "scores": {"measure": "scores/measure-a"},
            "selection": "selection-a",
            "captions": None,
            "shards": [],
            "tokens": [],
        },
    }
    store.write_bytes("manifest.json", json.dumps(manifest).encode())
