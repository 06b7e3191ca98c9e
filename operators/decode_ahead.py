# SPDX-License-Identifier: Apache-2.0
"""Decoding ahead: while the model looks at one clip, the worker's child decodes the next ones."""

import json
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from operators.contract import RUN_LOG, RowError
from operators.decode_child import DecodeChild

Call = dict[str, Any]  # what `DecodeChild.call` hands to its function
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What came of one call, and when: seconds since the epoch.

    Attributes:
        frames: the function's result; null if there was no call.
        error: why there is none.
    """

    frames: Any
    error: RowError | None
    started_s: float
    ended_s: float

    def log(self, model_started_s: float) -> dict[str, str]:
        """The column RUN_LOG: when the clip was decoded, and when a model looked at it, until now."""
        spans = {"decode": (self.started_s, self.ended_s), "model": (model_started_s, time.time())}
        return {RUN_LOG: json.dumps({name: [round(t, 3) for t in span] for name, span in spans.items()})}

    @property
    def failure(self) -> dict[str, str]:
        """The state columns of a row that did not decode."""
        assert self.error is not None
        return {"error_kind": self.error.kind, "error": str(self.error)}


def decode_ahead(
    child: DecodeChild, target: str, calls: Iterable[Call | None], timeout_s: float, num_ahead: int = 1
) -> Generator[Decoded, None, None]:
    """Results of the calls, in order. A bug of the called function is raised in its turn.

    Args:
        target: `module:function`, as for `DecodeChild.call`.
        calls: null: nothing to decode.
        num_ahead: as for `DecodeChild.ahead`.
    """
    return child.ahead((_decoded(child, target, call, timeout_s) for call in calls), num_ahead)


def each_clip(
    rows: Sequence[Row], decoded: Generator[Decoded, None, None], cells: Callable[[Row, Any], Row]
) -> list[Row]:
    """The columns of each row: what `cells` makes of the row and its frames, or why it did not decode."""
    found = []
    with closing(decoded):
        for row, clip in zip(rows, decoded, strict=True):
            since = time.time()
            found.append(clip.failure if clip.error else cells(row, clip.frames) | clip.log(since))
    return found


def _decoded(child: DecodeChild, target: str, call: Call | None, timeout_s: float) -> Decoded:
    started = time.time()
    frames = error = None
    if call is not None:
        try:
            frames = child.call(target, call, timeout_s)
        except RowError as caught:
            error = caught
    return Decoded(frames, error, started, time.time())
