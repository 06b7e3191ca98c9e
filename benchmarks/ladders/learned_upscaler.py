# SPDX-License-Identifier: Apache-2.0
"""A small learned upscaler x2, trained here in seconds, to see whether the effective resolution is fooled by one.

Three convolutions and a pixel shuffle (ESPCN, Shi et al. 2016), which add a correction to the bicubic enlargement. It
is much weaker than what is sold as AI upscaling, which may invent detail up to the last pixel.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

PATCH_PX, BATCH, LEARNING_RATE = 64, 16, 2e-3


def trained(pictures: Sequence[np.ndarray], *, steps: int = 400, seed: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """A function that enlarges uint8 [h, w] to uint8 [2 h, 2 w], trained on native pictures uint8 [H, W]."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 24, 5, padding=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(24, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 4, 3, padding=1),
        torch.nn.PixelShuffle(2),
    )
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    for _ in range(steps):
        native = torch.from_numpy(_patches(pictures, rng)) / 255
        small = torch.nn.functional.avg_pool2d(native, 2)
        optimizer.zero_grad()
        (_enlarged(network, small) - native).abs().mean().backward()
        optimizer.step()

    def enlarge(luma_HW: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            large = _enlarged(network, torch.from_numpy(luma_HW.astype(np.float32))[None, None] / 255)
        return np.rint(large[0, 0].numpy().clip(0, 1) * 255).astype(np.uint8)

    return enlarge


def _enlarged(network: Any, small_B1HW: Any) -> Any:
    import torch

    plain = torch.nn.functional.interpolate(small_B1HW, scale_factor=2, mode="bicubic", align_corners=False)
    return plain + network(small_B1HW)


def _patches(pictures: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """float32 [16, 1, 64, 64] from random places."""
    chosen = []
    for index in rng.integers(len(pictures), size=BATCH):
        height, width = pictures[index].shape
        y, x = rng.integers(height - PATCH_PX), rng.integers(width - PATCH_PX)
        chosen.append(pictures[index][y : y + PATCH_PX, x : x + PATCH_PX])
    return np.stack(chosen)[:, None].astype(np.float32)
