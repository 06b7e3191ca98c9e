# SPDX-License-Identifier: Apache-2.0
"""Decoding beside computing: the next item is made in a thread while the last one is worked with."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


class ReadAhead:
    """One thread, kept for the life of a worker: a decode child ends with the thread that started it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "read-ahead")

    def __call__(self, items: Iterator[T]) -> Iterator[T]:
        """The items, in order; at most one is made before it is asked for. What making one raises is raised here."""
        pending = self._pool.submit(next, items, _END)
        try:
            while (item := pending.result()) is not _END:
                pending = self._pool.submit(next, items, _END)
                yield item
        finally:
            if not pending.cancel():
                pending.exception()  # waits: nothing goes on once the taker has left

    def close(self) -> None:
        """Ends the thread. Safe to call twice."""
        self._pool.shutdown()
