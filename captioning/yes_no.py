# SPDX-License-Identifier: Apache-2.0
"""Yes or no as a probability: read off the scores of a model's next token, so nothing is sampled and nothing parsed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from captioning.conversation import Message

NUM_TOP_TOKENS = 20  # that a server is asked for: the most that OpenAI's and vLLM's defaults give
MARKS = " \t\n▁Ġ.,!\"'*"  # around the word in a token's text


@dataclass(frozen=True)
class Odds:
    """How likely a model goes on with `yes`.

    Args:
        yes: probability of yes, given that the next token is yes or no; 0-1. 0.5 if it can be neither.
        share: probability that it is one of them; what is missing from 1 is an answer to something else.
    """

    yes: float
    share: float


class Judge(Protocol):
    """What answers yes-or-no questions on one sight. Raises RowError if it cannot."""

    async def odds(self, opening: tuple[Message, ...], questions: Sequence[str]) -> list[Odds]:
        """One per question; each is asked after the opening and knows nothing of the others."""
        ...


def odds_of(tokens: Iterable[tuple[str, float]]) -> Odds:
    """From (text, probability) of the likeliest next tokens; every spelling counts: Yes, " yes", YES."""
    found = {"yes": 0.0, "no": 0.0}
    for text, probability in tokens:
        word = text.strip(MARKS).lower()
        if word in found:
            found[word] += probability
    share = found["yes"] + found["no"]
    return Odds(found["yes"] / share if share else 0.5, min(1.0, share))


def asked(opening: tuple[Message, ...], question: str) -> tuple[Message, ...]:
    """The conversation with the question at the end of its last turn, so that all questions share what is before."""
    *before, last = opening
    return (*before, Message(last.role, f"{last.text}\n{question}", last.sight))


def word_ids(tokenizer: Any) -> dict[str, list[int]]:
    """Ids of the tokens that are a spelling of yes, and of no. Raises ValueError for a vocabulary without one."""
    found: dict[str, list[int]] = {"yes": [], "no": []}
    for token, number in tokenizer.get_vocab().items():
        if (word := token.strip(MARKS).lower()) in found:
            found[word].append(number)
    if missing := [word for word, ids in found.items() if not ids]:
        raise ValueError(
            f"the model's vocabulary has no token {missing[0]!r}: it cannot answer yes or no with one token"
        )
    return found
