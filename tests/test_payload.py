# SPDX-License-Identifier: Apache-2.0
"""A copy of the bit stream in another container has the same packet hashes; anything else has others."""

from pathlib import Path

import pytest

from benchmarks.ladders.copies import remux
from operators.measure import measure_segment
from reelmill.payload import PayloadHash
from tests.videos import FAST, texture, write_video


@pytest.mark.parametrize(("codec", "container"), [("libx264", "ts"), ("libx265", "ts"), ("libsvtav1", "webm")])
def test_another_container_has_the_same_hashes(codec: str, container: str, tmp_path: Path) -> None:
    frames = texture(8, 96, 128)
    first = write_video(tmp_path / "a.mp4", frames, codec=codec, options=FAST[codec])
    wanted = measure_segment(str(first), [])["frame_hash"]
    assert len(set(wanted)) == 8
    assert all(0 <= value < 2**52 for value in wanted)
    remux(first, tmp_path / f"b.{container}")
    assert measure_segment(str(tmp_path / f"b.{container}"), [])["frame_hash"] == wanted
    again = write_video(tmp_path / "c.mp4", 255 - frames, codec=codec, options=FAST[codec])
    assert measure_segment(str(again), [])["frame_hash"] != wanted  # single frames may be the same: "as the last one"


def test_parameter_sets_and_padding_do_not_count() -> None:
    slice_, sets = b"\x65slice", b"\x67set"
    annex_b = b"\0\0\0\1" + sets + b"\0\0\0\1" + slice_ + b"\0\0"
    avcc = len(slice_).to_bytes(4, "big") + slice_
    configured = PayloadHash("h264", b"\1\x64\0\x1e\xff" + b"\0" * 4)
    assert PayloadHash("h264", None)(annex_b) == configured(avcc)
    assert PayloadHash("h264", None)(annex_b.replace(b"slice", b"other")) != configured(avcc)
    av1 = b"\x32\x03abc"  # a frame
    assert PayloadHash("av1", None)(b"\x12\0\x0a\x02zz" + av1) == PayloadHash("av1", None)(av1)
