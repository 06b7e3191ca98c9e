# SPDX-License-Identifier: Apache-2.0
"""Lets a local model write nothing but JSON that a schema takes (llguidance), token by token."""

import json
from typing import Any

from captioning.schema import Answer, bounded, json_schema


class Grammar:
    """The grammars of one tokenizer. Making one takes about a second for a large vocabulary; an answer's, little.

    Args:
        tokenizer: a fast tokenizer of transformers.
        vocab_size: of the model's output, which may be padded beyond the tokenizer's.

    Raises:
        ValueError: llguidance is not installed, or the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        try:
            from llguidance.hf import from_tokenizer
        except ImportError as error:
            raise ValueError(
                "captions: answers of a local model are held to their schema by llguidance, which is not installed: "
                'pip install "llguidance==1.9.1"'
            ) from error
        self._tokenizer = from_tokenizer(tokenizer, n_vocab=vocab_size)
        self._vocab_size = vocab_size

    def processors(self, answer: type[Answer]) -> list[Any]:
        """For `generate(logits_processor=...)`: masks what no valid answer can go on with. Of one answer, once."""
        from llguidance import LLMatcher

        schema = json.dumps(bounded(json_schema(answer)))
        options: Any = {"whitespace_flexible": False}  # blanks between tokens are where a model can get lost
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_json_schema(schema, overrides=options))
        if matcher.is_error():
            raise AssertionError(f"{answer.__name__}: {matcher.get_error()}")
        return [_Mask(matcher, self._vocab_size, self._tokenizer.eos_token)]


class _Mask:
    """A logits processor; called as `generate` calls it: with all tokens so far, prompt included, and their scores."""

    def __init__(self, matcher: Any, vocab_size: int, end: int) -> None:
        from llguidance.numpy import allocate_token_bitmask

        self._matcher, self._vocab_size, self._end = matcher, vocab_size, end
        self._bits = allocate_token_bitmask(1, vocab_size)
        self._num_read: int | None = None

    def __call__(self, ids_NT: Any, scores_NV: Any) -> Any:
        import numpy as np
        import torch
        from llguidance.numpy import fill_next_token_bitmask

        assert ids_NT.shape[0] == 1, "one answer has one grammar"
        if self._num_read is not None and not self._matcher.is_stopped():
            self._matcher.consume_tokens(ids_NT[0, self._num_read :].tolist())
            if self._matcher.is_error():
                raise AssertionError(f"the grammar lost its place: {self._matcher.get_error()}")
        self._num_read = ids_NT.shape[1]
        if self._matcher.is_stopped():  # the last brace stands: nothing but the end can follow
            allowed = np.arange(self._vocab_size) == self._end
        else:
            fill_next_token_bitmask(self._matcher, self._bits)
            allowed = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._vocab_size].astype(bool)
        return scores_NV.masked_fill(~torch.from_numpy(allowed).to(scores_NV.device), -torch.inf)
