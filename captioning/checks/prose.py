# SPDX-License-Identifier: Apache-2.0
"""Texts by themselves: are they there, whole, of the expected length, without loops and without talk to the reader?"""

import re
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

from captioning.schema import LENGTH_BANDS
from reelmill.tables import CAPTION_TEXTS

Texts = Mapping[str, str | None]

NOTHING = re.compile(
    r"n/a|na|none|null|nil|nan|unknown|undefined|unspecified|nothing(?: to report)?|no data|no description"
    r"|string|text|empty|tbd|todo|placeholder|not (?:applicable|available|specified|provided|visible|described)",
    re.IGNORECASE,
)
SAYS_NOTHING = re.compile(
    r"(?:there is |there's )?(?:no|not enough|insufficient|not sufficient) (?:\w+ ){0,3}?(?:description"
    r"|information|details?|data|context)\b[^,;]*"
    r"|[^,;]*\b(?:cannot|can't|could not|can not|impossible to) (?:be )?(?:determined?|described?|identified"
    r"|inferred|assessed|tell)\b[^,;]*"
    r"|[^,;]*\b(?:is|are) not (?:described|specified|provided|given|available|mentioned|discernible from)\b[^,;]*",
    re.IGNORECASE,
)
TEMPLATE = re.compile(r"[\[<{(].*[\]>})]")
UNFINISHED = re.compile(
    r"the|a|an|and|or|of|with|their|his|her|its|is|are|was|were|be|been|being|that|which|while|as|then|into|onto|than"
    r"|because|by|between|whose|who|very|at|several|each|every|this|these",
    re.IGNORECASE,
)
IN_SENTENCES = (
    "Brief Description",
    "Detailed Description",
    "Background",
    "Theme Description",
    "Summarized Description",
)


def is_missing(text: str | None) -> bool:
    """Null, blank, or words that stand for nothing: `N/A`, `[description]`, "Cannot be determined."."""
    if text is None or not re.search(r"\w", text):
        return True
    plain = re.sub(r"^[A-Za-z ]{3,24}: ", "", text.strip().rstrip(".!").strip())
    return (
        all(NOTHING.fullmatch(part.strip()) is not None for part in re.split(r" / |\bor\b", plain))
        or bool(TEMPLATE.fullmatch(plain))
        or bool(SAYS_NOTHING.fullmatch(plain))
    )


def is_cut_off(field: str, text: str | None) -> bool:
    """The text ends where no sentence can: after an article, a comma, an open bracket, or in a further sentence."""
    if text is None or is_missing(text):
        return False
    plain = text.strip()
    if plain[-1] in '.!?…:"”\u2019»)]}。\uff01\uff1f':
        return False
    if plain[-1] in ",;([{-\u2013—/&" or UNFINISHED.fullmatch(plain.split()[-1]):
        return True
    before, _, last = plain.rpartition(". ")
    return field in IN_SENTENCES and bool(before) and len(last.split()) >= 3


def num_missing(texts: Texts) -> int:
    return sum(is_missing(texts.get(name)) for name in CAPTION_TEXTS)


def num_cut_off(texts: Texts) -> int:
    return sum(is_cut_off(name, texts.get(name)) for name in CAPTION_TEXTS)


def out_of_band(texts: Texts) -> tuple[int, int]:
    """Texts shorter and longer than their band in `LENGTH_BANDS`; a null is neither."""
    lengths = {name: len(text.strip()) for name, text in texts.items() if text is not None}
    short = sum(length < LENGTH_BANDS[name][0] for name, length in lengths.items())
    return short, sum(length > LENGTH_BANDS[name][1] for name, length in lengths.items())


WINDOW = 48  # words: a loop of that length counts in a text of any length
RUN = 4  # words that return together: shorter runs return in good prose


def repeated_share(text: str) -> float:
    """Share of a text's runs of `RUN` words that stood before, or of words that repeat their neighbour, 0-1.

    The largest over windows of `WINDOW` words.
    """
    words = re.findall(r"\w+(?:'\w+)?", text.lower())
    starts = range(0, max(1, len(words) - WINDOW // 2), WINDOW // 2)
    return max((_repeated(words[start : start + WINDOW]) for start in starts), default=0.0)


def _repeated(words: list[str]) -> float:
    if len(words) < RUN:
        return 0.0
    runs = Counter(tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1))
    again = sum(runs.values()) - len(runs)
    stutters = sum(a == b for a, b in pairwise(words))
    return max(again / sum(runs.values()), stutters / (len(words) - 1))


BOILERPLATE = re.compile(
    r"\b(?:this|the|these|those|each|provided|given) (?:\w+ )?(?:images?|pictures?|photos?|photographs?|frames?"
    r"|screenshots?|stills?|snapshots?)"
    r" (?:shows?|showing|depicts?|features?|captures?|displays?|presents?|appears? to|illustrates?|portrays?"
    r"|contains?|reveals?|seems? to|provided)\b"
    r"|\bin (?:this|these|the (?:first|second|third|fourth|fifth|final|last|next|initial|subsequent|following"
    r"|provided|given|above)) (?:images?|pictures?|photos?|frames?|stills?|screenshots?)\b(?! of (?:the|a) "
    r"(?:game|film|match))"
    r"|\b(?:across|throughout|between|over|from|based on|in|of) (?:all |the |these |the provided |the sampled "
    r"|the given |consecutive |all the |multiple )*(?:frames|images|stills)\b(?! (?:on|of the (?:window|door"
    r"|house)|around|hang))"
    r"|\bframe \d+\b|\b(?:first|last|final) frame\b(?! of (?:the|a) (?:game|greenhouse|match|house))"
    r"|\b(?:sequence|series|set) of (?:frames|images|stills|pictures)\b|\bstill images?\b|\bstatic images\b"
    r"|\bframe by frame\b|\b(?:few|handful of|\w+) frames, (?:we|one)\b|\b(?:just|only) (?:\w+ )?frames\b"
    r"|\b(?:given|available|sampled) frames\b"
    r"|(?-i:(?<![A-Z]\w )(?<!War )\bI\b(?:'\w+)? [a-z])|\b(?:my|this|following|above) (?:\w+ )*(?:description"
    r"|caption|summary|guidelines)\b|\babove fields\b"
    r"|\bthe following is\b|\bto summari[sz]e\b|^(?:caption|title|description|answer|output|summary|scene"
    r"|(?:brief|detailed) description|background|theme|style|lighting):"
    r"|\bas an? (?:ai|language model|assistant)\b|\bai (?:language )?model,? i\b"
    r"|\bi(?:'m| am)? (?:sorry|cannot|can't|unable|can see|hope|will|would|apologi[sz]e|don't|do not|have)\b|\bi "
    r"am unable\b"
    r"|\b(?:let me know|feel free to|you asked|as requested|the user (?:wants|asks|asked)|your request|if you "
    r"(?:need|have|want|would))\b"
    r"|^(?:sure|certainly|of course|absolutely|okay|ok|great)[,!.]|\bhere(?:'s| is| are) (?:the|a|an|your|my) "
    r"(?:\w+ )*(?:description|caption|summary|json|analysis|response|answer|text)\b"
    r"|\*\*|```|^#+ |^\s*\{|\b(?:measured|provided|given) (?:camera )?(?:motion|metadata|measurements?"
    r"|information|hints?)\b"
    r"|\b(?:description|caption) (?:follows|below)\b|\b(?:description|prompt|instructions?) (?:is|are|was) "
    r"(?:helpful|given|provided)\b",
    re.IGNORECASE | re.MULTILINE,
)
OTHER_FRAMES = re.compile(
    r"\b(?:snooker|bowl\w*|pool|game|match|hive|bees?|beekeeper|greenhouse|window|bicycle|chair|photographer|saint)\b",
    re.IGNORECASE,
)
QUOTATION = re.compile(r"[\"“«][^\"”»]*[\"”»]")


def boilerplate(text: str) -> list[str]:
    """Phrases that speak of images, frames, the question or the writer and not of the clip; quotations do not count."""
    found = BOILERPLATE.finditer(QUOTATION.sub("“”", text))
    phrases = [match.group(0).strip() for match in found]
    return [phrase for phrase in phrases if "frame" not in phrase.lower() or not OTHER_FRAMES.search(text)]
