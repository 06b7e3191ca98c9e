# SPDX-License-Identifier: Apache-2.0
"""Freezes, repeated and blended frames, flicker: photographs under a known camera path, light and frame rate.

Clips of 30 frames, 960 x 540 luma, 30 fps, in H.264, HEVC and AV1 (`benchmarks.ladders.moving`).
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path

import numpy as np

from benchmarks.ladders.judge import Floor, Row, Section, judge
from benchmarks.ladders.moving import (
    AV1_42,
    FPS,
    H264_18,
    H264_28,
    H264_30,
    HEIGHT,
    HEVC_28,
    WIDTH,
    Pose,
    canvas_of,
    encode,
    look,
    scores_of,
)
from benchmarks.ladders.stills import PHOTOS, RENDERED, Still, install_packages
from operators.measure import measure_segment
from operators.meters.blend import Blend
from operators.meters.flicker import Flicker
from operators.meters.freeze import Freeze

NUM_FRAMES = 30
CODECS = (H264_18, H264_28, HEVC_28, AV1_42, H264_30)
METERS = (Freeze(), Blend(), Flicker())
MOVED_LEVELS, MOVED_SHARE = 1.5, 0.75
FREEZE, DUPLICATE, BLEND, FLICKER = "freeze_longest_s", "duplicate_share", "blend_pulse", "flicker_share"
Film = Callable[[np.ndarray, int], np.ndarray]  # (canvas float32 [H, W], frame) -> luma float32 [540, 960]
TEXT = """
Photographs under a moving camera, {num} frames of 960 x 540 at 30 fps, H.264 (crf 18, 28, 30), HEVC (28) and AV1 (42)
in turn. Freezes: the picture stops for the last two thirds, its grain with it; against a fixed camera with sensor
noise, at night, with something small that moves, and slow pans and zooms. A near miss counts only if its decoded
frames still differ (a block of 16 x 16 changes by 1.5 levels in three frames of four): at low rates a coder turns a
still scene into a freeze. Repeats: 24 in 30, doubled, 24 in 60, and animation on twos, against the same movements
without. Blends: 24 to 30 and 25 to 30 frames by linear mixing. Flicker: the level changes by 2, 5 or 10 % at random,
at every other frame, or in a beat of 2 Hz; against pans, fades, a single flash, noise and a passing object. Unknown
counts as an error, except that a good clip without a score is kept.
"""


@dataclass(frozen=True)
class Case:
    """A film of one label."""

    label: str
    film: Film
    needs_change: bool = False  # an example only if its decoded frames differ


def pan(speed: float) -> Film:
    """Right and a little down, pixels of 540 rows per frame."""
    return lambda canvas, frame: look(canvas, Pose(x=speed * (frame - NUM_FRAMES / 2), y=0.3 * speed * frame))


def at(film: Film, time: Callable[[int], float]) -> Film:
    """The film with its frames shown at other times."""
    return lambda canvas, frame: film(canvas, time(frame))  # type: ignore[arg-type]


def mixed(film: Film, ratio: float) -> Film:
    """Frame t shows the moment ratio * t, by mixing the two frames around it."""

    def show(canvas: np.ndarray, frame: int) -> np.ndarray:
        moment = frame * ratio
        weight = moment - floor(moment)
        return (1 - weight) * film(canvas, floor(moment)) + weight * film(canvas, floor(moment) + 1)

    return show


def noisy(film: Film, sigma: float, gain: float = 1.0) -> Film:
    """Sensor noise after the light is changed."""

    def show(canvas: np.ndarray, frame: int) -> np.ndarray:
        noise = np.random.default_rng(frame).normal(0, sigma, (HEIGHT, WIDTH))
        return film(canvas, frame) * gain + 3 + noise

    return show


def stopped(film: Film) -> Film:
    """Moves for ten frames, then stands still, its noise with it."""
    return lambda canvas, frame: film(canvas, min(frame, 9))


def passing(size: int, speed: float) -> Film:
    """A bright square that crosses a still picture."""

    def show(canvas: np.ndarray, frame: int) -> np.ndarray:
        picture_HW = look(canvas, Pose()).copy()
        left = 200 + round(speed * frame)
        patch_HW = picture_HW[260 : 260 + size, left : left + size]
        picture_HW[260 : 260 + size, left : left + size] = np.where(patch_HW.mean() > 128, 40, 215)
        return picture_HW

    return show


def lit(film: Film, law: Callable[[int], float]) -> Film:
    return lambda canvas, frame: film(canvas, frame) * 0.85 * law(frame)


def _random(amplitude: float) -> Callable[[int], float]:
    draws = np.random.default_rng(5).uniform(-1.7, 1.7, NUM_FRAMES)
    return lambda frame: 1 + amplitude * float(draws[frame])


def zoom(canvas: np.ndarray, frame: int) -> np.ndarray:
    return look(canvas, Pose(growth=1.001**frame))


SLOW, MIDDLE, FAST = pan(1.0), pan(5.0), pan(20.0)
STILL = pan(0.0)
FREEZES = (
    Case("stops", stopped(noisy(MIDDLE, 1.0))),
    Case("stops, slow before", stopped(noisy(SLOW, 1.0))),
    Case("still picture", lambda canvas, frame: look(canvas, Pose())),
)
MOVES = (
    Case("slow pan", pan(0.4), needs_change=True),
    Case("slow zoom", zoom, needs_change=True),
    Case("tripod, noise 1.5", noisy(STILL, 1.5), needs_change=True),
    Case("tripod at night", noisy(STILL, 1.5, 0.12), needs_change=True),
    Case("tripod, something of 24 px moves", passing(24, 1.5), needs_change=True),
    Case("pan", MIDDLE),
    Case("fast pan", FAST),
    Case("pan with noise", noisy(MIDDLE, 2.0)),
)
REPEATS = (
    Case("24 in 30", at(MIDDLE, lambda frame: floor(frame * 0.8))),
    Case("doubled", at(MIDDLE, lambda frame: frame // 2)),
    Case("24 in 60", at(MIDDLE, lambda frame: floor(frame * 0.4))),
    Case("doubled, slow", at(SLOW, lambda frame: frame // 2)),
    Case("twos before a still background", at(passing(60, 6), lambda frame: 2 * (frame // 2))),
)
BLENDS = (
    Case("24 to 30", mixed(FAST, 0.8)),
    Case("25 to 30", mixed(FAST, 25 / 30)),
    Case("24 to 30, slower", mixed(MIDDLE, 0.8)),
)
FLICKERS = (
    *(Case(f"random, {a:.0%}", lit(MIDDLE, _random(a))) for a in (0.02, 0.05, 0.1)),
    Case("every other frame, 5 %", lit(MIDDLE, lambda frame: 1 + 0.05 * (frame % 2))),
    Case("beat of 2 Hz, 5 %", lit(SLOW, lambda frame: 1 + 0.05 * float(np.sin(2 * np.pi * frame * 2 / FPS)))),
)
STEADY = (
    Case("fade out", lit(MIDDLE, lambda frame: 1 - 0.9 * frame / NUM_FRAMES)),
    Case("one flash", lit(SLOW, lambda frame: 1.15 if frame in (14, 15) else 0.8)),
    Case("something of 160 px passes", passing(160, 12)),
)
CASES = (*FREEZES, *MOVES, *REPEATS, *BLENDS, *FLICKERS, *STEADY)
JUDGED = (
    (FREEZE, FREEZES, MOVES),
    (DUPLICATE, REPEATS, (*MOVES, *STEADY[2:])),
    (BLEND, BLENDS, MOVES[5:]),
    (FLICKER, FLICKERS, (*MOVES, *STEADY)),
)
Scores = dict[tuple[str, str], list[tuple[str, float | None]]]  # (signal, label) -> (picture, score)


def _measured(stills: Sequence[Still]) -> tuple[Scores, list[str]]:
    found: Scores = {}
    left_out = []
    with tempfile.TemporaryDirectory() as folder:
        for place, still in enumerate(stills):
            canvas = canvas_of(still)
            for turn, case in enumerate(CASES):
                codec = CODECS[(place + turn) % len(CODECS)]
                path = encode(Path(folder) / "clip.mp4", _frames(case.film, canvas), codec)
                if case.needs_change and not _differs(path):
                    left_out.append(f"{still.name} ({case.label}, {codec.name})")
                    continue
                scores = scores_of(measure_segment(str(path), METERS), METERS, FPS)
                for signal in (FREEZE, DUPLICATE, BLEND, FLICKER, "true_fps", "freeze_share"):
                    found.setdefault((signal, case.label), []).append((still.name, scores[signal]))
    return found, left_out


def _frames(film: Film, canvas: np.ndarray) -> Iterator[np.ndarray]:
    return (film(canvas, frame) for frame in range(NUM_FRAMES))


def _differs(path: Path) -> bool:
    """Whether a block of 16 x 16 changes by 1.5 levels in at least three of four decoded frames."""
    import cv2

    from operators.contract import View
    from operators.video import open_segment

    changes, before = [], None
    with open_segment(str(path)) as segment:
        for frame in segment:
            now = frame.view(View.LUMA)
            if before is not None:
                difference = cv2.absdiff(now, before)[:528].astype(np.float32)
                changes.append(cv2.resize(difference, (WIDTH // 16, 33), interpolation=cv2.INTER_AREA).max())
            before = now.copy()
    return float((np.array(changes) > MOVED_LEVELS).mean()) >= MOVED_SHARE


def run(quick: bool = False) -> Section:
    """The section of docs/accuracy.md. Quick: one photograph."""
    install_packages()
    stills = PHOTOS[1:2] if quick else PHOTOS[::2]
    photos, left_out = _measured(stills)
    section = Section("Freezes, repeated and blended frames, flicker", " ".join(TEXT.format(num=NUM_FRAMES).split()))
    section.rows += _rows(photos, "photo")
    if not quick:
        section.rows += _rows(_measured(RENDERED)[0], "rendered")
    row = _row(photos, "photo", FREEZE, FREEZES, MOVES, "all")
    section.floors.append(Floor("freeze: recall at 1 % false alarms", row.recall_1 or 0.0, 0.99))
    section.notes += [*_notes(photos), f"still after coding, not counted: {len(left_out)} near misses"]
    return section


def _rows(found: Scores, kind: str) -> list[Row]:
    rows = []
    for signal, bad, good in JUDGED:
        rows += [_row(found, kind, signal, [case], good, case.label) for case in bad]
        rows.append(_row(found, kind, signal, bad, good, "all"))
    return rows


def _row(found: Scores, kind: str, signal: str, bad: Sequence[Case], good: Sequence[Case], level: str) -> Row:
    worse = [pair for case in bad for pair in found.get((signal, case.label), [])]
    better = [(name, value) for case in good for name, value in found.get((signal, case.label), [])]
    kept = [0.0 if value is None or np.isnan(value) else value for _, value in better]
    return judge(signal, kind, level, [v for _, v in worse], kept, [n for n, _ in worse], [n for n, _ in better])


def _notes(found: Scores) -> Iterator[str]:
    """How far the frame rate found is from the true one, and the worst of either side by name."""
    truth = {"24 in 30": 24, "doubled": 15, "24 in 60": 12, "doubled, slow": 15}
    for label, fps in truth.items():
        values = np.array([value for _, value in found["true_fps", label]], np.float64)
        is_near = abs(values / fps - 1) < 0.1
        yield f"true_fps of {label}: {np.median(values):.1f} (true {fps}), {is_near.mean():.0%} within 10 %"
    for signal, bad, good in JUDGED:
        for what, cases, order in (("highest of the good", good, -1), ("lowest of the bad", bad, 1)):
            pairs = [
                (order * (0.0 if value is None or np.isnan(value) else value), name, case.label)
                for case in cases
                for name, value in found.get((signal, case.label), [])
            ]
            named = "; ".join(f"{abs(value):.3g} {name} ({label})" for value, name, label in sorted(pairs)[:3])
            yield f"{signal}, {what}: {named}"
