# SPDX-License-Identifier: Apache-2.0
"""Fits the coefficients of the meter `resolution` on the synthetic ladder of enlarged photographs.

    python -m benchmarks.fit_resolution

installs Debian's wallpaper packages, makes the ladder (`benchmarks.ladders.resolution_samples`), fits three small
networks on all photographs and renderings, and writes operators/meters/resolution.npz. The same pictures and seeds
give the same file. The accuracy that docs/accuracy.md tells is of other networks, fitted in the same way without the
photographs they are judged on (`benchmarks.ladders.resolution`). After a change of the coefficients raise the
meter's `version`.
"""

from pathlib import Path

import numpy as np

from benchmarks.ladders.resolution_samples import Samples, measured
from operators.meters.resolution import NUM_AGREEING, Network, descriptors

NUM_NETWORKS, NUM_HIDDEN = 3, 24
BATCH, EPOCHS, LEARNING_RATE, WEIGHT_DECAY, JITTER = 128, 20, 3e-3, 1e-2, 0.2  # jitter: in deviations, on the input
SCALE_WEIGHT = 0.5  # of the native scale's loss against that of the probability
FAIR_FACTOR = 1.4  # enlargements by less have a native scale, but are neither good nor bad


def fit(samples: Samples, is_used: np.ndarray, *, networks: int = NUM_NETWORKS, epochs: int = EPOCHS) -> Network:
    """Networks fitted on the samples [N] that `is_used` says true of and that can be judged."""
    chosen = np.flatnonzero(is_used & samples.is_telling)
    described, is_window = descriptors(samples.spectra[chosen])
    factor = samples.of("largest_factor")[chosen]
    targets = np.stack([factor > 1, np.log2(samples.of("scale")[chosen])], axis=1).astype(np.float32)
    is_fair = (factor == 1) | (factor > FAIR_FACTOR)
    share = (factor > 1)[is_fair].mean()
    weights = np.where(factor > 1, 1, share / (1 - share)) * is_fair
    mean, deviation = described[is_window].mean(axis=0), described[is_window].std(axis=0) + 1e-3
    inputs = (described - mean) / deviation
    fitted = [_fit_one(inputs, is_window, targets, weights.astype(np.float32), s, epochs) for s in range(networks)]
    for layers in fitted:
        layers |= {"mean": mean, "deviation": deviation}
    return Network({name: np.stack([layers[name] for layers in fitted]).astype(np.float32) for name in fitted[0]})


def _fit_one(
    inputs: np.ndarray, is_window: np.ndarray, targets: np.ndarray, weights: np.ndarray, seed: int, epochs: int
) -> dict[str, np.ndarray]:
    """One network: its layers. inputs [N, 64, F], is_window [N, 64], targets [N, 2] (is enlarged, log2 scale)."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    layers = _layers(inputs.shape[-1])
    optimizer = torch.optim.AdamW(layers.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    num_steps = max(1, epochs * len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=num_steps)
    for _ in range(num_steps):
        rows = rng.choice(len(inputs), min(BATCH, len(inputs)))
        x, window, target, weight = (torch.from_numpy(a[rows]) for a in (inputs, is_window, targets, weights))
        said = _forward(layers, x + JITTER * torch.randn_like(x), window)
        wrong = F.binary_cross_entropy_with_logits(said[:, 0], target[:, 0], reduction="none")
        off = F.smooth_l1_loss(said[:, 1], target[:, 1], beta=0.1)
        optimizer.zero_grad()
        ((wrong * weight).mean() + SCALE_WEIGHT * off).backward()
        optimizer.step()
        schedule.step()
    return {name: tensor.detach().numpy() for name, tensor in layers.items()}


def _layers(num_inputs: int):
    import torch

    shapes = {"first": (NUM_HIDDEN, num_inputs), "second": (NUM_HIDDEN, NUM_HIDDEN), "last": (2, 2 * NUM_HIDDEN)}
    layers = {}
    for name, (rows, columns) in shapes.items():
        bound = columns**-0.5
        layers[f"{name}_w"] = torch.empty(rows, columns).uniform_(-bound, bound).requires_grad_()
        layers[f"{name}_b"] = torch.empty(rows).uniform_(-bound, bound).requires_grad_()
    return layers


def _forward(layers, inputs_BNF, is_window_BN):
    """The same as `Network._one`, for a batch: [B, 2]."""
    import torch

    hidden = inputs_BNF
    for name in ("first", "second"):
        hidden = torch.relu(hidden @ layers[f"{name}_w"].T + layers[f"{name}_b"])
    hidden = hidden * is_window_BN[..., None]
    mean = hidden.sum(dim=1) / is_window_BN.sum(dim=1, keepdim=True)
    strongest = hidden.topk(NUM_AGREEING, dim=1).values.mean(dim=1)
    return torch.cat([mean, strongest], dim=1) @ layers["last_w"].T + layers["last_b"]


def main() -> None:
    """Fits on everything and writes the meter's coefficients."""
    import cv2

    from benchmarks.ladders.stills import PHOTOS, RENDERED, install_packages
    from operators.meters import resolution

    cv2.setNumThreads(1)
    install_packages()
    samples = measured(PHOTOS + RENDERED)
    network = fit(samples, np.ones(len(samples.source), bool))
    path = Path(str(resolution.__file__)).with_name("resolution.npz")
    np.savez_compressed(path, **network.layers)  # type: ignore[arg-type]
    print(f"{path}: {path.stat().st_size} bytes, from {len(samples.source)} samples")


if __name__ == "__main__":
    main()
