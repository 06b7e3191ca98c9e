# SPDX-License-Identifier: Apache-2.0
"""The benchmark's own parts on a small clip: what it counts, repeats and reports."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure_speed import MODEL_METERS, PEER_METERS, decode_only, every_meter, missed, throughput
from benchmarks.speed import tables
from benchmarks.speed.clips import facts, names, rendered, repeat_packets
from benchmarks.speed.memory import memory
from operators.catalog import METERS
from tests.videos import texture, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "a.mp4", texture(30, 144, 256))


def test_throughput_counts_every_frame_and_every_part(clip: Path) -> None:
    found = throughput(str(clip), threads=1, repeats=2)
    assert found["frames"] == 30
    assert {meter.name for meter in every_meter()} <= set(found["parts_ms"])
    assert 0 < found["ratio_cpu"] <= 1.2
    overhead = found["measure_cpu_ms"] - found["decode_cpu_ms"]
    assert sum(found["parts_ms"].values()) == pytest.approx(overhead, rel=0.9)


def test_every_meter_but_the_networks_and_the_peers_is_measured() -> None:
    left_out = MODEL_METERS | PEER_METERS
    assert set(METERS) > left_out
    assert {meter.name for meter in every_meter()} == set(METERS) - left_out


def test_packets_repeat_without_encoding(clip: Path, tmp_path: Path) -> None:
    repeat_packets(clip, 3, tmp_path / "x3.mp4")
    assert decode_only(str(tmp_path / "x3.mp4"), threads=1) == 90


def test_memory_is_flat_in_length(clip: Path) -> None:
    short, long = memory(clip, every_meter(), threads=1, lengths_s=[1, 12])
    assert (short["frames"], long["frames"]) == (30, 360)
    assert 0.02 < short["peak_gib"] < 0.4
    assert long["peak_gib"] < short["peak_gib"] + 0.03


def test_renderings_have_the_depth_and_codec_of_their_names(tmp_path: Path) -> None:
    for name, codec, pix_fmt in (
        ("rendered_2160p30_hevc10.mp4", "hevc", "yuv420p10le"),
        ("rendered_2160p30_av1_10.mp4", "libdav1d", "yuv420p10le"),
    ):
        assert name in names()
        found = facts(rendered(name, scale=1 / 30, folder=tmp_path))
        assert (found["codec"], found["pix_fmt"], found["width_px"], found["frames"]) == (codec, pix_fmt, 128, 60)


def speed_row(**values: float) -> dict[str, Any]:
    return {"clip": "a.mp4", "ratio_cpu": 0.8} | values


def test_missed_targets_are_named() -> None:
    points = [{"frames": 150, "peak_gib": 0.2, "last_gib": 0.2}, {"frames": 10800, "peak_gib": 0.21, "last_gib": 0.2}]
    uhd = {"clip": "a.mp4", "width_px": 3840, "height_px": 2160}
    good = {"throughput": [speed_row()], "peer": [speed_row(ratio=6.0)], "memory": [{**uhd, "points": points}]}
    assert missed(good) == []
    assert missed({}) == []
    assert "0.740" in missed(good | {"throughput": [speed_row(ratio_cpu=0.74)]})[0]
    assert "4.9 times" in missed(good | {"peer": [speed_row(ratio=4.9)]})[0]
    assert missed(good | {"peer_error": "cannot be installed"}) == ["cannot be installed"]
    grown = [points[0], points[1] | {"peak_gib": 0.27}]
    assert "grows" in missed(good | {"memory": [{**uhd, "points": grown}]})[0]
    assert "0.41 GiB" in missed(good | {"memory": [{**uhd, "points": [points[0] | {"peak_gib": 0.41}]}]})[0]
    large = {**uhd, "width_px": 7680, "height_px": 4320, "points": [points[0] | {"peak_gib": 1.1}]}
    assert missed(good | {"memory": [large]}) == []
    upright = {**uhd, "width_px": 2160, "height_px": 3840, "points": [points[0] | {"peak_gib": 0.5}]}
    assert len(missed(good | {"memory": [upright]})) == 1


def test_tables_print_what_was_measured(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {**facts(clip), **throughput(str(clip), threads=1, repeats=1, meters=every_meter()[:2])}
    tables.show_throughput(row)
    tables.show_parts([row, row])
    shown = capsys.readouterr().out
    assert "256x144 h264 yuv420p, 30 fps" in shown
    assert f"ratio {row['ratio_cpu']:.3f}" in shown
    assert every_meter()[0].name in shown
    assert json.loads(json.dumps(row)) == row
