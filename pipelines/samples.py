# SPDX-License-Identifier: Apache-2.0
"""The project's own sample footage: short clips with known faults, rendered once and kept in the user's cache.

`render_samples` is deterministic and may be stopped at any moment: a file appears whole or not at all, and the next
call renders what is missing. `labels.json` beside the files says what a mill must find in each of them.
"""

import hashlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

FPS = 24
UHD, HD, HD_720 = (3840, 2160), (1920, 1080), (1280, 720)
CUT_FRAME = 29           # first frame of the second shot in uhd_hard_cut.mp4
MARGIN = 1.15            # the still is this much larger than the frame, room for the camera
NOTES = "Shot list for the samples beside this file. It is no media file and must be counted as ignored.\n"


@dataclass(frozen=True)
class Sample:
    """One file, its fault and what the mill must say about it.

    Args:
        make: writes the file at a given scale (1: true size; tests use less).
        expected: see `pipelines.demo` for the keys.
        meter_later: the fault is real, but no meter finds it yet.
        sidecar: title and tags, written as `<file stem>.json`.
    """

    file: str
    fault: str
    make: Callable[[Path, float], None]
    expected: dict[str, Any]
    meter_later: bool = False
    sidecar: dict[str, Any] = field(default_factory=dict)

    def label(self, scale: float) -> dict[str, Any]:
        """What `labels.json` says of it, sizes at the given scale."""
        size = {k: round(v * scale / 2) * 2 for k, v in self.expected.items() if k in ("width_px", "height_px")}
        return {"file": self.file, "fault": self.fault, "expected": self.expected | size, "meter_later": self.meter_later}


def _size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    from pipelines.footage import even

    return even(size[0] * scale), even(size[1] * scale)


def _shots(size: tuple[int, int], scale: float, scene: str, seed: int, num_frames: int, *, grade: Any = None,
           margin: float = MARGIN, pq: bool = False, **shoot: Any) -> Any:
    """Frames of one shot of a scene of `pipelines.scenes`; `grade` changes the picture before it is filmed."""
    from pipelines import footage, scenes

    width, height = _size(size, scale)
    picture_HWC = getattr(scenes, scene)(footage.even(height * margin), footage.even(width * margin), seed)
    planes = (footage.pq_planes if pq else footage.sdr_planes)(picture_HWC if grade is None else grade(picture_HWC))
    return footage.shoot(planes, (width, height), num_frames, seed=seed, **shoot)


def _film(path: Path, scale: float, *, scene: str, size: tuple[int, int] = UHD, seed: int = 0, num_frames: int = 48,
          start: tuple[float, float] = (0.45, 0.5), end: tuple[float, float] = (0.55, 0.5),
          zoom: tuple[float, float] = (1.0, 1.0), codec: str = "X264", encode: dict[str, Any] | None = None, **shots: Any) -> None:
    """Most samples: one shot, one camera move."""
    from pipelines import footage

    move = footage.Move(start, end, zoom)
    frames = _shots(size, scale, scene, seed, num_frames, move=move, pq=codec == "X265_PQ", **shots)
    footage.encode(path, frames, getattr(footage, codec), **{"fps": FPS, **(encode or {})})


def _hard_cut(path: Path, scale: float) -> None:
    from pipelines.footage import Move, encode

    first = _shots(UHD, scale, "noon_lake", 21, CUT_FRAME, move=Move((0.46, 0.5), (0.53, 0.5)))
    second = _shots(UHD, scale, "forest_floor", 22, 60 - CUT_FRAME, move=Move((0.5, 0.47), (0.5, 0.53)))
    encode(path, (frame for shot in (first, second) for frame in shot), fps=FPS)


def _dissolve(path: Path, scale: float) -> None:
    from pipelines.footage import Move, dissolve, encode

    first = _shots(HD, scale, "dusk_lake", 31, 72, move=Move((0.45, 0.5), (0.55, 0.5)))
    second = _shots(HD, scale, "noon_lake", 32, 72, move=Move((0.54, 0.5), (0.46, 0.5)))
    encode(path, dissolve(first, second, 26, 20), fps=FPS)


def _letterbox(index: int, frame: Any) -> Any:
    """Black bars of 12 % at top and bottom."""
    bar = frame.u.shape[0] * 12 // 100
    for plane, value, rows in ((frame.y, 16, bar * 2), (frame.u, 128, bar), (frame.v, 128, bar)):
        plane[:rows] = plane[-rows:] = value * frame.top
    return frame


def _subtitle(index: int, frame: Any) -> Any:
    """White text with a dark rim at the bottom, a channel mark at the upper right."""
    import cv2

    height, width = frame.y.shape
    for text, size, x, y in (("AND THEN THE RIVER TURNED NORTH", 0.0017, 0.17, 0.91), ("LIVE 7", 0.0013, 0.86, 0.09)):
        at, thick = (int(x * width), int(y * height)), max(1, height // 200)
        for value, line in ((20, thick * 4), (234, thick)):
            cv2.putText(frame.y, text, at, cv2.FONT_HERSHEY_DUPLEX, size * height, value, line, cv2.LINE_AA)
    return frame


class _Frozen:
    """Holds frame `first` for `length` frames, noise included."""

    def __init__(self, first: int, length: int) -> None:
        self.first, self.last, self.held = first, first + length - 1, None

    def __call__(self, index: int, frame: Any) -> Any:
        self.held = frame if index == self.first else self.held
        return self.held if self.first <= index <= self.last else frame


class _Balloon:
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


def _balloon_film(path: Path, scale: float) -> None:
    _film(path, scale, scene="dawn_lake", size=HD, seed=81, num_frames=60, start=(0.5, 0.5), end=(0.5, 0.5), edits=(_Balloon(60),))


def _frozen_film(path: Path, scale: float) -> None:
    _film(path, scale, scene="noon_lake", size=HD, seed=71, num_frames=60, edits=(_Frozen(12, 45),))


def _upscaled(path: Path, scale: float) -> None:
    """Filmed at 1280x720, enlarged three times: UHD by its header only."""
    import cv2

    from pipelines.footage import Move, Planes, encode

    width, height = _size(UHD, scale)
    small = _shots(HD_720, scale, "night_city", 61, 36, move=Move((0.46, 0.5), (0.54, 0.5)))
    enlarge = partial(cv2.resize, interpolation=cv2.INTER_CUBIC)
    large = (Planes(enlarge(f.y, (width, height)), *(enlarge(c, (width // 2, height // 2)) for c in (f.u, f.v))) for f in small)
    encode(path, large, fps=FPS)


def _phone(path: Path, scale: float) -> None:
    """An upright picture, stored lying on its side with a rotation tag."""
    from pipelines.footage import Move, Planes, encode, rotate_by_metadata

    shots = _shots((UHD[1], UHD[0]), scale, "dawn_lake", 52, 30, move=Move((0.5, 0.53), (0.5, 0.47)))
    lying = (Planes(*(np.ascontiguousarray(np.rot90(plane)) for plane in (f.y, f.u, f.v))) for f in shots)
    encode(path, lying, fps=FPS)
    rotate_by_metadata(path)


def _variable_rate(path: Path, scale: float) -> None:
    """Nominally 30 fps with frames left out at irregular places."""
    steps = np.random.default_rng(5).choice([1, 1, 1, 2, 3], 48)
    pts = [0, *np.cumsum(steps).tolist()]
    _film(path, scale, scene="dusk_lake", size=HD_720, seed=91, encode={"fps": 30, "pts": pts})


def _truncated(path: Path, scale: float) -> None:
    """Index at the front, then cut off at 60 % of the bytes: the header promises frames that are not there."""
    _film(path, scale, scene="forest_floor", size=HD, seed=95, num_frames=72, encode={"mux": {"movflags": "faststart"}})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def _no_index(path: Path, scale: float) -> None:
    """Index at the end, then cut off: nothing can be read."""
    _film(path, scale, scene="night_city", size=HD_720, seed=96, num_frames=24)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _photo(path: Path, scale: float) -> None:
    from PIL import Image

    from pipelines.scenes import forest_floor

    width, height = _size(UHD, scale)
    picture_HWC = forest_floor(height, width, 99)
    Image.fromarray((picture_HWC[..., ::-1] * 255).astype(np.uint8)).save(path, quality=92)


def _tone(path: Path, scale: float) -> None:
    from pipelines.footage import encode_tone

    encode_tone(path)


def _empty(path: Path, scale: float) -> None:
    path.write_bytes(b"")


def _text(path: Path, scale: float) -> None:
    path.write_text(NOTES, encoding="utf-8")


def _blown(picture_HWC: Any) -> Any:
    return np.clip(picture_HWC * 3.0 + 0.1, 0, 1)


def _gray(picture_HWC: Any) -> Any:
    return np.repeat(picture_HWC @ np.array([[0.0722], [0.7152], [0.2126]], np.float32), 3, axis=2)


def _good(**more: Any) -> dict[str, Any]:
    return {"num_clips": 1, "tier": "train", **more}


def _bad(reason: str) -> dict[str, Any]:
    return {"num_clips": 1, "tier": "reject", "reason": reason}


def _side(title: str, *tags: str) -> dict[str, Any]:
    return {"title": title, "tags": list(tags)}


SAMPLES = (
    Sample("uhd_pan_lake.mp4", "none (pan)", partial(_film, scene="dawn_lake", seed=3, margin=1.3, start=(0.4, 0.5), end=(0.6, 0.5)),
           _good(width_px=3840),
           sidecar=_side("Mountain lake at sunrise", "mountains", "lake", "sunrise")),
    Sample("uhd_zoom_city.mp4", "none (zoom in)",
           partial(_film, scene="night_city", seed=11, num_frames=42, start=(0.5, 0.5), end=(0.5, 0.55), zoom=(1.0, 1.3)),
           _good(width_px=3840), sidecar=_side("Skyline over the river by night", "city", "night")),
    Sample("uhd_forest_floor.mp4", "none (tilt)",
           partial(_film, scene="forest_floor", seed=12, num_frames=36, start=(0.5, 0.46), end=(0.5, 0.54)), _good(width_px=3840),
           sidecar=_side("Autumn leaves", "leaves", "texture")),
    Sample("uhd_hard_cut.mp4", f"hard cut at frame {CUT_FRAME}", _hard_cut, {"num_clips": 2, "cut_frame": CUT_FRAME, "tier": "train"}),
    Sample("uhd_hdr10_hevc.mp4", "none (HDR10, 10 bits, HEVC)",
           partial(_film, scene="dawn_lake", seed=41, num_frames=30, codec="X265_PQ"), _good(hdr="pq", codec="hevc", bit_depth=10)),
    Sample("uhd_av1.mp4", "none (AV1)", partial(_film, scene="noon_lake", seed=42, num_frames=36, codec="SVT_AV1"), _good(codec="av1")),
    Sample("uhd_portrait_phone.mp4", "none (portrait by rotation tag)", _phone, _good(rotation_deg=90, width_px=2160, height_px=3840)),
    Sample("uhd_letterbox.mp4", "black bars", partial(_film, scene="dusk_lake", seed=51, num_frames=30, edits=(_letterbox,)), _bad("border")),
    Sample("uhd_upscaled_720p.mp4", "enlarged from 720p", _upscaled, _bad("resolution"), meter_later=True),
    Sample("dissolve.mp4", "dissolve, frames 26-46", _dissolve, {"num_clips": 2}, meter_later=True),
    Sample("burnt_in_text.mp4", "subtitle and channel mark",
           partial(_film, scene="night_city", size=HD, seed=62, edits=(_subtitle,)), _bad("text"), meter_later=True),
    Sample("overexposed.mp4", "over-exposed", partial(_film, scene="noon_lake", size=HD, seed=63, grade=_blown), _bad("exposure")),
    Sample("gray.mp4", "no colour", partial(_film, scene="dawn_lake", size=HD, seed=64, grade=_gray), _bad("grey")),
    Sample("frozen.mp4", "44 of 60 frames repeated", _frozen_film, _bad("freeze")),
    Sample("static_balloon.mp4", "none (fixed camera, moving object)", _balloon_film, _good()),
    Sample("variable_rate.mp4", "none (variable frame rate)", _variable_rate, _good(is_vfr=True)),
    Sample("photo.jpg", "none (still image)", _photo, _good(media="image")),
    Sample("truncated.mp4", "file cut off, index intact", _truncated,
           {"damaged": True, "num_clips": 1, "tier": "condition_only", "reason": "damage"}),
    Sample("no_index.mp4", "file cut off, index lost", _no_index, {"error_kind": "bad_input"}),
    Sample("audio_only.mp4", "no video stream", _tone, {"error_kind": "bad_input"}),
    Sample("empty.mp4", "0 bytes", _empty, {"error_kind": "bad_input"}),
    Sample("text_named.mp4", "a text file with a video's name", _text, {"error_kind": "bad_input"}),
    Sample("notes.txt", "no media file", _text, {"ignored": True}),
)


def default_folder() -> Path:
    """Where the samples are kept: below XDG_CACHE_HOME (or ~/.cache), in a folder named by what renders them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    here = Path(__file__).parent
    code = b"".join((here / name).read_bytes() for name in ("scenes.py", "footage.py", "samples.py"))
    return cache / "reelmill" / f"samples-{hashlib.blake2b(code, digest_size=5).hexdigest()}"


def missing(folder: Path, samples: tuple[Sample, ...] = SAMPLES) -> list[str]:
    """Names of the samples that are not rendered yet."""
    return [s.file for s in samples if not (folder / s.file).exists()]


def render_one(name: str, folder: Path, scale: float) -> tuple[str, float]:
    """Renders one sample aside and moves it into place; gives its name and the seconds it took."""
    import cv2

    os.environ.setdefault("SVT_LOG", "1")  # errors only
    cv2.setNumThreads(1)
    sample = next(s for s in SAMPLES if s.file == name)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".rendering-", dir=folder.parent) as aside:
        path = Path(aside) / name
        sample.make(path, scale)
        os.replace(path, folder / name)
    return name, time.monotonic() - started


def render_samples(folder: Path, *, scale: float = 1.0, workers: int = 2, only: tuple[str, ...] | None = None,
                   on_done: Callable[[str, float], None] | None = None) -> dict[str, float]:
    """Renders what is missing in `folder`, and writes the sidecars and `labels.json`.

    Args:
        scale: factor on every frame size; 1 gives true UHD.
        workers: processes; 1 renders in this one. The bytes do not depend on it.
        only: names of the samples to render, for tests; default all.
        on_done: called with each finished sample's name and its seconds.

    Returns: seconds per sample rendered by this call. Ctrl-C ends it after the samples in hand.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = tuple(s for s in SAMPLES if only is None or s.file in only)
    seconds = {}
    for name, took in _render_all(missing(folder, chosen), folder, scale, workers):
        seconds[name] = took
        if on_done is not None:
            on_done(name, took)
    for sample in chosen:
        if sample.sidecar:
            _write_json((folder / sample.file).with_suffix(".json"), sample.sidecar)
    _write_json(folder / "labels.json", {"scale": scale, "fps": FPS, "samples": [s.label(scale) for s in chosen]})
    return seconds


def _render_all(names: list[str], folder: Path, scale: float, workers: int) -> Any:
    if workers <= 1 or len(names) <= 1:
        yield from (render_one(name, folder, scale) for name in names)
        return
    pool = ProcessPoolExecutor(min(workers, len(names)), mp_context=get_context("spawn"), initializer=_leave_interrupts_to_parent)
    try:
        for future in as_completed([pool.submit(render_one, name, folder, scale) for name in names]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_json(path: Path, value: Any) -> None:
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(aside, path)
