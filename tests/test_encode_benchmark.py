# SPDX-License-Identifier: Apache-2.0
"""The benchmark of encoding runs without a GPU, on a tiny network and made-up footage."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import encode_gpu
from tests.videos import texture, write_video

TINY = {"tile_px": 32, "patch": (4, 8, 8), "channels": 4, "width": 24, "heads": 2, "depth": (1, 1, 1)}


def test_every_column_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "clip.mp4", texture(12, 96, 160, seed=1), fps=12)
    place, library, name, _ = encode_gpu.ADAPTERS["hieratok"]
    adapters: dict[str, Any] = {
        "hieratok": (place, library, name, TINY),
        "absent": (place, "no_such_library", name, TINY),
    }
    monkeypatch.setattr(encode_gpu, "ADAPTERS", adapters)
    out = tmp_path / "found.json"
    flags = ["--device", "cpu", "--dtype", "float32", "--height", "64", "--frames", "5", "--windows", "2"]
    monkeypatch.setattr(sys, "argv", ["encode_gpu", *flags, "--clip", str(tmp_path / "clip.mp4"), "--out", str(out)])
    assert encode_gpu.main() == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["windows"] == 2
    assert min(row[key] for key in ("bare_mpx_s", "codec_mpx_s", "operator_of_bare", "decode_of_bare")) > 0
    assert "absent    not run: No module named 'no_such_library'" in capsys.readouterr().out
