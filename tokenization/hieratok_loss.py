# SPDX-License-Identifier: Apache-2.0
"""What the HieraTok-style model is trained on; every choice is ours (`tokenization.hieratok`)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tokenization.hieratok import HieraTok
from tokenization.pyramid import downscale, low_passed

GRADIENT_SCALES = (1, 2, 4)
LINEAR_LR = 0.3
Term = Callable[[Tensor, Tensor], Tensor]


def training_loss(
    model: HieraTok, frames_BTHWC: Tensor, *, kl_weight: float = 1e-5, more: Term | None = None
) -> Tensor:
    """Loss of one step; draws the prefix from torch's generator.

    Args:
        kl_weight: of the mean KL divergence per value.
        more: a further term of (decoded, target), both [B, T, H, W, 3]: perceptual or adversarial.
    """
    num_scales = len(model.config.reduces)
    upto = int(torch.randint(num_scales, ())) if torch.rand(()) < 0.5 else num_scales - 1
    latents, logvars = model.encode(frames_BTHWC)
    decoded_BTHWC = model.decode(latents[: upto + 1], frames_BTHWC.shape[1])
    target_BTHWC = low_passed(frames_BTHWC, model.config.reduces[upto])
    loss = (decoded_BTHWC - target_BTHWC).abs().mean() + gradient_loss(decoded_BTHWC, target_BTHWC)
    if not model.config.levels:
        pairs = zip(latents, logvars, strict=True)
        loss = loss + kl_weight * torch.stack([(z**2 + v.exp() - 1 - v).mean() / 2 for z, v in pairs]).mean()
    return loss if more is None else loss + more(decoded_BTHWC, target_BTHWC)


def parameter_groups(model: HieraTok) -> list[dict[str, Any]]:
    """Groups for an optimizer, with `lr_scale`, by which the caller multiplies its rate.

    The linear path learns slowly: its fine components are small, and Adam's steps, equal for all weights, would wipe
    out what the principal components know.
    """
    linear = [*model.linear_in.parameters(), *model.linear_out.parameters()]
    rest = [p for p in model.parameters() if all(p is not one for one in linear)]
    return [{"params": rest, "lr_scale": 1.0}, {"params": linear, "lr_scale": LINEAR_LR, "weight_decay": 0.0}]


def gradient_loss(decoded_BTHWC: Tensor, target_BTHWC: Tensor) -> Tensor:
    """Mean L1 of the differences between neighbours, at full, half and quarter resolution."""
    error_BTCHW = (decoded_BTHWC - target_BTHWC).movedim(-1, 2)
    terms = []
    for by in GRADIENT_SCALES:
        small = downscale(error_BTCHW, by)
        terms += [small.diff(dim=-1).abs().mean(), small.diff(dim=-2).abs().mean()]
    return torch.stack(terms).mean()


def psnr_db(decoded_BTHWC: Tensor, frames_BTHWC: Tensor) -> Tensor:
    """PSNR per sample [B], of values in [-1, 1]."""
    error_B = (decoded_BTHWC.clamp(-1, 1) - frames_BTHWC).square().flatten(1).mean(1)
    return 10 * torch.log10(4.0 / error_B.clamp_min(1e-9))
