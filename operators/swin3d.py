# SPDX-License-Identifier: Apache-2.0
"""FAST-VQA's network: a video Swin transformer whose attention knows which fragment a patch came from.

Names of modules and parameters are those of the published state dicts. Attention within a window has two biases by the
relative place of two tokens: one for tokens of one fragment, one for tokens of two, weighed by how far apart these are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.nn import functional as F

WINDOW = (8, 7, 7)  # tokens in time, height and width
FRAGMENTS = 7  # fragments along the height and along the width of the input
WINDOWS_AT_ONCE = 32  # bounds the memory of attention: 32 windows of 392 tokens are 60 MB a head


@dataclass(frozen=True)
class SwinConfig:
    """Sizes; the defaults are FAST-VQA-B's and FasterVQA's (Swin tiny)."""

    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    has_fragment_bias: tuple[bool, ...] = (True, True, True, False)


Grid = tuple[int, int, int]


def window_of(grid: Grid, is_shifted: bool) -> tuple[Grid, Grid]:
    """Size and shift of the windows on a grid of tokens: a side that one window covers is not shifted."""
    size = tuple(min(side, most) for side, most in zip(grid, WINDOW, strict=True))
    shift = tuple(most // 2 if is_shifted and side > most else 0 for side, most in zip(grid, WINDOW, strict=True))
    return size, shift  # type: ignore[return-value]


def to_windows(x_BTHWC: torch.Tensor, size: Grid) -> torch.Tensor:
    """[B, windows, tokens of one, C]."""
    batch, *grid, channels = x_BTHWC.shape
    t, h, w = (side // of for side, of in zip(grid, size, strict=True))
    x = x_BTHWC.view(batch, t, size[0], h, size[1], w, size[2], channels).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(batch, t * h * w, size[0] * size[1] * size[2], channels)


def from_windows(x_BWNC: torch.Tensor, size: Grid, grid: Grid) -> torch.Tensor:
    t, h, w = (side // of for side, of in zip(grid, size, strict=True))
    x = x_BWNC.view(len(x_BWNC), t, h, w, *size, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(len(x_BWNC), *grid, -1)


@lru_cache(maxsize=32)
def fragment_distance(grid: Grid, size: Grid, shift: Grid) -> torch.Tensor:
    """float32 [windows, N, N]: fragments between two tokens of a window, rows plus columns."""
    rows, columns = (torch.arange(side) * FRAGMENTS // side for side in grid[1:])
    places = torch.stack([rows[None, :, None].expand(grid), columns[None, None, :].expand(grid)], dim=-1)
    rolled = torch.roll(places, [-s for s in shift], (0, 1, 2))[None]
    windows_WNC = to_windows(rolled, size)[0]
    return (windows_WNC[:, None] - windows_WNC[:, :, None]).abs().sum(-1).float()


@lru_cache(maxsize=32)
def shift_mask(grid: Grid, size: Grid, shift: Grid) -> torch.Tensor:
    """float32 [windows, N, N]: -100 between tokens that only the roll has made neighbours."""
    region = torch.zeros(grid)
    for axis, (side, of, by) in enumerate(zip(grid, size, shift, strict=True)):
        index = torch.arange(side)
        part = (index >= side - of).float() + (index >= side - by).float() * (by > 0)
        region = region * 3 + part.view([-1 if other == axis else 1 for other in range(3)])
    windows_WN = to_windows(region[None, ..., None], size)[0, ..., 0]
    return (windows_WN[:, None] != windows_WN[:, :, None]).float() * -100


@lru_cache(maxsize=8)
def relative_index(size: Grid) -> torch.Tensor:
    """int64 [N, N]: row of the bias tables for each pair of tokens of a window of `size`."""
    places = torch.stack(torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")).flatten(1)
    t, h, w = (places[:, :, None] - places[:, None, :]) + torch.tensor(WINDOW)[:, None, None] - 1
    return (t * (2 * WINDOW[1] - 1) + h) * (2 * WINDOW[2] - 1) + w


class WindowAttention(nn.Module):
    """Attention among the tokens of each window."""

    def __init__(self, width: int, heads: int, has_fragment_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        places = (2 * WINDOW[0] - 1) * (2 * WINDOW[1] - 1) * (2 * WINDOW[2] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(places, heads))
        self.fragment_position_bias_table = nn.Parameter(torch.zeros(places, heads)) if has_fragment_bias else None
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BWNC: torch.Tensor, grid: Grid, size: Grid, shift: Grid) -> torch.Tensor:
        parts = []
        for start in range(0, x_BWNC.shape[1], WINDOWS_AT_ONCE):
            part = slice(start, start + WINDOWS_AT_ONCE)
            parts.append(self._attend(x_BWNC[:, part], self._bias(grid, size, shift, part)))
        return self.proj(torch.cat(parts, dim=1))

    def _bias(self, grid: Grid, size: Grid, shift: Grid, part: slice) -> torch.Tensor:
        """[windows, heads, N, N], or without windows where all have the same."""
        device = self.relative_position_bias_table.device
        index = relative_index(size).to(device)
        near_HNN = self.relative_position_bias_table[index].permute(2, 0, 1)
        bias = near_HNN
        if self.fragment_position_bias_table is not None:
            same_HNN = self.fragment_position_bias_table[index].permute(2, 0, 1)
            distance = fragment_distance(grid, size, shift)[part, None].to(device)
            bias = near_HNN * distance + same_HNN * (1 - distance)
        if any(shift):
            bias = bias + shift_mask(grid, size, shift)[part, None].to(device)
        return bias

    def _attend(self, x_BWNC: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        batch, windows, tokens, width = x_BWNC.shape
        qkv = self.qkv(x_BWNC).view(batch, windows, tokens, 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5)
        attended = F.scaled_dot_product_attention(*qkv, attn_mask=bias.to(qkv.dtype))
        return attended.transpose(2, 3).reshape(batch, windows, tokens, width)


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention in windows, shifted by half a window in every second block, and a perceptron."""

    def __init__(self, width: int, heads: int, is_shifted: bool, has_fragment_bias: bool) -> None:
        super().__init__()
        self.is_shifted = is_shifted
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = WindowAttention(width, heads, has_fragment_bias), Mlp(width)

    def forward(self, x_BTHWC: torch.Tensor) -> torch.Tensor:
        grid: Grid = tuple(x_BTHWC.shape[1:4])  # type: ignore[assignment]
        size, shift = window_of(grid, self.is_shifted)
        rolled = torch.roll(self.norm1(x_BTHWC), [-s for s in shift], (1, 2, 3))
        attended = from_windows(self.attn(to_windows(rolled, size), grid, size, shift), size, grid)
        x_BTHWC = x_BTHWC + torch.roll(attended, shift, (1, 2, 3))
        return x_BTHWC + self.mlp(self.norm2(x_BTHWC))


class PatchMerging(nn.Module):
    """2 x 2 tokens become one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x_BTHWC: torch.Tensor) -> torch.Tensor:
        corners = [x_BTHWC[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class Stage(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, has_fragment_bias: bool, is_last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, bool(i % 2), has_fragment_bias) for i in range(depth))
        self.downsample = None if is_last else PatchMerging(width)

    def forward(self, x_BTHWC: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x_BTHWC = block(x_BTHWC)
        return x_BTHWC if self.downsample is None else self.downsample(x_BTHWC)


class PatchEmbed(nn.Module):
    """2 frames of 4 x 4 pixels become a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv3d(3, width, (2, 4, 4), (2, 4, 4)), nn.LayerNorm(width)

    def forward(self, pixels_BCTHW: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(pixels_BCTHW).movedim(1, -1))


class Swin3d(nn.Module):
    """float32 [B, 3, T, H, W] -> [B, T / 2, H / 32, W / 32, C]; T is a multiple of 16, H and W are multiples of 224."""

    def __init__(self, config: SwinConfig = SwinConfig()) -> None:
        super().__init__()
        widths = [config.width << i for i in range(len(config.depths))]
        last = len(widths) - 1
        sizes: Sequence[tuple[int, int, int, bool]] = list(
            zip(widths, config.depths, config.heads, config.has_fragment_bias, strict=True)
        )
        self.patch_embed = PatchEmbed(config.width)
        self.layers = nn.ModuleList(Stage(*size, i == last) for i, size in enumerate(sizes))
        self.norm = nn.LayerNorm(widths[-1])

    def forward(self, pixels_BCTHW: torch.Tensor) -> torch.Tensor:
        x_BTHWC = self.patch_embed(pixels_BCTHW)
        for layer in self.layers:
            x_BTHWC = layer(x_BTHWC)
        return self.norm(x_BTHWC)


class QualityHead(nn.Module):
    """A score per token."""

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.fc_hid, self.fc_last = nn.Conv3d(width, hidden, 1), nn.Conv3d(hidden, 1, 1)

    def forward(self, x_BTHWC: torch.Tensor) -> torch.Tensor:
        return self.fc_last(F.gelu(self.fc_hid(x_BTHWC.movedim(-1, 1))))[:, 0]


class FragmentQuality(nn.Module):
    """FAST-VQA's and FasterVQA's evaluator: float32 [B, 3, T, 224, 224] of normalised fragments -> map [B, T/2, 7, 7].

    Source: Wu et al. 2022 (arXiv:2207.02595, 2210.05357); VQAssessment/FAST-VQA-and-FasterVQA (MIT). The state dict's
    keys and shapes are in fragment_quality.json.
    """

    def __init__(self, config: SwinConfig = SwinConfig()) -> None:
        super().__init__()
        self.fragments_backbone = Swin3d(config)
        self.vqa_head = QualityHead(config.width << len(config.depths) - 1)

    def forward(self, pixels_BCTHW: torch.Tensor) -> torch.Tensor:
        return self.vqa_head(self.fragments_backbone(pixels_BCTHW))
