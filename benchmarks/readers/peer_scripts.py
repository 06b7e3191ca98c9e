# SPDX-License-Identifier: Apache-2.0
"""Writes and reads the samples in a peer's format, in that peer's environment. Imports nothing of this project.

    python peer_scripts.py litdata|litdata-chunk|litdata-tokens|streaming|webdataset FOLDER NUM_SAMPLES BATCH_SIZE

Prints a JSON line: CPU seconds (helper processes and threads included) and wall seconds of the first epoch (from files
as written, zstd level 3) and of the second, the bytes as written, and how well the samples were mixed. Settings are
those that each project's documentation gives for speed: numpy's own encodings instead of pickles, chunks of 64 MB,
shuffling over the whole set (litdata, streaming) or a buffer of 4096 samples (webdataset). litdata is read as by its
default (zstd frames of 256 samples), with whole chunks compressed, and with its loader for tokens. webdataset stores
the bare bytes of arrays.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from samples import (  # type: ignore[import-not-found] - run as a script, its folder is on the path
    GRIDS,
    NAMES,
    SAMPLE_BYTES,
    mixing,
    sample,
)

CHUNK_BYTES = 64_000_000
ZSTD = "zstd:3"

Reader = Callable[[], Iterable[Any]]


def flat(number: int) -> Any:
    import torch

    return torch.from_numpy(np.concatenate([ids.ravel() for ids in sample(number).values()]))


def split(flat_ids: Any) -> dict[str, np.ndarray]:
    """The three scales of a sample that is stored as one array; views."""
    ids, at, out = np.asarray(flat_ids), 0, {}
    for name, (t, h, w) in zip(NAMES, GRIDS, strict=True):
        out[name] = ids[at : at + t * h * w].reshape(t, h, w)
        at += t * h * w
    return out


def litdata(
    folder: Path, num: int, level: str | None = None, as_tokens: bool = False
) -> tuple[Callable[[], None], Reader]:
    from litdata import StreamingDataset, TokensLoader, optimize  # type: ignore[import-not-found]

    data = str(folder / "data")

    def write() -> None:
        optimize(
            fn=flat if as_tokens else sample,
            inputs=list(range(num)),
            output_dir=data,
            chunk_bytes=CHUNK_BYTES,
            compression=ZSTD,
            compression_level=level,
            num_workers=1,
            item_loader=TokensLoader() if as_tokens else None,
        )

    if not as_tokens:
        return write, lambda: StreamingDataset(data, shuffle=True, drop_last=False)
    loader = TokensLoader(block_size=SAMPLE_BYTES // 2)
    return write, lambda: map(split, StreamingDataset(data, shuffle=True, drop_last=False, item_loader=loader))


def streaming(folder: Path, num: int) -> tuple[Callable[[], None], Reader]:
    from streaming import MDSWriter, StreamingDataset  # type: ignore[import-not-found]

    columns = {n: f"ndarray:uint16:{','.join(map(str, grid))}" for n, grid in zip(NAMES, GRIDS, strict=True)}
    out = folder / "data"

    def write() -> None:
        with MDSWriter(out=str(out), columns=columns, compression=ZSTD, size_limit=CHUNK_BYTES) as writer:
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


def webdataset(folder: Path, num: int) -> tuple[Callable[[], None], Reader]:
    import zstandard  # type: ignore[import-not-found]
    from webdataset.compat import WebDataset
    from webdataset.writer import ShardWriter

    def write() -> None:
        pack = zstandard.ZstdCompressor(3)
        (folder / "data").mkdir(parents=True, exist_ok=True)
        with ShardWriter(str(folder / "data" / "part-%04d.tar"), maxsize=CHUNK_BYTES, verbose=0) as writer:
            for number in range(num):
                fields = {f"{name}.zst": pack.compress(ids.tobytes()) for name, ids in sample(number).items()}
                writer.write({"__key__": f"{number:08d}", **fields})

    def decoded(items: Iterable[dict[str, Any]]) -> Iterator[dict[str, np.ndarray]]:
        unpack = zstandard.ZstdDecompressor()
        grids = list(zip(NAMES, GRIDS, strict=True))
        for item in items:
            yield {
                name: np.frombuffer(unpack.decompress(item[f"{name}.zst"]), np.uint16).reshape(grid)
                for name, grid in grids
            }

    def read() -> Iterable[Any]:
        shards = sorted(map(str, (folder / "data").glob("part-*.tar")))
        shuffled: Any = WebDataset(shards, shardshuffle=len(shards)).shuffle(4096)
        return decoded(shuffled)

    return write, read


READERS: dict[str, Callable[[Path, int], tuple[Callable[[], None], Reader]]] = {
    "litdata": litdata,
    "litdata-chunk": lambda folder, num: litdata(folder, num, level="chunk"),
    "litdata-tokens": lambda folder, num: litdata(folder, num, level="chunk", as_tokens=True),
    "streaming": streaming,
    "webdataset": webdataset,
}


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


def cpu_s() -> float:
    """Of this process, its threads and the helpers that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def timed(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    start, cpu = time.perf_counter(), cpu_s()
    result = work()
    return {"cpu_s": cpu_s() - cpu, "wall_s": time.perf_counter() - start}, result


def beginning(item: Any) -> bytes:
    return np.asarray(item[NAMES[0]]).ravel()[:64].tobytes()


def main() -> None:
    peer, folder, num, batch_size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    write, read = READERS[peer](folder, num)
    write()
    out: dict[str, Any] = {"peer": peer, "stored_mb": disk_mb(folder / "data")}
    for name in ("first", "second"):
        out[name], count = timed(lambda: epoch(read(), batch_size))
        if count != num:
            sys.exit(f"{peer} gave {count} of {num} samples")
    numbers = {beginning(sample(number)): number for number in range(num)}
    out["mixing"] = mixing([numbers[beginning(item)] for item in read()])
    print("RESULT " + json.dumps(out))


def disk_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
