# SPDX-License-Identifier: Apache-2.0
"""How much of the frame is burnt out or black, and how much of that is a fault."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.bars import find_strips, frame_bars
from operators.meters.levels import shown_levels
from operators.scores import Score, over
from reelmill.column import Column

DARK_LEVEL, BRIGHT_LEVEL = 5, 250
SAMPLED_ROWS = 540  # rows and columns are skipped so that about this many rows are looked at
DIM_LEVEL, LIT_LEVEL = 110.0, 150.0  # 99th percentile: below DIM black counts as lost, above LIT as meant
BACKDROP_RIM = 0.9  # share of the picture's rim that is white if it stands before a white backdrop
LEAST_SUBJECT = 0.05  # share of the picture that is not backdrop; with less it is just white
_SERIES = pa.list_(pa.float32())
_FLAT = "null if the whole frame is flat black"


@dataclass(frozen=True, kw_only=True)
class Exposure(Meter):
    """Shares of clipped pixels and the mean level, from single native pixels on a grid (no averaging hides a clip).

    The published share counts every clipped pixel. The lost shares leave out what is meant: bars; a white backdrop
    that surrounds the subject; and blacks of a picture that has lights (night, silhouettes).

    Writes: exposure_clipped_share, exposure_dark_share, exposure_bright_share, exposure_luma, exposure_over_share,
        exposure_under_share, exposure_lost_share, exposure_luma_p99.
    Source: UltraVideo's exposure statistic (share of pixels > 250 or < 5; a frame is bad above 12 %); the lost shares
        are ours. Levels are luma codes stretched to 0-255; of PQ and HLG those after tone mapping, see
        `levels.shown_levels`: no PQ code of a real film comes near 250, 870 nits do here.
    """

    name: ClassVar[str] = "exposure"
    version: ClassVar[int] = 2
    view: ClassVar[View] = View.LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column("exposure_clipped_share", _SERIES, "share of pixels darker than 5 or brighter than 250 of 255, 0-1"),
        Column("exposure_dark_share", _SERIES, "share of pixels darker than 5 of 255, 0-1"),
        Column("exposure_bright_share", _SERIES, "share of pixels brighter than 250 of 255, 0-1"),
        Column("exposure_luma", _SERIES, "mean luma level, 0-1 full range"),
        Column(
            "exposure_over_share",
            _SERIES,
            "share of the pixels between the bars that are brighter than 250 of 255 and no white backdrop around the "
            f"subject, 0-1; {_FLAT}",
        ),
        Column(
            "exposure_under_share",
            _SERIES,
            "share of the pixels between the bars that are darker than 5 of 255, 0-1, scaled down to 0 as the 99th "
            f"percentile of luma rises from 110 to 150 of 255 (blacks of a lit picture are meant); {_FLAT}",
        ),
        Column("exposure_lost_share", _SERIES, f"exposure_over_share plus exposure_under_share, 0-1; {_FLAT}"),
        Column("exposure_luma_p99", _SERIES, f"99th percentile of luma between the bars, 0-1 full range; {_FLAT}"),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "exposure_clipped_share", "samples", "mean", "max"),
        *over(writes, "exposure_dark_share", "mean"),
        *over(writes, "exposure_bright_share", "mean"),
        *over(writes, "exposure_luma", "mean", "min", "max"),
        *over(writes, "exposure_over_share", "median"),
        *over(writes, "exposure_under_share", "median"),
        *over(writes, "exposure_lost_share", "samples", "median"),
        *over(writes, "exposure_luma_p99", "max"),
    )
    rate_hz: float | None = 2.0

    def start(self, info: StreamInfo) -> Update:
        levels = shown_levels(info)

        def update(view: np.ndarray, seconds: float) -> tuple[float | None, ...]:
            shares = _shares(view, levels)
            dark, bright = _dark(shares, levels), _bright(shares, levels)
            mean = min(max(float(shares @ levels) / 255, 0.0), 1.0)
            return (dark + bright, dark, bright, mean, *_lost(view, shares, levels, info))

        return update


def _shares(luma_HW: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """float64 [codes]: share of each code among the pixels on a grid."""
    import cv2

    grid_HW = _grid(luma_HW)
    counts = cv2.calcHist([grid_HW], [0], None, [len(levels)], [0, len(levels)]).ravel().astype(np.float64)
    return counts / grid_HW.size


def _grid(luma_HW: np.ndarray) -> np.ndarray:
    step = max(1, min(luma_HW.shape) // SAMPLED_ROWS)
    return np.ascontiguousarray(luma_HW[::step, ::step])


def _dark(shares: np.ndarray, levels: np.ndarray) -> float:
    return float(shares[levels < DARK_LEVEL].sum())


def _bright(shares: np.ndarray, levels: np.ndarray) -> float:
    return float(shares[levels > BRIGHT_LEVEL].sum())


def _lost(
    luma_HW: np.ndarray, shares: np.ndarray, levels: np.ndarray, info: StreamInfo
) -> tuple[float | None, float | None, float | None, float | None]:
    """exposure_over_share, exposure_under_share, their sum, exposure_luma_p99."""
    top = float(levels[np.searchsorted(shares.cumsum(), 0.99 - 1e-9)])
    strips = find_strips(luma_HW, info)
    if strips is None and top < DARK_LEVEL:
        return None, None, None, None
    picture_HW = luma_HW if strips is None else _between_bars(luma_HW, frame_bars(strips))
    if picture_HW is not luma_HW:
        shares = _shares(picture_HW, levels)
        top = float(levels[np.searchsorted(shares.cumsum(), 0.99 - 1e-9)])
    bright = _bright(shares, levels)
    white = bright - (_backdrop(picture_HW, levels) if bright > LEAST_SUBJECT else 0.0)
    black = _dark(shares, levels) * min(max((LIT_LEVEL - top) / (LIT_LEVEL - DIM_LEVEL), 0.0), 1.0)
    return white, black, white + black, min(max(top / 255, 0.0), 1.0)


def _between_bars(luma_HW: np.ndarray, bars: dict[str, float]) -> np.ndarray:
    """The picture without its bars; the plane itself where there are none."""
    if not any(bars.values()):
        return luma_HW
    height, width = luma_HW.shape
    rows = slice(round(bars["top"] * height), height - round(bars["bottom"] * height))
    columns = slice(round(bars["left"] * width), width - round(bars["right"] * width))
    return luma_HW[rows, columns]


def _backdrop(luma_HW: np.ndarray, levels: np.ndarray) -> float:
    """Share of the picture that is a white backdrop: white, joined to a rim that is white nearly all around."""
    import cv2

    is_white_HW = (levels > BRIGHT_LEVEL).astype(np.uint8)[_grid(luma_HW)]
    rim = np.concatenate([is_white_HW[0], is_white_HW[-1], is_white_HW[:, 0], is_white_HW[:, -1]])
    if rim.mean() < BACKDROP_RIM:
        return 0.0
    num_labels, found_HW = cv2.connectedComponents(is_white_HW, connectivity=4)
    labels_HW = found_HW.astype(np.int64)
    at_rim = np.concatenate([labels_HW[0], labels_HW[-1], labels_HW[:, 0], labels_HW[:, -1]])
    is_joined = np.zeros(num_labels, bool)
    is_joined[at_rim] = True
    is_joined[0] = False
    share = float(is_joined[labels_HW].mean())
    return share if share <= 1 - LEAST_SUBJECT else 0.0
