# SPDX-License-Identifier: Apache-2.0
"""What a shot detector is told, and what it says."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

DEFAULT_THRESHOLD = {
    "content": 27.0,  # PySceneDetect
    "adaptive": 3.0,  # PySceneDetect, Open-Sora 1.2
    "threshold": 12.0,  # PySceneDetect
    "transnet": 0.3,  # see docs/shots.md; cosmos-curate 0.4, the authors 0.5
    "key_frames": 0.0,
    "none": 0.0,
}
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
    wipe_threshold: float | None = 0.5
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
