# SPDX-License-Identifier: Apache-2.0
"""Clips, other clips of the same scenes, and copies by everything that re-uploaders do: for `benchmarks.dedup`.

Scenes are photographs and renderings under different camera paths, the same under a fixed camera with different things
moving in front of it, and consecutive windows of real footage (`../shared/clips`, where it is).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ladders.stills import PHOTOS, RENDERED, Still, install_packages, read_still

HEIGHT, WIDTH, FPS, NUM_FRAMES = 180, 320, 24.0, 72
FOOTAGE = Path(__file__).resolve().parents[3] / "shared" / "clips"
WINDOW_S, MAX_WINDOWS = 2.5, 6
NUM_FIXED = 2
# Left out: the same lake at another time of day, and the same film as another file, which the search found.
SAME_PICTURE = ("dawn_lake", "dusk_lake", "corrupt_truncated_28_of_50")


@dataclass(frozen=True)
class Film:
    """Luma frames uint8 [T, H, W] of one original clip.

    Args:
        scene: clips of one scene show the same place.
        fps: frames per second.
    """

    scene: str
    name: str
    frames_THW: np.ndarray
    fps: float


@dataclass(frozen=True)
class Encoding:
    """How a copy is written."""

    codec: str = "libx264"
    crf: int = 23
    fps_factor: float = 1.0


Made = tuple[np.ndarray, Encoding]


def films(quick: bool) -> Iterator[Film]:
    """All originals; a tenth of them for a smoke test."""
    install_packages()
    stills = [still for still in (*PHOTOS, *RENDERED) if still.name not in SAME_PICTURE]
    for still in stills[::8] if quick else stills:
        yield from _of_still(still)
    if FOOTAGE.is_dir():
        files = [path for path in sorted(FOOTAGE.iterdir()) if path.stem not in SAME_PICTURE]
        videos = [path for path in files if path.suffix in (".mp4", ".mkv", ".mov")]
        for path in videos[:: 5 if quick else 1]:
            yield from _windows(path)


def _of_still(still: Still) -> Iterator[Film]:
    import cv2

    luma_HW = cv2.cvtColor(read_still(still), cv2.COLOR_BGR2GRAY)
    factor = 1.7 * max(HEIGHT / luma_HW.shape[0], WIDTH / luma_HW.shape[1])
    canvas_HW = cv2.resize(luma_HW, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA).astype(np.float32)
    for number, (start, end, growth) in enumerate(PATHS):
        yield Film(still.name, f"path{number}", _panned(canvas_HW, start, end, growth), FPS)
    for number in range(NUM_FIXED):
        yield Film(still.name, f"fixed{number}", _fixed(canvas_HW, [number, *still.name.encode()]), FPS)


PATHS = (  # where the frame's corner begins and ends, in shares of its room to move; how much the picture grows
    ((0.1, 0.3), (0.9, 0.4), 1.0),
    ((0.8, 0.2), (0.2, 0.7), 1.0),
    ((0.5, 0.9), (0.5, 0.1), 1.0),
    ((0.4, 0.5), (0.5, 0.5), 1.3),
    ((0.2, 0.1), (0.5, 0.9), 1.1),
    ((0.7, 0.8), (0.6, 0.7), 0.8),
    ((0.1, 0.9), (0.7, 0.5), 1.0),
)


def _panned(canvas_HW: np.ndarray, start: Sequence[float], end: Sequence[float], growth: float) -> np.ndarray:
    import cv2

    room = np.array([canvas_HW.shape[1] - WIDTH, canvas_HW.shape[0] - HEIGHT])
    rng = np.random.default_rng(0)
    frames = []
    for share in np.linspace(0, 1, NUM_FRAMES):
        x, y = (np.array(start) + (np.array(end) - start) * share) * room
        zoom = growth**share
        matrix = np.array(
            [[zoom, 0, -x * zoom + (1 - zoom) * WIDTH / 2], [0, zoom, -y * zoom + (1 - zoom) * HEIGHT / 2]]
        )
        shown = cv2.warpAffine(canvas_HW, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT_101)
        frames.append(np.clip(shown + rng.normal(0, 1.5, shown.shape), 0, 255).astype(np.uint8))
    return np.stack(frames)


def _fixed(canvas_HW: np.ndarray, seed: Sequence[int]) -> np.ndarray:
    """A fixed camera, and two to four ellipses that wander."""
    import cv2

    rng = np.random.default_rng(seed)
    num = int(rng.integers(2, 5))
    place, speed = rng.uniform(0, 1, (num, 2)) * [WIDTH, HEIGHT], rng.uniform(-3, 3, (num, 2))
    size, level = rng.uniform(8, 30, num), rng.uniform(0, 255, num)
    frames = []
    for t in range(NUM_FRAMES):
        shown = canvas_HW[20 : 20 + HEIGHT, 30 : 30 + WIDTH].copy()
        for i in range(num):
            x, y = np.mod(place[i] + speed[i] * t + 9 * np.sin(t / 9 + i), [WIDTH, HEIGHT]).astype(int)
            axes = int(size[i] * 0.6), int(size[i])
            cv2.ellipse(shown, (int(x), int(y)), axes, 0, 0, 360, float(level[i]), -1, cv2.LINE_AA)
        frames.append(np.clip(shown + rng.normal(0, 1.5, shown.shape), 0, 255).astype(np.uint8))
    return np.stack(frames)


def _windows(path: Path) -> Iterator[Film]:
    """Consecutive windows of a file, scaled down; nothing of a file that is too short or has no video."""
    import av
    from av.error import FFmpegError

    frames: list[np.ndarray] = []
    with av.open(str(path)) as media:
        if not media.streams.video:
            return
        fps = float(media.streams.video[0].average_rate or 0)
        num = int(fps * WINDOW_S)
        if num < 20:
            return
        try:
            for frame in media.decode(video=0):
                scale = WIDTH / max(frame.width, frame.height)
                size = round(frame.width * scale / 2) * 2, round(frame.height * scale / 2) * 2
                frames.append(frame.reformat(width=size[0], height=size[1], format="gray").to_ndarray())
                if len(frames) == num * MAX_WINDOWS:
                    break
        except FFmpegError:
            pass  # what decodes of a damaged file is footage too
    for number, start in enumerate(range(0, len(frames) - num + 1, num)):
        yield Film(path.stem, f"window{number}", np.stack(frames[start : start + num]), fps)


# --- copies -------------------------------------------------------------------------------------------------------


def _scaled(frames_THW: np.ndarray, width: int, height: int) -> np.ndarray:
    import cv2

    size = width // 2 * 2, height // 2 * 2
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames_THW])


def _cropped(frames_THW: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    full = frames_THW.shape[2], frames_THW.shape[1]
    return _scaled(frames_THW[:, top : top + height, left : left + width], *full)


def crop_5(frames_THW: np.ndarray, rng: np.random.Generator) -> Made:
    """95 % of width and height, anywhere."""
    height, width = (int(0.95 * size) for size in frames_THW.shape[1:])
    top, left = (
        int(rng.integers(0, size - kept + 1)) for size, kept in zip(frames_THW.shape[1:], (height, width), strict=True)
    )
    return _cropped(frames_THW, top, left, height, width), Encoding()


def crop_5_each(frames_THW: np.ndarray, rng: np.random.Generator) -> Made:
    """5 % off each side."""
    height, width = frames_THW.shape[1:]
    rows, columns = round(0.05 * height), round(0.05 * width)
    return _cropped(frames_THW, rows, columns, height - 2 * rows, width - 2 * columns), Encoding()


def logo(frames_THW: np.ndarray, rng: np.random.Generator) -> Made:
    """A light plate with letters in a corner, 16 x 10 % of the frame."""
    import cv2

    frames_THW = frames_THW.copy()
    height, width = frames_THW.shape[1:]
    rows, columns = int(0.1 * height), int(0.16 * width)
    top, left = (int(rng.choice([6, size - side - 6])) for size, side in ((height, rows), (width, columns)))
    for frame in frames_THW:
        frame[top : top + rows, left : left + columns] = 235
        cv2.putText(frame, "TV", (left + 4, top + rows - 4), 0, rows / 30, 20, 2)
    return frames_THW, Encoding()


def boxed(frames_THW: np.ndarray, axis: int, share: float) -> Made:
    """Black bars of `share` of the height (axis 1) or width (2) on both sides."""
    bar = round(frames_THW.shape[axis] * share / 2) * 2
    pad = [(0, 0)] * 3
    pad[axis] = (bar, bar)
    return np.pad(frames_THW, pad), Encoding()


def slower_rate(frames_THW: np.ndarray, rng: np.random.Generator) -> Made:
    """Five frames of eight."""
    kept = np.flatnonzero(np.arange(len(frames_THW)) * 5 // 8 != (np.arange(len(frames_THW)) - 1) * 5 // 8)
    return frames_THW[kept], Encoding(fps_factor=5 / 8)


def everything(frames_THW: np.ndarray, rng: np.random.Generator) -> Made:
    """Cropped, with a logo, smaller and coded badly."""
    made = logo(crop_5(frames_THW, rng)[0], rng)[0]
    return _scaled(made, made.shape[2] * 2 // 3, made.shape[1] * 2 // 3), Encoding(crf=30)


PROMISED: dict[str, Callable[[np.ndarray, np.random.Generator], Made]] = {
    "coded again, crf 34": lambda f, r: (f, Encoding(crf=34)),
    "coded again, HEVC": lambda f, r: (f, Encoding("libx265", 30)),
    "half the size": lambda f, r: (_scaled(f, f.shape[2] // 2, f.shape[1] // 2), Encoding(crf=26)),
    "letterboxed": lambda f, r: boxed(f, 1, 0.17),
    "pillarboxed": lambda f, r: boxed(f, 2, 0.17),
    "cropped to 95 %": crop_5,
    "logo": logo,
    "1.1 x speed": lambda f, r: (f, Encoding(fps_factor=1.1)),
    "trimmed to 64 %": lambda f, r: (f[int(0.23 * len(f)) : int(0.87 * len(f))], Encoding()),
}
MIRRORED = {"mirrored": lambda f, r: (np.ascontiguousarray(f[:, :, ::-1]), Encoding())}  # with `mirrored: true`
BEYOND = {"5 % off each side": crop_5_each, "5/8 of the frame rate": slower_rate, "crop, logo, 2/3, crf 30": everything}


def write(path: Path, frames_THW: np.ndarray, fps: float, encoding: Encoding) -> None:
    """Encodes full-range luma as limited-range 4:2:0 without colour."""
    import av

    height, width = (size // 2 * 2 for size in frames_THW.shape[1:])
    options = {"preset": "ultrafast", "crf": str(encoding.crf)}
    if encoding.codec == "libx265":
        options["x265-params"] = "log-level=none:pools=none:frame-threads=1"
    rate = Fraction(fps * encoding.fps_factor).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoding.codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        for frame_HW in frames_THW:
            planes[:height] = np.rint(frame_HW[:height, :width] * (219 / 255) + 16)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode(None))


def remux(path: Path, other: Path) -> None:
    """Copies the bit stream into another container."""
    import av

    with av.open(str(path)) as source, av.open(str(other), "w") as target:
        old = source.streams.video[0]
        new = target.add_stream_from_template(old, opaque=True)
        for packet in source.demux(old):
            if packet.dts is not None:
                packet.stream = new
                target.mux(packet)
