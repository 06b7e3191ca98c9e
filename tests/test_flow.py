# SPDX-License-Identifier: Apache-2.0
"""RAFT against torchvision's own documented call, with random weights saved and loaded by the real path."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from operators.flow import Flow, flow_size, pairs_of
from operators.video import read_frames
from tests.test_technical import clip_row
from tests.videos import texture, write_video


def test_the_operator_equals_torchvisions_own_call(tmp_path: Path) -> None:
    import torch
    from torchvision.models.optical_flow import Raft_Small_Weights, raft_small

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = raft_small(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "raft.pth")
    path = write_video(tmp_path / "a.mp4", texture(12, 128, 160, speed_px=3), fps=10)
    time_base = 12288
    row = clip_row(path, 12, (128, 160)) | {"time_base_num": 1, "time_base_den": time_base, "pixel_aspect": 1.0}
    short = row | {"clip_id": "short", "frame_pts": row["frame_pts"][:4]}
    schema = pa.schema({c.name: c.dtype for c in Flow.reads})
    operator = Flow(weights=str(tmp_path / "raft.pth"), model="raft_small", height_px=128, num_pairs=2)
    state = operator.setup()
    try:
        first, none = operator.process(state, pa.Table.from_pylist([row, short], schema=schema)).to_pylist()
    finally:
        operator.close(state)
    pairs = pairs_of(row["frame_pts"], time_base / 2, 2)
    assert [b - a for a, b in pairs] == [time_base // 2] * 2
    transform = Raft_Small_Weights.C_T_V2.transforms()
    wanted = []
    for pair in pairs:
        a, b = (
            torch.from_numpy(f).permute(2, 0, 1)[None] for f in read_frames(row["uri"], pair, None, size=(128, 160))
        )
        with torch.no_grad():
            flow = network(*transform(a, b))[-1]
        wanted.append(float(flow.norm(dim=1).mean()))
    np.testing.assert_allclose(first["flow_px_samples"], wanted, rtol=1e-4)
    assert first["flow_mean_px"] == pytest.approx(np.mean(wanted), rel=1e-4)
    assert first["flow_speed_mean"] == pytest.approx(np.mean(wanted) / 0.5 / 128, rel=1e-4)
    assert (none["flow_mean_px"], none["error_kind"]) == (None, None)


def test_sizes_and_foreign_weights(tmp_path: Path) -> None:
    import torch
    from torchvision.models.optical_flow import raft_small

    assert flow_size(3840, 2160, 1.0, 520) == (520, 928)
    assert flow_size(1080, 1920, 1.0, 520) == (928, 520)
    assert pairs_of([0], 5, 3) == []
    torch.save(raft_small(weights=None).state_dict(), tmp_path / "raft.pth")
    with pytest.raises(ValueError, match="no weights of raft_large: "):
        Flow(weights=str(tmp_path / "raft.pth")).setup()
    with pytest.raises(ValueError, match="height_px is 64"):
        Flow(weights="w", height_px=64)
