# SPDX-License-Identifier: Apache-2.0
"""Sentences on movement: the camera's, and the pace of the whole picture.

What the picture alone cannot tell is worded in: a shift of the picture is a turn of the camera or a move, a growing
picture is a zoom or a move.
"""

import math

from captioning.engines import ClipFacts
from captioning.sentences import Sentence
from captioning.wording import about, bound, listed, part_of, trimmed
from operators.meters.camera import UNKNOWN

CAMERA_GATE = ("camera_class", "camera_inlier_share_mean", "fps", "duration_s")
CAMERA = {  # column -> name of its bounds
    "camera_pan_median": "shift",
    "camera_tilt_median": "shift",
    "camera_zoom_median": "zoom",
    "camera_roll_median": "roll",
    "camera_shake": "shake",
}
SPREADS = {
    "camera_pan_median": "camera_pan_spread",
    "camera_tilt_median": "camera_tilt_spread",
    "camera_zoom_median": "camera_zoom_spread",
    "camera_roll_median": "camera_roll_spread",
}
SHIFT_VERBS = {
    "camera_pan_median": ("pans or tracks right", "pans or tracks left"),
    "camera_tilt_median": ("tilts up or rises", "tilts down or sinks"),
}
VIEW_VERBS = (
    ("narrows", "grows", "a zoom-in or a forward move"),
    ("widens", "shrinks", "a zoom-out or a backward move"),
)


def _camera_is_known(facts: ClipFacts, *columns: str) -> bool:
    if not facts.known(*CAMERA_GATE, *columns) or facts.get("camera_class") == UNKNOWN:
        return False
    gates = (("fps", "fps"), ("duration_s", "camera_s"), ("camera_inlier_share_mean", "camera_inliers"))
    return all(facts.get(column) >= bound(name) for column, name in gates)


def _speed(facts: ClipFacts, column: str) -> float | None:
    """A camera column's value if it is a movement: large enough, and larger than its own spread over the clip."""
    spread = SPREADS[column]
    if not _camera_is_known(facts, column, spread):
        return None
    value = facts.get(column)
    return value if abs(value) >= max(bound(f"{CAMERA[column]}_moving"), facts.get(spread)) else None


def static_camera(facts: ClipFacts) -> Sentence | None:
    """Said when every measure of camera movement is known and small."""
    if not _camera_is_known(facts, *CAMERA):
        return None
    if any(abs(facts.get(column)) >= bound(f"{name}_still") for column, name in CAMERA.items()):
        return None
    return Sentence("The camera is static.", (*CAMERA, *CAMERA_GATE))


def camera_shift(facts: ClipFacts) -> Sentence | None:
    """Sideways and up or down, with the speed."""
    moves = {column: f"{verb} at {about(facts.get(column))}" for column, verb in _shifts(facts).items()}
    if not moves:
        return None
    text = f"The camera {listed(list(moves.values()))} of the frame height per second."
    return Sentence(text, _moving_columns(*moves))


def _moving_columns(*columns: str) -> tuple[str, ...]:
    return (*columns, *(SPREADS[column] for column in columns), *CAMERA_GATE)


def _shifts(facts: ClipFacts) -> dict[str, str]:
    """Column -> verb of each direction in which the camera moves."""
    speeds = {column: _speed(facts, column) for column in SHIFT_VERBS}
    return {column: SHIFT_VERBS[column][value < 0] for column, value in speeds.items() if value is not None}


def camera_zoom(facts: ClipFacts) -> Sentence | None:
    """The scene grows or shrinks in the frame, with the speed."""
    column = "camera_zoom_median"
    value = _speed(facts, column)
    if value is None:
        return None
    view, scene, cause = VIEW_VERBS[value < 0]
    text = f"The view {view}: the scene {scene} in the frame by {about(math.expm1(value))} per second, as in {cause}."
    return Sentence(text, _moving_columns(column))


def camera_roll(facts: ClipFacts) -> Sentence | None:
    """The camera turns about its axis, with the speed."""
    column = "camera_roll_median"
    value = _speed(facts, column)
    if value is None:
        return None
    rate = trimmed(abs(value), 1 if abs(value) < 10 else 0)
    degrees = "degree" if rate == "1" else "degrees"
    way = "anticlockwise" if value > 0 else "clockwise"  # the column is the turn of the picture
    return Sentence(f"The camera rolls {way} at about {rate} {degrees} per second.", _moving_columns(column))


def camera_shake(facts: ClipFacts) -> Sentence | None:
    """How much the camera's speed changes: by shaking, or by starting and stopping."""
    columns = ("camera_shake", *CAMERA_GATE)
    if not _camera_is_known(facts, *columns) or facts.get("camera_shake") < bound("shake_moving"):
        return None
    spread = about(facts.get("camera_shake"))
    return Sentence(f"The camera's speed varies by {spread} of the frame height per second.", columns)


def camera_phrase(facts: ClipFacts) -> Sentence | None:
    """What the camera does most, without speed, to follow a noun.

    A zoom is compared with a shift by how fast it moves the picture at the frame's upper and lower edge.
    """
    shifts, zoom = _shifts(facts), _speed(facts, "camera_zoom_median")
    shift_speed = max((abs(facts.get(column)) for column in shifts), default=0.0)
    if zoom is not None and abs(zoom) / 2 > shift_speed:
        return Sentence(f"in which the view {VIEW_VERBS[zoom < 0][0]}", _moving_columns("camera_zoom_median"))
    if shifts:
        return Sentence(f"in which the camera {listed(list(shifts.values()))}", _moving_columns(*shifts))
    static = static_camera(facts)
    return Sentence("with a static camera", static.columns) if static else None


def pace(facts: ClipFacts) -> Sentence | None:
    """How much moves, camera and subjects together."""
    columns = ("motion_speed_mean", "fps")
    if not facts.known(*columns) or facts.get("fps") < bound("fps"):
        return None
    speed = facts.get("motion_speed_mean")
    if speed < bound("motion_none"):
        return Sentence("The picture is almost still.", columns)
    word = "slow" if speed < bound("motion_medium") else "moderate" if speed < bound("motion_fast") else "fast"
    text = f"The pace is {word}: the picture content moves at {about(speed)} of the frame height per second on average."
    return Sentence(text, columns)


def freeze(facts: ClipFacts) -> Sentence | None:
    """Repeated frames, if there are enough to notice."""
    share = facts.get("freeze_share")
    if share is None or share < bound("freeze"):
        return None
    return Sentence(f"{part_of(share, 'frames')} repeat the frame before them.", ("freeze_share",))
