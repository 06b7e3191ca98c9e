# SPDX-License-Identifier: Apache-2.0
"""Writes and reads the samples in a peer's format, in that peer's environment. Imports nothing of this project.

    python peer_scripts.py litdata|streaming|webdataset FOLDER NUM_SAMPLES BATCH_SIZE

Prints a JSON line: CPU and wall seconds to write, of the first epoch (from files as written, zstd), and of the second.
Settings are those that each project's documentation gives for speed: numpy's own encodings instead of pickles, chunks
of 64 MB, shuffling over the whole set (litdata, streaming) or a buffer of 4096 samples (webdataset).
"""

import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from samples import GRIDS, NAMES, sample  # type: ignore[import-not-found] - run as a script, its folder is on the path

CHUNK_BYTES = 64_000_000


def litdata(folder: Path, num: int) -> tuple[Callable[[], None], Callable[[], Iterable[Any]]]:
    from litdata import StreamingDataset, optimize  # type: ignore[import-not-found]

    def write() -> None:
        optimize(
            fn=sample,
            inputs=list(range(num)),
            output_dir=str(folder / "data"),
            chunk_bytes=CHUNK_BYTES,
            compression="zstd",
            num_workers=1,
        )

    return write, lambda: StreamingDataset(str(folder / "data"), shuffle=True, drop_last=False)


def streaming(folder: Path, num: int) -> tuple[Callable[[], None], Callable[[], Iterable[Any]]]:
    from streaming import MDSWriter, StreamingDataset  # type: ignore[import-not-found]

    columns = {n: f"ndarray:uint16:{','.join(map(str, grid))}" for n, grid in zip(NAMES, GRIDS, strict=True)}
    out = folder / "data"

    def write() -> None:
        with MDSWriter(out=str(out), columns=columns, compression="zstd:3", size_limit=CHUNK_BYTES) as writer:
            for number in range(num):
                writer.write(sample(number))

    dataset = None

    def read() -> Iterable[Any]:
        nonlocal dataset
        dataset = dataset or StreamingDataset(
            remote=str(out), local=str(folder / "local"), shuffle=True, shuffle_algo="py1e", batch_size=8
        )
        return dataset

    return write, read


def webdataset(folder: Path, num: int) -> tuple[Callable[[], None], Callable[[], Iterable[Any]]]:
    import zstandard  # type: ignore[import-not-found]
    from webdataset.compat import WebDataset
    from webdataset.writer import ShardWriter

    def packed(array: np.ndarray) -> bytes:
        sink = io.BytesIO()
        np.save(sink, array)
        return zstandard.compress(sink.getvalue(), 3)

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with ShardWriter(str(folder / "part-%04d.tar"), maxsize=CHUNK_BYTES, verbose=0) as writer:
            for number in range(num):
                writer.write({"__key__": f"{number:08d}", **{f"{n}.npz": packed(a) for n, a in sample(number).items()}})

    def decoded(items: Iterable[dict[str, Any]]) -> Iterator[dict[str, np.ndarray]]:
        unpack = zstandard.ZstdDecompressor()
        for item in items:
            yield {name: np.load(io.BytesIO(unpack.decompress(item[f"{name}.npz"]))) for name in NAMES}

    def read() -> Iterable[Any]:
        shards = sorted(map(str, folder.glob("part-*.tar")))
        shuffled: Any = WebDataset(shards, shardshuffle=len(shards)).shuffle(4096)
        return decoded(shuffled)

    return write, read


def epoch(items: Iterable[Any], batch_size: int) -> int:
    """Reads all samples, stacked to batches; returns their number."""
    held: list[Any] = []
    count = 0
    for item in items:
        held.append(item)
        if len(held) == batch_size:
            count += len(held)
            {name: np.stack([np.asarray(one[name]) for one in held]) for name in NAMES}
            held.clear()
    return count + len(held)


def timed(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - start}, result


def main() -> None:
    peer, folder, num, batch_size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    write, read = {"litdata": litdata, "streaming": streaming, "webdataset": webdataset}[peer](folder, num)
    write()
    out: dict[str, Any] = {"peer": peer}
    for name in ("first", "second"):
        out[name], count = timed(lambda: epoch(read(), batch_size))
        if count != num:
            sys.exit(f"{peer} gave {count} of {num} samples")
    print("RESULT " + json.dumps(out))


if __name__ == "__main__":
    main()
