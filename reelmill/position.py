# SPDX-License-Identifier: Apache-2.0
"""Where an epoch stands, in a way that ranks, workers and batch sizes may change between two runs."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Position:
    """Samples read before this run's first step, and the steps since.

    Args:
        start: samples of each queue (a bucket) that had been read when the steps got their present size.
        step: steps taken since then.
        step_samples: samples of a step, all ranks together; null before the first.
    """

    epoch: int = 0
    start: dict[str, int] = field(default_factory=dict)
    step: int = 0
    step_samples: int | None = None

    def copy(self) -> "Position":
        return Position(self.epoch, dict(self.start), self.step, self.step_samples)

    def to_state(self, view_hash: str) -> dict[str, Any]:
        """JSON-able, the same on every rank."""
        return {"view_hash": view_hash, **json.loads(json.dumps(vars(self)))}

    @staticmethod
    def from_state(state: dict[str, Any], view_hash: str) -> "Position":
        """Raises ValueError if the state belongs to another view, selection of rows or seed."""
        if state["view_hash"] != view_hash:
            raise ValueError(
                f"state of order {state['view_hash']} does not fit this data set's order {view_hash}: "
                "the view, spec, filters, buckets, seed or shuffling differ"
            )
        return Position(**{key: value for key, value in state.items() if key != "view_hash"})


def seeded(view_hash: str, epoch: int, what: str) -> np.random.Generator:
    """Random numbers for one purpose in one epoch of one order."""
    digest = hashlib.blake2b(f"{view_hash}/{epoch}/{what}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest, "little")))
