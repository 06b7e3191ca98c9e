# SPDX-License-Identifier: Apache-2.0
"""Where an epoch stands, in a way that ranks, workers and batch sizes may change between two runs."""

import hashlib
import json
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np


@dataclass
class Position:
    """What has been read.

    Args:
        epoch: counted from 0.
        step: steps of this epoch so far.
        global_step: steps of all epochs so far; what a schedule counts.
        lane: whose turn it is next (see `reelmill.sampling`).
        read: samples of this epoch that were read, per queue and lane, all ranks together.
    """

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    lane: int = 0
    read: dict[str, int] = field(default_factory=dict)

    def copy(self) -> "Position":
        return Position(self.epoch, self.step, self.global_step, self.lane, dict(self.read))

    def to_state(self, view_hash: str) -> dict[str, Any]:
        """JSON-able, the same on every rank."""
        return {"view_hash": view_hash, **json.loads(json.dumps(vars(self)))}

    @staticmethod
    def from_state(state: dict[str, Any], view_hash: str) -> "Position":
        """Raises ValueError if the state belongs to another view, selection of rows or seed, or is none."""
        if state.get("view_hash") != view_hash:
            raise ValueError(
                f"state of order {state.get('view_hash')} does not fit this data set's order {view_hash}: "
                "the view, spec, filters, buckets, mix, seed or shuffling differ"
            )
        values = {key: value for key, value in state.items() if key != "view_hash"}
        names = {f.name for f in fields(Position)}
        if set(values) != names:
            raise ValueError(f"a state has the keys {', '.join(sorted(names))}, this one {', '.join(sorted(values))}")
        return Position(**values).copy()


def seeded(view_hash: str, epoch: int, what: str) -> np.random.Generator:
    """Random numbers for one purpose in one epoch of one order."""
    digest = hashlib.blake2b(f"{view_hash}/{epoch}/{what}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest, "little")))
