# SPDX-License-Identifier: Apache-2.0
"""TransNetV2 and the coarse layout as meters: what they say of rendered transitions, and what they leave alone."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from operators.contract import StreamInfo
from operators.meters import layout
from operators.meters.layout import LAGS, Layout, _change, lone_change
from operators.meters.transnet import CONTEXT, WINDOW, Transnet, load_network

INFO = StreamInfo(width_px=256, height_px=144, fps=30.0)


def picture(seed: int) -> np.ndarray:
    """uint8 [144, 256, 3]: large soft blots of colour with some texture."""
    import cv2

    rng = np.random.default_rng(seed)
    blots = cv2.resize(rng.uniform(0, 255, (5, 8, 3)).astype(np.float32), (256, 144), interpolation=cv2.INTER_CUBIC)
    return np.clip(blots + rng.normal(0, 8, (144, 256, 1)), 0, 255).astype(np.uint8)


def moving(seed: int, num: int, speed_px: float = 0.5) -> list[np.ndarray]:
    """A slow pan over `picture`."""
    return [np.roll(picture(seed), round(speed_px * t), axis=1) for t in range(num)]


def mixed(a: np.ndarray, b: np.ndarray, share_b: np.ndarray | float) -> np.ndarray:
    return (a * (1.0 - share_b) + b * share_b).astype(np.uint8)


def dissolve(num_before: int, length: int, num_after: int) -> list[np.ndarray]:
    a, b = moving(1, num_before + length), moving(2, length + num_after)
    blend = [mixed(a[num_before + k], b[k], (k + 1) / (length + 1)) for k in range(length)]
    return [*a[:num_before], *blend, *b[length:]]


def wipe(
    num_before: int, length: int, num_after: int, order_HW: np.ndarray, soft: float = 0.02, speed_px: float = 0.1
) -> list[np.ndarray]:
    """`order_HW` (0-1) says when each pixel goes over."""
    a, b = moving(1, num_before + length, speed_px), moving(2, length + num_after, -speed_px)
    blend = []
    for k in range(length):
        share = np.clip(((k + 1) / (length + 1) * (1 + soft) - order_HW) / soft, 0, 1)[:, :, None]
        blend.append(mixed(a[num_before + k], b[k], share))
    return [*a[:num_before], *blend, *b[length:]]


def run(meter: Transnet | Layout, frames: list[np.ndarray]) -> dict[str, np.ndarray]:
    update = meter.start(INFO)
    for t, frame in enumerate(frames):
        update(frame, t / 30)
    values = update.finish()
    assert len(values) == len(frames)
    names = [column.name for column in meter.writes]
    return {name: np.array([v[i] for v in values], float) for i, name in enumerate(names)}


# --- TransNetV2 -------------------------------------------------------------------------------------------------


def test_loading_leaves_the_process_as_it_was() -> None:
    """The package's constructor seeds everything with 42 and makes torch deterministic."""
    import torch

    load_network.cache_clear()
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    before = random.getstate(), str(np.random.get_state()), torch.random.get_rng_state()
    torch.backends.cudnn.benchmark = True
    num_threads = torch.get_num_threads()
    try:
        load_network("cpu")
        assert random.getstate() == before[0]
        assert str(np.random.get_state()) == before[1]
        assert torch.equal(torch.random.get_rng_state(), before[2])
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
        assert not torch.backends.cudnn.deterministic
        run(Transnet(), [picture(0)])
        assert torch.get_num_threads() == num_threads
    finally:
        torch.backends.cudnn.benchmark = False


def test_values_are_those_of_the_packages_own_windows() -> None:
    import cv2
    import torch

    frames = [*moving(1, 70), *moving(2, 63)]
    ours = run(Transnet(), frames)
    small = np.stack([cv2.resize(f, (48, 27), interpolation=cv2.INTER_AREA)[:, :, ::-1] for f in frames])
    theirs = load_network("cpu").predict_frames(torch.from_numpy(small), quiet=True)
    for name, values in zip(("transnet_cut", "transnet_gradual"), theirs, strict=True):
        np.testing.assert_allclose(ours[name], values.numpy(), atol=1e-5)


def test_a_cut_is_at_the_last_frame_of_the_old_shot() -> None:
    series = run(Transnet(), [*moving(1, 40), *moving(2, 40)])
    assert series["transnet_cut"].argmax() == 39
    assert series["transnet_cut"][39] > 0.9
    assert np.delete(series["transnet_cut"], 39).max() < 0.1


def test_a_cut_between_a_segment_and_the_frame_after_it() -> None:
    series = run(Transnet(), [*moving(1, 60), picture(2)])
    assert series["transnet_cut"][:-1].argmax() == 59
    assert series["transnet_cut"][59] > 0.5


def test_a_dissolve_is_covered_by_the_second_head() -> None:
    series = run(Transnet(), dissolve(50, 20, 50))
    inside = np.flatnonzero(series["transnet_gradual"] > 0.3)
    np.testing.assert_allclose(inside[[0, -1]], [50, 69], atol=3)
    assert series["transnet_cut"][45:75].max() > 0.3


@pytest.mark.parametrize("num", [1, WINDOW - 2 * CONTEXT, WINDOW - 2 * CONTEXT + 1])
def test_every_length_has_as_many_values_as_frames(num: int) -> None:
    assert np.isfinite(run(Transnet(), moving(1, num))["transnet_cut"]).all()


def test_memory_does_not_grow_with_the_segment() -> None:
    update = Transnet().start(INFO)
    frame = picture(1)
    for t in range(230):
        update(frame, t / 30)
        assert len(update.waiting) < WINDOW  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(1, 1), (5, 16), (455, 256), (7, 256)])
@pytest.mark.parametrize("meter", [Transnet(), Layout()], ids=lambda meter: meter.name)
def test_pictures_of_any_shape(meter: Transnet | Layout, shape: tuple[int, int]) -> None:
    frames = [np.full((*shape, 3), level, np.uint8) for level in (0, 90, 90)]
    for values in run(meter, frames).values():
        assert np.isfinite(values).all()


def test_unknown_device() -> None:
    with pytest.raises(ValueError, match="device is 'tpu'"):
        Transnet(device="tpu")  # type: ignore[arg-type]


# --- the layout ---------------------------------------------------------------------------------------------------

Y, X = np.mgrid[:144, :256] / np.array([144, 256])[:, None, None]
ORDERS: dict[str, np.ndarray] = {
    "right": X,
    "up": 1 - Y,
    "diagonal": (X + Y) / 2,
    "iris": np.hypot(X - 0.5, Y - 0.5) / np.hypot(0.5, 0.5),
    "clock": (np.arctan2(X - 0.5, 0.5 - Y) / (2 * np.pi)) % 1,
}


@pytest.mark.parametrize("shape", ORDERS)
@pytest.mark.parametrize(("length", "speed_px"), [(12, 0.1), (30, 0.1), (30, 3.0)])
def test_wipes_are_seen_where_they_are(shape: str, length: int, speed_px: float) -> None:
    """Also between shots that move, here by a whole picture in 3 s."""
    sure = run(Layout(), wipe(45, length, 45, ORDERS[shape], speed_px=speed_px))["layout_wipe"]
    inside = np.flatnonzero(sure > 0.5)
    np.testing.assert_allclose(inside[[0, -1]], [45, 45 + length - 1], atol=5)
    assert sure[:38].max() == sure[45 + length + 5 :].max() == 0


def whip(num_before: int, length: int, num_after: int) -> list[np.ndarray]:
    """A whole turn over one picture."""
    return [
        np.roll(picture(1), round(256 * np.clip((t - num_before) / length, 0, 1) + 0.5 * t), axis=1)
        for t in range(num_before + length + num_after)
    ]


def passing(num: int, length: int) -> list[np.ndarray]:
    """Something covers most of the picture on its way through it."""
    frames = moving(1, num)
    for k in range(length):
        left = round(-180 + (k + 1) / (length + 1) * (256 + 180))
        frames[40 + k][20:, max(left, 0) : max(left + 180, 0)] = (90, 60, 140)
    return frames


@pytest.mark.parametrize(
    "frames",
    [
        lambda: dissolve(40, 20, 40),
        lambda: dissolve(40, 8, 40),
        lambda: [*moving(1, 50), *moving(2, 50)],
        lambda: moving(1, 100, 6.0),  # the whole picture passes in 43 frames
        lambda: whip(40, 10, 40),
        lambda: passing(100, 20),
        lambda: [mixed(f, picture(2), 0.5 * (t % 9 == 0)) for t, f in enumerate(moving(1, 90))],  # flashes
    ],
    ids=["dissolve", "short dissolve", "cut", "pan", "whip pan", "passer", "flashes"],
)
def test_no_wipe_without_one(frames: Callable[[], list[np.ndarray]]) -> None:
    assert run(Layout(), frames())["layout_wipe"].max() < 0.5


def test_values_do_not_depend_on_how_many_pictures_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [*wipe(45, 30, 60, ORDERS["clock"]), *moving(3, 40), *wipe(20, 12, 70, ORDERS["up"])]
    monkeypatch.setattr(layout, "FRAMES_AT_ONCE", len(frames))
    at_once = run(Layout(), frames)
    monkeypatch.setattr(layout, "FRAMES_AT_ONCE", 7)
    update: Any = Layout().start(INFO)
    for t, frame in enumerate(frames):
        update(frame, t / 30)
        assert len(update.grids) < layout.FRAMES_BEHIND + 7 + layout.FRAMES_AHEAD < len(frames)
    assert at_once["layout_wipe"].max() > 0.5
    by_pieces = list(zip(*update.finish(), strict=True))
    for column, values in zip(Layout.writes, by_pieces, strict=True):
        np.testing.assert_array_equal(at_once[column.name], values)


def test_change_is_blind_to_brightness_and_small_moves_and_not_to_another_scene() -> None:
    first = picture(1)[::8, ::8].copy()
    assert _change(first, np.clip(first * 0.6 + 20, 0, 255).astype(np.uint8), (1, 2)) < 0.01
    assert _change(first, np.roll(first, 1, axis=1), (1, 2)) < 0.05
    assert _change(first, picture(2)[::8, ::8].copy(), (4, 8)) > 0.5


def test_changes_span_their_lag() -> None:
    series = run(Layout(), [*moving(1, 40, 0.0), *moving(2, 40, 0.0)])
    for lag in LAGS:
        high = np.flatnonzero(series[f"layout_change_{lag}"] > 0.3)
        assert (high[0], high[-1]) == (40 - lag // 2, 39 + lag // 2)
    assert series["layout_level"][0] == pytest.approx(picture(1).mean(), abs=1)


def test_inner_cut_score_of_clips() -> None:
    flat = np.zeros(60)
    assert lone_change(flat, 12) == 0
    assert np.isnan(lone_change(flat[:36], 12))
    cut = flat.copy()
    cut[24:36] = 0.8  # a change over 12 frames around frame 30
    assert lone_change(cut, 12) == pytest.approx(0.8)
    assert lone_change(np.full(60, 0.8), 12) == 0  # an even pan
