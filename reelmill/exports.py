# SPDX-License-Identifier: Apache-2.0
"""Token shards in the formats of others: Hugging Face `datasets`, WebDataset, FastVideo's latent Parquet.

Each writes a folder, one split after the other; a file gets its name when it is whole. Samples come as `ShardDataset`
gives them, in the order of the files; a caption is the one that the first epoch would draw.
"""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.captions import Captions
from reelmill.sampling import Shuffle
from reelmill.shards import ShardDataset
from reelmill.tables import CAPTION_TEXTS, CAPTIONS, CROP_COLUMNS, SHARD_KEYS
from reelmill.tokens import TokenizerSpec
from reelmill.views import View

SPLITS = ("train", "val")
KNOWN_TYPES = {c.name: c.dtype for c in (*SHARD_KEYS, *CROP_COLUMNS, *CAPTIONS)} | {"caption": pa.string()}
TEXT_DIM = 4096  # of UMT5-XXL, Wan's text encoder: an absent embedding still has to say its width


@dataclass(frozen=True)
class Export:
    """What is handed on, and where to.

    Args:
        root: the data set, local or s3://.
        out: folder that does not exist yet, or is empty.
        version: of the view.
        spec: spec id; needed if the view has several.
        captions: which texts.
        file_rows: samples in a file.

    Raises:
        ValueError: `out` holds something, or no such view or spec.
    """

    root: str
    out: Path
    version: str = "latest"
    spec: str | None = None
    captions: Captions = Captions()  # noqa: RUF009 - frozen
    file_rows: int = 256

    def __post_init__(self) -> None:
        if self.file_rows < 1:
            raise ValueError(f"file_rows is {self.file_rows}; it must be at least 1")
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise ValueError(f"{self.out} is there and not an empty folder; name another")

    def samples(self, split: str) -> ShardDataset:
        """The samples of a split, in the order of the files."""
        how: dict[str, Any] = {"captions": self.captions, "shuffle": Shuffle(is_on=False)}
        return ShardDataset(self.root, self.version, spec=self.spec, split=split, **how)

    def files(self, split: str, suffix: str) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        """(path, samples) of each file of a split: `<split>-00000-of-00012<suffix>`."""
        data = self.samples(split)
        num_files = -(-len(data) // self.file_rows)
        rows = (data[i] for i in range(len(data)))
        for number in range(num_files):
            yield (
                self.out / f"{split}-{number:05d}-of-{num_files:05d}{suffix}",
                list(islice(rows, self.file_rows)),
            )


def key_of(sample: Mapping[str, Any]) -> str:
    """A name for the sample, unique in a spec."""
    return "_".join((sample["clip_id"], f"{sample['window_index']:04d}", sample["bucket"], sample["aug_id"]))


def payloads(sample: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Column -> array of each stream and scale."""
    return {name: value for name, value in sample.items() if isinstance(value, np.ndarray)}


# --- Hugging Face datasets ----------------------------------------------------------------------------------------


def export_datasets(export: Export) -> int:
    """Parquet with everything joined, and a card: `datasets.load_dataset(folder)`, or any reader of Parquet.

    Each payload is `<column>_bytes`, `_shape` and `_dtype`: `numpy.frombuffer(bytes, dtype).reshape(shape)`.
    """
    counts: dict[str, int] = {}
    for split in SPLITS:
        for path, samples in export.files(split, ".parquet"):
            _write_table(_typed(pa.Table.from_pylist([_flat(sample) for sample in samples])), path)
            counts[split] = counts.get(split, 0) + len(samples)
    view = View.load(export.root, export.version)
    card = _card(view, view.specs[view.spec_id(export.spec)], counts)
    _write(export.out / "README.md", lambda part: part.write_text(card, encoding="utf-8"))
    return sum(counts.values())


def _typed(table: pa.Table) -> pa.Table:
    """Columns without a value in this file get the type that they have in others."""
    for at, field in enumerate(table.schema):
        if pa.types.is_null(field.type):
            kind = KNOWN_TYPES.get(field.name, pa.float64())  # the rest are measurements
            table = table.set_column(at, pa.field(field.name, kind), table.column(at).cast(kind))
    return table


def _flat(sample: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in _facts(sample).items() if name != "texts"}
    texts = sample["texts"] or {}
    found |= {name: texts.get(name) for name in (*CAPTION_TEXTS, "caption_grounding", "caption_coverage")}
    for name, value in payloads(sample).items():
        found[f"{name}_bytes"], found[f"{name}_shape"] = value.tobytes(), list(value.shape)
        found[f"{name}_dtype"] = value.dtype.name
    return found


def _facts(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Everything JSON-able of a sample, conditions on the same level."""
    plain = {name: value for name, value in sample.items() if name != "cond" and not isinstance(value, np.ndarray)}
    return {"key": key_of(sample), **plain, **sample["cond"], "caption_fields": list(sample["caption_fields"])}


def _card(view: View, spec: TokenizerSpec, counts: Mapping[str, int]) -> str:
    """A data set card: which files are which split, what the tokens are, how to read them."""
    splits = "\n".join(f"  - split: {split}\n    path: {split}-*.parquet" for split in counts)
    columns = "\n".join(
        f"| `{stream.column(k)}` | {stream.kind} | {stream.dtype(k).name} | {stream.vocab_of(k) or ''} |"
        for stream, k in spec.columns()
    )
    rows = ", ".join(f"{count} {split}" for split, count in counts.items()) or "none"
    return f"""---
license: other
tags: [video, tokens]
configs:
- config_name: default
  data_files:
{splits}
---
# {view.data["recipe_name"]}, tokens of {spec.name}

View `{view.version}`, spec `{spec.spec_id}` ({spec.family}), rows: {rows}. Licence of the tokenizer:
{spec.licence or "not stated"}; of the footage: see its sources.

| column | kind | stored as | vocabulary |
|---|---|---|---|
{columns}

Each is three columns, `_bytes`, `_shape` and `_dtype`:
`numpy.frombuffer(row["NAME_bytes"], row["NAME_dtype"]).reshape(row["NAME_shape"])`.

```json
{spec.to_json()}
```
"""


# --- WebDataset ---------------------------------------------------------------------------------------------------


def export_webdataset(export: Export) -> int:
    """Tar files: per sample `<key>.json`, `<key>.txt` (its caption), and a `<key>.<column>.npy` for each payload."""
    num_rows = 0
    for split in SPLITS:
        for path, samples in export.files(split, ".tar"):
            _write(path, lambda part, samples=samples: _write_tar(part, samples))
            num_rows += len(samples)
    return num_rows


def _write_tar(path: Path, samples: Iterable[Mapping[str, Any]]) -> None:
    with tarfile.open(path, "w") as tar:
        for sample in samples:
            facts = _facts(sample)
            members = {"json": json.dumps(facts).encode(), "txt": (facts["caption"] or "").encode()}
            for name, value in payloads(sample).items():
                buffer = io.BytesIO()
                np.save(buffer, value, allow_pickle=False)
                members[f"{name}.npy"] = buffer.getvalue()
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{facts['key']}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


# --- FastVideo ----------------------------------------------------------------------------------------------------

FASTVIDEO = pa.schema(
    [
        ("id", pa.string()),
        *((f"{name}_{part}", kind) for name in ("vae_latent", "text_embedding") for part, kind in
          (("bytes", pa.binary()), ("shape", pa.list_(pa.int64())), ("dtype", pa.string()))),
        ("file_name", pa.string()),
        ("caption", pa.string()),
        ("media_type", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("num_frames", pa.int64()),
        ("duration_sec", pa.float64()),
        ("fps", pa.float64()),
    ]
)  # fmt: skip
"""FastVideo's columns for text to video (fastvideo/dataset/dataloader/schema.py)."""


def export_fastvideo(export: Export) -> int:
    """Latents as FastVideo's trainers read them: [C, T, H, W] float32, which its reader assumes whatever `_dtype` says.

    A row group holds one row, since the reader takes a whole group for a row. `num_frames` counts latent frames, as
    there. Text embeddings are empty, [0, 4096]. `train` only: it reads every Parquet file below the folder.

    Raises:
        ValueError: the spec is not of one latent.
    """
    data = export.samples("train")
    latents = [(stream, k) for stream, k in data.token_columns() if stream.role == "tokens"]
    if len(latents) != 1 or latents[0][0].kind != "latent":
        raise ValueError(f"spec {data.spec_id} ({data.spec.name}) is not one latent, all that FastVideo reads")
    (stream, k), num_rows = latents[0], 0
    for path, samples in export.files("train", ".parquet"):
        rows = [_fastvideo_row(sample, sample[stream.column(k)], stream.axes) for sample in samples]
        _write_table(pa.Table.from_pylist(rows, schema=FASTVIDEO), path, row_group_size=1)
        num_rows += len(rows)
    return num_rows


def _fastvideo_row(sample: Mapping[str, Any], latent: np.ndarray, axes: str) -> dict[str, Any]:
    latent_CTHW = np.ascontiguousarray(latent if axes == "GTHW" else np.moveaxis(latent, -1, 0), np.float32)
    cond = sample["cond"]
    fps = cond["effective_fps"]
    return {
        "id": key_of(sample),
        "vae_latent_bytes": latent_CTHW.tobytes(),
        "vae_latent_shape": list(latent_CTHW.shape),
        "vae_latent_dtype": "float32",
        "text_embedding_bytes": b"",
        "text_embedding_shape": [0, TEXT_DIM],
        "text_embedding_dtype": "float32",
        "file_name": sample["clip_id"],
        "caption": sample["caption"] or "",
        "media_type": "video" if fps else "image",
        "width": cond["in_w"],
        "height": cond["in_h"],
        "num_frames": latent_CTHW.shape[1],
        "duration_sec": cond["in_t"] / fps if fps else 0.0,
        "fps": fps or 0.0,
    }


# --- writing ------------------------------------------------------------------------------------------------------


def _write_table(table: pa.Table, path: Path, row_group_size: int | None = None) -> None:
    how: dict[str, Any] = {"compression": "zstd", "row_group_size": row_group_size}
    _write(path, lambda part: pq.write_table(table, part, **how))


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Under its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


FORMATS: dict[str, Callable[[Export], int]] = {
    "datasets": export_datasets,
    "webdataset": export_webdataset,
    "fastvideo": export_fastvideo,
}
