# SPDX-License-Identifier: Apache-2.0
"""Layout of a picture for models that read native tiles and one view of the whole. Pure arithmetic.

Source: InternLM-XComposer2-4KHD (arXiv:2404.06512) and its released code: 336-pixel tiles, 12 x 12 tokens each after
merging, a separator token after each row of tokens and one between the tiles and the whole view. Ours: a picture is
never enlarged beyond its native width, where theirs always fills the tiles.
"""

import math
from dataclasses import dataclass

TILE_PX = 336
TILE_SIDE_TOKENS = 12


@dataclass(frozen=True, slots=True)
class TileLayout:
    """How a picture is cut.

    Args:
        height_px, width_px: size it is scaled to.
        rows, columns: tiles; the scaled picture stands in their middle, padded along its short side only.
        pad_px: rows (of a portrait picture: columns) of padding before and after it.
        num_tokens: of the tiles, the view of the whole at 336 x 336 pixels, and the separators.
    """

    height_px: int
    width_px: int
    rows: int
    columns: int
    pad_px: tuple[int, int]
    num_tokens: int

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """(left, top, width, height) of each tile in the padded picture, row by row."""
        places = [(row, column) for row in range(self.rows) for column in range(self.columns)]
        return [(column * TILE_PX, row * TILE_PX, TILE_PX, TILE_PX) for row, column in places]


def plan_tiles(height_px: int, width_px: int, max_tiles: int = 55) -> TileLayout:
    """The largest layout of at most `max_tiles` tiles that does not enlarge the picture.

    Args:
        height_px, width_px: native size in square pixels.
        max_tiles: 55 is what the model was trained with for 4K.

    Raises:
        ValueError: no tile allowed, or a picture so long and thin that its tiles do not fit.
    """
    if min(height_px, width_px, max_tiles) < 1:
        raise ValueError(f"a picture of {width_px} x {height_px} pixels in {max_tiles} tiles; all must be at least 1")
    long_px, short_px = max(height_px, width_px), min(height_px, width_px)
    fitting = [n for n in range(1, max_tiles + 1) if n * _across(n, short_px, long_px) <= max_tiles]
    along = min(max(fitting), max(1, long_px // TILE_PX))
    across = _across(along, short_px, long_px)
    long, short = along * TILE_PX, max(1, int(along * TILE_PX * short_px / long_px))
    before = (across * TILE_PX - short) // 2
    is_portrait = height_px > width_px
    rows, columns = (along, across) if is_portrait else (across, along)
    return TileLayout(
        height_px=long if is_portrait else short,
        width_px=short if is_portrait else long,
        rows=rows,
        columns=columns,
        pad_px=(before, across * TILE_PX - short - before),
        num_tokens=_num_tokens(rows, columns),
    )


def _across(along: int, short_px: int, long_px: int) -> int:
    """Tiles along the short side of a picture that is `along` tiles long."""
    return math.ceil(along * short_px / long_px)


def _num_tokens(rows: int, columns: int) -> int:
    tiles = rows * columns * TILE_SIDE_TOKENS**2 + rows * TILE_SIDE_TOKENS
    whole = TILE_SIDE_TOKENS**2 + TILE_SIDE_TOKENS
    return tiles + 1 + whole
