# SPDX-License-Identifier: Apache-2.0
"""Batches, epochs and resuming, the same for every reader; what a sample is, each reader says.

Every rank sees the same number of batches, of the same queue at the same step: a step of fewer samples than ranks is
filled up by repeating some, which are marked in `is_repeat`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reelmill.position import Position, seeded
from reelmill.sampling import EpochOrder, Shuffle, Step, repeats_of
from reelmill.storage import Store

if TYPE_CHECKING:
    from reelmill.torch_data import ShardLoader

PHASE_KEYS = ("mix", "scales")


@dataclass(frozen=True, slots=True)
class BatchSize:
    """Samples per rank and step, or the tokens that they have together at most.

    Args:
        samples: null if `tokens` says it.
        tokens: a batch has as many samples of its bucket as fit, at least one.
    """

    samples: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        given = [n for n in (self.samples, self.tokens) if n is not None]
        if len(given) != 1 or given[0] < 1:
            raise ValueError(f"batch_size {self.samples}, batch_tokens {self.tokens}: give one of the two, above 0")


class Epochs(ABC):
    """A set of samples that is read epoch by epoch.

    Subclasses set `queues` (per queue its groups of sample numbers), `rank`, `world`, `shuffle` and `schedule`.

    A schedule is a curriculum: from a global step on, what it names holds. `{0: {"scales": 2}, 10_000: {"scales": 4}}`.
    New scales hold from that very step; a new mix ends the epoch and begins the next.
    """

    queues: Mapping[str, Sequence[np.ndarray]]
    rank: int
    world: int
    shuffle: Shuffle
    schedule: dict[int, dict[str, Any]]
    position: Position

    @property
    @abstractmethod
    def store(self) -> Store:
        """Where the samples lie."""

    @property
    @abstractmethod
    def view_hash(self) -> str:
        """Over everything that decides which samples come in which order, but not who reads them."""

    @abstractmethod
    def shares(self, mix: Any) -> np.ndarray | None:
        """How often each sample comes per epoch on average under a mix; null: each once."""

    @abstractmethod
    def num_tokens(self, queue: str, phase: Mapping[str, Any]) -> int:
        """Tokens of one sample."""

    @abstractmethod
    def collate(self, samples: np.ndarray, position: Position, phase: Mapping[str, Any]) -> dict[str, Any]:
        """A batch of samples of one queue."""

    def keep_open(self, num_groups: int) -> None:  # noqa: B027 - a reader may hold nothing
        """How many groups of samples are in use at a time: more need not be held."""

    @property
    @abstractmethod
    def reading_order(self) -> np.ndarray:
        """Per sample a number; samples that are read together have the same one."""

    def batches(
        self,
        batch_size: int | None = None,
        *,
        batch_tokens: int | None = None,
        drop_last: bool = False,
        worker: int = 0,
        num_workers: int = 1,
    ) -> Iterator[dict[str, Any]]:
        """Batches of this rank from the current position to the end of the epoch.

        Args:
            batch_size: samples per rank and step.
            batch_tokens: in place of it: tokens per rank and step.
            drop_last: leave out steps that are not full.
            worker, num_workers: this worker takes every `num_workers`-th step.

        Yields:
            What `collate` gives, and `is_repeat` (bool [B]: samples that only fill up the step), `queue`, `epoch`,
            `step`, `global_step`, and `position`, where the epoch stands once the batch is taken.
        """
        size = BatchSize(batch_size, batch_tokens)
        for number, step, phase in self._steps(size, drop_last):
            if number % num_workers == worker:
                batch = self._batch(step, phase)
                self.position = step.position.copy()
                yield batch
        self.next_epoch()

    def next_epoch(self) -> None:
        """To the start of the next epoch."""
        self.position = Position(self.position.epoch + 1, global_step=self.position.global_step)

    def phase(self, global_step: int) -> dict[str, Any]:
        """What the schedule says at a step."""
        merged: dict[str, Any] = {}
        for start in sorted(self.schedule):
            if start <= global_step:
                merged.update(self.schedule[start])
        return merged

    def state_dict(self) -> dict[str, Any]:
        """Where this epoch stands, the same on every rank; JSON-able."""
        return self.position.to_state(self.view_hash)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state`, under this world size and any batch size.

        Raises:
            ValueError: the state belongs to another view, selection of rows, mix or seed.
        """
        self.position = Position.from_state(state, self.view_hash)

    def loader(
        self,
        batch_size: int | None = None,
        *,
        batch_tokens: int | None = None,
        num_workers: int = 0,
        drop_last: bool = False,
        **options: Any,
    ) -> "ShardLoader":
        """A PyTorch DataLoader over `batches`, with `state_dict` of what the training loop has taken. Needs torch."""
        from reelmill.torch_data import ShardLoader

        size = BatchSize(batch_size, batch_tokens)
        return ShardLoader(self, size, num_workers=num_workers, drop_last=drop_last, **options)

    def _steps(self, size: BatchSize, drop_last: bool) -> Iterator[tuple[int, Step, dict[str, Any]]]:
        """(number in the epoch, step, phase) from the current position on."""
        position = self.position.copy()
        phase = self.phase(position.global_step)
        order = self._epoch_order(position.epoch, phase.get("mix"))
        self.keep_open(order.num_places)
        while True:
            ends = [start for start in self.schedule if start > position.global_step]
            for step in order.steps(position, self._sizes(size, phase), drop_last):
                yield step.position.step - 1, step, phase
                position = step.position
                if ends and position.global_step >= min(ends):
                    break
            else:
                return
            before, phase = phase, self.phase(position.global_step)
            if phase.get("mix") != before.get("mix"):
                return

    def _epoch_order(self, epoch: int, mix: Any) -> EpochOrder:
        shares = self.shares(mix)
        repeats = None if shares is None else repeats_of(shares, self.view_hash, epoch)
        return EpochOrder(self.queues, repeats, self.shuffle, self.view_hash, epoch)

    def _sizes(self, size: BatchSize, phase: Mapping[str, Any]) -> dict[str, int]:
        if size.samples is not None:
            return dict.fromkeys(self.queues, size.samples * self.world)
        assert size.tokens is not None
        return {queue: max(1, size.tokens // self.num_tokens(queue, phase)) * self.world for queue in self.queues}

    def _batch(self, step: Step, phase: Mapping[str, Any]) -> dict[str, Any]:
        places = self.reading_order[step.samples]
        samples = step.samples[np.argsort(places, kind="stable")]
        first, last = (len(samples) * r // self.world for r in (self.rank, self.rank + 1))
        is_short = len(samples) < self.world
        mine = samples[[self.rank % len(samples)]] if is_short else samples[first:last]
        here = step.position
        return {
            **self.collate(mine, here, phase),
            "is_repeat": np.full(len(mine), is_short and self.rank >= len(samples)),
            "queue": step.queue,
            "epoch": here.epoch,
            "step": here.step - 1,
            "global_step": here.global_step - 1,
            "position": here.copy(),
        }


def check_schedule(schedule: Mapping[int, Mapping[str, Any]] | None) -> dict[int, dict[str, Any]]:
    """A copy. Raises ValueError on an unknown key or a step that is none."""
    for start, phase in (schedule or {}).items():
        if not isinstance(start, int) or start < 0:
            raise ValueError(f"schedule: {start!r} is no step; give numbers from 0 on")
        unknown = set(phase) - set(PHASE_KEYS)
        if unknown:
            raise ValueError(f"schedule[{start}]: unknown key {min(unknown)!r}; known are {', '.join(PHASE_KEYS)}")
    return {start: dict(phase) for start, phase in sorted((schedule or {}).items())}


def group_draws(num_groups: int, view_hash: str) -> np.ndarray:
    """A random number per group: ranks take neighbours by it, so that none always has the first files."""
    return seeded(view_hash, 0, "groups").permutation(num_groups)
