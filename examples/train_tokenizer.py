# SPDX-License-Identifier: Apache-2.0
"""Trains a HieraTok-style tokenizer on a data set's `pixels` shards; the result is a folder that recipes can name.

    python -m examples.train_tokenizer out/demo --to out/hieratok --steps 300               # minutes on a CPU
    python -m examples.train_tokenizer s3://set --to out/hieratok --device cuda --tile-px 256 --width 768 --heads 12 \\
        --depth 6,6,12 --batch 64 --steps 200000 --workers 8

The data set's recipe has `{tokenizer: pixels, ...}` among its `tokens`. The same command goes on where it was stopped:
the folder holds the model, the optimizer and how far the reader is. Beside them `log.jsonl`, and `reconstructions.png`:
held-out crops, then what their scales 1, 2, ... decode to.
"""

import argparse
import json
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from reelmill.shards import ShardDataset
from reelmill.torch_data import ShardLoader
from reelmill.views import View
from tokenization.hieratok import HieraTok, HieraTokConfig
from tokenization.hieratok_loss import parameter_groups, psnr_db, training_loss

NUM_FITTED, NUM_HELD_OUT, NUM_SHOWN = 256, 128, 8


def options_of(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="the data set: a directory or s3://...")
    parser.add_argument("--to", type=Path, required=True, help="folder of the result")
    parser.add_argument("--spec", help="spec id of the pixels to read; default: the only one")
    parser.add_argument("--tile-px", type=int, default=64, help="side of the squares cut from the crops")
    parser.add_argument("--patch", type=ints, default=(1, 8, 8), help="frames,rows,columns of a position")
    parser.add_argument("--reduces", type=ints, default=(4, 2, 1), help="per scale, finest positions per position")
    parser.add_argument("--channels", type=int, default=16, help="values per position")
    parser.add_argument("--levels", type=ints, default=(), help="of each value of a group, for ids; none: latents")
    parser.add_argument("--readout", default="all", choices=("all", "finest"))
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--depth", type=ints, default=(1, 1, 2), help="blocks: full attention, scale-causal, decoder")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--kl-weight", type=float, default=1e-5)
    parser.add_argument("--more-loss", help="package.module:callable of (decoded, target) [B, T, H, W, 3] in [-1, 1]")
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def ints(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def train(options: argparse.Namespace) -> tuple[HieraTok, dict[str, Any]]:
    """Trains up to `options.steps`; returns the model and the last line of the log."""
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    crops = crops_of(options, "train")
    model = HieraTok(config_of(options)).to(device)
    optimizer = torch.optim.AdamW(parameter_groups(model), options.lr, betas=(0.9, 0.95), weight_decay=0.01)
    loader = loader_of(crops, options)
    held_out = some(crops_of(options, "val"), NUM_HELD_OUT, options).to(device)
    if len(held_out) == 0:
        print("no held-out source: numbers and pictures are of training crops (val_fraction of the recipe's split)")
        held_out = some(crops_of(options, "train"), NUM_HELD_OUT, options).to(device)
    step, log = restore(options.to, model, optimizer, loader)
    if step == 0:
        model.fit_linear(some(crops_of(options, "train"), NUM_FITTED, options).to(device))
        log = {"step": 0, "prefix_psnr_db": prefix_psnr(model, held_out)}  # of principal components
        write_log(options.to, log)
    more = None if options.more_loss is None else named(options.more_loss)
    started, losses = time.process_time(), []
    for batch in endless(loader, options.steps - step):
        set_rate(optimizer, options, step)
        frames = tiles(batch, options).to(device)
        loss = training_loss(model.train(), frames, kl_weight=options.kl_weight, more=more)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
        step += 1
        if step % options.save_every == 0 or step == options.steps:
            mean, losses = float(torch.stack(losses).mean()), []
            log = {"step": step, "loss": mean, "prefix_psnr_db": prefix_psnr(model, held_out)}
            write_log(options.to, {**log, "cpu_s": round(time.process_time() - started, 1)})
            save(options.to, model, optimizer, loader, step, log)
    model.save(options.to)
    show(model, held_out[:NUM_SHOWN], options.to / "reconstructions.png")
    print(f"use it: tokens: [{{tokenizer: hieratok, weights: {options.to.resolve()}, heights: [...]}}]")
    return model, log


def set_rate(optimizer: torch.optim.Optimizer, options: argparse.Namespace, step: int) -> None:
    """Up over 20 steps, then down to a twentieth in a straight line."""
    for group in optimizer.param_groups:
        share = min(1.0, (step + 1) / 20, 1 - 0.95 * step / options.steps)
        group["lr"] = options.lr * share * group.get("lr_scale", 1.0)


# --- data -------------------------------------------------------------------------------------------------------


def crops_of(options: argparse.Namespace, split: str) -> ShardDataset:
    """The pixels of a split. Raises ValueError if the data set has none."""
    view = View.load(options.root, view_of(options))
    found = [spec_id for spec_id, spec in view.specs.items() if spec.family == "pixels"]
    if options.spec is None and len(found) != 1:
        raise ValueError(f"{options.root} has {len(found)} specs of pixels ({', '.join(found)}); give --spec")
    dataset = ShardDataset(options.root, view.version, spec=options.spec or found[0], split=split)
    if split == "train" and not len(dataset):
        raise ValueError(f"{options.root}: no clip of the training split has crops")
    return dataset


def view_of(options: argparse.Namespace) -> str:
    """The view that this training began with, now the latest: a later one would have another order."""
    path = options.to / "view"
    if not path.exists():
        options.to.mkdir(parents=True, exist_ok=True)
        path.write_text(View.load(options.root).version)
    return path.read_text()


def tiles(batch: dict[str, Any], options: argparse.Namespace) -> Tensor:
    """A random square and a legal length of each crop, float [B, T, H, W, 3] in [-1, 1]."""
    pixels = torch.as_tensor(batch["tokens_pixel_s0"])
    _, t, height, width, _ = pixels.shape
    side, length = options.tile_px, 1 + (t - 1) // options.patch[0] * options.patch[0]
    if min(height, width) < side:
        raise ValueError(f"the crops have {width}x{height} pixels, fewer than --tile-px {side}")
    top, left = (int(torch.randint(size - side + 1, ())) for size in (height, width))
    return pixels[:, :length, top : top + side, left : left + side].float() / 127.5 - 1


def some(dataset: ShardDataset, num: int, options: argparse.Namespace) -> Tensor:
    """Tiles of the first samples, in the middle of the reading order."""
    found: list[Tensor] = []
    for batch in dataset.batches(options.batch):
        found.append(tiles(batch, options))
        if sum(map(len, found)) >= num:
            break
    return torch.cat(found)[:num] if found else torch.empty(0)


def loader_of(dataset: ShardDataset, options: argparse.Namespace) -> ShardLoader:
    """With a random generator of its own: a loader draws from it when it starts, which would shift all other draws."""
    return dataset.loader(options.batch, num_workers=options.workers, generator=torch.Generator())


def endless(loader: Any, num_steps: int) -> Iterator[dict[str, Any]]:
    """So many batches, over as many epochs as that takes."""
    while num_steps > 0:
        for batch in loader:
            yield batch
            num_steps -= 1
            if num_steps <= 0:
                return


# --- model, numbers, pictures -----------------------------------------------------------------------------------


def config_of(options: argparse.Namespace) -> HieraTokConfig:
    names = ("tile_px", "patch", "reduces", "channels", "levels", "readout", "width", "heads", "depth")
    return HieraTokConfig(**{name: getattr(options, name) for name in names})


@torch.no_grad()
def prefix_psnr(model: HieraTok, frames: Tensor) -> list[float]:
    """Mean PSNR in dB when the first 1, 2, ... scales are decoded."""
    latents, _ = model.eval().encode(frames)
    ends = range(1, len(latents) + 1)
    return [round(float(psnr_db(model.decode(latents[:end], frames.shape[1]), frames).mean()), 3) for end in ends]


@torch.no_grad()
def show(model: HieraTok, frames: Tensor, path: Path) -> None:
    """Column 1: the crops' last frames; then what each prefix of scales decodes to."""
    latents, _ = model.eval().encode(frames)
    columns = [frames, *(model.decode(latents[:end], frames.shape[1]) for end in range(1, len(latents) + 1))]
    rows = torch.cat([column[:, -1] for column in columns], dim=2)
    picture = ((rows.clamp(-1, 1) + 1) * 127.5).round().byte().flatten(0, 1).cpu().numpy()
    Image.fromarray(np.ascontiguousarray(picture)).resize((picture.shape[1] * 2, picture.shape[0] * 2), 0).save(path)


def named(place: str) -> Any:
    """A loss of the user's, such as LPIPS or a discriminator's, by its path."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


# --- files ------------------------------------------------------------------------------------------------------


def save(folder: Path, model: nn.Module, optimizer: Any, loader: Any, step: int, log: dict[str, Any]) -> None:
    """All that the next call needs, as one file that appears whole."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "reader": json.dumps(loader.state_dict()),
        "rng": torch.get_rng_state(),
        "step": step,
        "log": json.dumps(log),
    }
    torch.save(state, folder / ".tmp-checkpoint.pt")
    (folder / ".tmp-checkpoint.pt").replace(folder / "checkpoint.pt")


def restore(folder: Path, model: nn.Module, optimizer: Any, loader: Any) -> tuple[int, dict[str, Any]]:
    """(steps done, last line of the log); 0 and nothing where there is no checkpoint."""
    if not (folder / "checkpoint.pt").exists():
        return 0, {}
    state = torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise ValueError(f"{folder} holds a model of another shape; give another --to: {error}") from error
    optimizer.load_state_dict(state["optimizer"])
    loader.load_state_dict(json.loads(state["reader"]))
    torch.set_rng_state(state["rng"])
    print(f"goes on after step {state['step']}")
    return state["step"], json.loads(state["log"])


def write_log(folder: Path, line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    train(options_of(None))
