# SPDX-License-Identifier: Apache-2.0
"""VTSS: frames as Koala-36M's own sampler takes them, fragments of each input, scores of draws."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from operators.fragments import INPUT_PX, fragment_places, read_fragments
from operators.gpu_batches import Batches
from operators.vtss import Vtss, frame_indices
from tests.videos import texture, write_video

# First and last frames of the four inputs, by the official FragmentSampleFrames(32, 4, 2) (Koala-36M at 49b9478) where
# nothing is drawn: quarters of at most 64 frames.
OFFICIAL = {
    256: [0, 62, 64, 126, 128, 190, 192, 254],
    120: [0, 62, 30, 92, 60, 2, 90, 32],
    40: [0, 22, 10, 32, 20, 2, 30, 12],
}


def pts_of(path: Path) -> list[int]:
    import av

    with av.open(str(path)) as container:
        return [frame.pts for frame in container.decode(video=0) if frame.pts is not None]


@pytest.mark.parametrize("num", OFFICIAL)
def test_a_short_clip_gives_the_frames_of_the_official_sampler(num: int) -> None:
    indices = np.array(frame_indices(num, seed=0)).reshape(4, 32)
    assert indices[:, [0, -1]].ravel().tolist() == OFFICIAL[num]
    assert (np.diff(indices, axis=1) % num == 2 % num).all()


def test_a_long_clip_is_drawn_from_within_each_quarter() -> None:
    assert frame_indices(1000, seed=3) == frame_indices(1000, seed=3) != frame_indices(1000, seed=4)
    drawn = np.array([frame_indices(1000, seed) for seed in range(50)]).reshape(50, 4, 32)
    assert (drawn // 250 == np.arange(4)[:, None]).all()
    assert np.ptp(drawn[:, 0, 0]) > 100
    assert set(frame_indices(1, 0)) == {0}


def test_fragments_keep_their_places_for_one_input_whatever_the_order_of_its_frames(tmp_path: Path) -> None:
    frames = np.stack([np.full((240, 320, 3), 4 * t, np.uint8) for t in range(20)])  # each frame of one level
    path = write_video(tmp_path / "levels.mp4", frames, fps=10)
    pts = pts_of(path)
    order = frame_indices(20, seed=0)
    found = read_fragments(str(path), [pts[i] for i in order], None, tiles=1, draws=2, seed=0, aligned_frames=32)
    assert found.shape == (2, 128, INPUT_PX, INPUT_PX, 3)
    levels = found.reshape(2, 128, -1).mean(axis=2)
    assert np.abs(levels - 4 * np.array(order)).max() < 3
    assert fragment_places((240, 320), 1, seed=0, draw=0, num_groups=4).shape == (4, 1, 7, 7, 2)


def test_the_score_is_the_mean_of_the_networks_maps(tmp_path: Path) -> None:
    """The published layout is read by the real path; a linear network with a map of the same shape stands in, for time:
    what the real one computes is in test_technical, and with Koala-36M's own class and views the score was the same to
    1.5e-8 (random weights, 128 frames of 3840 x 2160)."""
    import torch

    from operators.swin3d import FragmentQuality

    torch.manual_seed(0)
    torch.save({"state_dict": FragmentQuality().state_dict()}, tmp_path / "infer.pth")
    path = write_video(tmp_path / "a.mp4", texture(20, 480, 640), fps=10)
    row = {"clip_id": "c", "uri": str(path), "seek_pts": None, "frame_pts": pts_of(path)}
    row |= {"width_px": 640, "height_px": 480}
    operator = Vtss(weights=str(tmp_path / "infer.pth"), draws=2)
    schema = pa.schema({c.name: c.dtype for c in Vtss.reads})
    _, digest, child = operator.setup()
    small = torch.nn.Conv3d(3, 1, (2, 32, 32), (2, 32, 32))
    try:
        table = operator.process((Batches(small, 4), digest, child), pa.Table.from_pylist([row], schema=schema))
    finally:
        child.close()
    (found,) = table.to_pylist()
    order = [row["frame_pts"][i] for i in frame_indices(20, seed=0)]
    seen = torch.tensor(read_fragments(str(path), order, None, 1, 2, 0, 32)).view(8, 32, INPUT_PX, INPUT_PX, 3).float()
    pixels = (seen - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    with torch.inference_mode():
        wanted = small(pixels.permute(0, 4, 1, 2, 3)).view(2, -1).mean(dim=1).numpy()
    assert found["error"] is None
    assert found["vtss_samples"] == pytest.approx(wanted, abs=1e-5)
    assert found["vtss_score"] == pytest.approx(wanted.mean(), abs=1e-5)
    assert found["vtss_spread"] == pytest.approx(wanted.std(), abs=1e-5)
    assert found["vtss_pixel_share"] == pytest.approx(2 * 224 * 224 / (480 * 640))
    assert len(found["vtss_weights_hash"]) == 64
