# SPDX-License-Identifier: Apache-2.0
"""Frame exactness over the whole matrix of codecs, GOP kinds and containers: not one frame may be wrong.

`python -m benchmarks.frame_exact` prints the same as a table, with decord and torchcodec beside it.
"""

import importlib
from pathlib import Path

import numpy as np
import pytest

from operators.video import open_segment
from operators.views import View
from reelmill.key_frames import iter_key_frames
from reelmill.media import open_media
from reelmill.packets import Droppable, frame_index
from reelmill.spans import iter_frames, iter_span
from tests.frame_matrix import CASES, NUM_FRAMES, Truth, write_case, wrong_reads
from tests.videos import read_number


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("matrix")
    return {name: write_case(folder, name) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_no_frame_is_wrong_in_any_way_of_reading(clips: dict[str, Path], name: str) -> None:
    reads = wrong_reads(clips[name])
    assert {way: seen.wrong for way, seen in reads.items() if seen.wrong} == {}
    assert sum(seen.num for seen in reads.values()) > 100


@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
def test_other_readers_are_right_or_replaced(clips: dict[str, Path], backend: str) -> None:
    """Frames from inside the clip. What a reader cannot be trusted with is read by PyAV, with a note."""
    used = set()
    if backend == "torchcodec":
        _skip_without_torchcodec()
    for name, path in clips.items():
        truth = Truth(path)
        with open_segment(str(path), start_pts=truth.pts[13], end_pts=truth.pts[33], backend=backend) as segment:
            seen = [(f.pts, read_number(f.view(View.PIXELS))) for f in segment]
            assert (segment.backend == backend) == (segment.backend_note is None), name
            used |= {name} if segment.backend == backend else set()
            assert segment.damage is None, name
        assert seen == [(truth.pts[i], CASES[name].first + i) for i in range(13, 34)], name
    assert "h264-closed.mp4" in used
    assert ({"hevc-open.mp4", "av1.webm"} & used == set()) == (backend == "decord")


def _skip_without_torchcodec() -> None:
    try:
        importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"torchcodec is optional: {type(error).__name__}: {error}"[:200])


def test_decord_itself_is_wrong_on_open_gops_and_cannot_open_av1(clips: dict[str, Path]) -> None:
    """The faults that the checks guard against; if decord heals, revisit them."""
    import decord

    picks = [24, 25, 31, 38]
    for name in ("h264-open.mp4", "hevc-open.mp4"):
        batch = decord.VideoReader(str(clips[name]), num_threads=1).get_batch(picks).asnumpy()
        assert [read_number(f) for f in batch] != picks, name
    with pytest.raises(decord.DECORDError):
        decord.VideoReader(str(clips["av1.webm"]))


@pytest.mark.parametrize("backend", ["torchcodec", "torchcodec-cuda"])
def test_a_machine_without_torchcodec_reads_with_pyav(
    clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with open_segment(str(clips["h264-open.mp4"]), backend=backend) as segment:
        assert segment.backend == "pyav"
        assert "torchcodec cannot be imported: ModuleNotFoundError" in str(segment.backend_note)
        assert [read_number(f.view(View.PIXELS)) for f in segment] == list(range(NUM_FRAMES))


class Counted:
    """Counts the packets that reach a decoder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_dropped = 0
        drops = Droppable.__call__

        def counting(rule: Droppable, data: bytes) -> bool:
            is_droppable = drops(rule, data)
            self.num_dropped += is_droppable
            return is_droppable

        monkeypatch.setattr(Droppable, "__call__", counting)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("h264-open.mp4", 20),
        ("h264-open.ts", 20),
        ("h264-10bit.mov", 10),
        ("hevc-open.mp4", 20),
        ("hevc-open-12bit.mov", 20),
        ("hevc-layers.mp4", 10),
        ("h264-interlaced.ts", 0),
        ("h264-reordered.avi", 0),
        ("mpeg4-b.mp4", 0),
        ("vp9.webm", 0),
    ],
)
def test_which_pictures_sparse_reads_leave_out(
    clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, least: int
) -> None:
    counted, truth = Counted(monkeypatch), Truth(clips[name])
    with open_media(clips[name]) as media:
        (last,) = iter_frames(media, [truth.pts[-1]], truth.pts[0])
    assert last.pts == truth.pts[-1]
    assert counted.num_dropped >= least if least else counted.num_dropped == 0


def test_a_picture_that_upper_layers_need_is_kept() -> None:
    """HEVC: TSA_N (type 2) is unreferenced in its own layer only."""
    sequence = bytes([33 << 1, 1, 2 << 1]) + bytes(8)  # sps_max_sub_layers_minus1 = 2
    rule = Droppable("hevc", b"\0\0\0\1" + sequence)
    kept, dropped = (b"\0\0\0\1" + bytes([2 << 1, layer + 1]) + bytes(8) for layer in (1, 2))
    assert (rule(kept), rule(dropped)) == (False, True)
    assert Droppable("hevc", None)(dropped) is False  # without its parameters nothing is known
    assert Droppable("hevc", b"\1\2")(b"\0\0") is False  # nor of broken ones


def test_unreadable_parameters_mean_that_nothing_is_left_out() -> None:
    picture = b"\0\0\0\1" + bytes([1]) + bytes(8)
    assert Droppable("h264", None)(picture) is False
    for cut in range(12):
        Droppable("h264", b"\0\0\0\1" + bytes([0x67, 100, 0, 31, 0xAC, 0xD9, 0x40, 0x50, 0x05, 0xBB, 1, 16])[:cut])
        Droppable("h264", bytes([1, 100, 0, 31, 255, 225, 0, 9, 0x67, 100, 0, 31])[:cut])


def test_the_index_says_what_the_packets_say(clips: dict[str, Path]) -> None:
    with open_media(clips["h264-open.mp4"]) as media:
        index = frame_index(media)
        assert index == frame_index(media)  # it rewinds
        frames = list(iter_span(media, None, None))
        assert index.num_bytes == [media.packet_bytes[frame.pts] for frame in frames]
    assert [i for i, is_key in enumerate(index.is_key) if is_key] == [0, 12, 24, 36]
    assert (index.leading_at, index.fault, index.fps) == (12 * 512, None, 30)
    assert set(index.duration_pts) == {512}
    with open_media(clips["h264-reordered.avi"]) as media:
        assert frame_index(media).fault == "the container stores no presentation times"


def test_bytes_of_frames_that_are_reordered_without_times(clips: dict[str, Path]) -> None:
    """AVI: the same stream in MP4 tells which frame has which size."""
    sizes = []
    for name in ("h264-reordered.avi", "h264-closed.mp4"):
        with open_segment(str(clips[name])) as segment:
            sizes.append([segment.packet_bytes[frame.pts] for frame in segment])
    avi, mp4 = (np.array(s) for s in sizes)
    assert np.abs(avi - mp4)[1:].max() <= 64  # start codes and delimiters in place of lengths
    assert mp4.std() > 500


def test_key_frames_need_no_other_packet(clips: dict[str, Path]) -> None:
    truth = Truth(clips["hevc-open.mp4"])
    with open_media(clips["hevc-open.mp4"]) as media:
        everything = media.packets
        media.packets = lambda: (p for p in everything() if p.is_keyframe)  # type: ignore[method-assign]
        assert [f.pts for f in iter_key_frames(media)] == truth.keys
