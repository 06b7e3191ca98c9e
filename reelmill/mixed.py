# SPDX-License-Identifier: Apache-2.0
"""Several shard data sets as one: other folders, specs, tiers or topics, each with its share of the epoch.

    mixed = MixedDataset({"clean": ShardDataset("a"), "wild": ShardDataset("b")}, mix={"clean": 3, "wild": 1})

It has the batches, the loader and the state of a single data set.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from reelmill.epochs import Epochs, check_schedule, group_draws
from reelmill.ids import fingerprint
from reelmill.position import Position
from reelmill.sampling import Shuffle
from reelmill.shards import ShardDataset
from reelmill.storage import Store

Shares = Mapping[str, float]


class MixedDataset(Epochs):
    """Parts that are read together. Parts of one spec share batches; a batch never mixes specs or buckets.

    Args:
        parts: name -> data set, as it is read alone: its filters, its own mix, its captions and columns count; rank,
            world, shuffle and schedule are given here.
        mix: part -> its share of the epoch's samples, 0 for none; an epoch has as many samples as all parts together,
            so a small part comes several times. Null: each sample once.
        schedule: global step -> {"mix": ..., "scales": n} that hold from there on.
        rank, world, shuffle: as in `ShardDataset`.

    Raises:
        ValueError: an unknown part; a part with a schedule or rank of its own; parts of one spec with other scales.
    """

    def __init__(
        self,
        parts: Mapping[str, ShardDataset],
        *,
        mix: Shares | None = None,
        schedule: Mapping[int, Mapping[str, Any]] | None = None,
        rank: int = 0,
        world: int = 1,
        shuffle: Shuffle = Shuffle(),  # noqa: B008 - frozen
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not in 0..{world - 1}")
        self.parts, self.mix = dict(parts), None if mix is None else dict(mix)
        self.rank, self.world, self.shuffle = rank, world, shuffle
        later = check_schedule(schedule)
        self.schedule = {**later, 0: {"mix": self.mix, **later.get(0, {})}}
        self._check()
        self.position = Position()
        self._starts = np.cumsum([0, *(len(part.index) for part in self.parts.values())])
        self.queues = self._queues()
        runs = [int(part.index.run.max(initial=-1)) + 1 for part in self.parts.values()]
        draws = group_draws(sum(runs), self.view_hash) if shuffle.is_on else np.arange(sum(runs))
        firsts = np.cumsum([0, *runs])
        places = [part.index.run + first for part, first in zip(self.parts.values(), firsts, strict=False)]
        self._order = draws[np.concatenate(places)]
        for phase in self.schedule.values():
            self.shares(phase.get("mix"))

    def _check(self) -> None:
        if not self.parts:
            raise ValueError("a mix needs at least one part")
        scales: dict[str, int | None] = {}
        for name, part in self.parts.items():
            if part.world != 1 or len(part.schedule) != 1:
                raise ValueError(f"part {name!r} has a rank or schedule of its own; give it to the mix")
            if scales.setdefault(part.spec_id, part.scales) != part.scales:
                raise ValueError(
                    f"part {name!r} reads {part.scales} scales of spec {part.spec_id}, another part others"
                )

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts.values())

    @property
    def store(self) -> Store:
        """The first part on S3, or the first: it decides how workers are started."""
        stores = [part.store for part in self.parts.values()]
        return next((store for store in stores if store.is_remote), stores[0])

    @property
    def view_hash(self) -> str:
        """Over everything that decides which samples come in which order, but not who reads them."""
        mixes = [[start, phase["mix"]] for start, phase in self.schedule.items() if phase.get("mix") is not None]
        order = [self.shuffle.seed, self.shuffle.open_groups, self.shuffle.lanes, self.shuffle.is_on]
        return fingerprint("mixed", [[[n, part.view_hash] for n, part in self.parts.items()], mixes, order])

    @property
    def reading_order(self) -> np.ndarray:
        return self._order

    def keep_open(self, num_groups: int) -> None:
        for part in self.parts.values():
            part.keep_open(num_groups)

    def shares(self, mix: Shares | None) -> np.ndarray | None:
        """How often each sample comes per epoch. Raises ValueError on an unknown part or one without samples."""
        own = [part.shares(part.mix) for part in self.parts.values()]
        if mix is None and all(times is None for times in own):
            return None
        unknown = set(mix or {}) - set(self.parts)
        if unknown:
            raise ValueError(f"mix: there is no part {min(unknown)!r}; the parts are {', '.join(self.parts)}")
        pairs = zip(self.parts.values(), own, strict=True)
        times = [_ones(part) if given is None else given for part, given in pairs]
        if mix is None:
            return np.concatenate(times)
        wanted = np.array([mix.get(name, 0.0) for name in self.parts], float)
        have = np.array([part.sum() for part in times])
        if (wanted < 0).any() or not wanted.any() or (have[wanted > 0] == 0).any():
            raise ValueError(f"mix {dict(mix)}: shares are 0 or more, not all 0, and a part with a share has samples")
        factors = wanted / wanted.sum() * len(self) / np.maximum(have, 1)
        return np.concatenate([part * factor for part, factor in zip(times, factors, strict=True)])

    def num_tokens(self, queue: str, phase: Mapping[str, Any]) -> int:
        spec_id, bucket = queue.split("/")
        part = next(part for part in self.parts.values() if part.spec_id == spec_id)
        return part.num_tokens(bucket, {"scales": phase.get("scales", part.scales)})

    def collate(self, samples: np.ndarray, position: Position, phase: Mapping[str, Any]) -> dict[str, Any]:
        """As `ShardDataset.collate`, with `part` and `spec_id`; the samples of one part stand together."""
        batches = []
        for number, (name, part) in enumerate(self.parts.items()):
            mine = samples[(samples >= self._starts[number]) & (samples < self._starts[number + 1])]
            if len(mine):
                phase_here = {"scales": phase.get("scales", part.scales)}
                batch = part.collate(mine - self._starts[number], position, phase_here)
                batches.append({**batch, "part": [name] * len(mine), "spec_id": part.spec_id})
        return _joined(batches)

    def _queues(self) -> dict[str, list[np.ndarray]]:
        queues: dict[str, list[np.ndarray]] = {}
        for start, part in zip(self._starts, self.parts.values(), strict=False):
            for bucket, groups in part.queues.items():
                queues.setdefault(f"{part.spec_id}/{bucket}", []).extend(group + start for group in groups)
        return queues


def _ones(part: ShardDataset) -> np.ndarray:
    """1 for each sample that the part reads."""
    times = np.zeros(len(part.index))
    for groups in part.queues.values():
        times[np.concatenate(groups)] = 1.0
    return times


def _joined(batches: list[dict[str, Any]]) -> dict[str, Any]:
    """Batches of the same keys as one; a condition that a part lacks is null for its samples."""
    if len(batches) == 1:
        return batches[0]
    first, out = batches[0], {}
    for key, value in first.items():
        if isinstance(value, np.ndarray):
            out[key] = np.concatenate([batch[key] for batch in batches])
        elif isinstance(value, list):
            out[key] = [item for batch in batches for item in batch[key]]
        else:
            out[key] = value
    sizes = [len(batch["clip_id"]) for batch in batches]
    names = dict.fromkeys(name for batch in batches for name in batch["cond"])
    pairs = list(zip(batches, sizes, strict=True))
    out["cond"] = {n: [v for batch, size in pairs for v in batch["cond"].get(n, [None] * size)] for n in names}
    return out
