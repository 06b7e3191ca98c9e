# SPDX-License-Identifier: Apache-2.0
"""Any tokenizer whose code is the user's: the recipe names a callable that gives spec, encode and decode.

    tokens:
      - {tokenizer: code, code: "my_package.var:make", weights: /data/vae.safetensors, max_frames: 1, heights: [256]}

`make(weights=Path | None, device=str, heights=tuple, time=callable)` returns an object with `spec` (TokenizerSpec),
`encode(frames_THWC) -> payload` and `decode(payload, upto_scale=None) -> frames_THWC`; `time(unit, head)` is the window
rule of the recipe. The package must be importable where the workers run. Nothing is fetched and nothing is trusted
beyond what the recipe names.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from operators.contract import Resources
from operators.weights import Weights, locate
from reelmill.tokens import TokenizerSpec
from tokenization.contract import Codec, Payload, SizedTokenizer


@dataclass(frozen=True, kw_only=True)
class Code(SizedTokenizer):
    """A tokenizer made by a callable.

    Args:
        code: "package.module:callable".
        weights: file or folder (`operators.weights`), handed to the callable; null: none.
        device: cpu or cuda, handed to it.

    Raises:
        ValueError: there is no such callable, or what it makes is no tokenizer.
    """

    name: ClassVar[str] = "code"

    code: str
    weights: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[\w.]+:\w+", self.code):
            raise ValueError(f"code is {self.code!r}; write package.module:callable")

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        return Resources(num_cpus=1.0, num_gpus=0.0 if self.device == "cpu" else 1.0, memory_gb=6.0)

    @property
    def factory(self) -> Callable[..., Any]:
        module, _, name = self.code.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"code {self.code!r} cannot be imported: {error}; is the package installed here?"
            ) from error

    @cached_property
    def made(self) -> Any:
        """What the callable gave; it is asked once per process."""
        weights: Path | None = None if self.weights is None else locate(Weights(self.weights))
        made = self.factory(weights=weights, device=self.device, heights=tuple(self.heights), time=self.time)
        missing = [name for name in ("spec", "encode", "decode") if not hasattr(made, name)]
        if missing:
            raise ValueError(f"code {self.code!r} made a {type(made).__name__} without {', '.join(missing)}")
        if not isinstance(made.spec, TokenizerSpec):
            raise ValueError(f"code {self.code!r}: spec is a {type(made.spec).__name__}, not a TokenizerSpec")
        return made

    @cached_property
    def spec(self) -> TokenizerSpec:
        return self.made.spec

    def load(self) -> "CodeCodec":
        return CodeCodec(self.made)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "made"}  # weights do not travel


class CodeCodec(Codec):
    """The user's object."""

    def __init__(self, made: Any) -> None:
        self.made, self.spec = made, made.spec

    def encode(self, frames_THWC: np.ndarray) -> Payload:
        return self.made.encode(frames_THWC)

    def decode(self, payload: Payload, upto_scale: int | None = None) -> np.ndarray:
        return self.made.decode(payload, upto_scale=upto_scale)
