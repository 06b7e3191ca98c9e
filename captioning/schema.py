# SPDX-License-Identifier: Apache-2.0
"""The ten texts as a type, the labels beside them, and what a model is asked for. JSON Schemas come from the types.

Names and length bands of the texts are those of UltraVideo's released short set. A band stands in the field's
description and never as `minLength` or `maxLength`: with those keywords xgrammar 0.2.8, vLLM's usual decoder, forbids
every escape in a string and lets raw control characters through (mlc-ai/xgrammar#800). A grammar that is known to read
them rightly (llguidance) gets them from `bounded`, so that a text cannot run away.

In an answer evidence comes before the labels that rest on it: a model writes from front to back.
"""

import unicodedata
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from reelmill.ids import fingerprint

LENGTH_BANDS = {
    "Brief Description": (34, 526),
    "Detailed Description": (479, 2610),
    "Background": (176, 778),
    "Theme Description": (331, 1410),
    "Style": (17, 644),
    "Shot Type": (11, 818),
    "Camera Movement": (10, 997),
    "Lighting": (60, 782),
    "Video Atmosphere": (58, 658),
    "Summarized Description": (586, 6060),
}
"""Shortest and longest text of each kind in characters. Source: the released table of APRIL-AIGC/UltraVideo."""

ABOUT = {
    "Brief Description": "One sentence that says what the clip shows.",
    "Detailed Description": "Subjects, their looks, actions and relations, in the order of time.",
    "Background": "The place and the things behind the subjects.",
    "Theme Description": "The topic of the clip and what it conveys.",
    "Style": "The look of the picture: medium, colours, texture, dynamic range.",
    "Shot Type": "The framing: orientation, shot scale, viewpoint.",
    "Camera Movement": "How the camera moves: direction and speed.",
    "Lighting": "Brightness, contrast, the light's source and direction.",
    "Video Atmosphere": "Mood and pace.",
    "Summarized Description": "The other texts merged into one, without a new fact.",
}
EVIDENCE_CHARS = (20, 800)  # ours: a few sentences

ShotScale = Literal[
    "extreme_wide",
    "wide",
    "full",
    "medium_wide",
    "medium",
    "medium_close_up",
    "close_up",
    "extreme_close_up",
    "unclear",
]
CameraMove = Literal[
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "roll",
    "zoom_in",
    "zoom_out",
    "move_forward",
    "move_backward",
    "move_left",
    "move_right",
    "move_up",
    "move_down",
    "orbit",
    "tracking",
    "handheld",
    "unclear",
]
TimeOfDay = Literal["day", "sunrise_or_sunset", "twilight", "night", "unclear"]
Setting = Literal["indoor", "outdoor", "both", "unclear"]
Medium = Literal["live_action", "animation", "computer_graphics", "video_game", "screen_recording", "mixed", "unclear"]
MAX_MOVES = 4  # ours: more movements than this in ten seconds are a list, not an observation


class Plan(StrEnum):
    """How many questions the nine texts are asked in; the summary of `grouped` is a further one, without pictures."""

    GROUPED = "grouped"  # scene, then picture, then summary
    SINGLE = "single"  # everything in one answer: for endpoints without a prefix cache


def _clean(text: str) -> str:
    """A text as it may stand in a table. Raises ValueError for one that is blank or holds what no writer means."""
    if not text.strip():
        raise ValueError("the text is blank")
    for character in text:
        if character == "\ufffd" or (unicodedata.category(character) == "Cc" and character not in "\n\t"):
            raise ValueError(f"the text holds the character U+{ord(character):04X}")
    return text.strip()


Prose = Annotated[str, AfterValidator(_clean)]


def _text(column: str, null: str = "") -> Any:
    shortest, longest = LENGTH_BANDS[column]
    return Field(alias=column, description=f"{ABOUT[column]} {shortest} to {longest} characters{null}.")


def _nullable(column: str) -> Any:
    return _text(column, "; null if nothing is known")


class CaptionTexts(BaseModel):
    """The ten texts of a clip. Every key is required and no other is allowed; a text may be null."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    brief_description: str | None = _nullable("Brief Description")
    detailed_description: str | None = _nullable("Detailed Description")
    background: str | None = _nullable("Background")
    theme_description: str | None = _nullable("Theme Description")
    style: str | None = _nullable("Style")
    shot_type: str | None = _nullable("Shot Type")
    camera_movement: str | None = _nullable("Camera Movement")
    lighting: str | None = _nullable("Lighting")
    video_atmosphere: str | None = _nullable("Video Atmosphere")
    summarized_description: str | None = _nullable("Summarized Description")

    def by_column(self) -> dict[str, str | None]:
        """Column name -> text; null where nothing grounded can be said."""
        return self.model_dump(by_alias=True)


class Answer(BaseModel):
    """What a model is asked for: every key, no other, no blank text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Scene(Answer):
    """What the clip shows."""

    scene_evidence: Prose = Field(description="What can be seen that tells the place and the time of day.")
    setting: Setting = Field(description="Whether the scene lies indoors or outdoors.")
    time_of_day: TimeOfDay = Field(description="By the light; unclear if the picture does not tell.")
    brief_description: Prose = _text("Brief Description")
    detailed_description: Prose = _text("Detailed Description")
    background: Prose = _text("Background")
    theme_description: Prose = _text("Theme Description")


class Picture(Answer):
    """How the clip is filmed."""

    picture_evidence: Prose = Field(
        description="How large the subject stands in the frame, and what shifts between the frames: all of the "
        "picture, or things in it."
    )
    shot_scale: ShotScale = Field(description="Size of the main subject in the frame.")
    shot_type: Prose = _text("Shot Type")
    camera_movements: list[CameraMove] = Field(
        min_length=1, max_length=MAX_MOVES, description="What the camera does, in the order of time."
    )
    camera_movement: Prose = _text("Camera Movement")
    lighting: Prose = _text("Lighting")
    medium: Medium = Field(description="How the picture was made.")
    style: Prose = _text("Style")
    video_atmosphere: Prose = _text("Video Atmosphere")


class Summary(Answer):
    """The last text, from the other nine alone."""

    summarized_description: Prose = _text("Summarized Description")


class Whole(Answer):
    """Everything in one answer."""

    scene: Scene
    picture: Picture
    summary: Summary


class Merged(Answer):
    """The nine texts of a long clip, from those of its parts alone."""

    brief_description: Prose = _text("Brief Description")
    detailed_description: Prose = _text("Detailed Description")
    background: Prose = _text("Background")
    theme_description: Prose = _text("Theme Description")
    shot_type: Prose = _text("Shot Type")
    camera_movement: Prose = _text("Camera Movement")
    lighting: Prose = _text("Lighting")
    style: Prose = _text("Style")
    video_atmosphere: Prose = _text("Video Atmosphere")


ANSWERS: dict[Plan, tuple[type[Answer], ...]] = {
    Plan.GROUPED: (Scene, Picture, Summary, Merged),
    Plan.SINGLE: (Whole, Summary, Merged),
}
"""All that a plan may ask for."""

VOCABULARIES: dict[str, tuple[str, ...]] = {
    "shot_scale": get_args(ShotScale),
    "camera_movements": get_args(CameraMove),
    "time_of_day": get_args(TimeOfDay),
    "setting": get_args(Setting),
    "medium": get_args(Medium),
}
"""Column of a label -> the words it may be."""


def json_schema(answer: type[BaseModel] = CaptionTexts) -> dict[str, Any]:
    """JSON Schema of an answer: keys as the released columns, all required, none besides, no length of a text."""
    return answer.model_json_schema(by_alias=True)


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the longest length of every text; only for grammars that are known to read it rightly.

    The shortest is 1: a band is checked afterwards, for a model that is made to go on invents.
    """
    found = dict(schema)
    found["properties"] = {name: _bounded_property(name, part) for name, part in schema.get("properties", {}).items()}
    found["$defs"] = {name: bounded(part) for name, part in schema.get("$defs", {}).items()}
    return found


def _bounded_property(name: str, part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") != "string" or "enum" in part:
        return part
    return {**part, "minLength": 1, "maxLength": LENGTH_BANDS.get(name, EVIDENCE_CHARS)[1]}


def schema_hash(*answers: type[BaseModel]) -> str:
    """16 hex digits over the JSON Schemas; part of every captioner's id. Without answers: of the ten texts."""
    return fingerprint("caption-schema", [json_schema(answer) for answer in answers or (CaptionTexts,)])
