# SPDX-License-Identifier: Apache-2.0
"""Which pairs of clips are worth laying over each other (`operators.lookalike`), among millions.

A few pictures of each clip, and the same without their outermost 5 %, go into one index; two clips of which two
pictures correlate are a pair. Plain skies, title cards and station idents make crowds in which everything resembles
everything. There a clip is compared with its nearest clips, and with the best clips of the crowd, which are the ones
that would be kept: so the work grows with the number of clips and not with its square, and most copies of a clip that
was copied a thousand times still meet the one that stays: those that share one of its clusters.
"""

import logging
from dataclasses import dataclass, field

import numpy as np

from operators.similar import cluster, members_of

LOG = logging.getLogger(__name__)
MIN_CORRELATION = 0.8  # ours: finds 0.998 of the promised copies of benchmarks/dedup.py --copies
MOST_IN_CROWD = 16  # nearest clips of a crowd, and best ones, that each one is compared with
MOST_PER_CLIP, ALWAYS = 2, 100_000  # pairs, on average over all clips, above which crowds are thinned further
NUM_PROBES = 2  # a clip has many pictures in the index, so that few clusters for each are enough
BLOCK_CELLS = 1 << 22  # of a product of pictures that is in memory
TOO_MANY = 1 << 24  # pairs at which crowds are thinned again


@dataclass
class Likely:
    """Pairs of clips, worse before better, gathered in parts and thinned."""

    num_clips: int
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # worse * num_clips + better
    values: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    _parts: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    _num_waiting: int = 0

    def add(self, keys: np.ndarray, values: np.ndarray) -> None:
        if not len(keys):
            return
        self._parts.append(thinned(keys, values, self.num_clips, MOST_IN_CROWD))
        self._num_waiting += len(self._parts[-1][0])
        if self._num_waiting > TOO_MANY:
            self.settle()

    def settle(self) -> None:
        """Puts the parts together."""
        keys, values = map(np.concatenate, zip(*self._parts, (self.keys, self.values), strict=True))
        self.keys, self.values = thinned(keys, values, self.num_clips, MOST_IN_CROWD)
        self._parts, self._num_waiting = [], 0

    def bounded(self) -> np.ndarray:
        """int64 [P]: the keys, thinned until comparing them takes a time in proportion to the number of clips."""
        self.settle()
        most = MOST_IN_CROWD
        while len(self.keys) > max(ALWAYS, MOST_PER_CLIP * self.num_clips) and most > 1:
            most //= 2
            self.keys, self.values = thinned(self.keys, self.values, self.num_clips, most)
        if most < MOST_IN_CROWD:
            LOG.warning("many clips look alike: each is compared with the %d nearest and %d best of them", most, most)
        return self.keys


def likely_pairs(vectors_MD: np.ndarray, owner_M: np.ndarray, num_clips: int) -> np.ndarray:
    """int64 [P, 2]: pairs of clips (smaller number first), sorted.

    Args:
        vectors_MD: pictures of all clips, rows of length 1 (or 0), float16 or float32.
        owner_M: the clip that each is of, ascending; a smaller number is the better clip.
    """
    likely = Likely(num_clips)
    if len(vectors_MD):
        for members in members_of(cluster(vectors_MD, num_probes=NUM_PROBES)):
            add_near(likely, np.asarray(vectors_MD[members], np.float32), owner_M[members])
    keys = likely.bounded()
    return np.stack([keys % max(1, num_clips), keys // max(1, num_clips)], axis=1)


def add_near(likely: Likely, vectors_ND: np.ndarray, owner_N: np.ndarray) -> None:
    """The pairs of different clips among the pictures of one cluster."""
    step = max(1, BLOCK_CELLS // max(1, len(vectors_ND)))
    for start in range(0, len(vectors_ND), step):
        rows = slice(start, start + step)
        cosine_RC = vectors_ND[rows] @ vectors_ND[: start + step].T
        row, column = np.nonzero(cosine_RC >= MIN_CORRELATION)
        worse, better = owner_N[rows][row], owner_N[column]
        is_pair = worse > better
        keys = worse[is_pair].astype(np.int64) * likely.num_clips + better[is_pair]
        likely.add(keys, cosine_RC[row[is_pair], column[is_pair]])


def thinned(keys: np.ndarray, values: np.ndarray, num_clips: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pair once with its highest value; of a clip's better ones the `most` nearest and the `most` best."""
    order = np.lexsort((-values, keys))
    keys, values = keys[order], values[order]
    is_first = np.diff(keys, prepend=-1) != 0
    keys, values = keys[is_first], values[is_first]
    worse = keys // num_clips
    by_value = np.lexsort((-values, worse))
    is_wanted = _rank(worse) < most
    is_wanted[by_value] |= _rank(worse[by_value]) < most
    return keys[is_wanted], values[is_wanted]


def _rank(groups: np.ndarray) -> np.ndarray:
    """Place of each row within its group, of rows that are sorted by group."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
