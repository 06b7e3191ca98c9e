# SPDX-License-Identifier: Apache-2.0
"""What FasterVQA and FAST-VQA share: fragments of native pixels, their network, and an operator around both.

A fragment is a square of 32 x 32 pixels at native size. 7 x 7 of them, one drawn in each cell of a grid over the frame
(or over a tile of it), stand side by side in a network's input of 224 x 224: texture is seen as it is, wherever it is.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources
from operators.decode_ahead import Call, decode_ahead, each_clip
from operators.decode_child import DecodeChild
from operators.gpu_batches import Batches
from operators.state_dicts import fitting, read_state
from operators.weights import Need, Weights, locate, weights_hash
from reelmill.column import Column
from reelmill.tables import CLIP_ID, CLIPS, SOURCES

_READS = {column.name: column for column in (*SOURCES, *CLIPS)}
GRID, FRAGMENT_PX = 7, 32  # fragments along and across, and their size: 224 x 224 in all
INPUT_PX = GRID * FRAGMENT_PX
INPUT_FRAMES = 32
MEAN_RGB, STD_RGB = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
FAILED = "null if the row failed"


@dataclass(frozen=True, kw_only=True)
class FragmentModel(Operator):
    """Decodes `frames_of` a clip at native size, cuts fragments out, and writes what `values` says of their scores.

    Args:
        weights: the published file: a path, s3://, or hf://ORG/NAME@COMMIT/FILE.
        sha256: of that file; null: not checked.
        draws: times the fragments are drawn.
        seed: of the draws; frames and places depend on it and on the clip's length and size alone.
        batch_size: inputs of 32 frames in one forward pass.
        device: cpu, or cuda.
        gpu_memory_gb: memory on the GPU that one worker needs; several share a GPU that has more.
        time_limit_s: seconds to decode one clip, above which the row fails with kind `resource`.

    Raises:
        ValueError: a number out of its range, or weights of another network.
    """

    aligned_frames: ClassVar[int]  # frames in which a fragment keeps its place
    network: ClassVar[str]  # whose weights are wanted, for errors
    licence: ClassVar[str]
    published: ClassVar[str]  # where people get the weights
    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size", "device", "gpu_memory_gb", "time_limit_s"})
    exact: ClassVar[bool] = False  # matrix products differ in the last digits between machines and batches
    reads: ClassVar[tuple[Column, ...]] = (
        CLIP_ID,
        *(_READS[name] for name in ("uri", "seek_pts", "frame_pts", "width_px", "height_px")),
    )

    weights: str
    sha256: str | None = None
    draws: int = 3
    seed: int = 0
    batch_size: int = 4
    device: Literal["cpu", "cuda"] = "cpu"
    gpu_memory_gb: float = 8.0
    time_limit_s: float = 600.0

    def __post_init__(self) -> None:
        Weights(self.weights, self.sha256)
        for field in ("draws", "batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"{self.name}: {field} is {getattr(self, field)}, it must be at least 1")

    @abstractmethod
    def frames_of(self, num_frames: int) -> list[int]:
        """Indices of the frames that are looked at: 32 for each input, in any order, some of them twice if need be."""

    @abstractmethod
    def values(self, raw_DTP: np.ndarray) -> dict[str, Any]:
        """The score columns, from the network's numbers for each draw, tile and input in time."""

    def tiles_of(self, row: dict[str, Any]) -> int:
        """Tiles along and across of the clip's frames."""
        return 1

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Need(Weights(self.weights, self.sha256), self.licence, self.published),)

    @property
    def seconds_per_row(self) -> float:  # type: ignore[override]
        """A GPU is done before the next clip is decoded: blocks of several clips, so that the two overlap."""
        return 2.0 if self.device == "cuda" else 30.0

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        """A share of a GPU if `device` is cuda."""
        return Resources(num_cpus=1.0, memory_gb=4.0).on(self.device, self.gpu_memory_gb)

    @classmethod
    def facts(cls) -> tuple[Column, Column]:
        """The two columns that say what was looked at by which network."""
        share = "pixels that the network saw of a frame over its pixels, 0-1, overlaps counted twice; " + FAILED
        return (
            Column(f"{cls.name}_pixel_share", pa.float64(), share),
            Column(f"{cls.name}_weights_hash", pa.string(), f"sha256 of the weights; {FAILED}"),
        )

    def setup(self) -> tuple[Batches, str, DecodeChild]:
        import torch

        path = locate(Weights(self.weights, self.sha256))
        network = load_network(read_state(path), self.network).to(self.device)
        batches = Batches(network, self.batch_size, self.device)
        if self.device == "cuda":
            batches.warm_up(torch.zeros(3, INPUT_FRAMES, INPUT_PX, INPUT_PX))
        return batches, weights_hash(path), DecodeChild(4.0)

    def process(self, state: tuple[Batches, str, DecodeChild], batch: pa.Table) -> pa.Table:
        """The batch with the score columns; a clip whose frames do not decode gets its error and nulls."""
        network, digest, child = state
        rows = batch.select([column.name for column in self.reads]).to_pylist()
        calls = (self._call(row) for row in rows)
        decoded = decode_ahead(child, "operators.fragments:read_fragments", calls, self.time_limit_s)
        return self.with_writes(batch, each_clip(rows, decoded, partial(self._cells, network, digest)))

    def close(self, state: tuple[Batches, str, DecodeChild]) -> None:
        state[2].close()

    def _call(self, row: dict[str, Any]) -> Call:
        return {
            "uri": row["uri"],
            "frame_pts": [row["frame_pts"][i] for i in self.frames_of(len(row["frame_pts"]))],
            "seek_pts": row["seek_pts"],
            "tiles": self.tiles_of(row),
            "draws": self.draws,
            "seed": self.seed,
            "aligned_frames": self.aligned_frames,
        }

    def _cells(self, network: Batches, digest: str, row: dict[str, Any], fragments_NTHWC: Any) -> dict[str, Any]:
        tiles = self.tiles_of(row)
        inputs_NTHWC = fragments_NTHWC.reshape(-1, INPUT_FRAMES, INPUT_PX, INPUT_PX, 3)
        raw_DTP = scores_of(network, inputs_NTHWC).reshape(self.draws, tiles**2, -1)
        seen = self.draws * tiles**2 * INPUT_PX**2 / (row["width_px"] * row["height_px"])
        facts = {f"{self.name}_pixel_share": min(1.0, seen), f"{self.name}_weights_hash": digest}
        return self.values(raw_DTP) | facts


def load_network(state: dict[str, Any], what: str) -> Any:
    """The network with published weights of `what`. Raises ValueError if they are another's."""
    import json

    from operators.swin3d import FragmentQuality

    shapes = json.loads(Path(__file__).with_name("fragment_quality.json").read_text())
    network = FragmentQuality()
    network.load_state_dict(fitting(state, {name: tuple(shape) for name, shape in shapes.items()}, what))
    return network.eval()


def scores_of(network: Batches, inputs_NTHWC: np.ndarray) -> np.ndarray:
    """float64 [N]: the mean of the network's map for each input, uint8 RGB [N, 32, 224, 224, 3]."""
    import torch

    mean, std = torch.tensor(MEAN_RGB), torch.tensor(STD_RGB)
    pixels_NCTHW = ((torch.from_numpy(inputs_NTHWC).float() - mean) / std).permute(0, 4, 1, 2, 3)
    return network(pixels_NCTHW).flatten(1).mean(1).double().numpy()


def read_fragments(
    uri: str,
    frame_pts: Sequence[int],
    seek_pts: int | None,
    tiles: int,
    draws: int,
    seed: int,
    aligned_frames: int,
) -> np.ndarray:
    """uint8 RGB [draws * tiles * tiles, T, 224, 224, 3]: fragments of native frames, one frame in memory at a time.

    `frame_pts` may go back and repeat; each frame is decoded once. Runs in the decode child. Raises RowError.
    """
    from operators.video import each_frame

    found_NTHWC = np.empty((draws * tiles * tiles, len(frame_pts), INPUT_PX, INPUT_PX, 3), np.uint8)
    num_groups = len(frame_pts) // aligned_frames
    wanted = sorted(set(frame_pts))
    shape: tuple[int, ...] = ()
    places: list[np.ndarray] = []
    for pts, rgb_HWC in zip(wanted, each_frame(uri, wanted, seek_pts), strict=True):
        rgb_HWC = enlarged(rgb_HWC, tiles)
        if rgb_HWC.shape != shape:
            shape = rgb_HWC.shape
            places = [fragment_places(rgb_HWC.shape[:2], tiles, seed, draw, num_groups) for draw in range(draws)]
        for index in (place for place, at in enumerate(frame_pts) if at == pts):
            for draw in range(draws):
                part = found_NTHWC[draw * tiles**2 : (draw + 1) * tiles**2, index]
                cut(rgb_HWC, places[draw][index // aligned_frames], part)
    return found_NTHWC


def enlarged(rgb_HWC: np.ndarray, tiles: int) -> np.ndarray:
    """The frame, enlarged if a tile of it is smaller than the network's input."""
    import cv2

    factor = tiles * INPUT_PX / min(rgb_HWC.shape[:2])
    if factor <= 1:
        return rgb_HWC
    size = [max(tiles * INPUT_PX, round(side * factor)) for side in rgb_HWC.shape[1::-1]]
    return cv2.resize(rgb_HWC, size, interpolation=cv2.INTER_LINEAR)


def fragment_places(size: tuple[int, int], tiles: int, seed: int, draw: int, num_groups: int) -> np.ndarray:
    """int [groups of frames, tiles * tiles, 7, 7, 2]: top and left of each fragment, drawn within its cell."""
    rng = np.random.default_rng([seed, 1, draw])
    cells = tiles * GRID
    tops, lefts = (np.arange(cells) * (side // cells) for side in size)
    room = [max(1, side // cells - FRAGMENT_PX + 1) for side in size]
    drawn = np.stack([rng.integers(0, most, (num_groups, cells, cells)) for most in room], axis=-1)
    drawn += np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1)
    by_tile = drawn.reshape(num_groups, tiles, GRID, tiles, GRID, 2).transpose(0, 1, 3, 2, 4, 5)
    return by_tile.reshape(num_groups, tiles * tiles, GRID, GRID, 2)


def cut(rgb_HWC: np.ndarray, places_NYX2: np.ndarray, into_NHWC: np.ndarray) -> None:
    """Copies the fragments at `places` [tiles, 7, 7, 2] side by side into [tiles, 224, 224, 3]."""
    for tile, row, column in np.ndindex(places_NYX2.shape[:3]):
        top, left = places_NYX2[tile, row, column]
        y, x = row * FRAGMENT_PX, column * FRAGMENT_PX
        into_NHWC[tile, y : y + FRAGMENT_PX, x : x + FRAGMENT_PX] = rgb_HWC[
            top : top + FRAGMENT_PX, left : left + FRAGMENT_PX
        ]
