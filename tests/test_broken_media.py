# SPDX-License-Identifier: Apache-2.0
"""One run over a folder of awkward and broken files, with every light meter and the text operator: each has its row."""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.catalog import METERS
from operators.decode_child import DecodeChild
from pipelines.mill import Mill, Options
from pipelines.plan import build_plan, check
from pipelines.progress import RunProgress
from pipelines.recipe import load_recipe
from tests.videos import CLOSED_GOP, numbered, texture, write_video

H, W = 72, 128
CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


def clip(path: Path, num_frames: int = 24, height: int = H, width: int = W, **options: Any) -> Path:
    return write_video(path, texture(num_frames, height, width), **options)


def truncated(path: Path) -> None:
    clip(path, 60, options=CLOSED_GOP["libx264"], container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def words(path: Path) -> None:
    path.write_text("These are words, and no film at all.\n" * 20)


def audio_only(path: Path) -> None:
    import av

    from tests.videos import _write_sine

    with av.open(str(path), "w") as container:
        _write_sine(av, container, container.add_stream("aac", rate=44100))


def encrypted(path: Path) -> None:
    clip(path, container_options=CENC)


def one_frame(path: Path) -> None:
    clip(path, 1)


def sixteen_pixels(path: Path) -> None:
    clip(path, 24, 16, 16)


def eight_k(path: Path) -> None:
    still_HWC = np.kron(texture(1, 270, 480)[0], np.ones((16, 16, 1), np.uint8))
    write_video(path, iter([still_HWC, still_HWC[:, ::-1]]), fps=2)


def one_a_second(path: Path) -> None:
    clip(path, 5, fps=1)


def variable_rate(path: Path) -> None:
    clip(path, 6, pts=[0, 3000, 6000, 21000, 24000, 60000])


def without_index(path: Path) -> None:
    data = clip(path).read_bytes()
    path.write_bytes(data[: data.rindex(b"moov") - 4])


def unordered_times(path: Path) -> None:
    """Frames whose times go back in the middle of the file."""
    import av

    order = [*range(10), 3, 4, 5, *range(13, 24)]
    whole = clip(path.with_suffix(".source.mkv"), codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(str(whole)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.stream, packet.pts, packet.dts = stream, 1000 + order[index] * 33, index * 33
            container.mux(packet)
    whole.unlink()


def wrong_durations(path: Path) -> None:
    """Every duration of the header is 1000 times as long as it is; the sample table is right."""
    data = bytearray(clip(path).read_bytes())
    for box, offset in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        at = data.index(box) + 4 + offset
        (ticks,) = struct.unpack(">I", data[at : at + 4])
        data[at : at + 4] = struct.pack(">I", ticks * 1000)
    path.write_bytes(data)


def rotated(path: Path) -> None:
    clip(path, rotation=90)


def black_for_six_minutes(path: Path) -> None:
    black_HWC = np.zeros((H, W, 3), np.uint8)
    write_video(path, (black_HWC for _ in range(6 * 60)), fps=1, options={"preset": "ultrafast", "g": "10"})


def odd_dimensions(path: Path) -> None:
    clip(path, 24, 91, 161, pix_fmt="yuv444p")


def grey_h264(path: Path) -> None:
    clip(path, pix_fmt="gray")


def monochrome_av1(path: Path) -> None:
    """Pillow's AVIF writer makes 4:0:0, which the encoder of PyAV's wheel cannot; the file becomes a plain MP4."""
    from PIL import Image

    pictures = [Image.fromarray(frame_HWC).convert("L") for frame_HWC in numbered(texture(12, H, W))]
    still = path.with_suffix(".avif")
    pictures[0].save(still, save_all=True, append_images=pictures[1:], duration=40, subsampling="4:0:0", speed=10)
    data, at = bytearray(still.read_bytes()), 0
    still.unlink()
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"ftyp":
            data[at + 8 : at + 12] = b"isom"
        elif kind == b"meta":  # the still picture beside the film
            data[at + 4 : at + 8] = b"free"
        at += size
    path.write_bytes(data)


@dataclass(frozen=True)
class Expected:
    """What the tables say of a file.

    Attributes:
        facts: columns of `sources`.
        frames: frames measured over all segments; null: none, the file is refused.
        refused: (error kind, words of the message), in `sources` or else in `series`.
        damage: words of the damage noted in `series`; null: none.
    """

    make: Callable[[Path], object]
    facts: dict[str, Any] = field(default_factory=dict)
    frames: int | None = None
    refused: tuple[str, str] | None = None
    damage: str | None = None


FILES = {
    "truncated.mp4": Expected(truncated, {"codec": "h264"}, frames=-1, damage="cut off|Invalid data"),
    "empty.mp4": Expected(empty, refused=("bad_input", r"0 bytes\); copy it again")),
    "text.mp4": Expected(words, refused=("bad_input", "not media but text.*remove it")),
    "audio_only.mp4": Expected(audio_only, refused=("bad_input", "no video stream")),
    "encrypted.mp4": Expected(encrypted, refused=("bad_input", "encrypted.*decrypt it first")),
    "one_frame.mp4": Expected(one_frame, {"num_frames": 1}, frames=1),
    "sixteen_pixels.mp4": Expected(sixteen_pixels, {"width_px": 16, "height_px": 16}, frames=24),
    "eight_k.mp4": Expected(eight_k, {"width_px": 7680, "height_px": 4320}, frames=2),
    "one_a_second.mp4": Expected(one_a_second, {"fps": 1.0, "duration_s": 5.0}, frames=5),
    "variable_rate.mp4": Expected(variable_rate, {"is_vfr": True}, frames=6),
    "without_index.mp4": Expected(without_index, refused=("bad_input", r"index \(moov\).*copy it again")),
    "unordered_times.mkv": Expected(unordered_times, {"codec": "mjpeg"}, frames=10, damage="follows.*remux"),
    "wrong_durations.mp4": Expected(wrong_durations, {"duration_s": 0.8, "num_frames": 24}, frames=24),
    "rotated.mp4": Expected(rotated, {"rotation_deg": 90, "width_px": H, "coded_width_px": W}, frames=24),
    "black.mp4": Expected(black_for_six_minutes, {"duration_s": 360.0}, frames=360),
    "odd.mp4": Expected(odd_dimensions, {"width_px": 161, "height_px": 91, "chroma": "4:4:4"}, frames=24),
    "grey.mp4": Expected(grey_h264, {"chroma": "4:0:0", "codec": "h264"}, frames=24),
    "monochrome.mp4": Expected(monochrome_av1, {"chroma": "4:0:0", "codec": "av1", "fps": 25.0}, frames=12),
    "crash.mp4": Expected(
        clip, {"codec": "h264"}, refused=("bad_input", "SIGSEGV on each of 2 tries; remux or re-encode")
    ),
    "hang.mp4": Expected(
        clip, {"codec": "h264"}, refused=("resource", r"time limit of 1\.5 s and was stopped; raise the limit")
    ),
    "crash_later.mp4": Expected(clip, {"codec": "h264"}, frames=24),
}
MEASURE, READ = "operators.measure:measure_segment", "operators.video:read_frames"
FAULTS = {
    ("crash.mp4", MEASURE): "tests.child_targets:segfault_on",
    ("hang.mp4", MEASURE): "tests.child_targets:hang_native_on",
    ("crash_later.mp4", READ): "tests.child_targets:segfault_on",
}
LIGHT = [name for name in METERS if name != "transnet"]  # 1.4 CPU s a file, however short; see tests/test_transnet.py
SETTINGS = (
    f"measure.meters=[{', '.join(LIGHT)}]",
    "models=[{op: text, num_frames: 1}]",
    "rules=[{name: bright, column: exposure_luma_mean, min: 0.1}, "
    "{name: text, column: text_area_share_max, max: 0.5, gate: models, on_null: keep}]",
    "tokens.0.max_frames=9",
    "tokens.0.heights=[64]",
)


@pytest.fixture(scope="module")
def milled(tmp_path_factory: pytest.TempPathFactory) -> Mill:
    """One run over all files; where FAULTS says so, decoding is a crash or a hang in the child."""
    root = tmp_path_factory.mktemp("media")
    for name, expected in FILES.items():
        expected.make(root / name)
    real = DecodeChild.call

    def call(child: DecodeChild, target: str, kwargs: dict[str, Any], timeout_s: float) -> Any:
        fault = FAULTS.get((Path(str(kwargs.get("uri"))).name, target))
        if fault is not None:
            return real(child, fault, {"uri": kwargs["uri"]}, 1.5)
        return real(child, target, kwargs, timeout_s)

    plan = build_plan(load_recipe("quickstart", SETTINGS))
    check(plan)
    out = tmp_path_factory.mktemp("out") / "set"
    run = Mill(plan, Options(input=str(root), out=str(out), address="in-process", strict=True), RunProgress())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecodeChild, "call", call)
        run.run()
    return run


def rows(run: Mill, rel: str) -> list[dict[str, Any]]:
    names = [name for name in run.store.list(rel) if name.endswith(".parquet")]
    return [row for name in names for row in run.store.read_table(f"{rel}/{name}").to_pylist()]


@pytest.fixture(scope="module")
def sources(milled: Mill) -> dict[str, dict[str, Any]]:
    return {row["relpath"]: row for row in rows(milled, "sources")}


@pytest.fixture(scope="module")
def series(milled: Mill, sources: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    names = {row["source_id"]: name for name, row in sources.items()}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in FILES}
    for row in sorted(rows(milled, milled.series.rel), key=lambda r: r["segment_index"]):
        found[names[row["source_id"]]].append(row)
    return found


def test_the_run_ends_normally(milled: Mill, sources: dict[str, dict[str, Any]]) -> None:
    assert milled.exit_code() == 0
    assert sources.keys() == FILES.keys()
    json.dumps(milled.manifest)


@pytest.mark.parametrize("name", FILES)
def test_each_file_has_its_row(name: str, sources: dict[str, Any], series: dict[str, Any]) -> None:
    expected, row = FILES[name], sources[name]
    assert len(row["source_id"]) == 32
    for column, value in expected.facts.items():
        assert row[column] == (pytest.approx(value, abs=1e-3) if isinstance(value, float) else value), column
    errors = [r for r in (row, *series[name]) if r["error_kind"]]
    if expected.refused is not None:
        kind, words = expected.refused
        assert errors
        assert {e["error_kind"] for e in errors} == {kind}
        assert re.search(words, errors[0]["error"]), errors[0]["error"]
        assert name in errors[0]["error"]
        return
    assert errors == [], errors[0]["error"]
    pts = [p for r in series[name] for p in r["frame_pts"]]
    assert pts == sorted(set(pts))
    assert len(pts) == expected.frames or (expected.frames == -1 and 12 < len(pts) < 60)
    damage = [r["damage"] for r in series[name] if r["damage"]]
    assert bool(damage) == (expected.damage is not None), damage
    assert expected.damage is None or re.search(expected.damage, damage[0]), damage


def test_black_is_rejected_and_not_an_error(milled: Mill, sources: dict[str, dict[str, Any]]) -> None:
    black = [r for r in rows(milled, milled.selection.rel) if r["source_id"] == sources["black.mp4"]["source_id"]]
    assert black
    assert {r["tier"] for r in black} == {"reject"}


def test_text_is_looked_for_in_every_clip_that_decodes(milled: Mill, sources: dict[str, dict[str, Any]]) -> None:
    names = {row["source_id"]: name for name, row in sources.items()}
    decodable = {name for name, expected in FILES.items() if expected.refused is None}
    found = {names[row["source_id"]]: row for row in rows(milled, milled.model_scores["text"].rel)}
    assert found.keys() == decodable - {"black.mp4"}, "a clip that a cheaper rule rejects is not decoded again"
    failed = found.pop("crash_later.mp4")
    assert (failed["error_kind"], failed["ocr_model"]) == ("bad_input", None)
    assert re.search(r"crash_later.mp4.*SIGSEGV on each of 2 tries", failed["error"])
    for name, row in found.items():
        assert row["error"] is None, name
        assert row["ocr_model"].startswith("rapidocr"), name
        assert (row["text_boxes"] is None) == (name == "sixteen_pixels.mp4"), name
    decided = {names[row["source_id"]]: row["tier"] for row in rows(milled, milled.selection.rel)}
    assert decided.keys() == FILES.keys()
    assert {decided[name] for name in found} == {"train"}


def test_time_bases_are_sane(sources: dict[str, dict[str, Any]]) -> None:
    for row in sources.values():
        if row["time_base_den"]:
            assert 0 < Fraction(row["time_base_num"], row["time_base_den"]) <= 1
