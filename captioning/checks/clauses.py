# SPDX-License-Identifier: Apache-2.0
"""Which of several things a text claims: phrases, clause by clause, without those that are denied."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

CLAUSE_END = re.compile(
    r"(?<=[.!?;:])(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)\s+|\n+|,? \b(?:but|while|whereas"
    r"|although|though)\b "
)
HEADING = re.compile(r"^(\w+): ")
DENIAL = re.compile(
    r"\b(?:no|not|never|without|neither|nor|none|lacks?|lacking|cannot|free (?:of|from)|devoid of|absence of"
    r"|rather than|instead of|far from|hardly|nearly|almost|barely)\b|n't\b",
    re.IGNORECASE,
)
DENIED_WORDS = 6  # ours: words between a denial and what it denies: "no panning, tilting or zooming"


@dataclass(frozen=True)
class Wording:
    """How a claim is worded.

    Args:
        says: phrases that make the claim.
        fields: texts in which they do; none: in every text.
        but_not: if this matches the same clause, it speaks of something else.
    """

    says: re.Pattern[str]
    fields: frozenset[str] = frozenset()
    but_not: re.Pattern[str] | None = None


@dataclass(frozen=True)
class Claim:
    """What was found: the claim, the text it stands in, and its words."""

    claim: str
    field: str
    words: str


@dataclass(frozen=True)
class Topic:
    """All wordings of a topic's claims.

    Args:
        claims: claim -> wordings.
        not_meant: phrases that look like a claim and are none; they are cut out of the text first.
        denials: claim -> wordings that hold a denial themselves ("no camera movement").
    """

    claims: Mapping[str, tuple[Wording, ...]]
    not_meant: re.Pattern[str] | None = None
    denials: Mapping[str, tuple[Wording, ...]] = field(default_factory=dict)

    def claims_of(self, texts: Mapping[str, str | None]) -> list[Claim]:
        """Every claim of `texts` (name of a text -> text)."""
        return [claim for name, text in texts.items() if text for claim in self._of_text(name, text)]

    def _of_text(self, name: str, text: str) -> Iterator[Claim]:
        for clause in clauses(text):
            plain = self.not_meant.sub(" # ", clause) if self.not_meant else clause
            for is_denial, wordings in ((True, self.denials), (False, self.claims)):
                for claim, ways in wordings.items():
                    words = _first(plain, name, ways, is_denial)
                    if words is not None:
                        yield Claim(claim, name, words)


def _first(clause: str, name: str, ways: Iterable[Wording], is_denial: bool) -> str | None:
    for way in ways:
        if (way.fields and name not in way.fields) or (way.but_not and way.but_not.search(clause)):
            continue
        for match in way.says.finditer(clause):
            if is_denial or not is_denied(clause, match.start()):
                return match.group(0).strip()
    return None


def clauses(text: str) -> list[str]:
    """The parts of a text that a denial does not reach across."""
    headed = HEADING.sub(r"\1 ", text)
    return [part.strip() for part in CLAUSE_END.split(headed) if part and part.strip()]


def is_denied(clause: str, start: int) -> bool:
    """Whether a denial stands shortly before position `start` of a clause."""
    before = clause[:start]
    ends = [match.end() for match in DENIAL.finditer(before)]
    return bool(ends) and len(before[ends[-1] :].split()) <= DENIED_WORDS


def wording(*phrases: str, fields: Iterable[str] = (), but_not: str | None = None) -> Wording:
    """Phrases as regular expressions, in any case, at word borders; a blank stands for blanks or hyphens."""
    alternatives = "|".join(phrase.replace(" ?", r"[\s-]*").replace(" ", r"[\s-]+") for phrase in phrases)
    return Wording(
        re.compile(rf"(?<![\w-])(?:{alternatives})(?![\w])", re.IGNORECASE),
        frozenset(fields),
        re.compile(but_not, re.IGNORECASE) if but_not else None,
    )
