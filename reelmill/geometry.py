# SPDX-License-Identifier: Apache-2.0
"""From a clip to windows and size buckets: pure arithmetic, no pixels."""

from dataclasses import dataclass
from fractions import Fraction

Box = tuple[int, int, int, int]

ASPECTS = tuple(Fraction(*pair) for pair in ((1, 1), (4, 3), (3, 2), (16, 9), (2, 1), (12, 5)))
"""Long side over short side of the buckets. Few, so that batches fill; the loss is a crop, recorded in `crop_box`."""
SMALL_HEIGHTS = (360, 240, 180, 144, 96, 64, 32, 16)
"""Where a clip goes that is smaller than every size asked for: the largest of these that it fills."""


@dataclass(frozen=True, slots=True)
class Window:
    """`length` frames from position `start` of the chosen frames."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class InputRule:
    """Pixels that a tokenizer eats.

    Args:
        multiple: rows and columns of a bucket are multiples of it.
        heights: sizes that clips are encoded at, as the length of the short side (720 as in 720p), each rounded down
            to the multiple; empty: the source's own size.
        value_range: what uint8 0..255 is mapped to before the network, or null if `mean` and `std` are given.
        mean, std: per-channel normalisation of [0, 1] pixels.
        fit: how a frame becomes a bucket: `area_center_crop`, averaged down by area, then its centre cut out, never
            enlarged; `area_center_square`, the same for tokenizers that take squares only; or `crops`: pieces of the
            native frame, native or averaged down.
        color: colour space of the pixels.
    """

    multiple: int = 16
    heights: tuple[int, ...] = ()
    value_range: tuple[float, float] | None = (0.0, 255.0)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    fit: str = "area_center_crop"
    color: str = "rgb"

    @property
    def is_crops(self) -> bool:
        return self.fit == "crops"

    @property
    def aspects(self) -> tuple[Fraction, ...]:
        """Long side over short side that buckets may have."""
        return ASPECTS[:1] if self.fit == "area_center_square" else ASPECTS


@dataclass(frozen=True, slots=True)
class TimeRule:
    """Which frames a window may have.

    Args:
        unit: frames per latent frame after the head.
        head: frames encoded alone at the start: 1 for causal tokenizers (legal lengths 1 + unit * n), else 0.
        max_frames: longest window; the longest legal length not above it is used.
        stride: frames from one window's start to the next; null: the window's length, so that no frame comes twice.
        frame_policy: `native`, or frames per second to resample to by the nearest time stamp (never repeating one).
        repeats_stills: with head 0, a still is shown `unit` times; else it cannot be encoded.
    """

    unit: int = 1
    head: int = 1
    max_frames: int = 17
    stride: int | None = None
    frame_policy: str | float = "native"
    repeats_stills: bool = False

    def __post_init__(self) -> None:
        if self.unit < 1 or self.head not in (0, 1) or self.max_frames < (self.head or self.unit):
            raise ValueError(f"unit {self.unit}, head {self.head}, max_frames {self.max_frames}: no legal window")
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"stride is {self.stride}; give a number of frames above 0")
        if self.frame_policy != "native" and not (isinstance(self.frame_policy, float) and self.frame_policy > 0):
            raise ValueError(f"frame_policy is {self.frame_policy!r}; give 'native' or frames per second as a float")

    def legal_length(self, limit: int) -> int:
        """The longest legal window of at most `limit` frames; 0 if none fits."""
        num_units = (min(limit, self.max_frames) - self.head) // self.unit
        return max(0, self.head + num_units * self.unit) if num_units >= 0 else 0

    def windows(self, num_frames: int, is_still: bool = False) -> tuple[tuple[Window, ...], int]:
        """Windows over `num_frames` frames, all of one length, and how many frames at the end lie in none."""
        if is_still:
            length = 1 if self.head else self.unit if self.repeats_stills else 0
            return ((Window(0, length),), 0) if length else ((), num_frames)
        length = self.legal_length(num_frames)
        if not length:
            return (), num_frames
        starts = range(0, num_frames - length + 1, self.stride or length)
        return tuple(Window(start, length) for start in starts), num_frames - starts[-1] - length

    def choose(self, times_s: tuple[float, ...]) -> tuple[int, ...]:
        """Positions of the frames to encode, by the frame policy; `times_s` ascends."""
        if self.frame_policy == "native" or len(times_s) < 2:
            return tuple(range(len(times_s)))
        step = 1.0 / float(self.frame_policy)
        chosen: list[int] = []
        here = 0
        for k in range(int((times_s[-1] - times_s[0]) / step + 1e-6) + 1):
            wanted = times_s[0] + k * step
            while here + 1 < len(times_s) and abs(times_s[here + 1] - wanted) < abs(times_s[here] - wanted):
                here += 1
            if not chosen or chosen[-1] != here:
                chosen.append(here)
        return tuple(chosen)

    def effective_fps(self, fps: float | None) -> float | None:
        """Frames per second after the frame policy; null for a still."""
        return fps if fps is None or self.frame_policy == "native" else min(fps, float(self.frame_policy))

    def latent_frames(self, num_frames: int, stride_t: int) -> int:
        """Frames of the finest grid for a legal window."""
        return self.head + (num_frames - self.head) // stride_t


@dataclass(frozen=True, slots=True)
class Fit:
    """How a displayed frame becomes one bucket: scale the whole frame, then cut the centre.

    Args:
        height_px, width_px: of the bucket.
        scaled_height_px, scaled_width_px: the whole frame after scaling, at least the bucket.
        top_px, left_px: where the bucket lies in the scaled frame.
        crop_box: the bucket in source pixels: x, y, width, height.
    """

    height_px: int
    width_px: int
    scaled_height_px: int
    scaled_width_px: int
    top_px: int
    left_px: int
    crop_box: Box


def buckets_of(
    height_px: int, width_px: int, heights: tuple[int, ...], multiple: int, aspects: tuple[Fraction, ...] = ASPECTS
) -> tuple[Fit, ...]:
    """The buckets of a frame, largest first, none larger than the frame.

    Args:
        heights: sizes of the short side, as in 720p; rounded down to `multiple`. Empty: the frame's own size.
        aspects: long side over short side that a bucket may have; the one that keeps most of the frame is taken.

    Raises:
        ValueError: the frame is smaller than one multiple in a direction.
    """
    wanted = sorted(set(heights or (min(height_px, width_px),)), reverse=True)
    found = [fit for size in wanted if (fit := _fit(height_px, width_px, size, multiple, aspects))]
    if not found:
        found = [fit for size in SMALL_HEIGHTS if (fit := _fit(height_px, width_px, size, multiple, aspects))][:1]
    if not found:
        raise ValueError(f"frames of {width_px}x{height_px} are smaller than {multiple} pixels in a direction")
    return tuple(dict.fromkeys(found))


def _fit(height_px: int, width_px: int, size: int, multiple: int, aspects: tuple[Fraction, ...]) -> Fit | None:
    """The bucket of that short side which keeps most of the frame; null if the frame is smaller."""
    best: tuple[Fraction, int, int, Fraction] | None = None
    for aspect in aspects:
        short, long = size // multiple * multiple, int(size * aspect) // multiple * multiple
        rows, columns = (short, long) if width_px >= height_px else (long, short)
        if not short or rows > height_px or columns > width_px:
            continue
        scale = max(Fraction(rows, height_px), Fraction(columns, width_px))
        kept = Fraction(rows * columns, height_px * width_px) / scale**2
        if best is None or kept > best[0]:
            best = (kept, rows, columns, scale)
    if best is None:
        return None
    _, rows, columns, scale = best
    scaled_h, scaled_w = max(rows, round(height_px * scale)), max(columns, round(width_px * scale))
    top, left = (scaled_h - rows) // 2, (scaled_w - columns) // 2
    x, y = int(left / scale), int(top / scale)
    box = (x, y, min(width_px - x, round(columns / scale)), min(height_px - y, round(rows / scale)))
    return Fit(rows, columns, scaled_h, scaled_w, top, left, box)
