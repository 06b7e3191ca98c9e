# SPDX-License-Identifier: Apache-2.0
"""The shot reel: films with exactly known transitions, through the real decode, meters and cutting.

Thresholds were chosen on CHOOSING_TRIALS (`python -m benchmarks.ladders.shots choosing`), the numbers come from
HELD_OUT_TRIALS, which share no photograph, no clip and no seed with them and move at other speeds.
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
from benchmarks.ladders.stills import PHOTOS, install_packages
from operators.cut import CutConfig, DetectorConfig, SplitConfig, cut_clips
from operators.measure import Clock, Measure, measure_segment
from operators.meters.content import Content
from operators.meters.layout import Layout
from operators.meters.transnet import Transnet
from reelmill.column import arrow_schema
from reelmill.tables import SOURCES

TEXT = """{trials} reels of {counts.cuts} cuts, {counts.dissolves} dissolves of 8 to 40 frames, {counts.fades} fades
from and to black and white and {counts.wipes} wipes (hard and soft, eight shapes) each, with two of each event that is
no transition ({events}): moves over photographs and real footage, {frames} frames of {size}, H.264. Thresholds were
chosen on other reels, from other photographs, clips, seeds and speeds.

A transition counts as found if exactly one place between two clips lies in it: the middle of the frames left out, or
the cut itself, is at most two frames outside the frames that mix. A place that belongs to no transition is a false
alarm; the F1 of one kind holds all false alarms against that kind. The last column is the share of visibly mixed frames
(10 to 90 % of either shot) that was kept out of the clips. The reel says little about films whose shots resemble each
other (interviews with jump cuts), and its transitions are clean mixes; edited effects are richer."""
SLACK = 2  # frames
VISIBLE = 0.1  # share of the other shot from which a mixed frame shows it
CLIPS_FOLDER = Path(__file__).parents[3] / "shared" / "clips"
SOURCE_ID = "0" * 32
METERS = (Content(), Layout(), Transnet())
DETECTORS = {
    "transnet + layout": DetectorConfig(kind="transnet"),
    "transnet alone": DetectorConfig(kind="transnet", wipe_threshold=None, same_below=None),
    "content 27": DetectorConfig(kind="content"),
    "adaptive 3": DetectorConfig(kind="adaptive"),
}
KINDS = ("cut", "dissolve", "fade", "wipe")


@dataclass(frozen=True)
class Material:
    """What a reel is made of.

    Args:
        is_held_out: every second photograph, and the clips of `footage`, are this kind's.
        footage: name -> (file below the shared clips, first frame, frame after the last): ranges without a cut.
    """

    is_held_out: bool
    footage: dict[str, tuple[str, int, int]]


CHOOSING = Material(
    False,
    {
        "street": ("street_walk_720p.mp4", 0, 190),
        "cartoon": ("dj_video1.mp4", 0, 140),
        "portrait": ("dj_video2.mp4", 0, 180),
    },
)
HELD_OUT = Material(
    True,
    {
        "motorcycle": ("uhd_motorcycle_2160p30_h264.mp4", 0, 118),
        "hdr": ("hdr10_av1_portrait_720p.mp4", 0, 125),
        "talk": ("dj_video3.mp4", 112, 255),
    },
)


@dataclass
class Verdict:
    """What a detector made of a reel.

    Attributes:
        found, missed: transitions.
        false: the kinds of event, or `-`, at each false alarm.
        covered: share of visibly mixed frames left out of the clips, of each gradual transition.
    """

    found: list[Join] = field(default_factory=list)
    missed: list[Join] = field(default_factory=list)
    false: list[tuple[str, int]] = field(default_factory=list)
    covered: list[float] = field(default_factory=list)

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(
            self.found + other.found,
            self.missed + other.missed,
            self.false + other.false,
            self.covered + other.covered,
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
    return verdict


def _join_at(joins: list[Join], place: tuple[int, int]) -> Join | None:
    middle = (place[0] + place[1]) / 2
    return next((j for j in joins if j.start - SLACK <= middle <= j.end + SLACK), None)


def _event_at(reel: Reel, place: tuple[int, int]) -> str:
    hit = [e.kind for e in reel.events if place[0] <= e.end + SLACK and place[1] >= e.start - SLACK]
    return hit[0] if hit else "-"


# --- from a reel to clips -----------------------------------------------------------------------------------------


def material(of: Material, num_photos: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(photographs at canvas size, footage) by name; footage that is not there is left out."""
    install_packages()
    photos = PHOTOS[of.is_held_out :: 2][:num_photos]
    there = {name: f for name, f in of.footage.items() if (CLIPS_FOLDER / f[0]).exists()}
    clips = {name: reels.read_clip(CLIPS_FOLDER / file, a, b) for name, (file, a, b) in there.items()}
    return {still.name: reels.read_canvas(still) for still in photos}, clips


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


@dataclass(frozen=True)
class Trial:
    """A reel to make: its seed, how fast the moves are (frame widths a second), how hard it is compressed."""

    seed: int
    speed: float
    crf: int = 23


CHOOSING_TRIALS = (Trial(1, 0.06), Trial(11, 0.12), Trial(12, 0.06, 28))
HELD_OUT_TRIALS = (Trial(4, 0.08), Trial(5, 0.14, 28))
QUICK = Counts(cuts=3, dissolves=1, fades=1, wipes=1), 5, (Trial(4, 0.08),)


@dataclass
class Outcome:
    """Verdict of each detector over all reels, frames seen, CPU seconds by meter."""

    verdicts: dict[str, Verdict]
    num_frames: int
    seconds: dict[str, float]


def judge_trials(of: Material, trials: tuple[Trial, ...], counts: Counts, num_photos: int | None = None) -> Outcome:
    """Makes, measures, cuts and judges the reels of some trials."""
    canvases, clips = material(of, num_photos)
    outcome, clock = Outcome(defaultdict(Verdict), 0, {}), Clock()
    for trial in trials:
        reel = reels.make_reel(canvases, clips, counts, trial.seed, speed=trial.speed)
        outcome.num_frames += reel.num_frames
        with tempfile.TemporaryDirectory() as folder:
            series = measure_reel(reel, Path(folder), trial.crf, clock)
        for name, detector in DETECTORS.items():
            outcome.verdicts[name] += judge_clips(reel, clips_of(series, detector))
    outcome.seconds = dict(clock.seconds)
    return outcome


def run(quick: bool = False) -> Section:
    """The shot reel's numbers, from held-out material."""
    counts, num_photos, trials = QUICK if quick else (Counts(), None, HELD_OUT_TRIALS)
    outcome = judge_trials(HELD_OUT, trials, counts, num_photos)
    best = outcome.verdicts["transnet + layout"]
    missed = sum(join.kind == "dissolve" for join in best.missed)
    return Section(
        "Shots",
        TEXT.format(
            trials=len(trials),
            counts=counts,
            events=", ".join(reels.EVENTS),
            frames=outcome.num_frames,
            size=f"{reels.WIDTH} x {reels.HEIGHT}",
        ),
        floors=[
            Floor("shots: F1 over all transitions", best.f1()[2], 0.95),
            Floor("shots: dissolves missed", float(missed), 0.0, is_ceiling=True),
        ],
        notes=notes(outcome),
    )


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
        numbers = " | ".join(f"{value:.3f}" for value in verdict.f1())
        lines.append(f"| {name} | {numbers} | {' | '.join(cells)} | {np.mean(verdict.covered):.0%} |")
    best = outcome.verdicts["transnet + layout"]
    lines += ["", "Missed: " + (", ".join(f"{j.kind} {j.style} at {j.start}" for j in best.missed) or "none")]
    for name, verdict in outcome.verdicts.items():
        counts = Counter(kind for kind, _ in verdict.false)
        lines.append(
            f"False alarms, {name}: " + (", ".join(f"{n} {kind}" for kind, n in counts.most_common()) or "none")
        )
    costs = [f"{name} {1000 * s / outcome.num_frames:.2f}" for name, s in sorted(outcome.seconds.items())]
    return [*lines, f"CPU ms a frame, one thread: {', '.join(costs)}"]


def main() -> None:
    """`python -m benchmarks.ladders.shots [choosing]`: prints the table, of the reels for choosing if so asked."""
    import sys

    if sys.argv[1:] == ["choosing"]:
        print("\n".join(notes(judge_trials(CHOOSING, CHOOSING_TRIALS, Counts()))))
        return
    section = run(quick=sys.argv[1:] == ["quick"])
    print(section.text, *section.notes, *section.floors, sep="\n")


if __name__ == "__main__":
    main()
