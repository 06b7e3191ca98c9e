# SPDX-License-Identifier: Apache-2.0
"""The benchmark's own parts on a small clip: what it counts, repeats and reports."""

from pathlib import Path

import pytest

from benchmarks.decode_ratio import decode_only, memory, repeat_packets, throughput
from operators.catalog import METERS
from tests.videos import texture, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "a.mp4", texture(30, 144, 256))


def test_throughput_counts_every_frame_and_every_part(clip: Path) -> None:
    found = throughput(str(clip), threads=1, repeats=2)
    assert found["frames"] == 30
    assert set(METERS) <= set(found["parts_ms"])
    assert 0 < found["ratio_cpu"] <= 1.2
    overhead = found["measure_cpu_ms"] - found["decode_cpu_ms"]
    assert sum(found["parts_ms"].values()) == pytest.approx(overhead, rel=0.9)


def test_packets_repeat_without_encoding(clip: Path, tmp_path: Path) -> None:
    repeat_packets(clip, 3, tmp_path / "x3.mp4")
    assert decode_only(str(tmp_path / "x3.mp4"), threads=1) == 90


def test_memory_is_flat_in_length(clip: Path) -> None:
    short, long = memory(clip, threads=1, lengths=[1, 12])
    assert (short["frames"], long["frames"]) == (30, 360)
    assert 0.02 < short["peak_gib"] < 0.4
    assert long["peak_gib"] < short["peak_gib"] + 0.03
