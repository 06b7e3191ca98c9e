# SPDX-License-Identifier: Apache-2.0
"""Borders, exposure, colour and blurred side fill on photographs under a moving camera.

Clips of six frames, 1280 x 720, that stand for samples half a second apart; encoded, decoded again and measured.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.ladders.defects import FAST, FPS, HEIGHT, WIDTH, Camera, Table, canvas, encode, shot
from benchmarks.ladders.judge import Floor, Row, Section
from benchmarks.ladders.moving import scores_of
from benchmarks.ladders.stills import PHOTOS, RENDERED, Still, install_packages
from operators.measure import measure_segment
from operators.meters.border import Border
from operators.meters.exposure import Exposure
from operators.meters.grey import Grey
from operators.meters.sidefill import SideFill

NUM_FRAMES = 6
ONE_TONE = ("ColdRipple", "Grey", "DarkestHour")  # photographs that have no colour, or one tone only, themselves
METERS = (Border(rate_hz=FPS), Exposure(rate_hz=FPS), Grey(rate_hz=FPS), SideFill(rate_hz=FPS))
BORDER, EXPOSURE, FILL = "border_bar_share", "exposure_lost_share_median", "sidefill_jump_median"
GREY, TONED = "grey_variance", "grey_tint_residual"  # of these little is bad: the sign is turned
CAMERAS = (Camera(x=24.0, y=3.0), Camera(x=-12.0, y=12.0), Camera(growth=1.02), Camera(x=9.0, growth=0.99))
Change = Callable[[np.ndarray, int], np.ndarray]  # (BGR frame uint8, its index) -> BGR frame
TEXT = """
Photographs (and renderings) under a moving camera, clips of {num} frames, {width} x {height}, H.264 at crf 18 and 28.
Borders: bars of 1 to 22 % at one side, two or all, soft, grey, white, uneven, with grain or a subtitle in them;
against the photographs, the same at night, with dark wandering edges, a vignette, a dark door post or a straight dark
ground that moves with the camera, and a blown sky with a straight horizon. Exposure: gain and loss that drive at
least 20 % of the pixels to white or black; against the photographs as they are and barred, night with lights and
stars, silhouettes before a bright sky, a subject on a white backdrop, snow and mist that stay below white. Grey:
colour taken away, as it is and with a coder's colour noise, by `grey_variance` against sepia, muted colours, mist and
one small colourful object; toned pictures (grey, sepia, cyanotype) by `grey_tint_residual` against muted colours,
mist and the small object; three photographs of one tone are no
examples of colour. Side fill: a portrait part on a blurred, enlarged copy of itself, as it is and darkened;
against all that has none.
"""


def levels(height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """Rows [H, 1] and columns [1, W] as shares, 0-1."""
    return np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]


def times(frame_HWC: np.ndarray, factor_HW: np.ndarray | float) -> np.ndarray:
    """The frame made darker or brighter, clipped."""
    factor = np.asarray(factor_HW, np.float32)
    return np.rint(frame_HWC * (factor[..., None] if factor.ndim else factor)).clip(0, 255).astype(np.uint8)


# --- borders ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bars:
    """A change that lays bars of these shares over the frame.

    Args:
        level: grey level of the bars.
        soft_px: deviation of their blurred end.
        grain: deviation of noise that is added to the whole frame.
        has_subtitle: two lines of text in the bottom bar, one after the other.
    """

    top: float = 0.0
    bottom: float = 0.0
    left: float = 0.0
    right: float = 0.0
    level: float = 0.0
    soft_px: float = 0.0
    grain: float = 0.0
    has_subtitle: bool = False

    def rectangle(self, height: int, width: int) -> tuple[int, int, int, int]:
        """First and last row, first and last column of the picture between the bars (last exclusive)."""
        rows = round(self.top * height), height - round(self.bottom * height)
        return *rows, round(self.left * width), width - round(self.right * width)

    def __call__(self, frame_HWC: np.ndarray, index: int) -> np.ndarray:
        import cv2

        height, width = frame_HWC.shape[:2]
        top, bottom, left, right = self.rectangle(height, width)
        cover = np.ones((height, width), np.float32)
        cover[top:bottom, left:right] = 0
        if self.soft_px:
            cover = cv2.GaussianBlur(cover, (0, 0), self.soft_px)
        changed = frame_HWC * (1 - cover[..., None]) + self.level * cover[..., None]
        if self.grain:
            changed += np.random.default_rng(index).normal(0, self.grain, (height, width, 1))
        changed = np.rint(changed).clip(0, 255).astype(np.uint8)
        if self.has_subtitle:
            text, at = ("What did you say?", "Not a word, I swear.")[index // 3], (380, height - 24)
            cv2.putText(changed, text, at, cv2.FONT_HERSHEY_SIMPLEX, 1.1, (235, 235, 235), 2, cv2.LINE_AA)
        return changed

    def can_be_seen(self, frame_HWC: np.ndarray) -> bool:
        """Whether the picture behind each bar differs from it along most of its length: on black nobody sees black."""
        top, bottom, left, right = self.rectangle(HEIGHT, WIDTH)
        difference = np.abs(_luma(frame_HWC)[..., 0] - self.level)[top:bottom, left:right]
        sides = ((top, difference[:6]), (HEIGHT - bottom, difference[-6:]), (left, difference[:, :6]))
        sides = (*sides, (WIDTH - right, difference[:, -6:]))
        return all((behind > 16).mean() > 0.7 for depth, behind in sides if depth)


THIN: dict[str, Bars] = {
    "1 % at the bottom": Bars(bottom=0.01),
    "1 % top and bottom": Bars(top=0.01, bottom=0.01),
    "1 % left and right": Bars(left=0.01, right=0.01),
}
UHD = {f"{label}, 3840 x 2160": bars for label, bars in THIN.items()}
BARS: dict[str, Bars] = {
    **UHD,
    "12 % top and bottom": Bars(top=0.12, bottom=0.12),
    "22 % left and right": Bars(left=0.22, right=0.22),
    "4 % all around": Bars(0.04, 0.04, 0.04, 0.04),
    "3 % and 7 %": Bars(top=0.03, bottom=0.07),
    "8 %, soft (2 px)": Bars(top=0.08, bottom=0.08, soft_px=2),
    "3 %, soft (1 px)": Bars(left=0.03, right=0.03, soft_px=1),
    "10 %, grey": Bars(top=0.1, bottom=0.1, level=60),
    "10 %, white": Bars(left=0.1, right=0.1, level=255),
    "10 %, grain of 1.5": Bars(top=0.1, bottom=0.1, level=4, grain=1.5),
    "13 %, subtitle": Bars(top=0.13, bottom=0.13, has_subtitle=True),
}


def night(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """A dark sky over dim ground, with sensor noise."""
    y, _ = levels()
    noise = np.random.default_rng(index).normal(0, 1.2, (HEIGHT, WIDTH, 1))
    dim = frame_HWC * (0.02 + 0.25 * np.clip(y - 0.45, 0, 1))[..., None] + 2 + noise
    return np.rint(dim).clip(0, 255).astype(np.uint8)


def wandering(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """A dark wall at the left whose wavy end moves with the camera."""
    y, x = levels()
    end = 0.13 - 0.012 * index + 0.02 * np.sin(9 * y + 0.4)
    return times(frame_HWC, 0.015 + 0.985 / (1 + np.exp(-(x - end) * 220)))


def vignette(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    y, x = levels()
    return times(frame_HWC, np.clip(1.25 - 1.15 * np.hypot((x - 0.5) * 1.25, y - 0.5), 0.0, 1))


def door_post(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """A straight black post at the right that the camera leaves behind."""
    frame_HWC = frame_HWC.copy()
    frame_HWC[:, WIDTH - 150 + 22 * index :] = 3
    return frame_HWC


def dark_ground(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """Black ground below a straight horizon that tilts a little as the camera moves."""
    y, x = levels()
    return times(frame_HWC, np.where(y > 0.8 - 0.01 * index + 0.01 * (index - 2) * x, 0.012, 1.0))


def blown_sky(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """A white sky above a straight horizon."""
    frame_HWC = frame_HWC.copy()
    frame_HWC[: round(HEIGHT * (0.3 + 0.008 * index))] = 255
    return frame_HWC


def as_it_is(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    return frame_HWC


NO_BARS: dict[str, Change] = {
    "as it is": as_it_is,
    "night": night,
    "dark edge": wandering,
    "vignette": vignette,
    "door post": door_post,
    "dark ground": dark_ground,
    "blown sky": blown_sky,
}


# --- exposure ---------------------------------------------------------------------------------------------------


def gained(share: float, is_white: bool) -> Change:
    """The gain (or the loss) at which this share of the first frame is beyond white (black)."""
    found: list[float] = []

    def graded(frame_HWC: np.ndarray, strength: float) -> np.ndarray:
        if is_white:
            return times(frame_HWC, strength)
        return times(np.maximum(frame_HWC - np.float32(strength * 2), 0), 0.6)

    def change(frame_HWC: np.ndarray, index: int) -> np.ndarray:
        if index == 0:
            found[:] = [_bisected(lambda strength: _beyond(graded(frame_HWC[::4, ::4], strength), is_white) >= share)]
        return graded(frame_HWC, found[0])

    return change


def _beyond(frame_HWC: np.ndarray, is_white: bool) -> float:
    luma = _luma(frame_HWC)
    return float((luma > 250).mean() if is_white else (luma < 5).mean())


def _bisected(is_enough: Callable[[float], bool]) -> float:
    """The smallest strength, 0-100, that is enough."""
    low, high = 0.0, 100.0
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def night_with_lights(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """Nearly black, with lamps and their glow over a few per cent of the picture."""
    import cv2

    lamps = np.zeros((HEIGHT, WIDTH), np.float32)
    for x, y in np.random.default_rng(7).uniform(0.05, 0.95, (40, 2)):
        cv2.circle(lamps, (round(x * WIDTH) - 8 * index, round(y * HEIGHT)), 9, 255.0, -1, cv2.LINE_AA)
    light = lamps * 0.9 + cv2.GaussianBlur(lamps, (0, 0), 25) * 0.8
    return np.rint(frame_HWC * 0.02 + light[..., None]).clip(0, 235).astype(np.uint8)


def stars(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """A night sky of levels 6 to 30 with stars and sensor noise."""
    rng = np.random.default_rng(3)
    sky = 7 + frame_HWC.mean(axis=2) * 0.09
    sky[rng.integers(0, HEIGHT, 900), (rng.integers(0, WIDTH, 900) - 8 * index) % WIDTH] = 200
    noise = np.random.default_rng(index).normal(0, 0.8, (HEIGHT, WIDTH))
    return np.repeat(np.rint(sky + noise).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def silhouette(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """Black hills over 40 % of the picture before an evening sky."""
    y, x = levels()
    hills = 0.6 + 0.06 * np.sin(11 * x + 0.1 * index) + 0.03 * np.sin(37 * x)
    sky = np.array([120.0, 170.0, 235.0]) * (1 - 0.5 * y[..., None]) * np.ones((1, WIDTH, 1))
    return np.where((y > hills)[..., None], frame_HWC * 0.01, sky).astype(np.uint8)


def white_backdrop(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """The photograph as a round subject on white."""
    y, x = levels()
    inside = np.hypot((x - 0.5) * 16 / 9, y - 0.5) < 0.3 + 0.005 * index
    return np.where(inside[..., None], frame_HWC * 0.9, 255).astype(np.uint8)


def snow(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """High key: everything between 170 and 245."""
    return np.rint(170 + frame_HWC * (75 / 255)).astype(np.uint8)


EXPOSED: dict[str, Change] = {
    "20 % beyond white": gained(0.2, True),
    "50 % beyond white": gained(0.5, True),
    "30 % below black": gained(0.3, False),
    "60 % below black": gained(0.6, False),
}
WELL_EXPOSED: dict[str, Change] = {
    "as it is": as_it_is,
    "barred": Bars(top=0.12, bottom=0.12),
    "night with lights": night_with_lights,
    "stars": stars,
    "silhouette": silhouette,
    "white backdrop": white_backdrop,
    "snow": snow,
}


# --- colour -----------------------------------------------------------------------------------------------------


def _luma(frame_HWC: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(frame_HWC, cv2.COLOR_BGR2GRAY).astype(np.float32)[..., None]


def grey(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    return np.repeat(_luma(frame_HWC), 3, axis=2).astype(np.uint8)


def toned(blue: float, green: float, red: float) -> Change:
    """Monochrome in one tone, as sepia or cyanotype."""

    def change(frame_HWC: np.ndarray, index: int) -> np.ndarray:
        return np.rint(_luma(frame_HWC) * np.array([blue, green, red])).clip(0, 255).astype(np.uint8)

    return change


def colour_noise(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """Grey with the colour noise of an old transfer."""
    noise = np.random.default_rng(index).normal(0, 2.0, (HEIGHT, WIDTH, 3))
    return np.rint(_luma(frame_HWC) + noise).clip(0, 255).astype(np.uint8)


def muted(saturation: float) -> Change:
    def change(frame_HWC: np.ndarray, index: int) -> np.ndarray:
        luma = _luma(frame_HWC)
        return np.rint(luma + (frame_HWC - luma) * saturation).clip(0, 255).astype(np.uint8)

    return change


def mist(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """Colours at a third, contrast at a half."""
    return np.rint(100 + muted(0.35)(frame_HWC, index) * 0.5).clip(0, 255).astype(np.uint8)


def small_object(frame_HWC: np.ndarray, index: int) -> np.ndarray:
    """A grey picture with a red balloon of 2 % of the area: colour, if little."""
    import cv2

    picture_HWC = np.ascontiguousarray(grey(frame_HWC, index))
    return cv2.circle(picture_HWC, (500 + 12 * index, 300), 77, (40, 30, 200), -1, cv2.LINE_AA)


GREYS: dict[str, Change] = {"grey": grey, "grey, colour noise": colour_noise}
TONES: dict[str, Change] = {**GREYS, "sepia": toned(0.62, 0.86, 1.0), "cyanotype": toned(1.0, 0.8, 0.55)}
MUTED: dict[str, Change] = {"colour": as_it_is, "muted": muted(0.4), "mist": mist, "small object": small_object}


# --- side fill --------------------------------------------------------------------------------------------------


def filled(blur_px: float, brightness: float) -> Change:
    """The middle third as a portrait picture on an enlarged, blurred copy of itself."""

    def change(frame_HWC: np.ndarray, index: int) -> np.ndarray:
        import cv2

        width = round(HEIGHT * 9 / 16)
        left = (WIDTH - width) // 2
        middle_HWC = frame_HWC[:, left : left + width]
        rows = round(width * HEIGHT / WIDTH)
        top = (HEIGHT - rows) // 2
        behind = cv2.resize(middle_HWC[top : top + rows], (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        behind = times(cv2.GaussianBlur(behind, (0, 0), blur_px), brightness)
        behind[:, left : left + width] = middle_HWC
        return behind

    return change


FILLS: dict[str, Change] = {
    "blur 20 px": filled(20, 1.0),
    "blur 40 px": filled(40, 1.0),
    "blur 30 px, darkened": filled(30, 0.6),
}


# --- the table --------------------------------------------------------------------------------------------------


def _measured(stills: Sequence[Still], kind: str, is_quick: bool) -> Table:
    table = Table(kind)
    changes: dict[str, Change] = {**THIN, **BARS, **NO_BARS, **EXPOSED, **WELL_EXPOSED, **TONES, **MUTED, **FILLS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mkv"
        for place, still in enumerate(stills):
            camera = CAMERAS[place % len(CAMERAS)]
            frames = [shot(canvas(still), camera, time) for time in range(2 if is_quick else NUM_FRAMES)]
            for turn, (label, change) in enumerate(changes.items()):
                if not _is_example(label, change, still, frames) or (is_quick and label in UHD):
                    continue
                sized = _enlarged(frames[::2]) if label in UHD else frames
                changed = (change(frame, index) for index, frame in enumerate(sized))
                table.add(label, still.name, _scores(path, changed, (18, 28)[(turn + place) % 2]))
    return table


def _is_example(label: str, change: Change, still: Still, frames: list[np.ndarray]) -> bool:
    """Whether the photograph can show it: bars that can be seen, colour, and no blown part of its own."""
    if isinstance(change, Bars) and label not in WELL_EXPOSED:
        return all(change.can_be_seen(frame) for frame in frames)
    if label in ("as it is", "barred"):
        return max(_beyond(frame, True) + _beyond(frame, False) for frame in frames) < 0.1
    return label not in MUTED or still.name not in ONE_TONE


def _enlarged(frames: list[np.ndarray]) -> list[np.ndarray]:
    import cv2

    return [cv2.resize(frame, (3840, 2160), interpolation=cv2.INTER_CUBIC) for frame in frames]


def _scores(path: Path, frames: Iterator[np.ndarray], crf: int) -> dict[str, float | None]:
    encode(path, frames, {**FAST, "crf": str(crf)})
    found = scores_of(measure_segment(str(path), METERS), METERS, FPS)
    return {name: found[name] for name in (BORDER, EXPOSURE, FILL, PUBLISHED)} | {
        GREY: _turned(found["grey_variance_median"]),
        TONED: _turned(found["grey_tint_residual_median"]),
    }


def _turned(value: float | None) -> float | None:
    return None if value is None else -value


def run(quick: bool = False) -> Section:
    """The section of docs/accuracy.md. Quick: two photographs, two frames."""
    install_packages()
    photos = _measured(PHOTOS[1:3] if quick else PHOTOS, "photo", quick)
    section = Section(
        "Borders, exposure, colour", " ".join(TEXT.format(num=NUM_FRAMES, width=WIDTH, height=HEIGHT).split())
    )
    section.rows += _rows(photos)
    if not quick:
        section.rows += _rows(_measured(RENDERED, "rendered", quick))
    section.floors += _floors(photos)
    section.notes += [*_alarms(photos)]
    return section


PUBLISHED = "exposure_clipped_share_mean"
_JUDGED = (
    (BORDER, BARS, NO_BARS),
    (EXPOSURE, EXPOSED, WELL_EXPOSED),
    (GREY, GREYS, {**MUTED, "sepia": as_it_is}),
    (TONED, TONES, MUTED),
    (FILL, FILLS, {**NO_BARS, **WELL_EXPOSED, "12 % top and bottom": as_it_is, "22 % left and right": as_it_is}),
)


def _rows(table: Table) -> list[Row]:
    rows = []
    for signal, bad, good in _JUDGED:
        rows += [table.row(signal, [label], list(good)) for label in bad]
        rows.append(table.row(signal, list(bad), list(good), "all"))
    rows += [table.row(BORDER, [label], list(NO_BARS), f"{label}, 1280 x 720 (7 or 13 pixels)") for label in THIN]
    rows.append(table.row(PUBLISHED, list(EXPOSED), list(WELL_EXPOSED), "all (UltraVideo's statistic)"))
    return rows


def _floors(table: Table) -> list[Floor]:
    names = {BORDER: "borders", EXPOSURE: "exposure", GREY: "grey"}
    rows = [(names[signal], table.row(signal, list(bad), list(good))) for signal, bad, good in _JUDGED[:3]]
    return [Floor(f"{name}: recall at 1 % false alarms", row.recall_1 or 0.0, 0.99) for name, row in rows]


def _alarms(table: Table) -> Iterator[str]:
    """The good clips that score highest and the bad ones that score lowest, by name."""
    for signal, bad, good in _JUDGED:
        worst = sorted(
            (
                (np.inf if value is None else value, label, source)
                for label in good
                for source, value in table.scores[signal, label]
            ),
            reverse=True,
        )[:3]
        least = sorted(
            (-np.inf if value is None else value, label, source)
            for label in bad
            for source, value in table.scores[signal, label]
        )[:3]
        for what, found in (("highest of the good", worst), ("lowest of the bad", least)):
            yield f"{signal}, {what}: " + "; ".join(f"{value:.3g} {source} ({label})" for value, label, source in found)
