# SPDX-License-Identifier: Apache-2.0
"""What a recipe says of a caption model: where it is, how it decodes, how much it may look at."""

import os
from dataclasses import dataclass
from typing import ClassVar, Literal

from captioning.budget import RULES, TIERS, PixelRule, Tier
from captioning.details import DetailRule
from operators.contract import Resources
from operators.weights import Need, Weights

PRECISIONS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "stored": "auto"}
"""Recipe's name -> torch's. `stored`: as the checkpoint says, which is how FP8 and INT4 checkpoints are loaded."""


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """A model that the worker loads (`transformers`, `vllm`).

    Args:
        uri: hf://ORG/NAME@COMMIT, s3://bucket/folder/ or a folder; see operators.weights.
        sha256: of the folder's weights and configurations; null: not checked.
        precision: see `PRECISIONS`; FP8 and INT4 are checkpoints of their own and want `stored`.
        device: cuda holds one GPU per worker.
        memory_gb: main memory of a worker.
        num_parallel: clips in flight in one worker; `transformers` decodes one while it answers for another.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"device", "memory_gb", "num_parallel"})

    uri: str
    sha256: str | None = None
    precision: Literal["bf16", "fp16", "fp32", "stored"] = "bf16"
    device: Literal["cuda", "cpu"] = "cuda"
    memory_gb: float = 16.0
    num_parallel: int = 2

    def __post_init__(self) -> None:
        Weights(self.uri, self.sha256)
        _at_least_one("model", num_parallel=self.num_parallel)

    @property
    def weights(self) -> Weights:
        return Weights(self.uri, self.sha256)

    @property
    def revision(self) -> str | None:
        """Commit of a hub id."""
        return self.uri.partition("@")[2] or None if self.uri.startswith("hf://") else None


@dataclass(frozen=True, kw_only=True)
class Server:
    """An OpenAI-compatible server (`openai`).

    Args:
        url: its base, such as http://localhost:8000/v1; no credentials in it.
        model: the model's name there.
        family: its `model_type` in transformers, one of captioning.budget.RULES, so that frames are cut to its tokens.
        api_key_env: environment variable that holds the key; null: no key.
        num_parallel: requests in flight from one worker.
        max_retries: tries after the first, for 408, 409, 429, 5xx and lost connections, with growing waits and jitter.
        deadline_s: seconds for one question, its retries among them.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"url", "api_key_env", "num_parallel", "max_retries", "deadline_s"})

    url: str
    model: str
    family: str = "qwen3_vl"
    api_key_env: str | None = None
    num_parallel: int = 8
    max_retries: int = 4
    deadline_s: float = 600.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"server.url is {self.url!r}; give http://HOST:PORT/v1")
        if "@" in self.url.partition("//")[2].partition("/")[0]:
            raise ValueError("server.url holds credentials; put the key into a variable, see api_key_env")
        if self.family not in RULES:
            raise ValueError(f"server.family is {self.family!r}; known: {', '.join(RULES)}")
        if not self.deadline_s > 0:
            raise ValueError(f"server.deadline_s is {self.deadline_s:g}; give seconds above 0")
        _at_least_one("server", num_parallel=self.num_parallel)

    @property
    def rule(self) -> PixelRule:
        """Frames go as pictures, each with tokens of its own."""
        return PixelRule(RULES[self.family].patch_px, RULES[self.family].merge, frames_per_token=1)

    def api_key(self) -> str:
        """The key; a placeholder for servers that want none. Raises ValueError if the variable is not set."""
        if self.api_key_env is None:
            return "none"
        if not os.environ.get(self.api_key_env):
            raise ValueError(f"server.api_key_env: the variable {self.api_key_env} is not set on this machine")
        return os.environ[self.api_key_env]


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How answers are written.

    Args:
        max_new_tokens: of one answer; one that reaches it is asked for again with twice as many.
        temperature: 0: the likeliest token, always.
        top_p: of the probability that is sampled from.
        seed: of the sampling.
        max_repairs: how often a question is asked again when its answer is refused.
    """

    max_new_tokens: int = 2048
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_repairs: int = 2

    def __post_init__(self) -> None:
        _at_least_one("decoding", max_new_tokens=self.max_new_tokens)
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_repairs < 0:
            raise ValueError(f"{self}: temperature and max_repairs are 0 or more, top_p is 0-1")


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A clip whose `column` is at least `min` starts one tier higher."""

    column: str
    min: float


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much of a clip the model gets to see.

    Args:
        tiers: from cheap to dear; those of captioning.budget.TIERS if left out. A clip starts at the first; each
            trigger that fires, and an answer that stays invalid, raises it by one.
        triggers: measured columns that raise the tier; one that was not measured raises nothing.
        chunk_s: a longer clip is looked at in equal parts of at most this length, whose texts are then merged.
        details: parts of frames at native size where the operator `text` read what the frames show too small; null:
            none.
    """

    tiers: tuple[Tier, ...] = tuple(TIERS.values())
    triggers: tuple[Trigger, ...] = ()
    chunk_s: float = 10.0
    details: DetailRule | None = None

    def __post_init__(self) -> None:
        if not self.tiers:
            raise ValueError("budget.tiers is empty; leave it out for low, mid and high")
        if not self.chunk_s > 0:
            raise ValueError(f"budget.chunk_s is {self.chunk_s:g}; give seconds above 0")


def needs_of(model: LocalModel | None) -> tuple[Need, ...]:
    """The weights of an engine with this model."""
    return () if model is None else (Need(model.weights, note="a vision-language model"),)


def resources_of(model: LocalModel | None, server: Server | None) -> Resources:
    """What a worker of an engine with this model, this server, or neither holds: one GPU if the model is on cuda."""
    if model is None:
        return Resources(num_cpus=1.0, memory_gb=0.5 if server is None else 4.0)
    return Resources(num_cpus=1.0, num_gpus=float(model.device == "cuda"), memory_gb=model.memory_gb)


def _at_least_one(place: str, **values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{place}.{name} is {value}; it must be at least 1")
