# SPDX-License-Identifier: Apache-2.0
"""What the models round keeps of a bare network, and how decoding and network lie side by side.

    python -m benchmarks.models [--operators embedding,flow,...] [--device cuda] [--clips 16] [--out DIR] [--json FILE]

Networks have their published sizes and random weights (which decide no speed), written and loaded by the real path; the
text reader has its own weights. Clips: pieces of one second of the real 4K clips, or of a rendering. Per operator, in
one run on the same clips:

network: seconds of the network alone: every forward pass that the operator made, made again from memory.
rest: seconds of the operator with the network's answers taken from memory: decoding, scaling, rows.
stage: seconds of the Ray stage, one worker, as `pipelines run` runs it: from the first decode to the last answer.

network / stage is the throughput of the stage over that of the bare network (goal 0.9 on a CPU, 0.95 on a GPU);
max(network, rest) / stage is what is lost against the slower of the two working alone, which no worker can beat. The
picture shows when each clip was decoded and looked at. Exit code 1 if neither ratio of an operator reaches the goal.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run by its path

import pyarrow as pa

from benchmarks.speed.clips import real, rendered
from operators.catalog import operator_class
from operators.contract import Operator
from operators.gpu_batches import Batches
from operators.text_reader import TextReader
from pipelines.ledger import Ledger
from pipelines.rounds import UNIT, Budget, StageJob
from pipelines.run import cluster, run_on_ray
from reelmill.column import arrow_schema
from reelmill.storage import Store
from reelmill.tables import CLIP_ID, ERROR, ERROR_KIND

GOALS = {"cpu": 0.9, "cuda": 0.95}
PIECE_S = 1.0
MAX_BLOCK_CLIPS = 8  # the mill's blocks are longer
HEAVY_S = 10.0  # an operator that says so much of a clip gets a quarter of the clips
COLOURS = {"decode": "#7a9cc6", "model": "#d98c5f"}


def image_tower(folder: Path) -> dict[str, Any]:
    """CLIP ViT-B/32."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    CLIPModel(CLIPConfig()).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return {"backend": "transformers", "model": str(folder), "num_frames": 8, "batch_size": 16}


def end_tower(folder: Path) -> dict[str, Any]:
    """DINOv2 base."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(image_size=518, patch_size=14)).save_pretrained(folder)
    size = {"height": 224, "width": 224}
    BitImageProcessor(size={"shortest_edge": 256}, crop_size=size).save_pretrained(folder)
    return {"backend": "transformers", "model": str(folder)}


def raft(folder: Path) -> dict[str, Any]:
    """RAFT large."""
    import torch
    from torchvision.models.optical_flow import raft_large

    torch.save(raft_large(weights=None).state_dict(), folder / "raft.pth")
    return {"weights": str(folder / "raft.pth"), "num_pairs": 2}


def fragments(folder: Path) -> dict[str, Any]:
    """FAST-VQA's Swin-T."""
    import torch

    from operators.swin3d import FragmentQuality

    torch.save(FragmentQuality().state_dict(), folder / "quality.pth")
    return {"weights": str(folder / "quality.pth"), "draws": 1}


OPERATORS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "embedding": image_tower,
    "end_similarity": end_tower,
    "flow": raft,
    "technical": fragments,
    "vtss": fragments,
    "text": lambda folder: {"num_frames": 2},
}


def pieces(num: int) -> pa.Table:
    """Clips of a second, in turn from each file, each with the key frame that it is decoded from."""
    import av

    found: list[list[dict[str, Any]]] = []
    for path in real() or [rendered("rendered_2160p30_hevc10.mp4")]:
        with av.open(str(path)) as media:
            video = media.streams.video[0]
            packets = [p for p in media.demux(video) if p.pts is not None and not p.is_discard]
            base, size = video.time_base, (video.width, video.height)
        assert base is not None
        pts = sorted(int(p.pts or 0) for p in packets)
        keys = sorted(int(p.pts or 0) for p in packets if p.is_keyframe)
        step = max(1, round(PIECE_S / float(base) / (pts[1] - pts[0])))
        starts = range(0, len(pts) - step + 1, step)
        found.append([_piece(path, pts[start : start + step], keys, base, size) for start in starts])
    turns = [rows[n] for n in range(max(map(len, found))) for rows in found if n < len(rows)]
    return pa.Table.from_pylist([{**turns[n % len(turns)], "clip_id": f"clip{n:03d}"} for n in range(num)])


def _piece(path: Path, pts: list[int], keys: list[int], base: Any, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "uri": str(path),
        "frame_pts": pts,
        "seek_pts": max(key for key in keys if key <= pts[0]),
        "time_base_num": base.numerator,
        "time_base_den": base.denominator,
        "fps": (len(pts) - 1) / float((pts[-1] - pts[0]) * base),
        "width_px": size[0],
        "height_px": size[1],
        "pixel_aspect": 1.0,
    }


class Tap:
    """Notes what a network was asked and said; then says it again without the network."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call, self.noted, self.is_playing = call, [], False
        self._next: Iterator[Any] = iter(())

    def __call__(self, *inputs: Any) -> Any:
        if self.is_playing:
            return next(self._next)[1]
        self.noted.append((inputs, self.call(*inputs)))
        return self.noted[-1][1]

    def play(self) -> None:
        self.is_playing, self._next = True, iter(self.noted)

    def again(self) -> None:
        import torch

        with torch.inference_mode():
            for inputs, _ in self.noted:
                self.call(*inputs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def tapped(state: Any) -> Tap:
    """Stands between the operator and its network."""
    for part in state:
        if isinstance(part, Batches):
            part._forward = tap = Tap(part._forward)
            return tap
        if isinstance(part, TextReader):
            part.read = tap = Tap(part.read)  # type: ignore[method-assign]
            return tap
    raise AssertionError(f"no network in {state}")


def alone(operator: Operator, table: pa.Table) -> tuple[float, float, int]:
    """(seconds of the network, seconds of the rest, forward passes), in this process."""
    state = operator.setup()
    try:
        tap = tapped(state)
        result = operator.process(state, table)
        failed = [error for error in result["error"].to_pylist() if error]
        assert not failed, failed[0]
        network_s = least(tap.again, 1 if operator.seconds_per_row >= HEAVY_S else 2)

        def rest() -> None:
            tap.play()
            operator.process(state, table)

        return network_s, least(rest, 2), len(tap.noted)
    finally:
        operator.close(state)


def least(work: Callable[[], Any], repeats: int) -> float:
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return min(spent)


def on_ray(operator: Operator, table: pa.Table, folder: Path) -> list[dict[str, Any]]:
    """(decode, model) times of each clip in the stage, after a block that warms the worker up."""
    columns = (CLIP_ID, *operator.writes, ERROR_KIND, ERROR)
    unique = tuple({column.name: column for column in columns}.values())
    ledger = Ledger(Store(folder), operator.name, ("clip_id",), "fp")
    job = StageJob(operator.name, operator, unique, ledger, strict=True)
    reads = table.select([column.name for column in operator.reads]).cast(arrow_schema(operator.reads))
    block = reads.append_column(UNIT, pa.array([0] * reads.num_rows, pa.int32()))
    warm = block.slice(0, 1).set_column(0, "clip_id", pa.array(["warm"]))
    step = max(1, min(MAX_BLOCK_CLIPS, int(Budget().block_s / operator.seconds_per_row)))
    blocks = [warm, *(block.slice(start, step) for start in range(0, block.num_rows, step))]
    receipts = list(run_on_ray(job, blocks, 1, print))
    notes = [note for receipt in receipts for note in receipt.notes if "warm" not in note["id"]]
    return sorted(({"id": note["id"], **json.loads(note["json"])} for note in notes), key=lambda row: row["decode"])


def measured(name: str, table: pa.Table, device: str, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import torch

    torch.manual_seed(0)
    weights = folder / name
    weights.mkdir()
    cls: Any = operator_class(name)
    fields = OPERATORS[name](weights)
    operator: Operator = cls(**fields, **({} if name == "text" else {"device": device}))
    if operator.seconds_per_row >= HEAVY_S:
        table = table.slice(0, max(2, table.num_rows // 4))
    network_s, rest_s, passes = alone(operator, table)
    spans = on_ray(operator, table, folder / "out")
    stage_s = max(row["model"][1] for row in spans) - min(row["decode"][0] for row in spans)
    row = {
        "operator": name,
        "clips": table.num_rows,
        "passes": passes,
        "network_s": network_s,
        "rest_s": rest_s,
        "stage_s": stage_s,
        "of_network": network_s / stage_s,
        "of_slower": max(network_s, rest_s) / stage_s,
    }
    return row, spans


def draw(spans: list[dict[str, Any]], name: str, path: Path) -> None:
    """One line per clip: when it was decoded, and when the network looked at it."""
    start = min(row["decode"][0] for row in spans)
    end = max(row["model"][1] for row in spans) - start
    width, line, left = 880, 16, 70
    scale = (width - left - 20) / end
    parts = [
        f'<text x="{left}" y="18" font-size="13">{name}: {len(spans)} clips, one worker of the Ray stage, '
        f"{end:.1f} s; blue: decoding, orange: network</text>"
    ]
    for n, row in enumerate(spans):
        y = 30 + n * line
        parts.append(f'<text x="4" y="{y + 10}" font-size="10">{n + 1}</text>')
        for kind, colour in COLOURS.items():
            x, wide = left + (row[kind][0] - start) * scale, max(1.0, (row[kind][1] - row[kind][0]) * scale)
            dy = 0 if kind == "decode" else 6
            parts.append(f'<rect x="{x:.1f}" y="{y + dy}" width="{wide:.1f}" height="6" fill="{colour}"/>')
    height = 40 + len(spans) * line
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    background = f'<rect width="{width}" height="{height}" fill="white"/>'
    path.write_text(head + background + "".join(parts) + "</svg>\n")


def show(row: dict[str, Any]) -> None:
    print(
        f"{row['operator']:15} {row['clips']} clips, {row['passes']} passes: network {row['network_s']:7.2f} s, rest "
        f"{row['rest_s']:7.2f} s, stage {row['stage_s']:7.2f} s: {row['of_network']:.2f} of the network, "
        f"{row['of_slower']:.2f} of the slower",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operators", default=",".join(OPERATORS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.operators.split(",")
    if unknown := sorted(set(names) - set(OPERATORS)):
        parser.error(f"--operators: unknown {unknown[0]!r}; known are {', '.join(OPERATORS)}")
    import torch

    torch.set_num_threads(1)  # as a worker has
    gpu = f", {torch.cuda.get_device_name()}" if options.device == "cuda" else ""
    print(f"{platform.machine()}, {os.cpu_count()} CPUs{gpu}, torch {torch.__version__}; one worker, one thread")
    table, rows = pieces(options.clips), []
    with tempfile.TemporaryDirectory() as scratch, cluster("local", 1, {}, print):
        for name in names:
            row, spans = measured(name, table, options.device, Path(scratch))
            rows.append(row)
            show(row)
            if options.out:
                options.out.mkdir(parents=True, exist_ok=True)
                draw(spans, name, options.out / f"models-{name}.svg")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(max(row["of_network"], row["of_slower"]) < GOALS[options.device] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
