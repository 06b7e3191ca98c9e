# SPDX-License-Identifier: Apache-2.0
"""What a run shows: one live line per stage on a terminal, plain lines elsewhere, a summary table at the end."""

import sys
import time
from collections import Counter
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from pipelines.rounds import RoundResult

LINE_EVERY_S = 10.0


class RunProgress:
    """Implements `pipelines.mill.Progress`. Writes to stderr, so that stdout stays for results."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._is_live = self.console.is_terminal
        self._bar: Progress | None = None
        self._task: Any = None
        self._stage, self._num, self._done, self._failed = "", 0, 0, 0
        self._started = self._said = 0.0

    def start(self, stage: str, num_rows: int, already: int) -> None:
        """A stage begins (or goes on with the next group of units)."""
        self.stop()
        self._stage, self._num, self._done, self._failed = stage, num_rows, already, 0
        self._started = self._said = time.monotonic()
        if self._is_live:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description:<9}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TextColumn("[red]{task.fields[failed]}[/red]"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(stage, total=num_rows, completed=already, rate="", failed="")
        else:
            self.say(f"{stage}: {num_rows} rows to do")

    def advance(self, num_rows: int, num_failed: int) -> None:
        self._done += num_rows
        self._failed += num_failed
        seconds = max(time.monotonic() - self._started, 1e-3)
        rate = f"{self._done / seconds:.1f} rows/s"
        failed = f"{self._failed} failed" if self._failed else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=rate, failed=failed)
        elif time.monotonic() - self._said > LINE_EVERY_S and self._done < self._num:
            left = (self._num - self._done) * seconds / self._done
            self.say(
                f"{self._stage}: {self._done}/{self._num} rows, {rate}, {failed or '0 failed'}, about {left:.0f} s left"
            )
            self._said = time.monotonic()

    def finish(self, result: RoundResult) -> None:
        self.stop()
        if result.num_rows or result.failures:
            failed = f", {len(result.failures)} failed" if result.failures else ""
            workers = f", {result.num_workers} workers" if result.num_workers > 1 else ""
            self.say(f"{result.stage}: {result.num_rows} rows in {result.seconds:.1f} s{workers}{failed}")

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)
        if not self._is_live:
            sys.stderr.flush()

    def stop(self) -> None:
        """Ends the live line; safe at any time."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def summary_table(results: list[RoundResult]) -> Table:
    """Seconds, rows, failures and bytes per stage of this run."""
    table = Table(title="This run", title_justify="left")
    for name in ("stage", "rows", "failed", "seconds", "workers", "decoded s", "MB"):
        table.add_column(name, justify="left" if name in ("stage", "failed") else "right")
    for result in results:
        kinds = Counter(failure["kind"] for failure in result.failures)
        failed = ", ".join(f"{num} {kind}" for kind, num in sorted(kinds.items()))
        decoded = f"{result.decoded_s:.1f}" if result.decoded_s else ""
        size = f"{result.num_bytes / 1e6:.2f}" if result.num_bytes else ""
        workers = str(result.num_workers) if result.num_rows else ""
        table.add_row(result.stage, str(result.num_rows), failed, f"{result.seconds:.1f}", workers, decoded, size)
    return table


def outcome_table(summary: Any) -> Table:
    """What became of the clips: kept, rejected by rule, failed; from `pipelines.select.summary`."""
    table = Table(title="Clips", title_justify="left")
    for name in ("outcome / rule", "gate", "threshold", "clips", "only this", "sources not decoded"):
        table.add_column(name, justify="left" if name in ("outcome / rule", "gate", "threshold") else "right")
    for row in summary.to_dicts():
        label = row["outcome"] if row["outcome"] is not None else f"  {row['rule']}"
        alone = str(row["num_clips_alone"]) if row["outcome"] is None else ""
        cells = (
            label,
            row["gate"] or "",
            row["threshold"] or "",
            str(row["num_clips"]),
            alone,
            str(row["num_sources"] or ""),
        )
        style = "bold" if row["outcome"] is not None else ""
        table.add_row(*map(Text, cells), style=style)  # as Text: a threshold "in [false]" is no markup
    return table
