# SPDX-License-Identifier: Apache-2.0
"""The views of a frame: sizes, orientation, levels, and TINY against PySceneDetect itself."""

from pathlib import Path

import numpy as np
import pytest

from operators.contract import View
from operators.planes import averaged, turned
from operators.video import open_segment
from operators.views import yuv_to_bgr
from reelmill.spans import tone_map
from tests.videos import numbered, read_number, texture, write_video


def first_frame(path: Path):
    with open_segment(str(path)) as segment:
        return next(iter(segment)), segment.info


SIZES = [
    (144, 256, (144, 256), (270, 480)),
    (360, 640, (144, 256), (270, 480)),
    (180, 320, (144, 256), (270, 480)),
    (640, 362, (453, 256), (270, 153)),
    (1080, 1920, (144, 256), (270, 480)),
    (90, 160, (90, 160), (270, 480)),
]
FORMATS = ("yuv420p", "yuv422p10le", "yuv444p")


@pytest.mark.parametrize(
    ("height", "width", "tiny", "proxy", "pix_fmt"),
    [
        *((*size, pix_fmt) for size in SIZES for pix_fmt in FORMATS),
        (91, 161, (91, 161), (270, 478), "yuv444p"),
    ],
)
def test_sizes_and_content(
    tmp_path: Path, height: int, width: int, tiny: tuple[int, int], proxy: tuple[int, int], pix_fmt: str
) -> None:
    path = write_video(tmp_path / "v.mp4", numbered(texture(1, height, width), start=1234), pix_fmt=pix_fmt)
    frame, info = first_frame(path)
    assert (info.height_px, info.width_px) == (height, width)
    shapes = {
        View.TINY: (*tiny, 3),
        View.PROXY: proxy,
        View.LUMA: (height, width),
        View.COLOR: (*proxy, 3),
        View.PIXELS: (height, width, 3),
    }
    for view, shape in shapes.items():
        array = frame.view(view)
        assert array.shape == shape, view
        assert array.dtype == (np.uint16 if view == View.LUMA and "10" in pix_fmt else np.uint8)
        assert read_number(array) == 1234, view
        assert frame.view(view) is array
    assert info.bit_depth == (10 if "10" in pix_fmt else 8)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_all_views_stand_upright(tmp_path: Path, degrees: int) -> None:
    coded_THWC = np.rot90(numbered(texture(1, 320, 180), start=99), degrees // 90, axes=(1, 2))
    frame, info = first_frame(write_video(tmp_path / "v.mp4", coded_THWC, rotation=degrees))
    assert (info.height_px, info.width_px) == (320, 180)
    assert frame.view(View.TINY).shape == (320, 180, 3)
    assert frame.view(View.PROXY).shape == (270, 152)
    for view in View:
        assert read_number(frame.view(view)) == 99, view


@pytest.mark.parametrize(
    ("color", "pix_fmt"),
    [
        ("bt709", "yuv420p"),
        ("bt709-full", "yuv420p"),
        ("bt709", "yuv420p10le"),
    ],
)
@pytest.mark.parametrize("level", [0, 60, 128, 255])
def test_levels_are_full_range(tmp_path: Path, color: str, pix_fmt: str, level: int) -> None:
    frames_THWC = np.full((1, 144, 256, 3), level, np.uint8)
    path = write_video(tmp_path / "v.mp4", frames_THWC, color=color, pix_fmt=pix_fmt, options={"qp": "1"})
    frame, info = first_frame(path)
    assert info.is_full_range == (color == "bt709-full")
    for view in (View.TINY, View.PROXY, View.COLOR, View.PIXELS):
        assert np.abs(frame.view(view).astype(int) - level).max() <= 2, view
    coded = level if info.is_full_range else 16 + level * 219 / 255
    assert abs(float(frame.view(View.LUMA).mean()) / (4 if "10" in pix_fmt else 1) - coded) <= 1.5


def test_colours_of_tiny_and_color_agree_with_the_source(tmp_path: Path) -> None:
    frames_THWC = np.zeros((1, 144, 256, 3), np.uint8) + np.array([200, 60, 20], np.uint8)
    frame, _ = first_frame(write_video(tmp_path / "v.mp4", frames_THWC, color="bt709", options={"qp": "1"}))
    for view in (View.TINY, View.COLOR):
        assert np.abs(frame.view(view)[70, 100].astype(int) - [20, 60, 200]).max() <= 3, view


def test_luma_is_the_plane_itself(tmp_path: Path) -> None:
    frame, _ = first_frame(write_video(tmp_path / "v.mp4", texture(1, 144, 256)))
    assert not frame.view(View.LUMA).flags.owndata


def test_proxy_of_large_frames_is_the_area_mean(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", texture(1, 2160, 3840), color="bt709-full")
    frame, _ = first_frame(path)
    exact = frame.view(View.LUMA).reshape(270, 8, 480, 8)[:, ::2].mean(axis=(1, 3))
    difference = frame.view(View.PROXY) - exact
    assert np.abs(difference).max() <= 0.5 + 1e-6
    assert abs(difference.mean()) <= 0.05


def smooth_picture(height: int, width: int) -> np.ndarray:
    """uint8 [H, W] without detail finer than about 1/20 of the height."""
    import cv2

    coarse = np.random.default_rng(3).uniform(10, 245, (12, 20)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (2160, 3840, (480, 270)),
        (1607, 3841, (645, 270)),
        (2160, 3840, (270, 152)),
        (720, 1280, (480, 270)),
        (271, 481, (480, 270)),
        (100, 90, (243, 270)),
        (1, 1, (270, 270)),
        (9, 3000, (600, 270)),
    ],
)
def test_averaging_keeps_the_picture_in_place_at_any_size_and_depth(
    height: int, width: int, size: tuple[int, int]
) -> None:
    import cv2

    plane = smooth_picture(height, width)
    found = averaged(plane, size)
    shrinks = width >= size[0] and height >= size[1]
    expected = cv2.resize(plane, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    assert found.shape == size[::-1]
    assert np.abs(found.astype(int) - expected).max() <= 5
    assert abs((found.astype(int) - expected).mean()) <= 0.2
    deep = averaged(plane.astype(np.uint16) * 4 + 1, size)
    assert np.abs((deep.astype(int) - 1) / 4 - found).max() <= 1.5  # each is rounded twice


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_averages_are_means_of_four_rows_of_each_block_and_padding_is_not_read(factor: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (30 * factor + 1, 40 * factor + 64)).astype(dtype)
    plane = noise[:, : 40 * factor + 1]
    found = averaged(plane, (40, 30))
    blocks = plane[:-1, :-1].reshape(30, factor, 40, factor)
    exact = blocks[:, :: max(1, factor // 4)].mean(axis=(1, 3))
    assert found.dtype == dtype
    assert np.abs(found - exact).max() <= 0.5 + 1e-6
    noise[:, 40 * factor + 1 :] = 0
    np.testing.assert_array_equal(averaged(plane, (40, 30)), found)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turning_is_clockwise(degrees: int) -> None:
    array = np.random.default_rng(0).integers(0, 1024, (7, 12)).astype(np.uint16)
    np.testing.assert_array_equal(turned(array, degrees), np.rot90(array, -degrees // 90))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p", "yuv411p"])
@pytest.mark.parametrize("color", ["bt709", "bt601", "bt709-full"])
def test_color_is_the_rgb_picture_scaled_down(tmp_path: Path, pix_fmt: str, color: str) -> None:
    import cv2

    codec, suffix = ("ffv1", "mkv") if pix_fmt == "yuv411p" else ("libx264", "mp4")
    options = {} if codec == "ffv1" else {"qp": "4"}
    picture = (cv2.GaussianBlur(texture(1, 1080, 1920)[0], (0, 0), 4)[None] * 0.5 + 64).astype(np.uint8)
    frame, _ = first_frame(
        write_video(tmp_path / f"v.{suffix}", picture, codec=codec, pix_fmt=pix_fmt, color=color, options=options)
    )
    exact = cv2.resize(frame.view(View.PIXELS), (480, 270), interpolation=cv2.INTER_AREA)[:, :, ::-1]
    difference = frame.view(View.COLOR).astype(int) - exact
    assert np.abs(difference).max() <= 6
    assert np.abs(difference.mean(axis=(0, 1))).max() <= 0.8


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p10le", "yuv444p10le"])
def test_hdr_colours_are_right_at_every_subsampling(tmp_path: Path, pix_fmt: str) -> None:
    ramp = np.broadcast_to(np.linspace(40, 200, 256), (144, 256))
    picture = np.stack([ramp, ramp[:, ::-1], 0.5 * ramp + 60], axis=-1).astype(np.uint8)
    path = write_video(tmp_path / "v.mkv", picture[None], codec="ffv1", pix_fmt=pix_fmt, color="pq", options={})
    frame, info = first_frame(path)
    assert info.hdr == "pq"
    expected = tone_map(picture.astype(np.uint16) * 257, 16).astype(float)
    assert np.abs(frame.view(View.PIXELS) - expected).mean() <= 2
    np.testing.assert_allclose(frame.view(View.COLOR).mean(axis=(0, 1))[::-1], expected.mean(axis=(0, 1)), atol=1.5)


def test_hdr_luma_stays_raw_and_colour_is_tone_mapped(tmp_path: Path) -> None:
    frames_THWC = np.full((4, 144, 256, 3), 128, np.uint8)
    path = write_video(tmp_path / "v.mp4", frames_THWC, codec="libx265", pix_fmt="yuv420p10le", color="pq")
    frame, info = first_frame(path)
    assert info.hdr == "pq"
    assert abs(float(frame.view(View.PROXY).mean()) - 128) <= 2
    assert abs(float(frame.view(View.TINY).mean()) - 128) <= 2
    mapped = tone_map(np.full((1, 1, 3), 128 * 257, np.uint16), 16)[0, 0, 0]
    for view in (View.COLOR, View.PIXELS):
        assert abs(float(frame.view(view).mean()) - mapped) <= 2, view


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("ffv1", "bgr0", "mkv"),
        ("ffv1", "gray", "mkv"),
        ("ffv1", "gray10le", "mkv"),
        ("ffv1", "yuv411p", "mkv"),
        ("ffv1", "yuva420p", "mkv"),
        ("png", "rgba", "mov"),
        ("prores_ks", "yuva444p10le", "mov"),
    ],
)
def test_unusual_pixel_formats(tmp_path: Path, codec: str, pix_fmt: str, suffix: str) -> None:
    path = write_video(tmp_path / f"v.{suffix}", numbered(texture(1, 144, 256), start=5), codec=codec, pix_fmt=pix_fmt)
    frame, _ = first_frame(path)
    for view in View:
        assert read_number(frame.view(view)) == 5, view


def test_yuv_to_bgr_hand_worked() -> None:
    # BT.709 limited: Y 235 is white, Y 16 black; full-range BT.601 red is (76, 85, 255) by JFIF.
    assert np.allclose(yuv_to_bgr(1, False) @ [235, 128, 128, 1], 255, atol=0.01)
    assert np.allclose(yuv_to_bgr(1, False) @ [16, 128, 128, 1], 0, atol=0.01)
    assert np.allclose(yuv_to_bgr(5, True) @ [76.245, 84.97, 255.5, 1], [0, 0, 255], atol=0.1)


def content_scores(images) -> np.ndarray:
    """PySceneDetect's own content score of each image against the one before it."""
    from scenedetect import FrameTimecode
    from scenedetect.detectors import ContentDetector

    detector = ContentDetector()
    return np.array([detector._calculate_frame_score(FrameTimecode(i, 24.0), image) for i, image in enumerate(images)])


@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("dj_video1.mp4", [144, 237]),
        ("dj_video2.mp4", []),
        ("dj_video3.mp4", [103]),
    ],
)
def test_tiny_gives_pyscenedetects_cuts(shared_clip, name: str, cuts: list[int]) -> None:
    from scenedetect import FrameTimecode
    from scenedetect.detectors import ContentDetector

    detector = ContentDetector(threshold=27.0, min_scene_len=15)
    found = []
    with open_segment(str(shared_clip(name))) as segment:
        for i, frame in enumerate(segment):
            found += detector.process_frame(FrameTimecode(i, 24.0), frame.view(View.TINY))
    assert [cut.frame_num for cut in found] == cuts


@pytest.mark.parametrize("name", ["dj_video1.mp4", "street_walk_720p.mp4", "hevc_10bit_200px.mp4"])
def test_tiny_scores_are_pyscenedetects_scores(shared_clip, name: str) -> None:
    import av
    import cv2

    path = shared_clip(name)
    theirs = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            image = frame.to_ndarray(format="bgr24")
            factor = max(image.shape[1] / 256, 1)
            size = (round(image.shape[1] / factor), round(image.shape[0] / factor))
            theirs.append(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))
            if len(theirs) == 160:
                break
    with open_segment(str(path)) as segment:
        ours = [frame.view(View.TINY) for frame, _ in zip(segment, theirs, strict=False)]
    difference = np.abs(content_scores(ours) - content_scores(theirs))
    assert difference.mean() < 0.3, difference.mean()
    assert difference.max() < 1.5, difference.max()
