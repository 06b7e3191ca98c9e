# SPDX-License-Identifier: Apache-2.0
"""One-D-Piece (arXiv 2501.10064): 256 ordered ids per image, of which any prefix decodes.

    git clone https://github.com/turingmotors/One-D-Piece /src/One-D-Piece    # Apache-2.0; needs einops and omegaconf
    tokens:
      - {tokenizer: code, code: "examples.adapters.one_d_piece:make", path: /src/One-D-Piece,
         weights: "hf://turing-motors/One-D-Piece-S-256@COMMIT", heights: [256], stride: 30}

The ids lie in columns of 1, 1, 2, 4, ... 128, so that a short prefix reads few bytes. TiTok's models, of
the same code, have the same layout, but their prefixes do not decode.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reelmill.tokens import InputRule, Stream, TimeRule, TokenizerSpec, prefix_scales


def make(weights: Path, device: str, heights: tuple[int, ...], time: Callable[..., TimeRule]) -> "OneDPiece":
    return OneDPiece(weights, device, heights, time)


class OneDPiece:
    """`encode(x)[1]["min_encoding_indices"]` and `decode_tokens`, with pixels in 0..1."""

    def __init__(self, weights: Path, device: str, heights: tuple[int, ...], time: Callable[..., TimeRule]) -> None:
        config = json.loads((weights / "config.json").read_text())
        size, model = config["dataset"]["preprocessing"]["crop_size"], config["model"]["vq_model"]
        if heights != (size,):
            raise ValueError(f"heights is {list(heights)}; this model takes [{size}]")
        self.weights, self.device = weights, device
        scales = prefix_scales(model["num_latent_tokens"])
        self.stream = Stream("pixel", "ids", scales, vocab=model["codebook_size"])
        self.spec = TokenizerSpec(
            name="one-d-piece",
            family="vq",
            input=InputRule(size, heights, (0.0, 1.0), fit="area_center_square"),
            time=time(1, 1, max_frames=1),
            streams=(self.stream,),
            combine="prefix_1d",
            prefix="token",
            runtime={"dtype": "float32", "tile": None, "overlap": None, "batch": "one image"},
            licence="Apache-2.0",
        )

    def load(self) -> None:
        from modeling.one_d_piece import OneDPiece as Model  # type: ignore[import-not-found] - of the clone

        self.model = Model.from_pretrained(self.weights).eval().requires_grad_(False).to(self.device)

    def encode(self, frames_THWC: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        images_1CHW = torch.from_numpy(frames_THWC).to(self.device).permute(0, 3, 1, 2) / 255
        ids_11n = self.model.encode(images_1CHW)[1]["min_encoding_indices"].cpu().numpy()
        pieces = np.split(ids_11n, np.cumsum([scale.fixed[2] for scale in self.stream.scales if scale.fixed])[:-1], -1)
        return {self.stream.column(k): piece for k, piece in enumerate(pieces)}

    def decode(self, payload: dict[str, np.ndarray], upto_scale: int | None = None) -> np.ndarray:
        import torch

        num = len(self.stream.scales) if upto_scale is None else upto_scale + 1
        ids_11n = np.concatenate([payload[self.stream.column(k)] for k in range(num)], axis=-1).astype(np.int64)
        image_1CHW = self.model.decode_tokens(torch.from_numpy(ids_11n).to(self.device))
        return (image_1CHW * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
