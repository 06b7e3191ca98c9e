# SPDX-License-Identifier: Apache-2.0
"""Reads kept clips as pixels, exactly the frames that were measured: what tokenizer trainers need.

    clips = ClipDataset("out", num_frames=17, size=256)
    clips[0]["frames_THWC"]                     # uint8 [17, 256, 256, 3]
    for batch in clips.loader(batch_size=4, num_workers=2): ...

Frames are decoded from the sources by (uri, pts), with PyAV (extra `video`). The order of an epoch depends on the view,
the selection of clips, the seed and the epoch, not on ranks or workers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from reelmill.epochs import Epochs
from reelmill.ids import fingerprint
from reelmill.position import Position, seeded
from reelmill.sampling import Shuffle
from reelmill.shard_index import OPEN_THREADS
from reelmill.storage import Store
from reelmill.views import Filter, View

SPAN = ("frame_pts", "seek_pts", "time_base_num", "time_base_den", "fps", "uri", "relpath", "width_px", "height_px")


class ClipDataset(Epochs):
    """Kept clips as pixels.

    Args:
        root: the data set, local or s3://.
        version: of the view.
        where, columns, split, tiers, rank, world, shuffle: as in `reelmill.shards.ShardDataset`.
        num_frames: consecutive frames, at a place drawn per clip and epoch; clips with fewer are left out, stills too
            unless it is 1. Null: all frames of each clip (then batches hold one clip).
        size: side of a square cut at random after scaling the short side down to it, in pixels; sources that are
            smaller are left out. Null: native frames (then batches hold one clip).
        source_root: where the sources are now; null: the uri that was milled.

    Raises:
        ValueError: no such view or column.
    """

    def __init__(
        self,
        root: str,
        version: str = "latest",
        *,
        where: Sequence[Filter] = (),
        columns: Sequence[str] = (),
        split: str | None = "train",
        tiers: Sequence[str] = ("train",),
        num_frames: int | None = None,
        size: int | None = None,
        source_root: str | None = None,
        rank: int = 0,
        world: int = 1,
        shuffle: Shuffle = Shuffle(lanes=1),  # noqa: B008 - frozen
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not in 0..{world - 1}")
        self.view = View.load(root, version)
        self.columns, self.num_frames, self.size, self.source_root = tuple(columns), num_frames, size, source_root
        self.rank, self.world, self.shuffle = rank, world, shuffle
        self.schedule: dict[int, dict[str, Any]] = {}
        self.filters: list[Filter] = [("tier", "in", list(tiers)), *where]
        if split is not None:
            self.filters.append(("split", "=", split))
        self.position = Position()
        self.clips = self._load()
        self.queues = {"clips": [np.arange(len(self))]}

    def __len__(self) -> int:
        return self.clips.num_rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Clip `index` in this epoch's draw: `frames_THWC` uint8, `frame_pts`, `clip_id`, `fps`, `cond`.

        Raises:
            SpanError, MediaError: the source no longer holds the frames.
        """
        return self._sample(range(len(self))[index], self.position.epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Single clips of this rank, in this epoch's order, as `clips[i]` gives them."""
        for batch in self.batches(1):
            sample = {key: batch[key][0] for key in ("frame_pts", "clip_id", "source_id", "fps")}
            cond = {key: values[0] for key, values in batch["cond"].items()}
            yield {"frames_THWC": batch["frames_BTHWC"][0], **sample, "cond": cond}

    @property
    def store(self) -> Store:
        return self.view.store

    @property
    def view_hash(self) -> str:
        """Over everything that decides which clips come in which order, but not who reads them."""
        order = [self.shuffle.seed, self.shuffle.is_on]
        chosen = [self.view.version, self.filters, *order, self.num_frames, self.size]
        return fingerprint("clips", json.loads(json.dumps(chosen)))

    def batches(
        self, batch_size: int | None = None, *, batch_tokens: int | None = None, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """As `Epochs.batches`; a batch is what `collate` gives.

        Raises:
            ValueError: `batch_size` > 1 without `num_frames` and `size`; `batch_tokens`.
        """
        if batch_tokens is not None:
            raise ValueError("clips have no tokens: give batch_size")
        if (batch_size or 1) > 1 and (self.num_frames is None or self.size is None):
            raise ValueError(f"batch_size is {batch_size}: give num_frames and size, or the clips do not stack")
        return super().batches(batch_size, **options)

    def shares(self, mix: Any) -> None:
        return None

    def num_tokens(self, queue: str, phase: Mapping[str, Any]) -> int:
        raise ValueError("clips have no tokens: give batch_size")

    @property
    def reading_order(self) -> np.ndarray:
        return np.zeros(len(self), int)

    def collate(self, samples: np.ndarray, position: Position, phase: Mapping[str, Any]) -> dict[str, Any]:
        """`frames_BTHWC` uint8 RGB, `frame_pts`, `clip_id`, `source_id`, `fps`, `cond`."""
        return self._stack([self._sample(int(i), position.epoch) for i in samples])

    def _load(self) -> pa.Table:
        units = self.view.units("clips")
        names = list(dict.fromkeys([*SPAN, "num_frames", *self.columns]))
        filters = list(self.filters)
        if self.num_frames is not None:
            filters.append(("num_frames", ">=", self.num_frames))
        if self.size is not None:
            filters += [("width_px", ">=", self.size), ("height_px", ">=", self.size)]
        with ThreadPoolExecutor(OPEN_THREADS) as pool:
            tables = list(pool.map(lambda unit: self.view.attributes(unit, names, filters), units))
        if not tables:
            raise ValueError(f"view {self.view.version} has no clips")
        return pa.concat_tables(tables, promote_options="permissive")

    def _sample(self, index: int, epoch: int) -> dict[str, Any]:
        from reelmill.spans import read_span

        row = self.clips.slice(index, 1).to_pylist()[0]
        rng = seeded(self.view_hash, epoch, row["clip_id"])
        pts = row["frame_pts"]
        if self.num_frames is not None:
            start = int(rng.integers(len(pts) - self.num_frames + 1))
            pts = pts[start : start + self.num_frames]
        frames_THWC = read_span(self._uri(row), pts, row["seek_pts"], size=self._scaled(row))
        if self.size is not None:
            top, left = (int(rng.integers(side - self.size + 1)) for side in frames_THWC.shape[1:3])
            frames_THWC = frames_THWC[:, top : top + self.size, left : left + self.size]
        cond = {name: row[name] for name in self.columns}
        return {
            "frames_THWC": frames_THWC,
            "frame_pts": pts,
            "clip_id": row["clip_id"],
            "source_id": row["source_id"],
            "fps": row["fps"],
            "cond": cond,
        }

    def _uri(self, row: dict[str, Any]) -> str:
        return row["uri"] if self.source_root is None else f"{self.source_root.rstrip('/')}/{row['relpath']}"

    def _scaled(self, row: dict[str, Any]) -> tuple[int, int] | None:
        """Rows and columns after scaling the short side down to `size`."""
        if self.size is None:
            return None
        short = min(row["height_px"], row["width_px"])
        return round(row["height_px"] * self.size / short), round(row["width_px"] * self.size / short)

    def _stack(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = {"frames_BTHWC": np.stack([sample["frames_THWC"] for sample in samples])}
        for key in ("frame_pts", "clip_id", "source_id", "fps"):
            batch[key] = [sample[key] for sample in samples]
        batch["cond"] = {name: [sample["cond"][name] for sample in samples] for name in self.columns}
        return batch
