# SPDX-License-Identifier: Apache-2.0
"""Embeddings against the libraries' own documented calls, on tiny random checkpoints read by the real loading paths."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from operators.contract import RUN_LOG
from operators.embedding import Embedding
from operators.ends import EndSimilarity
from operators.image_model import ImageModel, decode_size, spread
from operators.video import read_frames
from operators.weights import files_hash
from tests.videos import texture, write_video

SIZE = 32
VISION: Any = {"image_size": SIZE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TEXT: Any = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> pa.Table:
    """Three clips: two textures at 96x160, and the first one again from its fifth frame."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for name, seed, first in (("a", 1, 0), ("b", 2, 0), ("a", 1, 5)):
        path = folder / f"{name}.mp4"
        if not path.exists():
            write_video(path, texture(20, 96, 160, seed=seed, speed_px=4.0), fps=10)
        pts = _pts(path)[first:]
        rows.append(
            {
                "clip_id": f"{name}{first}",
                "uri": str(path),
                "seek_pts": None,
                "frame_pts": pts,
                "width_px": 160,
                "height_px": 96,
                "pixel_aspect": 1.0,
            }
        )
    types = {c.name: c.dtype for c in Embedding.reads}
    return pa.Table.from_pylist(rows, schema=pa.schema(types))


def _pts(path: Path) -> list[int]:
    import av

    with av.open(str(path)) as container:
        return [frame.pts for frame in container.decode(video=0) if frame.pts is not None]


@pytest.fixture(scope="module")
def open_clip_folder(tmp_path_factory) -> Path:
    import torch
    from open_clip import CLIP
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("open_clip")
    torch.manual_seed(0)
    network = CLIP(embed_dim=24, vision_cfg=VISION, text_cfg=TEXT)
    config = {
        "model_cfg": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT},
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "interpolation": "bilinear"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tensors = {name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return folder


def _vision_config(cls, **more):
    return cls(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=8,
        **more,
    )


def _text_config(cls):
    return cls(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=64,
        max_position_embeddings=8,
        bos_token_id=1,
        eos_token_id=2,
    )


def _clip_folder(folder: Path) -> Path:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    CLIPVisionModelWithProjection(_vision_config(CLIPVisionConfig, projection_dim=24)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return folder


def _two_tower_clip_folder(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    text, vision = _text_config(CLIPTextConfig), _vision_config(CLIPVisionConfig)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return folder


def _siglip_folder(folder: Path) -> Path:
    from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

    SiglipVisionModel(_vision_config(SiglipVisionConfig)).save_pretrained(folder)
    SiglipImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return folder


def _two_tower_siglip_folder(folder: Path) -> Path:
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipTextConfig, SiglipVisionConfig

    text, vision = _text_config(SiglipTextConfig), _vision_config(SiglipVisionConfig)
    SiglipModel(SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())).save_pretrained(folder)
    SiglipImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return folder


def _dinov2_folder(folder: Path) -> Path:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    Dinov2Model(_vision_config(Dinov2Config)).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return folder


CHECKPOINTS = {
    "clip": _clip_folder,
    "clip-two-towers": _two_tower_clip_folder,
    "siglip": _siglip_folder,
    "siglip-two-towers": _two_tower_siglip_folder,
    "dinov2": _dinov2_folder,
}


def _run(operator: ImageModel, table: pa.Table) -> pa.Table:
    state = operator.setup()
    try:
        return operator.process(state, table)
    finally:
        operator.close(state)


def _small_frames(row: dict, num: int) -> np.ndarray:
    return read_frames(row["uri"], spread(row["frame_pts"], num), None, size=(SIZE, round(160 * SIZE / 96)))


def test_open_clip_equals_its_own_call(clips, open_clip_folder):
    import open_clip
    import torch
    from PIL import Image

    loaded: Any = open_clip.create_model_from_pretrained(f"local-dir:{open_clip_folder}")
    model, preprocess = loaded
    model.eval()
    table = _run(Embedding(backend="open_clip", model=f"local-dir:{open_clip_folder}"), clips)
    for row, got in zip(clips.to_pylist(), table["embedding"].to_pylist(), strict=True):
        with torch.no_grad():
            pixels = torch.stack([preprocess(Image.fromarray(frame)) for frame in _small_frames(row, 3)])
            wanted = model.encode_image(pixels, normalize=True).mean(0)
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert table["error_kind"].null_count == len(clips)


def test_any_layout_of_batches_and_blocks_gives_the_same_numbers(clips, open_clip_folder):
    model = f"local-dir:{open_clip_folder}"
    together = _run(Embedding(backend="open_clip", model=model), clips)["embedding"].to_pylist()
    for batch_size in (1, 4):
        operator = Embedding(backend="open_clip", model=model, batch_size=batch_size)
        state = operator.setup()
        rows = [operator.process(state, clips.slice(i, 1)) for i in reversed(range(len(clips)))]
        operator.close(state)
        alone = pa.concat_tables(reversed(rows))["embedding"].to_pylist()
        np.testing.assert_allclose(alone, together, atol=1e-5)


def test_a_checkpoint_file_of_a_named_architecture_equals_open_clips_own_call(clips, open_clip_folder, tmp_path):
    import open_clip
    import torch
    from PIL import Image

    config = json.loads((open_clip_folder / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "tiny-reel.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-reel.json")
    network: Any = open_clip.create_model_from_pretrained(f"local-dir:{open_clip_folder}", return_transform=False)
    weights = tmp_path / "weights.pt"
    torch.save(network.state_dict(), weights)
    operator = Embedding(backend="open_clip", model="tiny-reel", weights=str(weights), num_frames=1)
    got = _run(operator, clips)["embedding"].to_pylist()
    loaded: Any = open_clip.create_model_from_pretrained("tiny-reel", pretrained=str(weights))
    model, preprocess = loaded
    for row, vector in zip(clips.to_pylist(), got, strict=True):
        frame_HWC = _small_frames(row, 1)[0]
        with torch.no_grad():
            wanted = model.eval().encode_image(preprocess(Image.fromarray(frame_HWC))[None], normalize=True)[0]
        np.testing.assert_allclose(vector, wanted, atol=1e-4)


def _library_embedding(kind: str, folder: Path, frames_THWC: np.ndarray):
    """The call that the library's documentation shows for this kind of model."""
    from transformers import AutoImageProcessor, AutoModel, CLIPVisionModelWithProjection, SiglipVisionModel

    inputs = AutoImageProcessor.from_pretrained(folder)(images=list(frames_THWC), return_tensors="pt")
    if kind.endswith("two-towers"):
        return AutoModel.from_pretrained(folder).eval().get_image_features(**inputs).pooler_output
    if kind == "clip":
        return CLIPVisionModelWithProjection.from_pretrained(folder).eval()(**inputs).image_embeds
    model_class = SiglipVisionModel if kind == "siglip" else AutoModel
    return model_class.from_pretrained(folder).eval()(**inputs).pooler_output


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_transformers_equals_its_own_call(kind, clips, tmp_path):
    import torch

    torch.manual_seed(0)
    folder = CHECKPOINTS[kind](tmp_path)
    table = _run(Embedding(backend="transformers", model=str(folder)), clips)
    for row, got in zip(clips.to_pylist(), table["embedding"].to_pylist(), strict=True):
        with torch.no_grad():
            features = _library_embedding(kind, folder, _small_frames(row, 3))
        wanted = torch.nn.functional.normalize(features, dim=-1).mean(0)
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    first, second, later = table["embedding"].to_pylist()
    assert np.abs(np.subtract(first, second)).max() > 1e-3
    assert np.abs(np.subtract(first, later)).max() > 1e-4


def test_columns_say_what_made_the_embedding(clips, open_clip_folder):
    operator = Embedding(backend="open_clip", model=f"local-dir:{open_clip_folder}", num_frames=2)
    table = _run(operator, clips)
    written = [column.name for column in operator.writes]
    assert table.column_names == [*clips.column_names, *written, "error_kind", "error", RUN_LOG]
    assert table.schema.field("embedding").type == pa.list_(pa.float32())
    row = table.to_pylist()[0]
    assert row["embedding_model"] == f"open_clip:local-dir:{open_clip_folder}"
    assert row["embedding_weights_hash"] == files_hash(open_clip_folder.iterdir())
    assert row["embedding_pixel_share"] == pytest.approx(SIZE * SIZE / (160 * 96))


def test_a_changed_weight_changes_the_hash(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = files_hash(tmp_path.iterdir())
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert files_hash(tmp_path.iterdir()) != before


def test_a_clip_that_does_not_decode_gets_its_error_and_the_others_their_vectors(clips, open_clip_folder, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    rows = clips.to_pylist()
    rows[1]["uri"] = str(broken)
    table = _run(
        Embedding(backend="open_clip", model=f"local-dir:{open_clip_folder}"),
        pa.Table.from_pylist(rows, schema=clips.schema),
    )
    assert table["error_kind"].to_pylist() == [None, "bad_input", None]
    assert [vector is None for vector in table["embedding"].to_pylist()] == [False, True, False]
    assert "broken.mp4" in table["error"][1].as_py()


def test_a_checkpoint_with_missing_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = _clip_folder(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights.*visual_projection"):
        Embedding(backend="transformers", model=str(folder)).setup()


def test_an_open_clip_checkpoint_that_does_not_fit_is_refused(open_clip_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(open_clip_folder / "open_clip_model.safetensors")
    weights.pop("visual.proj")
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_bytes((open_clip_folder / "open_clip_config.json").read_bytes())
    with pytest.raises(ValueError, match=r"visual\.proj"):
        Embedding(backend="open_clip", model=f"local-dir:{tmp_path}").setup()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backend": "open_clip", "model": "ViT-B-32"}, "give `weights`"),
        ({"backend": "open_clip", "model": "ViT-B-32", "weights": "/no/such/file.safetensors"}, "no such file"),
        ({"backend": "open_clip", "model": "hf-hub:laion/some-model"}, "hf download laion/some-model"),
        ({"backend": "open_clip", "model": "local-dir:/no/such/folder"}, "no open_clip_config.json"),
        ({"backend": "transformers", "model": "some/model"}, "give the revision"),
        (
            {"backend": "transformers", "model": "some/model", "revision": "a" * 40},
            "hf download some/model --revision aaa",
        ),
    ],
)
def test_absent_weights_say_what_to_do(fields, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        Embedding(**fields).setup()


@pytest.mark.parametrize(
    "fields",
    [
        {"backend": "open_clip", "model": "m", "num_frames": 0},
        {"backend": "transformers", "model": "m", "weights": "w"},
        {"backend": "open_clip", "model": "m", "revision": "r"},
        {"backend": "timm", "model": "m"},
    ],
)
def test_fields_that_cannot_be_are_refused(fields):
    with pytest.raises(ValueError, match="embedding:"):
        Embedding(**fields)


def test_frames_are_spread_over_the_clip():
    pts = list(range(100, 190))
    assert spread(pts, 3) == [115, 145, 175]
    assert spread(pts, 1) == [145]
    assert spread([5, 6], 3) == [5, 6]


def test_frames_are_never_enlarged_and_shown_in_square_pixels():
    assert decode_size(3840, 2160, 1.0, 224) == (224, 398)
    assert decode_size(2160, 3840, 1.0, 224) == (398, 224)
    assert decode_size(160, 96, 1.0, 224) == (96, 160)
    assert decode_size(720, 576, 16 / 15, 224) == (224, 299)


@pytest.fixture(scope="module")
def ending_clips(clips, tmp_path_factory) -> pa.Table:
    """One scene throughout; a dissolve into another; three frames; one frame; no video."""
    folder = tmp_path_factory.mktemp("ends")
    scene = texture(20, 96, 160, seed=1, speed_px=1.0)
    other = np.array([40, 90, 200]) + texture(20, 96, 160, seed=2) // 8  # random weights tell colours apart, not things
    weight_T111 = np.clip((np.arange(20) - 6) / 8, 0, 1)[:, None, None, None]
    films = {"scene": scene, "dissolve": np.rint(scene + (other - scene.astype(float)) * weight_T111).astype(np.uint8)}
    rows = []
    for name, frames_THWC in films.items():
        write_video(folder / f"{name}.mp4", frames_THWC, fps=10)
        rows.append({**clips.to_pylist()[0], "clip_id": name, "uri": str(folder / f"{name}.mp4")})
    rows += [{**rows[1], "clip_id": f"{num} frames", "frame_pts": rows[1]["frame_pts"][:num]} for num in (3, 1)]
    (folder / "broken.mp4").write_bytes(b"no video")
    rows.append({**rows[0], "clip_id": "broken", "uri": str(folder / "broken.mp4")})
    return pa.Table.from_pylist(rows, schema=clips.schema)


def test_ends_are_compared_by_the_librarys_own_features(ending_clips, tmp_path):
    import torch

    torch.manual_seed(0)
    folder = _dinov2_folder(tmp_path)
    table = _run(EndSimilarity(backend="transformers", model=str(folder)), ending_clips)
    for row, got in zip(ending_clips.to_pylist()[:2], table["end_similarity"].to_pylist(), strict=False):
        frames_THWC = read_frames(row["uri"], row["frame_pts"], None, size=(SIZE, round(160 * SIZE / 96)))
        with torch.no_grad():
            features_TD = torch.nn.functional.normalize(_library_embedding("dinov2", folder, frames_THWC), dim=-1)
        wanted = torch.nn.functional.cosine_similarity(features_TD[:5].mean(0), features_TD[-5:].mean(0), dim=0)
        assert got == pytest.approx(float(wanted), abs=1e-4)
    assert table["error_kind"].to_pylist() == [None, None, None, None, "bad_input"]
    assert set(table["end_similarity_model"].to_pylist()[:4]) == {f"transformers:{folder}"}
    assert set(table["end_similarity_weights_hash"].to_pylist()[:4]) == {files_hash(folder.iterdir())}


def test_a_dissolve_ends_elsewhere_and_one_frame_has_no_ends(ending_clips, open_clip_folder):
    operator = EndSimilarity(backend="open_clip", model=f"local-dir:{open_clip_folder}")
    scene, dissolve, three, one, broken = _run(operator, ending_clips)["end_similarity"].to_pylist()
    assert dissolve < scene - 0.01
    assert dissolve < three <= 1
    assert one is broken is None


def test_ends_are_the_first_and_the_last_frames():
    operator = EndSimilarity(backend="open_clip", model="m", num_frames=2)
    assert [operator.frames_of(list(range(num))) for num in (1, 2, 3, 9)] == [[], [0, 1], [0, 2], [0, 1, 7, 8]]
    with pytest.raises(ValueError, match="end_similarity: num_frames is 0"):
        EndSimilarity(backend="open_clip", model="m", num_frames=0)
