# SPDX-License-Identifier: Apache-2.0
"""Real footage of a camera on a tripod: as it is, with things composited before it, and moved by a known camera.

The footage comes from Debian's opencv-doc (95 MB): people who cross a street, 768 x 576 at 10 fps, and a tree in the
wind, 320 x 240 at 15 fps. It is old and compressed; at the proxy's 270 rows that is hardly seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.ladders.judge import Floor, Section
from benchmarks.ladders.motion_films import is_named
from benchmarks.ladders.moving import H264_23, HEIGHT, PROXY_PX, WIDTH, Pose, canvas_of, look, measure, scores_of
from benchmarks.ladders.stills import Still, install_packages
from operators.measure import measure_segment
from operators.meters.motion import Motion

PACKAGE, FOLDER = "opencv-doc", "usr/share/doc/opencv-doc/examples/data"
FOOTAGE = {"vtest.avi": 10.0, "tree.avi": 15.0}  # with their true frame rates
CLIP_SAMPLES = 20  # of the meter: 5 s
NUM_FRAMES = 6
ZOOM = 1.35  # of the footage, so that there is somewhere to move to
SEED = 23
WARPS_PX = (2.0, 4.0, 8.0)
WARPS = {"pan": (0, 1), "tilt": (0, 1j), "zoom": (1, 0), "roll": (1j, 0)}  # growth and turn, shift
THING_HALVES = {"10 %": (0.18,), "30 %": (0.22, 0.22), "45 %": (0.38,)}


@dataclass
class Tally:
    """Clips judged, and those that are wrong by name."""

    name: str
    total: int = 0
    wrong: list[str] = field(default_factory=list)

    def count(self, is_right: bool, clip: str) -> None:
        self.total += 1
        self.wrong += [] if is_right else [clip]

    def floor(self, bound: float) -> Floor:
        return Floor(self.name, 1 - len(self.wrong) / max(self.total, 1), bound)

    def note(self) -> str:
        return f"{self.name}: {self.total} clips; not: {', '.join(self.wrong) or 'none'}"


def judge_footage(stills: tuple[Still, ...], quick: bool) -> Section:
    """Floors and notes on real footage; a part of the section on motion."""
    folder = install_packages((PACKAGE,)) / FOLDER
    whole = Tally("real tripod footage called static")
    for name, fps in FOOTAGE.items():
        for number, camera_class in enumerate(_classes(str(folder / name), fps)):
            whole.count(camera_class == "static", f"{name} {number} ({camera_class})")
    street = _frames(str(folder / "vtest.avi"))
    crowded, warped = Tally("tripod footage with things before it called static"), Tally("class of warped real frames")
    rng = np.random.default_rng(SEED)
    for start in range(0, len(street) - NUM_FRAMES, 200 if quick else 25):
        frames_THW = street[start : start + NUM_FRAMES]
        share = list(THING_HALVES)[start // 25 % len(THING_HALVES)]
        found = _class_of(_crowded(frames_THW, stills, THING_HALVES[share], rng))
        crowded.count(found == "static", f"{start} with {share} ({found})")
        name = list(WARPS)[start // 25 % len(WARPS)]
        speed = float(rng.choice(WARPS_PX) * rng.choice([-1, 1]))
        step = WARPS[name][0] * speed / 135, WARPS[name][1] * speed
        found = _class_of(_warped(frames_THW, step))
        warped.count(is_named(found, step), f"{start} {name} {speed:g} px ({found})")
    return Section(
        "Real footage",
        floors=[whole.floor(0.95), crowded.floor(0.95), warped.floor(0.9)],
        notes=[whole.note(), crowded.note(), warped.note()],
    )


def _classes(path: str, fps: float) -> Iterator[str]:
    """The class of every 5 s of a file."""
    series = measure_segment(path, [Motion()])
    for start in range(0, len(series["camera_pan"]) - CLIP_SAMPLES + 1, CLIP_SAMPLES):
        part = {name: value[start : start + CLIP_SAMPLES] for name, value in series.items() if isinstance(value, list)}
        yield scores_of(part, [Motion()], fps)["camera_class"]


def _class_of(frames: Iterator[np.ndarray]) -> str:
    return measure(frames, H264_23, [Motion(rate_hz=None)], fps=10)["camera_class"]


def _frames(path: str) -> np.ndarray:
    """uint8 luma [T, H, W], scaled to fill ZOOM times the frame."""
    import av
    import cv2

    with av.open(path) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    factor = ZOOM * max(HEIGHT / frames[0].shape[0], WIDTH / frames[0].shape[1])
    size = round(frames[0].shape[1] * factor), round(frames[0].shape[0] * factor)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames])


def _warped(frames_THW: np.ndarray, step: tuple[complex, complex]) -> Iterator[np.ndarray]:
    """The frames under a camera that moves by `step` (growth and turn, shift in proxy pixels) a frame."""
    growth, shift = step
    for index, frame_HW in enumerate(frames_THW):
        time = index - (len(frames_THW) - 1) / 2
        factor = (1 + growth) ** time
        at = shift * PROXY_PX * time
        pose = Pose(at.real, at.imag, abs(factor), float(np.degrees(np.angle(factor))))
        yield look(frame_HW.astype(np.float32), pose)


def _crowded(frames_THW: np.ndarray, stills: tuple[Still, ...], halves: tuple[float, ...], rng: Any) -> Iterator[Any]:
    """The frames with ellipses of photographs that move by 2 to 8 proxy pixels a frame."""
    textured = [still for still in stills if still.is_textured]
    pictures = [canvas_of(textured[rng.integers(len(textured))]) for _ in halves]
    ways = rng.uniform(2, 8, len(halves)) * np.exp(1j * rng.uniform(0, 2 * np.pi, len(halves))) * PROXY_PX
    places = rng.uniform(0.35, 0.65, (len(halves), 2)) * (WIDTH, HEIGHT)
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    for index, frame_HW in enumerate(frames_THW):
        seen_HW = look(frame_HW.astype(np.float32), Pose())
        for picture_HW, way, place, half in zip(pictures, ways, places, halves, strict=True):
            at = way * (index - (len(frames_THW) - 1) / 2)
            across, down = (x - place[0] - at.real) / (WIDTH * half), (y - place[1] - at.imag) / (HEIGHT * half)
            inside_HW = across**2 + down**2 < 1
            seen_HW = np.where(inside_HW, look(picture_HW, Pose(at.real, at.imag)), seen_HW)
        yield seen_HW
