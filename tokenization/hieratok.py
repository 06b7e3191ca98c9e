# SPDX-License-Identifier: Apache-2.0
"""A multi-scale tokenizer in the manner of HieraTok (arXiv 2509.23736): a ViT autoencoder with scale-causal attention.

    frames -> patches -> full attention -> map, area-pooled to scales, coarse to fine -> attention under
    allow(i, j) = scale(j) <= scale(i) -> C channels per position (KL or FSQ) -> decoder under the same mask -> frames

From the paper's abstract: ViT encoder and decoder, down-sampling of the encoder's token map, and scale-causal attention
from low to high resolution. No code is public and nothing else of it was used, so all that follows is ours:

* Scales are whole factors in rows and columns; time is not pooled. With patches of several frames, frame 0 stands for
  a whole patch (windows of 1 + n * patch frames), so that a still is the first frame of a window.
* Beside the network runs a linear path: per scale, patches of the frame averaged down to it, to C channels and back.
  It begins as principal components (`fit_linear`) and the network's outputs begin at 0, so training begins at PCA.
* `readout`: with `all` each scale codes what the linear path of the coarser ones left, and the decoder adds up all of
  them; with `finest` each scale codes the whole frame, and the decoder reads the finest one that it is given.
* Half the training steps decode a random prefix of the scales against the frame low-passed to the last of them.
* Loss (`tokenization.hieratok_loss`): L1, and L1 of neighbours' differences at three resolutions.
* FSQ cuts off at `FSQ_REACH` standard deviations and passes the gradient straight through. FSQ's own tanh
  (arXiv 2309.15505) would bend the linear path.
* Frames larger than `tile_px` are cut into tiles that know nothing of each other (the adapter does it).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reelmill.orders import block_causal, next_scale
from tokenization.pyramid import Grid, downscale, from_patches, to_patches, upscale

CLASS_NAME = "HieraTok"
FSQ_REACH = 2.5
LOGVAR_START = -6.0
MAX_FITTED = 20_000  # patches per scale: more cost time and change little


@dataclass(frozen=True)
class HieraTokConfig:
    """Shape of the model.

    Args:
        tile_px: side of the squares that it sees; a multiple of patch times the largest of `reduces`.
        patch: frames, rows and columns of a position of the finest map.
        reduces: per scale, coarse to fine, finest positions per position in rows and columns; the last is 1.
        channels: values per position.
        levels: of each value of a group, for FSQ: the channels are cut into groups of `len(levels)`, each group one
            id. Empty: continuous, with a KL term.
        readout: `all` or `finest`.
        width, heads: of the transformer.
        depth: blocks with full attention, blocks under the mask, blocks of the decoder.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    tile_px: int = 128
    patch: Grid = (1, 8, 8)
    reduces: tuple[int, ...] = (4, 2, 1)
    channels: int = 16
    levels: tuple[int, ...] = ()
    readout: str = "all"
    width: int = 256
    heads: int = 4
    depth: Grid = (3, 3, 6)

    def __post_init__(self) -> None:
        if list(self.reduces) != sorted(set(self.reduces), reverse=True) or self.reduces[-1:] != (1,):
            raise ValueError(f"reduces is {self.reduces}; give falling factors that end with 1")
        for by in self.reduces:
            if self.tile_px % (by * self.patch[1]) or self.tile_px % (by * self.patch[2]):
                raise ValueError(f"tile_px {self.tile_px} is no multiple of patch {self.patch[1:]} x reduce {by}")
        if self.levels and (self.channels % len(self.levels) or min(self.levels) < 2):
            raise ValueError(f"levels {self.levels}: give 2 or more each, and channels {self.channels} a multiple")
        if self.readout not in ("all", "finest"):
            raise ValueError(f"readout is {self.readout!r}; it must be all or finest")
        if self.width % self.heads or self.width < 6:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")

    @property
    def patch_values(self) -> int:
        return self.patch[0] * self.patch[1] * self.patch[2] * 3

    def grids(self, num_frames: int) -> list[Grid]:
        """Positions (t, h, w) of each scale of a tile."""
        t = 1 + (num_frames - 1) // self.patch[0]
        h, w = self.tile_px // self.patch[1], self.tile_px // self.patch[2]
        return [(t, h // by, w // by) for by in self.reduces]


class Block(nn.Module):
    """Attention and a two-layer network, each after a norm and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens_BNC: Tensor, allow_NN: Tensor | None = None) -> Tensor:
        b, n, c = tokens_BNC.shape
        qkv = self.qkv(self.norm1(tokens_BNC)).view(b, n, 3, self.heads, c // self.heads)
        seen = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4), attn_mask=allow_NN)
        tokens_BNC = tokens_BNC + self.out(seen.transpose(1, 2).reshape(b, n, c))
        return tokens_BNC + self.mlp(self.norm2(tokens_BNC))


class HieraTok(nn.Module):
    """See the module's text. Frames are float [B, T, H, W, 3] in [-1, 1], H = W = `tile_px`, T = 1 + n * patch.

    Latents are lists of [B, N, C] per scale, coarse to fine, N over t, h, w.
    """

    def __init__(self, config: HieraTokConfig) -> None:
        super().__init__()
        self.config = c = config
        num, values = len(c.reduces), c.patch_values
        full, scaled, decoding = c.depth
        self.stem = nn.Linear(values, c.width)
        self.full = nn.ModuleList(Block(c.width, c.heads) for _ in range(full))
        self.scaled = nn.ModuleList(Block(c.width, c.heads) for _ in range(scaled))
        self.to_latent = _head(c.width, c.channels * (1 if c.levels else 2))
        self.from_latent = nn.Linear(c.channels, c.width)
        self.decoder = nn.ModuleList(Block(c.width, c.heads) for _ in range(decoding))
        self.to_pixels = _head(c.width, values)
        # The finest scale has none, so that one scale is a plain ViT.
        self.scale_codes = nn.Parameter(torch.zeros(2, num - 1, c.width))
        self.linear_in = nn.ModuleList(nn.Linear(values, c.channels) for _ in c.reduces)
        self.linear_out = nn.ModuleList(nn.Linear(c.channels, values) for _ in c.reduces)

    # --- encoder ------------------------------------------------------------------------------------------------

    def encode(self, frames_BTHWC: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(latents, log-variances) per scale. With KL: drawn while training, else means; with FSQ: rounded."""
        pixels_BTCHW = self._whole_patches(frames_BTHWC)
        moments = self.refine(self.scale_maps(pixels_BTCHW))
        latents, logvars, base = [], [], None
        for k, (by, moment_BNC) in enumerate(zip(self.config.reduces, moments, strict=True)):
            left_BTCHW, base = self._left(pixels_BTCHW, by, base)
            more_BNC, logvar_BNC = moment_BNC.tensor_split([self.config.channels], dim=-1)
            logvars.append(logvar_BNC + LOGVAR_START)
            latents.append(self._drawn(self.linear_in[k](self.patches(left_BTCHW)) + more_BNC, logvars[-1]))
            base = base + self.pictures(self.linear_out[k](latents[-1]), by)
        return latents, logvars

    def _left(self, pixels_BTCHW: Tensor, by: int, base: Tensor | None) -> tuple[Tensor, Tensor]:
        """(what the linear path of a scale codes, what coarser ones have said), at its resolution."""
        small_BTCHW = downscale(pixels_BTCHW, by)
        if base is None or self.config.readout == "finest":
            return small_BTCHW, torch.zeros_like(small_BTCHW)
        base = upscale(base, small_BTCHW.shape[-2:])
        return small_BTCHW - base, base

    def scale_maps(self, pixels_BTCHW: Tensor) -> list[Tensor]:
        """The token map [B, N, width], averaged down to each scale."""
        t, h, w = self._grid(pixels_BTCHW)
        tokens_BNC = self.stem(self.patches(pixels_BTCHW)) + self._places((t, h, w), 1, pixels_BTCHW)
        for block in self.full:
            tokens_BNC = block(tokens_BNC)
        map_BTCHW = tokens_BNC.unflatten(1, (t, h, w)).permute(0, 1, 4, 2, 3)
        return [downscale(map_BTCHW, by).permute(0, 1, 3, 4, 2).flatten(1, 3) for by in self.config.reduces]

    def refine(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """What the network adds to the latents (and, with KL, the log-variances); no scale sees a finer one."""
        tokens_BNC = self._under_mask(maps, self.scaled, 0)
        return list(self.to_latent(tokens_BNC).split([m.shape[1] for m in maps], dim=1))

    def _drawn(self, mean_BNC: Tensor, logvar_BNC: Tensor) -> Tensor:
        if self.config.levels:
            rounded_BNC = self.values_of(self.ids_of(mean_BNC))
            return mean_BNC + (rounded_BNC - mean_BNC).detach()
        return mean_BNC + torch.randn_like(mean_BNC) * (logvar_BNC / 2).exp() if self.training else mean_BNC

    # --- finite scalar quantization -----------------------------------------------------------------------------

    def ids_of(self, latent_BNC: Tensor) -> Tensor:
        """int64 [B, N, G]: the levels of a group as one number, first channel in the lowest position."""
        tops, weights = self._levels(latent_BNC)
        steps = (latent_BNC.unflatten(-1, (-1, len(tops))) / FSQ_REACH).clamp(-1, 1).add(1) / 2 * tops
        return (steps.round().long() * weights).sum(-1)

    def values_of(self, ids_BNG: Tensor) -> Tensor:
        """Latents [B, N, C] of ids."""
        tops, weights = self._levels(self.stem.weight)
        steps = ids_BNG[..., None] // weights % (tops.long() + 1)
        return ((steps / tops * 2 - 1) * FSQ_REACH).flatten(-2).to(self.stem.weight.dtype)

    def _levels(self, like: Tensor) -> tuple[Tensor, Tensor]:
        levels = torch.tensor(self.config.levels, device=like.device)
        return (levels - 1).to(torch.float32), torch.cumprod(F.pad(levels[:-1], (1, 0), value=1), 0)

    # --- decoder ------------------------------------------------------------------------------------------------

    def decode(self, latents: Sequence[Tensor], num_frames: int) -> Tensor:
        """Frames from the latents of all scales, or of the first few."""
        first = 0 if self.config.readout == "all" else len(latents) - 1
        read = [self.from_latent(latent_BNC) for latent_BNC in latents[first:]]
        tokens_BNC = self._under_mask(read, self.decoder, 1, first)
        added = self.to_pixels(tokens_BNC).split([r.shape[1] for r in read], dim=1)
        base = None
        for k, more_BNP in enumerate(added, first):
            picture_BTCHW = self.pictures(self.linear_out[k](latents[k]) + more_BNP, self.config.reduces[k])
            base = picture_BTCHW if base is None else picture_BTCHW + upscale(base, picture_BTCHW.shape[-2:])
        assert base is not None
        frames_BTCHW = upscale(base, (self.config.tile_px, self.config.tile_px))
        return frames_BTCHW[:, -num_frames:].movedim(2, -1)  # frame 0 is the last of its patch

    # --- parts --------------------------------------------------------------------------------------------------

    def _under_mask(self, tokens: Sequence[Tensor], blocks: nn.ModuleList, codes: int, first: int = 0) -> Tensor:
        """The scales' tokens as one sequence, through blocks in which each sees its own and coarser scales."""
        reduces = self.config.reduces[first : first + len(tokens)]
        grids = [self._grid_of(t.shape[1], by) for t, by in zip(tokens, reduces, strict=True)]
        scale_codes = F.pad(self.scale_codes[codes], (0, 0, 0, 1))
        placed = [
            t + self._places(grid, by, t) + scale_codes[first + k]
            for k, (t, grid, by) in enumerate(zip(tokens, grids, reduces, strict=True))
        ]
        allow_NN = None
        if len(tokens) > 1:
            allow_NN = torch.from_numpy(block_causal(next_scale(grids).units)).to(tokens[0].device)
        tokens_BNC = torch.cat(placed, dim=1)
        for block in blocks:
            tokens_BNC = block(tokens_BNC, allow_NN)
        return tokens_BNC

    def _grid(self, pixels_BTCHW: Tensor) -> Grid:
        _, t, _, h, w = pixels_BTCHW.shape
        return t // self.config.patch[0], h // self.config.patch[1], w // self.config.patch[2]

    def _grid_of(self, num: int, by: int) -> Grid:
        h, w = (self.config.tile_px // size // by for size in self.config.patch[1:])
        return num // (h * w), h, w

    def _places(self, grid: Grid, by: int, like: Tensor) -> Tensor:
        return position_codes(grid, by, self.config.width).to(like.device, like.dtype)

    def _whole_patches(self, frames_BTHWC: Tensor) -> Tensor:
        """[B, T', 3, H, W]: frame 0 shown as often as a patch has frames."""
        head_BTHWC = frames_BTHWC[:, :1].expand(-1, self.config.patch[0] - 1, -1, -1, -1)
        return torch.cat([head_BTHWC, frames_BTHWC], dim=1).movedim(-1, 2)

    def patches(self, pixels_BTCHW: Tensor) -> Tensor:
        """[B, N, patch values]."""
        return to_patches(pixels_BTCHW, self.config.patch)

    def pictures(self, patches_BNP: Tensor, by: int) -> Tensor:
        """Inverse of `patches` at the scale `by`."""
        return from_patches(patches_BNP, self._grid_of(patches_BNP.shape[1], by), self.config.patch)

    @torch.no_grad()
    def fit_linear(self, frames_BTHWC: Tensor) -> None:
        """Sets the linear path to the principal components of each scale, in units of their standard deviation."""
        pixels_BTCHW, base = self._whole_patches(frames_BTHWC), None
        for k, by in enumerate(self.config.reduces):
            left_BTCHW, base = self._left(pixels_BTCHW, by, base)
            patches_BNP = self.patches(left_BTCHW)
            _set_components(self.linear_in[k], self.linear_out[k], patches_BNP.flatten(0, 1))
            latent_BNC = self.linear_in[k](patches_BNP)
            coded_BNC = self.values_of(self.ids_of(latent_BNC)) if self.config.levels else latent_BNC
            base = base + self.pictures(self.linear_out[k](coded_BNC), by)

    # --- files --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Writes `config.json` and `model.safetensors`; each appears whole or not at all."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.state_dict(), folder / ".tmp-model.safetensors")
        (folder / ".tmp-config.json").write_text(json.dumps({"_class_name": CLASS_NAME, **asdict(self.config)}))
        for name in ("model.safetensors", "config.json"):
            (folder / f".tmp-{name}").replace(folder / name)

    @staticmethod
    def load(folder: Path) -> "HieraTok":
        """Inverse of `save`. Raises ValueError if the folder holds something else."""
        from safetensors.torch import load_file

        model = HieraTok(read_config(json.loads((folder / "config.json").read_text()), str(folder)))
        try:
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except RuntimeError as error:
            raise ValueError(f"{folder}: the weights do not fit config.json: {error}") from error
        return model


def read_config(raw: dict[str, Any], where: str) -> HieraTokConfig:
    """A configuration from its JSON. Raises ValueError if it is of something else."""
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    try:
        if fields.pop("_class_name") != CLASS_NAME:
            raise ValueError(f"{where}: config.json is of {raw['_class_name']!r}, not {CLASS_NAME}")
        return HieraTokConfig(**fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where}: not a {CLASS_NAME} configuration: {error}") from error


def position_codes(grid: Grid, by: int, width: int) -> Tensor:
    """float32 [N, width]: sines and cosines of t, row and column of each position's centre on the finest grid."""
    t, h, w = grid
    axes = [torch.arange(t).float(), *((torch.arange(size) + 0.5) * by - 0.5 for size in (h, w))]
    places_N3 = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    rates_F = 100.0 ** -torch.linspace(0, 1, width // 6)
    angles_NF = (places_N3[..., None] * rates_F).flatten(1)
    codes_NC = torch.cat([angles_NF.sin(), angles_NF.cos()], dim=1)
    return F.pad(codes_NC, (0, width - codes_NC.shape[1]))


def _head(width: int, values: int) -> nn.Sequential:
    """Norm and a projection that begins at 0."""
    head = nn.Linear(width, values)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(nn.LayerNorm(width), head)


def _set_components(into: Any, out: Any, patches_NP: Tensor) -> None:
    patches_NP = patches_NP[:: -(-len(patches_NP) // MAX_FITTED)]
    mean_P = patches_NP.mean(0)
    centred_NP = (patches_NP - mean_P).double()
    variances, vectors_PP = torch.linalg.eigh(centred_NP.T @ centred_NP / len(patches_NP))
    order = variances.argsort(descending=True)[: into.out_features]
    deviations_C, basis_PC = variances[order].clamp_min(1e-8).sqrt(), vectors_PP[:, order]
    into.weight.copy_((basis_PC / deviations_C).T)
    into.bias.copy_(-into.weight @ mean_P)
    out.weight.copy_(basis_PC * deviations_C)
    out.bias.copy_(mean_P)
