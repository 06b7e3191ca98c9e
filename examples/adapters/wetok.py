# SPDX-License-Identifier: Apache-2.0
"""WeTok (arXiv 2508.05599): groups of bits at each position, 8 bits a group; images of any size.

    git clone https://github.com/zhuangshaobin/WeTok /src/WeTok    # Apache-2.0; needs einops and lightning
    tokens:
      - {tokenizer: code, code: "examples.adapters.wetok:make", path: /src/WeTok, weights: /data/wetok,
         heights: [360, 720], max_frames: 8}

`weights` is a folder with the checkpoint (one .ckpt) and its file of configs/WeToK/Inference (one .yaml). A group of 8
bits is stored as the repository's own index of it, one byte, lowest bit first.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.tokens import InputRule, Scale, Stream, TimeRule, TokenizerSpec


def make(weights: Path, device: str, heights: tuple[int, ...], time: Callable[..., TimeRule]) -> "WeTok":
    return WeTok(weights, device, heights, time)


class WeTok:
    """`VQModel.encode(x)[2]` and `decode(quantize.decode(ids))`, with pixels in -1..1 and the averaged weights."""

    def __init__(self, weights: Path, device: str, heights: tuple[int, ...], time: Callable[..., TimeRule]) -> None:
        import yaml

        self.device, self.checkpoint = device, the_only(weights, "*.ckpt")
        self.config = yaml.safe_load(the_only(weights, "*.yaml").read_text())["model"]["init_args"]
        by = 2 ** (len(self.config["ddconfig"]["ch_mult"]) - 1)
        groups, vocab = self.config["num_codebooks"], self.config["n_embed"]
        self.stream = Stream("pixel", "ids", (Scale(reduce=(1, 1, 1)),), (1, by, by), groups=groups, vocab=vocab)
        self.spec = TokenizerSpec(
            name="wetok",
            family="lfq",
            input=InputRule(by, heights, (-1.0, 1.0)),
            time=time(1, 1),
            streams=(self.stream,),
            combine="groups_concat",
            combine_rule={"bits": "0 is -1, 1 is 1; lowest bit of the first group first"},
            runtime={"dtype": "float32", "tile": None, "overlap": None, "batch": "one frame"},
            licence="Apache-2.0",
        )

    def load(self) -> None:
        import torch
        from src.WeTok.models.lfqgan import VQModel  # type: ignore[import-not-found] - of the clone

        # The loss is for training, and would fetch the weights of LPIPS.
        model = VQModel(**{**self.config, "lossconfig": {"target": "torch.nn.Identity"}, "ckpt_path": None})
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        if missing := model.load_state_dict(state).missing_keys:  # the class is lenient; the rest would be random
            raise ValueError(f"{self.checkpoint} lacks {len(missing)} tensors of its configuration: {missing[:3]}")
        if model.use_ema:
            model.model_ema.copy_to(model)
        self.model = model.eval().requires_grad_(False).to(self.device)

    def encode(self, frames_THWC: np.ndarray) -> dict[str, np.ndarray]:
        _, h, w, g = self.stream.shape(0, self.spec.time, *frames_THWC.shape[:3])
        ids = [self.model.encode(self._pixels(frame_HWC))[2].view(h, w, g).cpu().numpy() for frame_HWC in frames_THWC]
        return {"tokens_pixel_s0": np.stack(ids)}

    def decode(self, payload: dict[str, np.ndarray], upto_scale: int | None = None) -> np.ndarray:
        return np.concatenate([self._frame(ids_hwg) for ids_hwg in payload["tokens_pixel_s0"]])

    def _pixels(self, frame_HWC: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(frame_HWC).to(self.device).permute(2, 0, 1)[None] / 127.5 - 1

    def _frame(self, ids_hwg: np.ndarray) -> np.ndarray:
        import torch

        code_hwd = self.model.quantize.decode(torch.from_numpy(ids_hwg.astype(np.int64)).to(self.device))
        with torch.random.fork_rng():  # one of the decoders, of compression 768, draws noise
            torch.manual_seed(0)
            image_1CHW = self.model.decode(code_hwd.permute(2, 0, 1)[None])
        return ((image_1CHW + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def the_only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ValueError(f"weights {folder}: {len(found)} files {pattern}; one is wanted")
    return found[0]
