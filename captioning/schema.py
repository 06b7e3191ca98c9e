# SPDX-License-Identifier: Apache-2.0
"""The ten texts as a type. The JSON Schema and its hash come from it.

Names and length bands are those of UltraVideo's released short set. A band stands in the field's description and never
as `minLength` or `maxLength`: with those keywords xgrammar 0.2.8, vLLM's usual decoder, forbids every escape in a
string and lets raw control characters through (mlc-ai/xgrammar#800).
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

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


def _text(column: str, about: str) -> Any:
    shortest, longest = LENGTH_BANDS[column]
    description = f"{about} {shortest} to {longest} characters; null if nothing is known."
    return Field(alias=column, description=description)


class CaptionTexts(BaseModel):
    """The ten texts of a clip. Every key is required and no other is allowed; a text may be null."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    brief_description: str | None = _text("Brief Description", "One sentence that says what the clip shows.")
    detailed_description: str | None = _text(
        "Detailed Description", "Subjects, their looks, actions and relations, in the order of time."
    )
    background: str | None = _text("Background", "The place and the things behind the subjects.")
    theme_description: str | None = _text("Theme Description", "The topic of the clip and what it conveys.")
    style: str | None = _text("Style", "The look of the picture: medium, colours, texture, dynamic range.")
    shot_type: str | None = _text("Shot Type", "The framing: orientation, shot scale, viewpoint.")
    camera_movement: str | None = _text("Camera Movement", "How the camera moves: direction and speed.")
    lighting: str | None = _text("Lighting", "Brightness, contrast, the light's source and direction.")
    video_atmosphere: str | None = _text("Video Atmosphere", "Mood and pace.")
    summarized_description: str | None = _text(
        "Summarized Description", "The other texts merged into one, without a new fact."
    )

    def by_column(self) -> dict[str, str | None]:
        """Column name -> text; null where nothing grounded can be said."""
        return self.model_dump(by_alias=True)


def json_schema() -> dict[str, Any]:
    """JSON Schema of `CaptionTexts`, keys as the released columns, all required, none besides."""
    return CaptionTexts.model_json_schema(by_alias=True)


def schema_hash() -> str:
    """16 hex digits over the JSON Schema; part of every captioner's id."""
    return fingerprint("caption-schema", json_schema())
