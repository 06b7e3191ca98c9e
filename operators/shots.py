# SPDX-License-Identifier: Apache-2.0
"""Where shots end, from the stored series of a source.

PySceneDetect's detectors are its own classes, fed with stored frame scores. `transnet` reads TransNetV2's two heads:
the first says that there is a transition, the second which frames it covers; the coarse layout of the frames around
(meter `layout`) takes back what returns to the same scene (a flash, an explosion, something that passes close by) and
adds wipes, which the network does not see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

CONTENT = ("content_hue", "content_sat", "content_lum")
TRANSNET = ("transnet_cut", "transnet_gradual")
LAGS = (4, 12, 36)  # of meter layout
LAYOUT = (*(f"layout_change_{lag}" for lag in LAGS), "layout_wipe")
DEFAULT_THRESHOLD = {
    "content": 27.0,  # PySceneDetect
    "adaptive": 3.0,  # PySceneDetect, Open-Sora 1.2
    "threshold": 12.0,  # PySceneDetect
    "transnet": 0.3,  # see docs/shots.md; cosmos-curate 0.4, the authors 0.5
    "key_frames": 0.0,
    "none": 0.0,
}
SURE = 0.75  # probability of the first head that needs no second opinion, see `_is_transition`
FAINT = 3.0  # a gradual transition may be this much less sure by the first head if the second is sure,
MEAN_GRADUAL, LONG_FRAMES, LONG_MEAN_GRADUAL = 0.48, 8, 0.36  # on average, at any length and at this one
FAINT_GRADUAL = 0.6  # below this average the scene must also change, over 12 frames
CUT_FRAMES, FAST = 3, 0.45  # a run of at most 3 frames amid change this fast (layout_change_4) is a whip pan's end
GROWN = 3.0  # a transition reaches as far as the second head is above its threshold over this
WIPE_MARGIN = 2  # frames: a soft edge mixes before half of it has passed
_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}  # read by pydantic, which this module does not import


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """What ends a shot.

    Args:
        kind: `content` cuts where a frame's score reaches a threshold (PySceneDetect; cosmos, Panda-70M, MiraData),
            `adaptive` where it stands out from its neighbours (UltraVideo, Open-Sora), `threshold` in the middle of
            a dip to black (PySceneDetect's fade detector), `transnet` where TransNetV2 sees a cut, dissolve or fade
            or the layout shows a wipe, `key_frames` at each key frame, `none` nowhere.
        threshold: score (0-255) for `content`, ratio to the neighbours' mean for `adaptive`, level (0-255) for
            `threshold`, probability for `transnet`; null: 27, 3, 12 and 0.3.
        min_shot_frames: shorter shots are merged (`content`) or not begun (`adaptive`, `threshold`), as
            PySceneDetect does; what lies between a gradual transition and the next transition belongs to them
            (`transnet`).
        window_frames, min_score: neighbours on each side that `adaptive` compares with; score that it also asks for.
        luma_only: `content` and `adaptive` look at brightness alone (PySceneDetect's luma_only).
        gradual_threshold: probability from which a frame is part of a gradual transition (`transnet`).
        wipe_threshold: layout_wipe from which a frame is part of a wipe (`transnet`); null: wipes are not looked for.
        same_below: layout_change below which the scene after a transition is the one before it, so that there is
            none (`transnet`); null: not asked.

    Raises:
        ValueError: an unknown kind, or a bound out of its range.
    """

    kind: Literal["content", "adaptive", "threshold", "transnet", "key_frames", "none"] = "content"
    threshold: float | None = None
    min_shot_frames: int = 15
    window_frames: int = 2
    min_score: float = 15.0
    luma_only: bool = False
    gradual_threshold: float = 0.3
    wipe_threshold: float | None = 0.69
    same_below: float | None = 0.12
    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    def __post_init__(self) -> None:
        if self.kind not in DEFAULT_THRESHOLD:
            raise ValueError(f"detector kind {self.kind!r}: use one of {', '.join(DEFAULT_THRESHOLD)}")
        if self.min_shot_frames < 0 or self.window_frames < 1:
            raise ValueError(
                f"detector needs min_shot_frames >= 0 and window_frames >= 1, got "
                f"{self.min_shot_frames} and {self.window_frames}"
            )
        if self.kind == "transnet" and not (0 < self.level <= 1 and 0 < self.gradual_threshold <= 1):
            raise ValueError(
                f"detector transnet: threshold {self.level} and gradual_threshold {self.gradual_threshold} are "
                "probabilities above 0"
            )

    @property
    def level(self) -> float:
        """The threshold, or the kind's default."""
        return DEFAULT_THRESHOLD[self.kind] if self.threshold is None else self.threshold


@dataclass(frozen=True)
class Transition:
    """Frames [start, end) belong to no shot; of a cut there are none, and frame `start` begins the next shot."""

    kind: str  # cut, gradual, wipe; hole: frames are missing before `start`
    start: int
    end: int


def needed_columns(config: DetectorConfig) -> dict[str, str]:
    """Series column -> meter that writes it, of all that the detector reads."""
    if config.kind in ("content", "adaptive"):
        return dict.fromkeys(CONTENT, "content")
    if config.kind == "threshold":
        return {"layout_level": "layout"}
    if config.kind != "transnet":
        return {}
    needs_layout = config.wipe_threshold is not None or config.same_below is not None
    return dict.fromkeys(TRANSNET, "transnet") | dict.fromkeys(LAYOUT if needs_layout else (), "layout")


def find_transitions(
    series: Mapping[str, np.ndarray], follows: np.ndarray, is_key: np.ndarray, config: DetectorConfig
) -> list[Transition]:
    """All transitions of a source, in order.

    Args:
        series: the columns of `needed_columns`, [N] each; NaN where a value is unknown. A pairwise value belongs to
            the later frame.
        follows: [N] whether the frame follows the one before it; a shot always ends where it does not.
        is_key: [N] key frames.
    """
    is_break = ~follows
    if config.kind in ("content", "adaptive"):
        series = {"score": frame_scores(series, config)}
        is_break = is_break | np.isnan(series["score"])
    breaks = [int(i) for i in np.flatnonzero(is_break) if i > 0]
    found = [Transition("hole", i, i) for i in breaks]
    for start, end in pairwise([0, *breaks, len(follows)]):
        part = {name: values[start:end] for name, values in series.items()}
        found += [Transition(t.kind, t.start + start, t.end + start) for t in _within(part, is_key[start:end], config)]
    return sorted(found, key=lambda t: t.start)


def frame_scores(series: Mapping[str, np.ndarray], config: DetectorConfig) -> np.ndarray:
    """[N] PySceneDetect's content score: the mean of the three channels' differences, or brightness alone."""
    return np.mean([series[name] for name in (CONTENT[2:] if config.luma_only else CONTENT)], axis=0)


def find_shots(transitions: list[Transition], num_frames: int) -> list[tuple[int, int]]:
    """Frame ranges [start, end) of the shots between the transitions."""
    edges = [0, *(edge for t in transitions for edge in (t.start, t.end)), num_frames]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


def _within(part: Mapping[str, np.ndarray], is_key: np.ndarray, config: DetectorConfig) -> list[Transition]:
    """Transitions of a stretch without holes."""
    if config.kind == "transnet":
        return _transnet(part, config)
    if config.kind == "key_frames":
        return [Transition("cut", int(i), int(i)) for i in np.flatnonzero(is_key) if i > 0]
    if config.kind == "none":
        return []
    return [Transition("cut", i, i) for i in _pyscenedetect(part, config) if 0 < i < len(is_key)]


# --- TransNetV2 and the layout ------------------------------------------------------------------------------------


def _transnet(part: Mapping[str, np.ndarray], config: DetectorConfig) -> list[Transition]:
    is_hot = (part[TRANSNET[0]] >= config.level) | (part[TRANSNET[1]] >= config.gradual_threshold)
    runs = [run for run in _runs(is_hot) if _is_transition(part, *run, config)]
    found = [_placed(part, *run, config) for run in runs]
    if config.wipe_threshold is not None:
        num = len(is_hot)
        for start, end in _runs(part["layout_wipe"] >= config.wipe_threshold):
            found.append(Transition("wipe", max(start - WIPE_MARGIN, 0), min(end + WIPE_MARGIN, num)))
    found = [t for t in found if not _returns(part, t, config)]
    return _merged(sorted(found, key=lambda t: t.start), config.min_shot_frames)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """[start, end) of each stretch of True."""
    steps = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return list(zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True))


def _is_transition(part: Mapping[str, np.ndarray], start: int, end: int, config: DetectorConfig) -> bool:
    """Whether frames [start, end), where either head is above its threshold, are a transition.

    If the first head is not sure, a short run must not lie in or beside fast motion, and a longer one must be one to
    the second head.
    """
    peak, gradual = part[TRANSNET[0]][start:end].max(), part[TRANSNET[1]][start:end].mean()
    if peak >= max(SURE, config.level):
        return True
    if end - start <= CUT_FRAMES:
        return bool(peak >= config.level and not _is_fast(part, start, end))
    is_gradual = gradual >= (LONG_MEAN_GRADUAL if end - start >= LONG_FRAMES else MEAN_GRADUAL)
    if gradual < FAINT_GRADUAL and config.same_below is not None:  # a change of focus looks like a faint dissolve
        is_gradual &= part["layout_change_12"][(start + end - 1) // 2] >= config.same_below
    return bool(is_gradual and peak >= config.level / FAINT)


def _is_fast(part: Mapping[str, np.ndarray], start: int, end: int) -> bool:
    """Whether the picture changes fast just before or after, over frames that all lie on one side."""
    changes = part.get("layout_change_4")
    if changes is None:
        return False
    beside = [start - 7, start - 4, end + 2, end + 5]
    return max((changes[t] for t in beside if 0 <= t < len(changes)), default=0.0) >= FAST


def _placed(part: Mapping[str, np.ndarray], start: int, end: int, config: DetectorConfig) -> Transition:
    """A run of one or two frames is a cut after its most probable frame; a longer one is gradual and grows."""
    cut, gradual = part[TRANSNET[0]], part[TRANSNET[1]]
    if end - start <= 2:
        at = start + int(cut[start:end].argmax()) + 1
        return Transition("cut", at, at)
    floor = config.gradual_threshold / GROWN
    while start > 0 and gradual[start - 1] >= floor:
        start -= 1
    while end < len(gradual) and gradual[end] >= floor:
        end += 1
    return Transition("gradual", start, end)


def _returns(part: Mapping[str, np.ndarray], transition: Transition, config: DetectorConfig) -> bool:
    """Whether the scene after the transition is the one before it, over any lag that spans it and is not far longer."""
    if config.same_below is None:
        return False
    length = transition.end - transition.start
    at = min((transition.start + transition.end - 1) // 2, len(part[LAYOUT[0]]) - 1)
    spans = [lag for lag in LAGS if length + 2 <= lag <= max(12, 3 * length + 12)]
    return any(part[f"layout_change_{lag}"][at] < config.same_below for lag in spans)


def _merged(found: list[Transition], min_shot_frames: int) -> list[Transition]:
    """Neighbours that overlap, or leave less than a shot between a gradual transition and another, as one."""
    merged: list[Transition] = []
    for t in found:
        last = merged[-1] if merged else None
        are_cuts = last is not None and last.kind == t.kind == "cut"
        if last is None or t.start - last.end >= (1 if are_cuts else min_shot_frames):
            merged.append(t)
        else:
            kind = last.kind if last.kind != "cut" else t.kind
            merged[-1] = Transition(kind, last.start, max(last.end, t.end))
    return merged


# --- PySceneDetect ------------------------------------------------------------------------------------------------


class _FrameNumber(int):
    """Stands for PySceneDetect's FrameTimecode, of which its detectors use differences in frames."""

    frame_rate = Fraction(1)


def _pyscenedetect(part: Mapping[str, np.ndarray], config: DetectorConfig) -> list[int]:
    """Frames that begin a shot, by PySceneDetect's own classes on stored scores."""
    if config.kind == "threshold":
        return _dips(part["layout_level"], config)
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

    values = part["score"].tolist()
    if values:
        values[0] = 0.0  # PySceneDetect's score of the first frame

    class StoredContent(ContentDetector):
        def _calculate_frame_score(self, timecode: Any, frame_img: Any) -> float:
            return values[timecode]

    class StoredAdaptive(AdaptiveDetector):
        def _calculate_frame_score(self, timecode: Any, frame_img: Any) -> float:
            return values[timecode]

    detector: ContentDetector
    if config.kind == "content":
        detector = StoredContent(threshold=config.level, min_scene_len=config.min_shot_frames)
    else:
        detector = StoredAdaptive(
            adaptive_threshold=config.level,
            min_scene_len=config.min_shot_frames,
            window_width=config.window_frames,
            min_content_val=config.min_score,
        )
    found: set[int] = set()
    for number in map(_FrameNumber, range(len(values))):
        found.update(detector.process_frame(number, None))  # type: ignore[arg-type]
    return sorted(int(cut) for cut in found)


def _dips(levels: np.ndarray, config: DetectorConfig) -> list[int]:
    """Middles of the dips of a picture's mean level below the threshold, by PySceneDetect's ThresholdDetector."""
    from scenedetect import FrameTimecode, ThresholdDetector

    detector = ThresholdDetector(threshold=config.level, min_scene_len=config.min_shot_frames)
    found: list[int] = []
    for number, level in enumerate(levels):
        picture = np.full((1, 1, 3), level, np.float32)
        found += [cut.frame_num for cut in detector.process_frame(FrameTimecode(number, fps=1.0), picture)]
    return found
