# SPDX-License-Identifier: Apache-2.0
"""Ladders of technical defects on photographs under a moving camera: noise, blocks, bands, woven fields, lost detail.

Clips of four frames, 1280 x 720, encoded, decoded again and measured at every frame.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ladders.field_cases import Look, whole_clips, woven_clips
from benchmarks.ladders.judge import Floor, Row, Section, judge, spearman
from benchmarks.ladders.near_misses import NEAR_MISSES
from benchmarks.ladders.stills import PHOTOS, RENDERED, Still, install_packages, read_still
from operators.contract import Meter
from operators.measure import measure_segment
from operators.meters.banding import Banding
from operators.meters.blockiness import Blockiness
from operators.meters.detail import Detail
from operators.meters.interlace import Interlace
from operators.meters.noise import Noise
from operators.meters.sharpness import Sharpness

HEIGHT, WIDTH = 720, 1280
CANVAS_WIDTH = 2560
NUM_FRAMES, FPS = 4, 30
X264 = "libx264"
FAST = {"preset": "veryfast"}
NOISE_SIGMAS = (2.0, 4.0, 8.0)
BLUR_SIGMAS = (1.0, 2.0, 4.0)
BANDED_BITS = (8, 7, 6, 5)
WHOLE = (
    "progressive",
    "near misses",
    "tilts",
    "doubled lines",
    "one field enlarged",
    "noise of 4 levels",
    "tripod, an object moves",
)
WOVEN = ("fields, tilt of 2.5 px", "fields, noise of 4 levels", "fields, tripod, an object moves")
FIELD_PX = (1.5, 4.0, 12.0)  # camera's path between two fields, pixels of 720 rows
TEXT = """
Photographs (and renderings) under a moving camera, clips of {num} frames, {width} x {height}, encoded and measured at
every frame; the score is the median over the clip. Noise: Gaussian, against the photograph as it is, whose own grain
counts against the meter. Blocks: MPEG-2 and MPEG-4 at coarse quantisers, H.264 without its deblocking filter, and
MPEG-2 enlarged by 1.5, against H.264 at crf 18 and 28. Bands: photographs blurred to smooth slopes, rounded to 8, 7,
6 and 5 bits without dither, against the same with dither, 10 bits. Fields: the even lines of one moment and the odd
lines of another, also tilts, noise, and a tripod before which an object moves, against progressive frames of all
these, doubled lines, one field enlarged, and rendered near misses (fine lines, blinds, brick, text, checks, noise, zone
plate); fields of a scene that stands still are invisible and not asked for. Detail: loss by Gaussian blur, as rank
correlation within each picture.
"""


@lru_cache(maxsize=2)
def canvas(still: Still) -> np.ndarray:
    """uint8 BGR, 2560 wide (larger photographs area-averaged), at least 1280 rows."""
    import cv2

    picture_HWC = read_still(still)
    scale = CANVAS_WIDTH / picture_HWC.shape[1]
    if scale < 1:
        size = (CANVAS_WIDTH, round(picture_HWC.shape[0] * scale))
        picture_HWC = cv2.resize(picture_HWC, size, interpolation=cv2.INTER_AREA)
    return picture_HWC


@dataclass(frozen=True)
class Camera:
    """A path over the canvas: pixels right and down per frame, growth and turn per frame."""

    x: float = 0.0
    y: float = 0.0
    growth: float = 1.0
    turn_deg: float = 0.0


PAN, DRIFT, ZOOM = Camera(x=5.0), Camera(x=1.5, y=0.75), Camera(growth=1.01, turn_deg=0.2)


def shot(picture_HWC: np.ndarray, camera: Camera, time: float, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """uint8 BGR [H, W, 3]: what the camera sees at a time in frames (may be between frames)."""
    import cv2

    height, width = picture_HWC.shape[:2]
    centre = (width / 2, height / 2)
    matrix = cv2.getRotationMatrix2D(centre, camera.turn_deg * time, camera.growth**time)
    matrix[:, 2] += size[0] / 2 - centre[0] - camera.x * time, size[1] / 2 - centre[1] - camera.y * time
    return cv2.warpAffine(picture_HWC, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def shots(picture_HWC: np.ndarray, camera: Camera, size: tuple[int, int] = (WIDTH, HEIGHT)) -> list[np.ndarray]:
    """The clip's frames."""
    return [shot(picture_HWC, camera, time, size) for time in range(NUM_FRAMES)]


def woven(first_HWC: np.ndarray, second_HWC: np.ndarray) -> np.ndarray:
    """The even lines of the first and the odd lines of the second picture."""
    frame_HWC = first_HWC.copy()
    frame_HWC[1::2] = second_HWC[1::2]
    return frame_HWC


def fields(picture_HWC: np.ndarray, camera: Camera, is_bottom_first: bool) -> list[np.ndarray]:
    """Interlaced frames; `camera` moves its step between one field and the next."""
    moments = [shot(picture_HWC, camera, time) for time in range(2 * NUM_FRAMES)]
    pairs = zip(moments[::2], moments[1::2], strict=True)
    return [woven(b, a) if is_bottom_first else woven(a, b) for a, b in pairs]


def encode(
    path: Path,
    frames: Iterable[np.ndarray],
    options: dict[str, str],
    codec: str = X264,
    is_flagged: bool = False,
    pix_fmt: str = "yuv420p",
) -> Path:
    """Writes frames at 30 fps, limited range: BGR as 8-bit 4:2:0 (BT.601), or float luma levels as grey."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=FPS, options=options)
        stream.codec_context.thread_count = 1
        stream.pix_fmt = pix_fmt
        if is_flagged:
            stream.codec_context.flags |= 1 << 18 | 1 << 29  # interlaced DCT and motion
        for index, frame_HWC in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame_HWC.shape[:2]
            frame = av.VideoFrame.from_ndarray(_planes(frame_HWC, pix_fmt), format=pix_fmt)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _planes(frame_HWC: np.ndarray, pix_fmt: str) -> np.ndarray:
    import cv2

    if frame_HWC.ndim == 3:
        return np.asarray(cv2.cvtColor(frame_HWC, cv2.COLOR_BGR2YUV_I420), np.uint8)
    scale = 4 if pix_fmt.endswith("10le") else 1
    height, width = frame_HWC.shape
    planes_HW = np.full((height * 3 // 2, width), 128 * scale, np.uint16)
    planes_HW[:height] = np.rint((frame_HWC * (219 / 255) + 16) * scale)
    return planes_HW if scale > 1 else planes_HW.astype(np.uint8)


@dataclass
class Table:
    """Scores by signal and label, each with the picture that it comes from."""

    kind: str
    scores: dict[tuple[str, str], list[tuple[str, float | None]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, label: str, source: str, values: dict[str, float | None]) -> None:
        for signal, value in values.items():
            self.scores[signal, label].append((source, value))

    def row(self, signal: str, bad: Sequence[str], good: Sequence[str], name: str | None = None) -> Row:
        """Labels `bad` against labels `good`, higher is worse."""
        worse, better = ([pair for label in labels for pair in self.scores[signal, label]] for labels in (bad, good))
        values = ([value for _, value in side] for side in (worse, better))
        owners = ([source for source, _ in side] for side in (worse, better))
        return judge(signal, self.kind, name or bad[0], *values, *owners)  # type: ignore[arg-type]

    def rank(self, signal: str, levels: Mapping[str, float]) -> float:
        """Mean over the pictures of the rank correlation of the score with the level."""
        by_source = defaultdict(list)
        for label, level in levels.items():
            for source, value in self.scores[signal, label]:
                by_source[source].append((level, np.nan if value is None else value))
        known = [pairs for pairs in by_source.values() if any(value == value for _, value in pairs)]
        return float(np.nanmean([spearman(*zip(*pairs, strict=True)) for pairs in known]))

    def values(self, signal: str, *labels: str) -> np.ndarray:
        found = [value for label in labels for _, value in self.scores[signal, label]]
        return np.array([np.nan if value is None else value for value in found], np.float64)


class Bench:
    """Encodes frames into a scratch folder and measures them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "clip.mkv"

    def __call__(
        self, meters: Sequence[Meter], frames: Iterable[np.ndarray], crf: int = 18, codec: str = X264, **how: Any
    ) -> dict[str, float | None]:
        options = how.pop("options", {**FAST, "crf": str(crf)} if codec == X264 else {})
        encode(self.path, frames, options, codec, **how)
        series = measure_segment(str(self.path), meters)
        return {column.name: _median(series[column.name]) for meter in meters for column in meter.writes}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _noise(bench: Bench, table: Table, still: Still, is_quick: bool) -> None:
    meters = (Noise(rate_hz=FPS),)
    clean = shots(canvas(still), DRIFT)
    rng = np.random.default_rng(1)
    for sigma in (0.0, *NOISE_SIGMAS):
        grain = rng.normal(0, 1, (NUM_FRAMES, HEIGHT, WIDTH, 1)).astype(np.float32) * sigma
        frames = [np.rint(f + g).clip(0, 255).astype(np.uint8) for f, g in zip(clean, grain, strict=True)]
        for crf in (18,) if is_quick else (18, 28):
            table.add(f"sigma {sigma:g}, crf {crf}", still.name, bench(meters, frames, crf))


_BLOCKS: dict[str, dict[str, Any]] = {
    "MPEG-2, quantiser 12": {"codec": "mpeg2video", "options": {"qmin": "12", "qmax": "12"}},
    "MPEG-2, quantiser 31": {"codec": "mpeg2video", "options": {"qmin": "31", "qmax": "31"}},
    "MPEG-4, quantiser 16": {"codec": "mpeg4", "options": {"qmin": "16", "qmax": "16"}},
    "H.264 without deblocking, crf 34": {"options": {**FAST, "crf": "34", "x264-params": "no-deblock=1"}},
}
_ENLARGED = "MPEG-2, quantiser 31, enlarged by 1.5"


def _blocks(bench: Bench, table: Table, still: Still, is_quick: bool) -> None:
    meters = (Blockiness(rate_hz=FPS),)
    frames = shots(canvas(still), PAN)
    for crf in (18, 28):
        table.add(f"H.264 crf {crf}", still.name, bench(meters, frames, crf))
    for label, how in list(_BLOCKS.items())[: 2 if is_quick else None]:
        table.add(label, still.name, bench(meters, frames, **how))
    if not is_quick:
        table.add(_ENLARGED, still.name, bench(meters, _enlarged(bench.path, frames)))


def _enlarged(path: Path, frames: list[np.ndarray]) -> list[np.ndarray]:
    """Coded as MPEG-2, decoded and enlarged by 1.5 (luma levels)."""
    import cv2

    from operators.contract import View
    from operators.video import open_segment

    encode(path, frames, {"qmin": "31", "qmax": "31"}, "mpeg2video")
    with open_segment(str(path)) as segment:
        levels = [(f.view(View.LUMA).astype(np.float32) - 16) * (255 / 219) for f in segment]
    return [cv2.resize(f, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC).clip(0, 255) for f in levels]


def _bands(bench: Bench, table: Table, still: Still, is_quick: bool) -> None:
    import cv2

    meters = (Banding(rate_hz=FPS),)
    small_HW = cv2.cvtColor(cv2.resize(canvas(still), (24, 15), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    slopes_HW = cv2.resize(small_HW.astype(np.float32) * 0.5, (WIDTH + 64, HEIGHT + 64), interpolation=cv2.INTER_CUBIC)
    views = [slopes_HW[i : i + HEIGHT, 2 * i : 2 * i + WIDTH].clip(0, 255) for i in range(NUM_FRAMES)]
    rng = np.random.default_rng(2)
    dithered = [np.rint((v + rng.normal(0, 0.6, v.shape)) * 4) / 4 for v in views]
    ten = {"pix_fmt": "yuv420p10le", "crf": 14}
    table.add("dithered, 10 bits", still.name, bench(meters, [d.clip(0, 255) for d in dithered], **ten))
    for bits in BANDED_BITS:
        step = 2.0 ** (8 - bits)
        frames = [np.floor(v / step) * step for v in views]
        table.add(f"{bits} bits", still.name, bench(meters, frames, **ten))


_CODINGS: dict[str, dict[str, Any]] = {
    "H.264 interlaced, crf 18": {"is_flagged": True, "crf": 18},
    "H.264 interlaced, crf 28": {"is_flagged": True, "crf": 28},
    "H.264 progressive, crf 23": {"crf": 23},
    "MPEG-2 interlaced": {"codec": "mpeg2video", "is_flagged": True, "options": {"qmin": "4", "qmax": "4"}},
}


def _fields(bench: Bench, table: Table, still: Still, is_quick: bool) -> None:
    meters = (Interlace(rate_hz=FPS),)
    picture_HWC = canvas(still)
    codings = list(_CODINGS.items())[: 1 if is_quick else None]
    for place, step in enumerate(FIELD_PX):
        camera = (Camera(x=step), Camera(x=step, y=step / 2), Camera(x=-step, growth=1.004))[place]
        for turn, (coding, how) in enumerate(codings):
            frames = fields(picture_HWC, camera, is_bottom_first=bool(turn % 2))
            table.add(f"fields {step:g} px apart, {coding}", still.name, bench(meters, frames, **how))
        doubled = Camera(x=2 * camera.x, y=2 * camera.y, growth=camera.growth**2)
        scores = bench(meters, shots(picture_HWC, doubled), (18, 28, 23)[place])
        table.add("progressive", still.name, _kept_if_still(scores))
    if not is_quick:
        _hard_fields(bench, table, still)


def _hard_fields(bench: Bench, table: Table, still: Still) -> None:
    meters, picture_HWC = (Interlace(rate_hz=FPS),), canvas(still)

    def look(x: float, y: float) -> Look:
        return lambda time: shot(picture_HWC, Camera(x=x, y=y), time)

    for label, frames, how in whole_clips(look, picture_HWC):
        table.add(label, still.name, _kept_if_still(bench(meters, frames, **how)))
    for label, frames, how in woven_clips(look, picture_HWC):
        table.add(label, still.name, bench(meters, frames, **how))


def _kept_if_still(scores: dict[str, float | None]) -> dict[str, float | None]:
    """A progressive clip in which nothing moves has no score and is kept, rightly; a combed one without is missed."""
    return {name: 0.0 if value is None else value for name, value in scores.items()}


def _near_misses(bench: Bench, table: Table) -> None:
    """Progressive pictures full of what combs are mistaken for, under every camera path."""
    paths = (PAN, DRIFT, ZOOM, Camera(y=1.0), Camera(y=3.0), Camera(x=-3.3, y=1.7), Camera(x=14.0))
    for name, draw in NEAR_MISSES.items():
        picture_HWC = draw()
        for place, camera in enumerate(paths):
            scores = bench((Interlace(rate_hz=FPS),), shots(picture_HWC, camera), (18, 28)[place % 2])
            table.add("near misses", name, _kept_if_still(scores))


def _detail(bench: Bench, table: Table, still: Still, is_quick: bool) -> None:
    import cv2

    meters = (Detail(rate_hz=FPS), Sharpness(rate_hz=FPS))
    frames = shots(canvas(still), DRIFT, (1920, 1080))
    for sigma in (0.0, *BLUR_SIGMAS):
        soft = [cv2.GaussianBlur(f, (0, 0), sigma) if sigma else f for f in frames]
        table.add(f"blur {sigma:g}", still.name, bench(meters, soft, 20))


def _measured(stills: Sequence[Still], kind: str, is_quick: bool) -> Table:
    table = Table(kind)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for still in stills:
            for part in (_noise, _blocks, _bands, _fields, _detail):
                part(bench, table, still, is_quick)
    return table


def run(quick: bool = False) -> Section:
    """The section of docs/accuracy.md. Quick: two photographs, fewer codings, no near misses."""
    install_packages()
    textured = [still for still in PHOTOS if still.is_textured]
    photos = _measured(textured[:2] if quick else textured, "photo", quick)
    rendered = None if quick else _measured(RENDERED, "rendered", quick)
    if not quick:
        with tempfile.TemporaryDirectory() as folder:
            _near_misses(Bench(Path(folder)), photos)
    section = Section("Defects", " ".join(TEXT.format(num=NUM_FRAMES, width=WIDTH, height=HEIGHT).split()))
    for table in filter(None, (photos, rendered)):
        section.rows += _rows(table)
    section.floors += _interlace_floors(photos)
    section.notes += _notes(photos)
    return section


def _rows(table: Table) -> list[Row]:
    rows = [*_noise_rows(table)]
    rows += [table.row("blockiness_ratio", [label], ["H.264 crf 18", "H.264 crf 28"]) for label in _has(table, _BLOCKS)]
    rows += [
        table.row("blockiness_ratio", [label], ["H.264 crf 18", "H.264 crf 28"]) for label in _has(table, [_ENLARGED])
    ]
    rows += [table.row("banding_share", [f"{bits} bits"], ["dithered, 10 bits"]) for bits in BANDED_BITS]
    good = _has(table, WHOLE)
    for step in FIELD_PX:
        for coding in _CODINGS:
            rows += [
                table.row("interlace_comb_share", [lb], good)
                for lb in _has(table, [f"fields {step:g} px apart, {coding}"])
            ]
    rows += [table.row("interlace_comb_share", [label], good) for label in _has(table, WOVEN)]
    rows.append(table.row("interlace_comb_share", _combed(table), good, "fields, all"))
    return rows


def _noise_rows(table: Table) -> Iterator[Row]:
    for crf in (18, 28):
        for sigma in NOISE_SIGMAS:
            for label in _has(table, [f"sigma {sigma:g}, crf {crf}"]):
                yield table.row("noise_sigma", [label], [f"sigma 0, crf {crf}"])


def _has(table: Table, labels: Iterable[str]) -> list[str]:
    known = {label for _, label in table.scores}
    return [label for label in labels if label in known]


def _combed(table: Table) -> list[str]:
    moved = [f"fields {step:g} px apart, {coding}" for step in FIELD_PX for coding in _CODINGS]
    return _has(table, [*moved, *WOVEN])


def _interlace_floors(table: Table) -> list[Floor]:
    row = table.row("interlace_comb_share", _combed(table), _has(table, WHOLE))
    return [Floor("interlace: recall at 1 % false alarms", row.recall_1 or 0.0, 0.99)]


def _notes(table: Table) -> list[str]:
    notes = []
    levels = {f"blur {sigma:g}": -sigma for sigma in (0.0, *BLUR_SIGMAS)}
    columns = [column.name for meter in (Detail(), Sharpness()) for column in meter.writes]
    ranks = ", ".join(f"{name} {abs(table.rank(name, levels)):.2f}" for name in columns)
    notes.append(f"rank correlation with blur (deviation 0 to 4 px) within a picture: {ranks}")
    noise = {f"sigma {sigma:g}, crf 18": sigma for sigma in (0.0, *NOISE_SIGMAS)}
    bands = {f"{bits} bits": -bits for bits in BANDED_BITS}
    notes.append(
        f"rank correlation within a picture: noise_sigma with the noise added {table.rank('noise_sigma', noise):.2f}, "
        f"banding_strong_share with fewer bits {table.rank('banding_strong_share', bands):.2f}"
    )
    for label in WHOLE:
        for source, value in table.scores["interlace_comb_share", label]:
            if value is not None and value > 0.05:
                notes.append(f"interlace_comb_share {value:.2f} of a progressive clip: {source} ({label})")
    for label in _combed(table):
        for source, value in table.scores["interlace_comb_share", label]:
            if value is None or value < 0.1:
                notes.append(f"interlace_comb_share {value if value is None else round(value, 2)}: {source}, {label}")
    return notes
