# SPDX-License-Identifier: Apache-2.0
"""Where shots end, from the stored series of a source.

PySceneDetect's detectors are its own classes, fed with stored frame scores; the rules of detector `transnet` are in
`transnet_shots`.
"""

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from operators.detector import DetectorConfig, Transition
from operators.transnet_shots import LAYOUT, TRANSNET, transitions_seen

CONTENT = ("content_hue", "content_sat", "content_lum")


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
        return transitions_seen(part, config)
    if config.kind == "key_frames":
        return [Transition("cut", int(i), int(i)) for i in np.flatnonzero(is_key) if i > 0]
    if config.kind == "none":
        return []
    return [Transition("cut", i, i) for i in _pyscenedetect(part, config) if 0 < i < len(is_key)]


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
