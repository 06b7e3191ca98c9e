# SPDX-License-Identifier: Apache-2.0
"""Every tokenizer keeps the same promises; networks are tiny, of random weights, saved and loaded by real classes."""

import hashlib
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.recipe import build_tokenizers, load_recipe
from reelmill.tokens import pack
from tokenization.adapters.code import Code
from tokenization.adapters.diffusers_vae import TILED, DiffusersVae
from tokenization.adapters.emu3 import Emu3
from tokenization.adapters.hieratok import HieraTok
from tokenization.adapters.pixels import Pixels
from tokenization.adapters.reference import Reference
from tokenization.adapters.torchscript import TorchScript
from tokenization.adapters.vidtok import VidTok
from tokenization.contract import Tokenizer

HEIGHT, WIDTH = 64, 96
VIDTOK: dict[str, Any] = {
    "ch": 32, "ch_mult": [1] * 4, "z_channels": 5, "double_z": False, "num_res_blocks": 1, "regularizer": "fsq",
    "codebook_size": 32768,
}  # fmt: skip
VAES: dict[str, dict[str, Any]] = {
    "AutoencoderKLWan": {
        "base_dim": 4, "z_dim": 16, "dim_mult": [1] * 4, "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
    },
    "AutoencoderKLHunyuanVideo": {
        "latent_channels": 4, "block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 4,
    },
    "AutoencoderKLLTXVideo": {
        "latent_channels": 8, "block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4,
        "layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 5,
    },
    "AutoencoderKLCosmos": {
        "latent_channels": 4, "encoder_block_out_channels": (8,) * 4, "decode_block_out_channels": (8,) * 4,
        "attention_resolutions": (8,), "resolution": 64, "num_layers": 1, "temporal_compression_ratio": 4,
    },
}  # fmt: skip


def saved(folder: Path, library: str, name: str, config: dict[str, Any]) -> str:
    import importlib

    torch.manual_seed(0)
    cls = getattr(importlib.import_module(library), name)
    if library == "transformers":
        from transformers.models.emu3 import Emu3VQVAEConfig

        model = cls(Emu3VQVAEConfig(**config))
    else:
        model = cls(**config)
    model.save_pretrained(folder / name)
    return str(folder / name)


def saved_hieratok(folder: Path, is_fsq: bool) -> str:
    from tokenization.hieratok import HieraTok as Model
    from tokenization.hieratok import HieraTokConfig

    torch.manual_seed(0)
    levels, readout = ((5, 4), "all") if is_fsq else ((), "finest")
    config = HieraTokConfig(
        tile_px=32, patch=(4, 8, 8), channels=6, levels=levels, readout=readout, width=24, heads=2, depth=(1, 1, 1)
    )
    Model(config).save(folder)
    return str(folder)


TILED_HERE = [name for name in VAES if name in TILED]


class BlockEncoder(torch.nn.Module):
    """Mean colour of each block of 8 frames and 8 x 8 pixels, first frame alone; as ids of 4 levels, or a latent."""

    def __init__(self, has_ids: bool) -> None:
        super().__init__()
        self.has_ids = has_ids

    def forward(self, x_BCTHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        padded = torch.cat([x_BCTHW[:, :, :1].expand(-1, -1, 7, -1, -1), x_BCTHW], 2)
        mean = torch.nn.functional.avg_pool3d(padded, 8)
        if self.has_ids:
            levels = ((mean + 1) * 1.999).long().clamp(0, 3)
            return levels[:, 0] + 4 * levels[:, 1] + 16 * levels[:, 2], mean
        return mean, mean


class BlockDecoder(torch.nn.Module):
    def __init__(self, has_ids: bool) -> None:
        super().__init__()
        self.has_ids = has_ids

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        if self.has_ids:
            y = torch.stack([y % 4, y // 4 % 4, y // 16], 1).float() / 2 - 0.75
        grown = y.repeat_interleave(8, 2).repeat_interleave(8, 3).repeat_interleave(8, 4)
        return grown[:, :, 7:]


def saved_pair(folder: Path, has_ids: bool) -> str:
    folder.mkdir(exist_ok=True)
    for name, part in (("encoder", BlockEncoder(has_ids)), ("decoder", BlockDecoder(has_ids))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is, and Cosmos ships it all the same
            torch.jit.save(torch.jit.script(part.eval()), folder / f"{name}.jit")
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def make(name: str, folder: Path) -> Tokenizer:
    sizes: dict[str, Any] = {"heights": (HEIGHT,), "max_frames": 9}
    if name == "reference":
        return Reference(**sizes)
    if name == "pixels":
        return Pixels(height_px=HEIGHT, width_px=WIDTH, max_frames=9)
    if name == "code":
        return Code(code="tests.test_adapters:flat_bits", **sizes)
    if name == "emu3":
        config = {
            "codebook_size": 64, "base_channels": 32, "channel_multiplier": [1] * 4, "num_res_blocks": 1,
            "attn_resolutions": [3], "hidden_size": 32,
        }  # fmt: skip
        return Emu3(weights=saved(folder, "transformers", "Emu3VQVAE", config), **sizes)
    if name.startswith("torchscript"):
        has_ids = name.endswith("ids")
        what = {"vocab": 64} if has_ids else {"channels": 3}
        return TorchScript(weights=saved_pair(folder / name, has_ids), **what, **sizes)
    if name.startswith("hieratok"):
        return HieraTok(weights=saved_hieratok(folder / name, is_fsq=name.endswith("fsq")), **sizes)
    if name.startswith("vidtok"):
        is_causal = name == "vidtok"
        weights = saved(folder / name, "diffusers", "AutoencoderVidTok", {**VIDTOK, "is_causal": is_causal})
        return VidTok(weights=weights, heights=(HEIGHT,), max_frames=9 if is_causal else 20)
    keeps = name != "AutoencoderKLCosmos"  # it has none
    return DiffusersVae(weights=saved(folder, "diffusers", name, VAES[name]), keeps_logvar=keeps, **sizes)


class FlatBits:
    """A tokenizer that a user might bring: the highest bit of the mean of 8 x 8 squares, three to a byte."""

    def __init__(self, time: Any, heights: tuple[int, ...]) -> None:
        from reelmill.tokens import InputRule, Scale, Stream, TokenizerSpec

        self.spec = TokenizerSpec(
            name="flat bits",
            family="lfq",
            input=InputRule(multiple=8, heights=heights),
            time=time(1, 1),
            streams=(Stream("pixel", "bits", (Scale(reduce=(1, 1, 1)),), (1, 8, 8), bits=3),),
            combine="single",
            runtime={"dtype": "uint8", "tile": None, "overlap": None, "batch": "one window"},
        )

    def encode(self, frames_THWC: np.ndarray) -> dict[str, np.ndarray]:
        t, h, w, _ = frames_THWC.shape
        means = frames_THWC.reshape(t, h // 8, 8, w // 8, 8, 3).mean(axis=(2, 4))
        return {"tokens_pixel_s0": ((means >= 128) * np.array([1, 2, 4])).sum(-1).astype(np.uint8)[..., None]}

    def decode(self, payload: dict[str, np.ndarray], upto_scale: int | None = None) -> np.ndarray:
        bits = (payload["tokens_pixel_s0"] >> np.arange(3)) & 1
        return (bits * 191 + 32).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)


def flat_bits(weights: Path | None, device: str, heights: tuple[int, ...], time: Any) -> FlatBits:
    return FlatBits(time, heights)


def nothing(**options: Any) -> None:
    return None


def window(length: int) -> np.ndarray:
    from tokenization.synthetic import synthetic_windows

    frames = next(synthetic_windows(1, 7, 96, max(length, 2)))
    return np.ascontiguousarray(frames[:length, :HEIGHT, :WIDTH])


NAMES = [
    "reference",
    "pixels",
    "code",
    "torchscript_ids",
    "torchscript_latent",
    "hieratok_fsq",
    "hieratok_kl",
    "vidtok",
    "vidtok_not_causal",
    "emu3",
    *VAES,
]


@pytest.mark.parametrize("name", NAMES)
def test_conformance(name: str, folder: Path) -> None:
    tokenizer = make(name, folder)
    spec = tokenizer.spec
    plan = spec.plan(21, HEIGHT, WIDTH, 30.0)
    (bucket,) = plan.buckets
    assert (bucket.in_h, bucket.in_w) == (HEIGHT, WIDTH)
    frames = window(bucket.in_t)
    codec = tokenizer.load()
    payload = codec.encode(frames)
    assert set(payload) == set(bucket.shapes)
    data = {}
    for stream, k in spec.columns():
        column = stream.column(k)
        assert stream.grid_of(payload[column]) == bucket.shapes[column]
        data[column] = pack(stream, k, payload[column])  # refuses ids outside the vocabulary
    assert sum(map(len, data.values())) == bucket.num_bytes
    again = codec.encode(frames)
    assert all(pack(s, k, again[s.column(k)]) == data[s.column(k)] for s, k in spec.columns())
    decoded = codec.decode(payload)
    assert decoded.shape == frames.shape
    assert decoded.dtype == np.uint8
    assert len(codec.psnr_per_scale(frames, payload)) == (len(spec.streams[0].scales) if spec.prefix == "scale" else 1)
    assert spec.spec_id == type(spec).from_json(spec.to_json()).spec_id


def test_vidtok_gives_the_ids_of_the_class_itself(folder: Path) -> None:
    from diffusers import AutoencoderVidTok  # type: ignore[attr-defined]

    tokenizer = make("vidtok", folder)
    codec = tokenizer.load()
    payload = codec.encode(window(9))
    model = AutoencoderVidTok.from_pretrained(tokenizer.folder).eval()  # type: ignore[attr-defined]
    x = torch.from_numpy(window(9)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        out = model(x).sample  # `forward` repeats the first frame by itself
    expected = ((out[0] + 1) * 127.5).clamp(0, 255).round().byte().permute(1, 2, 3, 0).numpy()
    assert np.abs(codec.decode(payload).astype(int) - expected).max() <= 1
    assert tokenizer.spec.plan(16, HEIGHT, WIDTH, 30.0).buckets[0].in_t == 9, "no window whose frames would be dropped"


@pytest.mark.parametrize("name", VAES)
def test_latents_are_those_of_the_class_itself(name: str, folder: Path) -> None:
    import diffusers

    tokenizer = make(name, folder)
    model = getattr(diffusers, name).from_pretrained(tokenizer.folder).eval()  # type: ignore[attr-defined]
    frames = np.zeros((5 if name != "AutoencoderKLLTXVideo" else 9, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, :32], frames[:, :, :40] = 255, 128
    codec = tokenizer.load()
    x = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    assert torch.allclose(codec.pixels_in(frames), x, atol=1e-6)  # type: ignore[attr-defined]
    with torch.no_grad():
        expected = model.encode(x).latent_dist
    payload = codec.encode(frames)
    np.testing.assert_array_equal(payload["tokens_pixel_s0"], expected.mode()[0].numpy())
    if name != "AutoencoderKLCosmos":
        np.testing.assert_array_equal(payload["aux_pixel_logvar_s0"], expected.logvar[0].numpy())
    mean, std = tokenizer.spec.streams[0].mean, tokenizer.spec.streams[0].std
    if name == "AutoencoderKLWan":
        assert mean is not None
        assert std is not None
        assert (mean[0][0], std[0][15]) == (-0.7571, 1.9160)


@pytest.mark.parametrize("name", TILED_HERE)
def test_tiles_are_those_of_the_class_itself(name: str, folder: Path) -> None:
    import diffusers

    weights = saved(folder, "diffusers", name, VAES[name])
    sizes: dict[str, Any] = {"heights": (HEIGHT,), "max_frames": 9}
    whole, tiled = (DiffusersVae(weights=weights, tile_px=tile, overlap_px=32, **sizes) for tile in (None, 64))
    assert (tiled.spec.runtime["tile"], tiled.spec.runtime["overlap"]) == (64, 32)
    assert tiled.spec.spec_id != whole.spec.spec_id
    model = getattr(diffusers, name).from_pretrained(weights).eval()  # type: ignore[attr-defined]
    model.enable_tiling(64, 64, **{f"tile_sample_stride_{side}": 32 for side in ("height", "width")})
    frames = window(9)
    with torch.no_grad():
        expected = model.encode(torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1).latent_dist
    latent_CTHW = tiled.load().encode(frames)["tokens_pixel_s0"]
    assert latent_CTHW.shape[1:] == tiled.spec.plan(9, HEIGHT, WIDTH, 30.0).buckets[0].shapes["tokens_pixel_s0"][:3]
    np.testing.assert_allclose(latent_CTHW, expected.mode()[0].numpy(), atol=1e-5)
    assert not np.allclose(latent_CTHW, whole.load().encode(frames)["tokens_pixel_s0"], atol=1e-5)
    with pytest.raises(ValueError, match=r"tile_px 64, overlap_px 64: give multiples of (8|32)"):
        DiffusersVae(weights=weights, tile_px=64, overlap_px=64).spec  # noqa: B018
    cosmos = saved(folder, "diffusers", "AutoencoderKLCosmos", VAES["AutoencoderKLCosmos"])
    with pytest.raises(ValueError, match="AutoencoderKLCosmos without tiles"):
        DiffusersVae(weights=cosmos, tile_px=64, overlap_px=32).spec  # noqa: B018


def test_a_torchscript_pair_gives_what_its_files_give(folder: Path) -> None:
    tokenizer = make("torchscript_latent", folder)
    frames = np.full((9, HEIGHT, WIDTH, 3), 255, np.uint8)
    frames[:, :, :48], frames[:, :32] = 0, 128
    codec = tokenizer.load()
    latent_CTHW = codec.encode(frames)["tokens_pixel_s0"]
    assert latent_CTHW.shape == (3, 2, HEIGHT // 8, WIDTH // 8)
    assert np.abs(codec.decode({"tokens_pixel_s0": latent_CTHW}).astype(int) - frames).max() <= 1
    weights = tokenizer.weights  # type: ignore[attr-defined]
    assert TorchScript(weights=weights, channels=3).spec.weights_sha256 == tokenizer.spec.weights_sha256
    wrong = TorchScript(weights=weights, channels=4, heights=(HEIGHT,), max_frames=9).load()
    with pytest.raises(ValueError, match=r"gives \(3, 2, 8, 12\) for .*, by_frames and by_px say \(4, 2, 8, 12\)"):
        wrong.encode(frames)
    refused: list[tuple[dict[str, Any], str]] = [
        ({}, "give vocab"),
        ({"vocab": 8, "channels": 3}, "give vocab"),
        ({"vocab": 8, "by_px": 12}, "multiple must be one of by_px"),
    ]
    for options, message in refused:
        with pytest.raises(ValueError, match=message):
            TorchScript(weights=weights, **options)
    (folder / "half").mkdir()
    with pytest.raises(ValueError, match=r"there is no encoder\.jit"):
        TorchScript(weights=str(folder / "half"), vocab=8).spec  # noqa: B018


def test_what_decides_tokens_is_in_the_spec(folder: Path) -> None:
    weights = saved(folder, "diffusers", "AutoencoderKLWan", VAES["AutoencoderKLWan"])
    base = DiffusersVae(weights=weights)
    others = (DiffusersVae(weights=weights, dtype="bfloat16"), DiffusersVae(weights=weights, max_frames=5))
    assert len({tokenizer.spec.spec_id for tokenizer in (base, *others)}) == 3
    assert DiffusersVae(weights=weights, device="cuda").spec.spec_id == base.spec.spec_id
    with pytest.raises(ValueError, match="vidtok reads AutoencoderVidTok"):
        VidTok(weights=weights).spec  # noqa: B018
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        DiffusersVae(weights="/no/such").spec  # noqa: B018


def test_user_code_by_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    item = "{tokenizer: code, code: 'tests.test_adapters:flat_bits', heights: [64]}"
    recipe.write_text(f"recipe: r\ntokens:\n  - {item}\n")
    (operator,) = build_tokenizers(load_recipe(str(recipe)))
    assert operator.spec.name == "flat bits"  # type: ignore[attr-defined]
    import pickle

    assert pickle.loads(pickle.dumps(operator)).spec == operator.spec  # type: ignore[attr-defined]
    for code, message in (
        ("nonsense", "package.module:callable"),
        ("no.such:x", "cannot be imported"),
        ("tests.test_adapters:nothing", "without spec, encode, decode"),
    ):
        with pytest.raises(ValueError, match=message):
            Code(code=code).spec  # noqa: B018


def loaded_once(weights: Path, device: str, heights: tuple[int, ...], time: Any) -> FlatBits:
    made = FlatBits(time, heights)
    made.load = lambda: weights.with_suffix(".loads").touch(exist_ok=False)  # type: ignore[attr-defined]
    return made


def test_user_code_is_completed_and_held_to_its_spec(tmp_path: Path) -> None:
    (tmp_path / "w.ckpt").write_bytes(b"weights")
    named: dict[str, Any] = {"code": "tests.test_adapters:loaded_once", "weights": str(tmp_path / "w.ckpt")}
    tokenizer = Code(**named, licence="MIT", heights=(HEIGHT,), max_frames=9)
    assert tokenizer.spec.weights_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert (tokenizer.spec.licence, tokenizer.spec.decode["code"]) == ("MIT", named["code"])
    assert not (tmp_path / "w.loads").exists(), "the spec loads nothing"
    codec = tokenizer.load()
    assert (tmp_path / "w.loads").exists()
    made, frames = tokenizer.made, window(9)
    good = codec.encode(frames)
    for payload, message in (
        ({"tokens": good["tokens_pixel_s0"]}, r"encode gave \['tokens'\], the spec says \['tokens_pixel_s0'\]"),
        (
            {"tokens_pixel_s0": good["tokens_pixel_s0"][1:]},
            r"has shape \(8, 8, 12, 1\).* 9 frames of 96x64 .*\(9, 8, 12, 1\)",
        ),
        ({"tokens_pixel_s0": good["tokens_pixel_s0"].ravel()}, r"has shape \(864,\)"),
    ):
        made.encode = lambda _, payload=payload: payload
        with pytest.raises(ValueError, match=message):
            codec.encode(frames)
    made.decode = lambda payload, upto_scale: frames / 255
    with pytest.raises(ValueError, match=r"decode gave float64 \(9, 64, 96, 3\), not uint8 THWC"):
        codec.decode(good)


def test_user_code_comes_from_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "clone_of_somebody.py").write_text("from tests.test_adapters import flat_bits as make\n")
    code = "clone_of_somebody:make"
    with pytest.raises(ValueError, match=r"cannot be imported: No module named 'clone_of_somebody'.*path missing"):
        Code(code=code).spec  # noqa: B018
    with pytest.raises(ValueError, match="is no folder on this machine; clone"):
        Code(code=code, path=str(tmp_path / "none")).spec  # noqa: B018
    assert Code(code=code, path=str(tmp_path)).spec == Code(code=code, path=str(tmp_path) + "/").spec
