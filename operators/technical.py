# SPDX-License-Identifier: Apache-2.0
"""Technical quality at native resolution: FasterVQA over fragments cut out of the full frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources, RowError
from operators.decode_child import DecodeChild
from operators.gpu_batches import Batches
from operators.state_dicts import fitting, read_state
from operators.weights import Need, Weights, locate, weights_hash
from reelmill.column import Column
from reelmill.tables import CLIP_ID, CLIPS, SOURCES

_READS = {column.name: column for column in (*SOURCES, *CLIPS)}
GRID, FRAGMENT_PX = 7, 32  # fragments along and across, and their size: 224 x 224 in all
INPUT_PX = GRID * FRAGMENT_PX
NUM_PIECES, PIECE_FRAMES = 8, 4  # of the clip in time, and consecutive frames of each
ALIGNED_FRAMES = 8  # frames in which a fragment keeps its place
NUM_FRAMES = NUM_PIECES * PIECE_FRAMES
MEAN_RGB, STD_RGB = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
RAW_MEAN, RAW_STD = 0.14759505, 0.03613452  # of FasterVQA's raw scores, by its authors, for the logistic scale
_FAILED = "null if the row failed"


@dataclass(frozen=True, kw_only=True)
class Technical(Operator):
    """FasterVQA's score: noise, blur, blocks, bad light; not what is shown.

    32 frames, four in each eighth of the clip, are decoded at native size; 7 x 7 fragments of 32 x 32 pixels are cut
    out of each tile of the frame at places drawn anew for each draw. One draw over the whole of a 3840 x 2160 frame
    sees 0.6 % of its pixels, and its score varies; 2 x 2 tiles and 3 draws see 7 %.

    Reads: the clip's frames and their source.
    Writes: technical_score, technical_spread, technical_tile_samples, technical_tile_min, technical_raw_samples,
        technical_pixel_share, technical_weights_hash.

    Args:
        weights: FAST_VQA_3D_1*1.pth (FasterVQA): a path, s3://, or hf://ORG/NAME@COMMIT/FILE.
        sha256: of that file; null: not checked.
        tiles: tiles along and across; fewer where a tile would be smaller than 224 pixels.
        draws: times the fragments are drawn.
        seed: of the draws; frames and places depend on it and on the clip's length and size alone.
        batch_size: draws and tiles in one forward pass.
        device: cpu, or cuda.
        gpu_memory_gb: memory on the GPU that one worker needs; several share a GPU that has more.
        time_limit_s: seconds to decode one clip, above which the row fails with kind `resource`.

    Raises:
        ValueError: a number out of its range, or weights of another network.
    Source: Wu et al. 2022 (arXiv:2210.05357); best no-reference metric on 4K in AVT-VQDB-UHD-1-NVC (arXiv:2511.00969).
        Frames smaller than a tile's 224 pixels are enlarged. Tiles are ours.
    """

    name: ClassVar[str] = "technical"
    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size", "device", "gpu_memory_gb", "time_limit_s"})
    exact: ClassVar[bool] = False  # matrix products differ in the last digits between machines and batches
    seconds_per_row: ClassVar[float] = 30.0
    reads: ClassVar[tuple[Column, ...]] = (
        CLIP_ID,
        *(_READS[name] for name in ("uri", "seek_pts", "frame_pts", "width_px", "height_px")),
    )
    writes: ClassVar[tuple[Column, ...]] = (  # type: ignore[assignment]
        Column("technical_score", pa.float64(), f"mean over draws and tiles on the logistic scale, 0-1; {_FAILED}"),
        Column("technical_spread", pa.float64(), "standard deviation of the draws' scores; null with one draw"),
        Column("technical_tile_samples", pa.list_(pa.float32()), f"score of each tile, row by row; {_FAILED}"),
        Column("technical_tile_min", pa.float64(), f"the lowest of them; {_FAILED}"),
        Column(
            "technical_raw_samples",
            pa.list_(pa.float32()),
            f"the network's own numbers: draw after draw, tiles row by row; {_FAILED}",
        ),
        Column(
            "technical_pixel_share",
            pa.float64(),
            f"pixels that the network saw of a frame over its pixels, 0-1, overlaps counted twice; {_FAILED}",
        ),
        Column("technical_weights_hash", pa.string(), f"sha256 of the weights; {_FAILED}"),
    )

    weights: str
    sha256: str | None = None
    tiles: int = 2
    draws: int = 3
    seed: int = 0
    batch_size: int = 4
    device: Literal["cpu", "cuda"] = "cpu"
    gpu_memory_gb: float = 8.0
    time_limit_s: float = 600.0

    def __post_init__(self) -> None:
        Weights(self.weights, self.sha256)
        for field in ("tiles", "draws", "batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"technical: {field} is {getattr(self, field)}, it must be at least 1")

    @property
    def needs(self) -> tuple[Need, ...]:
        note = "FAST_VQA_3D_1*1.pth of VQAssessment/FAST-VQA-and-FasterVQA, its pretrained models (110 MB)"
        return (Need(Weights(self.weights, self.sha256), "MIT", note),)

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        """A share of a GPU if `device` is cuda."""
        return Resources(num_cpus=1.0, memory_gb=4.0).on(self.device, self.gpu_memory_gb)

    def setup(self) -> tuple[Batches, str, DecodeChild]:
        path = locate(Weights(self.weights, self.sha256))
        network = load_network(read_state(path)).to(self.device)
        return Batches(network, self.batch_size, self.device), weights_hash(path), DecodeChild(4.0)

    def process(self, state: tuple[Batches, str, DecodeChild], batch: pa.Table) -> pa.Table:
        """The batch with the quality columns; a clip whose frames do not decode gets its error and nulls."""
        rows = [self._row(*state, row) for row in batch.select([column.name for column in self.reads]).to_pylist()]
        return self.with_writes(batch, rows)

    def close(self, state: tuple[Batches, str, DecodeChild]) -> None:
        state[2].close()

    def _row(self, network: Batches, digest: str, child: DecodeChild, row: dict[str, Any]) -> dict[str, Any]:
        num_tiles = max(1, min(self.tiles, min(row["width_px"], row["height_px"]) // INPUT_PX))
        call = {
            "uri": row["uri"],
            "frame_pts": [row["frame_pts"][i] for i in frame_indices(len(row["frame_pts"]), self.seed)],
            "seek_pts": row["seek_pts"],
            "tiles": num_tiles,
            "draws": self.draws,
            "seed": self.seed,
        }
        try:
            fragments_NTHWC = child.call("operators.technical:read_fragments", call, self.time_limit_s)
        except RowError as error:
            return {"error_kind": error.kind, "error": str(error)}
        raw_DT = scores_of(network, fragments_NTHWC).reshape(self.draws, -1)
        seen = self.draws * num_tiles**2 * INPUT_PX**2 / (row["width_px"] * row["height_px"])
        return summary(raw_DT) | {"technical_pixel_share": min(1.0, seen), "technical_weights_hash": digest}


def load_network(state: dict[str, Any]) -> Any:
    """The network with published weights. Raises ValueError if they are another's."""
    import json
    from pathlib import Path

    from operators.swin3d import FragmentQuality

    shapes = json.loads(Path(__file__).with_name("fragment_quality.json").read_text())
    network = FragmentQuality()
    network.load_state_dict(fitting(state, {name: tuple(shape) for name, shape in shapes.items()}, "FasterVQA"))
    return network.eval()


def scores_of(network: Batches, fragments_NTHWC: np.ndarray) -> np.ndarray:
    """float64 [N]: the mean of the network's map for each input, uint8 RGB [N, 32, 224, 224, 3]."""
    import torch

    mean, std = torch.tensor(MEAN_RGB), torch.tensor(STD_RGB)
    pixels_NCTHW = ((torch.from_numpy(fragments_NTHWC).float() - mean) / std).permute(0, 4, 1, 2, 3)
    return network(pixels_NCTHW).flatten(1).mean(1).double().numpy()


def summary(raw_DT: np.ndarray) -> dict[str, Any]:
    """The score columns of raw scores [draws, tiles]."""
    scores_DT = 1 / (1 + np.exp(-(raw_DT - RAW_MEAN) / RAW_STD))
    tiles_T = scores_DT.mean(axis=0)
    return {
        "technical_score": float(scores_DT.mean()),
        "technical_spread": float(scores_DT.mean(axis=1).std()) if len(scores_DT) > 1 else None,
        "technical_tile_samples": tiles_T,
        "technical_tile_min": float(tiles_T.min()),
        "technical_raw_samples": raw_DT.ravel(),
    }


def frame_indices(num_frames: int, seed: int) -> list[int]:
    """Four consecutive frames, at a place drawn, in each eighth of a clip; a clip of fewer than 32 gives some twice."""
    length = num_frames // NUM_PIECES
    if length < PIECE_FRAMES:
        return [k * num_frames // NUM_FRAMES for k in range(NUM_FRAMES)]
    starts = np.random.default_rng([seed, 0]).integers(0, length - PIECE_FRAMES + 1, NUM_PIECES)
    return [piece * length + int(start) + k for piece, start in enumerate(starts) for k in range(PIECE_FRAMES)]


def read_fragments(
    uri: str, frame_pts: Sequence[int], seek_pts: int | None, tiles: int, draws: int, seed: int
) -> np.ndarray:
    """uint8 RGB [draws * tiles * tiles, T, 224, 224, 3]: fragments of native frames, one frame in memory at a time.

    Runs in the decode child. Raises RowError.
    """
    from operators.video import each_frame

    found_NTHWC = np.empty((draws * tiles * tiles, len(frame_pts), INPUT_PX, INPUT_PX, 3), np.uint8)
    shape: tuple[int, ...] = ()
    places: list[np.ndarray] = []
    for index, rgb_HWC in enumerate(each_frame(uri, frame_pts, seek_pts)):
        rgb_HWC = enlarged(rgb_HWC, tiles)
        if rgb_HWC.shape != shape:
            shape = rgb_HWC.shape
            places = [fragment_places(rgb_HWC.shape[:2], tiles, seed, draw) for draw in range(draws)]
        for draw in range(draws):
            part = found_NTHWC[draw * tiles**2 : (draw + 1) * tiles**2, index]
            cut(rgb_HWC, places[draw][index // ALIGNED_FRAMES], part)
    return found_NTHWC


def enlarged(rgb_HWC: np.ndarray, tiles: int) -> np.ndarray:
    """The frame, enlarged if a tile of it is smaller than the network's input."""
    import cv2

    factor = tiles * INPUT_PX / min(rgb_HWC.shape[:2])
    if factor <= 1:
        return rgb_HWC
    size = [max(tiles * INPUT_PX, round(side * factor)) for side in rgb_HWC.shape[1::-1]]
    return cv2.resize(rgb_HWC, size, interpolation=cv2.INTER_LINEAR)


def fragment_places(size: tuple[int, int], tiles: int, seed: int, draw: int) -> np.ndarray:
    """int [groups of frames, tiles * tiles, 7, 7, 2]: top and left of each fragment, drawn within its cell."""
    rng = np.random.default_rng([seed, 1, draw])
    cells = tiles * GRID
    tops, lefts = (np.arange(cells) * (side // cells) for side in size)
    room = [max(1, side // cells - FRAGMENT_PX + 1) for side in size]
    num_groups = NUM_FRAMES // ALIGNED_FRAMES
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
