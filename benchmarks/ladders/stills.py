# SPDX-License-Identifier: Apache-2.0
"""Real high-resolution photographs from Debian's wallpaper packages, and rendered pictures beside them.

The packages are fetched with `apt-get download` (no root, nothing is installed) and unpacked into the user's cache.
Only photographs whose detail reaches single pixels, or nearly, are listed; drawings and renderings among the
wallpapers are not. `is_textured` says whether a picture has enough fine texture for a judgement of its resolution to be
asked for: a misty lake has none, and nobody can tell at which size it was taken.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PACKAGES = ("plasma-workspace-wallpapers", "mate-backgrounds", "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04")
_MATE, _PLASMA, _LOMIRI = "usr/share/backgrounds/mate/nature", "usr/share/wallpapers", "usr/share/backgrounds"


@dataclass(frozen=True)
class Still:
    """A photograph or a rendering.

    Args:
        name: short, unique.
        kind: `photo` or `rendered`.
        file: below the unpacked packages; of a rendering, the scene of `pipelines.scenes`.
        is_textured: fine texture all over or in large parts.
    """

    name: str
    kind: str
    file: str
    is_textured: bool = True


def _plasma(name: str, is_textured: bool = True) -> Still:
    return Still(name, "photo", f"{_PLASMA}/{name}/contents/images/2560x1600.jpg", is_textured)


def _mate(name: str, is_textured: bool = True) -> Still:
    return Still(name, "photo", f"{_MATE}/{name}.jpg", is_textured)


def _lomiri(name: str, is_textured: bool = True) -> Still:
    return Still(name.split("_by_")[0], "photo", f"{_LOMIRI}/{name}.jpg", is_textured)


PHOTOS = (
    _mate("Aqua", False),
    _mate("Garden"),
    _mate("LadyBird"),
    _mate("TwoWings"),
    _mate("YellowFlower"),
    _plasma("BytheWater"),
    _plasma("ColdRipple"),
    _plasma("ColorfulCups"),
    _plasma("DarkestHour", False),
    _plasma("EveningGlow"),
    _plasma("FallenLeaf"),
    _plasma("Grey"),
    _plasma("Kite", False),
    _plasma("OneStandsOut"),
    _plasma("Path"),
    _plasma("summer_1am", False),
    Still("Volna", "photo", f"{_PLASMA}/Volna/contents/images/5120x2880.jpg"),
    _lomiri("Bridge_by_Sander_Klootwijk"),
    _lomiri("Dragonfly_by_Bolly"),
    _lomiri("Picture_0B_by_freespace"),
    _lomiri("Wine_by_Jakkub_Mede"),
    _lomiri("aitzgorri_by_Aitzol_Berasategi"),
    _lomiri("life_by_Aitzol_Berasategi"),
    _lomiri("picosdeeuropa_by_Aitzol_Berasategi"),
    _lomiri("seeding_by_Clements_Engelhardt"),
    _lomiri("sunset_by_Aitzol_Berasategi"),
    _lomiri("Kleiber_by_Lukas_Baubkus"),
)
RENDERED = tuple(
    Still(scene, "rendered", scene) for scene in ("dawn_lake", "noon_lake", "dusk_lake", "forest_floor", "night_city")
)
RENDERED_HEIGHT, RENDERED_WIDTH = 1600, 2560


def cache_folder() -> Path:
    """Where the packages are unpacked: below XDG_CACHE_HOME, or ~/.cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "reelmill" / "stills-debian"


def install_packages(names: Sequence[str] = PACKAGES) -> Path:
    """Downloads and unpacks the Debian packages that are not in the cache yet. Returns the folder.

    Raises:
        RuntimeError: this is not Debian, or a package cannot be fetched.
    """
    folder = cache_folder()
    missing = [name for name in names if not (folder / f".{name}").exists()]
    if not missing:
        return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise RuntimeError(f"the photographs come from Debian packages, and this machine has no apt-get: {missing}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in missing:
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            done = subprocess.run(["apt-get", "download", name], cwd=aside, capture_output=True, text=True)
            packages = list(Path(aside).glob("*.deb"))
            if done.returncode or not packages:
                raise RuntimeError(f"apt-get download {name} fails: {done.stderr.strip()[-300:]} (try apt-get update)")
            subprocess.run(["dpkg-deb", "-x", str(packages[0]), str(folder)], check=True)
        (folder / f".{name}").touch()
    return folder


def read_still(still: Still) -> np.ndarray:
    """uint8 BGR [H, W, 3] at its true size; photographs must have been unpacked by `install_packages`."""
    import cv2

    if still.kind == "rendered":
        from pipelines import scenes

        picture_HWC = getattr(scenes, still.file)(RENDERED_HEIGHT, RENDERED_WIDTH, 5)
        return np.rint(np.clip(picture_HWC, 0, 1) * 255).astype(np.uint8)
    path = cache_folder() / still.file
    picture_HWC = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture_HWC is None:
        raise FileNotFoundError(f"{path}: run benchmarks.ladders.stills.install_packages() first")
    return picture_HWC
