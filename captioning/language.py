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
