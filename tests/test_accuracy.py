# SPDX-License-Identifier: Apache-2.0
"""The judge of the accuracy benchmark on cases that can be counted by hand, and the page it writes."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks.accuracy import write_page
from benchmarks.ladders.judge import Floor, Section, auc, judge, recall_at, spearman
from benchmarks.ladders.stills import PHOTOS, RENDERED, read_still


def test_auc_is_the_usual_one_with_ties() -> None:
    rng = np.random.default_rng(0)
    bad, good = rng.integers(0, 9, 60) + 1.0, rng.integers(0, 9, 80) + 0.0
    theirs = roc_auc_score([1] * 60 + [0] * 80, np.concatenate([bad, good]))
    assert auc(bad, good) == pytest.approx(theirs)


def test_unknown_is_an_error_on_either_side() -> None:
    assert auc(np.array([1.0, np.nan]), np.array([0.0])) == 0.5
    assert auc(np.array([1.0]), np.array([0.0, np.nan])) == 0.5
    assert recall_at(np.array([1.0, np.nan]), np.array([0.0]), 0.05) == 0.5
    assert recall_at(np.array([1.0]), np.array([0.0, np.nan]), 0.05) == 0.0


def test_recall_keeps_the_promised_rate_of_false_rejections() -> None:
    good, bad = np.arange(100.0), np.array([93.5, 95.5, 98.5, 99.5])
    assert recall_at(bad, good, 0.05) == 0.75  # five of 100 may lie above the threshold: it is 94
    assert recall_at(np.array([94.0, 94.1]), good, 0.05) == 0.5
    assert recall_at(bad, good, 0.0) == 0.25


def test_spearman_is_the_usual_one_and_leaves_unknowns_out() -> None:
    x, y = [1, 2, 2, 3, 4, 5], [2.0, 1.0, 4.0, 4.0, 3.0, 9.0]
    expected = np.asarray(spearmanr(x, y))[0]
    assert spearman(x, y) == pytest.approx(expected)
    assert spearman([*x, 9], [*y, float("nan")]) == pytest.approx(expected)


def test_intervals_are_over_sources() -> None:
    """Ten copies of one source are one source: the interval does not shrink."""
    bad, good = [1.0, 0.2, 0.9, 0.4], [0.3, 0.1, 0.8, 0.0]
    names = list("abcd")
    once = judge("s", "photo", "x2", bad, good, names, names)
    often = judge("s", "photo", "x2", bad * 10, good * 10, names * 10, names * 10)
    assert once.auc == often.auc
    assert once.auc_ci == often.auc_ci
    assert often.num_sources == 4


def test_the_page_says_what_was_missed(tmp_path: Path) -> None:
    names = list("abcd")
    section = Section(
        "Borders",
        "What was done.",
        [judge("border_bar_share", "photo", "1 % bars", [1, 2, 3, None], [0, 0, 1, 0], names, names, spearman=0.5)],
        [Floor("recall", 0.7, 0.99), Floor("misses", 0.0, 0.0, is_ceiling=True)],
        ["false alarms: none"],
        [("bars", "Recall by depth", "depth", "recall", [("photo", [1.0, 2.0], [0.5, 1.0])])],
    )
    results = {"picture": {"seconds": 1, "sections": [asdict(section)]}}
    write_page(results, tmp_path)
    page = (tmp_path / "accuracy.md").read_text()
    assert "| recall | >= 0.99 | 0.700 | **missed** |" in page
    assert "| misses | <= 0 | 0.000 | met |" in page
    assert "| 88% |" in page
    assert "accuracy-bars.svg" in page
    assert (tmp_path / "accuracy-bars.svg").read_text().startswith("<?xml")
    write_page(json.loads((tmp_path / "accuracy.json").read_text()), tmp_path)  # what is stored makes the same page
    assert (tmp_path / "accuracy.md").read_text() == page


def test_pictures_are_named_once_and_renderings_have_full_detail() -> None:
    names = [still.name for still in (*PHOTOS, *RENDERED)]
    assert len(set(names)) == len(names)
    picture_HWC = read_still(RENDERED[3])
    assert picture_HWC.shape == (1600, 2560, 3)
    assert picture_HWC.dtype == np.uint8
    assert np.abs(np.diff(picture_HWC[:, :, 1].astype(int), axis=1)).mean() > 4
