# SPDX-License-Identifier: Apache-2.0
"""The budget planner: its promises as properties, and its tokens against the processors of transformers."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.budget import RULES, TIERS, Look, Tier, plan_visual_budget, processor_grid
from captioning.tiles import TILE_PX, plan_tiles

SIDES = st.integers(32, 4400)
LOOKS = st.builds(
    Look,
    num_frames=st.integers(1, 600),
    height_px=SIDES,
    width_px=SIDES,
    duration_s=st.floats(0, 10),
    redundancy=st.none() | st.floats(0, 1),
    speed=st.none() | st.floats(0, 5),
)
RULE = st.sampled_from([RULES["qwen2_5_vl"], RULES["qwen3_vl"]])
BUDGETS = st.integers(1, 70_000)


@given(LOOKS, BUDGETS, RULE, st.integers(1, 32))
@settings(max_examples=150, deadline=None)
def test_a_plan_keeps_its_promises(look: Look, budget: int, rule: Any, max_frames: int) -> None:
    plan = plan_visual_budget(look, Tier(max_tokens=budget, max_frames=max_frames), rule)
    times, rows, columns = plan.grid_thw
    assert plan.num_tokens == times * rows * columns // rule.merge**2 <= budget
    assert plan.height_px % rule.factor == plan.width_px % rule.factor == 0
    assert plan.height_px <= look.height_px
    assert plan.width_px <= look.width_px
    shrink = max(plan.height_px, plan.width_px) / max(look.height_px, look.width_px)
    short = min(look.height_px, look.width_px) * shrink
    assert abs(min(plan.height_px, plan.width_px) - short) <= rule.factor
    assert list(plan.frame_indices) == sorted(set(plan.frame_indices))
    assert 0 <= plan.frame_indices[0] <= plan.frame_indices[-1] < look.num_frames
    assert len(plan.frame_indices) <= max(max_frames, rule.frames_per_token)
    assert times == math.ceil(len(plan.frame_indices) / rule.frames_per_token)


@given(LOOKS, BUDGETS, BUDGETS, RULE)
@settings(max_examples=150, deadline=None)
def test_a_larger_budget_never_buys_less(look: Look, one: int, other: int, rule: Any) -> None:
    less, more = (plan_visual_budget(look, Tier(max_tokens=n), rule) for n in sorted((one, other)))
    assert less.num_tokens <= more.num_tokens
    assert len(less.frame_indices) <= len(more.frame_indices)
    assert less.height_px * less.width_px <= more.height_px * more.width_px


def test_a_moving_clip_spends_on_time_and_a_still_one_on_space() -> None:
    still = Look(120, 2160, 3840, 4.0, redundancy=0.99, speed=0.0)
    moving = Look(120, 2160, 3840, 4.0, redundancy=0.2, speed=0.6)
    plans = [plan_visual_budget(look, TIERS["mid"], RULES["qwen3_vl"]) for look in (still, moving)]
    assert [len(plan.frame_indices) for plan in plans] == [4, 16]
    assert plans[0].width_px > 1.8 * plans[1].width_px
    assert all(0.9 * 8192 < plan.num_tokens <= 8192 for plan in plans)


def test_a_picture_smaller_than_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 32 x 32 pixels, the clip has 9 of 40 x 31"):
        plan_visual_budget(Look(9, 31, 40, 1.0), TIERS["low"], RULES["qwen3_vl"])
    with pytest.raises(ValueError, match="max_tokens of a tier is 0"):
        Tier(max_tokens=0)


def _video_processor(name: str, pixels: tuple[int, int]) -> Any:
    from transformers import Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

    size = {"shortest_edge": pixels[0], "longest_edge": pixels[1]}
    cls: Any = Qwen3VLVideoProcessor if name == "qwen3_vl" else Qwen2VLVideoProcessor
    return cls(size=size, do_sample_frames=False, cap_pixels_per_frame=False)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
@given(frames=st.integers(2, 40), height=st.integers(24, 4400), width=st.integers(24, 4400), data=st.data())
@settings(max_examples=200, deadline=None)
def test_the_processors_own_resizing_is_predicted(
    name: str, frames: int, height: int, width: int, data: st.DataObject
) -> None:
    rule = RULES[name]
    least = data.draw(st.integers(rule.factor**2, 200_000))
    pixels = (least, data.draw(st.integers(least * 4, 30_000_000)))
    processor = _video_processor(name, pixels)
    grid = processor_grid(rule, frames, (height, width), pixels, is_total=name == "qwen3_vl")
    assert math.prod(grid) == processor.get_num_of_video_patches(frames, height, width, {})


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("size", [(96, 130), (270, 480)])
def test_real_frames_at_the_planned_size_become_the_planned_grid(name: str, size: tuple[int, int]) -> None:
    rule = RULES[name]
    processor = _video_processor(name, (128 * rule.factor**2, 768 * rule.factor**2))
    for budget in (3, 60, 500):
        plan = plan_visual_budget(Look(9, *size, 2.0), Tier(max_tokens=budget), rule)
        frames_THWC = np.zeros((len(plan.frame_indices), plan.height_px, plan.width_px, 3), np.uint8)
        grid = processor(videos=[frames_THWC], do_resize=False, return_tensors="np")["video_grid_thw"]
        assert tuple(grid[0].tolist()) == plan.grid_thw
    own = processor(videos=[np.zeros((5, *size, 3), np.uint8)], return_tensors="np")["video_grid_thw"]
    pixels = (128 * rule.factor**2, 768 * rule.factor**2)
    assert tuple(own[0].tolist()) == processor_grid(rule, 5, size, pixels, is_total=name == "qwen3_vl")


def test_a_4k_picture_in_tiles_with_a_view_of_the_whole() -> None:
    layout = plan_tiles(2160, 3840)
    assert (layout.rows, layout.columns) == (6, 9)
    assert (layout.height_px, layout.width_px) == (1701, 3024)
    assert layout.pad_px == (157, 158)
    assert layout.num_tokens == (6 * 9 + 1) * 144 + 1 + 7 * 12 == 8005
    assert layout.boxes()[-1] == (8 * TILE_PX, 5 * TILE_PX, TILE_PX, TILE_PX)
    portrait = plan_tiles(3840, 2160)
    assert (portrait.rows, portrait.columns, portrait.pad_px) == (9, 6, (157, 158))
    small = plan_tiles(360, 640)  # the published rule would enlarge it to 3024
    assert (small.rows, small.columns, small.width_px) == (1, 1, TILE_PX)


@given(SIDES, SIDES, st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_tiles_hold_the_picture_and_keep_their_number(height: int, width: int, most: int) -> None:
    layout = plan_tiles(height, width, most)
    tall, wide = layout.rows * TILE_PX, layout.columns * TILE_PX
    assert layout.rows * layout.columns <= most
    assert max(layout.height_px, layout.width_px) <= max(height, width, TILE_PX)
    padded = (tall - layout.height_px, wide - layout.width_px)
    assert sorted(padded) == [0, sum(layout.pad_px)]
    assert sum(layout.pad_px) < TILE_PX
