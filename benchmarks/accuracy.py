# SPDX-License-Identifier: Apache-2.0
"""How right the meters are, judged against exact labels.

    python -m benchmarks.accuracy [--only resolution,shots] [--quick] [--workers 2] [--out docs]

Real photographs come from Debian's wallpaper packages (fetched with apt-get download, nothing is installed), rendered
pictures are rows of their own. Every defect is applied at several levels, encoded, and measured by the real reader and
meters. Results go to `accuracy.json`, `accuracy.md` and plots in the output folder; parts that are not run keep their
last result. Exit code 1 if a floor is missed.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run by its path

from benchmarks.ladders.judge import Floor, Row, Section

PARTS = ("resolution", "picture", "defects", "timing", "motion", "shots", "text")
INTRO = """# Accuracy

`uv run python -m benchmarks.accuracy` writes this page. Every number is measured on labelled material: real photographs
(Debian's wallpaper packages) and rendered pictures, moved by a known camera path, given a defect of known strength,
encoded, then decoded and measured as in a run. Photographs and renderings are separate rows. Where something is learned
or tuned, the numbers are those of leave-one-source-out. Intervals are 95 % bootstraps over sources, not over frames.
A score that is missing (`unknown`) counts as an error. Recall is at 5 % and at 1 % false rejection.
"""


def run_part(name: str, quick: bool) -> tuple[str, float, list[dict[str, Any]]]:
    """(name, CPU-busy seconds, its sections as JSON-able data)."""
    import cv2

    cv2.setNumThreads(1)
    started = time.monotonic()
    found = import_module(f"benchmarks.ladders.{name}").run(quick)
    sections = [found] if isinstance(found, Section) else list(found)
    return name, time.monotonic() - started, [asdict(section) for section in sections]


def run_parts(names: list[str], quick: bool, workers: int) -> dict[str, dict[str, Any]]:
    """Every part in a process of its own; prints each as it ends."""
    results = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        jobs = [pool.submit(run_part, name, quick) for name in names]
        for job in as_completed(jobs):
            name, seconds, sections = job.result()
            results[name] = {"seconds": round(seconds), "sections": sections}
            print(f"{name}: {seconds:.0f} s", flush=True)
            for section in sections:
                print("\n".join(_section_lines(section, plots=False)), flush=True)
    return results


def _section_lines(section: dict[str, Any], plots: bool = True) -> list[str]:
    rows = [Row(**row) for row in section["rows"]]
    floors = [Floor(**floor) for floor in section["floors"]]
    lines = [f"## {section['title']}", ""]
    lines += [section["text"].strip(), ""] if section["text"] else []
    lines += [*_table(rows), ""] if rows else []
    lines += ["| floor | must be | is | |", "|---|---|---|---|"] if floors else []
    for floor in floors:
        bound = f"{'<=' if floor.is_ceiling else '>='} {floor.floor:g}"
        lines.append(f"| {floor.name} | {bound} | {floor.value:.3f} | {'met' if floor.is_met else '**missed**'} |")
    lines += [""] * bool(floors) + [f"* {note}" for note in section["notes"]] + [""] * bool(section["notes"])
    for stem, title, *_ in section["plots"] if plots else []:
        lines += [f"![{title}](accuracy-{stem}.svg)", ""]
    return lines


def _table(rows: list[Row]) -> list[str]:
    head = ("signal", "pictures", "level", "bad / good / sources", "AUC", "recall at 5 %", "at 1 %", "rank", "known")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = (
            f"`{row.signal}`",
            row.kind,
            row.level,
            f"{row.num_bad} / {row.num_good} / {row.num_sources}",
            _with_interval(row.auc, row.auc_ci),
            _with_interval(row.recall_5, row.recall_5_ci),
            _number(row.recall_1),
            _number(row.spearman),
            f"{row.coverage:.0%}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.3f}"


def _with_interval(value: float | None, interval: Any) -> str:
    return _number(value) + (f" ({interval[0]:.2f}-{interval[1]:.2f})" if value is not None and interval else "")


def draw(section: dict[str, Any], folder: Path) -> None:
    """The section's plots as SVG files."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "reelmill"  # the same bytes for the same numbers
    from matplotlib import pyplot

    for stem, title, x_label, y_label, curves in section["plots"]:
        figure, axes = pyplot.subplots(figsize=(6.4, 3.8), layout="constrained")
        for label, x, y in curves:
            axes.plot(x, y, marker="o", markersize=3, label=label)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.savefig(folder / f"accuracy-{stem}.svg", metadata={"Date": None})
        pyplot.close(figure)


def write_page(results: dict[str, dict[str, Any]], folder: Path) -> None:
    """accuracy.json, accuracy.md and the plots."""
    ordered = {name: results[name] for name in PARTS if name in results}
    (folder / "accuracy.json").write_text(json.dumps(ordered, indent=1) + "\n")
    lines = [INTRO]
    for part in ordered.values():
        for section in part["sections"]:
            draw(section, folder)
            lines += _section_lines(section)
    (folder / "accuracy.md").write_text("\n".join(lines).rstrip() + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="comma-separated parts (default: all)")
    parser.add_argument("--quick", action="store_true", help="a few pictures and levels, to see that it runs")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        parser.error(f"--only {unknown[0]}: known parts are {', '.join(PARTS)}")
    from benchmarks.ladders.stills import install_packages

    install_packages()
    arguments.out.mkdir(parents=True, exist_ok=True)
    last = arguments.out / "accuracy.json"
    results = json.loads(last.read_text()) if last.is_file() and not arguments.quick else {}
    results |= run_parts(names, arguments.quick, arguments.workers)
    if not arguments.quick:
        write_page(results, arguments.out)
    floors = [Floor(**f) for name in names for s in results[name]["sections"] for f in s["floors"]]
    missed = [floor.name for floor in floors if not floor.is_met]
    print(f"\n{len(floors) - len(missed)} of {len(floors)} floors met" + "".join(f"\nmissed: {m}" for m in missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
