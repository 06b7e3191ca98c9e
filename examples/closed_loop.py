# SPDX-License-Identifier: Apache-2.0
"""The whole loop on made-up footage, one command: curate, train a tokenizer, tokenize with it, train a generator.

    python -m examples.closed_loop --out out/loop          # minutes on a CPU; the same command goes on where it stopped

Films of five scenes are rendered small, beside the demo's samples with their faults. What the mill keeps is cut into
pixels, a HieraTok-style tokenizer is trained on them, the kept clips are tokenized with it, and a next-scale generator
is trained on the tokens under the measured captions; a smaller one on those of the reference tokenizer, which decode
with `reelmill` alone. Sources of the validation split are seen by none. `OUT/loop.md` has the losses and the pictures.
Exit code 1 if a claim at its end does not hold.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from examples import train_generator, train_tokenizer
from examples.train_generator import Generator, inputs_of
from pipelines import sample_films
from pipelines.cli import run_mill
from pipelines.mill import Options
from pipelines.plan import build_plan, check
from pipelines.recipe import load_recipe
from pipelines.samples import render_samples
from reelmill.orders import Grid
from tokenization.adapters.hieratok import HieraTok
from tokenization.adapters.reference import Reference

SCALE = 0.125  # of UHD: 480x270
TITLES = {
    "dawn_lake": ("Mountain lake at sunrise", ("mountains", "lake", "sunrise")),
    "noon_lake": ("Mountain lake at noon", ("mountains", "lake", "noon")),
    "dusk_lake": ("Mountain lake at dusk", ("mountains", "lake", "dusk")),
    "forest_floor": ("Autumn leaves", ("leaves", "texture")),
    "night_city": ("Skyline over the river by night", ("city", "night")),
}
PIXELS = "{tokenizer: pixels, height_px: 96, width_px: 96, max_frames: 5, stride: 10, count: 4, scales: [1, 2]}"
TILE_PX, TEXT, REFERENCE_STEPS, NUM_ERRORS = 64, "Theme Description", 60, 3
DECODE = """
import sys
import numpy as np
from reelmill.views import View
root, version, spec_id, drawn, decoded = sys.argv[1:]
ids = np.load(drawn)
np.save(decoded, View.load(root, version).decoder(spec_id).decode([ids[str(k)] for k in range(len(ids))]))
found = {"torch", "tokenization", "operators", "pipelines"} & {name.partition(".")[0] for name in sys.modules}
assert not found, found
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/loop"))
    parser.add_argument("--films", type=int, default=40, help="films of each scene")
    parser.add_argument("--tokenizer-steps", type=int, default=100)
    parser.add_argument("--generator-steps", type=int, default=400)
    parser.add_argument("--address", default="in-process", help="as of `pipelines run`")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of both trainers")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    out, root = options.out, str(options.out / "set")
    spent = Spent()
    render(out / "footage", options.films)
    spent.add("render the footage")
    mill(out, [PIXELS], options.address)
    spent.add("curate, cut pixels")
    shape = ["--tile-px", str(TILE_PX), "--patch", "4,8,8", "--channels", "16", "--levels", "5,5,5,5"]
    steps = ["--steps", str(options.tokenizer_steps), "--device", options.device, "--seed", str(options.seed)]
    chosen = train_tokenizer.options_of([root, "--to", str(out / "tokenizer"), *shape, *steps])
    _, learned = train_tokenizer.train(chosen)
    spent.add("train the tokenizer")
    trained = HieraTok(weights=str(chosen.to.resolve()), heights=(TILE_PX,), max_frames=5)
    item = f"{{tokenizer: hieratok, weights: {trained.weights}, heights: [{TILE_PX}], max_frames: 5}}"
    reference = Reference(heights=(TILE_PX,), max_frames=5)
    plainer = f"{{tokenizer: reference, heights: [{TILE_PX}], max_frames: 5}}"
    mill(out, [PIXELS, item, plainer], options.address)
    spent.add("tokenize with it")
    same = [root, "--measured", "--text", TEXT, "--device", options.device, "--seed", str(options.seed)]
    steps = ["--spec", trained.spec.spec_id, "--steps", str(options.generator_steps)]
    chosen = train_generator.options_of([*same, *steps, "--to", str(out / "generator")])
    generator, drawn = train_generator.train(chosen)
    spent.add("train the generator, draw")
    steps = ["--spec", reference.spec.spec_id, "--steps", str(REFERENCE_STEPS), "--width", "48", "--depth", "1"]
    plain = train_generator.options_of([*same, *steps, "--to", str(out / "reference_generator")])
    decodes = {"a grid that was drawn decodes with `reelmill` and numpy alone": decodes_alone(plain)}
    spent.add("train another on reference ids, draw, decode")
    claims = {**tokenizer_claims(out / "tokenizer", learned), **generator_claims(generator, drawn, chosen), **decodes}
    write_report(out, learned, drawn, claims, spent.lines)
    return 0 if all(claims.values()) else 1


# --- footage and curation ---------------------------------------------------------------------------------------


def render(folder: Path, num_films: int) -> None:
    """What is missing of the demo's samples and of the films, with their titles beside them."""
    render_samples(folder, scale=SCALE, workers=1)
    for scene, (title, tags) in TITLES.items():
        for number in range(num_films):
            path = folder / f"{scene}_{number:02d}.mp4"
            if not path.exists():
                path.with_suffix(".json").write_text(json.dumps({"title": title, "tags": tags}))
                film(path, scene, number)


def film(path: Path, scene: str, number: int) -> None:
    """A second of a scene along a camera path of its own."""
    rng = np.random.default_rng([number, *scene.encode()])
    start, turn = rng.uniform(0.47, 0.53, 2), rng.uniform(0, 2 * np.pi)
    end = start + 0.05 * np.array([np.cos(turn), np.sin(turn)])
    zoom = (1.0, float(rng.uniform(1.0, 1.2)))
    aside = path.with_name(f".tmp-{path.name}")
    moved: dict[str, Any] = {"start": tuple(start), "end": tuple(end), "zoom": zoom}
    sample_films.film(aside, SCALE, scene=scene, seed=1000 + number, num_frames=24, **moved)
    aside.replace(path)


def mill(out: Path, tokens: list[str], address: str) -> None:
    """One run of `quickstart`, without reading text (the dearest step), a quarter of the sources held out."""
    changes = ["models=[]", "rules.text=null", "split={val_fraction: 0.25, seed: 0}", f"tokens=[{', '.join(tokens)}]"]
    plan = build_plan(load_recipe("quickstart", changes))
    check(plan)
    code = run_mill(plan, Options(input=str(out / "footage"), out=str(out / "set"), address=address, strict=True))
    if code:
        raise SystemExit(code)


# --- claims and report ------------------------------------------------------------------------------------------


def tokenizer_claims(folder: Path, learned: dict[str, Any]) -> dict[str, bool]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    pca, found = lines[0]["prefix_psnr_db"], learned["prefix_psnr_db"]
    is_better = f"held-out PSNR, {found[-1]} dB, is not below that of principal components, {pca[-1]}"
    return {"held-out PSNR rises with each scale": found == sorted(found), is_better: found[-1] >= pca[-1]}


def generator_claims(model: Generator, drawn: dict[str, Any], options: argparse.Namespace) -> dict[str, bool]:
    dataset, held_out = (train_generator.tokens_of(options, split) for split in ("train", "val"))
    sources = [{s for batch in part.batches(8) for s in batch["source_id"]} for part in (dataset, held_out)]
    loss = drawn["held_out"]
    inputs = inputs_of(next(iter(dataset.loader(2))), dataset, options.device)
    is_told = (
        f"held-out loss under own captions, {loss['true']}, is below that under others', {loss['shuffled']}, by more "
        f"than {NUM_ERRORS} standard errors: {loss['gain']} +- {loss['gain_se']} over {loss['num_sources']} sources"
    )
    return {
        f"no source is in both splits ({len(sources[0])} and {len(sources[1])})": not sources[0] & sources[1],
        "other ids of a scale leave the logits of it and of coarser ones as they are": is_causal(model, *inputs),
        is_told: loss["gain_se"] is not None and loss["gain"] > NUM_ERRORS * loss["gain_se"],
    }


@torch.no_grad()
def is_causal(model: Generator, ids: list[Tensor], words_BW: Tensor, grids: list[Grid]) -> bool:
    """Whether other ids of scale k leave the logits of scales up to k bit for bit, and change the next ones."""
    before = model.eval()(ids[:-1], words_BW, grids)
    for k in range(len(ids) - 1):
        changed = [*ids[:k], (ids[k] + 1) % model.vocabs[k], *ids[k + 1 :]]
        after = model(changed[:-1], words_BW, grids)
        same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        if not all(same[: k + 1]) or any(same[k + 1 :]):
            return False
    return True


def decodes_alone(options: argparse.Namespace) -> bool:
    """Whether ids that a generator draws decode in a process that imports nothing but `reelmill` and numpy."""
    model, _ = train_generator.train(options)
    dataset = train_generator.tokens_of(options, "val")
    _, words_BW, grids = inputs_of(next(iter(dataset.loader(1))), dataset, options.device)
    drawn = [x[0].cpu().numpy() for x in model.eval().draw(words_BW, grids, options.temperature, options.guidance)]
    given, decoded = options.to / "drawn.npz", options.to / "decoded.npy"
    np.savez(given, **{str(k): x[..., 0] for k, x in enumerate(drawn)})  # pyright: ignore[reportArgumentType]
    named = [options.root, dataset.view.version, dataset.spec_id, str(given), str(decoded)]
    if subprocess.run([sys.executable, "-c", DECODE, *named], check=False).returncode:
        return False
    stream = train_generator.stream_of(dataset)
    here = train_generator.decoder_of(dataset)({stream.column(k): x for k, x in enumerate(drawn)})
    return np.array_equal(np.load(decoded), here)


class Spent:
    """CPU seconds of this process and its children, step by step."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, float]] = []
        self._last = self._now()

    @staticmethod
    def _now() -> float:
        return sum(os.times()[:4])

    def add(self, step: str) -> None:
        now = self._now()
        self.lines.append((step, now - self._last))
        self._last = now


def write_report(
    out: Path, learned: dict[str, Any], drawn: dict[str, Any], claims: dict[str, bool], spent: list[tuple[str, float]]
) -> None:
    """`loop.md`, and its claims on the screen."""
    held = drawn["held_out"]
    lines = ["# Closed loop", "", "| claim | holds |", "|---|---|"]
    lines += [f"| {claim} | {'yes' if holds else 'NO'} |" for claim, holds in claims.items()]
    lines += ["", "| step | CPU seconds |", "|---|---|", *(f"| {step} | {seconds:.0f} |" for step, seconds in spent)]
    lines += [
        "",
        f"Tokenizer: held-out PSNR after each scale {learned['prefix_psnr_db']} dB. Crops, then their prefixes:",
    ]
    lines += ["", "![reconstructions](tokenizer/reconstructions.png)", ""]
    lines += [
        f"Generator: nats per id on held-out sources: own captions {held['true']}, captions of other sources at random",
        f"{held['shuffled']} ({held['same']:.0%} of them say the same), none {held['none']}; per scale, own captions:",
        f"{held['per_scale']}. Held-out clips, then clips drawn",
    ]
    lines += ["under their captions:", "", "![samples](generator/samples.png)", ""]
    lines += ["The same of the reference tokenizer's ids, after little training:", ""]
    lines += ["![samples](reference_generator/samples.png)", ""]
    lines += [f"* {caption}" for caption in (out / "generator" / "samples.txt").read_text().splitlines()]
    (out / "loop.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(f"{'ok  ' if holds else 'FAIL'} {claim}" for claim, holds in claims.items()))
    print(f"report: {out / 'loop.md'}")


if __name__ == "__main__":
    sys.exit(main())
