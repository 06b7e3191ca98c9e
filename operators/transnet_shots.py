# SPDX-License-Identifier: Apache-2.0
"""Transitions from the stored series of meters `transnet` and `layout`.

TransNetV2's first head says that there is a transition, the second which frames it covers; the coarse layout of the
frames around takes back what returns to the same scene (a flash, an explosion, something that passes close by) or what
a fast camera explains, and adds wipes and slow changes, which the network does not see.
"""

from collections.abc import Mapping

import numpy as np

from operators.detector import DetectorConfig, Transition

TRANSNET = ("transnet_cut", "transnet_gradual")
LAGS = (4, 12, 36)  # of meter layout
LAYOUT = (*(f"layout_change_{lag}" for lag in LAGS), "layout_change_far", "layout_wipe", "layout_level")
SURE = 0.75  # probability of the first head that needs no second opinion, see `_is_transition`
FAINT = 3.0  # a gradual transition may be this much less sure by the first head if the second is sure,
MEAN_GRADUAL, LONG_FRAMES, LONG_MEAN_GRADUAL = 0.48, 8, 0.36  # on average, at any length and at this one
FAINT_PEAK, FAINT_GRADUAL = 0.5, 0.75  # where neither head is surer, the scene must also change,
FAR_SAME = 0.2  # by more than this (layout_change_far): a fast pan, something that passes by, a change of focus
WHIP, WHIP_FRAMES = 0.75, 9  # layout_change_4 amid so short a run of a whip pan, or of something that passes by
CUT_FRAMES, FAST = 3, 0.45  # a run of at most 3 frames amid change this fast (layout_change_4) is a whip pan's end
LONE, SLOW, LONG, FAR = 0.4, 0.3, 0.8, 0.3  # a slow change of scene that the network hardly sees, see `_is_slow_change`
STILL, STILL_LEVELS, STILL_FRAMES = 0.03, 8.0, 12  # change over 12 frames and of brightness, see `_is_scene_change`
GROWN = 3.0  # a transition reaches as far as the second head is above its threshold over this
WIPE_MARGIN = 3  # frames: a soft edge mixes before half of it has passed


def transitions_seen(part: Mapping[str, np.ndarray], config: DetectorConfig) -> list[Transition]:
    """Transitions of a stretch without holes, in order.

    Args:
        part: the columns TRANSNET and, if the configuration asks for wipes or `same_below`, LAYOUT, [T] each.
    """
    is_hot = (part[TRANSNET[0]] >= config.level) | (part[TRANSNET[1]] >= config.gradual_threshold)
    if config.same_below is None:
        runs = [run for run in _runs(is_hot) if _is_transition(part, *run, config)]
    else:
        is_slow = _is_slow_change(part)
        is_hot |= (part[TRANSNET[1]] >= config.gradual_threshold / GROWN) & is_slow
        runs = [run for run in _runs(is_hot) if _is_scene_change(part, *run, is_slow, config)]
    found = [_placed(part, *run, config) for run in runs]
    if config.wipe_threshold is not None:
        num = len(is_hot)
        for start, end in _runs(part["layout_wipe"] >= config.wipe_threshold):
            found.append(Transition("wipe", max(start - WIPE_MARGIN, 0), min(end + WIPE_MARGIN, num)))
    found = [t for t in found if not _returns(part, t, config)]
    return _merged(sorted(found, key=lambda t: t.start), config.min_shot_frames)


def _is_slow_change(part: Mapping[str, np.ndarray]) -> np.ndarray:
    """[T] whether the scene changes here, and neither before nor after, too slowly for a camera that turns away.

    Between pictures of much the same colours TransNetV2 hardly notices a long dissolve.
    """
    over = {lag: part[f"layout_change_{lag}"] for lag in LAGS}
    last, frames = len(over[36]) - 1, np.arange(len(over[36]))
    beside = (over[36][np.maximum(frames - 36, 0)] + over[36][np.minimum(frames + 36, last)]) / 2
    is_slow = (over[4] < SLOW) & (over[12] < LONG * over[36])
    return is_slow & (over[36] - beside >= LONE) & (part["layout_change_far"] >= FAR)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """[start, end) of each stretch of True."""
    steps = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return list(zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True))


def _is_transition(part: Mapping[str, np.ndarray], start: int, end: int, config: DetectorConfig) -> bool:
    """Whether frames [start, end), where either head is above its threshold, are a transition to the network.

    If the first head is not sure, a short run must not lie in or beside fast motion, and a longer one must be one to
    the second head.
    """
    peak, gradual = part[TRANSNET[0]][start:end].max(), part[TRANSNET[1]][start:end].mean()
    if peak >= max(SURE, config.level):
        return True
    if end - start <= CUT_FRAMES:
        return bool(peak >= config.level and not _is_fast(part, start, end))
    is_gradual = gradual >= (LONG_MEAN_GRADUAL if end - start >= LONG_FRAMES else MEAN_GRADUAL)
    return bool(is_gradual and peak >= config.level / FAINT)


def _is_scene_change(
    part: Mapping[str, np.ndarray], start: int, end: int, is_slow: np.ndarray, config: DetectorConfig
) -> bool:
    """Whether frames [start, end) are a transition to the network and to the layout, or a slow change to the layout.

    Where the network is not sure of a gradual transition, the scene must change whatever the camera does, and not all
    within a few frames. Where nothing changes in the middle, and a dissolve changes most there, nor the brightness, it
    is a change of focus.
    """
    length, middle = end - start, (start + end - 1) // 2
    is_still = length >= STILL_FRAMES and part["layout_change_12"][middle] < STILL
    if is_still and np.ptp(part["layout_level"][start:end]) < STILL_LEVELS:
        return False
    if length > CUT_FRAMES and is_slow[start:end].mean() > 0.5:
        return True
    peak, gradual = part[TRANSNET[0]][start:end].max(), part[TRANSNET[1]][start:end].mean()
    is_faint = peak < FAINT_PEAK and gradual < FAINT_GRADUAL and part["layout_change_far"][middle] < FAR_SAME
    is_whip = peak < SURE and length <= WHIP_FRAMES and part["layout_change_4"][middle] >= WHIP
    if length > CUT_FRAMES and (is_faint or is_whip):
        return False
    return _is_transition(part, start, end, config)


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
