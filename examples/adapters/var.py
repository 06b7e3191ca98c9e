# SPDX-License-Identifier: Apache-2.0
"""VAR's multi-scale VQVAE (arXiv 2404.02905): ten residual grids of ids per image, each prefix of scales decodes.

    git clone https://github.com/FoundationVision/VAR /src/VAR    # MIT
    tokens:
      - {tokenizer: code, code: "examples.adapters.var:make", path: /src/VAR, weights: /data/vae_ch160v4096z32.pth,
         heights: [256], stride: 30}

Every 30th frame is an image of its own; the frame's centre is scaled to a square, the one shape that VAR takes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.tokens import InputRule, Scale, Stream, TimeRule, TokenizerSpec

SIDES = {  # positions per side of each scale, by image size: the README's 256 model, the paper's 512 one
    256: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    512: (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),
}
VOCAB, CHANNELS = 4096, 32  # the "v4096z32" of the checkpoint's name


def make(weights: Path, device: str, heights: tuple[int, ...], time: Callable[..., TimeRule]) -> "Var":
    return Var(weights, device, heights, time)


class Var:
    """`VQVAE.img_to_idxBl` and `embed_to_fhat`, with pixels in -1..1."""

    def __init__(self, weights: Path, device: str, heights: tuple[int, ...], time: Callable[..., TimeRule]) -> None:
        if len(heights) != 1 or heights[0] not in SIDES:
            raise ValueError(f"heights is {list(heights)}; VAR has scales for one of {', '.join(map(str, SIDES))}")
        self.weights, self.device, self.sides = weights, device, SIDES[heights[0]]
        scales = tuple(Scale(fixed=(1, side, side)) for side in self.sides)
        self.stream = Stream("pixel", "ids", scales, (1, 16, 16), vocab=VOCAB)
        self.spec = TokenizerSpec(
            name="var",
            family="rvq",
            input=InputRule(heights[0], heights, (-1.0, 1.0), fit="area_center_square"),
            time=time(1, 1, max_frames=1),
            streams=(self.stream,),
            combine="residual_sum",
            combine_rule={"down": "area", "up": "bicubic", "phi": "quant_resi of the checkpoint, by scale"},
            prefix="scale",
            runtime={"dtype": "float32", "tile": None, "overlap": None, "batch": "one image"},
            licence="MIT",
        )

    def load(self) -> None:
        import torch
        from models.vqvae import VQVAE  # type: ignore[import-not-found] - of the clone

        state = torch.load(self.weights, map_location="cpu", weights_only=True)
        width = state["encoder.conv_in.weight"].shape[0]  # the "ch160" of its name
        self.vae = VQVAE(vocab_size=VOCAB, z_channels=CHANNELS, ch=width, test_mode=True, v_patch_nums=self.sides)
        self.vae.load_state_dict(state, strict=True)
        self.vae.to(self.device)

    def encode(self, frames_THWC: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        images_1CHW = torch.from_numpy(frames_THWC).to(self.device).permute(0, 3, 1, 2) / 127.5 - 1
        ids_by_scale = self.vae.img_to_idxBl(images_1CHW)
        grids = zip(ids_by_scale, self.sides, strict=True)
        return {self.stream.column(k): ids.view(1, s, s).cpu().numpy() for k, (ids, s) in enumerate(grids)}

    def decode(self, payload: dict[str, np.ndarray], upto_scale: int | None = None) -> np.ndarray:
        last = len(self.sides) - 1 if upto_scale is None else upto_scale
        maps = [self._embedded(payload, k if k <= last else None, side) for k, side in enumerate(self.sides)]
        image_1CHW = self.vae.fhat_to_img(self.vae.quantize.embed_to_fhat(maps)[last])
        return ((image_1CHW + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()

    def _embedded(self, payload: dict[str, np.ndarray], scale: int | None, side: int) -> Any:
        """[1, channels, side, side] of a scale; zeros for those after the prefix: the class wants all ten."""
        import torch

        if scale is None:
            return torch.zeros(1, CHANNELS, side, side, device=self.device)
        ids_1hw = torch.from_numpy(payload[self.stream.column(scale)].astype(np.int64)).to(self.device)
        return self.vae.quantize.embedding(ids_1hw).permute(0, 3, 1, 2)
