# SPDX-License-Identifier: Apache-2.0
"""Films with exactly known transitions: moves over photographs and real footage, joined by every kind of transition.

A reel is a list of shots and of the joins between them. `frames` renders it, `joins` says in which frames two shots
mix. Two reels that share no photograph and no clip are made with different seeds: thresholds come from one, the
reported numbers from the other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ladders.reel_events import EVENTS, FPS, HEIGHT, WIDTH, Shot, view_of, with_event

CANVAS_WIDTH = 1280  # a photograph is kept at this width; a view of a shot is half to all of it
WIPES = ("left", "right", "up", "down", "diagonal", "iris", "clock", "barn")


@dataclass(frozen=True)
class Join:
    """A transition: frames [start, end) mix two shots; empty for a cut, where `start` is the new shot's first frame.

    Attributes:
        kind: cut, dissolve, fade or wipe.
        style: of a wipe its shape and edge, of a fade its colour.
        weight: [end - start] share of the old shot in each frame (a fade: of either shot), 0-1.
    """

    kind: str
    style: str
    start: int
    end: int
    weight: np.ndarray


@dataclass(frozen=True)
class Event:
    """Something that is no transition: frames [start, end) of a flash, a whip pan ..."""

    kind: str
    start: int
    end: int


@dataclass
class Reel:
    """A rendered plan: `frames()` gives uint8 BGR [HEIGHT, WIDTH, 3] one by one."""

    joins: list[Join]
    events: list[Event]
    num_frames: int
    frames: Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Counts:
    """How many transitions of each kind a reel has."""

    cuts: int = 32
    dissolves: int = 14
    fades: int = 13
    wipes: int = 8


# --- shots --------------------------------------------------------------------------------------------------------


def photo_shot(canvas_HWC: np.ndarray, num_frames: int, rng: np.random.Generator, speed: float) -> Shot:
    """A slow move over a photograph: from one view to another that lies `speed` frame widths a second away."""
    height, width = canvas_HWC.shape[:2]
    reach = speed * num_frames / FPS
    sizes = rng.uniform(0.5, 0.85) * np.array([1.0, 1 + rng.uniform(-0.15, 0.15) * min(1.0, 4 * reach)])
    angle = rng.uniform(0, 2 * np.pi)
    step = reach * sizes[0] * width * np.array([np.cos(angle), np.sin(angle)]) / 2
    centre = np.array([rng.uniform(0.4, 0.6) * width, rng.uniform(0.4, 0.6) * height])

    def frame(t: int) -> np.ndarray:
        s = t / max(num_frames - 1, 1)
        return view_of(canvas_HWC, centre + step * (2 * s - 1), float(sizes[0] + (sizes[1] - sizes[0]) * s))

    return frame


def clip_shot(frames_THWC: np.ndarray) -> Shot:
    """Real footage; after its last frame it runs backwards."""
    last = len(frames_THWC) - 1
    return lambda t: frames_THWC[last - abs(last - t % (2 * last))]


def read_canvas(still: Any) -> np.ndarray:
    """A photograph at CANVAS_WIDTH."""
    import cv2

    from benchmarks.ladders.stills import read_still

    picture_HWC = read_still(still)
    height = round(CANVAS_WIDTH * picture_HWC.shape[0] / picture_HWC.shape[1])
    return cv2.resize(picture_HWC, (CANVAS_WIDTH, height), interpolation=cv2.INTER_AREA)


def read_clip(path: Path, first: int, last: int) -> np.ndarray:
    """Frames [first, last) of a file, cropped to 16:9, uint8 BGR [T, HEIGHT, WIDTH, 3]."""
    import av
    import cv2

    frames = []
    with av.open(str(path)) as media:
        media.streams.video[0].thread_count = 1
        for number, frame in enumerate(media.decode(video=0)):
            if number >= last:
                break
            if number < first:
                continue
            picture_HWC = frame.to_ndarray(format="bgr24")
            height, width = picture_HWC.shape[:2]
            rows, cols = min(height, width * HEIGHT // WIDTH), min(width, height * WIDTH // HEIGHT)
            top, left = (height - rows) // 2, (width - cols) // 2
            crop_HWC = picture_HWC[top : top + rows, left : left + cols]
            frames.append(cv2.resize(crop_HWC, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
    return np.stack(frames)


# --- transitions --------------------------------------------------------------------------------------------------


def wipe_mask(shape: str, soft: float) -> Callable[[float], np.ndarray]:
    """Share of the old shot, float32 [HEIGHT, WIDTH, 1], at progress 0-1; `soft` is the edge's width, 0-0.3."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    u, v = (x + 0.5) / WIDTH, (y + 0.5) / HEIGHT
    order_HW = {
        "right": u,
        "left": 1 - u,
        "down": v,
        "up": 1 - v,
        "diagonal": (u + v) / 2,
        "iris": np.hypot(u - 0.5, v - 0.5) / np.hypot(0.5, 0.5),
        "clock": (np.arctan2(u - 0.5, 0.5 - v) / (2 * np.pi)) % 1,
        "barn": np.abs(u - 0.5) * 2,
    }[shape]
    width = max(soft, 1e-3)
    return lambda s: np.clip((order_HW - s * (1 + width) + width) / width, 0, 1)[:, :, None]


def mix(kind: str, style: str, length: int) -> tuple[Callable[[int, np.ndarray, np.ndarray], np.ndarray], np.ndarray]:
    """How frame k of a transition is made of (old, new), and the share of the old shot in each of its frames."""
    s = (np.arange(length) + 1) / (length + 1)
    if kind == "dissolve":
        return lambda k, a, b: (a * (1 - s[k]) + b * s[k]).astype(np.uint8), 1 - s
    if kind == "wipe":
        shape, soft = style.split(":")
        mask = wipe_mask(shape, float(soft))
        return lambda k, a, b: (a * mask(s[k]) + b * (1 - mask(s[k]))).astype(np.uint8), np.array(
            [mask(v).mean() for v in s]
        )
    assert kind == "fade"
    colour, hold = style.split(":")
    level, ramp = (0.0 if colour == "black" else 255.0), (length - int(hold)) / 2
    k = np.arange(length)
    share = np.clip(np.maximum(1 - (k + 1) / (ramp + 1), 1 - (length - k) / (ramp + 1)), 0, 1)

    def faded(i: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return ((a if i < length / 2 else b) * share[i] + level * (1 - share[i])).astype(np.uint8)

    return faded, share


# --- the plan -----------------------------------------------------------------------------------------------------


def make_reel(
    canvases: dict[str, np.ndarray], clips: dict[str, np.ndarray], counts: Counts, seed: int, *, speed: float = 0.06
) -> Reel:
    """A reel over these photographs and clips, neighbours never from the same.

    Args:
        canvases, clips: name -> picture [h, w, 3]; name -> frames [T, HEIGHT, WIDTH, 3].
        speed: typical speed of the moves over photographs, frame widths a second; a third of them are 3 times faster.
    """
    rng = np.random.default_rng(seed)
    kinds = _kinds(counts, rng)
    names = _names([*canvases, *clips], len(kinds) + 1, rng)
    events = [e for e in EVENTS for _ in range(2)]
    rng.shuffle(events)
    free = [i for i, name in enumerate(names) if name in canvases]
    hosts = dict(zip(rng.permutation(free).tolist(), events, strict=False))
    shots: list[Shot] = []
    lengths: list[int] = []
    marks: list[tuple[str, int, int] | None] = []
    for i, name in enumerate(names):
        num = int(rng.integers(36, 70)) if i not in hosts else 80
        if name in clips:
            offset = int(rng.integers(0, max(1, len(clips[name]) - num - 80)))
            shot, mark = clip_shot(clips[name][offset:]), None
        else:
            shot = photo_shot(canvases[name], num + 80, rng, speed * (3 if rng.random() < 0.33 else 1))
            mark = None
            if i in hosts:
                lead = kinds[i - 1][2] if i else 0
                shot, a, b = with_event(shot, hosts[i], lead, num, canvases[name], rng)
                mark = hosts[i], a, b
        shots.append(shot)
        lengths.append(num)
        marks.append(mark)
    return _laid_out(shots, lengths, marks, kinds, rng)


def _kinds(counts: Counts, rng: np.random.Generator) -> list[tuple[str, str, int]]:
    """(kind, style, frames) of each transition, shuffled."""
    kinds: list[tuple[str, str, int]] = [("cut", "", 0)] * counts.cuts
    kinds += [("dissolve", "", int(n)) for n in np.linspace(8, 40, counts.dissolves).round()]
    for i in range(counts.fades):
        hold = int(rng.integers(0, 9))
        kinds.append(("fade", f"{'white' if i % 4 == 3 else 'black'}:{hold}", 2 * int(rng.integers(5, 18)) + hold))
    for i in range(counts.wipes):
        soft = (0.0, 0.05, 0.15)[i % 3]
        kinds.append(("wipe", f"{WIPES[i % len(WIPES)]}:{soft}", int(rng.integers(10, 36))))
    return [kinds[i] for i in rng.permutation(len(kinds))]


def _names(names: list[str], num: int, rng: np.random.Generator) -> list[str]:
    chosen: list[str] = []
    while len(chosen) < num:
        round_of = list(rng.permutation(names))
        if chosen and round_of[0] == chosen[-1]:
            round_of.append(round_of.pop(0))
        chosen += map(str, round_of)
    return chosen[:num]


def _laid_out(
    shots: list[Shot], lengths: list[int], marks: list[Any], kinds: list[tuple[str, str, int]], rng: np.random.Generator
) -> Reel:
    """Shots are alone for `lengths` frames each, with their joins between them."""
    joins: list[Join] = []
    events: list[Event] = []
    pieces: list[tuple[Any, ...]] = []  # (first frame, what makes frame k of it)
    at, lead = 0, 0  # lead: frames of the shot that the join before it has used
    for i, (shot, num) in enumerate(zip(shots, lengths, strict=True)):
        pieces.append((at, num, lambda k, shot=shot, lead=lead: shot(lead + k)))
        if marks[i]:
            kind, a, b = marks[i]
            events.append(Event(kind, at + a - lead, at + b - lead))
        at += num
        if i == len(kinds):
            break
        kind, style, length = kinds[i]
        after, old_at = shots[i + 1], lead + num
        if length:
            blend, weight = mix(kind, style, length)
            pieces.append((at, length, lambda k, a=shot, b=after, f=blend, o=old_at: f(k, a(o + k), b(k))))
        else:
            weight = np.zeros(0)
        joins.append(Join(kind, style, at, at + length, weight))
        at, lead = at + length, length

    def frames() -> Iterator[np.ndarray]:
        for _, num, make in pieces:
            for k in range(num):
                yield make(k)

    return Reel(joins, events, at, frames)


def write_reel(path: Path, reel: Reel, crf: int = 23) -> Path:
    """Encodes it as H.264 with the encoder's own key frames."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": str(crf), "preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture_HWC in reel.frames():
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture_HWC, format="bgr24")))
        out.mux(stream.encode())
    return path
