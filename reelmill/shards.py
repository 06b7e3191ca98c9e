# SPDX-License-Identifier: Apache-2.0
"""Reads token shards through a view: tokens per scale, caption texts and condition columns, in one fixed order.

    dataset = ShardDataset("out", scales=3, columns=("motion_speed",))
    for batch in dataset.loader(batch_size=8, num_workers=2):   # or dataset.batches(8) without torch
        batch["tokens_pixel_s0"], batch["texts"], batch["cond"]["motion_speed"]

The order of an epoch depends on the view, the selection of rows, the seed and the epoch, never on the number of ranks
or workers: each step takes `batch_size * world` samples of one bucket, and a rank its slice of them. `state_dict` says
how far each bucket is read, so a run can go on under another world size with exactly the samples that are left.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from reelmill.captions import UnitCaptions
from reelmill.ids import fingerprint
from reelmill.position import Position, seeded
from reelmill.tokens import Stream, unpack
from reelmill.views import Filter, View

if TYPE_CHECKING:
    from reelmill.torch_data import ShardLoader

KEYS = ("clip_id", "source_id", "window_index", "aug_id", "frame_pts", "time_base_num", "time_base_den")
CONDITIONS = ("effective_fps", "in_t", "in_h", "in_w", "crop_box", "source_width_px", "source_height_px", "psnr_db")
OPEN_THREADS = 8


@dataclass(frozen=True)
class _Index:
    """All samples: file, row group and row of each; and those of each bucket, group by group."""

    file: np.ndarray
    group: np.ndarray
    row: np.ndarray
    groups_of: dict[str, list[np.ndarray]]


class ShardDataset:
    """Samples of one tokenizer spec.

    Args:
        root: the data set, local or s3://.
        version: of the view.
        spec: spec id; needed if the view has several.
        where: conditions on any joined column, all must hold: [("motion_speed", ">", 0.1)].
        columns: joined columns to give in `cond`, besides those of `CONDITIONS`.
        scales: read the first n scales of each stream only; null: all. Fewer scales read fewer bytes.
        split: train or val; null: both.
        tiers: tiers of the selection to read.
        buckets: "TxHxW" to read; null: all.
        captioner: folder name of the captions to read; null: the view's first.
        rank, world: this process among those that share the data.
        seed, shuffle: of the order. Without shuffling rows come as they lie in the files.
        shuffle_groups: row groups that are mixed with one another.
        cache_bytes: row groups kept in memory, in bytes.

    Raises:
        ValueError: no such view, spec, column or bucket.
    """

    def __init__(
        self,
        root: str,
        version: str = "latest",
        *,
        spec: str | None = None,
        where: Sequence[Filter] = (),
        columns: Sequence[str] = (),
        scales: int | None = None,
        split: str | None = "train",
        tiers: Sequence[str] = ("train",),
        buckets: Sequence[str] | None = None,
        captioner: str | None = None,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        shuffle_groups: int = 8,
        cache_bytes: int = 256_000_000,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not in 0..{world - 1}")
        self.view = View.load(root, version)
        self.spec_id = self.view.spec_id(spec)
        self.spec = self.view.specs[self.spec_id]
        self.columns, self.scales, self.captioner = tuple(columns), scales, captioner
        self.rank, self.world = rank, world
        self.seed, self.shuffle, self.shuffle_groups = seed, shuffle, shuffle_groups
        self.cache_bytes = cache_bytes
        self.filters: list[Filter] = [("tier", "in", list(tiers)), *where]
        if split is not None:
            self.filters.append(("split", "=", split))
        self.buckets = None if buckets is None else tuple(buckets)
        self.files = self.view.shards(self.spec_id)
        self.position = Position()
        self._index = self._build_index()
        self._groups: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._units: OrderedDict[int, UnitCaptions] = OrderedDict()

    def __len__(self) -> int:
        return len(self._index.row)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Sample `index` in file order: see `batches`; without the batch axis."""
        return _first(self.read(np.array([range(len(self))[index]])))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Single samples of this rank, in this epoch's order."""
        for batch in self.batches(1):
            yield _first(batch)

    @property
    def view_hash(self) -> str:
        """Over everything that decides which samples come in which order, but not who reads them."""
        chosen = [
            self.view.version,
            self.spec_id,
            self.filters,
            self.buckets,
            self.seed,
            self.shuffle,
            self.shuffle_groups,
        ]
        return fingerprint("order", json.loads(json.dumps(chosen)))

    @property
    def bucket_sizes(self) -> dict[str, int]:
        """Samples per bucket, all ranks together."""
        return {bucket: sum(map(len, groups)) for bucket, groups in self._index.groups_of.items()}

    # --- order -------------------------------------------------------------------------------------------------

    def batches(
        self, batch_size: int, *, drop_last: bool = False, worker: int = 0, num_workers: int = 1
    ) -> Iterator[dict[str, Any]]:
        """Batches of this rank from the current position to the end of the epoch; each of one bucket.

        A batch holds `tokens_<stream>_s<k>` [B, t, h, w(, g)], `clip_id`, `window_index`, `texts` (ten caption texts
        or null per sample), `cond` (arrays), `bucket`, `epoch` and `step`. The last step of a bucket may be short (or
        empty for a rank, which then is left out) unless `drop_last`.

        Args:
            worker, num_workers: this worker takes every `num_workers`-th step.
        """
        position = self.begin(batch_size)
        schedule = self._schedule(position, drop_last)
        for step in range(position.step, len(schedule)):
            if step % num_workers != worker:
                continue
            bucket, samples = schedule[step]
            first, last = (len(samples) * r // self.world for r in (self.rank, self.rank + 1))
            if last > first:
                batch = self.read(samples[first:last])
                self.position.step = step + 1
                yield {**batch, "bucket": bucket, "epoch": position.epoch, "step": step}
        self.next_epoch()

    def begin(self, batch_size: int) -> Position:
        """The position to go on from, with steps of the size now wanted."""
        samples = batch_size * self.world
        now = self.position
        if now.step_samples not in (None, samples):
            self.position = Position(now.epoch, self._read_so_far(now), 0, samples)
        self.position.step_samples = samples
        return self.position.copy()

    def next_epoch(self) -> None:
        """To the start of the next epoch."""
        self.position = Position(self.position.epoch + 1)

    def _read_so_far(self, position: Position) -> dict[str, int]:
        """Samples read per bucket."""
        done = dict(position.start)
        for bucket, samples in self._schedule(position, drop_last=False)[: position.step]:
            done[bucket] = done.get(bucket, 0) + len(samples)
        return done

    def _schedule(self, position: Position, drop_last: bool) -> list[tuple[str, np.ndarray]]:
        """(bucket, samples) of each step of the epoch after `position.start`."""
        assert position.step_samples is not None
        steps: list[tuple[str, np.ndarray]] = []
        for bucket in sorted(self._index.groups_of):
            order = self._order(bucket, position.epoch)[position.start.get(bucket, 0) :]
            cuts = range(0, len(order), position.step_samples)
            steps += [(bucket, order[at : at + position.step_samples]) for at in cuts]
        what = f"steps {position.step_samples} {sorted(position.start.items())}"
        mixed = seeded(self.view_hash, position.epoch, what)
        places = mixed.permutation(len(steps)) if self.shuffle else range(len(steps))
        # A bucket's steps stay in its own order; only the buckets are mixed. So a position is one number per bucket.
        queues = {bucket: iter([s for s in steps if s[0] == bucket]) for bucket in self._index.groups_of}
        mixed_steps = [next(queues[steps[place][0]]) for place in places]
        return [s for s in mixed_steps if not drop_last or len(s[1]) == position.step_samples]

    def _order(self, bucket: str, epoch: int) -> np.ndarray:
        """All samples of a bucket: row groups in random order, mixed over `shuffle_groups` of them at a time."""
        groups = self._index.groups_of[bucket]
        if not self.shuffle:
            return np.concatenate(groups)
        rng = seeded(self.view_hash, epoch, bucket)
        groups = [groups[i] for i in rng.permutation(len(groups))]
        spans = range(0, len(groups), self.shuffle_groups)
        return np.concatenate([rng.permutation(np.concatenate(groups[i : i + self.shuffle_groups])) for i in spans])

    # --- resume ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where this epoch stands, the same on every rank; JSON-able."""
        return self.position.to_state(self.view_hash)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state`, under this world size and any batch size.

        Raises:
            ValueError: the state belongs to another view, selection of rows or seed.
        """
        self.position = Position.from_state(state, self.view_hash)

    def loader(
        self, batch_size: int, *, num_workers: int = 0, drop_last: bool = False, **options: Any
    ) -> "ShardLoader":
        """A PyTorch DataLoader over `batches`, with `state_dict` of what the training loop has taken. Needs torch."""
        from reelmill.torch_data import ShardLoader

        return ShardLoader(self, batch_size, num_workers=num_workers, drop_last=drop_last, **options)

    # --- reading -----------------------------------------------------------------------------------------------

    def token_columns(self) -> list[tuple[Stream, int]]:
        """(stream, scale) of the columns read."""
        return [(s, k) for s, k in self.spec.columns() if self.scales is None or k < self.scales]

    def read(self, samples: np.ndarray) -> dict[str, Any]:
        """A batch of samples of one bucket, given by number in file order."""
        places = [(int(self._index.file[i]), int(self._index.group[i]), int(self._index.row[i])) for i in samples]
        rows = [self._group(file, group).slice(row, 1) for file, group, row in places]
        batch: dict[str, Any] = {}
        for stream, k in self.token_columns():
            batch[stream.column(k)] = np.stack([_payload(row, stream, k) for row in rows])
        for key in KEYS:
            batch[key] = [row.column(key)[0].as_py() for row in rows]
        units = [self.files[file]["unit"] for file, _, _ in places]
        named = list(zip(units, batch["clip_id"], batch["frame_pts"], strict=True))
        batch["texts"] = [self._unit(unit).text(clip, pts) for unit, clip, pts in named]
        batch["cond"] = {name: [row.column(name)[0].as_py() for row in rows] for name in CONDITIONS}
        for name in self.columns:
            batch["cond"][name] = [self._unit(unit).value(clip, name) for unit, clip, _ in named]
        return batch

    def _group(self, file: int, group: int) -> pa.Table:
        if (file, group) not in self._groups:
            names = [stream.column(k) for stream, k in self.token_columns()]
            grids = [f"grid_{name.split('_', 1)[1]}" for name in names]
            with self.view.store.open_parquet(self.files[file]["path"]) as parquet:
                wanted = [*KEYS, *CONDITIONS, *names, *grids]
                self._groups[file, group] = parquet.read_row_group(group, wanted, use_threads=False)
            held = sum(table.nbytes for table in self._groups.values())
            while held > self.cache_bytes and len(self._groups) > 1:
                held -= self._groups.popitem(last=False)[1].nbytes
        self._groups.move_to_end((file, group))
        return self._groups[file, group]

    def _unit(self, unit: int) -> UnitCaptions:
        if unit not in self._units:
            self._units[unit] = UnitCaptions.load(self.view, unit, self.columns, self.captioner)
            while len(self._units) > 2 * self.shuffle_groups:
                self._units.popitem(last=False)
        self._units.move_to_end(unit)
        return self._units[unit]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_groups": OrderedDict(), "_units": OrderedDict()}

    # --- index -------------------------------------------------------------------------------------------------

    def _build_index(self) -> _Index:
        """Which rows are wanted: reads keys and selection, no tokens."""
        units = sorted({entry["unit"] for entry in self.files})
        with ThreadPoolExecutor(OPEN_THREADS) as pool:
            wanted = dict(zip(units, pool.map(self._wanted_clips, units), strict=True))
            found = list(pool.map(lambda entry: self._wanted_rows(entry, wanted[entry["unit"]]), self.files))
        files, groups, rows = [np.empty(0, np.int32)], [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        groups_of: dict[str, list[np.ndarray]] = {}
        count = 0
        for file, (entry, masks) in enumerate(zip(self.files, found, strict=True)):
            for group, (facts, mask) in enumerate(zip(entry["row_groups"], masks, strict=True)):
                here = np.flatnonzero(mask).astype(np.int32)
                if not len(here):
                    continue
                files.append(np.full(len(here), file, np.int32))
                groups.append(np.full(len(here), group, np.int32))
                rows.append(here)
                groups_of.setdefault(facts["bucket"], []).append(np.arange(count, count + len(here)))
                count += len(here)
        return _Index(np.concatenate(files), np.concatenate(groups), np.concatenate(rows), groups_of)

    def _wanted_clips(self, unit: int) -> frozenset[str]:
        return frozenset(self.view.attributes(unit, (), self.filters).column("clip_id").to_pylist())

    def _wanted_rows(self, entry: dict[str, Any], clips: frozenset[str]) -> list[np.ndarray]:
        """Per row group, which of its rows are wanted."""
        with self.view.store.open_parquet(entry["path"]) as file:
            ids = file.read(columns=["clip_id"], use_threads=False).column("clip_id").to_pylist()
        mask = np.array([clip in clips for clip in ids], bool)
        ends = np.cumsum([group["rows"] for group in entry["row_groups"]])
        masks = np.split(mask, ends[:-1]) if len(ends) else []
        is_read = [self.buckets is None or group["bucket"] in self.buckets for group in entry["row_groups"]]
        return [m & keep for m, keep in zip(masks, is_read, strict=True)]


def _payload(row: pa.Table, stream: Stream, scale: int) -> np.ndarray:
    name = stream.column(scale)
    grid = row.column(f"grid_{name.split('_', 1)[1]}")[0].as_py()
    return unpack(stream, scale, row.column(name)[0].as_buffer(), grid)


def _first(batch: dict[str, Any]) -> dict[str, Any]:
    """The only sample of a batch of one."""
    out = {key: value[0] if isinstance(value, (list, np.ndarray)) else value for key, value in batch.items()}
    texts = {"texts": batch["texts"][0]}
    return {**out, **texts, "cond": {key: value[0] for key, value in batch["cond"].items()}}
