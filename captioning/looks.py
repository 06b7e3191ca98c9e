# SPDX-License-Identifier: Apache-2.0
"""From a clip's row to what a model gets to see of it: parts of a long clip, their frames, sizes and times."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from captioning.budget import Look, PixelRule, Tier, VisualPlan, plan_visual_budget, spread_indices
from captioning.config import Budget, Trigger
from captioning.details import Detail, plan_details
from captioning.engines import FramesRequest
from operators.contract import RowError
from operators.decode_child import DecodeChild

TIME_LIMIT_S = 300.0  # to decode the frames of one clip
MEMORY_LIMIT_GB = 6.0


@dataclass(frozen=True)
class Part:
    """A clip, or one of the equal parts of a long one.

    Args:
        indices: its frames, as positions in the clip.
        start_s, end_s: seconds from the clip's first frame.
    """

    indices: range
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Sight:
    """What the model is shown of one part.

    Args:
        plan: size and grid.
        part: which.
        indices: its frames, as positions in the clip.
        times_s: seconds of each from the clip's first frame.
        frames_THWC: uint8 RGB.
        details: parts of frames at native size, with seconds and pixels.
    """

    plan: VisualPlan
    part: Part
    indices: tuple[int, ...]
    times_s: tuple[float, ...]
    frames_THWC: np.ndarray = field(repr=False)
    details: tuple["SeenDetail", ...] = ()

    @property
    def num_tokens(self) -> int:
        """Visual tokens that the model makes of it, as planned."""
        return self.plan.num_tokens + sum(seen.detail.num_tokens for seen in self.details)


@dataclass(frozen=True)
class SeenDetail:
    """A part of a frame.

    Args:
        time_s: seconds of its frame from the clip's first.
        pixels_HWC: uint8 RGB.
    """

    detail: Detail
    time_s: float
    pixels_HWC: np.ndarray = field(repr=False)


def times_of(frames: FramesRequest) -> list[float]:
    """Seconds of every frame from the clip's first."""
    tick = frames.time_base[0] / frames.time_base[1]
    return [(pts - frames.frame_pts[0]) * tick for pts in frames.frame_pts]


def parts_of(frames: FramesRequest, chunk_s: float) -> list[Part]:
    """Equal parts, by frames, none of them longer than `chunk_s`."""
    times, num = times_of(frames), len(frames.frame_pts)
    step_s = times[-1] / (num - 1) if num > 1 else 0.0
    duration_s = times[-1] + step_s
    num_parts = min(num, max(1, math.ceil(duration_s / chunk_s - 1e-6)))
    bounds = [part * num // num_parts for part in range(num_parts + 1)]
    ends = [*times, duration_s]
    return [Part(range(a, b), times[a], ends[b]) for a, b in pairwise(bounds)]


def first_tier(budget: Budget, row: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Position of the tier that a clip starts at, and the columns that raised it."""
    fired = tuple(trigger.column for trigger in budget.triggers if _fires(trigger, row))
    return min(len(fired), len(budget.tiers) - 1), fired if len(budget.tiers) > 1 else ()


def _fires(trigger: Trigger, row: Mapping[str, Any]) -> bool:
    value = row.get(trigger.column)
    return value is not None and value >= trigger.min


@dataclass(frozen=True)
class PartsPlan:
    """What is shown of the parts of a clip.

    Args:
        frames: for each of them, which are alike.
        details: of each part.
    """

    frames: VisualPlan
    details: tuple[tuple[Detail, ...], ...]


def plan_parts(
    parts: list[Part], frames: FramesRequest, row: Mapping[str, Any], budget: Budget, tier: Tier, rule: PixelRule
) -> PartsPlan:
    """Frames and size for each of the parts, and details; raises RowError (bad_input): smaller than a token.

    The frames give the details that they make necessary their share of the tier.
    """
    look = Look(
        num_frames=min(len(part.indices) for part in parts),
        height_px=frames.size_px[1],
        width_px=frames.square_size_px[0],
        duration_s=max(part.end_s - part.start_s for part in parts),
        redundancy=row.get("redundancy_patch_share_mean"),
        speed=row.get("motion_speed_mean"),
    )
    limits = (budget.details.max_num, int(tier.max_tokens * budget.details.max_share)) if budget.details else (0, 0)
    try:
        plan = plan_visual_budget(look, tier, rule)
        details = tuple(
            plan_details(_lines(part, frames, row), frames.square_size_px, plan.height_px, limits, rule)
            for part in parts
        )
        if num_tokens := max(sum(detail.num_tokens for detail in some) for some in details):
            plan = plan_visual_budget(look, replace(tier, max_tokens=tier.max_tokens - num_tokens), rule)
    except ValueError as error:
        raise RowError("bad_input", str(error)) from error
    return PartsPlan(plan, details)


def _lines(part: Part, frames: FramesRequest, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The lines of text that were read in a part."""
    first, last = (frames.frame_pts[part.indices[n]] for n in (0, -1))
    return [line for line in row.get("text_boxes") or () if first <= line["pts"] <= last]


def see(parts: list[Part], plan: PartsPlan, frames: FramesRequest, child: DecodeChild) -> list[Sight]:
    """Decodes the planned frames of all parts at the planned size, in one go, in the child. Raises RowError."""
    num = len(plan.frames.frame_indices)
    indices = [[part.indices[i] for i in spread_indices(len(part.indices), num)] for part in parts]
    call = {
        "uri": frames.uri,
        "frame_pts": [frames.frame_pts[i] for one in indices for i in one],
        "seek_pts": frames.seek_pts,
        "size": (plan.frames.height_px, plan.frames.width_px),
    }
    pixels_THWC = child.call("operators.video:read_frames", call, TIME_LIMIT_S)
    times = times_of(frames)
    return [
        Sight(
            plan.frames,
            part,
            tuple(one),
            tuple(times[i] for i in one),
            pixels_THWC[n * num : (n + 1) * num],
            _see_details(plan.details[n], frames, times, child),
        )
        for n, (part, one) in enumerate(zip(parts, indices, strict=True))
    ]


def _see_details(
    details: Sequence[Detail], frames: FramesRequest, times: Sequence[float], child: DecodeChild
) -> tuple[SeenDetail, ...]:
    if not details:
        return ()
    call = {"uri": frames.uri, "details": details, "size_px": frames.square_size_px, "seek_pts": frames.seek_pts}
    cut = child.call("captioning.details:cut_details", call, TIME_LIMIT_S)
    at = [times[frames.frame_pts.index(detail.pts)] for detail in details]
    return tuple(SeenDetail(*seen) for seen in zip(details, at, cut, strict=True))
