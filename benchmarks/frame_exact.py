# SPDX-License-Identifier: Apache-2.0
"""Counts wrong frames: each codec, GOP kind and container of the matrix, read in every way, by every reader.

    python -m benchmarks.frame_exact             # table on stdout; exit code 1 if a frame is wrong
    python -m benchmarks.frame_exact h264 mpeg2  # only clips whose names start so

A frame is wrong if it is not the one with the wanted number drawn into it, or differs in one pixel from the sequential
decode, or is missing. `decord` and `torchcodec` are the mill's backends of those names: what they cannot be trusted
with is read by PyAV, shown in brackets; torchcodec is `absent` where it is not installed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from operators.video import open_segment
from operators.views import View
from tests.frame_matrix import CASES, WAYS, write_case, wrong_reads
from tests.videos import read_number

BACKENDS = ("decord", "torchcodec")


def backend_cell(path: Path, backend: str) -> tuple[str, int, int]:
    """(what to print, frames read, wrong frames) of the whole clip by a backend of the mill."""
    case = CASES[path.name]
    with open_segment(str(path), backend=backend) as segment:
        numbers = [read_number(frame.view(View.PIXELS)) for frame in segment]
        used, note = segment.backend == backend, segment.backend_note or ""
    if "cannot be imported" in note:
        return "absent", 0, 0
    expected = list(range(case.first, case.first + len(numbers)))
    wrong = sum(a != b for a, b in zip(numbers, expected, strict=True))
    return f"{wrong}" if used else f"({wrong})", len(numbers), wrong


def main(prefixes: list[str]) -> int:
    """Prints the table and returns the number of wrong frames."""
    names = [name for name in CASES if not prefixes or name.startswith(tuple(prefixes))]
    num_reads = num_wrong = 0
    print(f"{'clip':28}", *(f"{way:>12}" for way in WAYS), *(f"{b:>11}" for b in BACKENDS), "  wrong / reads")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = write_case(Path(folder), name)
            reads = wrong_reads(path)
            others = [backend_cell(path, backend) for backend in BACKENDS]
            count = sum(r.num for r in reads.values()) + sum(o[1] for o in others)
            wrong = sum(len(r.wrong) for r in reads.values()) + sum(o[2] for o in others)
            cells = [f"{len(r.wrong)}/{r.num}" for r in reads.values()]
            print(f"{name:28}", *(f"{c:>12}" for c in cells), *(f"{o[0]:>11}" for o in others), f"  {wrong} / {count}")
            num_reads, num_wrong = num_reads + count, num_wrong + wrong
    print(f"{num_wrong} wrong frames in {num_reads} reads of {len(names)} clips")
    return num_wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Counts wrong frames over codecs, containers and ways of reading.")
    parser.add_argument("prefixes", nargs="*", help="only clips whose names start with one of these")
    sys.exit(min(main(parser.parse_args().prefixes), 1))
