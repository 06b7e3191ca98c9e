# SPDX-License-Identifier: Apache-2.0
"""What a left-right flip does to texts and camera numbers: a flipped sample must not be told that the car goes left."""

import re
from typing import Any

FLIP = "hflip"  # aug_id of a row that was flipped before encoding, alone or among parts joined by "+"

_SWAPS = {
    "left": "right",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "leftmost": "rightmost",
    "clockwise": "counterclockwise",
    "counter-clockwise": "clockwise",
    "counterclockwise": "clockwise",
    "anticlockwise": "clockwise",
    "anti-clockwise": "clockwise",
}
_SWAPS |= {there: here for here, there in _SWAPS.items() if there not in _SWAPS}
_WORD = re.compile(
    r"\b(counter-clockwise|counterclockwise|anti-clockwise|anticlockwise|clockwise|"
    r"leftwards?|rightwards?|leftmost|rightmost|left|right)\b",
    re.IGNORECASE,
)
# Where `left` and `right` are no directions, or may be none.
_UNCLEAR = re.compile(
    r"\bright (?:away|now|after|before|behind|next|above|below|beneath|in front|at|as|there|here|angles?|through|up|"
    r"down|into|across|from|when)\b|\bright-angled\b|\ball right\b|\bcop?y ?right\b|\bhuman rights?\b|\brights\b|"
    r"\b(?:has|have|had|having|is|are|was|were|be|been|being|they|he|she|it|who|which) left\b|"
    r"\bleft (?:behind|alone|untouched|over|open|the|a|an|his|her|their|its|by|in|with|unattended|empty)\b|"
    r"\bleftovers?\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_WRITTEN = re.compile(r"[\"“”«»]|\b(?:reads|reading|text|letters|logo|sign|subtitle|caption|words?)\b", re.IGNORECASE)
SIGNED = re.compile(r"camera_(?:pan|roll)_(?:mean|median|min|max)$")


def is_flipped(aug_id: str) -> bool:
    return FLIP in aug_id.split("+")


def mirrored(text: str) -> str | None:
    """The text for the flipped picture: left and right swapped; null if nothing is left of it.

    A sentence is left out where `left` or `right` may be no direction, or where it speaks of writing.
    """
    kept = [s for s in _SENTENCE.split(text) if not (_UNCLEAR.search(s) or _WRITTEN.search(s))]
    return " ".join(_WORD.sub(_swapped, sentence) for sentence in kept) or None


def mirrored_value(column: str, value: Any) -> Any:
    """A joined value for the flipped picture: sideways and turning camera speeds change their sign, pans and
    moves their name."""
    if isinstance(value, int | float) and SIGNED.match(column):
        return -value
    if column == "camera_class" and isinstance(value, str):
        return _other_way(value)
    if column == "camera_movements" and isinstance(value, list):
        return [_other_way(move) for move in value]
    return value


def _other_way(move: str) -> str:
    """`pan_left` -> `pan_right`, `move_right` -> `move_left`; others stay."""
    kind, _, way = move.partition("_")
    return {"left": f"{kind}_right", "right": f"{kind}_left"}.get(way, move)


def _swapped(match: re.Match[str]) -> str:
    word = match[0]
    other = _SWAPS[word.lower()]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
