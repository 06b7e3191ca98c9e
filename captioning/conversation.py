# SPDX-License-Identifier: Apache-2.0
"""How the texts of a clip are asked for, whatever the model: questions, refused answers, long clips, the summary.

An answer counts if it is one JSON object that the type takes, in the language that was asked for. Anything else, fences
and cut-off texts too, is refused and asked for again with the reason; nothing is mended here. What stays refused is a
failed row.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from captioning import prompts
from captioning.config import Decoding
from captioning.language import is_english
from captioning.looks import Sight
from captioning.schema import VOCABULARIES, Answer, CaptionTexts, Merged, Picture, Plan, Scene, Summary, Whole
from operators.contract import RowError

A = TypeVar("A", bound=Answer)
MAX_RAW_CHARS = 2000  # of a refused answer that an error keeps
MAX_PROBLEMS = 3  # that a model is told of at once


@dataclass(frozen=True)
class Message:
    """One turn: who speaks, what; the sight stands before the text, so that all questions on it share a prefix."""

    role: str
    text: str
    sight: Sight | None = None


@dataclass(frozen=True)
class Question:
    """What is sent to a model once."""

    messages: tuple[Message, ...]
    answer: type[Answer]
    max_new_tokens: int


@dataclass(frozen=True)
class Reply:
    """What came back.

    Args:
        finish_reason: stop, length, or what a server says.
        num_visual_tokens: of the question's sight, counted in the model's input; None where that cannot be seen.
        num_tries: requests that it took.
    """

    text: str
    finish_reason: str
    num_prompt_tokens: int
    num_output_tokens: int
    num_visual_tokens: int | None = None
    num_tries: int = 1


class Model(Protocol):
    """What answers one question. Raises RowError if it cannot."""

    async def ask(self, question: Question) -> Reply: ...


@dataclass
class Minutes:
    """What happened while a clip was talked about; becomes provenance and a line of the run log."""

    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    num_tries: int = 0
    num_repairs: int = 0
    finish_reason: str | None = None
    visual_tokens: dict[int, int | None] = field(default_factory=dict)  # by the sight's part

    def note(self, question: Question, reply: Reply) -> None:
        self.num_prompt_tokens += reply.num_prompt_tokens
        self.num_output_tokens += reply.num_output_tokens
        self.num_tries += reply.num_tries
        self.finish_reason = reply.finish_reason
        for message in question.messages:
            if message.sight is not None:
                self.visual_tokens[message.sight.part.indices[0]] = reply.num_visual_tokens


class AnswerRefused(RowError):
    """No answer was accepted, however often it was asked for."""


@dataclass(frozen=True)
class Described:
    """The texts and labels of a clip, and what the model says that its labels rest on."""

    texts: CaptionTexts
    labels: dict[str, Any]
    evidence: dict[str, str]


@dataclass(frozen=True)
class Conversation:
    """Asks one model for the texts of clips.

    Args:
        model: who answers.
        plan: how many questions.
        decoding: lengths and repairs.
        language: what the answers must be written in; null: any.
    """

    model: Model
    plan: Plan
    decoding: Decoding
    language: str | None

    async def describe(self, sights: Sequence[Sight], sentences: Sequence[str], minutes: Minutes) -> Described:
        """The ten texts of a clip from its parts. Raises RowError; `minutes` hold what happened until then."""
        wholes = [await self._look(sight, sentences, minutes) for sight in sights]
        scenes, pictures = [scene for scene, _, _ in wholes], [picture for _, picture, _ in wholes]
        if len(wholes) == 1:
            texts = _texts_of(scenes[0], pictures[0])
            summary = wholes[0][2]
        else:
            parts = [
                {"seconds": f"{sight.part.start_s:.1f}-{sight.part.end_s:.1f}", **_texts_of(scene, picture)}
                for sight, (scene, picture, _) in zip(sights, wholes, strict=True)
            ]
            merged = await self._ask(Merged, None, prompts.question(Merged, texts=parts), minutes)
            texts, summary = merged.model_dump(by_alias=True), None
        if summary is None:
            summary = await self._ask(Summary, None, prompts.question(Summary, texts=texts), minutes)
        texts |= summary.model_dump(by_alias=True)
        seen = {"scene": " ".join(s.scene_evidence for s in scenes)}
        seen |= {"picture": " ".join(p.picture_evidence for p in pictures)}
        return Described(CaptionTexts.model_validate(texts), labels_of(scenes, pictures), seen)

    async def _look(
        self, sight: Sight, sentences: Sequence[str], minutes: Minutes
    ) -> tuple[Scene, Picture, Summary | None]:
        if self.plan is Plan.SINGLE:
            whole = await self._ask(Whole, sight, prompts.question(Whole, sentences), minutes)
            return whole.scene, whole.picture, whole.summary
        scene = await self._ask(Scene, sight, prompts.question(Scene, sentences), minutes)
        return scene, await self._ask(Picture, sight, prompts.question(Picture, sentences), minutes), None

    async def _ask(self, answer: type[A], sight: Sight | None, text: str, minutes: Minutes) -> A:
        first = (Message("system", prompts.system()), Message("user", text, sight))
        messages, room = first, self.decoding.max_new_tokens
        problem, raw = "", ""
        for repairs in range(self.decoding.max_repairs + 1):
            minutes.num_repairs += repairs > 0
            question = Question(messages, answer, room)
            reply = await self.model.ask(question)
            minutes.note(question, reply)
            raw = reply.text
            if reply.finish_reason == "length":  # what was cut off is no use to the model: the same again, with room
                problem, room = f"it was cut off after {reply.num_output_tokens} tokens", 2 * room
                continue
            found = read_answer(answer, raw, self.language)
            if not isinstance(found, str):
                return found
            problem = found
            messages = (*first, Message("assistant", raw), Message("user", prompts.repair(problem)))
        asked = self.decoding.max_repairs + 1
        raise AnswerRefused(
            "transient", f"{answer.__name__}: no answer was accepted in {asked} tries: {problem}: {raw[:MAX_RAW_CHARS]}"
        )


def read_answer(answer: type[A], text: str, language: str | None) -> A | str:
    """The answer, or why it is none."""
    try:
        found = answer.model_validate_json(text)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)[:MAX_PROBLEMS]
        return "; ".join(": ".join((*(".".join(map(str, p["loc"])),) * bool(p["loc"]), p["msg"])) for p in problems)
    if language == "en":
        for name, prose in _prose_of(found):
            if not is_english(prose):
                return f"{name}: the text is not English"
    return found


def _prose_of(answer: Answer) -> list[tuple[str, str]]:
    """(key, text) of every free text of an answer."""
    found: list[tuple[str, str]] = []
    for name, value in answer:
        if isinstance(value, Answer):
            found += _prose_of(value)
        elif isinstance(value, str) and name not in VOCABULARIES:
            found.append((name, value))
    return found


def _texts_of(scene: Scene, picture: Picture) -> dict[str, str]:
    """Column -> text of the nine texts."""
    dumped = scene.model_dump(by_alias=True) | picture.model_dump(by_alias=True)
    names = [field.alias for field in CaptionTexts.model_fields.values()]
    return {name: dumped[name] for name in names if name in dumped}


def labels_of(scenes: Sequence[Scene], pictures: Sequence[Picture]) -> dict[str, Any]:
    """One label each for all parts of a clip: what most parts say, the earlier of equals; all the movements.

    A setting that changes is `both`, a medium that changes `mixed`.
    """
    settings, media = {scene.setting for scene in scenes}, {picture.medium for picture in pictures}
    moves = [move for picture in pictures for move in picture.camera_movements]
    return {
        "shot_scale": _most([picture.shot_scale for picture in pictures]),
        "camera_movements": list(dict.fromkeys(moves)),
        "time_of_day": _most([scene.time_of_day for scene in scenes]),
        "setting": "both" if {"indoor", "outdoor"} <= settings else _most([scene.setting for scene in scenes]),
        "medium": "mixed" if len(media - {"unclear"}) > 1 else _most([picture.medium for picture in pictures]),
    }


def _most(labels: Sequence[str]) -> str:
    known = [label for label in labels if label != "unclear"]
    return Counter(known).most_common(1)[0][0] if known else "unclear"
