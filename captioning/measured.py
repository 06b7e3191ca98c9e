# SPDX-License-Identifier: Apache-2.0
"""Captions without weights: plain sentences made from measured columns and from text that came with the source.

Every sentence names the columns it was made from; a column that is null takes its sentences with it. What no column
says stays null: nothing measured tells the subjects, the place or the shot scale.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from captioning import camera_sentences as move
from captioning import sentences as say
from captioning.engines import CaptionResult, Clip, ClipFacts, Evidence, columns_of
from captioning.schema import CaptionTexts
from captioning.sentences import Sentence
from captioning.wording import BOUNDS
from reelmill.tables import CAPTION_TEXTS

BRIEF, SUMMARY = "Brief Description", "Summarized Description"

PARTS: dict[str, tuple[Callable[[ClipFacts], Sentence | None], ...]] = {
    "Detailed Description": (say.title, say.tags),
    "Theme Description": (say.tags,),
    "Shot Type": (say.frame, say.length),
    "Camera Movement": (move.static_camera, move.camera_shift, move.camera_zoom, move.camera_roll, move.camera_shake),
    "Video Atmosphere": (move.pace, move.freeze),
    "Lighting": (say.brightness, say.contrast, say.clipped_white, say.clipped_black),
    "Style": (say.colour, say.dynamic_range, say.detail),
}
"""Which sentences make a text; the order of the texts is that of the summary. Background is never measured."""


class MeasuredEngine:
    """The default engine: no weights, no pixels, same facts same texts."""

    name = "measured"
    version = 2  # 2: no word of a camera whose class is unknown
    looks_at_frames = False
    reads = columns_of(
        "title",
        "tags",
        "media",
        *say.FRAME,
        "hdr",
        *move.CAMERA,
        *move.SPREADS.values(),
        *move.CAMERA_GATE,
        "motion_speed_mean",
        "freeze_share",
        "exposure_luma_mean",
        "color_luma_p05_mean",
        "color_luma_p95_mean",
        "exposure_bright_share_mean",
        "exposure_dark_share_mean",
        "color_chroma_mean",
        "grey_variance_max",
        "sharpness_laplacian_1080_median",
    )

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The bounds that decide which word is used."""
        return {name: bound.value for name, bound in BOUNDS.items()}

    def start(self) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Nothing to end."""

    def caption_all(self, clips: Sequence[Clip]) -> list[CaptionResult]:
        """One result per clip, in order."""
        return [self.caption(clip.facts) for clip in clips]

    def caption(self, facts: ClipFacts) -> CaptionResult:
        """The ten texts; null where `facts` carry none."""
        said = {field: _sentences(facts, parts) for field, parts in PARTS.items()}
        brief = brief_description(facts)
        said[SUMMARY] = list(dict.fromkeys(sentence for part in said.values() for sentence in part))
        said[BRIEF] = [brief] if brief else []
        texts = {field: " ".join(s.text for s in said.get(field, ())) or None for field in CAPTION_TEXTS}
        evidence = tuple(Evidence(field, s.text, s.columns) for field in CAPTION_TEXTS for s in said.get(field, ()))
        return CaptionResult(CaptionTexts.model_validate(texts), grounding="measured", evidence=evidence)


def _sentences(facts: ClipFacts, parts: tuple[Callable[[ClipFacts], Sentence | None], ...]) -> list[Sentence]:
    return [sentence for part in parts if (sentence := part(facts)) is not None]


def brief_description(facts: ClipFacts) -> Sentence | None:
    """One sentence: the title, then what kind of picture it is, how long, and what the camera does."""
    name, noun = say.title_name(facts), say.noun(facts)
    look, shape = _sentences(facts, (say.brightness_word, say.grey_word)), _sentences(facts, (say.orientation,))
    after = _sentences(facts, (say.length_phrase, move.camera_phrase))
    if noun is None or not (name or look or shape or after):
        return None
    adjectives = [", ".join(phrase.text for phrase in look)] if look else []
    words = " ".join([*adjectives, *(phrase.text for phrase in (*shape, noun, *after))])
    phrases = (*([name] if name else []), *look, *shape, noun, *after)
    columns = dict.fromkeys(column for phrase in phrases for column in phrase.columns)
    return Sentence(f"{name.text}: a {words}." if name else f"A {words}.", tuple(columns))
