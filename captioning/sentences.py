# SPDX-License-Identifier: Apache-2.0
"""One function per kind of sentence: facts in, a sentence with its columns out, or None if they do not carry one.

Levels and colours are code values; those of HDR video are neither brightness nor colour, so nothing is said of them.
"""

from dataclasses import dataclass

from captioning.engines import ClipFacts
from captioning.wording import about, aspect, bound, listed, part_of, quoted, seconds, trimmed

FRAME = ("width_px", "height_px", "pixel_aspect")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, or a phrase of one, and the columns it was made from."""

    text: str
    columns: tuple[str, ...]


def title(facts: ClipFacts) -> Sentence | None:
    """What the source is called."""
    name = title_name(facts)
    return Sentence(f"The source is titled {name.text}.", name.columns) if name else None


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
    size = f"{width} by {height} pixels{name}"
    return Sentence(f"The frame is {shape.text}, {size}, with an aspect ratio of {ratio}.", FRAME)


def length(facts: ClipFacts) -> Sentence | None:
    """How long the clip is and how fast its frames come; None for a still."""
    if not facts.known("duration_s", "fps") or facts.get("duration_s") <= 0:
        return None
    lasts, rate = seconds(facts.get("duration_s")), trimmed(facts.get("fps"), 2)
    frames = "frame" if rate == "1" else "frames"
    return Sentence(f"The clip lasts {lasts} at {rate} {frames} per second.", ("duration_s", "fps"))


def length_phrase(facts: ClipFacts) -> Sentence | None:
    """`of 4 seconds`; None for a still."""
    duration_s = facts.get("duration_s")
    return Sentence(f"of {seconds(duration_s)}", ("duration_s",)) if duration_s else None


def noun(facts: ClipFacts) -> Sentence | None:
    """`clip` or `still image`."""
    nouns = {"video": "clip", "image": "still image"}
    return Sentence(nouns[facts.get("media")], ("media",)) if facts.known("media") else None


def brightness_word(facts: ClipFacts) -> Sentence | None:
    """`dark`, `bright`, or None in between and for HDR."""
    if not facts.known("exposure_luma_mean", "hdr") or facts.get("hdr") != "sdr":
        return None
    level = facts.get("exposure_luma_mean")
    word = "dark" if level < bound("dark") else "bright" if level >= bound("bright") else None
    return Sentence(word, ("exposure_luma_mean", "hdr")) if word else None


def brightness(facts: ClipFacts) -> Sentence | None:
    """Mean brightness; None for HDR."""
    if not facts.known("exposure_luma_mean", "hdr") or facts.get("hdr") != "sdr":
        return None
    word = brightness_word(facts)
    look = word.text if word else "of medium brightness"
    level = about(facts.get("exposure_luma_mean"))
    text = f"The picture is {look}, with a mean level of {level} of full scale."
    return Sentence(text, ("exposure_luma_mean", "hdr"))


def contrast(facts: ClipFacts) -> Sentence | None:
    """Spread of brightness; None for HDR."""
    columns = ("color_luma_p05_mean", "color_luma_p95_mean", "hdr")
    if not facts.known(*columns) or facts.get("hdr") != "sdr":
        return None
    low, high = facts.get("color_luma_p05_mean"), facts.get("color_luma_p95_mean")
    spread = high - low
    word = "low" if spread < bound("contrast_low") else "high" if spread >= bound("contrast_high") else "moderate"
    span = f"on average nine tenths of the pixels lie between {low:.0%} and {high:.0%} of full scale"
    return Sentence(f"Contrast is {word}: {span}.", columns)


def clipped_white(facts: ClipFacts) -> Sentence | None:
    """Pixels at the upper end of the scale, if there are enough to notice."""
    return _clipped(facts, "exposure_bright_share_mean", "white")


def clipped_black(facts: ClipFacts) -> Sentence | None:
    """Pixels at the lower end of the scale, if there are enough to notice."""
    return _clipped(facts, "exposure_dark_share_mean", "black")


def _clipped(facts: ClipFacts, column: str, end: str) -> Sentence | None:
    share = facts.get(column)
    if share is None or share < bound("clipped"):
        return None
    return Sentence(f"{part_of(share, 'pixels')} are {end} or nearly {end}.", (column,))


def grey_word(facts: ClipFacts) -> Sentence | None:
    """`black-and-white`, if no pixel to speak of has a colour."""
    variance = facts.get("grey_variance_max")
    is_grey = variance is not None and variance < bound("grey")
    return Sentence("black-and-white", ("grey_variance_max",)) if is_grey else None


def colour(facts: ClipFacts) -> Sentence | None:
    """Black and white, or how much colour there is; None for HDR in colour."""
    grey = grey_word(facts)
    if grey is not None:
        return Sentence("The picture is black and white.", grey.columns)
    columns = ("color_chroma_mean", "grey_variance_max", "hdr")
    if not facts.known(*columns) or facts.get("hdr") != "sdr":
        return None
    value = facts.get("color_chroma_mean")
    word = "little" if value < bound("little_colour") else "strong" if value >= bound("strong_colour") else "moderate"
    return Sentence(f"The picture has {word} colour, with a mean chroma of {about(value)} of full scale.", columns)


def dynamic_range(facts: ClipFacts) -> Sentence | None:
    """Standard or high dynamic range, by the transfer tag."""
    names = {
        "sdr": "standard dynamic range",
        "pq": "high dynamic range (HDR, PQ)",
        "hlg": "high dynamic range (HDR, HLG)",
    }
    name = names.get(facts.get("hdr"))
    return Sentence(f"The picture is in {name}.", ("hdr",)) if name else None


def detail(facts: ClipFacts) -> Sentence | None:
    """Much or little fine structure; None in between."""
    value = facts.get("sharpness_laplacian_1080_median")
    if value is None or bound("detail_low") <= value < bound("detail_high"):
        return None
    amount = "little fine detail" if value < bound("detail_low") else "much fine detail or grain"
    return Sentence(f"The picture shows {amount}.", ("sharpness_laplacian_1080_median",))
