# SPDX-License-Identifier: Apache-2.0
"""Which words of the summary have no ground in the other nine texts: it may merge, it may not add.

A summary says things in other words, so inflections, common synonyms and the vocabulary of summing up ("overall, the
clip conveys") do not count. What is left are names, numbers and things.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

SUMMARY = "Summarized Description"
WORDS_FILE = Path(__file__).with_name("summary_words.yaml")
SUFFIXES = (
    "ingly",
    "edly",
    "iness",
    "ness",
    "ment",
    "ings",
    "ing",
    "ied",
    "ies",
    "ers",
    "ed",
    "es",
    "er",
    "ly",
    "s",
    "y",
    "e",
)
STEM = 3  # letters that a suffix must leave
ALIKE = 5  # first letters that two forms of one word share: concentrated, concentrate, concentration


FACT = 2  # ours: new words in a sentence that make a new fact; a name or a number is one by itself


def adds_facts(texts: Mapping[str, str | None]) -> bool | None:
    """Whether a sentence of the summary has a new name, a new number or `FACT` new words; null as `new_words`."""
    found = new_words(texts)
    if found is None:
        return None
    new, summary = set(found), texts.get(SUMMARY) or ""
    return any(_weight(sentence, new) >= FACT for sentence in re.split(r"(?<=[.!?;])\s+", summary))


def _weight(sentence: str, new: set[str]) -> int:
    words = _words(sentence)
    is_name = {word for word in words[1:] if (word[0].isupper() and not word.isupper()) or word[0].isdigit()}
    return sum(FACT if word in is_name else 1 for word in dict.fromkeys(words) if word in new)


def new_words(texts: Mapping[str, str | None]) -> list[str] | None:
    """Words of the summary that no other text has, in order, each once; null without a summary or other texts."""
    summary = texts.get(SUMMARY)
    others = [text for name, text in texts.items() if name != SUMMARY and text]
    if not summary or not others:
        return None
    known = {stem for text in others for word in _words(text) for stem in _meanings(word)}
    heads = {stem[:ALIKE] for stem in known if len(stem) >= ALIKE}
    found = [word for word in _words(summary) if not _is_known(word, known, heads)]
    return list(dict.fromkeys(found))


def _words(text: str) -> list[str]:
    return re.findall(r"\d+(?:[.,:]\d+)*|[^\W\d_]+", re.sub(r"['\u2019]s\b", "", text))


def _is_known(word: str, known: set[str], heads: set[str]) -> bool:
    plain = word.lower()
    if not plain.isdigit() and len(plain) <= 2:
        return True
    stem = stem_of(plain)
    glue, _ = _vocabulary()
    if plain in glue or stem in glue:
        return True
    return not known.isdisjoint(_meanings(word)) or (len(stem) >= ALIKE and stem[:ALIKE] in heads)


def stem_of(word: str) -> str:
    """The word without its commonest endings, and without a doubled consonant before them: running -> run."""
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= STEM:
            stem = word[: -len(suffix)]
            return stem[:-1] if len(stem) > STEM and stem[-1] == stem[-2] and stem[-1] not in "aeiouls" else stem
    return word


def _meanings(word: str) -> set[str]:
    """The word's stem and those of its synonyms' groups."""
    stem = stem_of(word.lower())
    _, groups = _vocabulary()
    return {stem, *groups.get(stem, ())}


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[frozenset[str], dict[str, tuple[str, ...]]]:
    """Words that add nothing (and their stems), and stem -> names of its synonym groups."""
    import yaml

    data = yaml.safe_load(WORDS_FILE.read_text(encoding="utf-8"))
    glue = set(" ".join(data["glue"]).split())
    groups: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(data["synonyms"]):
        for word in line.split():
            stem = stem_of(word)
            groups[stem] = (*groups.get(stem, ()), f"#{number}")
    return frozenset(glue | {stem_of(word) for word in glue}), groups
