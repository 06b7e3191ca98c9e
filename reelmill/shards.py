# SPDX-License-Identifier: Apache-2.0
"""Reads token shards through a view: tokens per scale, caption texts and condition columns, in one fixed order.

    dataset = ShardDataset("out", scales=3, columns=("camera_class",), where=[("motion_speed_mean", ">", 0.01)])
    for batch in dataset.loader(batch_size=8, num_workers=2):   # or dataset.batches(8) without torch
        batch["tokens_pixel_s0"], batch["caption"], batch["cond"]["camera_class"]

The order of an epoch depends on the view, the selection of rows, the mix, the seed and the epoch, never on the number
of ranks or workers: each step takes the samples of all ranks from one bucket, and a rank its slice of them.
`state_dict` says how far each bucket is read, so a run can go on under another world size with exactly the samples
that are left.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from reelmill.captions import Captions, UnitCaptions
from reelmill.epochs import Epochs, check_schedule, group_draws
from reelmill.ids import fingerprint
from reelmill.mirror import is_flipped, mirrored_value
from reelmill.position import Position, seeded
from reelmill.row_groups import Cache, RowGroup, RowGroups, stacked
from reelmill.sampling import Shuffle, balanced
from reelmill.shard_index import SampleIndex
from reelmill.storage import Store
from reelmill.tables import CROP_COLUMNS
from reelmill.tokens import Stream
from reelmill.views import Filter, View

KEYS = ("clip_id", "source_id", "window_index", "aug_id", "frame_pts", "time_base_num", "time_base_den")
CONDITIONS = ("effective_fps", "in_t", "in_h", "in_w", "crop_box", "source_width_px", "source_height_px", "psnr_db")
MEASURED_CONDITIONS = ("motion_speed_mean", "resolution_effective_short_px")
"""Given in `cond` wherever the view has them."""
OPEN_UNITS = 32

Mix = Mapping[str, Mapping[Any, float]]


class ShardDataset(Epochs):
    """Samples of one tokenizer spec.

    Args:
        root: the data set, local or s3://.
        version: of the view.
        spec: spec id; needed if the view has several.
        where: conditions on any column of the shards or of a joined table, all must hold.
        split: train or val; null: both.
        tiers: tiers of the selection to read.
        buckets: "TxHxW" to read; null: all.
        columns: joined columns to give in `cond`, besides those of `CONDITIONS` and `MEASURED_CONDITIONS`.
        percentiles: joined columns whose rank among the clips read here is given in `cond` as `<column>_percentile`.
        captions: which texts, and how the caption is made of them.
        scales: read the first n scales of each stream only; null: all. Fewer scales read fewer bytes.
        mix: column -> value -> its share of the epoch; values that are not named are left out. Null: each sample once.
        schedule: global step -> {"scales": n, "mix": {...}} that hold from there on.
        rank, world: this process among those that share the data.
        shuffle: how samples are mixed, and the seed.
        cache: row groups kept in memory and on the local disk.

    Raises:
        ValueError: no such view, spec, column, bucket or value.
    """

    def __init__(
        self,
        root: str,
        version: str = "latest",
        *,
        spec: str | None = None,
        where: Sequence[Filter] = (),
        split: str | None = "train",
        tiers: Sequence[str] = ("train",),
        buckets: Sequence[str] | None = None,
        columns: Sequence[str] = (),
        percentiles: Sequence[str] = (),
        captions: Captions = Captions(),  # noqa: B008 - frozen
        scales: int | None = None,
        mix: Mix | None = None,
        schedule: Mapping[int, Mapping[str, Any]] | None = None,
        rank: int = 0,
        world: int = 1,
        shuffle: Shuffle = Shuffle(),  # noqa: B008 - frozen
        cache: Cache = Cache(),  # noqa: B008 - frozen
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not in 0..{world - 1}")
        self.view = View.load(root, version)
        self.spec_id = self.view.spec_id(spec)
        self.spec = self.view.specs[self.spec_id]
        self.captions, self.scales, self.percentiles = captions, scales, tuple(percentiles)
        self.rank, self.world, self.shuffle = rank, world, shuffle
        self.mix, later = mix, check_schedule(schedule)
        self.schedule = {**later, 0: {"mix": mix, "scales": scales, **later.get(0, {})}}
        self.filters: list[Filter] = [("tier", "in", list(tiers)), *where]
        if split is not None:
            self.filters.append(("split", "=", split))
        self.buckets = None if buckets is None else tuple(buckets)
        self.files = self.view.shards(self.spec_id)
        known = self.view.columns()
        self.columns = tuple(dict.fromkeys([*(name for name in MEASURED_CONDITIONS if name in known), *columns]))
        self.position = Position()
        self.index = SampleIndex.build(self.view, self.files, self.filters, self._eager())
        self._groups = RowGroups(self.view.store, cache)
        self._units: OrderedDict[int, UnitCaptions] = OrderedDict()
        self._set_up()

    def _eager(self) -> list[str]:
        """Joined columns that are needed for every clip before the first batch."""
        mixes = [phase.get("mix") or {} for phase in self.schedule.values()]
        return list(dict.fromkeys([*(column for mix in mixes for column in mix), *self.percentiles]))

    def _set_up(self) -> None:
        missing = set(self.buckets or ()) - set(self.index.groups_of)
        if missing:
            there = ", ".join(sorted(self.index.groups_of)) or "none"
            raise ValueError(f"no sample of bucket {min(missing)}; the selected samples have {there}")
        self.queues = {b: g for b, g in self.index.groups_of.items() if self.buckets is None or b in self.buckets}
        self._ranks = {name: _sorted(self.index.clips.column(name)) for name in self.percentiles}
        draws = group_draws(int(self.index.run.max(initial=-1)) + 1, self.view_hash)
        self._draws = draws if self.shuffle.is_on else np.arange(len(draws))
        for phase in self.schedule.values():
            self.shares(phase.get("mix"))

    def __len__(self) -> int:
        return sum(self.bucket_sizes.values())

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Sample `index` in file order: see `batches`; without the batch axis."""
        if self._in_order is None:
            self._in_order = np.sort(np.concatenate([np.empty(0, int), *(g for q in self.queues.values() for g in q)]))
        sample = self._in_order[[range(len(self))[index]]]
        return _first(self.collate(sample, self.position, self.phase(self.position.global_step)))

    _in_order: np.ndarray | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Single samples of this rank, in this epoch's order."""
        for batch in self.batches(1):
            yield _first(batch)

    @property
    def store(self) -> Store:
        return self.view.store

    @property
    def view_hash(self) -> str:
        """Over everything that decides which samples come in which order, but not who reads them."""
        chosen = [self.view.version, self.spec_id, self.filters, self.buckets, self._mixes(), _plain(self.shuffle)]
        return fingerprint("order", json.loads(json.dumps(chosen)))

    def _mixes(self) -> list[Any]:
        """[step, [[column, [[value, share], ...]], ...]] of each mix, in one order."""
        mixes = [(start, phase["mix"]) for start, phase in self.schedule.items() if phase.get("mix") is not None]
        return [[s, [[c, sorted(map(list, v.items()), key=str)] for c, v in sorted(m.items())]] for s, m in mixes]

    @property
    def bucket_sizes(self) -> dict[str, int]:
        """Samples per bucket, all ranks together."""
        return {bucket: sum(map(len, groups)) for bucket, groups in self.queues.items()}

    @property
    def num_bytes_read(self) -> int:
        """Compressed bytes of shards that this process read."""
        return self._groups.num_bytes_read

    # --- what `Epochs` wants ------------------------------------------------------------------------------------

    @property
    def reading_order(self) -> np.ndarray:
        return self._draws[self.index.run]

    def keep_open(self, num_groups: int) -> None:
        self._groups.max_held = 2 * num_groups  # those that were just read to their end are held for a while

    def shares(self, mix: Mix | None) -> np.ndarray | None:
        """How often each sample comes per epoch. Raises ValueError if a named value has no sample."""
        if mix is None:
            return None
        is_in = np.zeros(len(self.index), bool)
        for groups in self.queues.values():
            for group in groups:
                is_in[group] = True
        codes = {column: self.index.codes(column, list(shares)) for column, shares in mix.items()}
        for found in codes.values():
            is_in &= found >= 0
        for column, found in codes.items():
            for number, value in enumerate(mix[column]):
                if mix[column][value] < 0 or not (found[is_in] == number).any():
                    raise ValueError(f"mix.{column}: no sample of {value!r} to give the share {mix[column][value]}")
        out = np.zeros(len(self.index))
        times = balanced([(codes[c][is_in], list(mix[c].values())) for c in mix], int(is_in.sum()))
        out[is_in] = times
        return out

    def num_tokens(self, queue: str, phase: Mapping[str, Any]) -> int:
        t, h, w = (int(size) for size in queue.split("x"))
        columns = [(s, k) for s, k in self.token_columns(phase.get("scales")) if s.role == "tokens"]
        return sum(int(np.prod(s.shape(k, self.spec.time, t, h, w)[:3])) for s, k in columns)

    def token_columns(self, scales: int | None = None) -> list[tuple[Stream, int]]:
        """(stream, scale) of the first `scales` scales of each stream; null: of all."""
        return [(s, k) for s, k in self.spec.columns() if scales is None or k < scales]

    def collate(self, samples: np.ndarray, position: Position, phase: Mapping[str, Any]) -> dict[str, Any]:
        """A batch of samples of one bucket, given by number.

        It holds `tokens_<stream>_s<k>` [B, t, h, w(, g)], `clip_id`, `window_index` and the other `KEYS`, `bucket`,
        `texts` (the ten texts, or null, per sample), `caption` with `caption_fields`, and `cond`: per column a list.
        """
        columns = self.token_columns(phase.get("scales"))
        groups = self._row_groups(samples, columns)
        places = self.index.row[samples].tolist()
        batch: dict[str, Any] = {}
        for stream, k in columns:
            batch[stream.column(k)] = stacked(groups, places, stream, k)
        rows = [group.rows[row] for group, row in zip(groups, places, strict=True)]
        for key in KEYS:
            batch[key] = [row[key] for row in rows]
        batch["bucket"] = rows[0]["bucket"]
        cond = {name: [row[name] for row in rows] for name in self._conditions()}
        units = self._units_of(samples)
        joined = self._joined(samples, units, batch)
        return {**batch, **self._texts(units, batch, position.epoch), "cond": cond | joined}

    # --- reading ------------------------------------------------------------------------------------------------

    def _conditions(self) -> tuple[str, ...]:
        return (*CONDITIONS, *(c.name for c in CROP_COLUMNS)) if self.spec.input.is_crops else CONDITIONS

    def _row_groups(self, samples: np.ndarray, columns: Sequence[tuple[Stream, int]]) -> list[RowGroup]:
        payload = [stream.column(k) for stream, k in columns]
        plain = [*KEYS, "bucket", *self._conditions()]
        found: dict[tuple[int, int], RowGroup] = {}
        out = []
        for place in zip(self.index.file[samples].tolist(), self.index.group[samples].tolist(), strict=True):
            if place not in found:
                found[place] = self._groups.get(self.files[place[0]], place[1], plain, payload)
            out.append(found[place])
        return out

    def _units_of(self, samples: np.ndarray) -> list[UnitCaptions]:
        units = [self.files[file]["unit"] for file in self.index.file[samples].tolist()]
        loaded = {unit: self._unit(unit) for unit in dict.fromkeys(units)}
        return [loaded[unit] for unit in units]

    def _unit(self, unit: int) -> UnitCaptions:
        if unit not in self._units:
            self._units[unit] = UnitCaptions.load(self.view, unit, self.columns, self.captions)
            while len(self._units) > OPEN_UNITS:
                self._units.popitem(last=False)
        self._units.move_to_end(unit)
        return self._units[unit]

    def _texts(self, units: Sequence[UnitCaptions], batch: dict[str, Any], epoch: int) -> dict[str, Any]:
        texts: list[dict[str, Any] | None] = []
        captions: list[tuple[str | None, tuple[str, ...]]] = []
        keys = zip(units, *(batch[key] for key in ("clip_id", "window_index", "aug_id", "frame_pts")), strict=True)
        for unit, clip, window, aug, pts in keys:
            text = unit.text(clip, pts, is_flipped(aug))
            texts.append(text)
            if text is None:
                captions.append((None, ()))
                continue
            rng = seeded(str(self.shuffle.seed), epoch, f"caption/{clip}/{window}/{aug}")
            captions.append(self.captions.choose(text, rng))
        return {"texts": texts, "caption": [c for c, _ in captions], "caption_fields": [f for _, f in captions]}

    def _joined(
        self, samples: np.ndarray, units: Sequence[UnitCaptions], batch: dict[str, Any]
    ) -> dict[str, list[Any]]:
        flips = [is_flipped(aug) for aug in batch["aug_id"]]
        cond: dict[str, list[Any]] = {}
        for name in self.columns:
            values = [unit.value(clip, name) for unit, clip in zip(units, batch["clip_id"], strict=True)]
            pairs = zip(values, flips, strict=True)
            cond[name] = [mirrored_value(name, value) if flip else value for value, flip in pairs]
        for name, ordered in self._ranks.items():
            values = self.index.clips.column(name).take(self.index.clip[samples]).to_pylist()
            cond[f"{name}_percentile"] = [_percentile(value, ordered) for value in values]
        return cond

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_units": OrderedDict()}


def _sorted(column: Any) -> np.ndarray:
    return np.sort(column.drop_null().to_numpy().astype(float))


def _percentile(value: float | None, ordered: np.ndarray) -> float | None:
    """Share of the clips that lie below, those of equal value counted half; null for null."""
    if value is None:
        return None
    return float(np.searchsorted(ordered, value) + np.searchsorted(ordered, value, "right")) / (2 * len(ordered))


def _plain(shuffle: Shuffle) -> list[Any]:
    return [shuffle.seed, shuffle.open_groups, shuffle.lanes] if shuffle.is_on else ["none"]


def _first(batch: dict[str, Any]) -> dict[str, Any]:
    """The only sample of a batch of one."""
    out = {key: value[0] if isinstance(value, list | np.ndarray) else value for key, value in batch.items()}
    return {**out, "cond": {key: value[0] for key, value in batch["cond"].items()}}
