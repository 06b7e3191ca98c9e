# SPDX-License-Identifier: Apache-2.0
"""Trains a small next-scale transformer on token shards, conditioned on captions, and draws pictures with it.

    python -m examples.train_generator out/demo --to out/generator --measured --steps 300      # minutes on a CPU
    python -m examples.train_generator s3://set --spec 0123456789abcdef --to out/generator --device cuda --width 1024 \\
        --heads 16 --depth 24 --batch 64 --steps 200000 --workers 8

It reads any spec whose tokens are ids in scales (`reference`, `hieratok` with levels, VAR). A scale is predicted at
once from the caption and all coarser scales (arXiv 2404.02905): a position's input is the ids of the scale before,
brought up to its grid; `reelmill.orders` gives order and mask. The caption is a bag of words: a text encoder's place.

The same command goes on where it was stopped. Beside the model: `log.jsonl`, and `samples.png`: per row a held-out clip
as its tokens decode, then clips drawn under its caption.
"""

import argparse
import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from examples.train_tokenizer import endless, loader_of, restore, save, set_rate, view_of, write_log
from reelmill.captions import Captions
from reelmill.orders import Grid, block_causal, next_scale
from reelmill.shards import ShardDataset
from reelmill.tokens import Stream
from tokenization.hieratok import Block, position_codes

NUM_WORDS, MAX_WORDS, WORD_LR, HEAD_START = 4096, 192, 5.0, 0.3
NUM_COUNTED, NUM_HELD_OUT, NUM_SHOWN = 512, 256, 5


def options_of(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="the data set: a directory or s3://...")
    parser.add_argument("--to", type=Path, required=True, help="folder of the result")
    parser.add_argument("--spec", help="spec id of the tokens; default: the only one")
    parser.add_argument("--measured", action="store_true", help="also captions that were made of measurements alone")
    parser.add_argument(
        "--text", action="append", help="text to take captions from; several; default: UltraVideo's mix"
    )
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--drop-caption", type=float, default=0.1, help="share of samples trained without a caption")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--guidance", type=float, default=1.5, help="weight of the caption when drawing; 1: as trained")
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


class Generator(nn.Module):
    """Logits of all scales at once. Ids are lists of [B, t, h, w, G] per scale, words int64 [B, W], 0 for none."""

    def __init__(self, stream: Stream, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.vocabs = [stream.vocab_of(k) or 0 for k in range(len(stream.scales))]
        self.groups, self.width = stream.groups, width
        sizes = [self.groups * vocab for vocab in self.vocabs]
        self.words = nn.Embedding(NUM_WORDS, width, padding_idx=0)
        self.ids = nn.ModuleList(nn.Embedding(size, width) for size in sizes[:-1])
        self.scale_codes = nn.Parameter(torch.randn(len(sizes), width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in sizes)
        for embedding in (self.words, *self.ids):
            embedding.weight.data.normal_(std=0.3)  # type: ignore[operator, union-attr]

    def forward(self, ids: Sequence[Tensor], words_BW: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
        """Logits [B, t, h, w, G, vocabulary] of the first len(ids) + 1 scales; scale k sees ids[:k] only.

        Args:
            grids: of all scales, however many ids are given.
        """
        num = min(len(ids) + 1, len(self.vocabs))
        tokens = [self._input(ids[k - 1] if k else None, k, words_BW, grids) for k in range(num)]
        allow_NN = torch.from_numpy(block_causal(next_scale(grids[:num]).units)).to(words_BW.device)
        tokens_BNC = torch.cat(tokens, dim=1)
        for block in self.blocks:
            tokens_BNC = block(tokens_BNC, allow_NN)
        scales = self.norm(tokens_BNC).split([t.shape[1] for t in tokens], dim=1)
        logits = [head(scale_BNC) for head, scale_BNC in zip(self.heads, scales, strict=False)]
        return [x.unflatten(-1, (self.groups, -1)).unflatten(1, grid) for x, grid in zip(logits, grids, strict=False)]

    def _input(self, before_BthwG: Tensor | None, scale: int, words_BW: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Caption, place, and the scale before on this one's grid: [B, N, width]."""
        grid, by = grids[scale], max(1, grids[-1][1] // grids[scale][1])
        given_BC = self.words(words_BW).sum(1) / (words_BW > 0).sum(1).clamp_min(1)[:, None].sqrt()
        places_NC = position_codes(grid, by, self.width).to(words_BW.device) + self.scale_codes[scale]
        tokens_BNC = given_BC[:, None] + places_NC
        if before_BthwG is None:
            return tokens_BNC
        offsets_G = torch.arange(self.groups, device=words_BW.device) * self.vocabs[scale - 1]
        map_BCthw = self.ids[scale - 1](before_BthwG + offsets_G).sum(-2).movedim(-1, 1)
        return tokens_BNC + F.interpolate(map_BCthw, size=grid, mode="trilinear").flatten(2).transpose(1, 2)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For an optimizer: a word is seen in few samples and is one of many in a caption, so it learns faster."""
        rest = [parameter for parameter in self.parameters() if parameter is not self.words.weight]
        return [{"params": rest}, {"params": [self.words.weight], "lr_scale": WORD_LR, "weight_decay": 0.0}]

    @torch.no_grad()
    def expect(self, samples: Sequence[Sequence[Tensor]]) -> None:
        """Lets training begin at how often each id occurs in the samples.

        Else the first hundreds of steps learn just that, by one direction common to all positions, beside which what a
        caption or a coarser scale tells is small.
        """
        for k, (head, vocab) in enumerate(zip(self.heads, self.vocabs, strict=True)):
            ids_NG = torch.cat([ids[k].flatten(0, -2) for ids in samples])
            counts = torch.stack([ids_G.bincount(minlength=vocab) for ids_G in ids_NG.unbind(-1)]) + 0.5
            head.bias.copy_((counts / counts.sum(1, keepdim=True)).log().flatten())  # type: ignore[operator, union-attr]
            head.weight.mul_(HEAD_START)  # type: ignore[operator, union-attr]

    def loss(self, ids: Sequence[Tensor], words_BW: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Mean nats per id, per sample and scale [B, S]."""
        logits = self(ids[:-1], words_BW, grids)
        nats = [F.cross_entropy(x.movedim(-1, 1), y, reduction="none") for x, y in zip(logits, ids, strict=True)]
        return torch.stack([n.flatten(1).mean(1) for n in nats], dim=1)

    @torch.no_grad()
    def draw(self, words_BW: Tensor, grids: Sequence[Grid], temperature: float, guidance: float) -> list[Tensor]:
        """Ids of all scales, scale by scale."""
        ids: list[Tensor] = []
        for _ in grids:
            logits = self(ids, words_BW, grids)[-1]
            if guidance != 1:
                without = self(ids, torch.zeros_like(words_BW), grids)[-1]
                logits = without + guidance * (logits - without)
            shares = (logits / max(temperature, 1e-6)).softmax(-1)
            ids.append(torch.multinomial(shares.flatten(0, -2), 1).view(shares.shape[:-1]))
        return ids


def words_of(captions: Sequence[str | None]) -> Tensor:
    """int64 [B, MAX_WORDS]: each word by its hash, 0 where there is none."""
    rows = np.zeros((len(captions), MAX_WORDS), np.int64)
    for row, caption in zip(rows, captions, strict=True):
        found = re.findall(r"[^\W\d_]+", (caption or "").lower())[:MAX_WORDS]
        row[: len(found)] = [1 + _hash(word) % (NUM_WORDS - 1) for word in found]
    return torch.from_numpy(rows)


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def train(options: argparse.Namespace) -> tuple[Generator, dict[str, Any]]:
    """Trains up to `options.steps`; returns the model and the last line of the log."""
    torch.manual_seed(options.seed)
    dataset = tokens_of(options, "train")
    held_out = some(tokens_of(options, "val"), NUM_HELD_OUT, options)
    if not held_out:
        print("no held-out source: numbers and pictures are of training clips (val_fraction of the recipe's split)")
        held_out = some(tokens_of(options, "train"), NUM_HELD_OUT, options)
    held_out = captioned(held_out)
    model = Generator(stream_of(dataset), options.width, options.heads, options.depth).to(options.device)
    optimizer = torch.optim.AdamW(model.parameter_groups(), options.lr, betas=(0.9, 0.95), weight_decay=0.05)
    loader = loader_of(dataset, options)
    step, log = restore(options.to, model, optimizer, loader)
    if step == 0:
        counted = some(dataset, NUM_COUNTED, options)
        model.expect([inputs_of(batch, dataset, options.device)[0] for batch in counted])
    started, losses = time.process_time(), []
    for batch in endless(loader, options.steps - step):
        set_rate(optimizer, options, step)
        ids, words, grids = inputs_of(batch, dataset, options.device)
        words = words * (torch.rand(len(words), 1) >= options.drop_caption).to(words)
        loss = over_ids(model.train().loss(ids, words, grids), grids).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
        step += 1
        if step % options.save_every == 0 or step == options.steps:
            mean, losses = float(torch.stack(losses).mean()), []
            log = {"step": step, "loss": round(mean, 4), "held_out": held_out_losses(model, held_out, dataset, options)}
            write_log(options.to, {**log, "cpu_s": round(time.process_time() - started, 1)})
            save(options.to, model, optimizer, loader, step, log)
    show(model, held_out[0], dataset, options)
    return model, log


# --- data -------------------------------------------------------------------------------------------------------


def tokens_of(options: argparse.Namespace, split: str) -> ShardDataset:
    """The tokens of a split, with captions. Raises ValueError if the training split has none."""
    grounding = ("model", "measured") if options.measured else ("model",)
    captions = Captions(grounding=grounding)
    if options.text:
        captions = replace(captions, main=tuple(options.text), num_extra=0)
    dataset = ShardDataset(options.root, view_of(options), spec=options.spec, split=split, captions=captions)
    if split == "train" and not len(dataset):
        raise ValueError(f"{options.root}: no clip of the training split has tokens of spec {dataset.spec_id}")
    return dataset


def stream_of(dataset: ShardDataset) -> Stream:
    """The spec's ids. Raises ValueError if it has none, or several streams."""
    streams = [stream for stream in dataset.spec.streams if stream.role == "tokens"]
    if len(streams) != 1 or streams[0].kind != "ids":
        kinds = ", ".join(f"{stream.name}: {stream.kind}" for stream in streams)
        raise ValueError(
            f"spec {dataset.spec_id} ({dataset.spec.name}) has {kinds}; this trainer wants one stream of ids"
        )
    return streams[0]


def inputs_of(batch: dict[str, Any], dataset: ShardDataset, device: str) -> tuple[list[Tensor], Tensor, list[Grid]]:
    """Ids [B, t, h, w, G] per scale, words, and the scales' grids."""
    stream = stream_of(dataset)
    ids = []
    for k in range(len(stream.scales)):
        values = torch.as_tensor(batch[stream.column(k)]).long().to(device)
        ids.append(values if values.ndim == 5 else values[..., None])
    return ids, words_of(batch["caption"]).to(device), [tuple(x.shape[1:4]) for x in ids]


def some(dataset: ShardDataset, num: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The first batches, as tensors."""
    found: list[dict[str, Any]] = []
    for batch in loader_of(dataset, options) if len(dataset) else ():
        found.append(batch)
        if sum(len(b["clip_id"]) for b in found) >= num:
            break
    return found


def captioned(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The clips that have a caption, or all if none has; the largest batch first."""
    kept = [only(batch, [i for i, caption in enumerate(batch["caption"]) if caption]) for batch in batches]
    kept = [batch for batch in kept if batch["clip_id"]] or batches
    return sorted(kept, key=lambda b: -len(b["clip_id"]))


def only(batch: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    lists = {key: [value[i] for i in rows] for key, value in batch.items() if isinstance(value, list)}
    return lists | {key: value[rows] for key, value in batch.items() if isinstance(value, Tensor)}


# --- numbers and pictures ---------------------------------------------------------------------------------------


def over_ids(loss_BS: Tensor, grids: Sequence[Grid]) -> Tensor:
    """Mean nats per id of each sample [B]."""
    sizes_S = loss_BS.new_tensor([float(np.prod(grid)) for grid in grids])
    return loss_BS @ (sizes_S / sizes_S.sum())


@torch.no_grad()
def held_out_losses(
    model: Generator, batches: list[dict[str, Any]], dataset: ShardDataset, options: argparse.Namespace
) -> dict[str, Any]:
    """Nats per id under the clips' own captions, those of clips of other sources, and none.

    `gain` is what the own caption saves against another's; `gain_se` its standard error. Both are over sources, since
    the windows of one are alike. `same` is the share of others' captions that say the same.
    """
    rng = np.random.default_rng(0)
    clips = [pair for b in batches for pair in zip(b["source_id"], b["caption"], strict=True)]
    found: list[Tensor] = []
    same: list[bool] = []
    for batch in batches:
        ids, words, grids = inputs_of(batch, dataset, options.device)
        others = [[c for s, c in clips if s != source] or [None] for source in batch["source_id"]]
        drawn = [other[rng.integers(len(other))] for other in others]
        given = (words, words_of(drawn).to(words), words * 0)
        losses = [model.eval().loss(ids, words_BW, grids) for words_BW in given]
        found.append(torch.cat([*(over_ids(loss_BS, grids)[:, None] for loss_BS in losses), losses[0]], dim=1))
        same += [own == other for own, other in zip(batch["caption"], drawn, strict=True)]
    losses_NX = torch.cat(found)
    is_of_SN = torch.tensor([[source == s for s, _ in clips] for source in sorted({s for s, _ in clips})])
    gain_N = (losses_NX[:, 1] - losses_NX[:, 0]).cpu()
    gains_S = torch.stack([gain_N[is_of_N].mean() for is_of_N in is_of_SN])
    error = round(float(gains_S.std()) / len(gains_S) ** 0.5, 4) if len(gains_S) > 1 else None
    true, shuffled, none, *per_scale = losses_NX.mean(0).tolist()
    told = {"true": true, "shuffled": shuffled, "none": none, "gain": float(gains_S.mean()), "same": np.mean(same)}
    rounded = {name: round(float(value), 4) for name, value in told.items()}
    return {**rounded, "gain_se": error, "num_sources": len(gains_S), "per_scale": [round(x, 3) for x in per_scale]}


def decoder_of(dataset: ShardDataset) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """From token columns of one window to frames uint8 [T, H, W, 3], by what lies beside the shards.

    The reference tokenizer's ids need `reelmill` alone, those of a trained model its network.
    """
    spec, stream = dataset.spec, stream_of(dataset)
    if spec.decode.get("kind") == "linear_residual":
        decoder = dataset.view.decoder(dataset.spec_id)
        return lambda columns: decoder.decode([columns[stream.column(k)][..., 0] for k in range(len(stream.scales))])
    if spec.decode.get("kind") != "tokenization.hieratok":
        raise ValueError(f"spec {dataset.spec_id} decodes by {spec.decode}; this trainer draws no pictures of it")
    from tokenization.adapters.hieratok import HieraTok

    with tempfile.TemporaryDirectory() as folder:
        for name in spec.decode["files"]:
            (Path(folder) / name).write_bytes(dataset.store.read_bytes(f"shards/{dataset.spec_id}/{name}"))
        return HieraTok(weights=folder, dtype=spec.runtime["dtype"]).load().decode


def show(model: Generator, batch: dict[str, Any], dataset: ShardDataset, options: argparse.Namespace) -> None:
    """`samples.png`: a clip as its tokens decode, then two that were drawn; their captions in `samples.txt`."""
    firsts = {caption: i for i, caption in reversed(list(enumerate(batch["caption"])))}  # each caption once
    first = only(batch, sorted(firsts.values())[:NUM_SHOWN])
    ids, words, grids = inputs_of(first, dataset, options.device)
    columns = [ids, *(model.eval().draw(words, grids, options.temperature, options.guidance) for _ in range(2))]
    stream, decode = stream_of(dataset), decoder_of(dataset)
    rows = []
    for number in range(len(words)):
        grids_of = [{stream.column(k): x[number].cpu().numpy() for k, x in enumerate(column)} for column in columns]
        rows.append(np.concatenate([decode(columns)[-1] for columns in grids_of], axis=1))
    picture = np.concatenate(rows)
    Image.fromarray(picture).resize((picture.shape[1] * 2, picture.shape[0] * 2), 0).save(options.to / "samples.png")
    (options.to / "samples.txt").write_text("".join(f"{caption}\n" for caption in first["caption"]), encoding="utf-8")


if __name__ == "__main__":
    train(options_of(None))
