# SPDX-License-Identifier: Apache-2.0
"""FasterVQA: our network against the authors' own, fragments against the frames they are cut from, the operator."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from operators.fragments import GRID, cut, enlarged, fragment_places, load_network, read_fragments
from operators.technical import Technical, frame_indices, summary
from tests.videos import texture, write_video

GOLDEN = Path(__file__).with_name("fragment_quality_golden.json")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def filled(state: dict[str, Any]) -> dict[str, Any]:
    """Numbers for every parameter that depend on its name and shape alone."""
    import torch

    made = {}
    for name, tensor in state.items():
        numbers = np.random.default_rng(sum(name.encode())).standard_normal(tuple(tensor.shape)).astype(np.float32)
        about = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        made[name] = torch.tensor(numbers * (0.2 if tensor.ndim > 1 else 0.5) + about)
    return made


def test_our_network_computes_what_the_authors_does() -> None:
    """The golden map was made by the official classes (SwinTransformer3D, VQAHead; commit 9f264e4 of
    VQAssessment/FAST-VQA-and-FasterVQA) with embed_dim 8, depths 2 2 2 2, heads 1 2 2 4, these parameters and this
    input. At full size, 28 million parameters, the two differed by 1.6e-7."""
    import torch

    from operators.swin3d import FragmentQuality, SwinConfig

    network = FragmentQuality(SwinConfig(8, (2, 2, 2, 2), (1, 2, 2, 4))).eval()
    network.load_state_dict(filled(network.state_dict()))
    pixels = torch.tensor(np.random.default_rng(7).standard_normal((1, 3, 32, 224, 224)).astype(np.float32))
    with torch.no_grad():
        found = network(pixels).numpy()
    assert found.shape == (1, 16, GRID, GRID)
    np.testing.assert_allclose(found.ravel(), json.loads(GOLDEN.read_text()), atol=3e-5)


def test_frames_are_four_in_each_eighth() -> None:
    indices = frame_indices(240, seed=3)
    assert indices == frame_indices(240, seed=3) != frame_indices(240, seed=4)
    pieces = np.array(indices).reshape(8, 4)
    assert (np.diff(pieces, axis=1) == 1).all()
    assert (pieces // 30 == np.arange(8)[:, None]).all()
    assert frame_indices(32, 0) == list(range(32))
    assert len(frame_indices(1, 0)) == len(frame_indices(20, 0)) == 32
    assert max(frame_indices(20, 0)) == 19


@pytest.mark.parametrize("tiles", [1, 2])
def test_fragments_are_untouched_native_pixels_from_all_over_the_tile(tiles: int) -> None:
    rows, columns = np.mgrid[:1080, :1920]
    frame_HWC = np.stack([rows // 256, rows % 256, columns // 8], axis=-1).astype(np.uint8)
    places = fragment_places((1080, 1920), tiles, seed=0, draw=1, num_groups=4)
    assert places.shape == (4, tiles * tiles, GRID, GRID, 2)
    found = np.zeros((tiles * tiles, 224, 224, 3), np.uint8)
    cut(frame_HWC, places[2], found)
    for tile in range(tiles * tiles):
        y, x = divmod(tile, tiles)
        cells = found[tile].reshape(GRID, 32, GRID, 32, 3).astype(int)
        top, left = cells[:, 0, :, 0, 0] * 256 + cells[:, 0, :, 0, 1], cells[:, 0, :, 0, 2] * 8
        height, width = 1080 // (tiles * GRID), 1920 // (tiles * GRID)
        assert (top // height == (y * GRID + np.arange(GRID))[:, None]).all()
        assert ((left + 7) // width - (x * GRID + np.arange(GRID)) >= 0).all()
        assert (np.diff(cells[:, :, 0, 0, 0] * 256 + cells[:, :, 0, 0, 1], axis=1) == 1).all()
    assert not np.array_equal(places, fragment_places((1080, 1920), tiles, seed=0, draw=0, num_groups=4))
    assert enlarged(np.zeros((100, 400, 3), np.uint8), 1).shape == (224, 896, 3)


def clip_row(path: Path, num: int, size: tuple[int, int]) -> dict[str, Any]:
    import av

    with av.open(str(path)) as container:
        pts = [frame.pts for frame in container.decode(video=0)]
    assert len(pts) == num
    place = {"uri": str(path), "seek_pts": None, "frame_pts": pts}
    return {"clip_id": "c", **place, "width_px": size[1], "height_px": size[0]}


def test_the_operator_loads_the_published_layout_and_scores_a_clip(tmp_path: Path) -> None:
    import torch

    from operators.swin3d import FragmentQuality

    state: dict[str, Any] = {name: t.clone() for name, t in FragmentQuality().state_dict().items()}
    for block in ("layers.0.blocks.0", "layers.3.blocks.1"):  # buffers, as in the published file
        state[f"fragments_backbone.{block}.attn.relative_position_index"] = torch.zeros(392, 392, dtype=torch.int64)
    torch.save({"state_dict": state, "validation_results": (np.float64(0.8),)}, tmp_path / "w.pth")
    path = write_video(tmp_path / "a.mp4", texture(40, 256, 320), fps=20)
    row = clip_row(path, 40, (256, 320))
    broken = row | {"clip_id": "d", "uri": str(tmp_path / "none.mp4")}
    schema = pa.schema({c.name: c.dtype for c in Technical.reads})
    operator = Technical(weights=str(tmp_path / "w.pth"), draws=1, tiles=3)
    loaded = operator.setup()
    try:
        table = operator.process(loaded, pa.Table.from_pylist([row, broken], schema=schema))
    finally:
        operator.close(loaded)
    first, failed = table.to_pylist()
    assert first["error_kind"] is None
    assert 0 <= first["technical_score"] <= 1
    assert first["technical_spread"] is None
    assert len(first["technical_tile_samples"]) == 1  # a third of 256 pixels is too small for a tile
    assert first["technical_pixel_share"] == pytest.approx(224 * 224 / (256 * 320))
    assert (failed["technical_score"], failed["error_kind"]) == (None, "transient")
    fragments = read_fragments(row["uri"], row["frame_pts"][:32], None, 1, 2, 0, 8)
    assert fragments.shape == (2, 32, 224, 224, 3)
    del state["vqa_head.fc_last.bias"]
    with pytest.raises(ValueError, match=r"no weights of FasterVQA: vqa_head.fc_last.bias is missing"):
        load_network(state, "FasterVQA")


def test_scores_of_draws_and_tiles() -> None:
    found = summary(np.array([[0.14759505, 0.14759505 + 0.03613452], [0.14759505, 0.14759505]]))
    logistic = 1 / (1 + np.exp(-1))
    assert found["technical_score"] == pytest.approx((0.5 * 3 + logistic) / 4)
    assert found["technical_tile_min"] == pytest.approx(0.5)
    assert found["technical_spread"] == pytest.approx((logistic - 0.5) / 4)
    with pytest.raises(ValueError, match="tiles is 0"):
        Technical(weights="w", tiles=0)


def test_out_of_memory_halves_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    import torch

    from operators.gpu_batches import Batches

    seen: list[int] = []

    def forward(rows: Any) -> Any:
        seen.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("injected")
        return rows * 2

    batches = Batches(forward, 16)
    rows = torch.arange(10.0)
    assert torch.equal(batches(rows), rows * 2)
    assert seen == [10, 8, 4, 2, 2, 2, 2, 2]
    assert batches.size == 2
    assert "out of memory with 16 at once: going on with 8" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        Batches(lambda rows: forward(torch.zeros(9)), 4)(rows)


def test_a_warm_up_finds_the_batch_that_fits_and_nothing_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    import torch

    from operators.gpu_batches import Batches

    def forward(rows: Any) -> Any:
        if len(rows) > 3:
            raise torch.OutOfMemoryError("injected")
        return rows.sum(1)

    batches = Batches(forward, 8)
    batches.warm_up(torch.zeros(5))
    assert batches.size == 2
    assert "going on with 2" in caplog.text
    assert torch.equal(batches(torch.ones(7, 5)), torch.full((7,), 5.0))
