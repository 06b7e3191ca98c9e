# SPDX-License-Identifier: Apache-2.0
"""Which frames and pixels of a clip a model gets, and how many visual tokens they become. Pure arithmetic.

A plan is made before the model, from what is measured, and handed to it at exactly the planned size. Time comes first,
then space: frames are added at the smallest size worth looking at until the clip's movement has its frame rate, then
the frames grow, up to their native size and never above it. So a moving clip spends a budget on time, a still one on
space, and a larger budget never buys fewer tokens.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

MIN_FRAME_CELLS = 128  # tokens of a frame below which more frames are not worth it (qwen-vl-utils: VIDEO_MIN_TOKEN_NUM)
MIN_FRAMES = 4  # Qwen's processors: min_frames
RATE_HZ = (0.5, 4.0)  # ours: frames per second of a clip without any change, and of one that changes everywhere
DEFAULT_RATE_HZ = 2.0  # qwen-vl-utils: FPS; for clips of which nothing is measured
FULL_SPEED = 0.5  # ours: frame heights a second from which movement has the full rate


@dataclass(frozen=True, slots=True)
class PixelRule:
    """How a model family cuts pixels into tokens.

    Args:
        patch_px: side of a patch of its vision tower.
        merge: patches along each side of one token.
        frames_per_token: frames that share a token; frames are padded to a multiple.
    """

    patch_px: int
    merge: int = 2
    frames_per_token: int = 2

    @property
    def factor(self) -> int:
        """Side of a token in pixels; a planned side is a multiple of it."""
        return self.patch_px * self.merge


RULES = {
    "qwen2_vl": PixelRule(14),
    "qwen2_5_vl": PixelRule(14),
    "qwen3_vl": PixelRule(16),
    "qwen3_vl_moe": PixelRule(16),
}
"""transformers' `model_type` -> its rule for video. Source: the processors' classes (tests hold them equal)."""


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One step of effort.

    Args:
        name: what rows call it.
        max_tokens: visual tokens of one look at the clip (a part of it, if it is long).
        max_frames: frames of one look.
        max_long_px: long side of a frame; null: native.
    """

    name: str = "own"
    max_tokens: int
    max_frames: int = 16
    max_long_px: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "max_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a tier is {getattr(self, name)}; it must be at least 1")
        if self.max_long_px is not None and self.max_long_px < 1:
            raise ValueError(f"max_long_px of a tier is {self.max_long_px}; give pixels, or null for native")


TIERS = {
    name: Tier(name=name, max_tokens=tokens) for name, tokens in (("low", 2_048), ("mid", 8_192), ("high", 24_576))
}
"""Ours, for 4K: 16 frames at about a sixth, a third and three fifths of the native width."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a clip (or of a part of one) before it is looked at; None where it was not measured.

    Args:
        num_frames: frames there are.
        height_px, width_px: native size in square pixels, as displayed.
        duration_s: seconds; 0 for a still.
        redundancy: share of patches that do not change from one sample to the next, 0-1.
        speed: frame heights a second that the picture's content moves by.
    """

    num_frames: int
    height_px: int
    width_px: int
    duration_s: float
    redundancy: float | None = None
    speed: float | None = None


@dataclass(frozen=True, slots=True)
class VisualPlan:
    """Frames and size for one look.

    Args:
        frame_indices: ascending, into the clip's frames.
        height_px, width_px: size that frames are handed over at.
        grid_thw: the model's grid of patches: frames_per_token frames, patch rows, patch columns.
        num_tokens: visual tokens that the model makes of it.
    """

    frame_indices: tuple[int, ...]
    height_px: int
    width_px: int
    grid_thw: tuple[int, int, int]
    num_tokens: int


def plan_visual_budget(look: Look, tier: Tier, rule: PixelRule) -> VisualPlan:
    """Frames and size for one look at a clip.

    Never above the tier's tokens, never above native size; both sides are multiples of the rule's factor, and the
    shape is right to within one factor.

    Raises:
        ValueError: a picture with a side shorter than one token.
    """
    if min(look.height_px, look.width_px) < rule.factor or look.num_frames < 1:
        raise ValueError(
            f"the model needs a frame of at least {rule.factor} x {rule.factor} pixels, the clip has "
            f"{look.num_frames} of {look.width_px} x {look.height_px}"
        )
    best = None
    for frames, (rows, columns) in _steps(look, tier, rule):
        if math.ceil(frames / rule.frames_per_token) * rows * columns > tier.max_tokens:
            break
        best = frames, rows, columns
    assert best is not None, "the first step is one token"
    frames, rows, columns = best
    times = math.ceil(frames / rule.frames_per_token)
    return VisualPlan(
        frame_indices=spread_indices(look.num_frames, frames),
        height_px=rows * rule.factor,
        width_px=columns * rule.factor,
        grid_thw=(times, rows * rule.merge, columns * rule.merge),
        num_tokens=times * rows * columns,
    )


def _steps(look: Look, tier: Tier, rule: PixelRule) -> Iterator[tuple[int, tuple[int, int]]]:
    """(frames, cells) from least to most tokens: small pictures of one moment, then time, then space."""
    sizes = list(_sizes(look, tier, rule))
    first = next((i for i, (rows, columns) in enumerate(sizes) if rows * columns >= MIN_FRAME_CELLS), len(sizes) - 1)
    counts = _frame_counts(look, tier, rule)
    yield from ((counts[0], size) for size in sizes[:first])
    yield from ((frames, sizes[first]) for frames in counts)
    yield from ((counts[-1], size) for size in sizes[first + 1 :])


def _sizes(look: Look, tier: Tier, rule: PixelRule) -> Iterator[tuple[int, int]]:
    """(rows, columns) in tokens, growing along the long side; the short side follows the picture's shape."""
    long_px, short_px = max(look.height_px, look.width_px), min(look.height_px, look.width_px)
    most = max(1, min(long_px, tier.max_long_px or long_px) // rule.factor)
    for long in range(1, most + 1):
        short = min(max(1, round(long * short_px / long_px)), short_px // rule.factor)
        yield (short, long) if look.width_px >= look.height_px else (long, short)


def _frame_counts(look: Look, tier: Tier, rule: PixelRule) -> list[int]:
    """Numbers of frames in steps of one more token in time, up to what the clip's movement asks for."""
    step = rule.frames_per_token
    wanted = max(MIN_FRAMES, round(look.duration_s * frame_rate_hz(look)))
    most = min(look.num_frames, tier.max_frames, max(step, wanted // step * step))
    counts = list(range(step, most + 1, step))
    return counts or [min(look.num_frames, step)]


def frame_rate_hz(look: Look) -> float:
    """Frames per second worth looking at: between `RATE_HZ`, by what changes or how fast it moves, whichever is more.

    Source: the share of changing patches as a frame rate is Hulu-Med's redundancy, read the other way; bounds ours.
    """
    known = [] if look.redundancy is None else [1 - look.redundancy]
    known += [] if look.speed is None else [look.speed / FULL_SPEED]
    if not known:
        return DEFAULT_RATE_HZ
    low, high = RATE_HZ
    return low + (high - low) * min(1.0, max(known))


def spread_indices(total: int, num: int) -> tuple[int, ...]:
    """The frames in the middle of `num` equal parts; all frames if there are no more."""
    return tuple(range(total)) if total <= num else tuple((2 * part + 1) * total // (2 * num) for part in range(num))


# --- what a processor does by itself ---------------------------------------------------------------------------------


def processor_grid(
    rule: PixelRule, num_frames: int, size_px: tuple[int, int], pixels: tuple[int, int], is_total: bool
) -> tuple[int, int, int]:
    """Grid of patches that a Qwen video processor makes of frames at (height, width), resizing them itself.

    Args:
        pixels: its `size` as (shortest_edge, longest_edge), which are areas in pixels.
        is_total: the areas count all frames together (Qwen3-VL) and not each (Qwen2-VL, Qwen2.5-VL).

    Source: the processors of transformers 5.23 with their own frame cap off; the frames that an area counts are
        rounded half to even, those of the grid are padded up.
    """
    factor, step = rule.factor, rule.frames_per_token
    height, width = (float(side) for side in size_px)
    if is_total and min(height, width) < factor:
        grow = max(factor / height, factor / width)
        height, width = int(height * grow), int(width * grow)
    frames = (round(num_frames / step) * step, num_frames) if is_total else (1, 1)
    rows, columns = round(height / factor), round(width / factor)
    area = frames[0] * rows * columns * factor**2
    if area > pixels[1]:
        shrink = math.sqrt(frames[1] * height * width / pixels[1])
        rows, columns = (max(1, math.floor(side / shrink / factor)) for side in (height, width))
    elif area < pixels[0]:
        grow = math.sqrt(pixels[0] / (frames[1] * height * width))
        rows, columns = (math.ceil(side * grow / factor) for side in (height, width))
    return math.ceil(num_frames / step), rows * rule.merge, columns * rule.merge
