# SPDX-License-Identifier: Apache-2.0
"""Precision and recall of the caption checks on labelled captions.

    python -m benchmarks.caption_checks [--wrong] [--json PATH]

The first file was written before the checks and they were made to pass it. The second was written after them, blind to
their rules; they did badly on it (docs/captions.md has the numbers) and were then mended on both. The third was written
after that and nothing was changed for it: its numbers are what to expect.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run by its path

from captioning.checks import twins
from captioning.checks.table import ALIKE, check_facts, check_prose, check_summary

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "first": ROOT / "tests/data/caption_checks.jsonl",
    "second": ROOT / "tests/data/caption_checks_second.jsonl",
    "third": ROOT / "tests/data/caption_checks_third.jsonl",
}
FLAGS = {
    "completeness": "caption_is_incomplete",
    "length": "caption_is_out_of_band",
    "repetition": "caption_is_repetitive",
    "boilerplate": "caption_has_boilerplate",
    "language": "caption_is_foreign",
}


@dataclass(frozen=True)
class Count:
    """Captions of one check: rightly flagged, wrongly flagged, missed, rightly passed."""

    hits: int = 0
    false_alarms: int = 0
    misses: int = 0
    passed: int = 0

    def plus(self, wanted: bool, got: bool) -> "Count":
        return Count(
            self.hits + (wanted and got),
            self.false_alarms + (got and not wanted),
            self.misses + (wanted and not got),
            self.passed + (not wanted and not got),
        )

    @property
    def precision(self) -> float:
        return self.hits / (self.hits + self.false_alarms) if self.hits + self.false_alarms else 1.0

    @property
    def recall(self) -> float:
        return self.hits / (self.hits + self.misses)


def flag_of(item: Mapping[str, Any]) -> bool:
    """What the checks say of a labelled item."""
    check, texts = item["check"], item["texts"]
    if check == "twins":
        pair = [twins.sketch(one["Detailed Description"]) for one in (texts, item["other"])]
        return all(pair) and twins.resemblance(*filter(None, pair)) >= ALIKE
    if check == "novelty":
        return bool(check_summary(texts)["summary_adds_facts"])
    if check in FLAGS:
        return check_prose(texts)[FLAGS[check]]
    return bool(check_facts(texts, item.get("labels", {}), item["facts"])[f"contradicts_{check}"])


def items(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def measure(path: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, Count]:
    """Counts by check; `say` is told of each item that is judged wrongly."""
    counts: dict[str, Count] = {}
    for item in items(path):
        got = flag_of(item)
        counts[item["check"]] = counts.get(item["check"], Count()).plus(item["flag"], got)
        if got != item["flag"]:
            say(f"{'missed' if item['flag'] else 'false alarm'}: {item['check']}: {item['texts']}")
    return counts


def _cell(count: Count) -> str:
    num = f"({count.hits + count.misses}+{count.false_alarms + count.passed})"
    return f"{count.precision:>20.2f} {count.recall:>6.2f} {num:>8}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wrong", action="store_true", help="print each item that is judged wrongly")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    options = parser.parse_args()
    say: Callable[[str], None] = print if options.wrong else lambda line: None
    found = {name: measure(path, say) for name, path in FILES.items() if path.exists()}
    print(f"{'check':14}" + "".join(f"{name + ': precision, recall (of)':>36}" for name in found))
    for check in found["first"]:
        print(f"{check:14}" + "".join(_cell(counts[check]) for counts in found.values()))
    if options.json:
        report = {
            n: {c: {"precision": v.precision, "recall": v.recall} for c, v in of.items()} for n, of in found.items()
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
