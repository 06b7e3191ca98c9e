# SPDX-License-Identifier: Apache-2.0
"""Effective resolution: how much of the picture's size is real, and how much an enlargement.

An enlargement has a cliff in its spectrum; a soft lens has a slope, grain has a floor. To tell them apart the meter
looks at the spectra of 64 textured and 16 flat windows of 64 x 64 native pixels. Texture is measured at half
resolution, where detail that an enlargement lacks cannot bias the choice; the windows are spread over the picture; the
flat ones say what grain and coding add. A small network says of each window how native it looks; the eight most native
windows and the mean of all decide, so that one sharp logo does not make a picture native. See docs/resolution.md.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Meter, StreamInfo, Update, View
from operators.meters.levels import black_code, gain
from operators.scores import Score, over
from reelmill.column import Column

WINDOW_PX = 64
NUM_TEXTURED, NUM_FLAT, NUM_PER_CELL, NUM_CELLS = 64, 16, 6, 4  # at most 6 of each of 4 x 4 cells of the picture
NUM_AGREEING = 8  # the most native windows that are listened to
MIN_WINDOWS = 90  # 854 x 480 has 91
BORDER_LEVEL, DARK_LEVEL, BRIGHT_LEVEL = 10.0, 12.0, 245.0
MIN_POWER = 6.0  # squared levels in the reference band; ours: the 8-bit steps of a smooth sky reach 2.5
MIN_POWER_OVER_GRAIN = 2.5  # ours
RADIAL_EDGES = np.arange(0.045, 0.506, 0.0255)  # cycles per pixel
CONE_EDGES = (0.06, 0.12, 0.167, 0.21, 0.25, 0.29, 0.333, 0.38, 0.42, 0.46, 0.5)
NUM_RADIAL, NUM_CONE = len(RADIAL_EDGES) - 1, len(CONE_EDGES) - 1
NUM_BANDS = NUM_RADIAL + 2 * NUM_CONE
REFERENCE = slice(1, 3)  # radial bands 0.07-0.12: below the cliff of an enlargement by 3
FLOOR = 1e-3  # squared levels; quantisation to 8 bits alone gives 0.08
ROUND_TRIP_PX = 512


@dataclass(frozen=True, kw_only=True)
class Resolution(Meter):
    """Share of the linear resolution that is real, and the probability that the picture is an enlargement.

    Writes: resolution_native_scale, resolution_upscaled_probability, resolution_roundtrip_psnr_db.
    Source: ours, after the residual curve of down- and up-scaling (its energies are those of the bands above each
        scale); coefficients by benchmarks/fit_resolution.py, accuracy in docs/accuracy.md. Round trip: the gate of
        Ad-Up, where at most 38 dB means real detail.
    """

    name: ClassVar[str] = "resolution"
    view: ClassVar[View] = View.LUMA
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "resolution_native_scale",
            pa.list_(pa.float32()),
            "estimated share of the linear resolution that is real, 0-1 (0.5: enlarged x2, or as soft as if it were); "
            "null if the picture is too small, too dark or has too little texture",
        ),
        Column(
            "resolution_upscaled_probability",
            pa.list_(pa.float32()),
            "probability, 0-1, at even odds, that the picture was enlarged by 1.5 or more; null as for native_scale",
        ),
        Column(
            "resolution_roundtrip_psnr_db",
            pa.list_(pa.float32()),
            "PSNR of the most textured 512 x 512 pixels after reduction and enlargement x2, at most 99; high: nothing "
            "would be lost at half size; null if the picture is smaller than 512 or has no textured window",
        ),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        *over(writes, "resolution_native_scale", "max", "median"),
        *over(writes, "resolution_upscaled_probability", "min", "median"),
        *over(writes, "resolution_roundtrip_psnr_db", "min"),
        Score(
            Column(
                "resolution_effective_short_px",
                pa.float64(),
                "the largest native_scale of the clip times the short side in pixels: the size at which the clip is "
                "worth storing; null if every sample is unknown",
            ),
            lambda groups, facts: groups["resolution_native_scale"].quantile(1.0) * short_px(facts),
        ),
        Score(
            Column("resolution_num_known", pa.int32(), "samples of the clip that could be judged; never null"),
            lambda groups, facts: groups["resolution_native_scale"].counts,
        ),
    )
    rate_hz: float | None = 1.0

    def start(self, info: StreamInfo) -> Update:
        factor, black = gain(info), black_code(info)
        network = Network.shipped()

        def update(view: np.ndarray, seconds: float) -> tuple[float | None, ...]:
            windows = look(view, factor, black)
            if windows is None:
                return (None, None, None)
            psnr_db = round_trip_psnr_db(view, windows.origin, factor)
            if not windows.is_telling:
                return (None, None, psnr_db)
            logit, log2_scale = network(windows.spectra_NB)
            return (float(min(1.0, 2.0**log2_scale)), float(1 / (1 + np.exp(-logit))), psnr_db)

        return update


def short_px(facts: pa.Table) -> np.ndarray:
    """Short side of each clip's source, float64; NaN where unknown."""
    sides = [np.asarray(facts[name].to_numpy(zero_copy_only=False), np.float64) for name in ("width_px", "height_px")]
    return np.minimum(*sides)


@dataclass(frozen=True)
class Windows:
    """What was seen of a picture.

    Args:
        spectra_NB: float32 [80, 38] power (squared levels) per band of the textured windows, then of the flat ones;
            NaN rows where there are fewer.
        origin: top left pixel of the most textured window.
        is_telling: enough windows have structure above the grain.
    """

    spectra_NB: np.ndarray
    origin: tuple[int, int]

    @property
    def is_telling(self) -> bool:
        textured_N = self.spectra_NB[:NUM_TEXTURED, REFERENCE].mean(axis=1)
        grain = float(np.nanmedian(self.spectra_NB[NUM_TEXTURED:, NUM_RADIAL - 2 : NUM_RADIAL]))
        return int((textured_N > max(MIN_POWER, MIN_POWER_OVER_GRAIN * grain)).sum()) >= NUM_AGREEING


def look(luma_HW: np.ndarray, factor: float, black: int) -> Windows | None:
    """Chooses windows and takes their spectra; None if the picture is too small or too dark.

    Args:
        luma_HW: uint8 or uint16 native codes.
        factor, black: levels per code, and the code of level 0, see `levels`.
    """
    import cv2

    height, width = luma_HW.shape[0] & ~1, luma_HW.shape[1] & ~1
    if (height // WINDOW_PX) * (width // WINDOW_PX) < MIN_WINDOWS:
        return None
    half_HW = cv2.resize(luma_HW[:height, :width], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    top, left, rows, columns = _content(half_HW, factor, black)
    if rows * columns < MIN_WINDOWS:
        return None
    half_HW = half_HW[top : top + rows * WINDOW_PX // 2, left : left + columns * WINDOW_PX // 2]
    textured, flat = _choose(half_HW, rows, columns, factor, black)
    if len(textured) < NUM_AGREEING:
        return None
    origins = np.stack(np.divmod(np.concatenate([textured, flat]), columns), axis=1) * WINDOW_PX + (2 * top, 2 * left)
    powers = _powers(luma_HW, origins, factor)
    spectra_NB = np.full((NUM_TEXTURED + NUM_FLAT, powers.shape[1]), np.nan, np.float32)
    spectra_NB[: len(textured)] = powers[: len(textured)]
    spectra_NB[NUM_TEXTURED : NUM_TEXTURED + len(flat)] = powers[len(textured) :]
    return Windows(spectra_NB, (int(origins[0, 0]), int(origins[0, 1])))


def _content(half_HW: np.ndarray, factor: float, black: int) -> tuple[int, int, int, int]:
    """Top, left (half pixels) and rows, columns (windows) of the picture inside black bars, whose edges are sharp."""
    import cv2

    starts, counts = [], []
    for axis, size in ((1, half_HW.shape[0]), (0, half_HW.shape[1])):
        means = cv2.reduce(half_HW, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
        lit = np.flatnonzero((means - black) * factor > BORDER_LEVEL)
        first, last = (int(lit[0]), int(lit[-1])) if len(lit) else (0, -1)
        first, last = (first + 2 if first else 0), (last - 2 if last < size - 1 else last)
        starts.append(first)
        counts.append(max(0, last + 1 - first) // (WINDOW_PX // 2))
    return starts[0], starts[1], counts[0], counts[1]


def _choose(half_HW: np.ndarray, rows: int, columns: int, factor: float, black: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the textured windows, most textured first, spread over the cells, and of the flattest."""
    import cv2

    across_HW, down_HW = cv2.absdiff(half_HW[:, 1:], half_HW[:, :-1]), cv2.absdiff(half_HW[1:], half_HW[:-1])
    texture_N = _sums(_sums(cv2.add(across_HW[:-1], down_HW[:, :-1]), rows).T, columns).T.ravel()
    level_N = (cv2.resize(half_HW, (columns, rows), interpolation=cv2.INTER_AREA).ravel() - float(black)) * factor
    order = np.argsort(-texture_N, kind="stable")
    order = order[((level_N > DARK_LEVEL) & (level_N < BRIGHT_LEVEL))[order]]
    cells = np.arange(rows)[:, None] * NUM_CELLS // rows * NUM_CELLS + np.arange(columns) * NUM_CELLS // columns
    textured = _at_most(order, cells.ravel(), NUM_PER_CELL)[:NUM_TEXTURED]
    return textured, order[::-1][:NUM_FLAT]


def _sums(values_HW: np.ndarray, parts: int) -> np.ndarray:
    """float32 [parts, W]: sums over equal parts of the rows, rows on a border in shares, as INTER_AREA; much faster."""
    size = len(values_HW) / parts
    first = np.arange(parts) * size
    row, num_whole = first.astype(int), int(size)  # rows 1 to num_whole - 1 of a part lie in it wholly
    whole = np.zeros((parts, values_HW.shape[1]), np.uint16 if values_HW.dtype == np.uint8 else np.float32)
    for k in range(1, num_whole):
        whole += values_HW[row + k]
    sums = whole.astype(np.float32)
    for k in sorted({0, num_whole, num_whole + 1}):
        share = np.minimum(row + k + 1, first + size) - np.maximum(row + k, first)
        sums += values_HW[np.minimum(row + k, len(values_HW) - 1)] * share.clip(0)[:, None].astype(np.float32)
    return sums


def _at_most(order: np.ndarray, cell_N: np.ndarray, limit: int) -> np.ndarray:
    """The entries of `order` that are among the first `limit` of their cell."""
    by_cell = np.argsort(cell_N[order], kind="stable")
    ordered = cell_N[order][by_cell]
    place = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return order[np.sort(by_cell[place < limit])]


@cache
def _transform() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 DCT matrix [64, 64], window [64, 64] (Hann, unit power) and band means [4096, 38]."""
    k = np.arange(WINDOW_PX)
    dct = np.sqrt(2 / WINDOW_PX) * np.cos(np.pi * k[:, None] * (k + 0.5) / WINDOW_PX)
    hann = np.sin(np.pi * (k + 0.5) / WINDOW_PX) ** 2
    hann /= np.sqrt((hann**2).mean())
    fy, fx = k[:, None] / (2 * WINDOW_PX), k[None] / (2 * WINDOW_PX)
    radius = np.hypot(fy, fx)
    bands = [_between(radius, RADIAL_EDGES, i) for i in range(NUM_RADIAL)]
    bands += [_between(radius, CONE_EDGES, i) & (fy < fx / 2) for i in range(NUM_CONE)]
    bands += [_between(radius, CONE_EDGES, i) & (fx < fy / 2) for i in range(NUM_CONE)]
    means = np.stack([band.ravel() / band.sum() for band in bands], axis=1)
    return dct.astype(np.float32), (hann[:, None] * hann).astype(np.float32), means.astype(np.float32)


def _between(values: np.ndarray, edges: np.ndarray | tuple[float, ...], index: int) -> np.ndarray:
    return (values >= edges[index]) & (values < edges[index + 1])


def _powers(luma_HW: np.ndarray, origins: np.ndarray, factor: float) -> np.ndarray:
    """float32 [N, 38]: mean power per band of each window; white noise of variance v gives v in each."""
    dct, hann_HW, means = _transform()
    windows_NHW = np.stack([luma_HW[y : y + WINDOW_PX, x : x + WINDOW_PX] for y, x in origins]).astype(np.float32)
    windows_NHW -= windows_NHW.mean(axis=(1, 2), keepdims=True)
    windows_NHW *= hann_HW * np.float32(factor)
    coefficients_NHW = dct @ (windows_NHW @ dct.T)
    coefficients_NHW *= coefficients_NHW
    return coefficients_NHW.reshape(len(origins), -1) @ means


def descriptors(spectra_NB: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the network sees of each textured window: its spectrum's shape in decades, without and with the grain.

    Args:
        spectra_NB: [..., 80, 38].

    Returns:
        float32 [..., 64, 110] descriptors (zero where there is no window) and bool [..., 64] whether there is one.
    """
    grain_B = np.nanmedian(spectra_NB[..., NUM_TEXTURED:, :], axis=-2, keepdims=True)
    powers = spectra_NB[..., :NUM_TEXTURED, :]
    is_window = ~np.isnan(powers[..., 0])
    reference = np.log10(powers[..., REFERENCE].mean(axis=-1, keepdims=True) + FLOOR)
    structure = np.log10(np.maximum(powers - grain_B, 0.05 * grain_B) + FLOOR) - reference
    raw = np.log10(powers[..., :NUM_RADIAL] + FLOOR) - reference
    grain = np.log10(np.broadcast_to(grain_B, powers.shape)[..., :NUM_RADIAL] + FLOOR) - reference
    radial = structure[..., :NUM_RADIAL]
    steps = (np.diff(radial, axis=-1), radial[..., 2:] - radial[..., :-2])
    described = np.concatenate([structure, *steps, raw, grain, reference], axis=-1)
    return np.where(is_window[..., None], described, 0).astype(np.float32), is_window


@dataclass(frozen=True)
class Network:
    """A few equal networks and the mean of what they say.

    Args:
        layers: float32 arrays whose first axis is the network: mean, deviation [E, F]; first_w [E, H, F], first_b;
            second_w [E, H, H], second_b; last_w [E, 2, 2 H], last_b [E, 2].
    """

    layers: dict[str, np.ndarray]

    @staticmethod
    @cache
    def shipped() -> "Network":
        """The coefficients beside this file, fitted on all photographs by benchmarks/fit_resolution.py."""
        with np.load(Path(__file__).with_name("resolution.npz")) as file:
            return Network({name: file[name] for name in file.files})

    def __call__(self, spectra_NB: np.ndarray) -> tuple[float, float]:
        """(logit of an enlargement, log2 of the native scale) of one picture's spectra [80, 38]."""
        described_NF, is_window_N = descriptors(spectra_NB)
        said = [self._one(index, described_NF[is_window_N]) for index in range(len(self.layers["mean"]))]
        logit, log2_scale = np.mean(said, axis=0)
        return float(logit), float(log2_scale)

    def _one(self, index: int, described_NF: np.ndarray) -> np.ndarray:
        layer = {name: array[index] for name, array in self.layers.items()}
        hidden_NH = (described_NF - layer["mean"]) / layer["deviation"]
        for name in ("first", "second"):
            hidden_NH = np.maximum(hidden_NH @ layer[f"{name}_w"].T + layer[f"{name}_b"], 0)
        strongest_H = np.sort(hidden_NH, axis=0)[-NUM_AGREEING:].mean(axis=0)
        pooled = np.concatenate([hidden_NH.mean(axis=0), strongest_H])
        return layer["last_w"] @ pooled + layer["last_b"]


def round_trip_psnr_db(luma_HW: np.ndarray, origin: tuple[int, int], factor: float) -> float | None:
    """PSNR of the 512 x 512 pixels about a window after bicubic reduction and enlargement x2, at most 99 dB."""
    import cv2

    if min(luma_HW.shape) < ROUND_TRIP_PX:
        return None
    margin = (ROUND_TRIP_PX - WINDOW_PX) // 2
    y, x = (min(max(0, o - margin), size - ROUND_TRIP_PX) for o, size in zip(origin, luma_HW.shape, strict=True))
    region_HW = luma_HW[y : y + ROUND_TRIP_PX, x : x + ROUND_TRIP_PX].astype(np.float32) * factor
    half_HW = cv2.resize(region_HW, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
    back_HW = cv2.resize(half_HW, (ROUND_TRIP_PX, ROUND_TRIP_PX), interpolation=cv2.INTER_CUBIC)
    return min(99.0, cv2.PSNR(region_HW, back_HW, 255.0))
