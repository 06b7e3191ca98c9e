# SPDX-License-Identifier: Apache-2.0
"""The caption operator: its table and id, what an engine that looks at frames is given, and real video to text."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from captioning import measured
from captioning.engines import ENGINES, CaptionResult, Clip, columns_of
from captioning.measured import MeasuredEngine
from captioning.operator import Caption
from captioning.schema import CaptionTexts
from captioning.wording import BOUNDS, Bound
from operators.aggregate import score_clips, score_columns
from operators.catalog import METERS, meter_class
from operators.contract import RUN_LOG
from operators.cut import CutConfig, SplitConfig, cut_clips
from operators.measure import Measure, segment_rows
from operators.probe import Probe
from pipelines.listing import list_sources
from reelmill.column import arrow_schema
from reelmill.tables import CAPTION_TEXTS, CAPTIONS
from tests.videos import texture, write_video

ALL_METERS = tuple(meter_class(name)() for name in sorted(METERS))


def run(operator: Any, table: pa.Table) -> pa.Table:
    state = operator.setup()
    try:
        return operator.process(state, table)
    finally:
        operator.close(state)


def clip_rows(sources: pa.Table) -> pa.Table:
    """What the mill knows of each clip of the sources: clip, scores, source; the first that has a name wins."""
    series = run(Measure(meters=ALL_METERS), segment_rows(sources))
    clips = cut_clips(sources, series, CutConfig(), SplitConfig())
    scores = score_clips(clips, series, sources, ALL_METERS).drop_columns(["source_id"])
    source_of = {row["source_id"]: row for row in sources.to_pylist()}
    rows = [
        source_of[clip["source_id"]] | score | clip
        for clip, score in zip(clips.to_pylist(), scores.to_pylist(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=arrow_schema(Caption.reads))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Clips of three videos: pans to the left and right (48 px/s at 180 rows), and a dark grey still life."""
    folder = tmp_path_factory.mktemp("footage")
    write_video(folder / "left.mp4", texture(40, 180, 320, speed_px=-4.0), fps=12)
    write_video(folder / "right.mp4", texture(40, 180, 320, speed_px=4.0), fps=12)
    scene = (texture(1, 180, 320, seed=3).mean(axis=-1, keepdims=True) / 5).astype(np.uint8)
    write_video(folder / "still.mp4", np.broadcast_to(scene, (40, 180, 320, 3)).copy(), fps=12)
    return clip_rows(run(Probe(), list_sources(str(folder), ("mp4",), ()).rows))


def captions(table: pa.Table) -> dict[str, dict[str, Any]]:
    names = [Path(uri).stem for uri in table["uri"].to_pylist()]
    return dict(zip(names, run(Caption(), table).to_pylist(), strict=True))


def test_rendered_movement_is_told_with_its_direction_and_speed(table: pa.Table) -> None:
    rows = captions(table)
    for name in ("left", "right"):
        said = re.search(r"pans or tracks (\w+) at about (\d+)%", rows[name]["Camera Movement"])
        assert said is not None
        assert said[1] == name
        assert int(said[2]) == pytest.approx(100 * 48 / 180, abs=2)
        assert f"the camera pans or tracks {name}." in rows[name]["Brief Description"]
    assert rows["still"]["Camera Movement"] == "The camera is static."
    assert rows["still"]["Brief Description"] == (
        "A dark, black-and-white landscape clip of 3.3 seconds with a static camera."
    )
    assert rows["still"]["Video Atmosphere"].startswith("The picture is almost still.")


def test_rows_are_the_captions_table(table: pa.Table) -> None:
    result = run(Caption(), table)
    assert result.drop_columns([RUN_LOG]).schema.equals(arrow_schema(CAPTIONS))
    assert result["clip_id"].to_pylist() == table["clip_id"].to_pylist()
    assert result["span_start_pts"].to_pylist() == table["start_pts"].to_pylist()
    assert result["span_end_pts"].to_pylist() == table["end_pts"].to_pylist()
    assert set(result["caption_grounding"].to_pylist()) == {"measured"}
    assert set(result["status"].to_pylist()) == {"ok"}
    assert result["error"].null_count == result.num_rows
    for row in result.to_pylist():
        for field in CAPTION_TEXTS:
            told = [evidence["sentence"] for evidence in row["evidence"] if evidence["field"] == field]
            assert row[field] == (" ".join(told) or None)


def test_same_rows_same_bytes_whatever_the_batch(table: pa.Table) -> None:
    whole = run(Caption(), table)
    parts = pa.concat_tables([run(Caption(), table.slice(i, 1)) for i in range(table.num_rows)])
    assert whole.equals(parts)


def test_it_reads_the_meters_own_columns(table: pa.Table) -> None:
    scores = {column.name: column for column in score_columns(ALL_METERS)}
    for column in MeasuredEngine.reads:
        assert scores.get(column.name, column) == column
    with pytest.raises(ValueError, match="writes no_such_column"):
        columns_of("fps", "no_such_column")
    with pytest.raises(KeyError, match="camera_shake"):
        run(Caption(), table.drop_columns(["camera_shake"]))


def test_the_id_follows_what_changes_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Caption().captioner_id
    assert re.fullmatch(r"[0-9a-f]{16}", before)
    assert Caption(engine="measured").captioner_id == before
    monkeypatch.setitem(BOUNDS, "dark", Bound(0.3, "of full scale", "a test"))
    assert Caption().captioner_id != before
    monkeypatch.undo()
    monkeypatch.setattr(measured.MeasuredEngine, "version", 3)
    assert Caption().captioner_id != before


def test_an_unknown_engine_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"captions\.engine is 'mesured'; did you mean 'measured'"):
        Caption(engine="mesured")


class FrameCounter:
    """An engine that looks at frames: it counts them, and refuses clips of one source."""

    name = "counter"
    version = 1
    looks_at_frames = True
    reads = columns_of("width_px")
    parameters: ClassVar[dict[str, Any]] = {}

    def start(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def caption_all(self, clips: Sequence[Clip]) -> list[CaptionResult]:
        assert self.is_open
        return [self.caption(clip) for clip in clips]

    def caption(self, clip: Clip) -> CaptionResult:
        frames = clip.frames
        assert frames is not None
        assert frames.size_px[0] == clip.facts.get("width_px") == clip.row["width_px"]
        if frames.uri.endswith("left.mp4"):
            error = {"error_kind": "resource", "error": "the model ran out of memory"}
            return CaptionResult(texts=None, grounding=None, status="failed", columns=error)
        brief = f"{len(frames.frame_pts)} frames"
        texts = CaptionTexts.model_validate(dict.fromkeys(CAPTION_TEXTS) | {"Brief Description": brief})
        return CaptionResult(texts, grounding="model")


def test_an_engine_that_looks_is_told_where_the_frames_lie(table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "counter", f"{__name__}:FrameCounter")
    rows = {
        Path(uri).stem: row
        for uri, row in zip(table["uri"].to_pylist(), run(Caption(engine="counter"), table).to_pylist(), strict=True)
    }
    assert (rows["right"]["Brief Description"], rows["right"]["caption_grounding"]) == ("40 frames", "model")
    assert rows["right"]["evidence"] is None
    failed = rows["left"]
    assert (failed["status"], failed["error_kind"]) == ("failed", "resource")
    assert failed["Brief Description"] is None
    assert failed["captioner_id"] == rows["right"]["captioner_id"] != Caption().captioner_id
