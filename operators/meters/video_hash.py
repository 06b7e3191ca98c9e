# SPDX-License-Identifier: Apache-2.0
"""A perceptual hash of moving pictures: what `operators.lookalike` tells copies by, whatever was done to the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.scores import Groups, Score
from reelmill.column import Column

SIDE = 8  # lowest frequencies along and across
PICTURE_PX = 32  # of which they are taken
BLACK_LEVEL = 24.0  # full range: 16 + what a coder adds
MAX_BAR = 0.4  # of height or width at each side
SAMPLE = np.dtype([("seconds", "<f8"), ("dct_YX", "<f2", (SIDE, SIDE))])  # one sample's bytes


@dataclass(frozen=True, kw_only=True)
class VideoHash(Meter):
    """The 8 x 8 lowest frequencies of the picture without its black bars, squeezed into a square.

    Bars, size, shape, coding and fine noise drop out. 136 bytes a sample: 1 kB a second.

    Writes: video_hash_dct.
    Source: ours, after pHash (Zauner 2010), which keeps the signs of these numbers only.
    """

    name: ClassVar[str] = "video_hash"
    view: ClassVar[View] = View.PROXY
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "video_hash_dct",
            pa.list_(pa.binary()),
            "seconds (float64) and 8 x 8 DCT coefficients (float16, levels) of the picture within its bars, scaled to "
            "32 x 32; never null",
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        Score(
            Column("video_hash", pa.binary(), "the clip's samples of video_hash_dct, joined; null if it has none"),
            lambda groups, facts: joined(groups),
        ),
    )
    rate_hz: float | None = 8.0

    def start(self, info: StreamInfo) -> Update:
        return lambda view_HW, seconds: (sample_of(view_HW, seconds),)


def sample_of(luma_HW: np.ndarray, seconds: float) -> bytes:
    """The bytes of one sample; `luma_HW` is uint8, full range."""
    import cv2

    rows, columns = content(luma_HW.max(axis=1)), content(luma_HW.max(axis=0))
    picture_HW = cv2.resize(luma_HW[rows, columns], (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_AREA)
    sample = np.zeros((), SAMPLE)
    sample["seconds"], sample["dct_YX"] = seconds, cv2.dct(picture_HW.astype(np.float32))[:SIDE, :SIDE]
    return sample.tobytes()


def content(levels: np.ndarray) -> slice:
    """The lines of a picture that are not black bars, by the highest level of each line."""
    most = int(MAX_BAR * len(levels))
    lit = np.flatnonzero(levels > BLACK_LEVEL)
    if not len(lit):
        return slice(0, len(levels))
    return slice(min(int(lit[0]), most), max(int(lit[-1]) + 1, len(levels) - most))


def joined(groups: Mapping[str, Groups]) -> list[Any]:
    """Each clip's samples as one binary value."""
    group = groups["video_hash_dct"]
    order = np.argsort(group.clip, kind="stable")
    parts = np.split(group.values[order], np.cumsum(group.counts)[:-1])
    return [b"".join(part) if len(part) else None for part in parts]
