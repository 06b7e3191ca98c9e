# SPDX-License-Identifier: Apache-2.0
"""How each sample is filmed: a scene, a camera move, and the fault put into it.

Each function with the arguments (path, scale) writes one file; `scale` multiplies every frame size.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

FPS = 24
UHD, HD, HD_720 = (3840, 2160), (1920, 1080), (1280, 720)
CUT_FRAME = 29  # first frame of the second shot in uhd_hard_cut.mp4
MARGIN = 1.15  # the still is this much larger than the frame, room for the camera
NOTES = "Shot list for the samples beside this file. It is no media file and must be counted as ignored.\n"


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    from pipelines.footage import even

    return even(size[0] * scale), even(size[1] * scale)


def filmed(
    size: tuple[int, int],
    scale: float,
    scene: str,
    seed: int,
    num_frames: int,
    *,
    grade: Any = None,
    margin: float = MARGIN,
    pq: bool = False,
    **shoot: Any,
) -> Any:
    """Frames of one shot of a scene of `pipelines.scenes`; `grade` changes the picture before it is filmed."""
    from pipelines import footage, scenes

    width, height = scaled(size, scale)
    picture_HWC = getattr(scenes, scene)(footage.even(height * margin), footage.even(width * margin), seed)
    planes = (footage.pq_planes if pq else footage.sdr_planes)(picture_HWC if grade is None else grade(picture_HWC))
    return footage.shoot(planes, (width, height), num_frames, seed=seed, **shoot)


def film(
    path: Path,
    scale: float,
    *,
    scene: str,
    size: tuple[int, int] = UHD,
    seed: int = 0,
    num_frames: int = 48,
    start: tuple[float, float] = (0.45, 0.5),
    end: tuple[float, float] = (0.55, 0.5),
    zoom: tuple[float, float] = (1.0, 1.0),
    codec: str = "X264",
    encode: dict[str, Any] | None = None,
    **shots: Any,
) -> None:
    """Most samples: one shot, one camera move."""
    from pipelines import footage

    move = footage.Move(start, end, zoom)
    frames = filmed(size, scale, scene, seed, num_frames, move=move, pq=codec == "X265_PQ", **shots)
    footage.encode(path, frames, getattr(footage, codec), **{"fps": FPS, **(encode or {})})


def hard_cut(path: Path, scale: float) -> None:
    from pipelines.footage import Move, encode

    first = filmed(UHD, scale, "noon_lake", 21, CUT_FRAME, move=Move((0.46, 0.5), (0.53, 0.5)))
    second = filmed(UHD, scale, "forest_floor", 22, 60 - CUT_FRAME, move=Move((0.5, 0.47), (0.5, 0.53)))
    encode(path, (frame for shot in (first, second) for frame in shot), fps=FPS)


def dissolve(path: Path, scale: float) -> None:
    from pipelines import footage
    from pipelines.footage import Move, encode

    first = filmed(HD, scale, "dusk_lake", 31, 108, move=Move((0.45, 0.5), (0.55, 0.5)))
    second = filmed(HD, scale, "forest_floor", 32, 108, move=Move((0.54, 0.5), (0.46, 0.5)))
    encode(path, footage.dissolve(first, second, 44, 20), fps=FPS)


def letterbox(index: int, frame: Any) -> Any:
    """Black bars of 12 % at top and bottom."""
    bar = frame.u.shape[0] * 12 // 100
    for plane, value, rows in ((frame.y, 16, bar * 2), (frame.u, 128, bar), (frame.v, 128, bar)):
        plane[:rows] = plane[-rows:] = value * frame.top
    return frame


def subtitle(index: int, frame: Any) -> Any:
    """White text with a dark rim at the bottom, a channel mark at the upper right."""
    import cv2

    height, width = frame.y.shape
    for text, size, x, y in (("AND THEN THE RIVER TURNED NORTH", 0.0017, 0.17, 0.91), ("LIVE 7", 0.0013, 0.86, 0.09)):
        at, thick = (int(x * width), int(y * height)), max(1, height // 200)
        for value, line in ((20, thick * 4), (234, thick)):
            cv2.putText(frame.y, text, at, cv2.FONT_HERSHEY_DUPLEX, size * height, value, line, cv2.LINE_AA)
    return frame


class Frozen:
    """Holds frame `first` for `length` frames, noise included."""

    def __init__(self, first: int, length: int) -> None:
        self.first, self.last, self.held = first, first + length - 1, None

    def __call__(self, index: int, frame: Any) -> Any:
        self.held = frame if index == self.first else self.held
        return self.held if self.first <= index <= self.last else frame


class Balloon:
    """A hot-air balloon that rises across a picture that stands still."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames, self.planes = num_frames, None

    def __call__(self, index: int, frame: Any) -> Any:
        from pipelines.footage import even, sdr_planes
        from pipelines.scenes import balloon

        height, width = frame.y.shape
        if self.planes is None:
            picture_HWC, alpha_HW = balloon(even(height * 0.34), "c8322b")
            self.planes = (sdr_planes(picture_HWC), alpha_HW)
        sprite, alpha_HW = self.planes
        t = index / self.num_frames
        x, y = even((0.12 + 0.5 * t) * width), even((0.36 - 0.26 * t) * height)
        for target, color, step in ((frame.y, sprite.y, 1), (frame.u, sprite.u, 2), (frame.v, sprite.v, 2)):
            alpha = alpha_HW[::step, ::step]
            part = target[y // step : y // step + color.shape[0], x // step : x // step + color.shape[1]]
            part[:] = np.rint(part + (color.astype(np.float32) - part) * alpha).astype(part.dtype)
        return frame


def balloon_film(path: Path, scale: float) -> None:
    film(
        path,
        scale,
        scene="dawn_lake",
        size=HD,
        seed=81,
        num_frames=60,
        start=(0.5, 0.5),
        end=(0.5, 0.5),
        edits=(Balloon(60),),
    )


def frozen_film(path: Path, scale: float) -> None:
    film(path, scale, scene="noon_lake", size=HD, seed=71, num_frames=60, edits=(Frozen(12, 45),))


def upscaled(path: Path, scale: float) -> None:
    """Filmed at 1280x720, enlarged three times: UHD by its header only."""
    import cv2

    from pipelines.footage import Move, Planes, encode

    width, height = scaled(UHD, scale)
    small = filmed(HD_720, scale, "night_city", 61, 36, move=Move((0.46, 0.5), (0.54, 0.5)))
    enlarge = partial(cv2.resize, interpolation=cv2.INTER_CUBIC)
    large = (
        Planes(enlarge(f.y, (width, height)), *(enlarge(c, (width // 2, height // 2)) for c in (f.u, f.v)))
        for f in small
    )
    encode(path, large, fps=FPS)


def phone(path: Path, scale: float) -> None:
    """An upright picture, stored lying on its side with a rotation tag."""
    from pipelines.footage import Move, Planes, encode, rotate_by_metadata

    upright = filmed((UHD[1], UHD[0]), scale, "dawn_lake", 52, 30, move=Move((0.5, 0.53), (0.5, 0.47)))
    lying = (Planes(*(np.ascontiguousarray(np.rot90(plane)) for plane in (f.y, f.u, f.v))) for f in upright)
    encode(path, lying, fps=FPS)
    rotate_by_metadata(path)


def variable_rate(path: Path, scale: float) -> None:
    """Nominally 30 fps with frames left out at irregular places."""
    steps = np.random.default_rng(5).choice([1, 1, 1, 2, 3], 48)
    pts = [0, *np.cumsum(steps).tolist()]
    film(path, scale, scene="dusk_lake", size=HD_720, seed=91, encode={"fps": 30, "pts": pts})


def truncated(path: Path, scale: float) -> None:
    """Index at the front, then cut off at 60 % of the bytes: the header promises frames that are not there."""
    film(path, scale, scene="forest_floor", size=HD, seed=95, num_frames=72, encode={"mux": {"movflags": "faststart"}})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def no_index(path: Path, scale: float) -> None:
    """Index at the end, then cut off: nothing can be read."""
    film(path, scale, scene="night_city", size=HD_720, seed=96, num_frames=24)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def photo(path: Path, scale: float) -> None:
    from PIL import Image

    from pipelines.scenes import forest_floor

    width, height = scaled(UHD, scale)
    picture_HWC = forest_floor(height, width, 99)
    Image.fromarray((picture_HWC[..., ::-1] * 255).astype(np.uint8)).save(path, quality=92)


def tone(path: Path, scale: float) -> None:
    from pipelines.footage import encode_tone

    encode_tone(path)


def empty(path: Path, scale: float) -> None:
    path.write_bytes(b"")


def text(path: Path, scale: float) -> None:
    path.write_text(NOTES, encoding="utf-8")


def blown(picture_HWC: Any) -> Any:
    return np.clip(picture_HWC * 3.0 + 0.1, 0, 1)


def gray(picture_HWC: Any) -> Any:
    return np.repeat(picture_HWC @ np.array([[0.0722], [0.7152], [0.2126]], np.float32), 3, axis=2)
