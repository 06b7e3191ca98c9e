# SPDX-License-Identifier: Apache-2.0
"""Which clips are copies of each other by their video hashes: trimmed, coded again, resized, boxed, cropped, sped up.

Two clips of one scene look alike; a copy also *moves* alike. So a pair is first laid over each other in time and space
(speed, offset, and how much was cropped at each side), and then asked two questions: do the pictures agree, and does
what changes in them agree? The place that agrees least, 15 % of the picture, is not asked: a logo may be there.

    appearance  mean correlation of the pictures, 0-1
    motion      concordance (2 sum ab / (sum aa + sum bb)) of what each picture differs by from the clip's mean picture
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from operators.likely_copies import likely_pairs
from operators.meters.video_hash import SAMPLE, SIDE
from operators.similar import Pairs

# All ours, chosen on benchmarks/dedup.py --copies.
MIN_APPEARANCE, MIN_MOTION = 0.945, 0.75
STILL_ENERGY, STILL_APPEARANCE = 0.0005, 0.99  # of a clip that hardly moves nothing but its picture can agree
SPEEDS = (1.0, 1.1, 1 / 1.1, 1.05, 1 / 1.05)
MAX_SPEED = 1.112  # and its inverse
MAX_CROP = 0.11  # of height and width at each side
MIN_SHARED = 0.9  # of the shorter clip's samples that must lie within the longer
MIN_SAMPLES = 4  # below that, or in a still, motion is not known
MIN_START, NUM_STARTS = 0.5, 2  # correlation of a start that is worth a look, and how many are looked at
START_APPEARANCE, START_MOTION = 0.87, 0.3  # of one that is worth a climb; the ladder's copies have 0.92 and 0.39
LOGO_SHARE = 0.15
FULL_CONTRAST = 500.0  # a flatter picture (a fade, a black frame) counts less
TIME_STEP_S, SLACK_S = 0.125, 0.07
STEPS = np.array([0.03, 0.0625, 0.025, 0.025, 0.025, 0.025])  # of a pose, then half of them
INDEX_SAMPLES, MIN_INDEX_CONTRAST = 24, 0.1  # pictures of a clip that it is looked for by; of its clearest one
CLIPS_AT_ONCE = 10_000

_FREQUENCY_YX = np.hypot(*np.mgrid[:SIDE, :SIDE])  # natural pictures fall off like 1 / f: this makes all count alike


def _basis(at: np.ndarray) -> np.ndarray:
    """[N, SIDE] cosines at places 0-1; beyond them the picture goes on as in a mirror."""
    basis = np.sqrt(2) * np.cos(np.pi * np.outer(at, np.arange(SIDE)))
    basis[:, 0] = 1
    return basis


_PLACES = (np.arange(32) + 0.5) / 32
_INVERSE = np.linalg.pinv(_basis(_PLACES))
_PIXELS_PY = _basis((np.arange(12) + 0.5) / 12)
_CENTRED = (0.0, 0.05, -0.05, 0.025, -0.025)  # crops of all four sides from which the search starts


@dataclass(frozen=True)
class Track:
    """The samples of one clip.

    Attributes:
        seconds_T: from its first sample on.
        dct_TYX: float32 lowest frequencies of the pictures.
    """

    seconds_T: np.ndarray
    dct_TYX: np.ndarray

    def __len__(self) -> int:
        return len(self.seconds_T)

    @property
    def span_s(self) -> float:
        return float(self.seconds_T[-1])

    def mirrored(self) -> "Track":
        """The same with left and right exchanged: odd frequencies along change their sign."""
        return Track(self.seconds_T, self.dct_TYX * np.where(np.arange(SIDE) % 2, -1.0, 1.0).astype(np.float32))


@dataclass(frozen=True)
class Likeness:
    """How well two clips agree where they agree best; see the module's text.

    Attributes:
        pose: speed, offset in seconds, crops at the left, right, top and bottom (shares) of the shorter clip against
            the longer one; a crop below zero means that the longer one is the cropped one.
        energy: share of the pictures' variance that is change over time, of the clip that moves more.
    """

    appearance: float
    motion: float
    energy: float
    pose: tuple[float, ...]

    @property
    def is_copy(self) -> bool:
        if self.energy < STILL_ENERGY:
            return self.appearance >= STILL_APPEARANCE
        return self.appearance >= MIN_APPEARANCE and self.motion >= MIN_MOTION

    @property
    def may_be_copy(self) -> bool:
        """Whether a pose nearby may show a copy: most clips that only look alike are told apart by how they move."""
        return self.appearance >= START_APPEARANCE and (self.energy < STILL_ENERGY or self.motion >= START_MOTION)


def track_of(video_hash: bytes) -> Track:
    """Reads the score `video_hash`."""
    samples = np.frombuffer(video_hash, SAMPLE)
    return Track(samples["seconds"] - samples["seconds"][0], samples["dct_YX"].astype(np.float32))


def copies(video_hashes: Sequence[bytes], mirrored: bool = False) -> Pairs:
    """Pairs of clips that are copies of each other, with their appearance as similarity.

    Among crowds of like clips not every pair is looked at: see `operators.likely_copies`.

    Args:
        video_hashes: the score `video_hash` of each clip, better clips first.
        mirrored: a mirrored clip is a copy too.
    """
    found = []
    for first, second in likely_pairs(*_pictures(video_hashes, mirrored), len(video_hashes)).tolist():
        one, other = track_of(video_hashes[first]), track_of(video_hashes[second])
        likeness = likeness_of(one, other)
        if mirrored and not (likeness and likeness.is_copy):
            likeness = likeness_of(one, other.mirrored())
        if likeness and likeness.is_copy:
            found.append((first, second, likeness.appearance))
    columns = np.array(found).reshape(-1, 3)
    return Pairs(columns[:, 0].astype(np.int64), columns[:, 1].astype(np.int64), columns[:, 2].astype(np.float32))


def _pictures(video_hashes: Sequence[bytes], mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pictures spread over each clip, and the same cropped at all sides, and mirrored: unit vectors and whose they are.

    float16 halves the memory; products of such vectors are right to three digits.
    """
    inner, flip = _crop(0.05, 0.05), np.where(np.arange(SIDE) % 2, -1.0, 1.0)
    vectors, owners = [np.zeros((0, SIDE * SIDE), np.float16)], [np.zeros(0, np.int32)]
    for start in range(0, len(video_hashes), CLIPS_AT_ONCE):
        picked = [_picked(video_hash) for video_hash in video_hashes[start : start + CLIPS_AT_ONCE]]
        dct_TYX = np.concatenate(picked)
        views = [dct_TYX, inner @ dct_TYX @ inner.T, *([dct_TYX * flip] if mirrored else [])]
        owner_T = np.repeat(np.arange(start, start + len(picked), dtype=np.int32), [len(p) for p in picked])
        order = np.argsort(np.tile(owner_T, len(views)), kind="stable")
        vectors.append(np.concatenate([_units(view) for view in views]).astype(np.float16)[order])
        owners.append(np.repeat(owner_T, len(views)))
    return np.concatenate(vectors), np.concatenate(owners)


def _picked(video_hash: bytes) -> np.ndarray:
    """A quarter of a clip's pictures, spread over it, without those that are next to black beside the others."""
    dct_TYX = np.frombuffer(video_hash, SAMPLE)["dct_YX"]
    num = min(INDEX_SAMPLES, max(1, len(dct_TYX) // 4))
    dct_TYX = dct_TYX[(2 * np.arange(num) + 1) * len(dct_TYX) // (2 * num)].astype(np.float32)
    contrast_T = _contrast(dct_TYX)
    return dct_TYX[contrast_T >= MIN_INDEX_CONTRAST * contrast_T.max()]


def likeness_of(one: Track, other: Track) -> Likeness | None:
    """How well the shorter clip agrees with the best part of the longer; None if nothing is worth a closer look."""
    shorter, longer = sorted((one, other), key=lambda track: track.span_s)
    if (len(shorter) < MIN_SAMPLES) != (len(longer) < MIN_SAMPLES):
        return None
    starts = [pose for value, pose in _starts(shorter, longer) if value >= MIN_START]
    likely = [(pose, found) for pose in starts if (found := _judged(pose, shorter, longer)).may_be_copy]
    for _, found in likely:
        if found.is_copy:  # nothing was cropped: no need to climb
            return found
    climbed = [_climb(pose, shorter, longer) for pose, _ in likely]
    return _judged(max(climbed, key=lambda found: found[0])[1], shorter, longer) if climbed else None


def _judged(pose: np.ndarray, shorter: Track, longer: Track) -> Likeness:
    overlay = _overlay(pose, shorter, longer)
    assert overlay is not None
    a_TD, b_TD, weight_T = overlay
    a_TP, b_TP = _pixels(a_TD), _pixels(b_TD)
    differs_P = weight_T @ (a_TP - b_TP) ** 2
    asked = differs_P <= np.quantile(differs_P, 1 - LOGO_SHARE)
    a_TP, b_TP = _normal(a_TP[:, asked]), _normal(b_TP[:, asked])
    a_change_TP, b_change_TP = a_TP - weight_T @ a_TP, b_TP - weight_T @ b_TP
    a_energy, b_energy = (float(weight_T @ (change**2).sum(1)) for change in (a_change_TP, b_change_TP))
    shared = float(weight_T @ (a_change_TP * b_change_TP).sum(1))
    return Likeness(
        appearance=float(weight_T @ (a_TP * b_TP).sum(1)),
        motion=2 * shared / max(a_energy + b_energy, 1e-9),
        energy=max(a_energy, b_energy),
        pose=tuple(float(value) for value in pose),
    )


# --- laying one clip over the other -----------------------------------------------------------------------------


def _starts(shorter: Track, longer: Track) -> list[tuple[float, np.ndarray]]:
    """The best few poses of a coarse grid, far from each other, with their correlations."""
    views = [_crop(crop, crop) for crop in _CENTRED]
    cosine_VST = np.stack([_units(shorter.dct_TYX) @ _units(m @ longer.dct_TYX @ m.T).T for m in views])
    contrast_S, contrast_T = _contrast(shorter.dct_TYX), _contrast(longer.dct_TYX)
    grid_G2 = _grid(shorter, longer)
    at_GS = grid_G2[:, :1] * shorter.seconds_T + grid_G2[:, 1:]
    inside_GS = (at_GS >= -SLACK_S) & (at_GS <= longer.span_s + SLACK_S)
    nearest_GS = _nearest(longer.seconds_T, at_GS)
    weight_GS = inside_GS * contrast_S * contrast_T[nearest_GS]
    weight_GS /= np.maximum(weight_GS.sum(1, keepdims=True), 1e-9)
    values_VG = (cosine_VST[:, np.arange(len(shorter)), nearest_GS] * weight_GS).sum(2)
    best_G = values_VG.argmax(0)
    found = [
        (float(values_VG[best_G[g], g]), np.array([*grid_G2[g], *[_CENTRED[best_G[g]]] * 4]))
        for g in np.flatnonzero(inside_GS.sum(1) >= _fewest(shorter))
    ]
    kept: list[tuple[float, np.ndarray]] = []
    for value, pose in sorted(found, key=lambda item: -item[0]):
        if all((np.abs(pose - other) > [0.06, 0.2, 0.01, 1, 1, 1]).any() for _, other in kept):
            kept.append((value, pose))
        if len(kept) == NUM_STARTS:
            break
    return kept


def _grid(shorter: Track, longer: Track) -> np.ndarray:
    """[G, 2]: speeds, and offsets at which enough of the shorter clip lies within the longer one."""
    found = []
    for speed in SPEEDS:
        span = shorter.span_s * speed
        low, high = -span * (1 - MIN_SHARED) - TIME_STEP_S, longer.span_s - span * MIN_SHARED + TIME_STEP_S
        zero = np.ceil(low / TIME_STEP_S) * TIME_STEP_S
        offsets = np.arange(zero, max(high, zero) + 1e-9, TIME_STEP_S)
        found.append(np.stack([np.full(len(offsets), speed), offsets], axis=1))
    return np.concatenate(found)


def _nearest(seconds_T: np.ndarray, at_GS: np.ndarray) -> np.ndarray:
    """The sample nearest in time to each moment."""
    after = np.clip(np.searchsorted(seconds_T, at_GS), min(1, len(seconds_T) - 1), len(seconds_T) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(at_GS - seconds_T[before] <= seconds_T[after] - at_GS, before, after)


def _fewest(shorter: Track) -> float:
    """Samples of the shorter clip that must lie within the longer one."""
    return max(min(MIN_SAMPLES, len(shorter)), MIN_SHARED * len(shorter))


def _inside(at_T: np.ndarray, shorter: Track, longer: Track) -> np.ndarray | None:
    """The shorter clip's samples that lie within the longer one; None if they are too few."""
    inside = np.flatnonzero((at_T >= -SLACK_S) & (at_T <= longer.span_s + SLACK_S))
    return inside if len(inside) >= _fewest(shorter) else None


def _climb(pose: np.ndarray, shorter: Track, longer: Track) -> tuple[float, np.ndarray]:
    """The correlation at the top of the hill that `pose` stands on, and where it is."""
    value = _value(pose, shorter, longer)
    for steps in (STEPS, STEPS / 2):
        is_moving = True
        while is_moving:
            is_moving = False
            for move in (*np.diag(steps), *-np.diag(steps)):
                tried = _value(pose + move, shorter, longer)
                if tried > value + 1e-4:
                    pose, value, is_moving = pose + move, tried, True
    return value, pose


def _value(pose: np.ndarray, shorter: Track, longer: Track) -> float:
    if not 1 / MAX_SPEED <= pose[0] <= MAX_SPEED or np.abs(pose[2:]).max() > MAX_CROP:
        return -1.0
    overlay = _overlay(pose, shorter, longer)
    return -1.0 if overlay is None else float((overlay[0] * overlay[1]).sum(1) @ overlay[2])


def _overlay(pose: np.ndarray, shorter: Track, longer: Track) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Unit vectors of both clips' pictures at the same moments [T, D] and what each moment counts; None: too few."""
    speed, offset, left, right, top, bottom = pose
    at = shorter.seconds_T * speed + offset
    inside = _inside(at, shorter, longer)
    if inside is None:
        return None
    a_TYX = shorter.dct_TYX[inside]
    b_TYX = _crop(top, bottom) @ _at(longer, at[inside]) @ _crop(left, right).T
    weight = _contrast(a_TYX) * _contrast(b_TYX)
    return _units(a_TYX), _units(b_TYX), weight / max(weight.sum(), 1e-9)


def _at(track: Track, at_T: np.ndarray) -> np.ndarray:
    """Pictures at any times, between two samples a mix of both."""
    if len(track) == 1:
        return np.repeat(track.dct_TYX, len(at_T), axis=0)
    after = np.clip(np.searchsorted(track.seconds_T, at_T), 1, len(track) - 1)
    start, end = track.seconds_T[after - 1], track.seconds_T[after]
    share = np.clip((at_T - start) / np.maximum(end - start, 1e-9), 0, 1)[:, None, None]
    return track.dct_TYX[after - 1] * (1 - share) + track.dct_TYX[after] * share


def _crop(low: float, high: float) -> np.ndarray:
    """[SIDE, SIDE] that takes a picture's frequencies along one axis to those of it without its outermost shares."""
    return _INVERSE @ _basis(low + (1 - low - high) * _PLACES)


def _units(dct_TYX: np.ndarray) -> np.ndarray:
    """[T, SIDE * SIDE] of length 1: brightness and contrast drop out, all frequencies count alike."""
    return _normal((dct_TYX * _FREQUENCY_YX).reshape(len(dct_TYX), -1), is_centred=True)


def _contrast(dct_TYX: np.ndarray) -> np.ndarray:
    flat = (dct_TYX * _FREQUENCY_YX).reshape(len(dct_TYX), -1)
    return np.minimum(np.sqrt((flat**2).sum(1)) / FULL_CONTRAST, 1.0)


def _pixels(units_TD: np.ndarray) -> np.ndarray:
    """[T, 144]: the same as pictures of 12 x 12."""
    return (_PIXELS_PY @ units_TD.reshape(-1, SIDE, SIDE) @ _PIXELS_PY.T).reshape(len(units_TD), -1)


def _normal(rows_TD: np.ndarray, is_centred: bool = False) -> np.ndarray:
    if not is_centred:
        rows_TD = rows_TD - rows_TD.mean(1, keepdims=True)
    return rows_TD / np.maximum(np.sqrt((rows_TD**2).sum(1, keepdims=True)), 1e-6)
