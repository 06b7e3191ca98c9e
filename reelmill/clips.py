# SPDX-License-Identifier: Apache-2.0
"""Reads kept clips as pixels, exactly the frames that were measured: what tokenizer trainers need.

    clips = ClipDataset("out", num_frames=17, size=256)
    clips[0]["frames_THWC"]                     # uint8 [17, 256, 256, 3]
    for batch in clips.loader(batch_size=4, num_workers=2): ...

Frames are decoded from the sources by (uri, pts), with PyAV (extra `video`). The order of an epoch depends on the view,
the selection of clips, the seed and the epoch, not on ranks or workers.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from reelmill.ids import fingerprint
from reelmill.position import Position, seeded
from reelmill.shards import OPEN_THREADS
from reelmill.views import Filter, View

if TYPE_CHECKING:
    from reelmill.torch_data import ShardLoader

SPAN = ("frame_pts", "seek_pts", "time_base_num", "time_base_den", "fps", "uri", "relpath", "width_px", "height_px")


class ClipDataset:
    """Kept clips as pixels.

    Args:
        root: the data set, local or s3://.
        version: of the view.
        where, columns, split, tiers, rank, world, seed, shuffle: as in `reelmill.shards.ShardDataset`.
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
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not in 0..{world - 1}")
        self.view = View.load(root, version)
        self.columns, self.num_frames, self.size, self.source_root = tuple(columns), num_frames, size, source_root
        self.rank, self.world, self.seed, self.shuffle = rank, world, seed, shuffle
        self.filters: list[Filter] = [("tier", "in", list(tiers)), *where]
        if split is not None:
            self.filters.append(("split", "=", split))
        self.position = Position()
        self.clips = self._load()

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
    def view_hash(self) -> str:
        """Over everything that decides which clips come in which order, but not who reads them."""
        chosen = [self.view.version, self.filters, self.seed, self.shuffle, self.num_frames, self.size]
        return fingerprint("clips", json.loads(json.dumps(chosen)))

    def batches(
        self, batch_size: int, *, drop_last: bool = False, worker: int = 0, num_workers: int = 1
    ) -> Iterator[dict[str, Any]]:
        """Batches of this rank from the current position to the end of the epoch.

        A batch holds `frames_BTHWC` uint8 RGB, `frame_pts`, `clip_id`, `source_id`, `fps`, `cond`, `epoch`, `step`.

        Raises:
            ValueError: `batch_size` > 1 without `num_frames` and `size`.
        """
        if batch_size > 1 and (self.num_frames is None or self.size is None):
            raise ValueError(f"batch_size is {batch_size}: give num_frames and size, or the clips do not stack")
        position = self.begin(batch_size)
        order = self._order(position.epoch)[position.start.get("clips", 0) :]
        assert position.step_samples is not None
        num_steps = -(-len(order) // position.step_samples) if not drop_last else len(order) // position.step_samples
        for step in range(position.step, num_steps):
            if step % num_workers != worker:
                continue
            samples = order[step * position.step_samples : (step + 1) * position.step_samples]
            mine = samples[len(samples) * self.rank // self.world : len(samples) * (self.rank + 1) // self.world]
            if len(mine):
                batch = self._stack([self._sample(int(i), position.epoch) for i in mine])
                self.position.step = step + 1
                yield {**batch, "epoch": position.epoch, "step": step}
        self.next_epoch()

    def next_epoch(self) -> None:
        """To the start of the next epoch."""
        self.position = Position(self.position.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Where this epoch stands, the same on every rank; JSON-able."""
        return self.position.to_state(self.view_hash)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state`, under this world size and any batch size. Raises ValueError if it does not fit."""
        self.position = Position.from_state(state, self.view_hash)

    def loader(
        self, batch_size: int, *, num_workers: int = 0, drop_last: bool = False, **options: Any
    ) -> "ShardLoader":
        """A PyTorch DataLoader over `batches`. Needs torch."""
        from reelmill.torch_data import ShardLoader

        return ShardLoader(self, batch_size, num_workers=num_workers, drop_last=drop_last, **options)

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

    def begin(self, batch_size: int) -> Position:
        samples, now = batch_size * self.world, self.position
        if now.step_samples not in (None, samples):
            done = now.start.get("clips", 0) + now.step * (now.step_samples or 0)
            self.position = Position(now.epoch, {"clips": min(done, len(self))}, 0, samples)
        self.position.step_samples = samples
        return self.position.copy()

    def _order(self, epoch: int) -> np.ndarray:
        return seeded(self.view_hash, epoch, "order").permutation(len(self)) if self.shuffle else np.arange(len(self))

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
