# SPDX-License-Identifier: Apache-2.0
"""Expected against found, over a hand-made data set."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.demo import check_demo, expected_against_found
from pipelines.samples import SAMPLES
from tests.report_dataset import CUT, NASTY, write_dataset


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("demo")
    write_dataset(folder / "out", folder / "media")
    return str(folder / "out")


def verdict(root: str, file: str, **expected: Any) -> str:
    label = {"file": file, "fault": "f", "expected": expected}
    (row,) = expected_against_found(root, {"samples": [label]})
    return row.verdict


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        (NASTY, {"num_clips": 2}, {"num_clips": 1}),
        (NASTY, {"cut_frame": CUT}, {"cut_frame": CUT + 1}),
        (NASTY, {"reason": "motion"}, {"reason": "border"}),
        (NASTY, {"codec": "h264", "num_clips": 2}, {"codec": "hevc", "num_clips": 2}),
        (NASTY, {"damaged": False}, {"damaged": True}),
        ("small.mp4", {"tier": "reject", "reason": "size"}, {"tier": "train"}),
        ("broken.mp4", {"error_kind": "bad_input"}, {"error_kind": "transient"}),
        ("broken.mp4", {"damaged": True}, {"ignored": True}),
        ("notes<1>.txt", {"ignored": True}, {"num_clips": 0}),
    ],
)
def test_each_key_can_hold_and_miss(root: str, file: str, right: dict[str, Any], wrong: dict[str, Any]) -> None:
    assert verdict(root, file, **right) == "ok"
    assert verdict(root, file, **wrong) == "MISS"


def test_a_clip_kept_and_a_clip_rejected_is_neither(root: str) -> None:
    assert verdict(root, NASTY, tier="train") == "MISS"
    assert verdict(root, NASTY, tier="reject") == "MISS"


def test_a_file_without_a_row_is_a_miss(root: str) -> None:
    assert verdict(root, "absent.mp4", num_clips=1) == "MISS"
    assert verdict(root, "absent.mp4", ignored=True) == "MISS"


def test_table_counts_misses(root: str, tmp_path: Path) -> None:
    labels = {"samples": [{"file": NASTY, "fault": "[red]", "expected": {"num_clips": n}} for n in (2, 3)]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    table, misses = check_demo(root, str(tmp_path))
    assert misses == 1
    assert table.row_count == 2


def test_every_sample_expects_something() -> None:
    assert all(sample.expected for sample in SAMPLES)
