# SPDX-License-Identifier: Apache-2.0
"""Which windows and sizes a tokenizer wants: pure arithmetic, no pixels. Sizes of a frame: `reelmill.buckets`."""

from dataclasses import dataclass

FITS = ("area_center_crop", "area_center_square", "area_pad", "crops")


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
            enlarged; `area_center_square`, the same for tokenizers that take squares only; `area_pad`, averaged down
            until all of it fits, its edges then repeated to the bucket's; or `crops`: pieces of the native frame,
            native or averaged down.
        color: colour space of the pixels.
        areas: in place of `heights`: sizes as the side of a square of the same area, of any aspect up to 4:1, by the
            rule of PixArt-Sigma's tables (2880: its 4K table, if `multiple` divides 64).

    Raises:
        ValueError: an unknown fit; both heights and areas.
    """

    multiple: int = 16
    heights: tuple[int, ...] = ()
    value_range: tuple[float, float] | None = (0.0, 255.0)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    fit: str = "area_center_crop"
    color: str = "rgb"
    areas: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"fit is {self.fit!r}; it must be one of {', '.join(FITS)}")
        if self.heights and self.areas:
            raise ValueError(f"heights {self.heights} and areas {self.areas}: give one of the two")

    @property
    def is_crops(self) -> bool:
        return self.fit == "crops"


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
