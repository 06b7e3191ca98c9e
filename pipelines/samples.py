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

from pipelines import sample_films as films
from pipelines.sample_films import CUT_FRAME, FPS, HD


@dataclass(frozen=True)
class Sample:
    """One file, its fault and what the mill must say about it.

    Args:
        make: writes the file at a given scale (1: true size; tests use less).
        expected: see `pipelines.demo` for the keys.
        sidecar: title and tags, written as `<file stem>.json`.
    """

    file: str
    fault: str
    make: Callable[[Path, float], None]
    expected: dict[str, Any]
    sidecar: dict[str, Any] = field(default_factory=dict)

    def label(self, scale: float) -> dict[str, Any]:
        """What `labels.json` says of it, sizes at the given scale."""
        size = {k: round(v * scale / 2) * 2 for k, v in self.expected.items() if k in ("width_px", "height_px")}
        return {"file": self.file, "fault": self.fault, "expected": self.expected | size}


def _good(**more: Any) -> dict[str, Any]:
    return {"num_clips": 1, "tier": "train", **more}


def _bad(reason: str, **more: Any) -> dict[str, Any]:
    return {"num_clips": 1, "tier": "reject", "reason": reason, **more}


def _side(title: str, *tags: str) -> dict[str, Any]:
    return {"title": title, "tags": list(tags)}


SAMPLES = (
    Sample(
        "uhd_pan_lake.mp4",
        "none (pan)",
        partial(films.film, scene="dawn_lake", seed=3, margin=1.3, start=(0.4, 0.5), end=(0.6, 0.5)),
        _good(width_px=3840),
        sidecar=_side("Mountain lake at sunrise", "mountains", "lake", "sunrise"),
    ),
    Sample(
        "uhd_zoom_city.mp4",
        "none (zoom in)",
        partial(
            films.film, scene="night_city", seed=11, num_frames=42, start=(0.5, 0.5), end=(0.5, 0.55), zoom=(1.0, 1.3)
        ),
        _good(width_px=3840),
        sidecar=_side("Skyline over the river by night", "city", "night"),
    ),
    Sample(
        "uhd_forest_floor.mp4",
        "none (tilt)",
        partial(films.film, scene="forest_floor", seed=12, num_frames=36, start=(0.5, 0.46), end=(0.5, 0.54)),
        _good(width_px=3840),
        sidecar=_side("Autumn leaves", "leaves", "texture"),
    ),
    Sample(
        "uhd_hard_cut.mp4",
        f"hard cut at frame {CUT_FRAME}",
        films.hard_cut,
        {"num_clips": 2, "cut_frame": CUT_FRAME, "tier": "train"},
    ),
    Sample(
        "uhd_hdr10_hevc.mp4",
        "none (HDR10, 10 bits, HEVC)",
        partial(films.film, scene="dawn_lake", seed=41, num_frames=30, codec="X265_PQ"),
        _good(hdr="pq", codec="hevc", bit_depth=10),
    ),
    Sample(
        "uhd_av1.mp4",
        "none (AV1)",
        partial(films.film, scene="noon_lake", seed=42, num_frames=36, codec="SVT_AV1"),
        _good(codec="av1"),
    ),
    Sample(
        "uhd_portrait_phone.mp4",
        "none (portrait by rotation tag)",
        films.phone,
        _good(rotation_deg=90, width_px=2160, height_px=3840),
    ),
    Sample(
        "uhd_letterbox.mp4",
        "black bars",
        partial(films.film, scene="dusk_lake", seed=51, num_frames=30, edits=(films.letterbox,)),
        _bad("border"),
    ),
    Sample("uhd_upscaled_720p.mp4", "enlarged from 720p", films.upscaled, _bad("resolution")),
    Sample("dissolve.mp4", "dissolve, frames 44-64", films.dissolve, _bad("inner_cut", tier="condition_only")),
    Sample(
        "burnt_in_text.mp4",
        "subtitle and channel mark",
        partial(films.film, scene="night_city", size=HD, seed=62, edits=(films.subtitle,)),
        _bad("text"),
    ),
    Sample(
        "overexposed.mp4",
        "over-exposed",
        partial(films.film, scene="noon_lake", size=HD, seed=63, grade=films.blown),
        _bad("exposure"),
    ),
    Sample(
        "gray.mp4",
        "no colour",
        partial(films.film, scene="dawn_lake", size=HD, seed=64, grade=films.gray),
        _bad("grey"),
    ),
    Sample("frozen.mp4", "44 of 60 frames repeated", films.frozen_film, _bad("freeze")),
    Sample("static_balloon.mp4", "none (fixed camera, moving object)", films.balloon_film, _good()),
    Sample("variable_rate.mp4", "none (variable frame rate)", films.variable_rate, _good(is_vfr=True)),
    Sample("photo.jpg", "none (still image)", films.photo, _good(media="image")),
    Sample(
        "truncated.mp4",
        "file cut off, index intact",
        films.truncated,
        _bad("damage", tier="condition_only", damaged=True),
    ),
    Sample("no_index.mp4", "file cut off, index lost", films.no_index, {"error_kind": "bad_input"}),
    Sample("audio_only.mp4", "no video stream", films.tone, {"error_kind": "bad_input"}),
    Sample("empty.mp4", "0 bytes", films.empty, {"error_kind": "bad_input"}),
    Sample("text_named.mp4", "a text file with a video's name", films.text, {"error_kind": "bad_input"}),
    Sample("notes.txt", "no media file", films.text, {"ignored": True}),
)


def default_folder() -> Path:
    """Where the samples are kept: below XDG_CACHE_HOME (or ~/.cache), in a folder named by what renders them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    here = Path(__file__).parent
    code = b"".join((here / name).read_bytes() for name in ("scenes.py", "footage.py", "sample_films.py", "samples.py"))
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


def render_samples(
    folder: Path,
    *,
    scale: float = 1.0,
    workers: int = 2,
    only: tuple[str, ...] | None = None,
    on_done: Callable[[str, float], None] | None = None,
) -> dict[str, float]:
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
    pool = ProcessPoolExecutor(
        min(workers, len(names)), mp_context=get_context("spawn"), initializer=_leave_interrupts_to_parent
    )
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
