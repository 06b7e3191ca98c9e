# SPDX-License-Identifier: Apache-2.0
"""Motion by RAFT, for the published thresholds that were set on it; the cheap measure is the meter `motion`."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources
from operators.decode_ahead import Call, decode_ahead, each_clip
from operators.decode_child import DecodeChild
from operators.embedding import spread
from operators.gpu_batches import Batches
from operators.state_dicts import fitting, read_state
from operators.weights import Need, Weights, locate, weights_hash
from reelmill.column import Column
from reelmill.tables import CLIP_ID, CLIPS, SOURCES

_READS = {column.name: column for column in (*SOURCES, *CLIPS)}
MULTIPLE = 8  # RAFT wants sides that are multiples of this
DECODE_LIMIT_S = 300.0
MIN_PX = 128  # and at least this: its correlation pyramid has four levels of an eighth of the picture
_FAILED = "null if the row failed or the clip is shorter than the step"


@dataclass(frozen=True, kw_only=True)
class Flow(Operator):
    """RAFT's optical flow between pairs of frames `step_s` apart, spread over the clip.

    A flow in pixels means nothing without the picture's size and the time between the frames. The defaults are those of
    LVD-2M, the only work that states both (2 frames a second, 520 x 960, mean >= 20). UltraVideo's 0.1-100 are of an
    unpublished size and interval.

    Reads: the clip's frames and their source.
    Writes: flow_mean_px, flow_px_samples, flow_speed_mean, flow_weights_hash.

    Args:
        weights: torchvision's checkpoint (raft_large_C_T_SKHT_V2-ff5fadd5.pth, raft_small_C_T_V2-01064c6d.pth).
        sha256: of that file; null: not checked.
        model: the network that the checkpoint is of.
        height_px: short side that frames are scaled to, rounded to a multiple of 8.
        step_s: seconds between the two frames of a pair.
        num_pairs: pairs per clip, at most.
        batch_size: pairs in one forward pass.
        device: cpu, or cuda.
        gpu_memory_gb: memory on the GPU that one worker needs; several share a GPU that has more.

    Raises:
        ValueError: a number out of its range, or weights of another network.
    Source: Teed and Deng 2020 (arXiv:2003.12039) in torchvision (BSD-3-Clause); 12 updates, its default.
    """

    name: ClassVar[str] = "flow"
    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size", "device", "gpu_memory_gb"})
    exact: ClassVar[bool] = False
    reads: ClassVar[tuple[Column, ...]] = (
        CLIP_ID,
        *(_READS[name] for name in ("uri", "seek_pts", "frame_pts", "time_base_num", "time_base_den")),
        *(_READS[name] for name in ("width_px", "height_px", "pixel_aspect")),
    )
    writes: ClassVar[tuple[Column, ...]] = (  # type: ignore[assignment]
        Column("flow_px_samples", pa.list_(pa.float32()), f"mean length of each pair's flow, pixels; {_FAILED}"),
        Column("flow_mean_px", pa.float64(), f"their mean, pixels at `height_px` and `step_s`; {_FAILED}"),
        Column("flow_speed_mean", pa.float64(), f"the same in short sides of the frame per second; {_FAILED}"),
        Column("flow_weights_hash", pa.string(), f"sha256 of the weights; {_FAILED}"),
    )

    weights: str
    sha256: str | None = None
    model: Literal["raft_large", "raft_small"] = "raft_large"
    height_px: int = 520
    step_s: float = 0.5
    num_pairs: int = 4
    batch_size: int = 2
    device: Literal["cpu", "cuda"] = "cpu"
    gpu_memory_gb: float = 6.0

    def __post_init__(self) -> None:
        Weights(self.weights, self.sha256)
        if self.height_px < MIN_PX:
            raise ValueError(f"flow: height_px is {self.height_px}, it must be at least {MIN_PX}")
        if self.num_pairs < 1 or self.batch_size < 1 or not self.step_s > 0:
            raise ValueError("flow: num_pairs and batch_size must be at least 1, and step_s above 0")

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Need(Weights(self.weights, self.sha256), "BSD-3-Clause", f"torchvision's {self.model} checkpoint"),)

    @property
    def seconds_per_row(self) -> float:  # type: ignore[override]
        """A GPU is done before the next clip is decoded: blocks of several clips, so that the two overlap."""
        return 2.0 if self.device == "cuda" else 20.0

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        """A share of a GPU if `device` is cuda."""
        return Resources(num_cpus=1.0, memory_gb=3.0).on(self.device, self.gpu_memory_gb)

    def setup(self) -> tuple[Batches, str, DecodeChild]:
        import torch

        path = locate(Weights(self.weights, self.sha256))
        network = load_raft(self.model, read_state(path)).to(self.device)
        # in float32: what RAFT's correlations lose in bfloat16 has not been measured
        flows = Batches(partial(flow_lengths, network), self.batch_size, self.device, in_bfloat16=False)
        if self.device == "cuda":
            flows.warm_up(torch.zeros(2, *flow_size(16, 9, 1.0, self.height_px), 3, dtype=torch.uint8))
        return flows, weights_hash(path), DecodeChild(4.0)

    def process(self, state: tuple[Batches, str, DecodeChild], batch: pa.Table) -> pa.Table:
        """The batch with the flow columns; a clip whose frames do not decode gets its error and nulls."""
        network, digest, child = state
        rows = batch.select([column.name for column in self.reads]).to_pylist()
        calls = (self._call(row) for row in rows)
        decoded = decode_ahead(child, "operators.video:read_frames", calls, DECODE_LIMIT_S)
        return self.with_writes(batch, each_clip(rows, decoded, partial(self._cells, network, digest)))

    def close(self, state: tuple[Batches, str, DecodeChild]) -> None:
        state[2].close()

    def _pairs(self, row: dict[str, Any]) -> list[tuple[int, int]]:
        return pairs_of(row["frame_pts"], self.step_s * row["time_base_den"] / row["time_base_num"], self.num_pairs)

    def _size(self, row: dict[str, Any]) -> tuple[int, int]:
        return flow_size(row["width_px"], row["height_px"], row["pixel_aspect"], self.height_px)

    def _call(self, row: dict[str, Any]) -> Call | None:
        wanted = sorted({pts for pair in self._pairs(row) for pts in pair})
        call = {"uri": row["uri"], "frame_pts": wanted, "seek_pts": row["seek_pts"], "size": self._size(row)}
        return call if wanted else None

    def _cells(self, network: Batches, digest: str, row: dict[str, Any], frames: Any) -> dict[str, Any]:
        import torch

        pairs = self._pairs(row)
        if not pairs:
            return {}
        place = {pts: k for k, pts in enumerate(sorted({pts for pair in pairs for pts in pair}))}
        frames_P2HWC = np.stack([frames[[place[a], place[b]]] for a, b in pairs])
        lengths_P = network(torch.from_numpy(frames_P2HWC)).numpy()
        seconds = np.array([b - a for a, b in pairs]) * row["time_base_num"] / row["time_base_den"]
        return {
            "flow_px_samples": lengths_P,
            "flow_mean_px": float(lengths_P.mean()),
            "flow_speed_mean": float((lengths_P / seconds).mean() / min(self._size(row))),
            "flow_weights_hash": digest,
        }


def pairs_of(frame_pts: list[int], step_pts: float, num: int) -> list[tuple[int, int]]:
    """Pairs of frames one step apart whose first frames are spread over the clip; none in a clip below a step."""
    pts = np.array(frame_pts)
    firsts = [int(p) for p in pts[pts + step_pts <= pts[-1] + step_pts / 20]]
    return (
        [(first, int(pts[np.abs(pts - first - step_pts).argmin()])) for first in spread(firsts, num)] if firsts else []
    )


def flow_size(width_px: int, height_px: int, pixel_aspect: float, short_px: int) -> tuple[int, int]:
    """(height, width) in square pixels with the short side about `short_px`, both multiples of 8."""
    width = width_px * pixel_aspect
    scale = short_px / min(width, height_px)
    height, width = (max(MIN_PX, round(side * scale / MULTIPLE) * MULTIPLE) for side in (height_px, width))
    return height, width


def load_raft(model: str, state: dict[str, Any]) -> Any:
    """torchvision's network with weights. Raises ValueError if they are another's."""
    from torchvision.models import optical_flow

    network = getattr(optical_flow, model)(weights=None, progress=False)
    own = network.state_dict()
    floats = {name: tuple(t.shape) for name, t in own.items() if t.is_floating_point()}
    network.load_state_dict(fitting(state, floats, model), strict=False)  # counters of batch norms stay
    return network.eval()


def flow_lengths(network: Any, pairs_P2HWC: Any) -> Any:
    """float32 [P]: mean length of the flow after the last update, of pairs of uint8 RGB frames, pixels."""
    frames_P2CHW = pairs_P2HWC.permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    flow_P2HW = network(frames_P2CHW[:, 0].contiguous(), frames_P2CHW[:, 1].contiguous())[-1]
    return flow_P2HW.pow(2).sum(1).sqrt().flatten(1).mean(1)
