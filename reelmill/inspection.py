# SPDX-License-Identifier: Apache-2.0
"""What `python -m reelmill` does: describe, verify and export a view."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.tables import CAPTION_LABELS, CAPTION_TEXTS
from reelmill.tokens import TokenizerSpec, shard_schema, unpack
from reelmill.views import View, rows_of

META = (
    ("clip_id", pa.string()),
    ("url", pa.string()),
    ("frame_width", pa.int32()),
    ("frame_height", pa.int32()),
    ("fps", pa.float64()),
    ("start_frame", pa.int64()),
    ("end_frame", pa.int64()),
    ("total_frames", pa.int64()),
    ("start_time", pa.float64()),
    ("end_time", pa.float64()),
    ("duration", pa.float64()),
)
"""UltraVideo's released columns that are facts."""
MODEL_SCORES = ("vtss_score", "motion_score", "video_clip_score")
"""Its released scores: Koala-36M's VTSS, mean RAFT flow, VideoCLIP-XL-v2 of clip and summary. Null where the data set
has no column of that name: our other measures of motion have other scales and keep their own names. Our
`video_clip_score` is that of the model that `video_clip_model` names."""


def info_lines(view: View) -> list[str]:
    """The view in words."""
    recipe, units = view.data["recipe_name"], view.data["num_units"]
    lines = [f"{view.store.root}: view {view.version}, recipe {recipe}, {units} unit(s)"]
    for spec_id, spec in view.specs.items():
        counts = view.data["counts"][spec_id]
        lines.append(
            f"spec {spec_id}: {spec.name} ({spec.family}, combine {spec.combine}, decodes by {spec.prefix}, "
            f"licence {spec.licence or 'not stated'})"
        )
        lines.append(f"  {counts['rows']} rows in {counts['files']} files, {counts['bytes'] / 1e6:.1f} MB")
        lines += [f"  bucket {bucket}: {rows} rows" for bucket, rows in sorted(counts["buckets"].items())]
        for stream, k in spec.columns():
            size = f"vocabulary {stream.vocab_of(k)}" if stream.kind == "ids" else f"{stream.groups} values"
            lines.append(f"  {stream.column(k)}: {stream.kind}, {stream.dtype(k).name}, {size}")
    for kind, tables in view.data["tables"].items():
        for table in tables:
            lines.append(f"{kind}: {table['path']}, {sum(f['rows'] for f in table['files'].values())} rows")
    return lines


def verify_view(view: View) -> list[str]:
    """Everything that is not as the view says; empty if all is well."""
    faults = []
    for entry in view.data["shards"]:
        faults += _file_faults(view, entry["path"], entry) or _shard_faults(view, entry)
    for tables in view.data["tables"].values():
        for table in tables:
            for name, facts in table["files"].items():
                faults += _file_faults(view, f"{table['path']}/{name}", facts)
    return faults


def export_rows(view: View, out: Path) -> int:
    """Writes one row per kept clip: UltraVideo's 24 columns, the labels of the caption, then tier, split, all other
    scores and the checks of the caption; returns the count."""
    tables = [_export_unit(view, unit) for unit in view.units("clips")]
    table = pa.concat_tables(tables, promote_options="permissive")
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, out, compression="zstd")
    return table.num_rows


def _file_faults(view: View, path: str, facts: dict[str, Any]) -> list[str]:
    if not view.store.exists(path):
        return [f"{path}: missing"]
    if "sha256" not in facts:  # a table that later runs may add rows to
        rows = view.store.num_rows(path)
        return [] if rows >= facts["rows"] else [f"{path}: {rows} rows, the view knew {facts['rows']}"]
    data = view.store.read_bytes(path)
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        return [f"{path}: the bytes are not those of the view (sha256 differs)"]
    rows = pq.ParquetFile(io.BytesIO(data)).metadata.num_rows
    return [] if rows == facts["rows"] else [f"{path}: {rows} rows, the view says {facts['rows']}"]


def _shard_faults(view: View, entry: dict[str, Any]) -> list[str]:
    spec = view.specs[entry["spec_id"]]
    with view.store.open_parquet(entry["path"]) as file:
        if file.schema_arrow.names != shard_schema(spec).names:
            return [f"{entry['path']}: its columns are not those of spec {entry['spec_id']}"]
        faults = []
        for number, facts in enumerate(entry["row_groups"]):
            group = file.read_row_group(number)
            buckets = set(group.column("bucket").to_pylist())
            if buckets != {facts["bucket"]} or group.num_rows != facts["rows"]:
                faults.append(f"{entry['path']}: row group {number} has buckets {buckets}, {group.num_rows} rows")
            faults += [f"{entry['path']}, row group {number}: {fault}" for fault in _payload_faults(spec, group)]
    return faults


def _payload_faults(spec: TokenizerSpec, group: pa.Table) -> Iterator[str]:
    """Grids against the spec, ids against the vocabulary."""
    sizes = [group.column(name).to_pylist() for name in ("in_t", "in_h", "in_w")]
    for stream, k in spec.columns():
        name = stream.column(k)
        grids = group.column(f"grid_{name.split('_', 1)[1]}").to_pylist()
        rows = zip(group.column(name), grids, zip(*sizes, strict=True), strict=True)
        for row, (value, grid, size) in enumerate(rows):
            planned = stream.shape(k, spec.time, *size)
            if tuple(grid) != planned:
                yield f"{name}, row {row}: grid {tuple(grid)}, the spec gives {planned}"
                continue
            ids = unpack(stream, k, value.as_buffer(), grid)
            if stream.kind == "ids" and int(ids.max()) >= (stream.vocab_of(k) or 0):
                yield f"{name}, row {row}: id {int(ids.max())}, the vocabulary has {stream.vocab_of(k)}"


def _export_unit(view: View, unit: int) -> pa.Table:
    names = ["relpath", "width_px", "height_px", "fps", "num_frames", "start_s", "duration_s", "tier", "split"]
    scores = [name for name in _score_names(view, unit) if name not in names]
    table = view.attributes(unit, [*names, *scores], [("tier", "in", ["train", "condition_only"])])
    columns: dict[str, Any] = _meta(table)
    for name in MODEL_SCORES:
        columns[name] = table.column(name) if name in scores else pa.nulls(table.num_rows, pa.float64())
    texts = _texts(view, unit)
    rows = rows_of(table.column("clip_id"), texts.column("clip_id"))
    for name in texts.column_names[1:]:
        columns[name] = texts.column(name).take(rows)
    ours = (name for name in ("tier", "split", "source_id", *scores) if name not in MODEL_SCORES)
    return pa.table(columns | {name: table.column(name) for name in ours})


def _meta(table: pa.Table) -> dict[str, Any]:
    """UltraVideo's facts. `start_frame` counts at the clip's mean rate, so it is exact for constant frame rates."""
    fps, start, duration = (table.column(name).to_pylist() for name in ("fps", "start_s", "duration_s"))
    total = table.column("num_frames").to_pylist()
    first = [round(s * rate) if rate else 0 for s, rate in zip(start, fps, strict=True)]
    values = {
        "clip_id": table.column("clip_id").to_pylist(),
        "url": table.column("relpath").to_pylist(),
        "frame_width": table.column("width_px").to_pylist(),
        "frame_height": table.column("height_px").to_pylist(),
        "fps": fps,
        "start_frame": first,
        "end_frame": [f + n for f, n in zip(first, total, strict=True)],
        "total_frames": total,
        "start_time": start,
        "end_time": [s + d for s, d in zip(start, duration, strict=True)],
        "duration": duration,
    }
    return {name: pa.array(values[name], dtype) for name, dtype in META}


def _texts(view: View, unit: int) -> pa.Table:
    """Texts and labels of each clip's first span by the view's first captioner."""
    labels = [(column.name, column.dtype) for column in CAPTION_LABELS]
    schema = pa.schema([("clip_id", pa.string()), *((name, pa.string()) for name in CAPTION_TEXTS), *labels])
    paths = view.unit_files("captions", unit)
    if not paths:
        return schema.empty_table()
    return view.store.read_table(paths[0], schema.names).select(schema.names).cast(schema)


def _score_names(view: View, unit: int) -> list[str]:
    """Scalar columns of the score tables and of the captions' checks."""
    names = []
    for path in (*view.unit_files("scores", unit), *view.unit_files("caption_checks", unit)):
        with view.store.open_parquet(path) as file:
            names += [field.name for field in file.schema_arrow if not pa.types.is_nested(field.type)]
    keys = {"clip_id", "source_id", "error_kind", "error", "caption_sketch"}
    return [name for name in dict.fromkeys(names) if name not in keys]
