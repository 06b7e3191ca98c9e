# SPDX-License-Identifier: Apache-2.0
"""Which number earns which word, and how numbers are written in a sentence.

All bounds are ours. They are kept apart from the rules that select clips: a word describes, a rule decides.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """A value from which on a word is used, with the reason for it."""

    value: float
    unit: str
    reason: str


BOUNDS = {
    # Camera and motion. Tripod shots measured 0.000-0.003 heights/s of pan, tilt and shake on the 270-row proxy.
    "fps": Bound(8.0, "frames per second", "below it, neighbouring frames are too far apart for the flow"),
    "camera_s": Bound(1.0, "seconds", "four samples of the meter; from one or two, nothing looks like a spread"),
    "camera_inliers": Bound(0.6, "share", "with fewer, too much of the picture moves otherwise: no word on the camera"),
    "shift_still": Bound(0.01, "frame heights/s", "0.1 proxy pixel a frame at 30 fps: three times a tripod"),
    "shift_moving": Bound(0.02, "frame heights/s", "twice shift_still; in between nothing is said"),
    "zoom_still": Bound(0.02, "1/s", "shifts the frame's edge by shift_still"),
    "zoom_moving": Bound(0.04, "1/s", "shifts the frame's edge by shift_moving; a walk read -0.013, so less is noise"),
    "roll_still": Bound(1.0, "degrees/s", "shifts the frame's edge by about shift_still"),
    "roll_moving": Bound(2.0, "degrees/s", "as roll_still, twice; a pan of 0.4 heights/s read 1.5"),
    "shake_still": Bound(0.01, "frame heights/s", "as shift_still"),
    "shake_moving": Bound(0.05, "frame heights/s", "footage from a steady hand read 0.02-0.03"),
    "motion_none": Bound(0.01, "frame heights/s", "as shift_still"),
    "motion_medium": Bound(0.1, "frame heights/s", "ten seconds to cross the frame"),
    "motion_fast": Bound(0.5, "frame heights/s", "two seconds to cross the frame"),
    "freeze": Bound(0.05, "share", "one frame in twenty"),
    # Light, in full-range code values of SDR video.
    "dark": Bound(0.25, "of full scale", "an sRGB value of 0.25 is 5 % of linear light, two stops below mid-grey"),
    "bright": Bound(0.60, "of full scale", "an sRGB value of 0.60 is 32 % of linear light, a stop above mid-grey"),
    "contrast_low": Bound(0.35, "of full scale", "the 5th to 95th percentile leave two thirds of the scale unused"),
    "contrast_high": Bound(0.75, "of full scale", "the 5th to 95th percentile take three quarters of the scale"),
    "clipped": Bound(0.05, "share", "one pixel in twenty: more than highlights and deep shadows"),
    # Colour. Chroma and not HSV saturation: a nearly black picture read 50 % of saturation and 4 % of chroma.
    "grey": Bound(1.2, "8-bit levels squared", "UltraVideo's bound of a grey frame, for the frame of most colour"),
    "little_colour": Bound(0.06, "of full scale", "hazy and overcast footage read 0.04"),
    "strong_colour": Bound(0.18, "of full scale", "daylight footage read 0.07-0.15, cartoons and test charts 0.2-0.9"),
    # Variance of the Laplacian at 1080 rows. Grain counts as detail, so the sentence names it.
    "detail_low": Bound(30.0, "8-bit levels squared", "soft pictures; sharp UHD footage read 250 and 640"),
    "detail_high": Bound(400.0, "8-bit levels squared", "sharp UHD footage read 250 and 640"),
}

ASPECTS = {
    "16:9": 16 / 9,
    "4:3": 4 / 3,
    "3:2": 3 / 2,
    "5:4": 5 / 4,
    "2:1": 2.0,
    "1.85:1": 1.85,
    "17:9": 256 / 135,
    "21:9": 64 / 27,
    "2.39:1": 2.39,
}
ASPECT_TOLERANCE = 0.01  # 1920x1088 still counts as 16:9


def bound(name: str) -> float:
    """The value of a bound of `BOUNDS`."""
    return BOUNDS[name].value


def percent(share: float) -> str:
    """A share in per cent with two digits that mean something: `12%`, `3.4%`, `less than 1%`."""
    value = abs(share) * 100
    if value < 1:
        return "less than 1%"
    return f"{value:.0f}%" if value >= 9.95 else f"{trimmed(value, 1)}%"


def about(share: float) -> str:
    """`about 12%`, or `less than 1%`."""
    text = percent(share)
    return text if text.startswith("less") else f"about {text}"


def part_of(share: float, things: str) -> str:
    """`About 12% of the frames`, `Nearly all of the frames`, `All of the frames`: begins a sentence."""
    amount = "all" if share >= 1 else "nearly all" if share >= 0.995 else about(share)
    return f"{amount.capitalize()} of the {things}"


def trimmed(value: float, digits: int) -> str:
    """A decimal number without trailing zeros: 30.0 -> `30`, 29.97003 -> `29.97`."""
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"


def seconds(duration_s: float) -> str:
    """`4 seconds`, `4.3 seconds`, `1 second`; hundredths below one second."""
    text = trimmed(duration_s, 1 if duration_s >= 0.95 else 2)
    return f"{text} second" if text == "1" else f"{text} seconds"


def aspect(ratio: float) -> str:
    """Width over height in the usual names: `16:9`, `9:16`, `1:1`, or `about 1.53:1`."""
    wide = max(ratio, 1 / ratio)
    if wide <= 1 + ASPECT_TOLERANCE:
        return "1:1"
    name = min(ASPECTS, key=lambda n: abs(ASPECTS[n] / wide - 1))
    exact = abs(ASPECTS[name] / wide - 1) <= ASPECT_TOLERANCE
    width, height = (name if exact else f"{trimmed(wide, 2)}:1").split(":")
    text = f"{width}:{height}" if ratio >= 1 else f"{height}:{width}"
    return text if exact else f"about {text}"


def listed(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def quoted(text: str) -> str:
    """Text of somebody else in quotation marks, on one line."""
    return f"“{' '.join(text.split())}”"
