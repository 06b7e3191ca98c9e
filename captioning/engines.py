# SPDX-License-Identifier: Apache-2.0
"""What an engine that writes captions is given and gives back. One engine a file; `ENGINES` names them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar, Protocol

from captioning.schema import CaptionTexts
from operators.aggregate import score_columns
from operators.catalog import METERS, meter_class
from reelmill.column import Column
from reelmill.tables import CLIPS, SOURCES

ENGINES = {
    "measured": "captioning.measured:MeasuredEngine",
    "transformers": "captioning.transformers_engine:TransformersEngine",
    "vllm": "captioning.vllm_engine:VLLMEngine",
    "openai": "captioning.openai_engine:OpenAIEngine",
}


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What is known of a clip before anybody looks at it.

    Args:
        values: column name -> value; None where it was not measured or not stated. Scalars and lists of strings.
    """

    values: Mapping[str, Any]

    def get(self, column: str) -> Any:
        """The value of `column`, None if unmeasured. Raises KeyError for a column the engine did not ask for."""
        return self.values[column]

    def known(self, *columns: str) -> bool:
        """Whether every one of `columns` has a value."""
        return all(self.values[column] is not None for column in columns)


@dataclass(frozen=True, slots=True)
class FramesRequest:
    """Where a clip's frames lie, for an engine that looks at them: it picks some and decodes them in its own child.

    Args:
        uri: absolute path or s3 URI of the source.
        seek_pts: pts of the key frame at or before the clip.
        frame_pts: pts of every frame of the clip, ascending.
        time_base: seconds per tick, as (numerator, denominator).
        size_px: width and height of the displayed frame.
        pixel_aspect: width of a pixel over its height.
    """

    uri: str
    seek_pts: int
    frame_pts: tuple[int, ...]
    time_base: tuple[int, int]
    size_px: tuple[int, int]
    pixel_aspect: float = 1.0

    @property
    def square_size_px(self) -> tuple[int, int]:
        """Width and height in square pixels."""
        return round(self.size_px[0] * self.pixel_aspect), self.size_px[1]


@dataclass(frozen=True, slots=True)
class Clip:
    """What an engine is given of one clip.

    Args:
        facts: the columns that the engine reads.
        frames: where its frames lie; None for an engine that does not look.
        row: all that is known of the clip, columns that no engine insists on among them.
    """

    facts: ClipFacts
    frames: FramesRequest | None = None
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One sentence of a text, or one that a model was told, and the columns it was made from."""

    field: str
    sentence: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """What an engine says of a clip.

    Args:
        texts: the ten texts; None if the clip failed.
        grounding: `measured` (only measured facts) or `model` (a vision-language model wrote it); None if it failed.
        evidence: for measured texts, every sentence with its columns; for a model's, what it was told.
        status: `ok`, `repaired` or `failed`.
        columns: further columns of tables.CAPTIONS: labels, provenance, the error of a failed clip.
        log: what goes to the run log, because it may differ between two equal runs.
    """

    texts: CaptionTexts | None
    grounding: str | None
    evidence: tuple[Evidence, ...] = ()
    status: str = "ok"
    columns: Mapping[str, Any] = field(default_factory=dict)
    log: Mapping[str, Any] = field(default_factory=dict)


class CaptionEngine(Protocol):
    """Writes the ten texts of clips. Making one is cheap; `start` loads what it needs."""

    name: ClassVar[str]
    version: ClassVar[int]
    reads: ClassVar[tuple[Column, ...]]  # the facts it wants
    looks_at_frames: ClassVar[bool]  # whether its clips come with a FramesRequest

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON-able settings that change the texts; they go into the captioner's id."""
        ...

    def start(self) -> None:
        """Loads weights, opens connections, starts children; once per worker."""
        ...

    def caption_all(self, clips: Sequence[Clip]) -> list[CaptionResult]:
        """One result per clip, in order; a clip that cannot be captioned has status `failed`."""
        ...

    def close(self) -> None:
        """Ends what `start` started. Safe to call twice."""
        ...


def columns_of(*names: str) -> tuple[Column, ...]:
    """Columns that a clip's row may hold when it is captioned: of its scores, else of its clip, else of its source.

    Raises ValueError for a name that no meter and no table has.
    """
    scores = score_columns(meter_class(meter)() for meter in METERS)
    known = {column.name: column for column in (*SOURCES, *CLIPS, *scores)}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no meter or table writes {', '.join(unknown)}")
    return tuple(known[name] for name in names)


def engine_class(name: str) -> type[CaptionEngine]:
    """The engine called `name`. Raises ValueError with the nearest known name."""
    if name not in ENGINES:
        near = get_close_matches(name, ENGINES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(ENGINES)}"
        raise ValueError(f"captions.engine is {name!r}; {hint}")
    module, _, attribute = ENGINES[name].partition(":")
    return getattr(import_module(module), attribute)
