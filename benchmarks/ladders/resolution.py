# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the effective resolution: enlarged photographs against native ones, and the shared real clips."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.fit_resolution import EPOCHS, fit
from benchmarks.ladders import degrade
from benchmarks.ladders.judge import Floor, Row, Section, judge, spearman
from benchmarks.ladders.learned_upscaler import trained
from benchmarks.ladders.resolution_samples import HEIGHT, LADDER_FACTORS, WIDTH, Samples, masters, measured
from benchmarks.ladders.stills import PHOTOS, RENDERED, install_packages, read_still
from operators.contract import View
from operators.meters.levels import black_code, gain
from operators.meters.resolution import Network, look

NUM_FOLDS = 9  # of three photographs each: a stricter test than leaving out one
FLOORS = {2.0: 0.97, 3.0: 0.93, 1.5: 0.85}
SIGNAL, SCALE = "resolution_upscaled_probability", "resolution_native_scale"
CLIPS = (
    "uhd_motorcycle_2160p30_h264.mp4",
    "uhd_portrait_phone_2160p60_h264.mp4",
    "street_walk_720p.mp4",
    "hdr10_av1_portrait_720p.mp4",
    "dj_video10.mp4",
)
CLIP_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "clips"
FALSE_ALARM = 0.5
TEXT = """Photographs of 1280 x 720 pixels, two native masters of each (a crop at full size, as soft as the camera left
it, and one after area reduction by 1.6 or 2), against the same enlarged by 1.5, 2 and 3 (bicubic, Lanczos), each clean,
unsharp-masked and with grain (sigma 3), and uncoded or as a P frame of x264 at crf 18 and 28. Nine folds: the networks
that judge a photograph saw nothing of it. Rows of the baselines use the same samples. Photographs without fine texture
have their own row; unknown counts as an error. Real clips are judged with the shipped coefficients, which have not seen
them; what a copy is compared with is the clip itself, whose own history nobody knows."""


def run(quick: bool = False) -> Section:
    """The section of docs/accuracy.md. Quick: four photographs in two folds, no coding at crf 18, no clips but one."""
    install_packages()
    samples = measured(PHOTOS[1:9:2] if quick else PHOTOS + RENDERED, quick=quick)
    networks = fold_networks(samples, 2 if quick else NUM_FOLDS, epochs=8 if quick else EPOCHS)
    logit, scale = judged(samples, networks)
    section = Section("Effective resolution", " ".join(TEXT.split()))
    pooled = [_row(samples, SIGNAL, logit, _ladder(samples, "photo"), f, "", scale) for f in LADDER_FACTORS]
    section.rows += pooled
    section.floors += [
        Floor(f"AUC at x{f:g}", row.auc or 0.0, FLOORS[f]) for f, row in zip(LADDER_FACTORS, pooled, strict=True)
    ]
    section.floors.append(Floor("coverage", pooled[0].coverage, 0.90))
    section.rows += _details(samples, logit)
    section.rows.append(_learned_row(samples, logit, networks, steps=20 if quick else 400))
    section.notes += [_scale_note(samples, scale, f) for f in (1.0, *LADDER_FACTORS)]
    section.plots.append(_plot(samples, scale))
    _add_clips(section, CLIPS[2:3] if quick else CLIPS)
    return section


def fold_networks(samples: Samples, num_folds: int, epochs: int) -> dict[str, Network]:
    """Source -> a network that did not see it; renderings and photographs of one fold share theirs."""
    photos = sorted(set(samples.source[samples.kind == "photo"]))
    order = list(np.random.default_rng(0).permutation(photos))
    fold = np.array([order.index(name) % num_folds if name in order else -1 for name in samples.source])
    networks = [fit(samples, (fold != i) & (fold >= 0), networks=1, epochs=epochs) for i in range(num_folds)]
    return {str(name): networks[max(0, index)] for name, index in zip(samples.source, fold, strict=True)}


def judged(samples: Samples, networks: dict[str, Network]) -> tuple[np.ndarray, np.ndarray]:
    """Logit of an enlargement and native scale [N]; NaN for unknown."""
    said = np.full((len(samples.source), 2), np.nan)
    for place in np.flatnonzero(samples.is_telling):
        said[place] = networks[str(samples.source[place])](samples.spectra[place])
    return said[:, 0], np.minimum(1, 2.0 ** said[:, 1])


def _learned_row(samples: Samples, logit: np.ndarray, networks: dict[str, Network], steps: int) -> Row:
    """A learned upscaler x2, trained on the other half of the photographs, against the clean and coded natives."""
    names = sorted(set(samples.source[_ladder(samples, "photo")]))
    stills = [still for still in PHOTOS if still.name in names]
    native = {still.name: [m[:HEIGHT, :WIDTH] for _, m in masters(still, read_still(still))] for still in stills}
    scores, owners = [], []
    for half in (0, 1):
        shown = [picture for name in names[1 - half :: 2] for picture in native[name]]
        enlarge = trained(shown, steps=steps)
        for name in names[half::2]:
            for picture in native[name]:
                copy = enlarge(degrade.reduced(picture, 2.0))
                for version in (copy, degrade.round_trip([copy], 18)[0], degrade.round_trip([copy], 28)[0]):
                    windows = look(version, 1.0, 0)
                    is_known = windows is not None and windows.is_telling
                    scores.append(networks[name](windows.spectra_NB)[0] if windows and is_known else None)
                    owners.append(name)
    good = _ladder(samples, "photo") & (samples.of("largest_factor") == 1) & (samples.of("post") == "clean")
    owned = samples.source[good].tolist()
    return judge(SIGNAL, "photo", "x2 by a small learned upscaler", scores, logit[good].tolist(), owners, owned)


def _ladder(samples: Samples, kind: str, is_textured: bool = True) -> np.ndarray:
    return (samples.of("group") == "ladder") & (samples.kind == kind) & (samples.is_textured == is_textured)


def _row(
    samples: Samples,
    signal: str,
    score: np.ndarray,
    among: np.ndarray,
    factor: float,
    what: str,
    scale: np.ndarray | None = None,
) -> Row:
    """Enlarged by `factor` against native, both among these samples; monotone in the true scale over all of them."""
    largest = samples.of("largest_factor")
    bad, good = among & (largest == factor), among & (largest == 1)
    rank = None if scale is None else spearman(list(samples.of("scale")[among]), list(scale[among]))
    kind = str(samples.kind[good][0])
    level = f"x{factor:g}{what}"
    return _judged(samples, signal, kind, level, score, bad, good, rank)


def _judged(
    samples: Samples,
    signal: str,
    kind: str,
    level: str,
    score: np.ndarray,
    bad: np.ndarray,
    good: np.ndarray,
    rank: float | None = None,
) -> Row:
    lists = [values[chosen].tolist() for values in (score, samples.source) for chosen in (bad, good)]
    return judge(signal, kind, level, *lists, spearman=rank)


def _details(samples: Samples, logit: np.ndarray) -> list[Row]:
    """Per kernel, finish, coding and master; rendered and plain pictures; the baselines."""
    photo = _ladder(samples, "photo")
    rows = []
    for field in ("kernel", "post", "coding"):
        for value in sorted(set(samples.of(field)[photo]) - ({"none"} if field == "kernel" else set())):
            is_it = samples.of(field) == value
            among = photo & (is_it | (samples.of("largest_factor") == 1) if field == "kernel" else is_it)
            rows += [_row(samples, SIGNAL, logit, among, f, f", {field} {value}") for f in LADDER_FACTORS]
    for master in ("camera", "crisp"):
        among = photo & (samples.master == master)
        rows += [_row(samples, SIGNAL, logit, among, f, f", {master} masters") for f in LADDER_FACTORS]
    others = ((_ladder(samples, "rendered"), ""), (_ladder(samples, "photo", False), ", without fine texture"))
    for among, what in others:
        if among.any():
            rows += [_row(samples, SIGNAL, logit, among, f, what) for f in LADDER_FACTORS]
    baselines = (("laplacian variance", -samples.laplacian), ("x2 round trip PSNR", samples.psnr_db))
    rows += [_row(samples, name, score, photo, f, "") for name, score in baselines for f in LADDER_FACTORS]
    return rows + _extra_rows(samples, logit)


def _extra_rows(samples: Samples, logit: np.ndarray) -> list[Row]:
    """Beyond the ladder: soft natives, crf 33, HEVC, nearest, line doubling ... against natives of the same drawing."""
    extra = (samples.of("group") == "extra") & (samples.kind == "photo") & samples.is_textured
    if not extra.any():
        return []
    largest = samples.of("largest_factor")
    good = extra & (largest == 1)
    bad = {
        "extra: 1.25 to 1.33": extra & (largest > 1) & (largest < 1.4),
        "extra: 1.5 to 1.75": extra & (largest > 1.4) & (largest < 1.9),
        "extra: 2 and more": extra & (largest >= 2) & (samples.of("kernel") != "lines"),
        "extra: one field, lines doubled": extra & (samples.of("kernel") == "lines"),
    }
    bad = {name: chosen for name, chosen in bad.items() if chosen.any()}
    return [_judged(samples, SIGNAL, "photo", name, logit, b, good) for name, b in bad.items()]


def _scale_note(samples: Samples, scale: np.ndarray, factor: float) -> str:
    found = scale[_ladder(samples, "photo") & (samples.of("largest_factor") == factor)]
    low, middle, high = np.nanquantile(found, [0.1, 0.5, 0.9])
    return f"native_scale at true {1 / factor:.2f}: median {middle:.2f}, 80 % within {low:.2f}-{high:.2f}"


def _plot(samples: Samples, scale: np.ndarray) -> tuple:
    photo, largest = _ladder(samples, "photo"), samples.of("largest_factor")
    true = [1 / f for f in (1.0, *LADDER_FACTORS)]
    curves = []
    for coding in sorted(set(samples.of("coding")[photo])):
        chosen = photo & (samples.of("coding") == coding)
        found = [float(np.nanmedian(scale[chosen & (largest == f)])) for f in (1.0, *LADDER_FACTORS)]
        curves.append((coding, true, found))
    return ("resolution", "Effective resolution", "true share of the linear resolution", "native_scale, median", curves)


# --- real clips --------------------------------------------------------------------------------------------------


def _add_clips(section: Section, names: tuple[str, ...]) -> None:
    """Each clip and its enlarged copies, uncoded and coded again; adds rows, floors and false alarms by name."""
    here = [name for name in names if (CLIP_FOLDER / name).exists()]
    missing = [name for name in names if name not in here]
    if missing:
        section.notes.append(f"clips that are not there: {', '.join(missing)}")
    for name in here:
        said = {key: judged_clip(pictures) for key, pictures in clip_copies(CLIP_FOLDER / name).items()}
        native = {coding: said[1.0, coding] for coding in ("none", "crf18", "crf28")}
        for factor in LADDER_FACTORS:
            wins = [_beats(native[c], said[factor, c]) for c in native]
            if factor > 1.5:
                section.floors.append(Floor(f"{name}: native above x{factor:g} (of 3 codings)", float(sum(wins)), 3))
        values = "; ".join(f"x{f:g} {c}: {_short(said[f, c])}" for f, c in said)
        section.notes.append(f"{name}: probability (native_scale): {values}")
        alarms = [c for c, value in native.items() if value is None or value[0] > FALSE_ALARM]
        if alarms:
            section.notes.append(f"FALSE ALARM {name}: judged enlarged or unknown as it is, at {', '.join(alarms)}")


def _beats(native: tuple[float, float] | None, copy: tuple[float, float] | None) -> bool:
    return native is not None and copy is not None and native[0] < copy[0] and native[1] > copy[1]


def _short(value: tuple[float, float] | None) -> str:
    return "unknown" if value is None else f"{value[0]:.2f} ({value[1]:.2f})"


def judged_clip(pictures: list[np.ndarray]) -> tuple[float, float] | None:
    """(smallest probability, largest native scale) over full-range pictures; None if none can be judged."""
    network = Network.shipped()
    seen = [look(picture, 1.0, 0) for picture in pictures]
    said = [network(windows.spectra_NB) for windows in seen if windows is not None and windows.is_telling]
    if not said:
        return None
    logit, log2_scale = min(s[0] for s in said), max(s[1] for s in said)
    return float(1 / (1 + np.exp(-logit))), float(min(1.0, 2.0**log2_scale))


def clip_copies(path: Path, num_places: int = 3) -> dict[tuple[float, str], list[np.ndarray]]:
    """(factor, coding) -> the pictures at some places of the clip, as full-range uint8 of even size.

    Factor 1 is the clip itself. Coding takes two neighbouring frames and keeps the second.
    """
    pairs = list(_pairs(path, num_places))
    copies = {}
    for factor in (1.0, *LADDER_FACTORS):
        sized = [[f if factor == 1 else degrade.enlarged(f, factor) for f in pair] for pair in pairs]
        copies[factor, "none"] = [pair[-1] for pair in sized]
        for crf in (18, 28):
            copies[factor, f"crf{crf}"] = [degrade.round_trip(pair, crf)[-1] for pair in sized]
    return copies


def _pairs(path: Path, num_places: int) -> Iterator[list[np.ndarray]]:
    """Pairs of neighbouring frames' luma, spread over the clip."""
    from operators.video import open_segment

    with open_segment(str(path)) as segment:
        num_frames = sum(1 for _ in segment)
    wanted = {round(place) for place in np.linspace(1, num_frames - 1, num_places)}
    before = None
    with open_segment(str(path)) as segment:
        for index, frame in enumerate(segment):
            if index not in wanted and index + 1 not in wanted:
                continue
            now = _levels(frame.view(View.LUMA), gain(segment.info), black_code(segment.info))
            if index in wanted and before is not None:
                yield [before, now]
            before = now


def _levels(luma_HW: np.ndarray, factor: float, black: int) -> np.ndarray:
    """uint8 full-range levels of native codes, cropped to even sides."""
    height, width = luma_HW.shape[0] & ~1, luma_HW.shape[1] & ~1
    levels_HW = (luma_HW[:height, :width].astype(np.float32) - black) * factor
    return np.rint(levels_HW.clip(0, 255)).astype(np.uint8)
