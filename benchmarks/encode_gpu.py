# SPDX-License-Identifier: Apache-2.0
"""How fast networks encode: megapixels a second of the bare network, of real size, and what the operator keeps of it.

    python -m benchmarks.encode_gpu [--device cuda] [--adapters wan,vidtok,...] [--height 720] [--frames 17] [--out F]

Weights are random, of the size that the published models have (they decide no speed), saved and loaded by the real
classes. Per adapter and in one run:

bare: the network's own encode call, the window's pixels already on the device.
codec: the same with the way there and back: uint8 to the device, scaled there; ids or latents to main memory.
operator: `tokenize` on UHD clips: decoding, scaling, encoding and rows, one window decoded ahead. The ratio is its
    speed over the bare network's (goal 0.95), and beside it over the slower of decoding and network: what it could be
    at best with one decode child.

An adapter whose library is not installed, or whose window does not fit into memory, says so. Exit code 1 if the goal is
missed on a GPU.
"""

import argparse
import importlib
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run by its path

import numpy as np

from tokenization.networks import NetworkCodec, NetworkTokenizer, torch_dtype

GOAL = 0.95
REPEATS = 3
VIDTOK = {"z_channels": 5, "double_z": False, "regularizer": "fsq", "codebook_size": 32768}
HIERATOK = {"tile_px": 256, "patch": (4, 8, 8), "channels": 16, "width": 768, "heads": 12, "depth": (6, 6, 12)}
ADAPTERS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "wan": ("tokenization.adapters.diffusers_vae:DiffusersVae", "diffusers", "AutoencoderKLWan", {}),
    "hunyuan": ("tokenization.adapters.diffusers_vae:DiffusersVae", "diffusers", "AutoencoderKLHunyuanVideo", {}),
    "ltx": ("tokenization.adapters.diffusers_vae:DiffusersVae", "diffusers", "AutoencoderKLLTXVideo", {}),
    "cosmos": ("tokenization.adapters.diffusers_vae:DiffusersVae", "diffusers", "AutoencoderKLCosmos", {}),
    "vidtok": ("tokenization.adapters.vidtok:VidTok", "diffusers", "AutoencoderVidTok", VIDTOK),
    "emu3": ("tokenization.adapters.emu3:Emu3", "transformers.models.emu3", "Emu3VQVAE", {}),
    "hieratok": ("tokenization.adapters.hieratok:HieraTok", "tokenization.hieratok", "HieraTok", HIERATOK),
}
"""Name -> adapter, library, class, and what differs from the class's defaults, which are the published sizes."""


def save(folder: Path, library: str, name: str, config: dict[str, Any], dtype: str) -> str:
    """Random weights as the class saves them. Raises ImportError."""
    import torch

    torch.manual_seed(0)
    module = importlib.import_module(library)
    if name == "HieraTok":
        module.HieraTok(module.HieraTokConfig(**config)).save(folder)
    elif name == "Emu3VQVAE":
        module.Emu3VQVAE(module.Emu3VQVAEConfig(**config)).to(torch_dtype(dtype)).save_pretrained(folder)
    else:
        getattr(module, name)(**config).to(torch_dtype(dtype)).save_pretrained(folder)
    return str(folder)


def seconds(work: Callable[[], Any], device: str) -> float:
    """Least wall seconds of some repeats, after one that warms up."""
    import torch

    spent = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - start)
    return min(spent[1:])


def measured(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One adapter. Raises ImportError, torch.OutOfMemoryError."""
    import torch

    place, library, cls, config = ADAPTERS[name]
    module, _, attribute = place.partition(":")
    weights = save(folder / name, library, cls, config, options.dtype)
    make: Any = getattr(importlib.import_module(module), attribute)
    tokenizer: NetworkTokenizer = make(
        weights=weights,
        dtype=options.dtype,
        device=options.device,
        heights=(options.height,),
        max_frames=options.frames,
    )
    codec: Any = tokenizer.load()
    assert isinstance(codec, NetworkCodec)
    plan = tokenizer.spec.plan_times(tuple(n / 30 for n in range(options.frames)), 2160, 3840, 30.0)
    bucket, window = plan.buckets[0], plan.windows[0]
    shape = (window.length, bucket.in_h, bucket.in_w, 3)
    frames_THWC = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    megapixels = float(np.prod(shape[:3])) / 1e6
    with torch.inference_mode():
        row = {
            "adapter": name,
            "parameters_m": sum(p.numel() for p in codec.module.parameters()) / 1e6,
            "window": "x".join(map(str, shape[:3])),
            "codec_mpx_s": megapixels / seconds(lambda: codec.encode(frames_THWC), options.device),
            "bare_mpx_s": megapixels / bare_s(codec, frames_THWC, options.device),
        }
        if options.device == "cuda":
            row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
            torch.cuda.reset_peak_memory_stats()
        return row | through_operator(tokenizer, megapixels / row["bare_mpx_s"], options)


def bare_s(codec: Any, frames_THWC: np.ndarray, device: str) -> float:
    """Seconds of encode with every piece of pixels already where it belongs, as floats."""
    pieces: list[Any] = []
    pixels_in = codec.pixels_in
    codec.pixels_in = lambda frames: pieces.append(pixels_in(frames)) or pieces[-1]
    codec.encode(frames_THWC)
    numbers = iter(())

    def ready(frames: np.ndarray) -> Any:
        return pieces[next(numbers)]

    def once() -> None:
        nonlocal numbers
        numbers = iter(range(len(pieces)))
        codec.encode(frames_THWC)

    codec.pixels_in = ready
    try:
        return seconds(once, device)
    finally:
        codec.pixels_in = pixels_in


def through_operator(tokenizer: NetworkTokenizer, window_s: float, options: argparse.Namespace) -> dict[str, Any]:
    """The operator on clips, twice: the first pass starts the decode child and warms up."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        return {"operator": f"not run: {error}"}
    from operators.decode_child import DecodeChild
    from tokenization.operator import Tokenize

    operator = Tokenize(tokenizer=tokenizer, psnr="none")
    table = clips(options.clip, options.windows * options.frames)
    rows = table.select([column.name for column in operator.reads]).to_pylist()
    state = operator.setup()
    spent, num = [], 0
    for _ in range(2):
        start = time.perf_counter()
        found = operator.process(state, table)
        spent.append(time.perf_counter() - start)
        num = found.num_rows
    operator.close(state)
    child, start = DecodeChild(operator.memory_limit_gb), time.perf_counter()
    jobs = [operator._job(row) for row in rows]
    decoded = sum(1 for _ in operator._cuts(child, jobs))
    decode_s = time.perf_counter() - start
    child.close()
    assert decoded == num, f"{decoded} windows decoded, {num} rows"
    return {
        "windows": num,
        "operator_of_bare": num * window_s / spent[1],
        "operator_of_slower": max(num * window_s, decode_s) / spent[1],
        "decode_of_bare": num * window_s / decode_s,
    }


def clips(paths: list[Path], max_frames: int) -> Any:
    """Rows of clips: the first frames of each file."""
    import av
    import pyarrow as pa

    from benchmarks.speed.clips import rendered

    rows = []
    for path in paths or [rendered("rendered_2160p30_hevc10.mp4")]:
        with av.open(str(path)) as media:
            video = media.streams.video[0]
            pts = sorted(p.pts for p in media.demux(video) if p.pts is not None and not p.is_discard)[:max_frames]
            base, fps = video.time_base, float(video.average_rate or 30)
            assert base is not None
            rows.append(
                {
                    "clip_id": path.stem,
                    "source_id": path.stem,
                    "frame_pts": pts,
                    "seek_pts": pts[0],
                    "time_base_num": base.numerator,
                    "time_base_den": base.denominator,
                    "fps": fps,
                    "uri": str(path.resolve()),
                    "media": "video",
                    "width_px": video.width,
                    "height_px": video.height,
                }
            )
    return pa.Table.from_pylist(rows)


def show(row: dict[str, Any]) -> None:
    peak = f", peak {row['peak_gib']:.1f} GiB" if "peak_gib" in row else ""
    print(
        f"{row['adapter']:9} {row['parameters_m']:6.1f} M  {row['window']:>14}  bare {row['bare_mpx_s']:8.2f} MPx/s, "
        f"codec {row['codec_mpx_s']:8.2f}{peak}"
    )
    if "operator_of_bare" in row:
        print(
            f"{'':9} {row['windows']} windows through the operator: {row['operator_of_bare']:.2f} of the bare network, "
            f"{row['operator_of_slower']:.2f} of the slower of decoding and network (decoding alone: "
            f"{row['decode_of_bare']:.2f} of the network)",
            flush=True,
        )
    else:
        print(f"{'':9} operator {row['operator']}", flush=True)


def main() -> int:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--adapters", default=",".join(ADAPTERS))
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--windows", type=int, default=4, help="windows of each clip that the operator encodes")
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a video; may be given more than once")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if unknown := sorted(set(options.adapters.split(",")) - set(ADAPTERS)):
        parser.error(f"--adapters: unknown {unknown[0]!r}; known are {', '.join(ADAPTERS)}")
    hardware = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    print(f"{hardware}, torch {torch.__version__}, {options.dtype}, random weights, one window a pass, no tiles")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.adapters.split(","):
            try:
                rows.append(measured(name, Path(scratch), options))
                show(rows[-1])
            except (ImportError, torch.OutOfMemoryError) as error:
                print(f"{name:9} not run: {str(error).splitlines()[0]}", flush=True)
            if options.device == "cuda":
                torch.cuda.empty_cache()
    if options.out:
        options.out.write_text(
            json.dumps({"hardware": hardware, "dtype": options.dtype, "rows": rows}, indent=1) + "\n"
        )
    is_missed = any(row.get("operator_of_bare", GOAL) < GOAL for row in rows)
    return int(is_missed and options.device == "cuda")


if __name__ == "__main__":
    sys.exit(main())
