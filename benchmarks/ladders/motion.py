# SPDX-License-Identifier: Apache-2.0
"""Camera path, speed and class against rendered truth, and what passes for a static camera."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.ladders.judge import Floor, Section
from benchmarks.ladders.motion_films import PROXY_ROWS, Film, Thing, grid, is_named, measured, true_speed
from benchmarks.ladders.motion_footage import judge_footage
from benchmarks.ladders.moving import pictures, scores_of
from benchmarks.ladders.stills import Still
from operators.meters.motion import Motion

SPEEDS_PX = (2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0)
SEED = 23  # of the films that are judged; bounds were chosen on those of 7 and 11
NUM_PAIRS = 3  # a film: what is right at one pair mostly is at the next, so more films, not longer ones
MAX_TURN_PX = 8.0  # a zoom of 8 px a frame is 5 %, a roll 3 degrees
MOVES = ("pan", "tilt", "diagonal", "zoom", "roll", "dolly", "zoom and pan")
# name -> half axes of the ellipses that things fill, as shares of the frame's sides: pi * half^2 of the picture each
THINGS = {"none": (), "10 %": (0.18,), "30 %": (0.22, 0.22), "45 %": (0.38,), "60 %": (0.25, 0.25, 0.25)}
TEXT = """Photographs and renderings are moved before the camera (pans, tilts, zooms, rolls, dolly moves in which near
things grow twice as fast, mixtures) at 2 to 30 proxy pixels a pair, 24, 30 and 60 fps, with an open shutter
or without, sensor noise, H.264 and 10-bit HEVC at crf 18 and 28, also upright. Before them, ellipses cut from
other photographs move on their own: one of 10 % of the picture, two of 15, one of 45, three of 20. Clips are
encoded, decoded and measured as in a run. The error of a pair is the mean distance between the measured and
the true camera's flow over the picture, divided by the mean length of the true one; unknown counts as wrong.
Nothing is learned; bounds were chosen on other drawings of such films with the same pictures. Real footage of a
tripod (Debian's opencv-doc: a street with people, a tree in the wind) is judged as it is, with ellipses moving
before it, and under known warps."""


@dataclass
class Found:
    """What one film gave."""

    film: Film
    errors: list[float] = field(default_factory=list)  # of the camera per pair; inf if unknown
    speed_errors: list[float] = field(default_factory=list)
    camera_class: str = ""


def _things(stills: Sequence[Still], still: Still, share: str, is_dolly: bool, rng: Any) -> tuple[Thing, ...]:
    others = [other for other in stills if other != still and other.is_textured]
    halves = THINGS[share]
    places = (
        rng.permutation(np.linspace(0.2, 0.8, len(halves))) if len(halves) > 1 else rng.uniform(0.3, 0.7, len(halves))
    )
    things = []
    for x, half in zip(places, halves, strict=True):
        velocity = rng.uniform(2, 8) * np.exp(1j * rng.uniform(0, 2 * np.pi))
        nearness = 2.0 if is_dolly else 1.0
        things.append(Thing(others[rng.integers(len(others))], x, rng.uniform(0.4, 0.8), half, velocity, nearness))
    return tuple(things)


def _step(move: str, speed: float, rng: Any) -> tuple[complex, complex]:
    """(growth - 1 + i roll, shift in proxy pixels) per frame, with a mean flow of about `speed` pixels."""
    way = float(rng.choice([-1, 1]))
    turn = way * min(speed, MAX_TURN_PX) / 147  # the mean distance from the middle of 480 x 270 pixels
    shifts = {"pan": way, "tilt": way * 1j, "diagonal": np.exp(1j * rng.uniform(0, 2 * np.pi))}
    if move in shifts:
        return 0j, complex(shifts[move] * speed)
    if move == "zoom and pan":
        return complex(turn / 2), complex(speed / 2)
    return complex(turn * (1j if move == "roll" else 1)), 0j


def camera_films(stills: Sequence[Still], speeds: Iterable[float], seed: int) -> list[Film]:
    """For each picture and speed one film, the other conditions drawn."""
    films = []
    for number, still in enumerate(stills):
        rng = np.random.default_rng([seed, number])
        for turn, speed in enumerate(speeds):
            move = MOVES[(number + turn * 3) % len(MOVES)]
            share = list(THINGS)[(number * 2 + turn) % len(THINGS)]
            film = Film(
                share,
                still,
                (_step(move, speed, rng),) * NUM_PAIRS,
                _things(stills, still, share, move == "dolly", rng),
                **_conditions(rng),
            )
            films.append(film)
    return films


def _conditions(rng: Any) -> dict[str, Any]:
    return {
        "fps": int(rng.choice([24, 30, 60])),
        "crf": int(rng.choice([18, 28])),
        "bit_depth": int(rng.choice([8, 10])),
        "is_upright": bool(rng.random() < 0.2),
        "is_blurred": bool(rng.random() < 0.5),
        "noise": float(rng.choice([0, 2, 4])),
    }


def static_films(stills: Sequence[Still], seed: int) -> list[Film]:
    """A camera on a tripod, before it what looks like movement of the camera."""
    films = []
    for number, still in enumerate(stills):
        rng = np.random.default_rng([seed, number, 1])
        base = Film("empty", still, ((0j, 0j),) * NUM_PAIRS, **_conditions(rng))
        base = replace(base, is_blurred=False)
        films += [base, replace(base, kind="flicker", flicker=0.1), replace(base, kind="noise", noise=12.0)]
        films.append(replace(base, kind="water, trees", sway=3.0, swaying=float(rng.choice([0.4, 0.6]))))
        films += [
            replace(base, kind=f"things on {share}", things=_things(stills, still, share, False, rng))
            for share in ("10 %", "30 %", "45 %", "60 %")
        ]
    return films


def shaky_films(stills: Sequence[Still], seed: int) -> list[Film]:
    """A camera held in the hand: a path that wanders by 0.5 to 3 pixels a pair and comes back."""
    films = []
    for number, still in enumerate(stills):
        rng = np.random.default_rng([seed, number, 2])
        size = rng.uniform(0.5, 3)
        walk = np.cumsum(rng.standard_normal((10, 2)), axis=0)
        walk = np.diff(walk - np.linspace(walk[0], walk[-1], 10), axis=0)
        steps = walk @ [1, 1j] * size / max(np.abs(walk).mean(), 1e-9)
        films.append(Film("hand", still, tuple((0j, complex(s)) for s in steps), **_conditions(rng)))
    return films


def judge_film(film: Film, seed: int) -> Found:
    """Encodes, measures and compares one film."""
    series, labels_THW = measured(film, seed)
    found = Found(film, camera_class=scores_of(series, [Motion()], film.fps)["camera_class"])
    z, per_second = grid(film), PROXY_ROWS / film.fps
    truths = true_speed(film, labels_THW)
    for index, (growth, shift) in enumerate(film.path, 1):
        pan, tilt, zoom, roll = (series[f"camera_{name}"][index] for name in ("pan", "tilt", "zoom", "roll"))
        true_flow = z * growth + shift
        if pan is None:
            found.errors.append(np.inf)
        else:
            turn = np.exp((zoom + 1j * np.radians(roll)) / film.fps) - 1
            flow = z * turn + complex(-pan, tilt) * per_second
            found.errors.append(float(np.abs(flow - true_flow).mean() / max(np.abs(true_flow).mean(), 1e-9)))
        speed = series["motion_speed"][index] * per_second
        found.speed_errors.append(abs(speed - truths[index - 1]) / max(truths[index - 1], 1e-9))
    return found


def run(quick: bool = False) -> Section:
    """The section of the accuracy page."""
    stills = pictures(quick)
    speeds = (5.0,) if quick else SPEEDS_PX
    moved = [judge_film(film, n) for n, film in enumerate(camera_films(stills, speeds, SEED))]
    static = [judge_film(film, n) for n, film in enumerate(static_films(stills, SEED)[: 8 if quick else None])]
    shaky = [judge_film(film, n) for n, film in enumerate(shaky_films(stills, SEED))]
    found = section(moved, static, shaky)
    footage = judge_footage(stills, quick)
    return replace(found, floors=found.floors + footage.floors, notes=found.notes + footage.notes)


def section(moved: list[Found], static: list[Found], shaky: list[Found]) -> Section:
    textured = _textured(moved)
    floors = [_share_floor(f"pairs within 10 %, things on {name}", f) for name, f in _by(textured, "kind").items()]
    floors += [
        Floor("pairs within 10 %, photographs with texture", _within([f for f in textured if _is_photo(f)]), 0.95),
        Floor("static camera called static, all pictures", _share_called(static, {"static"}), 0.95),
        Floor("static camera called static, with texture", _share_called(_textured(static), {"static"}), 0.95),
        Floor("moving camera called static", _share_called(moved + shaky, {"static"}), 0.01, is_ceiling=True),
        Floor(
            "moved camera's class", float(np.mean([is_named(f.camera_class, f.film.path[0]) for f in textured])), 0.95
        ),
    ]
    notes = [_note(f"things on {name}", found) for name, found in _by(textured, "kind").items()]
    notes += [_note(f"{px:g} px a pair", found) for px, found in _by_speed(textured).items()]
    notes.append(_note("pictures without texture", [f for f in moved if not f.film.still.is_textured]))
    for kind, found in _by(static, "kind").items():
        others = sorted(f"{f.film.still.name} ({f.camera_class})" for f in found if f.camera_class != "static")
        notes.append(f"static, {kind}: {1 - len(others) / len(found):.3f} called static; not: {', '.join(others)}")
    notes.append(f"hand held: {_share_called(shaky, {'handheld', 'mixed'}):.3f} called handheld or mixed")
    return Section("Motion", TEXT, floors=floors, notes=notes)


def _textured(found: list[Found]) -> list[Found]:
    return [f for f in found if f.film.still.is_textured]


def _is_photo(found: Found) -> bool:
    return found.film.still.kind == "photo"


def _within(found: Iterable[Found]) -> float:
    return float(np.mean([error <= 0.1 for f in found for error in f.errors]))


def _share_floor(name: str, found: list[Found]) -> Floor:
    return Floor(name, _within(found), 0.95)


def _share_called(found: list[Found], names: set[str]) -> float:
    return float(np.mean([f.camera_class in names for f in found]))


def _by(found: list[Found], name: str) -> dict[str, list[Found]]:
    groups: dict[str, list[Found]] = defaultdict(list)
    for f in found:
        groups[getattr(f.film, name)].append(f)
    return {key: groups[key] for key in [*THINGS, *groups] if key in groups}


def _by_speed(found: list[Found]) -> dict[float, list[Found]]:
    groups: dict[float, list[Found]] = defaultdict(list)
    for f in found:
        growth, shift = f.film.path[0]
        groups[round(abs(shift) + abs(growth) * 147)].append(f)
    return dict(sorted(groups.items()))


def _note(name: str, found: list[Found]) -> str:
    errors = np.array([error for f in found for error in f.errors])
    speeds = np.array([error for f in found for error in f.speed_errors])
    if not len(errors):
        return f"{name}: none"
    return (
        f"{name}: {len(errors)} pairs, {np.mean(errors <= 0.1):.3f} within 10 %, camera error median "
        f"{np.median(errors):.4f}, 95th percentile {np.quantile(errors, 0.95, method='lower'):.3f}; motion_speed error "
        f"median {np.median(speeds):.3f}, {np.mean(speeds <= 0.1):.3f} within 10 %"
    )
