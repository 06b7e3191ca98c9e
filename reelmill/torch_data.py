# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of the readers. Needs the extra `torch`; `reelmill.shards` and `reelmill.clips` import it on use."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from reelmill.epochs import BatchSize, Epochs


class BatchStream(IterableDataset[dict[str, Any]]):
    """A data set's batches as an iterable data set: give it to a DataLoader with `batch_size=None`."""

    def __init__(self, dataset: Epochs, size: BatchSize, drop_last: bool = False) -> None:
        self.dataset, self.size, self.drop_last = dataset, size, drop_last

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        batches = self.dataset.batches(
            self.size.samples,
            batch_tokens=self.size.tokens,
            drop_last=self.drop_last,
            worker=worker,
            num_workers=num_workers,
        )
        for batch in batches:
            yield {key: as_tensor(value) for key, value in batch.items()}


class ShardLoader:
    """A DataLoader whose position is what the training loop has taken, not what workers have read ahead.

    Args:
        dataset: where to read; its position moves with this loader.
        size: of a batch.
        num_workers: processes; started by spawn on S3, whose clients do not survive a fork.
        options: further arguments of DataLoader.

    Raises:
        ValueError: `persistent_workers`.
    """

    def __init__(
        self, dataset: Epochs, size: BatchSize, *, num_workers: int = 0, drop_last: bool = False, **options: Any
    ) -> None:
        if options.get("persistent_workers"):
            raise ValueError("persistent_workers keeps copies that do not see load_state_dict; leave it off")
        self.dataset = dataset
        if num_workers and dataset.store.is_remote:
            options.setdefault("multiprocessing_context", "spawn")
        stream = BatchStream(dataset, size, drop_last)
        self._loader = DataLoader(stream, batch_size=None, num_workers=num_workers, **options)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        epoch = self.dataset.position.epoch
        for batch in self._loader:
            self.dataset.position = batch["position"].copy()
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
