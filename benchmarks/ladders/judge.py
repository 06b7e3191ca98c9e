# SPDX-License-Identifier: Apache-2.0
"""How a signal is judged against labels: AUC, recall at a fixed rate of false rejections, rank correlation.

Confidence intervals are bootstrapped over *sources* (photographs, scenes), never over frames: frames of one picture
are not independent. A missing score (the meter says unknown) counts as an error on either side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

NUM_BOOTSTRAPS = 400


@dataclass(frozen=True)
class Row:
    """One line of the accuracy table.

    Args:
        signal: the score column that is judged.
        kind: `photo`, `rendered` or `shared clip`: what the pictures are.
        level: which degradation against which good pictures.
        num_bad, num_good, num_sources: sample sizes.
        auc, recall_5, recall_1: area under the ROC curve; recall at 5 % and 1 % false rejection. Null if not asked for.
        auc_ci, recall_5_ci: 95 % intervals over sources.
        spearman: rank correlation of the score with the level of degradation; null for a single level.
        coverage: share of all samples with a score, 0-1.
    """

    signal: str
    kind: str
    level: str
    num_bad: int
    num_good: int
    num_sources: int
    auc: float | None = None
    auc_ci: tuple[float, float] | None = None
    recall_5: float | None = None
    recall_5_ci: tuple[float, float] | None = None
    recall_1: float | None = None
    spearman: float | None = None
    coverage: float = 1.0


@dataclass(frozen=True)
class Floor:
    """A number that must be reached: `value` >= `floor` (or <=, if `is_ceiling`)."""

    name: str
    value: float
    floor: float
    is_ceiling: bool = False

    @property
    def is_met(self) -> bool:
        return self.value <= self.floor if self.is_ceiling else self.value >= self.floor


@dataclass
class Section:
    """What one part of the benchmark found.

    Args:
        title: heading in docs/accuracy.md.
        text: what was done to what, in a paragraph; what the numbers do not say.
        rows: the table.
        floors: what must be reached.
        notes: lines printed below the table, such as false alarms by name.
        plots: (file stem, title, x label, y label, curves), each curve (label, x values, y values).
    """

    title: str
    text: str = ""
    rows: list[Row] = field(default_factory=list)
    floors: list[Floor] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plots: list[tuple[str, str, str, str, list[tuple[str, list[float], list[float]]]]] = field(default_factory=list)


def auc(bad: np.ndarray, good: np.ndarray) -> float:
    """Probability that a bad sample scores above a good one, ties one half. NaN (unknown) loses every comparison."""
    bad, good = _known_or_worst(bad, good)
    order = np.sort(good)
    below, upto = np.searchsorted(order, bad, "left"), np.searchsorted(order, bad, "right")
    return float(((below + upto) / 2).mean() / len(good))


def recall_at(bad: np.ndarray, good: np.ndarray, false_rejection: float) -> float:
    """Share of bad samples above the threshold that rejects at most this share of the good ones."""
    bad, good = _known_or_worst(bad, good)
    allowed = int(np.floor(false_rejection * len(good)))
    threshold = np.sort(good)[len(good) - 1 - allowed]
    return float((bad > threshold).mean())


def _known_or_worst(bad: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bad, good = np.asarray(bad, np.float64), np.asarray(good, np.float64)
    return np.where(np.isnan(bad), -np.inf, bad), np.where(np.isnan(good), np.inf, good)


def spearman(levels: Sequence[float], scores: Sequence[float]) -> float:
    """Rank correlation with average ranks for ties; NaN scores are left out."""
    x, y = np.asarray(levels, np.float64), np.asarray(scores, np.float64)
    is_known = ~np.isnan(y)
    ranks = [_ranks(values[is_known]) for values in (x, y)]
    centred = [rank - rank.mean() for rank in ranks]
    scale = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return float((centred[0] * centred[1]).sum() / scale) if scale else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + 1 + ends) / 2)[inverse]


def judge(
    signal: str,
    kind: str,
    level: str,
    bad: Sequence[float | None],
    good: Sequence[float | None],
    bad_sources: Sequence[str],
    good_sources: Sequence[str],
    *,
    spearman: float | None = None,
    seed: int = 0,
) -> Row:
    """A row of the table; higher scores mean worse (turn the sign where it is the other way round).

    Args:
        bad, good: scores; None or NaN is unknown and counts as an error.
        bad_sources, good_sources: the picture each score comes from.
    """
    scores = [np.array([np.nan if v is None else v for v in values], np.float64) for values in (bad, good)]
    owners = [np.asarray(values) for values in (bad_sources, good_sources)]
    names = sorted(set(owners[0]) | set(owners[1]))
    draws = _bootstrap(scores, owners, names, seed)
    return Row(
        signal,
        kind,
        level,
        len(scores[0]),
        len(scores[1]),
        len(names),
        auc(scores[0], scores[1]),
        _interval([d[0] for d in draws]),
        recall_at(scores[0], scores[1], 0.05),
        _interval([d[1] for d in draws]),
        recall_at(scores[0], scores[1], 0.01),
        spearman,
        float(np.mean(~np.isnan(np.concatenate(scores)))),
    )


def _bootstrap(
    scores: list[np.ndarray], owners: list[np.ndarray], names: list[str], seed: int
) -> list[tuple[float, float]]:
    rng = np.random.default_rng(seed)
    places = [{name: np.flatnonzero(owner == name) for name in names} for owner in owners]
    draws = []
    for _ in range(NUM_BOOTSTRAPS):
        chosen = rng.choice(names, len(names))
        bad, good = (s[np.concatenate([place[n] for n in chosen])] for s, place in zip(scores, places, strict=True))
        if len(bad) and len(good):
            draws.append((auc(bad, good), recall_at(bad, good, 0.05)))
    return draws


def _interval(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
