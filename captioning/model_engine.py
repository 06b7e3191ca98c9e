# SPDX-License-Identifier: Apache-2.0
"""What all engines with a model share: which frames are shown, clips in flight, tiers, and what a row records.

One event loop per worker: while a model answers for one clip, the frames of another are decoded in the child.
"""

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from captioning import camera_sentences as move
from captioning import prompts
from captioning import sentences as say
from captioning.budget import PixelRule
from captioning.config import Budget, Decoding
from captioning.conversation import AnswerRefused, Conversation, Described, Minutes, Model
from captioning.engines import CaptionResult, Clip, ClipFacts, Evidence
from captioning.looks import MEMORY_LIMIT_GB, SeenDetail, Sight, first_tier, parts_of, plan_parts, see
from captioning.measured import MeasuredEngine
from captioning.schema import ANSWERS, Plan, schema_hash
from captioning.yes_no import Judge
from operators.contract import RowError
from operators.decode_child import DecodeChild
from reelmill.column import Column

T = TypeVar("T")
FALLBACK = PixelRule(14)  # plans sizes for families whose rule is not known
UNKNOWN = {"seen_grid_thw": None, "num_visual_tokens": None}  # what a plan cannot tell of those
TOLD = {
    "title": (say.title,),
    "tags": (say.tags,),
    "camera": (move.static_camera, move.camera_shift, move.camera_zoom, move.camera_roll, move.camera_shake),
}
"""What a model is told before it looks. Of what it can see for itself (light, colours) it is told nothing."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What a caption operator hands to an engine, beside the model's own settings."""

    plan: Plan
    budget: Budget
    decoding: Decoding
    language: str | None


class LoadedModel(Model, Judge, Protocol):
    """What an engine is made around: it writes answers, and says yes or no."""


class ModelEngine(ABC):
    """A caption engine around a model; subclasses load one and answer questions.

    Args:
        settings: see `ModelSettings`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    looks_at_frames: ClassVar[bool] = True
    reads: ClassVar[tuple[Column, ...]] = MeasuredEngine.reads

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings

    # --- what a subclass says -----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """JSON-able settings of the model that change texts."""

    @property
    @abstractmethod
    def num_parallel(self) -> int:
        """Clips in flight."""

    @abstractmethod
    async def load(self) -> "LoadedModel":
        """Loads the model or opens the connection, once per worker, inside the worker's loop."""

    @property
    @abstractmethod
    def rule(self) -> PixelRule | None:
        """How the loaded model cuts pixels into tokens; None if its processor resizes by a rule of its own."""

    @property
    @abstractmethod
    def origin(self) -> Mapping[str, Any]:
        """Columns of provenance that are the same for every row of this worker."""

    # --- the engine ---------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Everything that changes the texts; see CaptionEngine."""
        settings = self.settings
        return {
            "model": dict(self.identity),
            "plan": settings.plan.value,
            "budget": asdict(settings.budget),
            "decoding": asdict(settings.decoding),
            "language": settings.language,
            "prompts": prompts.prompt_hash(),
            "schemas": schema_hash(*ANSWERS[settings.plan]),
        }

    def start(self) -> None:
        """Loads the model; once per worker."""
        loop = asyncio.new_event_loop()
        with ExitStack() as stack:
            stack.callback(loop.close)
            model = loop.run_until_complete(self.load())
            stack.pop_all()
        settings = self.settings
        self._loop, self._child, self.judge = loop, DecodeChild(MEMORY_LIMIT_GB), model
        self._talk = Conversation(model, settings.plan, settings.decoding, settings.language)

    async def unload(self) -> None:  # noqa: B027 - a model in the worker ends with it
        """Closes what `load` opened."""

    def close(self) -> None:
        """Ends the decode child and the loop. Safe to call twice."""
        if not hasattr(self, "_loop") or self._loop.is_closed():
            return
        self._child.close()
        self._loop.run_until_complete(self.unload())
        self._loop.close()

    def caption_all(self, clips: Sequence[Clip]) -> list[CaptionResult]:
        """One result per clip, in order; a clip that fails says so in its result."""
        return self.each(clips, self._one)

    def each(self, clips: Sequence[Clip], work: Callable[[Clip], Awaitable[T]]) -> list[T]:
        """What `work` says of each clip, in order, `num_parallel` of them in flight."""
        return self._loop.run_until_complete(self._each(clips, work))

    async def _each(self, clips: Sequence[Clip], work: Callable[[Clip], Awaitable[T]]) -> list[T]:
        room = asyncio.Semaphore(self.num_parallel)

        async def one(clip: Clip) -> T:
            async with room:
                return await work(clip)

        async with asyncio.TaskGroup() as group:  # a bug of ours in one clip cancels the others and is raised
            tasks = [group.create_task(one(clip)) for clip in clips]
        return [task.result() for task in tasks]

    async def _one(self, clip: Clip) -> CaptionResult:
        tiers = self.settings.budget.tiers
        tier, fired = first_tier(self.settings.budget, clip.row)
        minutes, started = Minutes(), time.monotonic()
        told = _evidence(clip.facts)
        while True:
            record = self._record(tiers[tier].name, fired)
            try:
                sights = await self.see(clip, tier)
                record |= _seen(sights, clip) | ({} if self.rule else UNKNOWN)
                found = await self._talk.describe(sights, [sentence.sentence for sentence in told], minutes)
                return _result(found, told, record | _minutes(minutes), _log(minutes, started))
            except AnswerRefused as error:
                if tier + 1 == len(tiers):
                    return _failure(error, record | _minutes(minutes), _log(minutes, started))
                tier, fired = tier + 1, (*fired, "invalid")
            except RowError as error:
                return _failure(error, record | _minutes(minutes), _log(minutes, started))

    async def see(self, clip: Clip, tier: int) -> list[Sight]:
        """The clip's parts as the tier shows them. Raises RowError."""
        assert clip.frames is not None
        parts = parts_of(clip.frames, self.settings.budget.chunk_s)
        rule = self.rule or FALLBACK
        budget = self.settings.budget
        plan = plan_parts(parts, clip.frames, clip.row, budget, budget.tiers[tier], rule)
        return await asyncio.to_thread(see, parts, plan, clip.frames, self._child)

    def _record(self, tier: str, fired: Sequence[str]) -> dict[str, Any]:
        settings = self.settings
        return {
            **self.origin,
            "prompt_hash": prompts.prompt_hash(),
            "schema_hash": schema_hash(*ANSWERS[settings.plan]),
            "decoding_json": json.dumps({**asdict(settings.decoding), "plan": settings.plan.value}, sort_keys=True),
            "caption_tier": tier,
            "caption_trigger": ", ".join(fired) or None,
        }


def _evidence(facts: ClipFacts) -> tuple[Evidence, ...]:
    """What a model is told of a clip, sentence by sentence."""
    found = [(field, part(facts)) for field, parts in TOLD.items() for part in parts]
    return tuple(Evidence(field, sentence.text, sentence.columns) for field, sentence in found if sentence is not None)


def _seen(sights: Sequence[Sight], clip: Clip) -> dict[str, Any]:
    assert clip.frames is not None
    pts, first = clip.frames.frame_pts, sights[0].plan
    return {
        "seen_frames": [
            {"index": index, "pts": pts[index], "time_s": seconds}
            for sight in sights
            for index, seconds in zip(sight.indices, sight.times_s, strict=True)
        ],
        "seen_width_px": first.width_px,
        "seen_height_px": first.height_px,
        "seen_grid_thw": [dict(zip("thw", sight.plan.grid_thw, strict=True)) for sight in sights],
        "seen_details": [_detail(seen, pts) for sight in sights for seen in sight.details],
        "num_visual_tokens": sum(sight.num_tokens for sight in sights),
    }


def _detail(seen: SeenDetail, frame_pts: Sequence[int]) -> dict[str, Any]:
    detail = seen.detail
    return {
        "index": frame_pts.index(detail.pts),
        "pts": detail.pts,
        "time_s": seen.time_s,
        "left_px": detail.left_px,
        "top_px": detail.top_px,
        "width_px": detail.width_px,
        "height_px": detail.height_px,
    }


def _minutes(minutes: Minutes) -> dict[str, Any]:
    counted = list(minutes.visual_tokens.values())
    found = {
        "num_prompt_tokens": minutes.num_prompt_tokens,
        "num_output_tokens": minutes.num_output_tokens,
        "finish_reason": minutes.finish_reason,
    }
    if counted and None not in counted:
        found["num_visual_tokens"] = sum(filter(None, counted))
    return found


def _log(minutes: Minutes, started: float) -> dict[str, Any]:
    seconds = round(time.monotonic() - started, 3)
    return {"attempts": minutes.num_tries, "repairs": minutes.num_repairs, "seconds": seconds}


def _result(
    found: Described, told: Sequence[Evidence], record: Mapping[str, Any], log: Mapping[str, Any]
) -> CaptionResult:
    said = (Evidence(field, text, ()) for field, text in found.evidence.items())
    return CaptionResult(
        texts=found.texts,
        grounding="model",
        evidence=(*told, *said),
        status="repaired" if log["repairs"] else "ok",
        columns={**found.labels, **record},
        log=log,
    )


def _failure(error: RowError, record: Mapping[str, Any], log: Mapping[str, Any]) -> CaptionResult:
    return CaptionResult(
        texts=None,
        grounding=None,
        status="failed",
        columns={**record, "error_kind": error.kind, "error": str(error)},
        log=log,
    )
