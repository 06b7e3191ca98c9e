# SPDX-License-Identifier: Apache-2.0
"""The sample footage at an eighth of its size: labels agree with what is in the files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import samples
from pipelines.samples import CUT_FRAME, SAMPLES, default_folder, missing, render_samples

SCALE = 1 / 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "all"
    render_samples(path, scale=SCALE, workers=1)
    return path


def luma(path: Path) -> list[np.ndarray]:
    """Luma planes of all frames."""
    import av

    with av.open(str(path)) as media:
        return [frame.reformat(format="gray").to_ndarray() for frame in media.decode(video=0)]


def stream_facts(path: Path) -> dict[str, object]:
    import av

    with av.open(str(path)) as media:
        stream = media.streams.video[0]
        frame = next(media.decode(video=0))
        turned = round(-frame.rotation / 90) % 4 * 90
        sides = (stream.width, stream.height) if turned % 180 == 0 else (stream.height, stream.width)
        codec = {"libdav1d": "av1"}.get(stream.codec_context.name, stream.codec_context.name)
        return {
            "width_px": sides[0],
            "height_px": sides[1],
            "rotation_deg": turned,
            "codec": codec,
            "hdr": "pq" if frame.color_trc == 16 else "sdr",
            "bit_depth": frame.format.components[0].bits,
        }


def test_every_sample_is_there_and_labelled(folder: Path) -> None:
    labels = json.loads((folder / "labels.json").read_text())
    assert [label["file"] for label in labels["samples"]] == [s.file for s in SAMPLES]
    assert missing(folder) == []
    assert json.loads((folder / "uhd_pan_lake.json").read_text())["title"] == "Mountain lake at sunrise"
    assert not [p for p in folder.parent.iterdir() if p != folder], "nothing is left beside the samples"


@pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if set(s.expected) & {"width_px", "codec", "hdr"}], ids=lambda s: s.file
)
def test_header_facts_are_as_labelled(folder: Path, sample: samples.Sample) -> None:
    facts = stream_facts(folder / sample.file)
    expected = sample.label(SCALE)["expected"]
    assert {key: facts[key] for key in expected if key in facts} == {
        key: value for key, value in expected.items() if key in facts
    }


def test_true_uhd_at_full_scale() -> None:
    sizes = {s.file: s.label(1.0)["expected"] for s in SAMPLES}
    assert sizes["uhd_pan_lake.mp4"]["width_px"] == 3840
    assert sizes["uhd_portrait_phone.mp4"]["height_px"] == 3840


def test_the_cut_is_at_the_labelled_frame(folder: Path) -> None:
    frames = np.stack(luma(folder / "uhd_hard_cut.mp4")).astype(int)
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2))
    assert len(frames) == 60
    assert steps.argmax() + 1 == CUT_FRAME
    assert steps.max() > 5 * np.median(steps)


def test_the_dissolve_has_no_step(folder: Path) -> None:
    frames = np.stack(luma(folder / "dissolve.mp4")).astype(int)
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2))
    assert steps.max() < 4 * np.median(steps)
    assert np.abs(frames[0] - frames[-1]).mean() > 20


def test_faults_are_in_the_pixels(folder: Path) -> None:
    bars = luma(folder / "uhd_letterbox.mp4")[10]
    assert bars[: len(bars) // 10].max() <= 18
    assert bars[-(len(bars) // 10) :].max() <= 18
    assert bars.max() > 80
    assert np.mean(luma(folder / "overexposed.mp4")[5] > 230) > 0.5
    held = np.stack(luma(folder / "frozen.mp4")).astype(int)
    same = np.abs(np.diff(held, axis=0)).mean(axis=(1, 2)) < 0.5
    assert 0.6 < same.mean() < 0.9
    still = np.stack(luma(folder / "static_balloon.mp4")).astype(int)
    assert np.median(np.abs(still[0] - still[-1])) < 6 < np.abs(still[0] - still[-1]).max()


def test_grey_has_no_colour(folder: Path) -> None:
    import av

    with av.open(str(folder / "gray.mp4")) as media:
        rgb = next(media.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert np.abs(rgb - rgb.mean(axis=2, keepdims=True)).mean() < 1.5


def test_the_enlarged_sample_has_less_detail_than_a_true_one(folder: Path) -> None:
    import cv2

    def detail(name: str) -> float:
        picture = luma(folder / name)[5].astype(np.float32)
        small = cv2.resize(picture, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA)
        back = cv2.resize(small, picture.shape[::-1], interpolation=cv2.INTER_CUBIC)
        return float(np.abs(picture - back).mean() / picture.std())

    assert detail("uhd_upscaled_720p.mp4") < 0.5 * detail("uhd_zoom_city.mp4")


def frames_before_damage(media: Any) -> int:
    """Frames until decoding fails; it must fail."""
    from av.error import FFmpegError

    num = 0
    try:
        for _ in media.decode(video=0):
            num += 1
    except FFmpegError:
        return num
    raise AssertionError("the file decodes to its end")


def test_broken_files_are_broken(folder: Path) -> None:
    import av
    from av.error import FFmpegError

    for name in ("no_index.mp4", "empty.mp4", "text_named.mp4"):
        with pytest.raises(FFmpegError):
            av.open(str(folder / name))
    with av.open(str(folder / "audio_only.mp4")) as media:
        assert not media.streams.video
        assert media.streams.audio
    with av.open(str(folder / "truncated.mp4")) as media:
        assert media.streams.video[0].frames == 72
        got = frames_before_damage(media)
    assert 0 < got < 72


def test_variable_rate_is_variable(folder: Path) -> None:
    import av

    with av.open(str(folder / "variable_rate.mp4")) as media:
        pts = [frame.pts or 0 for frame in media.decode(video=0)]
    assert len(set(np.diff(pts).tolist())) > 1


def test_rendering_is_deterministic_and_goes_on(tmp_path: Path) -> None:
    names = ("dissolve.mp4", "variable_rate.mp4", "frozen.mp4")
    render_samples(tmp_path / "a", scale=SCALE / 2, workers=1, only=names[:2])
    bytes_a = {n: (tmp_path / "a" / n).read_bytes() for n in names[:2]}
    assert set(render_samples(tmp_path / "a", scale=SCALE / 2, workers=1, only=names)) == {"frozen.mp4"}
    render_samples(tmp_path / "b", scale=SCALE / 2, workers=2, only=names)
    assert {n: (tmp_path / "b" / n).read_bytes() for n in names[:2]} == bytes_a


def test_an_interrupted_rendering_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import footage

    def interrupted(path: Path, frames: object, *args: object, **kwargs: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(footage, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render_samples(tmp_path / "x", scale=SCALE, workers=1, only=("overexposed.mp4",))
    assert missing(tmp_path / "x", tuple(s for s in SAMPLES if s.file == "overexposed.mp4")) == ["overexposed.mp4"]
    assert [p.name for p in tmp_path.rglob("*")] == ["x"]


def test_cache_folder_honours_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder().is_relative_to(tmp_path / "reelmill")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder().is_relative_to(tmp_path / "home" / ".cache" / "reelmill")
