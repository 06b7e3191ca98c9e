# SPDX-License-Identifier: Apache-2.0
"""The trainers of `examples/` on small shards: they learn from the reader, go on where they were stopped, and draw."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from examples import train_generator, train_tokenizer
from examples.closed_loop import is_causal
from reelmill.storage import Store
from reelmill.tokens import pack, shard_schema
from tests.token_sets import write_set
from tokenization.adapters.hieratok import HieraTok
from tokenization.adapters.pixels import Pixels
from tokenization.adapters.reference import Reference
from tokenization.contract import Tokenizer
from tokenization.hieratok import HieraTok as Model
from tokenization.hieratok import HieraTokConfig

SIDE, FRAMES = 64, 5
SHAPE = ["--patch", "4,8,8", "--reduces", "2,1", "--channels", "4", "--width", "12", "--heads", "2", "--depth", "1,1,1"]


def rows_of(tokenizer: Tokenizer, clips: list[dict[str, Any]]) -> pa.Table:
    """One window of made-up footage per clip, by the real codec."""
    spec, codec, rng, rows = tokenizer.spec, tokenizer.load(), np.random.default_rng(0), []
    for clip in clips:
        squares = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        payload = codec.encode(np.stack([squares] * FRAMES))
        keys = ("clip_id", "source_id", "time_base_num", "time_base_den")
        row = {**{k: clip[k] for k in keys}, "window_index": 0, "bucket": f"{FRAMES}x{SIDE}x{SIDE}", "aug_id": "none"}
        row |= {"frame_pts": list(range(FRAMES)), "in_t": FRAMES, "in_h": SIDE, "in_w": SIDE, "effective_fps": 30.0}
        row |= {"crop_box": [0, 0, SIDE, SIDE], "source_width_px": SIDE, "source_height_px": SIDE}
        for stream, k in spec.columns():
            column = stream.column(k)
            row |= {column: pack(stream, k, payload[column]), f"grid_pixel_s{k}": stream.grid_of(payload[column])}
        rows.append({**row, "num_tail_frames_unused": 0})
    return pa.Table.from_pylist(rows, schema=shard_schema(spec))


def data_set(root: Path, tokenizer: Tokenizer) -> str:
    write_set(
        root,
        units=1,
        sources=6,
        clips=2,
        spec=tokenizer.spec,
        tokens=partial(rows_of, tokenizer),
        group_bytes=200_000,
        max_mb=1,
    )
    for name, data in tokenizer.files_to_ship().items():
        Store(root).write_bytes(f"shards/{tokenizer.spec.spec_id}/{name}", data)
    return str(root)


def width_of(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.size[0]


def stopped_after_a_checkpoint(monkeypatch: pytest.MonkeyPatch, module: Any, arguments: list[str]) -> None:
    """As a kill right after the first checkpoint."""
    save = module.save

    def save_and_stop(*given: Any) -> None:
        save(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            module.train(module.options_of(arguments))


def test_tokenizer_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = data_set(tmp_path / "set", Pixels(height_px=SIDE, width_px=SIDE, max_frames=FRAMES, count=1))
    arguments = [
        root,
        "--tile-px",
        "32",
        *SHAPE,
        "--levels",
        "4,4",
        "--steps",
        "6",
        "--batch",
        "4",
        "--save-every",
        "3",
    ]
    once, log = train_tokenizer.train(train_tokenizer.options_of([*arguments, "--to", str(tmp_path / "once")]))
    again = [*arguments, "--to", str(tmp_path / "twice")]
    stopped_after_a_checkpoint(monkeypatch, train_tokenizer, again)
    Store(root).write_bytes("views/latest", b"a-later-one")  # as after the next run of the mill
    twice, _ = train_tokenizer.train(train_tokenizer.options_of(again))
    pairs = zip(once.state_dict().values(), twice.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs), "the same batches, the same draws"
    lines = [json.loads(line) for line in (tmp_path / "once" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 3, 6]
    assert len(log["prefix_psnr_db"]) == 2
    assert width_of(tmp_path / "once" / "reconstructions.png") == 2 * 3 * 32
    spec = HieraTok(weights=str(tmp_path / "once"), heights=(SIDE,)).spec
    (tmp_path / "once" / "checkpoint.pt").unlink()
    assert HieraTok(weights=str(tmp_path / "once"), heights=(SIDE,)).spec == spec, "the checkpoint decides no token"
    assert (spec.family, spec.streams[0].vocab, spec.streams[0].groups) == ("fsq", 16, 2)
    with pytest.raises(ValueError, match="another shape; give another --to"):
        train_tokenizer.train(train_tokenizer.options_of([*again, "--width", "24"]))


def test_generator_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = HieraTokConfig(32, (4, 8, 8), (4, 2, 1), 4, (4, 4), width=12, heads=2, depth=(1, 1, 1))
    Model(config).save(tmp_path / "model")
    root = data_set(tmp_path / "set", HieraTok(weights=str(tmp_path / "model"), heights=(SIDE,), max_frames=FRAMES))
    arguments = [
        root,
        "--measured",
        "--width",
        "24",
        "--heads",
        "2",
        "--depth",
        "1",
        "--batch",
        "3",
        "--save-every",
        "4",
    ]
    arguments += ["--steps", "8"]
    once, log = train_generator.train(train_generator.options_of([*arguments, "--to", str(tmp_path / "once")]))
    again = train_generator.options_of([*arguments, "--to", str(tmp_path / "twice")])
    stopped_after_a_checkpoint(monkeypatch, train_generator, [*arguments, "--to", str(tmp_path / "twice")])
    twice, _ = train_generator.train(again)
    pairs = zip(once.state_dict().values(), twice.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    told = log["held_out"]
    assert set(told) == {"true", "shuffled", "none", "gain", "gain_se", "same", "num_sources", "per_scale"}
    assert told["num_sources"] == 2
    assert width_of(tmp_path / "once" / "samples.png") == 3 * 2 * SIDE
    dataset = train_generator.tokens_of(again, "train")
    ids, words, grids = train_generator.inputs_of(next(iter(dataset.loader(2))), dataset, "cpu")
    assert is_causal(once, ids, words, grids)
    with torch.no_grad():
        whole, begun = once(ids[:-1], words, grids), once(ids[:1], words, grids)
    assert len(begun) == 2
    for a, b in zip(whole, begun, strict=False):
        torch.testing.assert_close(a, b, msg="drawing sees what training saw")


def test_reference_ids_are_drawn_and_decoded_with_reelmill_alone(tmp_path: Path) -> None:
    root = data_set(tmp_path / "set", Reference(heights=(SIDE,), max_frames=FRAMES))
    options = train_generator.options_of([root, "--to", str(tmp_path), "--width", "12", "--heads", "2", "--depth", "0"])
    dataset = train_generator.tokens_of(options, "train")
    batch = next(iter(dataset.loader(2)))
    ids, words, grids = train_generator.inputs_of(batch, dataset, "cpu")
    model = train_generator.Generator(train_generator.stream_of(dataset), 12, 2, 0)
    drawn = model.draw(words, grids, 1.0, 1.0)
    assert [x.shape for x in drawn] == [x.shape for x in ids]
    decode = train_generator.decoder_of(dataset)
    frames = decode({f"tokens_pixel_s{k}": x[0].numpy() for k, x in enumerate(drawn)})
    assert frames.shape == (FRAMES, SIDE, SIDE, 3)


def test_words_do_not_depend_on_the_process() -> None:
    words = train_generator.words_of(["A lake, a LAKE 12", None])
    assert words[0, :4].tolist() == [789, 2676, 789, 2676]
    assert not words[0, 4:].any()
    assert not words[1].any()
