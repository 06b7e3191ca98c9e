# SPDX-License-Identifier: Apache-2.0
"""One function per kind of sentence: facts in, a sentence with its columns out, or None if they do not carry one.

Two limits of the measurements are worded in. A shift of the picture is a turn or a move of the camera, and a growing
picture is a zoom or a move: the picture alone does not tell which. Code values of HDR video are not brightness.
"""

from dataclasses import dataclass

from captioning.engines import ClipFacts
from captioning.wording import about, aspect, bound, listed, percent, quoted, seconds, trimmed

FRAME = ("width_px", "height_px", "pixel_aspect")
CAMERA_GATE = ("camera_inlier_share", "fps")
CAMERA_BOUNDS = {
    "camera_pan_per_s": "camera_shift", "camera_tilt_per_s": "camera_shift", "camera_zoom_per_s": "camera_zoom",
    "camera_roll_deg_per_s": "camera_roll", "camera_shake_per_s": "camera_shake",
}
SHIFT_VERBS = {
    "camera_pan_per_s": ("pans or tracks right", "pans or tracks left"),
    "camera_tilt_per_s": ("tilts up or rises", "tilts down or sinks"),
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, or a phrase of one, and the columns it was made from."""

    text: str
    columns: tuple[str, ...]


def title(facts: ClipFacts) -> Sentence | None:
    """What the source is called."""
    name = title_name(facts)
    return name and Sentence(f"The source is titled {name.text}.", name.columns)


def title_name(facts: ClipFacts) -> Sentence | None:
    """The source's title in quotation marks."""
    text = facts.get("title")
    return Sentence(quoted(text), ("title",)) if text and text.strip() else None


def tags(facts: ClipFacts) -> Sentence | None:
    """What the source is tagged with."""
    words = [quoted(tag) for tag in facts.get("tags") or () if tag and tag.strip()]
    return Sentence(f"The source is tagged {listed(words)}.", ("tags",)) if words else None


def orientation(facts: ClipFacts) -> Sentence | None:
    """`landscape`, `portrait` or `square`, as displayed."""
    if not facts.known(*FRAME):
        return None
    ratio = _ratio(facts)
    return Sentence("square" if aspect(ratio) == "1:1" else "landscape" if ratio > 1 else "portrait", FRAME)


def _ratio(facts: ClipFacts) -> float:
    return facts.get("width_px") * facts.get("pixel_aspect") / facts.get("height_px")


def frame(facts: ClipFacts) -> Sentence | None:
    """Orientation, size and aspect ratio of the frame."""
    shape = orientation(facts)
    if shape is None:
        return None
    width, height = facts.get("width_px"), facts.get("height_px")
    long_side = max(width, height)
    name = " (8K UHD)" if long_side >= 7680 else " (4K UHD)" if long_side >= 3840 else ""
    ratio = aspect(_ratio(facts))
    return Sentence(f"The frame is {shape.text}, {width} by {height} pixels{name}, with an aspect ratio of {ratio}.", FRAME)


def length(facts: ClipFacts) -> Sentence | None:
    """How long the clip is and how fast its frames come; None for a still."""
    if not facts.known("duration_s", "fps") or facts.get("duration_s") <= 0:
        return None
    lasts, rate = seconds(facts.get("duration_s")), trimmed(facts.get("fps"), 2)
    frames = "frame" if rate == "1" else "frames"
    return Sentence(f"The clip lasts {lasts} at {rate} {frames} per second.", ("duration_s", "fps"))


def _camera_is_measured(facts: ClipFacts, *columns: str) -> bool:
    if not facts.known(*CAMERA_GATE, *columns) or facts.get("fps") < bound("fps"):
        return False
    return facts.get("camera_inlier_share") >= bound("camera_inliers")


def _amount(facts: ClipFacts, column: str) -> float | None:
    """The value of a camera column if it is measured and reaches its bound."""
    if not _camera_is_measured(facts, column):
        return None
    value = facts.get(column)
    return value if abs(value) >= bound(CAMERA_BOUNDS[column]) else None


def static_camera(facts: ClipFacts) -> Sentence | None:
    """Said when every measure of camera movement is known and below its bound."""
    if not _camera_is_measured(facts, *CAMERA_BOUNDS):
        return None
    if any(_amount(facts, column) is not None for column in CAMERA_BOUNDS):
        return None
    return Sentence("The camera is static.", (*CAMERA_BOUNDS, *CAMERA_GATE))


def camera_shift(facts: ClipFacts) -> Sentence | None:
    """Sideways and up or down, with the speed."""
    amounts = {column: value for column in SHIFT_VERBS if (value := _amount(facts, column)) is not None}
    if not amounts:
        return None
    moves = [f"{SHIFT_VERBS[column][value < 0]} at {about(value)}" for column, value in amounts.items()]
    return Sentence(f"The camera {listed(moves)} of the frame height per second.", (*amounts, *CAMERA_GATE))


def camera_zoom(facts: ClipFacts) -> Sentence | None:
    """The scene grows or shrinks in the frame, with the speed."""
    column = "camera_zoom_per_s"
    value = _amount(facts, column)
    if value is None:
        return None
    view, scene, cause = (
        ("narrows", "grows", "a zoom-in or a forward move") if value > 0
        else ("widens", "shrinks", "a zoom-out or a backward move")
    )
    text = f"The view {view}: the scene {scene} in the frame by {about(value)} per second, as in {cause}."
    return Sentence(text, (column, *CAMERA_GATE))


def camera_roll(facts: ClipFacts) -> Sentence | None:
    """The camera turns about its axis, with the speed."""
    column = "camera_roll_deg_per_s"
    value = _amount(facts, column)
    if value is None:
        return None
    rate = trimmed(abs(value), 1 if abs(value) < 10 else 0)
    degrees = "degree" if rate == "1" else "degrees"
    way = "clockwise" if value > 0 else "anticlockwise"
    return Sentence(f"The camera rolls {way} at about {rate} {degrees} per second.", (column, *CAMERA_GATE))


def camera_shake(facts: ClipFacts) -> Sentence | None:
    """The framing is unsteady, with the spread of its speed."""
    column = "camera_shake_per_s"
    value = _amount(facts, column)
    if value is None:
        return None
    text = f"The framing is unsteady: its speed varies by {about(value)} of the frame height per second."
    return Sentence(text, (column, *CAMERA_GATE))


def pace(facts: ClipFacts) -> Sentence | None:
    """How much moves, camera and subjects together."""
    columns = ("motion_speed_per_s", "fps")
    if not facts.known(*columns) or facts.get("fps") < bound("fps"):
        return None
    speed = facts.get("motion_speed_per_s")
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
    return Sentence(f"{about(share).capitalize()} of the frames repeat the frame before them.", ("freeze_share",))


def brightness_word(facts: ClipFacts) -> Sentence | None:
    """`dark`, `bright`, or None in between and for HDR."""
    if not facts.known("luma_mean", "hdr") or facts.get("hdr") != "sdr":
        return None
    level = facts.get("luma_mean")
    word = "dark" if level < bound("dark") else "bright" if level >= bound("bright") else None
    return word and Sentence(word, ("luma_mean", "hdr"))


def brightness(facts: ClipFacts) -> Sentence | None:
    """Mean brightness; None for HDR."""
    if not facts.known("luma_mean", "hdr") or facts.get("hdr") != "sdr":
        return None
    word = brightness_word(facts)
    text = word.text if word else "of medium brightness"
    level = about(facts.get("luma_mean"))
    return Sentence(f"The picture is {text}, with a mean level of {level} of full scale.", ("luma_mean", "hdr"))


def contrast(facts: ClipFacts) -> Sentence | None:
    """Spread of brightness; None for HDR."""
    columns = ("luma_p05", "luma_p95", "hdr")
    if not facts.known(*columns) or facts.get("hdr") != "sdr":
        return None
    low, high = facts.get("luma_p05"), facts.get("luma_p95")
    spread = high - low
    word = "low" if spread < bound("contrast_low") else "high" if spread >= bound("contrast_high") else "moderate"
    span = f"nine tenths of the pixels lie between {percent(low)} and {percent(high)} of full scale"
    return Sentence(f"Contrast is {word}: {span}.", columns)


def clipping(facts: ClipFacts) -> Sentence | None:
    """Pixels at the ends of the scale, if there are enough to notice."""
    share = facts.get("exposure_clipped_share")
    if share is None or share < bound("clipped"):
        return None
    text = f"{about(share).capitalize()} of the pixels are clipped close to black or white."
    return Sentence(text, ("exposure_clipped_share",))


def grey_word(facts: ClipFacts) -> Sentence | None:
    """`black-and-white`, if no pixel to speak of has a colour."""
    variance = facts.get("grey_variance")
    is_grey = variance is not None and variance < bound("grey")
    return Sentence("black-and-white", ("grey_variance",)) if is_grey else None


def colour(facts: ClipFacts) -> Sentence | None:
    """Black and white, or how saturated the colours are."""
    grey = grey_word(facts)
    if grey is not None:
        return Sentence("The picture is black and white.", grey.columns)
    columns = ("saturation_mean", "grey_variance")
    if not facts.known(*columns):
        return None
    value = facts.get("saturation_mean")
    word = "muted" if value < bound("muted") else "vivid" if value >= bound("vivid") else "moderately saturated"
    return Sentence(f"The colours are {word}, with a mean saturation of {about(value)}.", columns)


def dynamic_range(facts: ClipFacts) -> Sentence | None:
    """Standard or high dynamic range, by the transfer tag."""
    names = {
        "sdr": "standard dynamic range", "pq": "high dynamic range (HDR, PQ)", "hlg": "high dynamic range (HDR, HLG)",
    }
    name = names.get(facts.get("hdr"))
    return Sentence(f"The video is in {name}.", ("hdr",)) if name else None


def detail(facts: ClipFacts) -> Sentence | None:
    """Much or little fine structure; None in between."""
    value = facts.get("sharpness_laplacian_1080")
    if value is None or bound("detail_low") <= value < bound("detail_high"):
        return None
    word = "little" if value < bound("detail_low") else "much"
    return Sentence(f"The picture shows {word} fine detail.", ("sharpness_laplacian_1080",))
