# SPDX-License-Identifier: Apache-2.0
"""The HieraTok-style model: what sees what, one scale against a plain ViT, prefixes, files, and that it trains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tokenization.adapters.hieratok import HieraTok as Adapter
from tokenization.hieratok import HieraTok, HieraTokConfig, position_codes
from tokenization.hieratok_loss import psnr_db, training_loss
from tokenization.pyramid import downscale, low_passed, to_patches, upscale

TINY = HieraTokConfig(tile_px=32, patch=(2, 4, 4), reduces=(4, 2, 1), channels=6, width=24, heads=2, depth=(1, 2, 2))


def model_of(config: HieraTokConfig, seed: int = 0) -> HieraTok:
    """A model none of whose outputs is 0, as after training."""
    torch.manual_seed(seed)
    model = HieraTok(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def frames_of(num: int, length: int = 3, side: int = 32) -> Tensor:
    from tokenization.synthetic import synthetic_windows

    windows = np.stack([w[:length] for w in synthetic_windows(num, 0, side, length)])
    return torch.from_numpy(windows).float() / 127.5 - 1


def test_no_scale_sees_a_finer_one() -> None:
    """Exactly: the gradient is 0, not small; and it is not 0 from coarser to finer."""
    model = model_of(TINY)
    maps = [torch.randn(2, n, TINY.width, requires_grad=True) for n in (8, 32, 128)]
    refined = model.refine(maps)
    latents = [torch.randn(2, n, TINY.channels, requires_grad=True) for n in (8, 32, 128)]
    for k in range(3):
        into_maps = torch.autograd.grad(refined[k].square().sum(), maps, retain_graph=True, allow_unused=True)
        into_latents = torch.autograd.grad(model.decode(latents[: k + 1], 3).sum(), latents, allow_unused=True)
        for other in range(3):
            seen, decoded = into_maps[other], into_latents[other]
            assert seen is not None
            assert bool(seen.any()) == (other <= k)
            assert (decoded is not None and bool(decoded.any())) == (other <= k)


def test_a_decoded_prefix_does_not_change_when_scales_follow() -> None:
    """What a coarse scale adds to the frame is the same whatever finer scales are read after it."""
    model = model_of(TINY)
    latents, _ = model.encode(frames_of(2))
    other = [*latents[:2], torch.randn_like(latents[2])]
    with torch.no_grad():
        both = [
            model._under_mask([model.from_latent(z) for z in given], model.decoder, 1) for given in (latents, other)
        ]
    assert torch.equal(both[0][:, :40], both[1][:, :40])
    assert not torch.equal(both[0][:, 40:], both[1][:, 40:])


def plain_vit(model: HieraTok, frames_BTHWC: Tensor) -> Tensor:
    """The single-scale twin, written out: no mask, no pooling, no scales."""
    places = position_codes((2, 8, 8), 1, TINY.width)
    head = frames_BTHWC[:, :1]
    patches = to_patches(torch.cat([head, frames_BTHWC], 1).movedim(-1, 2), TINY.patch)
    tokens = model.stem(patches) + places
    for block in model.full:
        tokens = block(tokens)
    tokens = tokens + places
    for block in model.scaled:
        tokens = block(tokens)
    latent = model.linear_in[0](patches) + model.to_latent(tokens)[..., : TINY.channels]
    tokens = model.from_latent(latent) + places
    for block in model.decoder:
        tokens = block(tokens)
    pixels = model.pictures(model.linear_out[0](latent) + model.to_pixels(tokens), 1)
    return pixels[:, 1:].movedim(2, -1)


@pytest.mark.parametrize("readout", ["all", "finest"])
def test_one_scale_is_the_plain_vit_bit_for_bit(readout: str) -> None:
    model, frames = model_of(replace(TINY, reduces=(1,), readout=readout)), frames_of(2)
    with torch.no_grad():
        latents, _ = model.encode(frames)
        assert torch.equal(model.decode(latents, 3), plain_vit(model, frames))


@pytest.mark.parametrize("readout", ["all", "finest"])
def test_training_begins_at_pca_and_gets_better(readout: str) -> None:
    """Before training the model is PCA of each scale; prefixes ascend before and after."""
    frames = frames_of(12)
    torch.manual_seed(0)
    model = HieraTok(replace(TINY, readout=readout))
    model.fit_linear(frames)
    model.eval()
    before = prefix_psnr(model, frames)
    patches = to_patches(torch.cat([frames[:, :1], frames], 1).movedim(-1, 2), TINY.patch).flatten(0, 1)
    coarse = upscale(downscale(frames.movedim(-1, 2), 4), (32, 32)).movedim(2, -1)
    assert before[0] < float(psnr_db(coarse, frames).mean()) + 0.1, "the coarsest knows an 8 x 8 picture"
    if readout == "finest":
        values = torch.linalg.svdvals((patches - patches.mean(0)).double())
        left = values[TINY.channels :].square().sum() / patches.numel()
        coded = model.linear_out[-1](model.linear_in[-1](patches)).detach()
        assert float((coded - patches).square().mean()) == pytest.approx(float(left), rel=1e-3)
    optimizer = torch.optim.AdamW(model.train().parameters(), 3e-3)
    for _ in range(25):
        loss = training_loss(model, frames)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = prefix_psnr(model.eval(), frames)
    assert before == sorted(before)
    assert after == sorted(after)
    assert after[-1] > before[-1] + 0.1


@torch.no_grad()
def prefix_psnr(model: HieraTok, frames: Tensor) -> list[float]:
    latents, _ = model.encode(frames)
    return [float(psnr_db(model.decode(latents[: k + 1], frames.shape[1]), frames).mean()) for k in range(3)]


def test_loss_of_a_prefix_is_against_the_low_passed_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    model, frames = model_of(TINY), frames_of(2)
    seen: list[tuple[int, Tensor]] = []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda z, n: seen.append((len(z), decode(z, n))) or decode(z, n))
    targets: list[Tensor] = []
    torch.manual_seed(0)
    for _ in range(40):
        training_loss(model, frames, more=lambda decoded, target: targets.append(target) or decoded.sum() * 0)
    counts = np.bincount([num for num, _ in seen], minlength=4)
    assert counts[3] > counts[1] > 2
    assert counts[2] > 2
    for (num, _), target in zip(seen, targets, strict=True):
        assert torch.equal(target, low_passed(frames, TINY.reduces[num - 1]))


def test_ids_and_values_are_inverse() -> None:
    model = model_of(replace(TINY, levels=(5, 4, 3)))
    ids = torch.arange(60).view(1, 30, 2)
    assert torch.equal(model.ids_of(model.values_of(ids)), ids)
    assert model.values_of(torch.tensor([[[0, 59]]])).tolist() == [[[-2.5] * 3 + [2.5] * 3]]
    latents, _ = model.encode(frames_of(1))
    assert torch.equal(model.values_of(model.ids_of(latents[0])), latents[0].detach())


def test_files(tmp_path: Path) -> None:
    model, frames = model_of(TINY), frames_of(2)
    model.save(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]
    again = HieraTok.load(tmp_path / "m").eval()
    with torch.no_grad():
        pairs = zip(model.encode(frames)[0], again.encode(frames)[0], strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    text = (tmp_path / "m" / "config.json").read_text()
    (tmp_path / "m" / "config.json").write_text(text.replace('"width": 24', '"width": 36'))
    with pytest.raises(ValueError, match="do not fit config"):
        HieraTok.load(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(text.replace('"width"', '"wide"'))
    with pytest.raises(ValueError, match=r"not a HieraTok configuration: .*wide"):
        Adapter(weights=str(tmp_path / "m")).spec  # noqa: B018


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reduces": (2, 4, 1)}, "falling factors"),
        ({"tile_px": 24}, "no multiple of patch"),
        ({"levels": (8, 8, 8, 8)}, "a multiple"),
        ({"readout": "coarsest"}, "all or finest"),
        ({"heads": 5}, "no multiple of heads"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_tiles_are_coded_one_by_one_and_put_back(tmp_path: Path) -> None:
    """A frame of six tiles has in each place what the tile alone would have."""
    model_of(replace(TINY, levels=(7,))).save(tmp_path)
    codec = Adapter(weights=str(tmp_path), heights=(64,), max_frames=5).load()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 64, 96, 3), np.uint8)
    payload = codec.encode(frames)
    decoded = codec.decode(payload)
    for row, column in ((0, 0), (0, 2), (1, 1)):
        box = np.s_[:, row * 32 : (row + 1) * 32, column * 32 : (column + 1) * 32]
        alone = codec.encode(np.ascontiguousarray(frames[box]))
        for k, side in enumerate((2, 4, 8)):
            place = np.s_[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
            assert (payload[f"tokens_pixel_s{k}"][place] == alone[f"tokens_pixel_s{k}"]).mean() > 0.99
        assert np.abs(codec.decode(alone).astype(int) - decoded[box]).mean() < 1
