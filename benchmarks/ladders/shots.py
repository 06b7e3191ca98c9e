# SPDX-License-Identifier: Apache-2.0
"""The shot reel: films with exactly known transitions, through the real decode, meters and cutting.

Thresholds were chosen on CHOOSING (`python -m benchmarks.ladders.shots choosing`), the numbers come from HELD_OUT and
FRESH, which share no photograph, no clip and no seed with it or with each other and move at other speeds. HELD_OUT has
been judged before, with earlier rules; FRESH was first looked at when the rules of today were final.
"""

import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.ladders import reel as reels
from benchmarks.ladders.judge import Floor, Section
from benchmarks.ladders.reel import Counts, Join, Reel
from benchmarks.ladders.shot_material import CHOOSING, FRESH, HELD_OUT, QUICK, QUICK_COUNTS, Material, read_material
from operators.cut import CutConfig, DetectorConfig, SplitConfig, cut_clips
from operators.measure import Clock, Measure, measure_segment
from operators.meters.content import Content
from operators.meters.layout import Layout
from operators.meters.transnet import Transnet
from reelmill.column import arrow_schema
from reelmill.tables import SOURCES

TEXT = """{trials} held-out reels of {counts.cuts} cuts, {counts.dissolves} dissolves of 8 to 40 frames, {counts.fades}
fades from and to black and white and {counts.wipes} wipes (hard and soft, eight shapes) each, with two of each event
that is no transition ({events}): moves over photographs and real footage, {frames} frames of {size}, H.264. Thresholds
were chosen on other reels, from other photographs, clips, seeds and speeds.

A transition counts as found if exactly one place between two clips lies in it: the middle of the frames left out, or
the cut itself, is at most two frames outside the frames that mix. A place that belongs to no transition is a false
alarm; the F1 of one kind holds all false alarms against that kind. The last column is the share of visibly mixed frames
(10 to 90 % of either shot) that was kept out of the clips. The interval is a 95 % bootstrap over the stretches from one
transition to the next. The reels say little about films whose shots resemble each other (interviews with jump cuts),
and their transitions are clean mixes; edited effects are richer."""
SLACK = 2  # frames
VISIBLE = 0.1  # share of the other shot from which a mixed frame shows it
SOURCE_ID = "0" * 32
METERS = (Content(), Layout(), Transnet())
DETECTORS = {
    "transnet + layout": DetectorConfig(kind="transnet"),
    "transnet alone": DetectorConfig(kind="transnet", wipe_threshold=None, same_below=None),
    "content 27": DetectorConfig(kind="content"),
    "adaptive 3": DetectorConfig(kind="adaptive"),
}
BEST = "transnet + layout"
KINDS = ("cut", "dissolve", "fade", "wipe")


@dataclass
class Verdict:
    """What a detector made of a reel.

    Attributes:
        found, missed: transitions.
        false: the kinds of event, or `-`, at each false alarm.
        covered: share of visibly mixed frames left out of the clips, of each gradual transition.
        stretches: of each transition, whether it was found, and the false alarms since the one before.
    """

    found: list[Join] = field(default_factory=list)
    missed: list[Join] = field(default_factory=list)
    false: list[tuple[str, int]] = field(default_factory=list)
    covered: list[float] = field(default_factory=list)
    stretches: list[tuple[bool, int]] = field(default_factory=list)

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(
            self.found + other.found,
            self.missed + other.missed,
            self.false + other.false,
            self.covered + other.covered,
            self.stretches + other.stretches,
        )

    def recall(self, kind: str) -> tuple[int, int]:
        """(found, all) of a kind."""
        found = sum(join.kind == kind for join in self.found)
        return found, found + sum(join.kind == kind for join in self.missed)

    def f1(self, kind: str | None = None) -> tuple[float, float, float]:
        """(precision, recall, F1), of a kind: all its transitions, and all false alarms held against each kind."""
        found = sum(kind in (None, join.kind) for join in self.found)
        missed = sum(kind in (None, join.kind) for join in self.missed)
        precision = found / max(found + len(self.false), 1)
        recall = found / max(found + missed, 1)
        return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)

    def interval(self) -> tuple[float, float]:
        """95 % bootstrap of F1 over all transitions."""
        found, false = np.array(self.stretches, int).T
        picks = np.random.default_rng(0).integers(0, len(found), (2000, len(found)))
        hits, alarms = found[picks].sum(axis=1), false[picks].sum(axis=1)
        low, high = np.quantile(2 * hits / (hits + alarms + len(found)), (0.025, 0.975))
        return float(low), float(high)


def judge_clips(reel: Reel, clips: list[tuple[int, int]]) -> Verdict:
    """Compares the frame ranges of clips, in order, with what is known of the reel."""
    edges = [0, *(edge for clip in clips for edge in clip), reel.num_frames]
    places = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    places = places[1:-1] + [(a, b) for a, b in (places[0], places[-1]) if a < b]
    owner = {place: _join_at(reel.joins, place) for place in places}
    verdict = Verdict()
    for join in reel.joins:
        mine = [place for place, of in owner.items() if of is join]
        (verdict.found if len(mine) == 1 else verdict.missed).append(join)
        if len(mine) > 1:
            verdict.false += [("twice", a) for a, _ in mine[1:]]
        is_mixed = (join.weight > VISIBLE) & (join.weight < 1 - VISIBLE)
        if is_mixed.any():
            frames = np.arange(join.start, join.end)[is_mixed]
            verdict.covered.append(float(np.mean([any(a <= f < b for a, b in places) for f in frames])))
    verdict.false += [(_event_at(reel, place), place[0]) for place, of in owner.items() if of is None]
    ends = [-1, *(join.end for join in reel.joins[:-1]), reel.num_frames]
    for join, a, b in zip(reel.joins, ends, [*ends[1:-1], reel.num_frames], strict=False):
        verdict.stretches.append((join in verdict.found, sum(a < at <= b for _, at in verdict.false)))
    return verdict


def _join_at(joins: list[Join], place: tuple[int, int]) -> Join | None:
    middle = (place[0] + place[1]) / 2
    return next((j for j in joins if j.start - SLACK <= middle <= j.end + SLACK), None)


def _event_at(reel: Reel, place: tuple[int, int]) -> str:
    hit = [e.kind for e in reel.events if place[0] <= e.end + SLACK and place[1] >= e.start - SLACK]
    return hit[0] if hit else "-"


# --- from a reel to clips -----------------------------------------------------------------------------------------


def measure_reel(reel: Reel, folder: Path, crf: int, clock: Clock) -> pa.Table:
    """The reel's series: written as H.264, decoded, measured."""
    path = reels.write_reel(folder / "reel.mp4", reel, crf)
    row = measure_segment(str(path), METERS, clock=clock)
    row |= {"source_id": SOURCE_ID, "segment_index": 0}
    return pa.Table.from_pylist([row], schema=arrow_schema(Measure(meters=METERS).writes))


def clips_of(series: pa.Table, detector: DetectorConfig) -> list[tuple[int, int]]:
    """Frame ranges of the clips."""
    pts = series["frame_pts"][0].as_py()
    tick = Fraction(1, reels.FPS * (pts[1] - pts[0]))
    source: dict[str, Any] = {
        "source_id": SOURCE_ID,
        "media": "video",
        "time_base_num": tick.numerator,
        "time_base_den": tick.denominator,
        "segments": [{"start_pts": pts[0], "end_pts": None, "seek_pts": pts[0]}],
    }
    sources = pa.Table.from_pylist([source], schema=arrow_schema(SOURCES))
    clips = cut_clips(sources, series, CutConfig(detector=detector), SplitConfig())
    number = {value: i for i, value in enumerate(pts)}
    return [(number[frames[0]], number[frames[-1]] + 1) for frames in clips["frame_pts"].to_pylist()]


@dataclass
class Outcome:
    """Verdict of each detector over all reels, frames seen, CPU seconds by meter, footage that is not there."""

    verdicts: dict[str, Verdict]
    num_frames: int
    seconds: dict[str, float]
    missing: list[str]


def judge_material(of: Material, counts: Counts) -> Outcome:
    """Makes, measures, cuts and judges the reels of some material."""
    canvases, clips = read_material(of)
    missing = [of.footage[name][0] for name in of.footage if name not in clips]
    outcome, clock = Outcome(defaultdict(Verdict), 0, {}, missing), Clock()
    for trial in of.trials:
        reel = reels.make_reel(canvases, clips, counts, trial.seed, speed=trial.speed)
        outcome.num_frames += reel.num_frames
        with tempfile.TemporaryDirectory() as folder:
            series = measure_reel(reel, Path(folder), trial.crf, clock)
        verdicts = {name: judge_clips(reel, clips_of(series, detector)) for name, detector in DETECTORS.items()}
        for name, verdict in verdicts.items():
            outcome.verdicts[name] += verdict
        print(f"{of.name} reel, seed {trial.seed}: {_summary(verdicts[BEST])}", flush=True)  # a minute or two each
    outcome.seconds = dict(clock.seconds)
    return outcome


def run(quick: bool = False) -> Section:
    """The shot reels' numbers, from held-out material."""
    counts, materials = (QUICK_COUNTS, [QUICK]) if quick else (Counts(), [HELD_OUT, FRESH])
    outcomes = [judge_material(of, counts) for of in materials]
    best = [outcome.verdicts[BEST] for outcome in outcomes]
    over_all = sum(best[1:], best[0])
    missed = sum(join.kind == "dissolve" for join in over_all.missed)
    lines = [f"{of.name}: {_summary(verdict)}" for of, verdict in zip(materials, best, strict=True)]
    return Section(
        "Shots",
        TEXT.format(
            trials=sum(len(of.trials) for of in materials),
            counts=counts,
            events=", ".join(reels.EVENTS),
            frames=sum(outcome.num_frames for outcome in outcomes),
            size=f"{reels.WIDTH} x {reels.HEIGHT}",
        ),
        floors=[
            Floor("shots: F1 over all transitions", over_all.f1()[2], 0.95),
            Floor("shots: dissolves missed", float(missed), 0.0, is_ceiling=True),
        ],
        notes=[*lines, *notes(_together(outcomes))],
    )


def _summary(verdict: Verdict) -> str:
    low, high = verdict.interval()
    return f"F1 {verdict.f1()[2]:.3f} ({low:.3f}-{high:.3f}), " + ", ".join(
        f"{kind} {verdict.recall(kind)[0]}/{verdict.recall(kind)[1]}" for kind in KINDS
    )


def _together(outcomes: list[Outcome]) -> Outcome:
    both = Outcome(defaultdict(Verdict), 0, defaultdict(float), [])
    for outcome in outcomes:
        both.num_frames += outcome.num_frames
        both.missing += outcome.missing
        for name, verdict in outcome.verdicts.items():
            both.verdicts[name] += verdict
        for name, seconds in outcome.seconds.items():
            both.seconds[name] += seconds
    return both


def notes(outcome: Outcome) -> list[str]:
    """The table of detectors, what the recommended one got wrong, and what the meters cost."""
    lines = [
        "| detector | precision | recall | F1 | "
        + " | ".join(f"{kind}: found, F1" for kind in KINDS)
        + " | mixed frames kept out |",
        "|---|---|---|---|" + "---|" * (len(KINDS) + 1),
    ]
    for name, verdict in outcome.verdicts.items():
        cells = [f"{verdict.recall(kind)[0]}/{verdict.recall(kind)[1]}, {verdict.f1(kind)[2]:.2f}" for kind in KINDS]
        numbers = " | ".join(f"{value:.3f}" for value in verdict.f1()) + " ({:.3f}-{:.3f})".format(*verdict.interval())
        lines.append(f"| {name} | {numbers} | {' | '.join(cells)} | {np.mean(verdict.covered):.0%} |")
    best = outcome.verdicts[BEST]
    lines += ["", "Missed: " + (", ".join(f"{j.kind} {j.style} at {j.start}" for j in best.missed) or "none")]
    for name, verdict in outcome.verdicts.items():
        counts = Counter(kind for kind, _ in verdict.false)
        lines.append(
            f"False alarms, {name}: " + (", ".join(f"{n} {kind}" for kind, n in counts.most_common()) or "none")
        )
    costs = [f"{name} {1000 * s / outcome.num_frames:.2f}" for name, s in sorted(outcome.seconds.items())]
    if outcome.missing:
        lines.append(f"NOT the reels of the published numbers: without {', '.join(outcome.missing)} they are others")
    return [*lines, f"CPU ms a frame, one thread: {', '.join(costs)}"]


def main() -> None:
    """`python -m benchmarks.ladders.shots [choosing]`: prints the table, of the reels for choosing if so asked."""
    import sys

    if sys.argv[1:] == ["choosing"]:
        outcome = judge_material(CHOOSING, Counts())
        print(_summary(outcome.verdicts[BEST]), *notes(outcome), sep="\n")
        return
    section = run(quick=sys.argv[1:] == ["quick"])
    print(section.text, *section.notes, *section.floors, sep="\n")


if __name__ == "__main__":
    main()
