# SPDX-License-Identifier: Apache-2.0
"""Reading token shards: against bare `read_row_group`, against peers, bytes by scales, ranks and workers, memory.

    uv run python -m benchmarks.reader [--samples 4000] [--no-peers] [--out results.json]

All in one process on one core; CPU seconds, because other jobs may run. Every format has the same samples and zstd
level 3, and how well each mixes them is printed. Bare reading is taken twice: of the shards as they are, and of the
same rows in pages as pyarrow cuts them by itself, which are faster to read whole.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.readers.peers import SETTINGS, run_peer
from benchmarks.readers.samples import GRIDS, NAMES, SAMPLE_BYTES, VOCAB, mixing, sample
from pipelines.pack import pack_unit
from pipelines.views import write_view
from reelmill.column import arrow_schema
from reelmill.row_groups import Cache
from reelmill.sampling import Shuffle
from reelmill.shards import CONDITIONS, KEYS, ShardDataset
from reelmill.storage import Store
from reelmill.tables import CLIPS, SELECTION, SOURCES
from reelmill.tokens import InputRule, Scale, Stream, TimeRule, TokenizerSpec, pack, shard_schema

SCALES = tuple(Scale(reduce=(1, by, by)) for by in (4, 2, 1))
SPEC = TokenizerSpec(
    name="benchmark",
    family="rvq",
    input=InputRule(multiple=16),
    time=TimeRule(unit=4, head=1, max_frames=17),
    streams=(Stream("pixel", "ids", SCALES, stride=(4, 8, 8), vocab=VOCAB),),
    combine="residual_sum",
    prefix="scale",
    runtime={"dtype": "float32", "tile": None, "overlap": None, "batch": "one window"},
)
UNITS = 4
BATCH = 8


def rows_of(numbers: range) -> list[dict[str, Any]]:
    rows = []
    for number in numbers:
        row: dict[str, Any] = {
            "clip_id": f"{number:032x}",
            "source_id": f"{number // 8:032x}",
            "window_index": 0,
            "bucket": "17x720x1280",
            "aug_id": "none",
            "frame_pts": list(range(17)),
            "time_base_num": 1,
            "time_base_den": 30,
            "effective_fps": 30.0,
            "in_t": 17,
            "in_h": 720,
            "in_w": 1280,
            "crop_box": [0, 0, 1280, 720],
            "source_width_px": 1280,
            "source_height_px": 720,
            "num_tail_frames_unused": 0,
        }
        ids = sample(number)
        for k, (name, grid) in enumerate(zip(NAMES, GRIDS, strict=True)):
            row[f"tokens_pixel_s{k}"] = pack(SPEC.streams[0], k, ids[name])
            row[f"grid_pixel_s{k}"] = [*grid, 1]
        rows.append(row)
    return rows


def make(root: Path, num: int) -> None:
    """A data set of `num` samples, as the pipeline writes one."""
    store = Store(root)
    for unit in range(UNITS):
        numbers = range(unit * num // UNITS, (unit + 1) * num // UNITS)
        name = f"unit-{unit:04d}.parquet"
        tokens = pa.Table.from_pylist(rows_of(numbers), schema=shard_schema(SPEC))
        for file, data in pack_unit(tokens, SPEC, unit=unit):
            store.write_bytes(f"shards/{SPEC.spec_id}/{file}", data)
        ids = [{"clip_id": f"{n:032x}", "source_id": f"{n // 8:032x}"} for n in numbers]
        kept = [{**row, "tier": "train", "split": "train"} for row in ids]
        sources = [{"source_id": name} for name in sorted({row["source_id"] for row in ids})]
        for table, columns, content in (
            ("selection", SELECTION, kept),
            ("clips", CLIPS, ids),
            ("sources", SOURCES, sources),
        ):
            store.write_table(f"{table}/{name}", pa.Table.from_pylist(content, schema=arrow_schema(columns)))
    tables = {"selection": "selection", "clips": "clips", "sources": "sources", "shards": [f"shards/{SPEC.spec_id}"]}
    specs = {SPEC.spec_id: SPEC.to_dict()}
    write_view(store, {"recipe_name": "benchmark", "num_units": UNITS, "specs": specs, "tables": tables})


def cpu_s(works: dict[str, Callable[[], Any]], repeats: int = 5) -> dict[str, float]:
    """Least CPU seconds of this process of each, taken in turns."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            start = time.process_time()
            work()
            spent[name].append(time.process_time() - start)
    return {name: min(times) for name, times in spent.items()}


def in_default_pages(root: str, folder: Path) -> str:
    """A copy of the data set whose shards have the same row groups in pages of pyarrow's default size."""
    shutil.copytree(root, folder)
    for path in (folder / "shards").rglob("*.parquet"):
        with pq.ParquetFile(path) as file:
            groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
        small = [name for name in groups[0].column_names if not name.startswith("tokens_")]
        options = {"compression": "zstd", "compression_level": 3, "use_dictionary": small, "write_statistics": small}
        with pq.ParquetWriter(path, groups[0].schema, **options) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=len(group))
    return str(folder)


def bare(root: str) -> int:
    """Reads every row group as pyarrow gives it, the same columns; returns the bytes."""
    dataset = ShardDataset(root)
    columns = [*KEYS, *CONDITIONS, *(f"{what}_pixel_s{k}" for k in range(len(SCALES)) for what in ("tokens", "grid"))]
    total = 0
    for entry in dataset.files:
        with dataset.store.open_parquet(entry["path"]) as file:
            for group in range(file.num_row_groups):
                total += file.read_row_group(group, columns, use_threads=False).nbytes
    return total


def whole_epoch(root: str, **options: Any) -> ShardDataset:
    dataset = ShardDataset(root, **options)
    count = sum(len(batch["clip_id"]) for batch in dataset.batches(BATCH))
    assert count == len(dataset), f"{count} of {len(dataset)} samples"
    return dataset


def bytes_of_all(root: str, world: int, workers: int) -> int:
    """Bytes that all ranks and workers read together in one epoch."""
    total = 0
    for rank in range(world):
        for worker in range(workers):
            dataset = ShardDataset(root, rank=rank, world=world)
            for _ in dataset.batches(BATCH, worker=worker, num_workers=workers):
                pass
            total += dataset.num_bytes_read
    return total


def first_batch_s(root: str) -> float:
    start = time.perf_counter()
    next(ShardDataset(root).batches(BATCH))
    return time.perf_counter() - start


def peak_mb(root: str) -> float:
    """Resident memory of a fresh process that reads one epoch, without torch.

    By the kernel's high-water mark: `ru_maxrss` begins with the memory of the process that started it.
    """
    code = (
        "from reelmill.shards import ShardDataset\n"
        f"for batch in ShardDataset({root!r}).batches({BATCH}): pass\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-2]) * 1024 / 1e6


def order_of(root: str) -> list[int]:
    return [int(clip, 16) for batch in ShardDataset(root).batches(BATCH) for clip in batch["clip_id"]]


def file_order(root: str) -> list[int]:
    """Samples as they lie in the files; `pack` has mixed them once before."""
    dataset = ShardDataset(root, shuffle=Shuffle(is_on=False))
    return [int(clip, 16) for batch in dataset.batches(BATCH) for clip in batch["clip_id"]]


def measure(root: str, num: int) -> dict[str, Any]:
    payload = num * SAMPLE_BYTES
    once = whole_epoch(root).num_bytes_read
    by_scales = {n: whole_epoch(root, scales=n).num_bytes_read for n in range(1, len(SCALES) + 1)}
    default_pages = in_default_pages(root, Path(root).with_name("default-pages"))
    spent = cpu_s(
        {
            "bare": lambda: bare(root),
            "bare_default_pages": lambda: bare(default_pages),
            "ours": lambda: whole_epoch(root),
            "unchecked": lambda: whole_epoch(root, cache=Cache(check=False)),
        }
    )
    places = {number: place for place, number in enumerate(file_order(root))}
    return {
        "samples": num,
        "load": os.getloadavg()[0],
        "payload_mb": payload / 1e6,
        "stored_mb": once / 1e6,
        **{f"{name}_cpu_s": seconds for name, seconds in spent.items()},
        "of_bare": spent["bare"] / spent["ours"],
        "of_bare_default_pages": spent["bare_default_pages"] / spent["ours"],
        "payload_mb_per_cpu_s": payload / 1e6 / spent["ours"],
        "mixing": mixing([places[number] for number in order_of(root)]),
        "bytes_by_scales": {n: size / by_scales[len(SCALES)] for n, size in by_scales.items()},
        "amplification": {
            f"{world} x {workers}": bytes_of_all(root, world, workers) / once
            for world, workers in ((1, 2), (2, 1), (2, 2))
        },
        "first_batch_s": first_batch_s(root),
        "peak_mb": peak_mb(root),
    }


def show(row: dict[str, Any]) -> None:
    print(f"\n{row['samples']} samples, {row['payload_mb']:.0f} MB of ids, {row['stored_mb']:.0f} MB stored (zstd)")
    print(
        f"  ours, shuffled and stacked: {row['ours_cpu_s']:.2f} CPU s"
        f", {row['payload_mb_per_cpu_s']:.0f} MB of ids a second; unchecked {row['unchecked_cpu_s']:.2f} CPU s"
    )
    for name, what in (
        ("bare", "of the same files"),
        ("bare_default_pages", "of the same rows in pyarrow's own pages"),
    ):
        print(f"  bare read_row_group {what}: {row[f'{name}_cpu_s']:.2f} CPU s, over ours {row[f'of_{name}']:.2f}")
    print("  bytes read by scales: " + ", ".join(f"{n}: {share:.3f}" for n, share in row["bytes_by_scales"].items()))
    print(
        "  read amplification, ranks x workers: " + ", ".join(f"{k}: {v:.2f}" for k, v in row["amplification"].items())
    )
    print(f"  mixing: {mixed(row['mixing'])}")
    print(
        f"  first batch {row['first_batch_s']:.2f} s; peak memory {row['peak_mb']:.0f} MB; load {row['load']:.1f}",
        flush=True,
    )


def mixed(facts: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in facts.items())


def show_peer(row: dict[str, Any], peer: dict[str, Any]) -> None:
    ratios = ", ".join(f"{name} epoch {peer[name]['cpu_s'] / row['ours_cpu_s']:.2f}" for name in ("first", "second"))
    facts = f"{peer['stored_mb']:.0f} MB stored; {mixed(peer['mixing'])}"
    print(f"  {peer['peer']}: CPU seconds over ours: {ratios}; {facts}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = str(Path(scratch) / "set")
        make(Path(root), options.samples)
        row = {**measure(root, options.samples), "peers": []}
        show(row)
        for peer in () if options.no_peers else SETTINGS:
            row["peers"].append(run_peer(peer, Path(scratch), options.samples, BATCH))
            show_peer(row, row["peers"][-1])
    if options.out:
        options.out.write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
