# SPDX-License-Identifier: Apache-2.0
"""Forward passes in batches that fit: a batch that runs out of memory is halved, and so are those after it."""

import logging
from collections.abc import Callable
from typing import Any

LOG = logging.getLogger(__name__)


class Batches:
    """Runs a model over the first axis of a tensor; while one batch computes, the next is copied to the GPU.

    Args:
        forward: tensor [n, ...] on the device -> tensor [n, ...] there.
        size: rows of a pass, at first.
        device: cpu, or cuda: then from pinned memory, on a stream of its own.
        in_bfloat16: on cuda, where the model's operations allow it.

    Attributes:
        size: rows of a pass from now on.
    """

    def __init__(
        self, forward: Callable[[Any], Any], size: int, device: str = "cpu", *, in_bfloat16: bool = True
    ) -> None:
        self.size = size
        self._forward, self._device, self._in_bfloat16 = forward, device, in_bfloat16
        self._copying: Any = None  # the stream of the copies

    def __call__(self, rows: Any) -> Any:
        """float32 on the CPU, in the order of `rows`. Raises torch.OutOfMemoryError if one row alone is too much."""
        import torch

        parts, start, here = [], 0, None
        while start < len(rows):
            try:
                part, here = self._pass(rows, start, here)
                parts.append(part)
                start += len(part)
                continue
            except torch.OutOfMemoryError:
                if self.size == 1:
                    raise
            here = None  # outside of `except`, whose traceback holds the tensors that did not fit
            self._halve()
        return torch.cat(parts)

    def warm_up(self, row: Any) -> None:
        """A full batch of copies of one row: what a first pass costs, and a batch that is too large, show at once."""
        self(row.expand(self.size, *row.shape))

    def _pass(self, rows: Any, start: int, here: Any) -> tuple[Any, Any]:
        """The results of the batch at `start` (already on the device as `here`, or null), and the batch after it."""
        import torch

        is_cuda, stop = self._device == "cuda", start + self.size
        here = self._copied(rows[start:stop]) if here is None else here
        if is_cuda:
            torch.cuda.current_stream().wait_stream(self._copying)
            here.record_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=is_cuda and self._in_bfloat16):
            results = self._forward(here).float()
        following = self._copied(rows[stop : stop + self.size]) if stop < len(rows) else None
        return results.cpu(), following

    def _copied(self, rows: Any) -> Any:
        import torch

        if self._device == "cpu":
            return rows
        self._copying = self._copying or torch.cuda.Stream()
        with torch.cuda.stream(self._copying):
            return rows.contiguous().pin_memory().to(self._device, non_blocking=True)

    def _halve(self) -> None:
        import torch

        LOG.warning("out of memory with %d at once: going on with %d", self.size, max(1, self.size // 2))
        self.size = max(1, self.size // 2)
        if self._device == "cuda":
            torch.cuda.empty_cache()
