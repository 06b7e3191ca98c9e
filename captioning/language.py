# SPDX-License-Identifier: Apache-2.0
"""Is a text English? A cheap test of letters and of the small words that every English text has."""

import re
import unicodedata

MIN_WORDS = 12  # ours: shorter texts hold too few small words to judge them by
MIN_SHARE = 0.04  # ours: in the tests' sentences English has 0.05-0.40 of these words, six other languages have none
MIN_LATIN = 0.9  # ours: share of letters; leaves room for a sign in another script
SMALL_WORDS = frozenset(
    re.findall(
        r"\w+",
        "the of and with is are to from on at by as its it while an into for that this which their his her has "
        "not be or but there through across behind against between each both",
    )
)


def is_english(text: str) -> bool:
    """False if most letters are not Latin, or a text of `MIN_WORDS` words lacks English small words."""
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return True
    latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters)
    if latin < MIN_LATIN * len(letters):
        return False
    words = re.findall(r"[a-zà-ÿ']+", text.lower())
    small = sum(word in SMALL_WORDS for word in words)
    return len(words) < MIN_WORDS or small >= MIN_SHARE * len(words)


# Small words of other languages that caption models fall into, without those that English has too.
FOREIGN_WORDS = frozenset(
    re.findall(
        r"\w+",
        # German, Dutch, Swedish
        "der das und ist im mit einem einer eine ein den dem auf sich nicht wird von zu für über durch sind "
        "een het van op naar bij zijn niet en och som att är på medan det av "
        # French
        "le la les une des du dans avec est sur qui par et aux sous ses leurs pour au "
        # Spanish, Portuguese, Italian
        "el los las una con por del que su hacia desde mientras para y se lo "
        "um uma do da dos das ao pelo pela com na em os sua "
        "il gli di che due al davanti dal nel nella sul sulla mentre e è una i "
        # Polish, Turkish, Vietnamese, Indonesian
        "w na się przed przez za nimi ich jest z ve bir ile một đang trên và của người di yang dan sedang seorang "
        "dengan",
    )
)
QUOTED = re.compile(r"[\"“«„][^\"”»“]*[\"”»“]")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。\uff01\uff1f])|\n+")


def is_foreign(sentence: str) -> bool:
    """Whether a sentence is in another language than English; a few words of one in an English sentence are not.

    True if half of its letters are not Latin, or if it has more small words of other languages than English ones.
    """
    plain = QUOTED.sub("", sentence)
    letters = [character for character in plain if character.isalpha()]
    latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters)
    if letters and latin < 0.5 * len(letters):
        return True
    words = re.findall(r"[^\W\d_]+", plain.lower())
    foreign = sum(word in FOREIGN_WORDS for word in words)
    english = sum(word in SMALL_WORDS for word in words) + sum(word in ("a", "one", "who") for word in words)
    return foreign > english and foreign >= min(2, len(words) // 4)


def num_foreign(text: str) -> int:
    """Sentences of a text that are not English."""
    return sum(is_foreign(sentence) for sentence in SENTENCE_END.split(text) if sentence and sentence.strip())
