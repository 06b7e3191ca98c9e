# SPDX-License-Identifier: Apache-2.0
"""The checks of one caption as a row: what was counted, and the flags that follow from it."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from captioning.checks import novelty, prose, twins
from captioning.checks.contradictions import CONTRADICTIONS
from captioning.language import num_foreign
from reelmill.column import Column
from reelmill.tables import CAPTION_TEXTS, CLIP_ID, SOURCE_ID

VERSION = 1
REPEATED = 0.2  # ours: share of repeated runs above which a text loops; good prose of the labelled file has 0.13
ALIKE = 0.6  # ours: resemblance of two captions of different sources from which one was written by rote
LABELS = ("camera_movements", "time_of_day")
FACTS = tuple(dict.fromkeys(column for kind in CONTRADICTIONS for column in kind.reads))
"""Measured columns that captions are held against; one that the recipe does not measure leaves its check null."""

b, i32, s = pa.bool_(), pa.int32(), pa.string()
CLAIM = pa.struct([("topic", s), ("measured", s), ("field", s), ("said", s)])
_NONE = "null if the clip has no caption"
_MEASURED = "null without a caption, and for one made of measurements: it speaks of the picture on purpose"
MODEL_ONLY = ("caption_num_boilerplate", "caption_has_boilerplate", "caption_sketch")
_ABOUT = {
    "camera": "it says that the camera moves and camera_class is static, or that it does not and camera_class moves",
    "brightness": "it calls the picture dark and exposure_luma_mean is bright, or the other way round",
    "colour": "it names colours and the picture is grey, or says black and white and the picture has colour",
    "text": "it tells of text and none was read, or of none and some was",
    "orientation": "it says portrait, landscape or square and the frame is another",
    "shots": "it tells of several shots and inner_cut_score sees one, or of one and it sees a cut",
}
CAPTION_CHECKS = (
    CLIP_ID,
    SOURCE_ID,
    Column("caption_num_missing", i32, f"texts that are null, blank or stand for nothing (N/A); {_NONE}"),
    Column("caption_num_cut_off", i32, f"texts that end in the middle of a sentence; {_NONE}"),
    Column("caption_is_incomplete", b, f"any of the two; {_NONE}"),
    Column("caption_num_too_short", i32, f"texts below their length band (captioning.schema.LENGTH_BANDS); {_NONE}"),
    Column("caption_num_too_long", i32, f"texts above it; {_NONE}"),
    Column("caption_is_out_of_band", b, f"any of the two; {_NONE}"),
    Column(
        "caption_repeated_share",
        pa.float32(),
        f"of the text that repeats itself most: runs of words that stood before, 0-1; {_NONE}",
    ),
    Column("caption_is_repetitive", b, f"that share is at least {REPEATED}; {_NONE}"),
    Column("caption_num_boilerplate", i32, f"phrases about frames, images, the question or the writer; {_MEASURED}"),
    Column("caption_has_boilerplate", b, f"any; {_MEASURED}"),
    Column("caption_num_foreign", i32, f"sentences in another language than English; {_NONE}"),
    Column("caption_is_foreign", b, f"any; {_NONE}"),
    Column(
        "summary_new_words",
        pa.list_(s),
        "words of the summary without ground in the other texts; null without a summary or others",
    ),
    Column("summary_num_new_words", i32, "how many; null likewise"),
    Column("summary_adds_facts", b, "a sentence of it has a new name, a new number or two new words; null likewise"),
    *(
        Column(
            f"contradicts_{kind.name}",
            b,
            f"{_ABOUT[kind.name]}; null without caption, or if {', '.join(kind.reads)} do not tell",
        )
        for kind in CONTRADICTIONS
    ),
    Column("caption_num_contradictions", i32, "how many of those; null if none of them could be checked"),
    Column(
        "caption_contradictions", pa.list_(CLAIM), "what was measured against which words of which text; null likewise"
    ),
    Column(
        "caption_sketch",
        pa.binary(),
        f"{twins.SIZE} hashes of the detailed description's words; null below {twins.MIN_WORDS} words",
    ),
)

CAPTION_TWINS = (
    CLIP_ID,
    SOURCE_ID,
    Column(
        "caption_twin",
        s,
        "clip of another source whose detailed description is most like this one; null if none is near",
    ),
    Column(
        "caption_twin_similarity",
        pa.float32(),
        "share of words and pairs of words that the two have in common, 0-1; null likewise",
    ),
    Column(
        "caption_is_rote",
        b,
        f"that share is at least {ALIKE}; null if there is no text to compare, or it is made of measurements",
    ),
)


def check_caption(row: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of CAPTION_CHECKS but for its keys.

    Args:
        row: of tables.CAPTIONS.
        facts: measured columns of the clip; those that are absent are taken as null.
    """
    texts = {name: row.get(name) for name in CAPTION_TEXTS}
    if row.get("status") == "failed" or not any(texts.values()):
        return {}
    found = {**check_prose(texts), **check_summary(texts), **check_facts(texts, row, facts)}
    if row.get("caption_grounding") == "measured":
        return found | dict.fromkeys(MODEL_ONLY)
    return {**found, "caption_sketch": twins.sketch(texts["Detailed Description"])}


def check_prose(texts: prose.Texts) -> dict[str, Any]:
    """Checks of the texts alone."""
    there = [text for text in texts.values() if text]
    missing, cut_off = prose.num_missing(texts), prose.num_cut_off(texts)
    short, long = prose.out_of_band(texts)
    repeated = max(map(prose.repeated_share, there), default=0.0)
    num_boilerplate = sum(len(prose.boilerplate(text)) for text in there)
    foreign = sum(map(num_foreign, there))
    return {
        "caption_num_missing": missing,
        "caption_num_cut_off": cut_off,
        "caption_is_incomplete": missing + cut_off > 0,
        "caption_num_too_short": short,
        "caption_num_too_long": long,
        "caption_is_out_of_band": short + long > 0,
        "caption_repeated_share": repeated,
        "caption_is_repetitive": repeated >= REPEATED,
        "caption_num_boilerplate": num_boilerplate,
        "caption_has_boilerplate": num_boilerplate > 0,
        "caption_num_foreign": foreign,
        "caption_is_foreign": foreign > 0,
    }


def check_summary(texts: prose.Texts) -> dict[str, Any]:
    """Does the summary say what no other text says?"""
    words = novelty.new_words(texts)
    return {
        "summary_new_words": words,
        "summary_num_new_words": None if words is None else len(words),
        "summary_adds_facts": novelty.adds_facts(texts),
    }


def check_facts(texts: prose.Texts, labels: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Contradictions with what was measured."""
    verdicts = {kind.name: kind.verdict(texts, labels, facts) for kind in CONTRADICTIONS}
    found: dict[str, Any] = {f"contradicts_{name}": verdict.is_contradicted for name, verdict in verdicts.items()}
    if all(verdict.measured is None for verdict in verdicts.values()):
        return found
    claims = [
        {"topic": name, "measured": verdict.measured, "field": claim.field, "said": claim.words}
        for name, verdict in verdicts.items()
        for claim in verdict.claims
    ]
    num = sum(verdict.is_contradicted is True for verdict in verdicts.values())
    return {**found, "caption_num_contradictions": num, "caption_contradictions": claims}
