# SPDX-License-Identifier: Apache-2.0
"""What `export` writes is what the reader gives, read back by the libraries that it is written for."""

import gc
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from reelmill.__main__ import main
from reelmill.captions import Captions
from reelmill.exports import FASTVIDEO, key_of, payloads
from reelmill.shards import ShardDataset
from reelmill.tables import CAPTION_TEXTS
from tests.token_sets import LATENT, token_rows, write_set

MEASURED = Captions(grounding=("measured",))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("set")
    write_set(root)
    return str(root)


def export(root: str, out: Path, form: str, *options: str) -> int:
    return main(["export", root, str(out), "--format", form, "--rows", "7", *options])


def samples(root: str) -> dict[str, dict[str, Any]]:
    found = [s for split in ("train", "val") for s in ShardDataset(root, split=split, captions=MEASURED)]
    return {key_of(sample): sample for sample in found}


def test_datasets_loads_the_folder(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import datasets

    assert export(root, tmp_path / "hf", "datasets", "--grounding", "measured") == 0
    wanted = samples(root)
    assert f"{len(wanted)} rows written" in capsys.readouterr().out
    loaded: Any = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "val"}
    rows = {row["key"]: row for split in loaded.values() for row in split}
    assert set(rows) == set(wanted)
    for key, sample in wanted.items():
        row = rows[key]
        for name, value in payloads(sample).items():
            read = np.frombuffer(row[f"{name}_bytes"], row[f"{name}_dtype"]).reshape(row[f"{name}_shape"])
            assert read.dtype == value.dtype
            assert np.array_equal(read, value)
        assert {name: row[name] for name in CAPTION_TEXTS} == {name: sample["texts"][name] for name in CAPTION_TEXTS}
        assert (row["caption"], row["frame_pts"]) == (sample["caption"], sample["frame_pts"])
        assert (row["in_h"], row["psnr_db"]) == (sample["cond"]["in_h"], sample["cond"]["psnr_db"])
    card = (tmp_path / "hf/README.md").read_text()
    assert card.startswith("---\nlicense: other")
    assert '"family": "rvq"' in card or '"family":"rvq"' in card


def test_webdataset_reads_the_tars(root: str, tmp_path: Path) -> None:
    from webdataset.compat import WebDataset

    assert export(root, tmp_path / "wds", "webdataset", "--grounding", "measured") == 0
    tars = sorted(map(str, (tmp_path / "wds").glob("*.tar")))
    assert len(tars) > 2
    wanted = samples(root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves closing the tars to the collector
        opened: Any = WebDataset(tars, shardshuffle=False).decode()
        rows = {row["__key__"]: row for row in opened}
        del opened
        gc.collect()
    assert set(rows) == set(wanted)
    for key, sample in wanted.items():
        for name, value in payloads(sample).items():
            assert np.array_equal(rows[key][f"{name}.npy"], value)
        assert rows[key]["txt"] == sample["caption"]
        assert rows[key]["json"]["clip_id"] == sample["clip_id"]
        assert rows[key]["json"]["texts"] == sample["texts"]
    again = tmp_path / "again"
    assert export(root, again, "webdataset", "--grounding", "measured") == 0
    assert all((again / Path(tar).name).read_bytes() == Path(tar).read_bytes() for tar in tars)


def test_fastvideo_gets_float32_latents_channels_first(tmp_path: Path) -> None:
    write_set(tmp_path / "set", spec=LATENT, tokens=partial(token_rows, spec=LATENT))
    out = tmp_path / "fv"
    assert export(str(tmp_path / "set"), out, "fastvideo", "--grounding", "measured") == 0
    files = sorted(out.rglob("*.parquet"))
    wanted = samples(str(tmp_path / "set"))
    count = 0
    for path in files:
        file = pq.ParquetFile(path)
        assert file.schema_arrow.equals(FASTVIDEO)
        assert {file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)} == {1}
        for row in file.read().to_pylist():
            sample, shape = wanted[row["id"]], row["vae_latent_shape"]
            latent_CTHW = np.frombuffer(row["vae_latent_bytes"], np.float32).reshape(shape)  # as its collator does
            assert np.array_equal(latent_CTHW, sample["tokens_pixel_s0"])
            assert shape == [3, 2, sample["cond"]["in_h"] // 8, sample["cond"]["in_w"] // 8]
            assert (row["num_frames"], row["width"], row["height"]) == (
                2,
                sample["cond"]["in_w"],
                sample["cond"]["in_h"],
            )
            assert row["duration_sec"] == pytest.approx(5 / 30)
            assert row["caption"] == sample["caption"]
            assert (row["text_embedding_bytes"], row["text_embedding_shape"]) == (b"", [0, 4096])
            count += 1
    assert count == len(ShardDataset(str(tmp_path / "set")))


def test_what_cannot_be_exported_is_said(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    assert export(root, tmp_path / "full", "datasets") == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert export(root, tmp_path / "ids", "fastvideo") == 2
    assert "is not one latent" in capsys.readouterr().err
    assert not (tmp_path / "ids").exists()
    assert export(root, tmp_path / "none", "datasets", "--rows", "0") == 2
    assert "file_rows is 0" in capsys.readouterr().err


def test_columns_keep_their_type_where_a_file_has_no_value(root: str, tmp_path: Path) -> None:
    """The captions are measured ones, so that by default there is none: strings all the same."""
    assert export(root, tmp_path / "hf", "datasets") == 0
    schemas = [pq.read_schema(path) for path in sorted((tmp_path / "hf").glob("*.parquet"))]
    assert all(schema.equals(schemas[0]) for schema in schemas)
    assert str(schemas[0].field("caption").type) == str(schemas[0].field(CAPTION_TEXTS[0]).type) == "string"
