# SPDX-License-Identifier: Apache-2.0
"""What the shot reels are made of: photographs, footage, seeds, speeds; for choosing, and held out twice."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.ladders.reel import Counts, read_canvas, read_clip
from benchmarks.ladders.stills import PHOTOS, Still, install_packages

CLIPS_FOLDER = Path(__file__).parents[3] / "shared" / "clips"


@dataclass(frozen=True)
class Trial:
    """A reel to make: its seed, how fast the moves are (frame widths a second), how hard it is compressed."""

    seed: int
    speed: float
    crf: int = 23


@dataclass(frozen=True)
class Material:
    """What some reels are made of.

    Args:
        name: for the table.
        photos: photographs and pictures, moved over.
        footage: name -> (file below the shared clips, first frame, frame after the last): ranges without a cut.
        trials: the reels.
    """

    name: str
    photos: tuple[Still, ...]
    footage: dict[str, tuple[str, int, int]]
    trials: tuple[Trial, ...]


CHOOSING = Material(
    "choosing",
    PHOTOS[::2],
    {
        "street": ("street_walk_720p.mp4", 0, 190),
        "cartoon": ("dj_video1.mp4", 0, 140),
        "portrait": ("dj_video2.mp4", 0, 180),
    },
    (Trial(1, 0.06), Trial(11, 0.12), Trial(12, 0.06, 28)),
)
HELD_OUT = Material(
    "held out",
    PHOTOS[1::2],
    {
        "motorcycle": ("uhd_motorcycle_2160p30_h264.mp4", 0, 118),
        "hdr": ("hdr10_av1_portrait_720p.mp4", 0, 125),
        "talk": ("dj_video3.mp4", 112, 255),
    },
    (Trial(4, 0.08), Trial(5, 0.14, 28)),
)
_NATURE, _LOMIRI, _PLASMA = "usr/share/backgrounds/mate/nature", "usr/share/backgrounds", "usr/share/wallpapers"
FRESH_PICTURES = {  # soft or painted: no measure of sharpness, but scenes
    **{name: f"{_NATURE}/{name}.jpg" for name in ("Dune", "Storm", "GreenMeadow", "RainDrops", "Blinds")},
    **{
        name.split("_by_")[0]: f"{_LOMIRI}/{name}.jpg"
        for name in (
            "Picture_1A_by_freespace",
            "greentock_by_Peter_Nerlich",
            "friends_by_Aitzol_Berasategi",
            "free_by_Peter_Nerlich",
        )
    },
    "Autumn": f"{_PLASMA}/Autumn/contents/images/2560x1600.jpg",
    "SafeLanding": f"{_PLASMA}/SafeLanding/contents/images/5120x2880.jpg",
    "Altai": f"{_PLASMA}/Altai/contents/images/5120x2880.png",
}
FRESH = Material(
    "fresh",
    tuple(Still(name, "photo", file) for name, file in FRESH_PICTURES.items()),
    {
        "couple": ("dj_video4.mp4", 0, 300),
        "dancer": ("dj_video5.mp4", 40, 280),
        "wall": ("dj_video11.mp4", 0, 280),
    },
    (Trial(101, 0.10), Trial(102, 0.06, 28)),
)
QUICK = Material("quick", HELD_OUT.photos[:5], HELD_OUT.footage, HELD_OUT.trials[:1])
QUICK_COUNTS = Counts(cuts=3, dissolves=1, fades=1, wipes=1)


def read_material(of: Material) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(photographs at canvas size, footage) by name; footage that is not there is left out."""
    install_packages()
    there = {name: f for name, f in of.footage.items() if (CLIPS_FOLDER / f[0]).exists()}
    clips = {name: read_clip(CLIPS_FOLDER / file, a, b) for name, (file, a, b) in there.items()}
    return {still.name: read_canvas(still) for still in of.photos}, clips
