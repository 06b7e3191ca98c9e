# SPDX-License-Identifier: Apache-2.0
"""Clips with and without text, whose every line is known: photographs under a moving camera, lines drawn over them.

A line's height is its font's em in pixels, which is about the ink of a line with both ascenders and descenders; capital
letters are 0.7 of it. White letters on dark pictures, dark ones on bright pictures, without outline or shadow.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ladders.stills import PHOTOS, RENDERED, cache_folder, install_packages, read_still

FONT_PACKAGES = ("fonts-dejavu-core", "fonts-liberation", "fonts-droid-fallback")
LATIN_FONTS = (
    "dejavu/DejaVuSans.ttf",
    "dejavu/DejaVuSerif-Bold.ttf",
    "dejavu/DejaVuSansMono.ttf",
    "liberation/LiberationSans-Regular.ttf",
    "liberation/LiberationSans-Bold.ttf",
    "liberation/LiberationSerif-Italic.ttf",
)
CYRILLIC_FONTS = ("dejavu/DejaVuSans.ttf", "liberation/LiberationSans-Bold.ttf")
CJK_FONTS = ("droid/DroidSansFallbackFull.ttf",)
SCRIPTS = {
    "latin": (
        LATIN_FONTS,
        ("Example Media", "@skyline.photo", "and then we left the valley", "12:34:56 LIVE", "stockclips.example",
         "Chapter Three", "Filmed by M. Keller", "BREAKING: heavy rain", "www.example.org", "Part 2 of 7"),
    ),
    "cyrillic": (CYRILLIC_FONTS, ("Новости дня", "Смотрите далее", "Прямой эфир", "Москва, утро")),
    "cjk": (CJK_FONTS, ("新闻频道", "我们明天再见", "山のあなたの空", "本节目仅供参考")),
}  # fmt: skip
SLOTS = ("top left", "top right", "bottom left", "bottom right", "subtitle", "title", "middle")
MARGIN = 0.04  # of the frame: distance of a corner mark from the edges
HD, FULL_HD, UHD = (720, 1280), (1080, 1920), (2160, 3840)
FPS, NUM_FRAMES = 5, 12  # looks of three frames are 0.8 s apart; their neighbours 0.4 s
ROOM = 1.35  # the picture is shown at this multiple of the frame, so that there is somewhere to move to
WITH_TEXT = ("EveningGlow", "Wine", "sunset")  # a boat's sign, a bottle's label, an engraved table
BRIGHT = 140  # mean above which letters are dark
TICKER_SPEED = 0.15  # frame widths per second
NEAR_MISSES = ("blinds", "cables", "facade", "lattice", "keyboard")


@dataclass(frozen=True)
class Drawn:
    """One line: what it says and where it stands. `box` is (left, top, right, bottom) of its ink, pixels of the frame.

    Args:
        height_share: em over the frame's height.
        opacity: 0-1.
    """

    text: str
    script: str
    font: str
    slot: str
    height_share: float
    opacity: float
    box: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class Film:
    """A clip to be rendered.

    Args:
        source: name of the photograph, rendering or near miss.
        kind: photo or rendered.
        size: (height, width).
        camera: pan, tilt, zoom or tripod.
        lines: laid over the picture, or parts of it if `is_scene`.
        is_ticker: the only line runs along the bottom.
    """

    name: str
    source: str
    kind: str
    size: tuple[int, int]
    camera: str
    seed: int
    lines: tuple[Drawn, ...] = ()
    is_scene: bool = False
    is_ticker: bool = False


def sources() -> list[tuple[str, str]]:
    """(name, kind) of the pictures without text: photographs, renderings, and drawn near misses."""
    photos = [(still.name, "photo") for still in PHOTOS if still.name not in WITH_TEXT]
    return photos + [(still.name, "rendered") for still in RENDERED] + [(name, "rendered") for name in NEAR_MISSES]


def picture_of(source: str) -> np.ndarray:
    """uint8 RGB [H, W, 3] of a source."""
    if source in NEAR_MISSES:
        return _near_miss(source)
    still = next(still for still in (*PHOTOS, *RENDERED) if still.name == source)
    return np.ascontiguousarray(read_still(still)[..., ::-1])


def _near_miss(name: str) -> np.ndarray:
    """Regular thin structures without any letter, 1600 x 2560, with noise."""
    import cv2

    rng = np.random.default_rng(7)
    y_HW, x_HW = np.mgrid[0:1600, 0:2560].astype(np.float32)
    luma_HW = {
        "blinds": lambda: 120 + 70 * np.sign(np.sin(y_HW / 9 + 0.15 * np.sin(x_HW / 300))),
        "cables": lambda: np.full_like(x_HW, 190.0),
        "facade": lambda: 150 - 90 * ((x_HW % 64 > 18) & (y_HW % 48 > 14)) + 25 * ((x_HW // 64 + y_HW // 48) % 3),
        "lattice": lambda: 160 - 80 * (np.minimum((x_HW + y_HW) % 40, (x_HW - y_HW) % 40) < 5),
        "keyboard": lambda: 60 + 120 * ((x_HW % 70 > 8) & (y_HW % 60 > 8)),
    }[name]()
    if name == "cables":
        for _ in range(40):
            start, end = ((int(x), int(y)) for x, y in zip((0, 2560), rng.integers(0, 1600, 2), strict=True))
            cv2.line(luma_HW, start, end, float(rng.uniform(20, 90)), int(rng.integers(1, 7)), cv2.LINE_AA)
    luma_HW = luma_HW + rng.normal(0, 4, luma_HW.shape)
    return np.clip(luma_HW[..., None] + np.array([6, 0, -6]), 0, 255).astype(np.uint8)


def five_lines(rng: np.random.Generator, opacity: float) -> tuple[Drawn, ...]:
    """One line of each height, at five of the seven places; scripts, fonts and words by chance."""
    slots = rng.permutation(len(SLOTS))
    return tuple(
        line_of(rng, height_share, opacity, SLOTS[slot])
        for height_share, slot in zip((0.01, 0.015, 0.02, 0.03, 0.05), slots, strict=False)
    )


def line_of(rng: np.random.Generator, height_share: float, opacity: float, slot: str) -> Drawn:
    """A line in a script by chance: 7 of 10 are Latin."""
    script = str(rng.choice(list(SCRIPTS), p=[0.7, 0.15, 0.15]))
    fonts, texts = SCRIPTS[script]
    return Drawn(str(rng.choice(texts)), script, str(rng.choice(fonts)), slot, height_share, opacity)


def placed(film: Film) -> Film:
    """The film with the box of each line's ink filled in."""
    return replace(film, lines=tuple(replace(line, box=_ink(line, film.size)) for line in film.lines))


def _font(line: Drawn, frame_height: int) -> Any:
    from PIL import ImageFont

    path = cache_folder() / "usr/share/fonts/truetype" / line.font
    return ImageFont.truetype(str(path), max(1, round(line.height_share * frame_height)))


def _ink(line: Drawn, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where the line's ink stands: corner marks 4 % from the edges, subtitles at 88 % of the height."""
    left, top, right, bottom = _font(line, size[0]).getbbox(line.text)
    width, height = int(right - left), int(bottom - top)
    across = {"left": MARGIN * size[1], "right": (1 - MARGIN) * size[1] - width}
    x = across.get(line.slot.rpartition(" ")[2], (size[1] - width) / 2)
    down = {"top": MARGIN, "bottom": 1 - MARGIN, "subtitle": 0.86, "title": 0.25, "middle": 0.55}
    y = down[line.slot.partition(" ")[0]] * size[0] - (height if line.slot.startswith("bottom") else 0)
    return round(x), round(y), round(x) + width, round(y) + height


def frames_of(film: Film, picture_HWC: np.ndarray) -> list[np.ndarray]:
    """uint8 RGB frames; a line takes its colour from what is behind it in the first frame."""
    import cv2

    height, width = film.size
    canvas_HWC = _canvas(picture_HWC, film.size)
    if film.is_scene:
        corner = (canvas_HWC.shape[1] - width) // 2, (canvas_HWC.shape[0] - height) // 2
        canvas_HWC = _mixed(canvas_HWC, *_layer(film, canvas_HWC, corner))
    frames, layer = [], None
    for index in range(NUM_FRAMES):
        matrix = _camera(film, canvas_HWC.shape[:2], index / FPS)
        frame_HWC = cv2.warpAffine(canvas_HWC, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
        if film.lines and not film.is_scene:
            if layer is None or film.is_ticker:
                layer = _layer(film, frame_HWC, (round(width * (0.3 - TICKER_SPEED * index / FPS)) * film.is_ticker, 0))
            frame_HWC = _mixed(frame_HWC, *layer)
        frames.append(frame_HWC)
    return frames


def _mixed(picture_HWC: np.ndarray, color_HW1: np.ndarray, alpha_HW1: np.ndarray) -> np.ndarray:
    return np.rint(picture_HWC + (color_HW1 - picture_HWC) * alpha_HW1).astype(np.uint8)


def _layer(film: Film, picture_HWC: np.ndarray, shift: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(colour 0 or 255, alpha 0-1), float32 [H, W, 1] each: the film's lines, moved by `shift` (x, y) pixels."""
    from PIL import Image, ImageDraw

    height, width = picture_HWC.shape[:2]
    ink = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(ink)
    color_HW1 = np.full((height, width, 1), 255, np.float32)
    for line in film.lines:
        x, y = line.box[0] + shift[0], line.box[1] + shift[1]
        font = _font(line, film.size[0])
        offset = font.getbbox(line.text)
        pen.text((x - offset[0], y - offset[1]), line.text, font=font, fill=round(255 * line.opacity))
        rows, columns = (
            slice(max(0, low), max(0, low + high - first))
            for low, first, high in ((y, *line.box[1::2]), (x, *line.box[::2]))
        )
        if not film.is_ticker and picture_HWC[rows, columns].mean() > BRIGHT:
            color_HW1[rows, columns] = 0
    return color_HW1, np.asarray(ink, np.float32)[..., None] / 255


def _canvas(picture_HWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of the picture at ROOM times the frame's size."""
    import cv2

    height, width = (round(ROOM * side) for side in size)
    scale = max(height / picture_HWC.shape[0], width / picture_HWC.shape[1])
    shape = tuple(max(round(picture_HWC.shape[axis] * scale), (width, height)[1 - axis]) for axis in (1, 0))
    resized_HWC = cv2.resize(picture_HWC, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (resized_HWC.shape[0] - height) // 2, (resized_HWC.shape[1] - width) // 2
    return np.ascontiguousarray(resized_HWC[top : top + height, left : left + width])


def _camera(film: Film, canvas: tuple[int, int], seconds: float) -> np.ndarray:
    """float64 [2, 3]: canvas to frame. Speeds are 0.04 to 0.12 frame heights a second, by the film's seed."""
    rng = np.random.default_rng(film.seed)
    height, width = film.size
    at = seconds - NUM_FRAMES / FPS / 2
    speed = rng.uniform(0.04, 0.12) * height * rng.choice([-1, 1])
    x, y, zoom = {
        "pan": (speed * at, 0.15 * speed * at, 1.0),
        "tilt": (0.1 * speed * at, speed * at, 1.0),
        "zoom": (0.2 * speed * at, 0.0, 1 + 0.04 * at * np.sign(speed)),
        "tripod": (0.0, 0.0, 1.0),
    }[film.camera]
    centre = np.array([canvas[1] / 2 + x, canvas[0] / 2 + y])
    shift = np.array([width / 2, height / 2]) - zoom * centre
    return np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]], np.float64)


def write_film(film: Film, picture_HWC: np.ndarray, path: Path, crf: int = 23) -> list[int]:
    """Encodes the film as H.264 (BT.709, limited range) and returns the pts of its frames."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": str(crf)})
        stream.height, stream.width = film.size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 1, 1, 1, 1
        for index, frame_HWC in enumerate(frames_of(film, picture_HWC)):
            frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", threads=1)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        return sorted(packet.pts for packet in container.demux(video=0) if packet.pts is not None)


def fetch() -> None:
    """Photographs and fonts into the cache."""
    install_packages()
    install_packages(FONT_PACKAGES)
