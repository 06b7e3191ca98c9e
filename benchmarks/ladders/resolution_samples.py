# SPDX-License-Identifier: Apache-2.0
"""The ladder of the effective resolution: which pictures are made of a photograph, and how.

Each photograph gives two native masters: `camera`, a crop at full size, as soft as the camera left it, and `crisp`, a
crop after area reduction by 1.6 or 2, whose detail reaches the last pixel. No photograph is left out of the native
class: none of their spectra has the knee that an enlargement leaves (docs/resolution.md, which also says which are
soft). A sample is a master, enlarged or not, then sharpened or grained or not, then coded as the second of two frames
(a P frame, the picture having moved by 3 and 2 px) or not.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from zlib import crc32

import numpy as np

from benchmarks.ladders import degrade
from benchmarks.ladders.stills import Still, read_still

HEIGHT, WIDTH = 720, 1280
MARGIN = 8  # the first frame of a coded pair is seen from elsewhere
SHIFT = (2, 3)
LADDER_FACTORS, LADDER_KERNELS = (1.5, 2.0, 3.0), ("bicubic", "lanczos")
LADDER_POSTS, LADDER_CODINGS = ("clean", "unsharp", "grain"), ("none", "crf18", "crf28")


@dataclass(frozen=True)
class Recipe:
    """How a sample is made of a master.

    Args:
        factor: enlargement down and across; (1, 1) is native.
        kernel: of the enlargement; `lines` doubles the lines of one field.
        post: one of POSTS.
        coding: `none`, `crf18` ... (x264) or `hevc28` ... (x265).
        defocus_px: Gaussian blur of the master before anything else.
        group: `ladder` is the full factorial that is judged; `extra` widens the training and is reported apart.
    """

    factor: tuple[float, float] = (1.0, 1.0)
    kernel: str = "none"
    post: str = "clean"
    coding: str = "none"
    defocus_px: float = 0.0
    group: str = "ladder"

    @property
    def scale(self) -> float:
        """Share of the linear resolution that is real; the geometric mean of the axes, if they differ."""
        return 1 / float(np.sqrt(self.factor[0] * self.factor[1]))

    @property
    def is_upscaled(self) -> bool:
        return max(self.factor) > 1


POSTS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "clean": lambda luma, seed: luma,
    "unsharp": lambda luma, seed: degrade.unsharp(luma),
    "unsharp2": lambda luma, seed: degrade.unsharp(luma, 1.8, 1.6),
    "cas": lambda luma, seed: degrade.adaptively_sharpened(luma),
    "grain": lambda luma, seed: degrade.grain(luma, 3.0, seed),
    "grain6": lambda luma, seed: degrade.grain(luma, 6.0, seed),
    "coarse_grain": lambda luma, seed: degrade.grain(luma, 4.0, seed, 0.7),
    "unsharp_grain": lambda luma, seed: degrade.grain(degrade.unsharp(luma), 2.0, seed),
}


def ladder() -> list[Recipe]:
    """The full factorial: 9 native and 54 enlarged."""
    pictures = [((1.0, 1.0), "none"), *(((f, f), k) for f in LADDER_FACTORS for k in LADDER_KERNELS)]
    return [Recipe(f, k, post, coding) for f, k in pictures for post in LADDER_POSTS for coding in LADDER_CODINGS]


def extras(seed: int, num_native: int = 10, num_upscaled: int = 16) -> list[Recipe]:
    """Drawn beyond the ladder: other kernels, factors, anamorphic, line-doubled, other sharpening, soft masters."""
    rng = np.random.default_rng(seed)
    codings = ("none", "crf18", "crf23", "crf28", "crf33", "hevc30")
    posts = tuple(POSTS)

    def draw(factor: tuple[float, float], kernel: str, defocus: float) -> Recipe:
        return Recipe(factor, kernel, str(rng.choice(posts)), str(rng.choice(codings)), defocus, "extra")

    chosen = [draw((1.0, 1.0), "none", float(rng.choice([0.0, 0.4, 0.6]))) for _ in range(num_native)]
    for index in range(num_upscaled):
        factor = float(rng.choice([1.25, 1.33, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 4.0]))
        kernel = str(rng.choice(["nearest", "bilinear", "bilinear", "bicubic", "lanczos"]))
        both = (1.0, factor) if index % 8 == 0 else (factor, factor)
        chosen.append(draw(both, kernel, float(rng.choice([0.0, 0.0, 0.4]))))
    return [*chosen, draw((2.0, 1.0), "lines", 0.0)]


def masters(still: Still, picture_HWC: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(`camera` or `crisp`, uint8 [720 + 8, 1280 + 8]) of a still; a rendering has no camera."""
    import cv2

    luma_HW = cv2.cvtColor(picture_HWC, cv2.COLOR_BGR2GRAY)
    if still.kind == "photo":
        yield "camera", most_textured_crop(luma_HW, HEIGHT + MARGIN, WIDTH + MARGIN)
    is_large = luma_HW.shape[0] >= 2 * (HEIGHT + MARGIN) and luma_HW.shape[1] >= 2 * (WIDTH + MARGIN)
    factor = 2.0 if is_large else 1.6
    yield "crisp", most_textured_crop(degrade.reduced(luma_HW, factor), HEIGHT + MARGIN, WIDTH + MARGIN)


def most_textured_crop(luma_HW: np.ndarray, height: int, width: int) -> np.ndarray:
    """The crop, of 5 x 5, with the most texture at half resolution, which an enlargement would not have taken away."""
    import cv2

    half_HW = cv2.resize(luma_HW, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    edges_HW = cv2.convertScaleAbs(cv2.Laplacian(half_HW, cv2.CV_16S))
    tops, lefts = (np.linspace(0, n - m, 5).astype(int) for n, m in zip(luma_HW.shape, (height, width), strict=True))
    places = [(top, left) for top in tops for left in lefts]
    top, left = max(places, key=lambda p: edges_HW[p[0] // 2 :, p[1] // 2 :][: height // 2, : width // 2].mean())
    return np.ascontiguousarray(luma_HW[top : top + height, left : left + width])


def make(master_HW: np.ndarray, recipe: Recipe, name: str) -> np.ndarray:
    """uint8 [720, 1280] of the recipe. `name` seeds the grain."""
    seed = crc32(f"{name}{recipe}".encode())
    if recipe.defocus_px:
        master_HW = degrade.defocused(master_HW, recipe.defocus_px)
    if recipe.kernel == "lines":
        master_HW = degrade.line_doubled(master_HW)
    elif recipe.is_upscaled:
        master_HW = degrade.enlarged(master_HW, recipe.factor, recipe.kernel)
    return finish(master_HW, recipe.post, recipe.coding, seed)


def finish(master_HW: np.ndarray, post: str, coding: str, seed: int) -> np.ndarray:
    """Sharpens or grains, then codes: the part of a recipe that follows the enlargement."""
    now_HW = POSTS[post](np.ascontiguousarray(master_HW[:HEIGHT, :WIDTH]), seed)
    if coding == "none":
        return now_HW
    top, left = SHIFT
    before_HW = POSTS[post](np.ascontiguousarray(master_HW[top : top + HEIGHT, left : left + WIDTH]), seed + 1)
    codec = "libx265" if coding.startswith("hevc") else "libx264"
    return degrade.round_trip([before_HW, now_HW], int(coding[-2:]), codec)[-1]


@dataclass(frozen=True)
class Samples:
    """The measured ladder, one entry per sample.

    Args:
        source, kind, master: name of the still, `photo` or `rendered`, `camera` or `crisp`.
        is_textured: of the still.
        recipe: how the sample was made.
        spectra: float32 [N, 80, 38], see `operators.meters.resolution.Windows`.
        is_telling: bool [N]; False: the meter says unknown.
        laplacian, psnr_db: float64 [N] baselines: variance of the Laplacian, and the whole picture's x2 round trip.
    """

    source: np.ndarray
    kind: np.ndarray
    is_textured: np.ndarray
    master: np.ndarray
    recipe: list[Recipe]
    spectra: np.ndarray
    is_telling: np.ndarray
    laplacian: np.ndarray
    psnr_db: np.ndarray

    def of(self, name: str) -> np.ndarray:
        """A field of the recipes, or `largest_factor`."""
        if name == "largest_factor":
            return np.array([max(r.factor) for r in self.recipe])
        return np.array([getattr(r, name) for r in self.recipe])


def cache_folder() -> Path:
    """Where spectra are kept, by what made them: re-fitting then takes no pictures."""
    from benchmarks.ladders import stills
    from operators.meters.resolution import Resolution

    texts = [Path(str(module.__file__)).read_text() for module in (degrade, sys.modules[__name__])]
    made_by = [ast.unparse(ast.parse(text)) for text in texts]  # without comments and layout
    key = blake2b(repr((made_by, Resolution.version)).encode(), digest_size=8).hexdigest()
    return stills.cache_folder().parent / f"resolution-ladder-{key}"


def measured(stills: Sequence[Still], *, quick: bool = False) -> Samples:
    """The ladder of the stills, from the cache where it was made before. Quick: few rungs, and nothing is cached."""
    parts = [_quick(still) if quick else _cached(still) for still in stills]
    samples = [sample for names, _ in parts for sample in names]
    arrays = {name: np.concatenate([part[name] for _, part in parts]) for name in parts[0][1]}
    by_name = {still.name: still for still in stills}
    source = np.array([name for name, _, _ in samples])
    return Samples(
        source,
        np.array([by_name[name].kind for name in source]),
        np.array([by_name[name].is_textured for name in source]),
        np.array([master for _, master, _ in samples]),
        [recipe for _, _, recipe in samples],
        arrays["spectra"],
        arrays["is_telling"],
        arrays["laplacian"],
        arrays["psnr_db"],
    )


def _plan(still: Still, master: str) -> list[Recipe]:
    return ladder() + extras(crc32(f"{still.name}{master}".encode()))


def _names(still: Still) -> list[str]:
    return ["camera", "crisp"] if still.kind == "photo" else ["crisp"]


def _cached(still: Still) -> tuple[list[tuple[str, str, Recipe]], dict[str, np.ndarray]]:
    path = cache_folder() / f"{still.name}.npz"
    samples = [(still.name, master, recipe) for master in _names(still) for recipe in _plan(still, master)]
    if not path.exists():
        arrays = _measure(still, samples)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, **arrays)  # type: ignore[arg-type]
        part.replace(path)
    with np.load(path) as file:
        return samples, {name: file[name] for name in file.files}


def _quick(still: Still) -> tuple[list[tuple[str, str, Recipe]], dict[str, np.ndarray]]:
    few = [r for r in ladder() if r.kernel != "lanczos" and r.post != "unsharp" and r.coding != "crf18"]
    samples = [(still.name, master, recipe) for master in _names(still) for recipe in few]
    return samples, _measure(still, samples)


def _measure(still: Still, samples: list[tuple[str, str, Recipe]]) -> dict[str, np.ndarray]:
    masters_by_name = dict(masters(still, read_still(still)))
    said = [look_at(make(masters_by_name[m], recipe, name + m)) for name, m, recipe in samples]
    spectra, is_telling, laplacian, psnr_db = (np.array(values) for values in zip(*said, strict=True))
    return {"spectra": spectra, "is_telling": is_telling, "laplacian": laplacian, "psnr_db": psnr_db}


def look_at(luma_HW: np.ndarray) -> tuple[np.ndarray, bool, float, float]:
    """Spectra, whether they tell, and the two baselines of a full-range picture uint8 [H, W]."""
    import cv2

    from operators.meters.resolution import NUM_BANDS, NUM_FLAT, NUM_TEXTURED, look

    height, width = luma_HW.shape
    windows = look(luma_HW, 1.0, 0)
    half_HW = cv2.resize(luma_HW, (width // 2, height // 2), interpolation=cv2.INTER_CUBIC)
    psnr_db = cv2.PSNR(luma_HW, cv2.resize(half_HW, (width, height), interpolation=cv2.INTER_CUBIC))
    laplacian = float(cv2.Laplacian(luma_HW, cv2.CV_32F).var())
    if windows is None:
        empty = np.full((NUM_TEXTURED + NUM_FLAT, NUM_BANDS), np.nan, np.float32)
        return empty, False, laplacian, psnr_db
    return windows.spectra_NB, windows.is_telling, laplacian, psnr_db
