# SPDX-License-Identifier: Apache-2.0
"""Do more scales help? One scale, the finest of two, and both, at equal floats, steps and seeds.

    python -m benchmarks.hieratok [--seeds 3] [--steps 100] [--device cuda --width 384 ...]

Squares of real photographs (Debian's wallpapers, fetched with apt-get download), averaged down by 2 or 4, the more
detailed quarter; photographs are either trained on or held out. Three tokenizers (`tokenization.hieratok`) per seed,
of 17 floats per patch of 16 x 16 pixels: `single`, one scale of 17 channels; `finest`, the finer of two scales of 17
channels; `all`, both of two scales of 16 channels, the coarser with a sixteenth of the positions. Each is judged by the
PSNR on held-out squares, against principal components of equal floats, and by a generator: a transformer that predicts
its latents position by position, coarse to fine, each value rounded to 16 levels. The numbers of values are equal, so
nats per value compare. Whether more scales help is reported, not required. Exit code 1 if a tokenizer is worse than
principal components, or a prefix worse than a shorter one.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run by its path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.ladders import stills
from tokenization.crops import CropRule, choose_crops, cut
from tokenization.hieratok import Block, HieraTok, HieraTokConfig, position_codes
from tokenization.hieratok_loss import parameter_groups, psnr_db, training_loss

VARIANTS: dict[str, dict[str, Any]] = {
    "single": {"reduces": (1,), "channels": 17},
    "finest": {"reduces": (4, 1), "channels": 17, "readout": "finest"},
    "all": {"reduces": (4, 1), "channels": 16, "readout": "all"},
}
TILE_PX, PATCH, LEVELS, HELD_OUT_SHARE = 128, (1, 16, 16), 16, 4


def squares(per_photo: int) -> tuple[Tensor, Tensor]:
    """(trained on, held out) squares, float [N, 1, 128, 128, 3] in [-1, 1]; every fourth photograph is held out."""
    stills.install_packages()
    rule = CropRule(TILE_PX, TILE_PX, 4 * per_photo, (2, 4), 0)
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for number, still in enumerate(stills.PHOTOS):
        photo_HWC = stills.read_still(still)
        drawn = [crop for crop in choose_crops(photo_HWC, rule, still.name) if crop.kind == "uniform"]
        drawn = sorted(drawn, key=lambda crop: -crop.detail)[:per_photo]
        parts[number % HELD_OUT_SHARE == 0].extend(cut(photo_HWC, crop, rule) for crop in drawn)
    return tuple(torch.from_numpy(np.stack(part)[:, None]).float() / 127.5 - 1 for part in parts)  # type: ignore[return-value]


def schedule(optimizer: torch.optim.Optimizer, lr: float, step: int, steps: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * min(1.0, (step + 1) / 20, 1.02 - step / steps) * group.get("lr_scale", 1.0)


def train_tokenizer(name: str, seed: int, train: Tensor, options: argparse.Namespace) -> tuple[HieraTok, HieraTok]:
    """(as it begins, trained)."""
    torch.manual_seed(seed)
    shape = {"width": options.width, "heads": options.heads, "depth": tuple(options.depth)}
    config = HieraTokConfig(tile_px=TILE_PX, patch=PATCH, **shape, **VARIANTS[name])
    model, before = HieraTok(config).to(options.device), HieraTok(config).to(options.device)
    model.fit_linear(train)
    before.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(parameter_groups(model.train()), options.lr, betas=(0.9, 0.95), weight_decay=0.01)
    for step in range(options.steps):
        schedule(optimizer, options.lr, step, options.steps)
        loss = training_loss(model, train[torch.randint(len(train), (options.batch,))])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return before.eval(), model.eval()


@torch.no_grad()
def prefix_psnr(model: HieraTok, frames: Tensor) -> list[float]:
    latents, _ = model.encode(frames)
    ends = range(1, len(latents) + 1)
    return [round(float(psnr_db(model.decode(latents[:end], 1), frames).mean()), 3) for end in ends]


class NextPosition(nn.Module):
    """Predicts the values of a position from those before it; the same for one scale and several."""

    def __init__(self, model: HieraTok, options: argparse.Namespace) -> None:
        super().__init__()
        self.reduces = model.config.reduces if model.config.readout == "all" else (1,)
        channels, width = model.config.channels, options.width
        grids = model.config.grids(1)[-len(self.reduces) :]
        pairs = zip(grids, self.reduces, strict=True)
        self.places_NC = nn.Parameter(torch.cat([position_codes(grid, by, width) for grid, by in pairs]), False)
        counts = torch.tensor([h * w for _, h, w in grids])
        self.scale_N = nn.Parameter(torch.arange(len(grids)).repeat_interleave(counts), False)
        self.scale_codes = nn.Embedding(len(grids), width)
        self.start = nn.Parameter(torch.zeros(width))
        self.into = nn.Linear(channels * LEVELS, width)
        self.blocks = nn.ModuleList(Block(width, options.heads) for _ in range(sum(options.depth)))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, channels * LEVELS))

    def forward(self, ids_BNC: Tensor) -> Tensor:
        """Mean nats per value."""
        given_BNC = self.into(F.one_hot(ids_BNC, LEVELS).flatten(2).float())
        start_B1C = self.start.expand(len(ids_BNC), 1, -1)
        tokens_BNC = torch.cat([start_B1C, given_BNC[:, :-1]], 1) + self.places_NC + self.scale_codes(self.scale_N)
        allow_NN = torch.ones(tokens_BNC.shape[1], tokens_BNC.shape[1], dtype=torch.bool, device=ids_BNC.device).tril()
        for block in self.blocks:
            tokens_BNC = block(tokens_BNC, allow_NN)
        logits = self.out(tokens_BNC).unflatten(-1, (-1, LEVELS))
        return F.cross_entropy(logits.flatten(0, 2), ids_BNC.flatten())


@torch.no_grad()
def rounded(model: HieraTok, train: Tensor, held_out: Tensor) -> tuple[Tensor, Tensor]:
    """What the generator sees of both sets: each value to one of 16 levels within 2.5 deviations, int64 [B, N, C]."""
    latents = [[z for z in model.encode(frames)[0]] for frames in (train, held_out)]
    latents = [part if model.config.readout == "all" else part[-1:] for part in latents]
    means, deviations = zip(*((z.mean((0, 1)), z.std((0, 1))) for z in latents[0]), strict=True)
    scaled = [[(z - m) / d for z, m, d in zip(part, means, deviations, strict=True)] for part in latents]
    steps = [torch.cat([((z / 2.5).clamp(-1, 1) + 1) / 2 * (LEVELS - 1) for z in part], 1) for part in scaled]
    return steps[0].round().long(), steps[1].round().long()


def generator_loss(model: HieraTok, seed: int, train: Tensor, held_out: Tensor, options: argparse.Namespace) -> float:
    """Held-out nats per value after so many steps."""
    torch.manual_seed(seed)
    seen, unseen = rounded(model, train, held_out)
    generator = NextPosition(model, options).to(options.device)
    optimizer = torch.optim.AdamW(generator.parameters(), options.lr, betas=(0.9, 0.95), weight_decay=0.05)
    for step in range(options.steps):
        schedule(optimizer, options.lr, step, options.steps)
        loss = generator(seen[torch.randint(len(seen), (options.batch,))])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(generator.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        return round(float(torch.stack([generator(part) for part in unseen.split(64)]).mean()), 4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--depth", type=int, nargs=3, default=[1, 1, 2])
    parser.add_argument("--per-photo", type=int, default=32, help="squares of a photograph")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, held_out = (part.to(options.device) for part in squares(options.per_photo))
    print(f"{len(train)} squares to train on, {len(held_out)} held out")
    rows = []
    for seed in range(options.seeds):
        for name in VARIANTS:
            started = time.process_time()
            before, model = train_tokenizer(name, seed, train, options)
            row = {"variant": name, "seed": seed, "pca_db": prefix_psnr(before, held_out)}
            row |= {"psnr_db": prefix_psnr(model, held_out)}
            row |= {"generator_nats": generator_loss(model, seed, train, held_out, options)}
            rows.append({**row, "cpu_s": round(time.process_time() - started)})
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options), "rows": rows}, indent=1, default=str))
    pca = next(row["pca_db"][-1] for row in rows if row["variant"] == "single")
    bad = [r for r in rows if r["psnr_db"] != sorted(r["psnr_db"]) or r["psnr_db"][-1] < pca]
    print(f"principal components of 17 floats: {pca} dB; {len(bad)} of {len(rows)} below them or with falling prefixes")
    return 1 if bad else 0


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| variant | PSNR before | PSNR, dB | after each scale | generator, nats per value |",
        "|---|---|---|---|---|",
    ]
    for name in VARIANTS:
        mine = [row for row in rows if row["variant"] == name]
        prefixes = ", ".join(f"{statistics.mean(p):.2f}" for p in zip(*(row["psnr_db"] for row in mine), strict=True))
        final, nats = spread([row["psnr_db"][-1] for row in mine]), spread([row["generator_nats"] for row in mine], 4)
        lines.append(f"| `{name}` | {mine[0]['pca_db'][-1]:.2f} | {final} | {prefixes} | {nats} |")
    return "\n".join(lines)


def spread(values: list[float], digits: int = 2) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    sys.exit(main())
