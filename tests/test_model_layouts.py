# SPDX-License-Identifier: Apache-2.0
"""Scores do not depend on which clips stand together: every operator of the catalog, in two layouts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from captioning.config import LocalModel
from operators.catalog import OPERATORS, operator_class
from operators.contract import Operator
from operators.image_towers import open_clip_files
from operators.weights import files_hash
from reelmill.captions import Renderings, rendering_rows
from tests.caption_rows import clip_rows
from tests.test_defects import TINY
from tests.test_heads import AESTHETIC, NSFW, embedded, published, tiny_open_clip
from tests.test_text_features import captions, floats, save_encoder
from tests.test_video_clip_score import captioned
from tests.tiny_models import save_qwen
from tests.tiny_onnx import save_yunet
from tests.videos import texture, write_video

Case = tuple[dict[str, Any], dict[str, Any], dict[str, Any], pa.Table]
"""Fields of the operator, those of either layout, and two rows or more."""
ONE, MANY = {"batch_size": 1}, {"batch_size": 8}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Three clips of two sizes and lengths."""
    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for name, num, height in (("a", 12, 128), ("b", 9, 160), ("c", 12, 128)):
        frames_THWC = texture(num, height, 224, seed=num + height + (name == "c"), speed_px=3.0)
        paths.append(write_video(folder / f"{name}.mp4", frames_THWC, fps=10))
    return clip_rows(paths)


def image_model(folder: Path, clips: pa.Table) -> Case:
    tiny_open_clip(folder)
    return {"backend": "open_clip", "model": f"local-dir:{folder}", "num_frames": 2}, ONE, MANY, clips


def head(layers: list[Any]) -> Callable[[Path, pa.Table], Case]:
    def case(folder: Path, clips: pa.Table) -> Case:
        import torch

        torch.save(published(layers).state_dict(), folder / "w.pth")
        return {"weights": str(folder / "w.pth")}, {}, {}, embedded(layers[0][0], 3, 1, None, 3)

    return case


def flow(folder: Path, clips: pa.Table) -> Case:
    import torch
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), folder / "w.pth")
    fields = {"weights": str(folder / "w.pth"), "model": "raft_small", "height_px": 128, "num_pairs": 2}
    return fields, ONE, MANY, clips


def fragments(folder: Path, clips: pa.Table) -> Case:
    import torch

    torch.save(small_quality().state_dict(), folder / "w.pth")
    return {"weights": str(folder / "w.pth"), "draws": 1}, ONE, MANY, clips.slice(0, 2)


def small_quality(state: Any = None, what: str = "") -> Any:
    """The real class with a hundredth of the weights; that the published ones load is in test_technical."""
    import torch

    from operators.swin3d import FragmentQuality, SwinConfig

    torch.manual_seed(0)
    config = SwinConfig(width=16, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2))
    network = FragmentQuality(config).eval()
    if state is not None:
        network.load_state_dict(state)
    return network


def faces(folder: Path, clips: pa.Table) -> Case:
    return {"weights": str(save_yunet(folder / "tiny.onnx"))}, {}, {}, clips


def topics(folder: Path, clips: pa.Table) -> Case:
    tiny_open_clip(folder)
    return {"backend": "open_clip", "model": f"local-dir:{folder}"}, {}, {}, embedded(24, 3, 1, None, 3)


def video_clip_score(folder: Path, clips: pa.Table) -> Case:
    tiny_open_clip(folder)
    digest = files_hash(open_clip_files(f"local-dir:{folder}", None))
    texts = ["a man walks. a dog runs home.", "the sky is red.", None, "a boat."]
    return {"backend": "open_clip", "model": f"local-dir:{folder}"}, {}, {}, captioned(texts, digest)


def text_features(folder: Path, clips: pa.Table) -> Case:
    save_encoder(folder, "t5")
    renderings = Renderings()
    fields = {"family": "t5", "model": str(folder), "max_tokens": 24, "precision": "fp32", "renderings": renderings}
    return fields, ONE, MANY, rendering_rows(captions("a", "b"), renderings, with_empty=True)


def defects(folder: Path, clips: pa.Table) -> Case:
    save_qwen(folder, "qwen3_vl", words=("yes", "no"))

    def model(num_parallel: int) -> LocalModel:
        return LocalModel(uri=str(folder), precision="fp32", device="cpu", num_parallel=num_parallel)

    fields = {"engine": "transformers", "tier": TINY, "questions": {"blur": "Is it blurred?", "noise": "Is it noisy?"}}
    return fields, {"model": model(1)}, {"model": model(3)}, clips


def pii(folder: Path, clips: pa.Table) -> Case:
    lines = [["a@b.org"], [], None]
    column = pa.array(lines, pa.list_(pa.string()))
    return {}, {}, {}, pa.table({"clip_id": ["x", "y", "z"], "text_strings": column})


CASES: dict[str, Callable[[Path, pa.Table], Case]] = {
    "aesthetic": head(AESTHETIC),
    "defects": defects,
    "embedding": image_model,
    "end_similarity": image_model,
    "faces": faces,
    "flow": flow,
    "nsfw": head(NSFW),
    "pii": pii,
    "technical": fragments,
    "text": lambda folder, clips: ({"num_frames": 1}, {}, {}, clips),
    "text_features": text_features,
    "topics": topics,
    "video_clip_score": video_clip_score,
    "vtss": fragments,
}


def test_no_operator_is_left_out() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize("name", CASES)
def test_one_row_a_block_and_all_in_one_give_the_same(
    name: str, clips: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operators.fragments.load_network", small_quality)
    fields, one, many, table = CASES[name](tmp_path, clips)
    cls: Any = operator_class(name)
    alone = run(cls(**fields, **one), [table.slice(row, 1) for row in range(table.num_rows)])
    order = list(reversed(range(table.num_rows)))
    together = run(cls(**fields, **many), [table.take(order)])
    together = together.take(order)
    operator = cls(**fields, **one)
    has_values = False
    for column in operator.writes:
        a, b = alone[column.name].to_pylist(), together[column.name].to_pylist()
        has_values |= any(value is not None for value in a)
        if operator.exact:
            assert a == b, column.name
        else:
            for x, y in zip(a, b, strict=True):
                assert_close(x, y, operator.tolerance, column.name)
    assert has_values
    assert alone["error_kind"].null_count == table.num_rows


def run(operator: Operator, blocks: list[pa.Table]) -> pa.Table:
    state = operator.setup()
    try:
        return pa.concat_tables(operator.process(state, block) for block in blocks)
    finally:
        operator.close(state)


def assert_close(a: Any, b: Any, tolerance: float, column: str) -> None:
    if isinstance(a, bytes) and isinstance(b, bytes):  # bfloat16
        a, b = floats(a, [-1]), floats(b, [-1])
    if a is None or isinstance(a, str | bool):
        assert a == b, column
    else:
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=tolerance, atol=tolerance, err_msg=column)
