# SPDX-License-Identifier: Apache-2.0
"""The pictures of the report: few frames, decoded from the nearest key frame, small, as JPEG.

Decoding happens in a child process (`operators.decode_child`); the functions named `child_*` run there.
"""

import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from operators.contract import RowError
from operators.decode_child import DecodeChild
from pipelines.report.details import Detail

WIDTH_PX, HEIGHT_PX = 320, 180  # box that a thumbnail fills
JPEG_QUALITY = 74
TIMEOUT_S = 30.0  # one clip
BUDGET_S = 90.0  # all clips together; what is left goes without pictures
MEMORY_LIMIT_GB = 2.0
NEAR = 0.25  # a frame may move by this share of the clip to a key frame, which costs no decoding


def jpeg(rgb_HWC: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """JPEG bytes of a uint8 RGB picture."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb_HWC)).save(sink, "JPEG", quality=quality, optimize=True)
    return sink.getvalue()


def fit(width: int, height: int) -> tuple[int, int]:
    """(height, width) that fills the thumbnail box without changing the aspect."""
    scale = min(WIDTH_PX / width, HEIGHT_PX / height, 1.0)
    return max(2, round(height * scale)), max(2, round(width * scale))


def three_frames(frame_pts: list[int], key_pts: np.ndarray) -> list[int]:
    """First, middle and last pts of a clip; each moved to a key frame if one is near."""
    last = len(frame_pts) - 1
    inside = [p for p in key_pts.tolist() if frame_pts[0] <= p <= frame_pts[-1]]
    reach = NEAR * (frame_pts[-1] - frame_pts[0])
    picked = []
    for index in sorted({0, last // 2, last}):
        near = min(inside, key=lambda p: abs(p - frame_pts[index]), default=None)
        picked.append(near if near is not None and abs(near - frame_pts[index]) <= reach else frame_pts[index])
    return sorted(set(picked))


def child_frames(uri: str, groups: list[tuple[int | None, list[int]]], size: tuple[int, int]) -> list[np.ndarray]:
    """uint8 [H, W, 3] per pts; each group is decoded in one pass from its seek pts. Runs in the child."""
    from av.error import FFmpegError

    from reelmill.spans import MediaError, SpanError, read_span

    try:
        return [frame for seek, pts in groups for frame in read_span(uri, pts, seek, size=size)]
    except (SpanError, MediaError, FFmpegError, OSError) as error:
        raise RowError("bad_input", f"{type(error).__name__}: {error}") from error


def groups_of(pts: list[int], key_pts: np.ndarray, seek_pts: int | None) -> list[tuple[int | None, list[int]]]:
    """The pts by the key frame that decoding starts from."""
    groups: dict[int | None, list[int]] = {}
    for p in pts:
        before = key_pts[key_pts <= p]
        groups.setdefault(int(before[-1]) if len(before) else seek_pts, []).append(p)
    return list(groups.items())


def add_strips(details: list[Detail], budget_s: float = BUDGET_S) -> None:
    """Fills `pictures` of each clip: (seconds into the clip, JPEG). Where that fails `picture_note` says why."""
    shown = [d for d in details if d.clip and d.source]
    if not shown:
        return
    deadline = time.monotonic() + budget_s
    children = [DecodeChild(MEMORY_LIMIT_GB) for _ in range(min(2, os.cpu_count() or 1, len(shown)))]
    try:
        with ThreadPoolExecutor(len(children)) as threads:
            list(
                threads.map(
                    lambda job: [_add_strip(children[job], d, deadline) for d in shown[job :: len(children)]],
                    range(len(children)),
                )
            )
    finally:
        for child in children:
            child.close()


def _add_strip(child: DecodeChild, detail: Detail, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        detail.picture_note = "no pictures: the time set aside for them was used up"
        return
    clip, source = detail.clip, detail.source
    pts = three_frames(clip["frame_pts"], detail.key_pts) if source.get("media") != "image" else clip["frame_pts"][:1]
    groups = groups_of(pts, detail.key_pts, clip["seek_pts"])
    kwargs: dict[str, Any] = {
        "uri": source["uri"],
        "groups": groups,
        "size": fit(source["width_px"], source["height_px"]),
    }
    try:
        frames = child.call("pipelines.report.pictures:child_frames", kwargs, min(TIMEOUT_S, left))
    except RowError as error:
        detail.picture_note = f"no pictures: {error}"
        return
    tick = clip["time_base_num"] / clip["time_base_den"]
    detail.pictures = [((p - clip["start_pts"]) * tick, jpeg(f)) for p, f in zip(pts, frames, strict=True)]
