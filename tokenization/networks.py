# SPDX-License-Identifier: Apache-2.0
"""What tokenizers with a network share: a folder of weights with its configuration, the device, pixels in and out."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from operators.contract import Resources
from operators.weights import Weights, locate, weights_hash
from tokenization.contract import Codec, SizedTokenizer

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class NetworkTokenizer(SizedTokenizer):
    """A tokenizer whose weights are a folder with `config.json` and safetensors, as `save_pretrained` writes it.

    Args:
        weights: where it lies (`operators.weights`): a local path, s3:// or hf://ORG/NAME@COMMIT.
        dtype: of the network; it changes tokens.
        device: cpu or cuda; not part of the spec, but tokens of two kinds of device may differ.
        licence: of the weights, recorded with the tokens.

    Raises:
        ValueError: another class of model than this adapter's, or a dtype that is none.
    """

    classes: ClassVar[tuple[str, ...]]  # `_class_name` or architectures that the adapter reads

    weights: str
    dtype: str = "float32"
    device: str = "cpu"
    licence: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")
        if self.device.split(":")[0] not in ("cpu", "cuda"):
            raise ValueError(f"device is {self.device!r}; it must be cpu or cuda")

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        gpus = 0.0 if self.device == "cpu" else 1.0
        return Resources(num_cpus=1.0, num_gpus=gpus, memory_gb=6.0)

    @cached_property
    def folder(self) -> Path:
        """The weights on this machine."""
        return locate(Weights(self.weights))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's own configuration."""
        path = self.folder / "config.json"
        if not path.is_file():
            raise ValueError(f"weights {self.weights!r}: there is no config.json; give a folder of `save_pretrained`")
        config = json.loads(path.read_text())
        found = [config.get("_class_name"), config.get("model_type"), *config.get("architectures", [])]
        if not set(found) & set(self.classes):
            raise ValueError(f"weights {self.weights!r} are of {found[0]}; {self.name} reads {', '.join(self.classes)}")
        return config

    def setting(self, key: str) -> Any:
        """A key of the configuration. Raises ValueError if it is missing."""
        if key not in self.config:
            raise ValueError(f"weights {self.weights!r}: config.json has no {key!r}; save it again with this library")
        return self.config[key]

    def stated(self, **more: Any) -> dict[str, Any]:
        """The part of the spec that every network has."""
        runtime = {"dtype": self.dtype, "tile": None, "overlap": None, "batch": "one window", **more}
        return {"runtime": runtime, "weights_sha256": weights_hash(self.folder), "licence": self.licence}


def torch_dtype(name: str) -> "torch.dtype":
    import torch

    return getattr(torch, name)


class NetworkCodec(Codec):
    """A torch module in evaluation mode, loaded in the tokenizer's dtype, and the way in and out of it."""

    def __init__(self, tokenizer: NetworkTokenizer, module: "torch.nn.Module") -> None:
        self.spec, self.tokenizer = tokenizer.spec, tokenizer
        self.module: Any = module.eval().requires_grad_(False).to(tokenizer.device)

    def pixels_in(self, frames_THWC: np.ndarray) -> "torch.Tensor":
        """[1, 3, T, H, W] in the spec's value range, in the network's dtype and on its device."""
        import torch

        low, high = self.spec.input.value_range or (0.0, 255.0)
        frames_1CTHW = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(3, 0, 1, 2)[None]
        scaled = frames_1CTHW.to(self.tokenizer.device).float() * ((high - low) / 255.0) + low
        return scaled.to(torch_dtype(self.tokenizer.dtype))

    def pixels_out(self, frames_1CTHW: "torch.Tensor") -> np.ndarray:
        """uint8 [T, H, W, 3] of a decoder's output."""
        low, high = self.spec.input.value_range or (0.0, 255.0)
        codes = (frames_1CTHW[0].float() - low) * (255.0 / (high - low))
        return codes.clamp(0, 255).round().byte().permute(1, 2, 3, 0).cpu().numpy()

    def tensor(self, array: np.ndarray) -> "torch.Tensor":
        """An array with a batch axis, on the network's device; ids as int64, latents in the network's dtype."""
        import torch

        if array.dtype.kind == "f":
            latent = torch.from_numpy(array.copy())[None]
            return latent.to(self.tokenizer.device, torch_dtype(self.tokenizer.dtype))
        return torch.from_numpy(array.astype(np.int64))[None].to(self.tokenizer.device)
