# SPDX-License-Identifier: Apache-2.0
"""In which order an epoch's samples come, and how they are cut into steps. Arithmetic on sample numbers; no files.

A *queue* holds the samples that stack (one spec, one bucket), in *groups* that are read together (row groups). Its
groups are dealt at random to a number of places; each place goes through its groups one after the other, and samples
come from all places in turn, so that about `open_groups` row groups are in use at any time and each is read once. The
places form `lanes`, and steps take turns among the lanes: with as many loader workers as lanes, two workers never need
the same row group. A rank takes neighbouring places of each step for the same reason.

Nothing here knows ranks or workers: a step is the samples of all ranks together. A position is how many samples each
queue and lane has given, so what is left does not depend on who read the rest, or in steps of which size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reelmill.position import Position, seeded


@dataclass(frozen=True, slots=True)
class Shuffle:
    """How samples are mixed. Part of the order's hash.

    Args:
        seed: of the order.
        open_groups: row groups that are in use at a time, all queues together; a queue has its share, at least one.
            More mix better and hold more memory; with R ranks, 8 R of them keep what is read twice below a fifth.
        lanes: sets of row groups that steps take turns among. As many as loader workers, or a multiple.
        is_on: false: samples come as they lie in the files.
    """

    seed: int = 0
    open_groups: int = 8
    lanes: int = 2
    is_on: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.lanes <= self.open_groups:
            raise ValueError(f"open_groups {self.open_groups}, lanes {self.lanes}: give 1 <= lanes <= open_groups")


@dataclass(frozen=True, slots=True)
class Step:
    """Samples that all ranks take together.

    Args:
        position: where the epoch stands once they are taken.
    """

    queue: str
    samples: np.ndarray
    position: Position


class EpochOrder:
    """The order of one epoch.

    Args:
        queues: per queue its groups of sample numbers, in file order.
        repeats: how often each sample comes, by sample number; null: once.
        shuffle: how they are mixed.
        view_hash, epoch: what the random numbers follow from.
    """

    def __init__(
        self,
        queues: Mapping[str, Sequence[np.ndarray]],
        repeats: np.ndarray | None,
        shuffle: Shuffle,
        view_hash: str,
        epoch: int,
    ) -> None:
        self.view_hash, self.epoch, self.shuffle = view_hash, epoch, shuffle
        self.lanes: list[dict[str, np.ndarray]] = [{} for _ in range(shuffle.lanes)]
        self.num_places = 0
        instances = {queue: _instances(queues[queue], repeats) for queue in sorted(queues)}
        total = sum(map(len, instances.values()))
        for queue, groups in instances.items():
            places = max(1, round(shuffle.open_groups * len(groups) / max(1, total)))
            self.num_places += places if shuffle.is_on else 1
            for lane, samples in enumerate(self._lane_orders(queue, groups, places)):
                self.lanes[lane][queue] = samples

    @property
    def num_samples(self) -> int:
        return sum(len(samples) for lane in self.lanes for samples in lane.values())

    def steps(self, position: Position, sizes: Mapping[str, int], drop_last: bool = False) -> Iterator[Step]:
        """The steps from `position` to the end.

        Args:
            sizes: samples of a step per queue, all ranks together.
            drop_last: leave out steps that are not full.
        """
        here = position.copy()
        cuts = [self._cuts(lane, here, sizes) for lane in range(len(self.lanes))]
        heads = [next(cut, None) for cut in cuts]
        while any(heads):
            lane = next(n % len(cuts) for n in range(here.lane, here.lane + len(cuts)) if heads[n % len(cuts)])
            queue, start = heads[lane] or ("", 0)
            heads[lane] = next(cuts[lane], None)
            samples = self.lanes[lane][queue][start : start + sizes[queue]]
            here.read[_key(queue, lane)] = start + len(samples)
            here.lane = (lane + 1) % len(cuts)
            if drop_last and len(samples) < sizes[queue]:
                continue
            here.step, here.global_step = here.step + 1, here.global_step + 1
            yield Step(queue, samples, here.copy())

    def _cuts(self, lane: int, position: Position, sizes: Mapping[str, int]) -> Iterator[tuple[str, int]]:
        """(queue, first sample) of the lane's steps.

        Every queue's steps are spread over the whole epoch, each at a random place in its share of it. The place
        follows from the sample that a step begins with, so it does not depend on where a run was resumed.
        """
        names, keys, numbers, starts = list(self.lanes[lane]), [], [], []
        for number, (queue, samples) in enumerate(self.lanes[lane].items()):
            at = np.arange(position.read.get(_key(queue, lane), 0), len(samples), sizes[queue])
            if self.shuffle.is_on:
                jitter = seeded(self.view_hash, self.epoch, f"steps/{_key(queue, lane)}").random(len(samples))
                keys.append((at + jitter[at] * sizes[queue]) / len(samples))
            else:
                keys.append(np.full(len(at), float(number)))
            numbers.append(np.full(len(at), number))
            starts.append(at)
        if names:
            order = np.argsort(np.concatenate(keys), kind="stable")
            which, begins = np.concatenate(numbers)[order], np.concatenate(starts)[order]
            yield from ((names[n], int(start)) for n, start in zip(which, begins, strict=True))

    def _lane_orders(self, queue: str, instances: list[np.ndarray], places: int) -> list[np.ndarray]:
        """Samples of each lane. A queue of few groups has one lane, or its steps would hardly fill."""
        if not instances:
            return []
        if not self.shuffle.is_on:
            return [np.concatenate(instances)]
        rng = seeded(self.view_hash, self.epoch, f"order/{queue}")
        dealt = [instances[i] for i in rng.permutation(len(instances))]
        lanes = min(self.shuffle.lanes, places) if len(dealt) >= 2 * places else 1
        return [_mixed(dealt[lane::lanes], max(1, places // lanes), rng) for lane in range(lanes)]


def repeats_of(shares: np.ndarray, view_hash: str, epoch: int) -> np.ndarray:
    """How often each sample comes in an epoch, if it is to come `shares` times on average.

    Samples of equal share are numbered at random, and the epochs go through the numbers one after the other: in n
    epochs each sample comes n * share times, rounded up or down, and their sum is exact within one in every epoch.
    """
    start = np.empty(len(shares))
    for number, share in enumerate(np.unique(shares)):
        same = np.flatnonzero(shares == share)
        rng = seeded(view_hash, 0, f"mix/{number}")
        start[same] = (rng.permutation(len(same)) + rng.random()) / len(same)
    before, after = (np.floor(shares * e + start) for e in (epoch, epoch + 1))
    return (after - before).astype(np.int64)


def balanced(columns: Sequence[tuple[np.ndarray, Sequence[float]]], num: int) -> np.ndarray:
    """How often each of `num` samples must come so that every column's values have their shares of the epoch.

    Args:
        columns: per column the code of each sample's value, and the codes' shares.

    By iterative proportional fitting (Deming and Stephan 1940), so the shares of several columns hold together.

    Raises:
        ValueError: the shares cannot hold together.
    """
    times = np.ones(num)
    for _ in range(200):
        worst = 0.0
        for codes, shares in columns:
            wanted = np.asarray(shares, float) / sum(shares) * num
            have = np.bincount(codes, times, len(wanted))
            factor = np.divide(wanted, have, out=np.zeros(len(wanted)), where=have > 0)
            worst = max(worst, float(np.abs(have - wanted).max()) / num)
            times = times * factor[codes]
        if worst < 1e-6 or (len(columns) == 1 and worst):
            return times
    raise ValueError(f"the shares of the mixed columns cannot hold together (off by {worst:.1%}); mix fewer columns")


def _instances(groups: Sequence[np.ndarray], repeats: np.ndarray | None) -> list[np.ndarray]:
    """Groups to go through: a group with repeated samples comes again with those alone."""
    if repeats is None:
        return [group for group in groups if len(group)]
    found = []
    for group in groups:
        times = repeats[group]
        found += [group[times > n] for n in range(int(times.max(initial=0)))]
    return found


def _mixed(groups: list[np.ndarray], places: int, rng: np.random.Generator) -> np.ndarray:
    """The groups dealt to `places`; a place gives its samples evenly over the whole, each at a random place of its
    share."""
    samples, keys = [], []
    for place in range(min(places, len(groups))):
        mine = np.concatenate([rng.permutation(group) for group in groups[place::places]])
        samples.append(mine)
        keys.append((np.arange(len(mine)) + rng.random(len(mine))) / len(mine))
    return np.concatenate(samples)[np.argsort(np.concatenate(keys), kind="stable")]


def _key(queue: str, lane: int) -> str:
    return f"{queue}#{lane}"
