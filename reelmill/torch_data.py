# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of the readers. Needs the extra `torch`; `reelmill.shards` and `reelmill.clips` import it on use."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from reelmill.storage import is_s3


class Readable(Protocol):
    """What a stream needs of a data set; `ShardDataset` and `ClipDataset` have it."""

    view: Any
    position: Any

    def batches(
        self, batch_size: int, *, drop_last: bool, worker: int, num_workers: int
    ) -> Iterator[dict[str, Any]]: ...

    def next_epoch(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def begin(self, batch_size: int) -> Any: ...


class BatchStream(IterableDataset[dict[str, Any]]):
    """A data set's batches as an iterable data set: give it to a DataLoader with `batch_size=None`."""

    def __init__(self, dataset: Readable, batch_size: int, drop_last: bool = False) -> None:
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        mine = {"worker": worker, "num_workers": num_workers}
        for batch in self.dataset.batches(self.batch_size, drop_last=self.drop_last, **mine):
            yield {key: as_tensor(value) for key, value in batch.items()}


class ShardLoader:
    """A DataLoader whose position is what the training loop has taken, not what workers have read ahead.

    Args:
        dataset: where to read; its position moves with this loader.
        batch_size: samples per rank and step.
        num_workers: processes; started by spawn on S3, whose clients do not survive a fork.
        options: further arguments of DataLoader.

    Raises:
        ValueError: `persistent_workers`.
    """

    def __init__(
        self, dataset: Readable, batch_size: int, *, num_workers: int = 0, drop_last: bool = False, **options: Any
    ) -> None:
        if options.get("persistent_workers"):
            raise ValueError("persistent_workers keeps copies that do not see load_state_dict; leave it off")
        self.dataset, self.batch_size = dataset, batch_size
        if num_workers and is_s3(dataset.view.store.root):
            options.setdefault("multiprocessing_context", "spawn")
        self._loader = DataLoader(
            BatchStream(dataset, batch_size, drop_last), batch_size=None, num_workers=num_workers, **options
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.dataset.begin(self.batch_size)
        epoch = self.dataset.position.epoch
        for batch in self._loader:
            self.dataset.position.step = batch["step"] + 1
            yield batch
        if self.dataset.position.epoch == epoch:  # workers have copies of their own
            self.dataset.next_epoch()

    def state_dict(self) -> dict[str, Any]:
        return self.dataset.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.dataset.load_state_dict(state)


def as_tensor(value: Any) -> Any:
    """Numpy arrays as tensors: ids as int64, the rest as they are; anything else unchanged."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype in (np.uint16, np.uint32):
        value = value.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(value))
