# SPDX-License-Identifier: Apache-2.0
"""Exact frames by pts: over codecs, GOP kinds and containers, with the frame number drawn into each picture."""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reelmill.media import BLOCK_BYTES, MediaError, RangeFile, open_media
from reelmill.pixels import frame_rgb, tone_map
from reelmill.spans import SpanError, iter_frames, iter_span, read_image, read_span
from tests.videos import CLOSED_GOP, COLORS, OPEN_GOP, numbered, read_number, texture, write_video

NUM_FRAMES = 60
CASES = {
    "h264-closed.mp4": ("libx264", "yuv420p", CLOSED_GOP["libx264"]),
    "h264-open.mp4": ("libx264", "yuv420p", OPEN_GOP["libx264"]),
    "h264-open.mkv": ("libx264", "yuv420p", OPEN_GOP["libx264"]),
    "h264-open.ts": ("libx264", "yuv420p", OPEN_GOP["libx264"]),
    "h264-10bit.mov": ("libx264", "yuv420p10le", CLOSED_GOP["libx264"]),
    "hevc-closed.mp4": ("libx265", "yuv420p", CLOSED_GOP["libx265"]),
    "hevc-open.mp4": ("libx265", "yuv420p", OPEN_GOP["libx265"]),
    "hevc-open-10bit.mkv": ("libx265", "yuv420p10le", OPEN_GOP["libx265"]),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
    "av1.webm": ("libsvtav1", "yuv420p", {"preset": "11", "g": "16", "svtav1-params": "lp=1"}),
    "av1-10bit.mp4": ("libsvtav1", "yuv420p10le", {"preset": "11", "g": "16", "svtav1-params": "lp=1"}),
    "prores.mov": ("prores_ks", "yuv422p10le", {}),
    "ffv1.mkv": ("ffv1", "yuv420p", {}),
    "mpeg2.ts": ("mpeg2video", "yuv420p", {"g": "12", "bf": "2", "b": "2M"}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {"g": "12", "b": "2M"}),
}


@pytest.fixture(scope="session")
def coded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("codecs")
    frames_THWC = numbered(texture(NUM_FRAMES, 144, 256))
    return {
        name: write_video(
            folder / name,
            frames_THWC,
            codec=codec,
            pix_fmt=pix_fmt,
            options=options,
            audio=name.startswith("h264-open"),
        )
        for name, (codec, pix_fmt, options) in CASES.items()
    }


def sequential(path: Path) -> tuple[list[int], list[int], list[np.ndarray]]:
    """pts, key pts and RGB frames of a plain decode from the start: the truth that spans are compared with."""
    pts, keys, frames = [], [], []
    with open_media(path) as media:
        for frame in iter_span(media, None, None):
            pts.append(frame.pts)
            keys += [frame.pts] * bool(frame.key_frame)
            frames.append(frame_rgb(frame))
    return pts, keys, frames


@pytest.mark.parametrize("name", CASES)
def test_every_way_of_reading_gives_the_same_frames(coded: dict[str, Path], name: str) -> None:
    path = coded[name]
    pts, keys, frames = sequential(path)
    assert [read_number(f) for f in frames] == list(range(NUM_FRAMES))
    rng = np.random.default_rng(1)
    at_keys = [pts.index(k) for k in keys]
    starts = sorted({*rng.integers(0, NUM_FRAMES, 5).tolist(), *at_keys, *(max(i - 1, 0) for i in at_keys)})
    with open_media(path) as media:
        for first in starts:
            wanted = pts[first : first + 3]
            got = [frame_rgb(f) for f in iter_frames(media, wanted, max(k for k in keys if k <= wanted[0]))]
            assert [read_number(f) for f in got] == list(range(first, first + len(wanted))), first
            assert all(np.array_equal(a, b) for a, b in zip(got, frames[first:], strict=False)), first


@pytest.mark.parametrize("name", CASES)
def test_segments_join_without_loss_or_repeat(coded: dict[str, Path], name: str) -> None:
    pts, _, _ = sequential(coded[name])
    borders = [pts[0], pts[17], pts[31], pts[44]]  # not on keys: the reader must start earlier by itself
    seen = []
    with open_media(coded[name]) as media:
        for start, end in zip(borders, [*borders[1:], None], strict=True):
            inside = list(iter_span(media, start, end, start))
            if end is not None:
                assert inside.pop().pts == end  # the first frame after the span comes along
            seen += [(f.pts, read_number(frame_rgb(f))) for f in inside]
    assert seen == list(zip(pts, range(NUM_FRAMES), strict=True))


def test_scattered_and_repeated_pts(coded: dict[str, Path]) -> None:
    path = coded["hevc-open.mp4"]
    pts, _, _ = sequential(path)
    picks = [3, 24, 24, 25, 59]
    frames_THWC = read_span(path, [pts[i] for i in picks], pts[0])
    assert [read_number(f) for f in frames_THWC] == picks
    assert frames_THWC.shape == (5, 144, 256, 3)


def test_threads_give_the_same_pixels(coded: dict[str, Path]) -> None:
    pts, _, _ = sequential(coded["h264-open.mp4"])
    one, two = (read_span(coded["h264-open.mp4"], pts[20:30], pts[0], threads=n) for n in (1, 2))
    assert np.array_equal(one, two)


def test_a_pts_that_is_not_there_names_file_and_pts(coded: dict[str, Path]) -> None:
    with pytest.raises(SpanError, match=r"h264-closed\.mp4.*no frame with pts 513 .*next pts is 1024"):
        read_span(coded["h264-closed.mp4"], [513], 0)
    with pytest.raises(SpanError, match=r"no frame with pts 99999999 .*ends before"):
        read_span(coded["h264-closed.mp4"], [0, 99999999], 0)
    with pytest.raises(SpanError, match="do not ascend"):
        read_span(coded["h264-closed.mp4"], [512, 0], 0)


def joined(tmp_path: Path, second_start: int, lengths: tuple[int, int] = (24, 24)) -> Path:
    """Two recordings in one MPEG-TS file, as recorders write them: the second one's times start anew."""
    parts = [
        write_video(
            tmp_path / f"{first}.ts",
            numbered(texture(length, 144, 256, seed=first), start=first),
            options=CLOSED_GOP["libx264"],
            pts=[start + 3000 * i for i in range(length)],
        ).read_bytes()
        for first, start, length in ((0, 900000, lengths[0]), (1000, second_start, lengths[1]))
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    return path


def test_times_that_do_not_ascend_are_refused(tmp_path: Path) -> None:
    seen = []
    with open_media(joined(tmp_path, 300000)) as media, pytest.raises(SpanError, match=r"joined\.ts: pts \d+ follows"):
        seen += [read_number(frame_rgb(f)) for f in iter_span(media, None, None)]
    assert seen == list(range(len(seen)))[:24]


@pytest.mark.parametrize("second_start", [900000, 810000, 990000])
def test_times_that_come_twice_give_the_first_frame(tmp_path: Path, second_start: int) -> None:
    """A seek by time in such a file lands in either part, on a frame of the wanted pts: it must not be tried."""
    path = joined(tmp_path, second_start, (48, 200))
    pts, keys = [], []
    with open_media(path) as media:
        for frame in itertools.islice(iter_span(media, None, None), 45):
            pts.append(frame.pts)
            keys += [frame.pts] * bool(frame.key_frame)
    for first in range(0, 42, 3):
        frames = read_span(path, pts[first : first + 3], max(k for k in keys if k <= pts[first]))
        assert [read_number(f) for f in frames] == [first, first + 1, first + 2]


def test_variable_frame_rate_is_read_by_pts(tmp_path: Path) -> None:
    steps = [3000, 3000, 9000, 1500, 1500, 45000, 3000, 3000]
    pts = [0, *np.cumsum(steps).tolist()]
    path = write_video(tmp_path / "vfr.mp4", numbered(texture(9, 144, 256)), pts=pts, options=CLOSED_GOP["libx264"])
    found, _, _ = sequential(path)
    scale = Fraction(1, 90000)
    with open_media(path) as media:
        assert media.stream.time_base is not None
        assert [p * media.stream.time_base for p in found] == [p * scale for p in pts]
    assert [read_number(f) for f in read_span(path, [found[3], found[6]], found[0])] == [3, 6]


def test_damage_before_the_frame_is_an_error_and_not_another_frame(shared_clip) -> None:
    path = shared_clip("corrupt_truncated_28_of_50.mp4")
    assert len(read_span(path, [1024 * i for i in range(28)], 0, size=(90, 160))) == 28
    with pytest.raises(SpanError, match="corrupt_truncated"):
        read_span(path, [1024 * 30], 0, size=(90, 160))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_stand_upright(tmp_path: Path, degrees: int) -> None:
    upright_THWC = numbered(texture(3, 144, 256))
    coded_THWC = np.rot90(upright_THWC, degrees // 90, axes=(1, 2))  # a player turns it clockwise by `degrees`
    path = write_video(tmp_path / "turned.mp4", coded_THWC, rotation=degrees)
    assert read_span(path, [0], 0).shape == (1, 144, 256, 3)
    assert read_number(read_span(path, [0, 512], 0)[1]) == 1
    assert read_span(path, [0], 0, size=(72, 128)).shape == (1, 72, 128, 3)


def _patches() -> np.ndarray:
    """[1, 96, 192, 3]: eight colours in large patches, so that chroma subsampling does not matter at their centres."""
    colors = [
        (235, 20, 20),
        (20, 235, 20),
        (20, 20, 235),
        (128, 128, 128),
        (255, 255, 255),
        (0, 0, 0),
        (200, 180, 40),
        (60, 90, 160),
    ]
    rows = np.array(colors, np.uint8).reshape(2, 4, 3)
    return rows.repeat(48, 0).repeat(48, 1)[None]


@pytest.mark.parametrize("color", ["bt709", "bt709-full", "bt601", None])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("size", [None, (48, 96)])
def test_colours_come_back_whatever_matrix_and_range(
    tmp_path: Path, color: str | None, pix_fmt: str, size: tuple[int, int] | None
) -> None:
    path = write_video(tmp_path / "c.mp4", _patches(), color=color, pix_fmt=pix_fmt, options={"qp": "1"})
    got = read_span(path, [0], size=size)[0].astype(int)
    step = 48 if size is None else 24
    centres = np.s_[step // 2 :: step, step // 2 :: step]
    assert np.abs(got[centres] - _patches()[0, 24::48, 24::48].astype(int)).max() <= 4


MATRICES = {  # tag: (Kr, Kb), ITU-R BT.601, BT.709, BT.2020 and SMPTE 240M
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    1: (0.2126, 0.0722),
    9: (0.2627, 0.0593),
    7: (0.212, 0.087),
}
FORMATS = {
    "yuv420p": 8,
    "yuv422p": 8,
    "yuv444p": 8,
    "yuv420p10le": 10,
    "yuv422p10le": 10,
    "yuv444p12le": 12,
    "gray": 8,
    "gray10le": 10,
}


def flat_frame(pix_fmt: str, codes: tuple[int, int, int], depth: int, matrix: int, full: bool) -> Any:
    import av

    frame = av.VideoFrame(32, 16, pix_fmt)
    for plane, code in zip(frame.planes, codes, strict=False):
        plane.update(np.full(plane.buffer_size // (1 + (depth > 8)), code, np.uint8 if depth == 8 else "<u2").tobytes())
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


def exact_rgb(codes: tuple[int, int, int], depth: int, matrix: int, full: bool) -> np.ndarray:
    """R, G, B in 0..255 of Y, Cb, Cr codes, by the formulas of BT.601, BT.709 and BT.2020 (8.1 quantisation)."""
    kr, kb = MATRICES[matrix]
    scale, top = 2 ** (depth - 8), 2**depth - 1
    luma = codes[0] / top if full else (codes[0] / scale - 16) / 219
    blue, red = ((c - 2 ** (depth - 1)) / top if full else (c / scale - 128) / 224 for c in codes[1:])
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    return np.array([r, (luma - kr * r - kb * b) / (1 - kr - kb), b]).clip(0, 1) * 255


@pytest.mark.parametrize("pix_fmt", FORMATS)
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_rgb_is_the_exact_matrix_arithmetic(pix_fmt: str, matrix: int, full: bool) -> None:
    depth = FORMATS[pix_fmt]
    for eight_bit in ((16, 128, 128), (81, 90, 200), (126, 128, 128), (145, 60, 70), (41, 200, 110), (235, 128, 128)):
        luma, blue, red = (code << (depth - 8) for code in eight_bit)
        codes = (luma, blue, red) if not pix_fmt.startswith("gray") else (luma, 1 << (depth - 1), 1 << (depth - 1))
        expected = exact_rgb(codes, depth, matrix, full)
        for size in (None, (8, 16)):
            got = frame_rgb(flat_frame(pix_fmt, codes, depth, matrix, full), size)
            assert np.abs(got.reshape(-1, 3) - expected).max() <= 1.6, (eight_bit, size)


def test_untagged_hd_counts_as_bt709(tmp_path: Path) -> None:
    grey_to_red = np.zeros((1, 720, 1280, 3), np.uint8) + np.array([200, 60, 60], np.uint8)
    tagged = write_video(tmp_path / "t.mp4", grey_to_red, color="bt709", options={"qp": "1"})
    with open_media(tagged) as media:
        frame = next(iter_span(media, None, None))
        frame.colorspace, frame.color_range = 2, 0
        assert np.abs(frame_rgb(frame)[360, 640].astype(int) - [200, 60, 60]).max() <= 2
        small = frame.reformat(width=320, height=180, src_colorspace=1, dst_colorspace=1)
        small.colorspace, small.color_range = 2, 0
        assert np.abs(frame_rgb(small)[90, 160].astype(int) - [200, 60, 60]).max() > 4  # read as BT.601: wrong here


def test_tone_map_of_known_levels() -> None:
    # ST 2084 code 0.5081 is 100 nits; 0.5807 is 203 nits (BT.2408), i.e. SDR white before compression.
    code = np.round(np.array([0, 0.5081, 0.5807, 0.7518, 1]) * 65535).astype(np.uint16)
    grey = tone_map(np.repeat(code[:, None, None], 3, axis=2), 16)[:, 0]
    light = np.array([0, 100, 203, 1000, 10000]) / 203
    mapped = np.minimum(light * (1 + light / (1000 / 203) ** 2) / (1 + light), 1)
    assert np.abs(grey.astype(float) - 255 * mapped[:, None] ** (1 / 2.2)).max() < 1.5
    hlg = tone_map(np.full((1, 1, 3), round(0.75 * 65535), np.uint16), 18)[0, 0]  # HLG 75 %: 203 nits
    assert np.abs(hlg.astype(int) - grey[2]).max() <= 1


@pytest.mark.parametrize("color", ["pq", "hlg"])
def test_hdr_is_mapped_after_scaling(tmp_path: Path, color: str) -> None:
    path = write_video(
        tmp_path / "hdr.mp4",
        np.full((4, 128, 128, 3), 128, np.uint8),
        codec="libx265",
        color=color,
        pix_fmt="yuv420p10le",
    )
    code = np.full((1, 1, 3), 128 * 257, np.uint16)
    expected = tone_map(code, COLORS[color][1])[0, 0].astype(int)
    assert np.abs(read_span(path, [0], size=(64, 64))[0, 32, 32].astype(int) - expected).max() <= 3


def test_image_orientations_and_sizes(tmp_path: Path) -> None:
    from PIL import Image

    upright_HWC = numbered(texture(1, 144, 256), start=77)[0]
    turns = {1: 0, 3: 2, 6: 1, 8: 3}  # EXIF orientation -> quarter turns that it was stored with
    for orientation, quarter in turns.items():
        image = Image.fromarray(np.ascontiguousarray(np.rot90(upright_HWC, quarter)))
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix in ("jpg", "png", "webp", "avif"):
            path = tmp_path / f"{orientation}.{suffix}"
            image.save(path, exif=exif.tobytes())
            assert read_number(read_span(path, [0])[0]) == 77, path
    assert read_image(tmp_path / "6.jpg", (72, 128)).shape == (72, 128, 3)


def test_damaged_image_is_a_media_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    from PIL import Image

    Image.fromarray(texture(1, 144, 256)[0]).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(MediaError, match=r"cut\.jpg: damaged image"):
        read_span(path, [0])


class Counted:
    """A local file behind `RangeFile` that counts what is fetched."""

    def __init__(self, path: Path) -> None:
        self.path, self.num_bytes, self.num_calls = path, 0, 0

    def __call__(self, start: int, end: int) -> bytes:
        self.num_bytes, self.num_calls = self.num_bytes + end - start, self.num_calls + 1
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def open(self) -> RangeFile:
        return RangeFile(self, self.path.stat().st_size, str(self.path))


def test_range_file_equals_the_file(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 3 * BLOCK_BYTES + 77, dtype=np.uint8).tobytes()
    (tmp_path / "x").write_bytes(data)
    counted = Counted(tmp_path / "x")
    file = counted.open()
    rng = np.random.default_rng(3)
    for _ in range(200):
        at, count = int(rng.integers(0, len(data) + 10)), int(rng.integers(0, 2 * BLOCK_BYTES))
        file.seek(at)
        assert file.read(count) == data[at : at + count]
    assert counted.num_bytes <= len(data)
    assert file.seek(-5, 2) == len(data) - 5
    assert file.read() == data[-5:]


def test_sequential_reads_ask_for_growing_pieces(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(80 * BLOCK_BYTES))
    counted = Counted(tmp_path / "x")
    file = counted.open()
    while file.read(32768):
        pass
    assert counted.num_calls <= 8
    assert counted.num_bytes == 80 * BLOCK_BYTES


def test_header_of_a_large_file_costs_less_than_a_megabyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 256, (180, 320, 3), dtype=np.uint8) for _ in range(150))
    path = write_video(tmp_path / "large.mp4", noise, options={"qp": "4", "preset": "ultrafast", "g": "30"})
    assert path.stat().st_size > 12_000_000
    counted = Counted(path)
    monkeypatch.setattr("reelmill.media.open_bytes", lambda uri: counted.open())
    with open_media("s3://bucket/large.mp4") as media:
        assert media.stream.frames == 150
        assert len(media.stream.index_entries) == 150
    assert counted.num_bytes < 1_000_000


def test_failed_range_read_is_not_taken_for_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(
        tmp_path / "v.mp4",
        np.random.default_rng(0).integers(0, 256, (40, 240, 320, 3), dtype=np.uint8),
        options={"qp": "4", "preset": "ultrafast"},
    )

    class Failing(Counted):
        def __call__(self, start: int, end: int) -> bytes:
            if start > 2 * BLOCK_BYTES and end < path.stat().st_size:
                raise ConnectionResetError("cut")
            return super().__call__(start, end)

    monkeypatch.setattr("reelmill.media.open_bytes", lambda uri: Failing(path).open())
    with pytest.raises(ConnectionResetError, match="cut"), open_media("s3://bucket/v.mp4") as media:
        list(iter_span(media, None, None))


def test_sixteen_bit_grey_is_scaled_and_turned(tmp_path: Path) -> None:
    from PIL import Image

    codes_HW = np.linspace(0, 65535, 64 * 96).astype(np.uint16).reshape(64, 96)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(codes_HW).save(tmp_path / "grey.png", exif=exif)
    shown = read_image(tmp_path / "grey.png")
    assert shown.shape == (96, 64, 3)
    assert np.abs(np.rot90(shown[..., 0]).astype(float) - codes_HW / 257).max() <= 0.5
