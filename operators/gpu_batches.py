# SPDX-License-Identifier: Apache-2.0
"""Forward passes in batches that fit: a batch that runs out of memory is halved, and so are those after it."""

import logging
from collections.abc import Callable
from typing import Any

LOG = logging.getLogger(__name__)


class Batches:
    """Runs a model over the first axis of a tensor.

    Args:
        forward: float32 tensor [n, ...] on the CPU -> tensor [n, ...].
        size: rows of a pass, at first.
        device: cpu, or cuda: then from pinned memory.
        in_bfloat16: on cuda, where the model's operations allow it.

    Attributes:
        size: rows of a pass from now on.
    """

    def __init__(
        self, forward: Callable[[Any], Any], size: int, device: str = "cpu", *, in_bfloat16: bool = True
    ) -> None:
        self.size = size
        self._forward, self._device, self._in_bfloat16 = forward, device, in_bfloat16

    def __call__(self, rows: Any) -> Any:
        """float32 on the CPU, in the order of `rows`. Raises torch.OutOfMemoryError if one row alone is too much."""
        import torch

        parts, start = [], 0
        while start < len(rows):
            try:
                parts.append(self._pass(rows[start : start + self.size]))
            except torch.OutOfMemoryError:
                if self.size == 1:
                    raise
                self._halve()
                continue
            start += len(parts[-1])
        return torch.cat(parts)

    def _pass(self, rows: Any) -> Any:
        import torch

        is_cuda = self._device == "cuda"
        rows = rows.pin_memory().to("cuda", non_blocking=True) if is_cuda else rows
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=is_cuda and self._in_bfloat16):
            return self._forward(rows).float().cpu()

    def _halve(self) -> None:
        import torch

        LOG.warning("out of memory with %d at once: going on with %d", self.size, max(1, self.size // 2))
        self.size = max(1, self.size // 2)
        if self._device == "cuda":
            torch.cuda.empty_cache()
