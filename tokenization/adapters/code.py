# SPDX-License-Identifier: Apache-2.0
"""Any tokenizer whose code is the user's: the recipe names a callable that gives spec, encode and decode.

    tokens:
      - {tokenizer: code, code: "examples.adapters.var:make", path: /src/VAR, weights: /data/vae_ch160v4096z32.pth,
         heights: [256], stride: 30}

`make(weights=Path | None, device=str, heights=tuple, time=callable)` returns an object with

    spec                                a TokenizerSpec; `time(unit, head, max_frames=1)` is the recipe's window rule
    encode(frames_THWC) -> payload      uint8 RGB in, one array per column of the spec out
    decode(payload, upto_scale=None)    uint8 RGB of the same shape; with a scale, from the columns up to it
    load()                              optional: called once per worker, before the first encode

The driver asks for `spec` too, so that `make` should read a configuration at most, and `load` the weights and the
network. What encode and decode give is held to the spec, call by call. Nothing is fetched and nothing is trusted beyond
what the recipe names. docs/tokenizers.md has worked examples.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from operators.contract import Resources
from operators.weights import Weights, locate, weights_hash
from reelmill.tokens import TokenizerSpec
from tokenization.contract import Codec, Payload, SizedTokenizer


@dataclass(frozen=True, kw_only=True)
class Code(SizedTokenizer):
    """A tokenizer made by a callable.

    Args:
        code: "package.module:callable".
        path: folder to import from first, for research code that is a clone and no package; null: none.
        weights: file or folder (`operators.weights`), handed to the callable; its hash goes into the spec; null: none.
        device: cpu or cuda, handed to it.
        licence: of the weights, recorded with the tokens; empty: what the callable's spec says.

    Raises:
        ValueError: there is no such callable or folder, or what it makes is no tokenizer.
    """

    name: ClassVar[str] = "code"

    code: str
    path: str | None = None
    weights: str | None = None
    device: str = "cpu"
    licence: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[\w.]+:\w+", self.code):
            raise ValueError(f"code is {self.code!r}; write package.module:callable")
        if self.areas or self.multiple or self.pad:
            raise ValueError(
                "code: areas, multiple and pad are for the callable's spec to say (its `input`); leave them out"
            )

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        return Resources(num_cpus=1.0, num_gpus=0.0 if self.device == "cpu" else 1.0, memory_gb=6.0)

    def make_importable(self) -> None:
        """Puts `path` first where Python looks for modules. Raises ValueError if there is no such folder."""
        if self.path is None:
            return
        folder = Path(self.path).expanduser().resolve()
        if not folder.is_dir():
            raise ValueError(f"path {self.path!r} is no folder on this machine; clone the tokenizer's repository there")
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))

    @property
    def factory(self) -> Callable[..., Any]:
        self.make_importable()
        module, _, name = self.code.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"code {self.code!r} cannot be imported: {error}; is the package installed here, or is path missing?"
            ) from error

    @cached_property
    def _weights(self) -> Path | None:
        return None if self.weights is None else locate(Weights(self.weights))

    @cached_property
    def made(self) -> Any:
        """What the callable gave; it is asked once per process."""
        options = {"device": self.device, "heights": tuple(self.heights), "time": self.time}
        made = self.factory(weights=self._weights, **options)
        missing = [name for name in ("spec", "encode", "decode") if not hasattr(made, name)]
        if missing:
            raise ValueError(f"code {self.code!r} made a {type(made).__name__} without {', '.join(missing)}")
        if not isinstance(made.spec, TokenizerSpec):
            raise ValueError(f"code {self.code!r}: spec is a {type(made.spec).__name__}, not a TokenizerSpec")
        return made

    @cached_property
    def spec(self) -> TokenizerSpec:
        """The object's spec, completed by what it left open: the weights' hash, the licence, how to decode."""
        spec: TokenizerSpec = self.made.spec
        digest = weights_hash(self._weights) if self._weights and not spec.weights_sha256 else spec.weights_sha256
        decode = spec.decode or {"kind": "code", "code": self.code}
        return replace(spec, weights_sha256=digest, licence=self.licence or spec.licence, decode=decode)

    def load(self) -> "CodeCodec":
        codec = CodeCodec(self.code, self.spec, self.made)
        self.make_importable()
        if hasattr(self.made, "load"):
            self.made.load()
        return codec

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "made"}  # weights do not travel


class CodeCodec(Codec):
    """The user's object, whose results are compared with its spec."""

    def __init__(self, code: str, spec: TokenizerSpec, made: Any) -> None:
        self.code, self.spec, self.made = code, spec, made

    def encode(self, frames_THWC: np.ndarray) -> Payload:
        """Raises ValueError on columns or grids that the spec does not say."""
        payload = {name: np.asarray(values) for name, values in self.made.encode(frames_THWC).items()}
        columns = {stream.column(k): (stream, k) for stream, k in self.spec.columns()}
        if set(payload) != set(columns):
            raise ValueError(f"code {self.code!r}: encode gave {sorted(payload)}, the spec says {sorted(columns)}")
        for name, (stream, k) in columns.items():
            planned = stream.shape(k, self.spec.time, *frames_THWC.shape[:3])
            if payload[name].ndim not in (3, 4) or stream.grid_of(payload[name]) != planned:
                frames, height, width, _ = frames_THWC.shape
                raise ValueError(
                    f"code {self.code!r}: {name} has shape {payload[name].shape}, axes {stream.axes}; for {frames} "
                    f"frames of {width}x{height} the spec says t, h, w, g = {planned}"
                )
        return payload

    def decode(self, payload: Payload, upto_scale: int | None = None) -> np.ndarray:
        """Raises ValueError if these are no uint8 RGB frames."""
        frames_THWC = np.asarray(self.made.decode(payload, upto_scale=upto_scale))
        if frames_THWC.dtype != np.uint8 or frames_THWC.ndim != 4 or frames_THWC.shape[3] != 3:
            raise ValueError(f"code {self.code!r}: decode gave {frames_THWC.dtype} {frames_THWC.shape}, not uint8 THWC")
        return frames_THWC
