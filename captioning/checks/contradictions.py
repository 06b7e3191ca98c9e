# SPDX-License-Identifier: Apache-2.0
"""Does a caption say the opposite of what was measured?

A caption that says both ("static at first, then pans") contradicts nothing, and nor does one that says neither.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captioning.checks import camera_claims, frame_claims, light_claims
from captioning.checks.clauses import Claim, Topic
from captioning.wording import ASPECT_TOLERANCE, bound

CUT_SCORE = 0.4  # inner_cut_score above which a clip holds a change of scene (operators.meters.layout.STEP)
NIGHT, LABELS = "night", "labels"

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Contradiction:
    """A kind of contradiction.

    Args:
        name: the column is `contradicts_<name>`.
        reads: measured columns.
        topic: how captions word it.
        measured: what the numbers say, as one of the topic's claims; null: they say neither.
        against: what was measured -> claims that contradict it.
    """

    name: str
    reads: tuple[str, ...]
    topic: Topic
    measured: Callable[[Facts], str | None]
    against: Mapping[str, frozenset[str]]
    labelled: Callable[[Facts], str | None] = lambda labels: None

    def verdict(self, texts: Mapping[str, str | None], labels: Facts, facts: Facts) -> "Verdict":
        """What was measured and the claims against it; `measured` null: could not be checked."""
        if any(facts.get(column) is None for column in self.reads):
            return Verdict(None, ())
        measured = self.measured(facts)
        if measured is None:
            return Verdict(None, ())
        claims = self.topic.claims_of(texts)
        if label := self.labelled(labels):
            claims.append(Claim(label, LABELS, label))
        wrong = self.against.get(measured, frozenset())
        is_consistent = any(claim.claim not in wrong for claim in claims)
        return Verdict(measured, () if is_consistent else tuple(claims))


@dataclass(frozen=True)
class Verdict:
    """What was measured (null: could not be checked) and the claims that contradict it."""

    measured: str | None
    claims: Sequence[Claim]

    @property
    def is_contradicted(self) -> bool | None:
        return None if self.measured is None else bool(self.claims)


def _camera(facts: Facts) -> str | None:
    kind = facts["camera_class"]
    return {"static": camera_claims.STATIC, "handheld": "handheld", "unknown": None}.get(kind, camera_claims.MOVING)


def _brightness(facts: Facts) -> str | None:
    level = facts["exposure_luma_mean"]
    if facts["hdr"] != "sdr":
        return None
    return light_claims.DARK if level < bound("dark") else light_claims.BRIGHT if level >= bound("bright") else "middle"


def _colour(facts: Facts) -> str | None:
    if facts["grey_variance_max"] < bound("grey"):
        return light_claims.GREY
    is_coloured = facts["color_chroma_mean"] >= bound("little_colour") and facts["hdr"] == "sdr"
    return light_claims.COLOUR if is_coloured else "little colour"


def _text(facts: Facts) -> str | None:
    return frame_claims.TEXT if facts["text_num_boxes"] else frame_claims.NO_TEXT


def _orientation(facts: Facts) -> str | None:
    ratio = facts["width_px"] * facts["pixel_aspect"] / facts["height_px"]
    if abs(ratio - 1) <= ASPECT_TOLERANCE:
        return frame_claims.SQUARE
    return frame_claims.LANDSCAPE if ratio > 1 else frame_claims.PORTRAIT


def _shots(facts: Facts) -> str | None:
    return frame_claims.SEVERAL if facts["inner_cut_score"] > CUT_SCORE else frame_claims.ONE


def _night(labels: Facts) -> str | None:
    return light_claims.DARK if labels.get("time_of_day") == NIGHT else None


def _opposites(first: str, second: str) -> dict[str, frozenset[str]]:
    return {first: frozenset([second]), second: frozenset([first])}


_SHAPES = (frame_claims.PORTRAIT, frame_claims.LANDSCAPE, frame_claims.SQUARE)
CONTRADICTIONS = (
    Contradiction(
        "camera",
        ("camera_class",),
        camera_claims.TOPIC,
        _camera,
        _opposites(camera_claims.STATIC, camera_claims.MOVING),
        lambda labels: camera_claims.labelled(labels.get("camera_movements")),
    ),
    Contradiction(
        "brightness",
        ("exposure_luma_mean", "hdr"),
        light_claims.BRIGHTNESS,
        _brightness,
        _opposites(light_claims.DARK, light_claims.BRIGHT),
        _night,
    ),
    Contradiction(
        "colour",
        ("grey_variance_max", "color_chroma_mean", "hdr"),
        light_claims.COLOURS,
        _colour,
        _opposites(light_claims.GREY, light_claims.COLOUR),
    ),
    Contradiction(
        "text",
        ("text_num_boxes",),
        frame_claims.TEXTS,
        _text,
        _opposites(frame_claims.TEXT, frame_claims.NO_TEXT),
    ),
    Contradiction(
        "orientation",
        ("width_px", "height_px", "pixel_aspect"),
        frame_claims.ORIENTATION,
        _orientation,
        {shape: frozenset(_SHAPES) - {shape} for shape in _SHAPES},
    ),
    Contradiction(
        "shots",
        ("inner_cut_score",),
        frame_claims.SHOTS,
        _shots,
        _opposites(frame_claims.SEVERAL, frame_claims.ONE),
    ),
)
