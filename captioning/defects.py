# SPDX-License-Identifier: Apache-2.0
"""Defects that a vision-language model sees: sixteen yes-or-no questions, each answered as a probability."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa

from captioning.budget import TIERS, Tier
from captioning.config import Budget, Decoding, LocalModel, Server, needs_of, resources_of
from captioning.conversation import Message
from captioning.engines import Clip, ClipFacts, engine_class
from captioning.operator import NEEDS, PLACE, frames_request
from captioning.schema import Plan
from captioning.yes_no import Odds
from operators.contract import Operator, Resources, RowError
from operators.weights import Need
from reelmill.column import Column
from reelmill.tables import CLIP_ID

PATH = Path(__file__).with_name("defects.yaml")
MIN_SHARE = 0.5  # ours: a model that says yes or no with less than this has not answered
_FAILED = "null if the row failed"


@lru_cache(maxsize=1)
def prompts() -> dict[str, Any]:
    """What `defects.yaml` says: system, opening, closing, and the questions by name."""
    import yaml

    return yaml.safe_load(PATH.read_text(encoding="utf-8"))


def own_questions() -> dict[str, str]:
    """Name -> question, as `defects.yaml` has them."""
    return {name: " ".join(text.split()) for name, text in prompts()["questions"].items()}


@dataclass(frozen=True, kw_only=True)
class Defects(Operator):
    """Asks a vision-language model about sixteen defects of each clip; what rejects a clip is for the recipe to say.

    The probability of yes is read off the scores of the answer's first token, over those of yes and no. A long clip is
    looked at in parts, and its worst part counts. Such probabilities order clips; they are not calibrated: set a rule's
    bound from clips that you have looked at.

    Reads: the clip's place in its source.
    Writes: a column `defect_<name>` for each question, and where they come from.

    Args:
        engine: transformers, vllm, or openai for a server that gives log-probabilities.
        model: for engines that load one.
        server: for the engine `openai`.
        tier: what the model gets to see of a part; null: 2,048 visual tokens.
        chunk_s: a longer clip is looked at in equal parts of at most this length.
        questions: name -> question; those of captioning/defects.yaml if left out.

    Raises:
        ValueError: an engine without its model, or with another's; no question, or one whose name is no column's.
    Source: UltraVideo (arXiv:2506.13691) asks Qwen2.5-VL-72B about 16 defects; its prompt is not published.
    """

    name: ClassVar[str] = "defects"
    exact: ClassVar[bool] = False  # matrix products differ between machines
    seconds_per_row: ClassVar[float] = 5.0
    reads: ClassVar[tuple[Column, ...]] = (CLIP_ID, *PLACE)

    engine: Literal["transformers", "vllm", "openai"]
    model: LocalModel | None = None
    server: Server | None = None
    tier: Tier = TIERS["low"]
    chunk_s: float = 10.0
    questions: Mapping[str, str] = field(default_factory=own_questions)

    def __post_init__(self) -> None:
        if wrong := [name for name in self.questions if not re.fullmatch("[a-z][a-z0-9_]*", name)]:
            raise ValueError(f"defects: question {wrong[0]!r} names a column; use small letters, digits and _")
        if not self.questions:
            raise ValueError("defects: questions is empty; leave it out for those of captioning/defects.yaml")
        for key in ("model", "server"):
            is_wanted, is_given = NEEDS[self.engine] == key, getattr(self, key) is not None
            if is_wanted != is_given:
                raise ValueError(f"defects: engine {self.engine!r} {'needs' if is_wanted else 'has no'} {key!r}")

    @property
    def writes(self) -> tuple[Column, ...]:
        asked = (
            Column(f"defect_{name}", pa.float64(), f"{text} Probability of yes; null if failed or not answered so")
            for name, text in self.questions.items()
        )
        return (
            *asked,
            Column("defects_answer_share", pa.float64(), f"lowest probability of a yes or a no, 0-1; {_FAILED}"),
            Column("defects_frames", pa.int32(), f"frames that the model saw; {_FAILED}"),
            Column("defects_model", pa.string(), f"its place, or its name on the server; {_FAILED}"),
            Column(
                "defects_weights_hash", pa.string(), f"sha256 over the checkpoint's files; null for a server; {_FAILED}"
            ),
        )

    @property
    def needs(self) -> tuple[Need, ...]:
        return needs_of(self.model)

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        """One GPU if a local model is on cuda."""
        return resources_of(self.model, self.server)

    def setup(self) -> Any:
        from captioning.model_engine import ModelSettings

        budget = Budget(tiers=(self.tier,), chunk_s=self.chunk_s)
        settings = ModelSettings(plan=Plan.GROUPED, budget=budget, decoding=Decoding(), language=None)
        make: Any = engine_class(self.engine)
        engine = make(settings, self.model or self.server)
        engine.start()
        return engine

    def close(self, state: Any) -> None:
        state.close()

    def process(self, state: Any, batch: pa.Table) -> pa.Table:
        """The batch with a probability per question; a clip that fails gets its error and nulls."""

        async def judged(clip: Clip) -> dict[str, Any]:
            try:
                sights = await state.see(clip, 0)
                odds = [await state.judge.odds(opening(sight), texts) for sight in sights]
            except RowError as error:
                return {"error_kind": error.kind, "error": str(error)}
            seen = {"defects_frames": sum(len(sight.indices) for sight in sights)}
            origin = state.origin
            made_by = {
                "defects_model": origin["caption_model"],
                "defects_weights_hash": origin.get("caption_weights_hash"),
            }
            return columns(list(self.questions), odds) | seen | made_by

        texts = [f"{text} {prompts()['closing'].strip()}" for text in self.questions.values()]
        rows = batch.select([column.name for column in self.reads]).to_pylist()
        found = state.each([Clip(ClipFacts({}), frames_request(row), row) for row in rows], judged)
        return self.with_writes(batch, found)


def opening(sight: Any) -> tuple[Message, ...]:
    """What stands before every question."""
    return Message("system", prompts()["system"].strip()), Message("user", prompts()["opening"].strip(), sight)


def columns(names: Sequence[str], odds_of_parts: Sequence[Sequence[Odds]]) -> dict[str, Any]:
    """The largest probability over the parts, per question; null where no part was answered."""
    found: dict[str, Any] = {}
    for name, parts in zip(names, zip(*odds_of_parts, strict=True), strict=True):
        answered = [odds.yes for odds in parts if odds.share >= MIN_SHARE]
        found[f"defect_{name}"] = max(answered, default=None)
    found["defects_answer_share"] = min(odds.share for parts in odds_of_parts for odds in parts)
    return found
