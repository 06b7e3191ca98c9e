# SPDX-License-Identifier: Apache-2.0
"""The worked examples of `code:` against the real repositories, with random weights in their published layout.

mkdir /src; cd /src
git clone https://github.com/FoundationVision/VAR && git -C VAR checkout 78b95394
git clone https://github.com/turingmotors/One-D-Piece && git -C One-D-Piece checkout 473665d1
git clone https://github.com/zhuangshaobin/WeTok && git -C WeTok checkout caa2ad7e
REELMILL_PEER_REPOS=/src uv run --with einops,lightning,omegaconf pytest tests/test_peer_tokenizers.py
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from reelmill.tokens import pack, unpack
from tokenization.adapters.code import Code, CodeCodec

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of the repositories' code
NEEDS = {"VAR": (), "One-D-Piece": ("einops", "omegaconf"), "WeTok": ("einops", "lightning")}


def clone_of(name: str) -> str:
    folder = os.environ.get("REELMILL_PEER_REPOS")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"no {name} below REELMILL_PEER_REPOS={folder}; this file's first lines say how to clone it")
    if missing := [package for package in NEEDS[name] if importlib.util.find_spec(package) is None]:
        pytest.skip(f"{name} imports {missing[0]}; run with `uv run --with {','.join(NEEDS[name])}`")
    return str(Path(folder) / name)


def frames_of(num: int, height: int, width: int) -> np.ndarray:
    """Smooth colours with the codes 0, 128 and 255 in it."""
    from tokenization.synthetic import synthetic_windows

    frames = next(synthetic_windows(1, 7, max(height, width), max(num, 2)))[:num, :height, :width].copy()
    frames[:, :16, :16], frames[:, :16, 16:32], frames[:, :16, 32:48] = 0, 128, 255
    return frames


def stored(codec: CodeCodec, payload: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {s.column(k): pack(s, k, payload[s.column(k)]) for s, k in codec.spec.columns()}


def checked(tokenizer: Code, frames: np.ndarray, clip: tuple[int, int]) -> tuple[CodeCodec, dict[str, np.ndarray]]:
    """What every tokenizer promises; returns the codec and the payload as a reader gets it from a shard."""
    spec, codec = tokenizer.spec, tokenizer.load()
    (bucket,) = spec.plan(30, *clip, 30.0).buckets
    assert (bucket.in_t, bucket.in_h, bucket.in_w) == frames.shape[:3]
    data = stored(codec, codec.encode(frames))
    assert stored(codec, codec.encode(frames)) == data, "same bytes twice"
    assert sum(map(len, data.values())) == bucket.num_bytes
    assert bucket.num_tokens == sum(np.prod(shape[:3]) for shape in bucket.shapes.values())
    payload = {s.column(k): unpack(s, k, data[s.column(k)], bucket.shapes[s.column(k)]) for s, k in spec.columns()}
    assert all(len(np.unique(ids)) > 1 for ids in payload.values() if ids.size > 16), "one id everywhere shows nothing"
    assert codec.decode(payload).shape == frames.shape
    assert spec.weights_sha256
    assert spec.licence
    return codec, payload


def as_frames(image_BCHW: torch.Tensor, low: float) -> np.ndarray:
    codes = (image_BCHW.clamp(low, 1) - low) * (255 / (1 - low))
    return codes.round().byte().permute(0, 2, 3, 1).numpy()


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and int(np.abs(found.astype(int) - expected).max()) <= 1


def test_var(tmp_path: Path) -> None:
    path = clone_of("VAR")
    options: dict[str, Any] = {"code": "examples.adapters.var:make", "path": path, "heights": (256,), "stride": 10}
    tokenizer = Code(weights=str(tmp_path / "vae_ch32v4096z32.pth"), **options)
    tokenizer.make_importable()
    from models.vqvae import VQVAE  # type: ignore[import-not-found]

    torch.manual_seed(0)
    vae = VQVAE(vocab_size=4096, z_channels=32, ch=32, test_mode=True, share_quant_resi=4)
    vae.quantize.eini(-400.0)  # entries about as long as features of random weights
    torch.save(vae.state_dict(), tmp_path / "vae_ch32v4096z32.pth")
    frames = frames_of(1, 256, 256)
    codec, payload = checked(tokenizer, frames, (2160, 3840))
    assert len(tokenizer.spec.plan(30, 2160, 3840, 30.0).windows) == 3, "one frame of ten"
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float().div(255)
    ids = vae.img_to_idxBl(x.add(x).sub(1))  # trainer.py, utils/data.py: normalize_01_into_pm1
    assert all((payload[f"tokens_pixel_s{k}"].ravel() == ids[k][0].numpy()).all() for k in range(10))
    for k, image in enumerate(vae.idxBl_to_img(ids, same_shape=True, last_one=False)):
        prefix = {name: payload[name] for name in list(payload)[: k + 1]}
        assert close(codec.decode(prefix, upto_scale=k), as_frames(image, -1)), k
    assert close(codec.decode(payload), as_frames(vae.idxBl_to_img(ids, same_shape=True, last_one=True), -1))
    with pytest.raises(ValueError, match=r"heights is \[360\]; VAR has scales for one of 256, 512"):
        Code(**{**options, "heights": (360,)}).spec  # noqa: B018
    assert [b.bucket for b in tokenizer.spec.plan(9, 720, 405, 30.0).buckets] == ["1x256x256"]
    with pytest.raises(ValueError, match="smaller than 256 pixels"):
        tokenizer.spec.plan(9, 180, 320, 30.0)


def test_one_d_piece(tmp_path: Path) -> None:
    path = clone_of("One-D-Piece")
    options: dict[str, Any] = {"path": path, "heights": (256,)}
    tokenizer = Code(code="examples.adapters.one_d_piece:make", weights=str(tmp_path), **options)
    tokenizer.make_importable()
    from modeling.one_d_piece import OneDPiece  # type: ignore[import-not-found]
    from omegaconf import OmegaConf

    torch.manual_seed(0)
    config = OmegaConf.load(Path(path) / "configs" / "one-d-piece_s256.yaml")
    model = OneDPiece(config).eval()
    torch.nn.init.normal_(model.quantize.embedding.weight)
    model.save_pretrained(tmp_path)  # config.json and model.safetensors, as on the hub
    frames = frames_of(1, 256, 256)
    codec, payload = checked(tokenizer, frames, (720, 1280))
    assert [ids.size for ids in payload.values()] == [1, 1, 2, 4, 8, 16, 32, 64, 128]
    with torch.no_grad():  # scripts/inference_tokenizer.py
        ids = model.encode(torch.from_numpy(frames).permute(0, 3, 1, 2).float().div(255))[1]["min_encoding_indices"]
        assert (np.concatenate(list(payload.values()), -1) == ids.numpy()).all()
        decoded = {}
        for k, num in ((0, 1), (3, 8), (8, 256)):
            prefix = {name: payload[name] for name in list(payload)[: k + 1]}
            decoded[k] = codec.decode(prefix, upto_scale=k)
            assert close(decoded[k], as_frames(model.decode_tokens(ids[:, :, :num]), 0)), num
        assert not (decoded[3] == decoded[8]).all(), "a prefix is not the whole"


def test_wetok(tmp_path: Path) -> None:
    path = clone_of("WeTok")
    tokenizer = Code(code="examples.adapters.wetok:make", path=path, weights=str(tmp_path), heights=(64,), max_frames=2)
    tokenizer.make_importable()
    from src.WeTok.models.lfqgan import VQModel  # type: ignore[import-not-found]

    torch.manual_seed(0)
    published = Path(path) / "configs" / "WeToK" / "Inference" / "GeneralDomain_compratio192_imagenet.yaml"
    config = yaml.safe_load(published.read_text())
    arguments = config["model"]["init_args"]
    arguments["ddconfig"] |= {"ch": 32, "num_res_blocks": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    loss = {"target": "torch.nn.Identity"}  # the real one fetches LPIPS
    model = VQModel(**{**arguments, "lossconfig": loss}).eval()
    for name, value in model.model_ema.named_buffers():  # averaged weights that differ from the last ones
        if value.is_floating_point() and name != "decay":
            value.mul_(1.5)
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, tmp_path / "last.ckpt")
    frames = frames_of(2, 64, 96)
    codec, payload = checked(tokenizer, frames, (128, 192))
    assert payload["tokens_pixel_s0"].shape == (2, 4, 6, 4)
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        with model.ema_scope():  # reconstruct_image.py
            quant, _, ids, _ = model.encode(x)
            expected = model.decode(quant)
        assert (payload["tokens_pixel_s0"].ravel() == ids.numpy()).all()
        assert close(codec.decode(payload), as_frames(expected, -1))
        assert not (model.encode(x)[2] == ids).all(), "without the averages it is another tokenizer"
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("encoder.conv_in")}
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="lacks 1 tensors of its configuration"):
        Code(code="examples.adapters.wetok:make", path=path, weights=str(tmp_path), heights=(64,)).load()
