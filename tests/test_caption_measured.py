# SPDX-License-Identifier: Apache-2.0
"""Captions made of measurements: every sentence from its columns and from nothing else."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.camera_sentences import CAMERA, SPREADS
from captioning.engines import CaptionResult, ClipFacts
from captioning.measured import PARTS, MeasuredEngine
from captioning.wording import BOUNDS, about, aspect, listed, part_of, seconds, trimmed
from reelmill.tables import CAPTION_TEXTS

ENGINE = MeasuredEngine()
NOTHING = dict.fromkeys(column.name for column in ENGINE.reads)
TRIPOD = NOTHING | {
    "media": "video",
    "width_px": 3840,
    "height_px": 2160,
    "pixel_aspect": 1.0,
    "duration_s": 4.0,
    "fps": 29.97003,
    "hdr": "sdr",
    "camera_class": "static",
    "camera_pan_median": 0.001,
    "camera_tilt_median": -0.0003,
    "camera_zoom_median": 0.0,
    "camera_roll_median": 0.05,
    "camera_shake": 0.002,
    "camera_pan_spread": 0.001,
    "camera_tilt_spread": 0.001,
    "camera_zoom_spread": 0.001,
    "camera_roll_spread": 0.1,
    "camera_inlier_share_mean": 0.93,
    "motion_speed_mean": 0.04,
    "freeze_share": 0.0,
    "exposure_luma_mean": 0.71,
    "color_luma_p05_mean": 0.13,
    "color_luma_p95_mean": 0.96,
    "exposure_bright_share_mean": 0.062,
    "exposure_dark_share_mean": 0.004,
    "color_chroma_mean": 0.12,
    "grey_variance_max": 300.0,
    "sharpness_laplacian_1080_median": 640.0,
}

# Values on both sides of every bound, and two in each range to change the number as well.
VALUES: dict[str, list] = {
    "title": ["Harbour at dawn", "12 boats\n in a row", " "],
    "tags": [["sea"], ["sea", "boats", "2024"], []],
    "media": ["video", "image"],
    "width_px": [640, 2160, 3840, 7680],
    "height_px": [360, 2160, 3840, 4320],
    "pixel_aspect": [1.0, 16 / 11],
    "duration_s": [0.0, 0.5, 4.0, 12.34],
    "fps": [1.0, 23.976, 59.94],
    "hdr": ["sdr", "pq", "hlg"],
    "camera_class": ["unknown", "static", "pan_right"],
    "camera_pan_median": [0.001, 0.015, 0.12, -0.3],
    "camera_tilt_median": [-0.001, 0.05, -0.2],
    "camera_zoom_median": [0.0, 0.08, -0.15],
    "camera_roll_median": [0.1, 3.2, -12.0],
    "camera_shake": [0.002, 0.03, 0.08],
    **{spread: [0.0, 0.5, 50.0] for spread in SPREADS.values()},
    "camera_inlier_share_mean": [0.3, 0.9],
    "motion_speed_mean": [0.002, 0.04, 0.2, 0.9],
    "freeze_share": [0.0, 0.4, 1.0],
    "exposure_luma_mean": [0.003, 0.1, 0.45, 0.8],
    "color_luma_p05_mean": [0.0, 0.1, 0.4],
    "color_luma_p95_mean": [0.5, 0.7, 1.0],
    "exposure_bright_share_mean": [0.01, 0.2],
    "exposure_dark_share_mean": [0.01, 0.3],
    "color_chroma_mean": [0.005, 0.1, 0.4],
    "grey_variance_max": [0.2, 300.0],
    "sharpness_laplacian_1080_median": [10.0, 100.0, 900.0],
}
FAR = {"width_px": [10, 100_000], "height_px": [10, 100_000], "pixel_aspect": [0.001, 1000.0]}  # turns any frame
NUMBER = r"\d+(?:\.\d+)?"
RATIO = rf"({NUMBER}):({NUMBER})"
any_facts = st.fixed_dictionaries({name: st.sampled_from([None, *values]) for name, values in VALUES.items()})


def texts_of(result: CaptionResult) -> dict[str, str | None]:
    assert result.texts is not None
    return result.texts.by_column()


def caption(facts: dict) -> CaptionResult:
    return ENGINE.caption(ClipFacts(facts))


def text(facts: dict, field: str) -> str | None:
    return texts_of(caption(facts))[field]


def sentences(facts: dict, field: str) -> list[str]:
    return [evidence.sentence for evidence in caption(facts).evidence if evidence.field == field]


def test_the_values_cover_what_the_engine_reads():
    assert set(VALUES) == set(NOTHING)


def test_nothing_known_nothing_said():
    result = caption(NOTHING)
    assert set(texts_of(result).values()) == {None}
    assert result.evidence == ()
    assert result.grounding == "measured"
    assert result.status == "ok"


def test_a_tripod_shot_in_full():
    assert texts_of(caption(TRIPOD | {"title": "Harbour at dawn", "tags": ["sea", "fishing boats"]})) == {
        "Brief Description": "“Harbour at dawn”: a bright landscape clip of 4 seconds with a static camera.",
        "Detailed Description": "The source is titled “Harbour at dawn”. "
        "The source is tagged “sea” and “fishing boats”.",
        "Background": None,
        "Theme Description": "The source is tagged “sea” and “fishing boats”.",
        "Style": "The picture has moderate colour, with a mean chroma of about 12% of full scale. The picture is in "
        "standard dynamic range. The picture shows much fine detail or grain.",
        "Shot Type": "The frame is landscape, 3840 by 2160 pixels (4K UHD), with an aspect ratio of 16:9. The clip "
        "lasts 4 seconds at 29.97 frames per second.",
        "Camera Movement": "The camera is static.",
        "Lighting": "The picture is bright, with a mean level of about 71% of full scale. Contrast is high: on average "
        "nine tenths of the pixels lie between 13% and 96% of full scale. About 6.2% of the pixels are "
        "white or nearly white.",
        "Video Atmosphere": "The pace is slow: the picture content moves at about 4% of the frame height per second on "
        "average.",
        "Summarized Description": text(
            TRIPOD | {"title": "Harbour at dawn", "tags": ["sea", "fishing boats"]}, "Summarized Description"
        ),
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"camera_pan_median": 0.12}, "The camera pans or tracks right at about 12% of the frame height per second."),
        ({"camera_pan_median": -0.021}, "The camera pans or tracks left at about 2.1% of the frame height per second."),
        ({"camera_tilt_median": 0.05}, "The camera tilts up or rises at about 5% of the frame height per second."),
        (
            {"camera_pan_median": -1.2, "camera_tilt_median": -0.05},
            "The camera pans or tracks left at about 120% and tilts down or sinks at about 5% of the frame height per "
            "second.",
        ),
        (
            {"camera_zoom_median": 0.08},
            "The view narrows: the scene grows in the frame by about 8.3% per second, "
            "as in a zoom-in or a forward move.",
        ),
        (
            {"camera_zoom_median": -0.11},
            "The view widens: the scene shrinks in the frame by about 10% per second, "
            "as in a zoom-out or a backward move.",
        ),
        # The picture turns clockwise when the camera rolls the other way.
        ({"camera_roll_median": 4.0}, "The camera rolls anticlockwise at about 4 degrees per second."),
        ({"camera_roll_median": -12.4}, "The camera rolls clockwise at about 12 degrees per second."),
        ({"camera_shake": 0.08}, "The camera's speed varies by about 8% of the frame height per second."),
        ({}, "The camera is static."),
        ({"camera_pan_median": 0.015}, None),  # neither still nor surely moving
        ({"camera_pan_median": 0.12, "camera_pan_spread": 0.2}, None),  # no steady direction
        ({"camera_inlier_share_mean": 0.4}, None),
        ({"camera_inlier_share_mean": None}, None),
        ({"fps": 1.0}, None),
        ({"duration_s": 0.3}, None),
        ({"camera_roll_median": None}, None),  # then not known to be static
    ],
)
def test_camera_words(changes, said):
    assert text(TRIPOD | changes, "Camera Movement") == said


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"exposure_luma_mean": 0.1, "hdr": "pq"}, "Lighting", "About 6.2% of the pixels are white or nearly white."),
        (
            {"grey_variance_max": 0.3, "hdr": "hlg"},
            "Style",
            "The picture is black and white. The picture is in high dynamic range (HDR, HLG). "
            "The picture shows much fine detail or grain.",
        ),
        (
            {"width_px": 1080, "height_px": 1920},
            "Shot Type",
            "The frame is portrait, 1080 by 1920 pixels, with an aspect ratio of 9:16. "
            "The clip lasts 4 seconds at 29.97 frames per second.",
        ),
        (
            {"width_px": 1440, "height_px": 1080, "pixel_aspect": 4 / 3, "fps": None},
            "Shot Type",
            "The frame is landscape, 1440 by 1080 pixels, with an aspect ratio of 16:9.",
        ),
        (
            {"freeze_share": 0.42, "motion_speed_mean": 0.001},
            "Video Atmosphere",
            "The picture is almost still. About 42% of the frames repeat the frame before them.",
        ),
        ({"media": "image", "duration_s": 0.0, "fps": None}, "Brief Description", "A bright landscape still image."),
        (
            {"exposure_luma_mean": 0.1, "grey_variance_max": 0.0, "camera_pan_median": 0.2},
            "Brief Description",
            "A dark, black-and-white landscape clip of 4 seconds in which the camera pans or tracks right.",
        ),
        (
            {"camera_zoom_median": -0.1},
            "Brief Description",
            "A bright landscape clip of 4 seconds in which the view widens.",
        ),
    ],
)
def test_other_words(changes, field, said):
    assert text(TRIPOD | changes, field) == said


@settings(max_examples=60, deadline=None)
@given(any_facts)
def test_texts_are_their_sentences_and_the_summary_adds_none(facts):
    result = caption(facts)
    for field, said in texts_of(result).items():
        assert said == (" ".join(sentences(facts, field)) or None)
        assert said is None or ((said[0].isupper() or said[0] == "“") and said.endswith(".") and "  " not in said)
    others = {said for field in PARTS for said in sentences(facts, field)}
    assert set(sentences(facts, "Summarized Description")) == others
    assert texts_of(result)["Background"] is None
    assert "about 0" not in " ".join(e.sentence.lower() for e in result.evidence)


@settings(max_examples=60, deadline=None)
@given(any_facts)
def test_each_sentence_needs_only_its_columns(facts):
    for evidence in caption(facts).evidence:
        only = NOTHING | {name: facts[name] for name in evidence.columns}
        assert evidence.sentence in sentences(only, evidence.field)


@settings(max_examples=60, deadline=None)
@given(any_facts)
def test_each_sentence_changes_with_each_of_its_columns(facts):
    for evidence in caption(facts).evidence:
        for column in evidence.columns:
            others = [value for value in (*VALUES[column], *FAR.get(column, ())) if value != facts[column]]
            changed = [sentences(facts | {column: value}, evidence.field) for value in others]
            place = (evidence.sentence, column)
            assert any(evidence.sentence not in said for said in changed), place
            assert evidence.sentence not in sentences(facts | {column: None}, evidence.field), place


@settings(max_examples=100, deadline=None)
@given(any_facts)
def test_no_number_but_those_of_the_columns(facts):
    for evidence in caption(facts).evidence:
        plain = re.sub(r"“[^”]*”|\([48]K UHD\)", "", evidence.sentence)
        known = [facts[name] for name in evidence.columns if isinstance(facts[name], int | float)]
        for width, height in re.findall(RATIO, plain):
            shown = facts["width_px"] * facts["pixel_aspect"] / facts["height_px"]
            assert float(width) / float(height) == pytest.approx(shown, rel=0.011)
        plain = re.sub(RATIO, "", plain)
        if "less than 1%" in plain:
            assert any(abs(value) < 0.01 for value in known)
            plain = plain.replace("less than 1%", "")
        for number in re.findall(NUMBER, plain):
            wanted = [w for v in known for w in (abs(v), 100 * abs(v), 100 * abs(math.expm1(min(v, 1))))]
            assert any(float(number) == pytest.approx(w, abs=0.5, rel=0.01) for w in wanted), (number, evidence)


def test_every_column_read_is_used_by_some_sentence():
    used = set()
    for changes in (
        {},
        {
            "camera_pan_median": 0.1,
            "camera_tilt_median": 0.1,
            "camera_zoom_median": 0.1,
            "camera_roll_median": 5.0,
            "exposure_dark_share_mean": 0.3,
            "freeze_share": 0.5,
            "title": "a",
            "tags": ["b"],
        },
    ):
        used |= {column for evidence in caption(TRIPOD | changes).evidence for column in evidence.columns}
    assert used == set(NOTHING)


@pytest.mark.parametrize("camera_class", ["unknown", None])
def test_no_word_of_a_camera_whose_class_is_unknown(camera_class):
    """Whatever its other columns say: they may come from the few pairs at which it was known."""
    for changes in ({}, {"camera_pan_median": 0.12}, {"camera_zoom_median": 0.1}, {"camera_shake": 0.08}):
        said = texts_of(caption(TRIPOD | changes | {"camera_class": camera_class}))
        assert said["Camera Movement"] is None
        assert not re.search("camera|view", f"{said['Summarized Description']} {said['Brief Description']}")


def test_the_camera_columns_have_their_bounds():
    for name in CAMERA.values():
        assert BOUNDS[f"{name}_still"].value < BOUNDS[f"{name}_moving"].value
    assert all(bound.reason and bound.unit for bound in BOUNDS.values())
    assert ENGINE.parameters["fps"] == BOUNDS["fps"].value


def test_numbers_are_written_as_people_write_them():
    assert [about(share) for share in (0.0, 0.0099, 0.01, 0.0341, 0.0996, 0.124, 1.2)] == [
        "less than 1%",
        "less than 1%",
        "about 1%",
        "about 3.4%",
        "about 10%",
        "about 12%",
        "about 120%",
    ]
    assert [part_of(share, "frames") for share in (0.42, 0.996, 1.0)] == [
        "About 42% of the frames",
        "Nearly all of the frames",
        "All of the frames",
    ]
    assert [seconds(value) for value in (4.0, 4.26, 1.0, 0.5, 0.04, 61.98)] == [
        "4 seconds",
        "4.3 seconds",
        "1 second",
        "0.5 seconds",
        "0.04 seconds",
        "62 seconds",
    ]
    assert [trimmed(value, 2) for value in (30.0, 29.97003, 23.976, 10.0)] == ["30", "29.97", "23.98", "10"]
    assert [listed(list(words)) for words in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


def test_aspect_ratios_have_their_usual_names():
    sizes = ((3840, 2160), (1920, 1088), (2160, 3840), (640, 480), (1000, 1000), (4096, 1716))
    assert [aspect(width / height) for width, height in sizes] == ["16:9", "16:9", "9:16", "4:3", "1:1", "2.39:1"]
    assert aspect(1.6) == "about 1.6:1"
    assert aspect(362 / 640) == "9:16"
    assert aspect(1 / 1.6) == "about 1:1.6"


def test_the_order_of_the_texts_is_that_of_the_table():
    assert tuple(texts_of(caption(TRIPOD))) == CAPTION_TEXTS
