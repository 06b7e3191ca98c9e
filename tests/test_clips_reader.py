# SPDX-License-Identifier: Apache-2.0
"""Kept clips as pixels: the exact frames, once each, resumable; and the whole way from video to decoded tokens."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.pack import pack_unit
from pipelines.views import write_view
from reelmill.clips import ClipDataset
from reelmill.column import arrow_schema
from reelmill.ids import clip_id
from reelmill.sampling import Shuffle
from reelmill.shards import ShardDataset
from reelmill.spans import SpanError, frame_rgb, iter_span, open_media
from reelmill.storage import Store
from reelmill.tables import CAPTIONS, CLIPS, SELECTION, SOURCES
from tests.videos import write_video
from tokenization.adapters.reference import Reference
from tokenization.operator import Tokenize
from tokenization.synthetic import synthetic_windows

ROOT = Path(__file__).parent.parent
FRAMES = 27
SPANS = ((0, 9), (9, 15), (15, 27))


@pytest.fixture(scope="module")
def milled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of three clips each, tokenized, packed and viewed without the pipeline."""
    folder = tmp_path_factory.mktemp("milled")
    (folder / "in").mkdir()
    sources, clips = [], []
    for number in range(2):
        frames = np.concatenate(list(synthetic_windows(3, seed=number, side_px=128)))[:, :96]
        path = write_video(folder / "in" / f"{number}.mp4", frames, fps=30)
        with open_media(path) as media:
            pts = [frame.pts for frame in iter_span(media, None, None)]
            base = media.stream.time_base
        assert base is not None
        source = f"{number}" * 32
        sources.append(
            {
                "source_id": source,
                "relpath": path.name,
                "uri": str(path),
                "media": "video",
                "width_px": 128,
                "height_px": 96,
            }
        )
        for index, (a, b) in enumerate(SPANS):
            end = pts[b] if b < len(pts) else pts[-1] + pts[1]
            clips.append(
                {
                    "clip_id": clip_id(source, pts[a], end, base.numerator, base.denominator),
                    "source_id": source,
                    "clip_index": index,
                    "start_pts": pts[a],
                    "end_pts": end,
                    "time_base_num": base.numerator,
                    "time_base_den": base.denominator,
                    "seek_pts": pts[0],
                    "frame_pts": pts[a:b],
                    "num_frames": b - a,
                    "start_s": a / 30,
                    "duration_s": (b - a) / 30,
                    "fps": 30.0,
                    "split": "train",
                }
            )
    write(folder / "out", sources, clips)
    return folder


def write(root: Path, sources: list[dict[str, Any]], clips: list[dict[str, Any]]) -> None:
    store, operator = Store(root), Tokenize(tokenizer=Reference(heights=(64,), max_frames=5), psnr="all")
    by_id = {source["source_id"]: source for source in sources}
    rows = [by_id[clip["source_id"]] | clip for clip in clips]
    state = operator.setup()
    tokens = operator.process(state, pa.Table.from_pylist(rows, schema=arrow_schema(operator.reads)))
    operator.close(state)
    selection = [
        {"clip_id": c["clip_id"], "source_id": c["source_id"], "tier": "train", "split": "train"} for c in clips
    ]
    tables = (
        ("sources", SOURCES, sources),
        ("clips-a", CLIPS, clips),
        ("selection-a", SELECTION, selection),
        ("captions/c", CAPTIONS, []),
    )
    for rel, columns, content in tables:
        store.write_table(f"{rel}/unit-0000.parquet", pa.Table.from_pylist(content, schema=arrow_schema(columns)))
    rel = f"shards/{operator.spec.spec_id}"
    for name, data in [*pack_unit(tokens, operator.spec), *operator.files_to_ship().items()]:
        store.write_bytes(f"{rel}/{name}", data)
    write_view(
        store,
        {
            "recipe_name": "t",
            "num_units": 1,
            "specs": {operator.spec.spec_id: operator.spec.to_dict()},
            "tables": {
                "sources": "sources",
                "clips": "clips-a",
                "selection": "selection-a",
                "captions": "captions/c",
                "scores": {},
                "shards": [rel],
            },
        },
    )


def test_tokens_decode_with_the_shipped_codebook_alone(milled: Path) -> None:
    dataset = ShardDataset(str(milled / "out"))
    decoder = dataset.view.decoder(dataset.spec_id)
    assert len(dataset) == 2 * (1 + 1 + 2)
    for sample in (dataset[i] for i in range(len(dataset))):
        ids = [sample[f"tokens_pixel_s{k}"] for k in range(6)]
        decoded = decoder.decode(ids)
        row = next(
            c
            for c in dataset.view.store.read_table("clips-a/unit-0000.parquet").to_pylist()
            if c["clip_id"] == sample["clip_id"]
        )
        with open_media(milled / "in" / f"{sample['source_id'][0]}.mp4") as media:
            wanted = set(sample["frame_pts"])
            exact = np.stack([frame_rgb(f, (64, 85))[:, 2:82] for f in iter_span(media, None, None) if f.pts in wanted])
        assert set(sample["frame_pts"]) <= set(row["frame_pts"])
        assert decoded.shape == exact.shape
        psnr = 10 * np.log10(255**2 / ((decoded.astype(float) - exact) ** 2).mean())
        assert psnr == pytest.approx(sample["cond"]["psnr_db"][-1], abs=1e-4)
        assert psnr > sample["cond"]["psnr_db"][0]


def test_clips_are_the_exact_frames(milled: Path) -> None:
    clips = ClipDataset(str(milled / "out"))
    assert len(clips) == 6
    for sample in clips:
        with open_media(milled / "in" / f"{sample['source_id'][0]}.mp4") as media:
            exact = {f.pts: frame_rgb(f) for f in iter_span(media, None, None)}
        np.testing.assert_array_equal(sample["frames_THWC"], np.stack([exact[p] for p in sample["frame_pts"]]))
        assert len(sample["frame_pts"]) in (9, 6, 12)
        assert sample["fps"] == 30.0


def test_windows_and_crops_stack(milled: Path) -> None:
    clips = ClipDataset(str(milled / "out"), num_frames=9, size=64, columns=("relpath",))
    assert len(clips) == 4, "clips of six frames are left out"
    batches = list(clips.batches(2))
    assert [b["frames_BTHWC"].shape for b in batches] == [(2, 9, 64, 64, 3)] * 2
    assert all(p[1] - p[0] > 0 and len(p) == 9 for b in batches for p in b["frame_pts"])
    assert {v for b in batches for v in b["cond"]["relpath"]} == {"0.mp4", "1.mp4"}
    with pytest.raises(ValueError, match="do not stack"):
        next(ClipDataset(str(milled / "out")).batches(2))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_exactly_once(milled: Path, world: int, workers: int) -> None:
    seen: Counter[str] = Counter()
    for rank in range(world):
        if workers and rank:
            for worker in range(workers):
                clips = ClipDataset(str(milled / "out"), num_frames=1, size=32, rank=rank, world=world)
                seen.update(c for b in clips.batches(1, worker=worker, num_workers=workers) for c in b["clip_id"])
        else:
            loader = ClipDataset(str(milled / "out"), num_frames=1, size=32, rank=rank, world=world).loader(
                1, num_workers=workers
            )
            seen.update(c for b in loader for c in b["clip_id"])
    assert sorted(seen.values()) == [1] * 6


def test_resume_and_epochs(milled: Path) -> None:
    def all_of(clips: ClipDataset) -> list[tuple[str, int]]:
        return [(b["clip_id"][0], b["frame_pts"][0][0]) for b in clips.batches(1) if not b["is_repeat"][0]]

    options: dict[str, Any] = {"num_frames": 4, "size": 32}
    clips = ClipDataset(str(milled / "out"), **options)
    whole, second = all_of(clips), all_of(clips)
    assert whole != second
    assert sorted(c for c, _ in whole) == sorted(c for c, _ in second)
    again = ClipDataset(str(milled / "out"), **options)
    batches = again.batches(1)
    head = [next(batches)["clip_id"][0] for _ in range(2)]
    state = json.loads(json.dumps(again.state_dict()))
    rest: list[str] = []
    for rank in range(3):
        fresh = ClipDataset(str(milled / "out"), **options, rank=rank, world=3)
        fresh.load_state_dict(state)
        rest += [c for c, _ in all_of(fresh)]
    assert sorted(head + rest) == sorted(c for c, _ in whole)
    with pytest.raises(ValueError, match="does not fit"):
        ClipDataset(str(milled / "out"), shuffle=Shuffle(seed=1)).load_state_dict(state)


def test_moved_sources(milled: Path, tmp_path: Path) -> None:
    moved = ClipDataset(str(milled / "out"), source_root=str(milled / "in"))
    assert moved[0]["frames_THWC"].shape[1:] == (96, 128, 3)
    lost = ClipDataset(str(milled / "out"), source_root=str(tmp_path))
    with pytest.raises((FileNotFoundError, SpanError)):
        lost[0]


@pytest.mark.parametrize("example", ["print_batch.py", "clip_pixels.py"])
def test_examples_run(milled: Path, example: str) -> None:
    options = ["--frames", "5", "--size", "64"] if example == "clip_pixels.py" else ["--scales", "2"]
    done = subprocess.run(
        [sys.executable, f"examples/{example}", str(milled / "out"), *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert (
        "(2, 5, 64, 64, 3) torch.uint8" if example == "clip_pixels.py" else "tokens_pixel_s1: torch.int64 (2, 2,"
    ) in done.stdout


def test_fit_on_a_data_set(milled: Path, tmp_path: Path) -> None:
    from tokenization.fit import FitConfig, fit_tokenizer
    from tokenization.reference import ReferenceTokenizer

    config = FitConfig(channels=12, reduces=(2, 1), vocabs=(16, 32), iterations=3, max_windows=4, side_px=64)
    path = fit_tokenizer(str(milled / "out"), tmp_path / "book.npz", config=config)
    assert ReferenceTokenizer.load(path).spec.streams[0].vocab_of(1) == 32
