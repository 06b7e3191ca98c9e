# SPDX-License-Identifier: Apache-2.0
"""The report over a small hand-made data set: complete, self-contained, escaped; and over an empty one."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.report import build_report
from pipelines.report.census import judged_values
from pipelines.report.charts import Limit, Panel, histogram, thin, ticks, timeline
from pipelines.report.pictures import three_frames
from pipelines.report.timelines import stitch
from reelmill.storage import Store
from tests.report_dataset import NASTY, UNIT, write_dataset, write_empty_dataset

VOID = {"meta", "img", "br", "link", "input"}


class Checker(HTMLParser):
    """Collects tags and complains about tags that are closed out of order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_dataset(folder / "out", folder / "media")
    return folder / "out"


@pytest.fixture(scope="module")
def html(root: Path) -> str:
    return build_report(str(root))


def test_well_formed_and_loads_nothing(html: str) -> None:
    checker = parsed(html)
    assert all(load.startswith(("data:image/jpeg;base64,", "#")) for load in checker.loads)
    assert not {"script", "link", "iframe", "object", "embed"} & set(checker.tags)
    assert not re.search(r"https?://|@import|url\(", html)


def test_text_from_the_data_is_escaped(html: str) -> None:
    text = "".join(parsed(html).texts)
    for literal in (
        NASTY,
        "A <title> & more",
        "A <texture> that moves.",
        "moov <atom> not found",
        "notes<1>.txt",
        "ours <i>",
    ):
        assert literal in text
        assert literal not in html


def test_says_what_was_kept_and_why_not(html: str) -> None:
    text = re.sub(r"\s+", " ", "".join(parsed(html).texts))
    assert "motion_speed_mean is 0.01, must be 0.05 to 5" in text
    assert "rejected by header rules: 1" in text
    assert "bad_input: 1" in text
    assert "1 of them" not in text
    assert "50 % of the clips kept" in text
    for title in (
        "Funnel",
        "Kept clips",
        "Rejected clips",
        "Measured over time",
        "Tokens, scale by scale",
        "Distributions",
        "Time",
        "Failed inputs",
        "Ignored files",
    ):
        assert title in text
    assert "scale 0" in text
    assert "scale 1" in text
    assert "dB" in text


def test_pictures_of_both_clips_and_of_the_tokens(html: str) -> None:
    checker = parsed(html)
    assert "no pictures" not in html
    assert sum(load.startswith("data:") for load in checker.loads) >= 2 * 3 + 3 * 2


def test_decoded_seconds_per_source_second(html: str) -> None:
    text = re.sub(r"\s+", " ", " ".join(parsed(html).texts))
    assert "measure 1 2 s 1 0.5 0.5" in text  # 2 s decoded of two sources of 2 s each


def test_empty_data_set(tmp_path: Path) -> None:
    write_empty_dataset(tmp_path / "empty")
    text = "".join(parsed(build_report(str(tmp_path / "empty"))).texts)
    assert "Kept clips" in text
    assert "None." in text


def test_sources_that_are_gone(tmp_path: Path) -> None:
    write_dataset(tmp_path / "out", tmp_path / "media")
    (tmp_path / "media" / NASTY).unlink()
    assert "no pictures: FileNotFoundError" in build_report(str(tmp_path / "out"))


def test_without_captions_shards_and_runs(tmp_path: Path) -> None:
    write_dataset(tmp_path / "out", tmp_path / "media")
    store = Store(tmp_path / "out")
    for rel in ("captions/c", "shards/s", "tokens/s", "series-a", "runs"):
        store.delete_dir(rel)
    html = build_report(str(tmp_path / "out"))
    parsed(html)
    assert "Tokens, scale by scale" not in html


def test_thousands_of_clips_stay_small(tmp_path: Path) -> None:
    write_dataset(tmp_path / "out", tmp_path / "media")
    store = Store(tmp_path / "out")
    for rel in ("clips-a", "selection-a", "scores/measure-a"):
        table = store.read_table(f"{rel}/{UNIT}")
        many = pa.concat_tables([table, *(_renamed(table, k) for k in range(1500))])
        store.write_table(f"{rel}/{UNIT}", many)
    html = build_report(str(tmp_path / "out"))
    text = "".join(parsed(html).texts)
    assert "24 of 1,501" in text
    assert len(html) < 8_000_000


def _renamed(table: pa.Table, k: int) -> pa.Table:
    names = [None if name is None else f"{k:08x}{name[8:]}" for name in table["clip_id"].to_pylist()]
    return table.set_column(
        table.schema.get_field_index("clip_id"), table.schema.field("clip_id"), pa.array(names, pa.string())
    )


def test_data_set_in_s3(root: Path, s3_bucket: str) -> None:
    local, remote = Store(root), Store(f"{s3_bucket}/set")
    for path in (p for p in root.rglob("*") if p.is_file()):
        rel = path.relative_to(root).as_posix()
        remote.write_bytes(rel, local.read_bytes(rel))
    html = build_report(remote.root)
    assert "no pictures" not in html
    assert "Tokens, scale by scale" in html


def test_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data set"):
        build_report(str(tmp_path))


def test_share_of_bad_samples() -> None:
    column = pa.chunked_array([pa.array([[1.0, 5.0, None], [], None, [3.0]], pa.list_(pa.float32()))])
    values = judged_values(column, {"max_bad_share": 0.1, "min": 3.0, "max": None})
    assert values is not None
    np.testing.assert_array_equal(values, [0.5, np.nan, np.nan, 0.0])


def test_stitched_series_hand_the_pair_over() -> None:
    segments = [{"frame_pts": [0, 1], "x": [None, 2.0, 7.0]}, {"frame_pts": [2, 3], "x": [None, 4.0]}]
    pts, values = stitch(segments, "x", "m")
    np.testing.assert_array_equal(pts, [0, 1, 2, 3])
    np.testing.assert_array_equal(values, [np.nan, 2, 7, 4])
    sampled = [{"frame_pts": [0, 1, 2], "m_pts": [0, 2], "x": [1.0, 3.0]}]
    np.testing.assert_array_equal(stitch(sampled, "x", "m")[0], [0, 2])


def test_three_frames_prefer_near_keys() -> None:
    pts = list(range(0, 100, 1))
    assert three_frames(pts, np.array([0, 45])) == [0, 45, 99]
    assert three_frames(pts, np.array([], np.int64)) == [0, 49, 99]
    assert three_frames([7], np.array([7])) == [7]


def test_thinning_keeps_the_peaks() -> None:
    values = np.zeros(50_000)
    values[31_234] = 9.0
    assert thin(np.arange(50_000.0), values)[1].max() == 9.0
    assert len(thin(np.arange(50_000.0), values)[0]) <= 1400


def test_charts_survive_odd_input() -> None:
    nothing = np.empty(0)
    parsed(histogram(nothing, nothing, [Limit(1.0, "a")], "x"))
    parsed(histogram(np.array([2.0]), nothing, [], "x"))
    gaps = Panel("p", np.arange(3.0), np.array([np.nan, 1.0, np.nan]), (Limit(5.0, "<"),))
    parsed(timeline([gaps, Panel("q", nothing, nothing)], [], [1.0], 2.0, "d"))
    assert ticks(0, 1, 4) == pytest.approx([0, 0.5, 1.0]) or len(ticks(0, 1, 4)) <= 5
