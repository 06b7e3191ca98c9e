# SPDX-License-Identifier: Apache-2.0
"""Text on small real clips: drawn over the picture, drawn into the scene, before a fixed camera, and none at all."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from operators.contract import RUN_LOG
from operators.text import BOX, Text, area_share, neighbours, reading_size
from operators.text_places import Look, Picture, kinds, same_place
from operators.text_reader import Line
from tests.videos import write_video

H, W, FPS, NUM_FRAMES = 360, 640, 10, 16
SUBTITLE, MARK = "the valley in autumn", "CHANNEL 7"


def landscape(blur_px: float = 5, contrast: float = 25) -> np.ndarray:
    """uint8 [H, 2 W, 3]: smooth blobs, with edges that show a movement and nothing that reads as text."""
    import cv2

    noise_HW1 = np.random.default_rng(3).normal(0, 1, (H, 2 * W, 1)).astype(np.float32)
    blobs_HWC = cv2.GaussianBlur(noise_HW1, (0, 0), blur_px)[..., None].repeat(3, axis=2)
    return np.clip(110 + blobs_HWC * contrast / blobs_HWC.std(), 0, 170).astype(np.uint8)


def write_on(picture_HWC: np.ndarray, text: str, left: int, baseline: int) -> None:
    import cv2

    cv2.putText(picture_HWC, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (250, 250, 250), 2, cv2.LINE_AA)


def panned(canvas_HWC: np.ndarray, speed_px: int = 4) -> np.ndarray:
    return np.stack([canvas_HWC[:, speed_px * t : speed_px * t + W] for t in range(NUM_FRAMES)])


def overlay() -> np.ndarray:
    frames_THWC = panned(landscape())
    for frame_HWC in frames_THWC:
        write_on(frame_HWC, SUBTITLE, 160, 330)
        write_on(frame_HWC, MARK, 470, 40)
    return frames_THWC


def scene() -> np.ndarray:
    canvas_HWC = landscape()
    write_on(canvas_HWC, SUBTITLE, 200, 200)
    return panned(canvas_HWC)


def fixed_camera() -> np.ndarray:
    canvas_HWC = landscape()
    write_on(canvas_HWC, SUBTITLE, 160, 330)
    return panned(canvas_HWC, speed_px=0)


def plain() -> np.ndarray:
    return panned(landscape())


def clip_row(path: Path, height: int = H, width: int = W, **more: Any) -> dict[str, Any]:
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        pts = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
    assert base is not None
    size = {"width_px": width, "height_px": height, "pixel_aspect": 1.0}
    times = {"frame_pts": pts, "time_base_num": base.numerator, "time_base_den": base.denominator}
    return {"clip_id": path.stem, "uri": str(path), "seek_pts": None, **size, **times, **more}


def run(operator: Text, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    table = pa.Table.from_pylist(rows, schema=pa.schema({column.name: column.dtype for column in operator.reads}))
    state = operator.setup()
    try:
        found = operator.process(state, table)
    finally:
        operator.close(state)
    written = [column.name for column in operator.writes]
    assert found.column_names == [*table.column_names, *written, "error_kind", "error", RUN_LOG]
    assert found.schema.field("text_boxes").type == pa.list_(BOX)
    return found.to_pylist()


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the operator says of each clip; two frames of each are read."""
    folder = tmp_path_factory.mktemp("text")
    rows = []
    for make in (overlay, scene, fixed_camera, plain):
        rows.append(clip_row(write_video(folder / f"{make.__name__}.mp4", make(), fps=FPS)))
    lying_THWC = np.rot90(overlay(), 1, (1, 2))
    upright = write_video(folder / "upright.mp4", lying_THWC, fps=FPS, rotation=90)
    rows.append(clip_row(upright, frame_pts=clip_row(upright)["frame_pts"][:1]))
    tiny = write_video(folder / "tiny.mp4", plain()[:4, :24, :24], fps=FPS)
    rows.append(clip_row(tiny, 24, 24))
    (folder / "broken.mp4").write_bytes(b"no video at all")
    rows.append({**rows[0], "clip_id": "broken", "uri": str(folder / "broken.mp4")})
    return {row["clip_id"]: row for row in run(Text(num_frames=2), rows)}


def kinds_of(row: dict[str, Any]) -> set[str]:
    return {box["kind"] for box in row["text_boxes"]}


def test_what_is_laid_over_a_moving_picture_is_found(read: dict[str, dict[str, Any]]) -> None:
    row = read["overlay"]
    assert kinds_of(row) == {"overlay"}
    assert row["text_strings"] == [MARK, SUBTITLE]
    assert row["has_corner_mark"]
    assert row["text_num_boxes"] == 2
    assert len(row["text_area_share_samples"]) == 2
    assert row["text_overlay_area_share"] == row["text_area_share_max"]
    assert 0.02 < row["text_area_share_max"] < 0.1
    assert row["text_scene_area_share"] == row["text_static_area_share"] == 0
    assert 20 / H < row["text_max_height_share"] < 45 / H
    mark = next(box for box in row["text_boxes"] if box["text"] == MARK)
    assert mark["left"] == pytest.approx(470 / W, abs=0.02)
    assert mark["top"] == pytest.approx(18 / H, abs=0.03)
    assert (row["ocr_width_px"], row["error"]) == (W, None)
    assert row["ocr_model"].startswith("rapidocr 3.10.0")


def test_what_moves_with_the_picture_belongs_to_the_scene(read: dict[str, dict[str, Any]]) -> None:
    row = read["scene"]
    assert kinds_of(row) == {"scene"}
    assert row["text_strings"] == [SUBTITLE]
    assert row["text_scene_area_share"] > 0.01
    assert row["text_overlay_area_share"] == 0
    assert not row["has_corner_mark"]


def test_before_a_fixed_camera_nobody_can_tell(read: dict[str, dict[str, Any]]) -> None:
    row = read["fixed_camera"]
    assert kinds_of(row) == {"static"}
    assert row["text_static_area_share"] > 0.01
    assert row["text_overlay_area_share"] == row["text_scene_area_share"] == 0


def test_no_text_is_zero_and_not_null(read: dict[str, dict[str, Any]]) -> None:
    row = read["plain"]
    assert row["text_area_share_samples"] == [0, 0]
    assert (row["text_area_share_max"], row["text_num_boxes"], row["text_max_height_share"]) == (0, 0, 0)
    assert (row["text_strings"], row["text_boxes"], row["has_corner_mark"]) == ([], [], False)


def test_upright_video_is_read_upright(read: dict[str, dict[str, Any]]) -> None:
    """Stored lying on its side; the places are those of the picture as it is shown. One frame has no neighbours."""
    row = read["upright"]
    assert row["text_strings"] == [MARK, SUBTITLE]
    assert kinds_of(row) == {"static"}
    assert row["has_corner_mark"]
    subtitle = next(box for box in row["text_boxes"] if box["text"] == SUBTITLE)
    assert subtitle["width"] > 5 * subtitle["height"] * H / W
    assert subtitle["top"] == pytest.approx(308 / H, abs=0.03)


def test_a_tiny_picture_has_nulls_and_no_error(read: dict[str, dict[str, Any]]) -> None:
    row = read["tiny"]
    assert (row["ocr_width_px"], row["error_kind"]) == (24, None)
    assert row["text_area_share_max"] is row["text_boxes"] is row["has_corner_mark"] is None


def test_a_clip_that_does_not_decode_has_its_error(read: dict[str, dict[str, Any]]) -> None:
    row = read["broken"]
    assert row["error_kind"] == "bad_input"
    assert "broken.mp4" in row["error"]
    assert row["ocr_model"] is row["text_area_share_max"] is None


def test_the_models_round_rejects_burnt_in_text(tmp_path: Path) -> None:
    """The recipe that ships, by its own rule: the clip with an overlay goes, the one without stays."""
    from pipelines.mill import Mill, Options
    from pipelines.plan import build_plan, check
    from pipelines.progress import RunProgress
    from pipelines.recipe import load_recipe

    (tmp_path / "in").mkdir()
    for make in (overlay, plain):
        write_video(tmp_path / "in" / f"{make.__name__}.mp4", make(), fps=FPS)
    settings = ["tokens=[]", "captions=null", "models.text.num_frames=1", "measure.meters=[content]"]
    rules = "rules=[{name: text, column: text_overlay_area_share, max: 0.002, gate: models}]"
    plan = build_plan(load_recipe("quickstart", [*settings, rules]))
    check(plan)
    options = Options(input=str(tmp_path / "in"), out=str(tmp_path / "set"), address="in-process", strict=True)
    mill = Mill(plan, options, RunProgress())
    mill.run()

    def rows(rel: str) -> list[dict[str, Any]]:
        names = [name for name in mill.store.list(rel) if name.endswith(".parquet")]
        return [row for name in names for row in mill.store.read_table(f"{rel}/{name}").to_pylist()]

    names = {row["source_id"]: row["relpath"] for row in rows("sources")}
    decided = {names[row["source_id"]]: row for row in rows(mill.selection.rel)}
    assert {name: row["tier"] for name, row in decided.items()} == {"overlay.mp4": "reject", "plain.mp4": "train"}
    assert [reason["rule"] for reason in decided["overlay.mp4"]["reasons"]] == ["text"]


def line_at(left: int, top: int, width: int = 300, height: int = 40) -> Line:
    corners_42 = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return Line("the valley", 0.9, corners_42 + np.array([left, top], np.float32))


def test_letters_over_a_picture_so_soft_that_it_hardly_changes() -> None:
    """The gradients of blobs of 16 pixels are 0.63 alike after 18 pixels; letters that stay do not change at all."""
    canvas_HWC = landscape(blur_px=16, contrast=60)
    before_HWC, after_HWC = canvas_HWC[:, :W].copy(), canvas_HWC[:, 18 : 18 + W].copy()
    in_scene_HWC = canvas_HWC.copy()
    write_on(in_scene_HWC, SUBTITLE, 160, 200)
    over = [Picture(frame_HWC) for frame_HWC in (before_HWC, after_HWC)]
    for picture in over:
        write_on(picture.rgb_HWC, SUBTITLE, 160, 200)
    parts = [Picture(in_scene_HWC[:, shift : shift + W]) for shift in (0, 18)]
    line, moved = line_at(155, 170), line_at(137, 170)
    assert kinds([Look(over[0], [line], [over[1]])]) == [["overlay"]]
    assert kinds([Look(over[0], [line], [over[0]])]) == [["static"]]
    looks = [Look(parts[0], [line], [parts[1]]), Look(parts[1], [moved], [parts[0]])]
    assert "overlay" not in [kind for of_look in kinds(looks) for kind in of_look]


def test_a_place_that_cannot_be_read_counts_if_several_looks_have_it() -> None:
    canvas_HWC = landscape()
    frames = [Picture(canvas_HWC[:, shift : shift + W].copy()) for shift in (0, 60, 120)]
    for picture in frames:
        write_on(picture.rgb_HWC, SUBTITLE, 160, 200)
    unread = replace(line_at(155, 170), text="", is_read=False)
    looks = [Look(picture, [unread], []) for picture in frames]
    assert kinds(looks[:2]) == [["overlay"], ["overlay"]]
    assert kinds([looks[0], Look(frames[1], [], []), Look(frames[2], [], [])]) == [[None], [], []]
    assert kinds([Look(frames[0], [unread], [frames[1]])]) == [["overlay"]], "there is no other look to ask"


def test_the_letters_own_halo_is_no_surrounding() -> None:
    """Over a plain wall the ring holds nothing but the letters' own edges, and the rest of the picture tells."""
    frames = [Picture(landscape()[:, shift : shift + W].copy()) for shift in (0, 60)]
    for picture in frames:
        picture.rgb_HWC[120:260] = 90
        write_on(picture.rgb_HWC, SUBTITLE, 160, 200)
    tight = line_at(163, 181, width=246, height=22)  # cuts through the letters' outer edges
    assert kinds([Look(frames[0], [tight], [frames[1]])]) == [["overlay"]]


def test_a_box_that_moved_is_not_at_the_same_place_however_long_it_is() -> None:
    line = line_at(100, 50)
    assert same_place(line, [line_at(101, 51)])
    assert same_place(line, [line_at(100, 50, width=200)]), "a word less was read"
    assert not same_place(line, [line_at(120, 50)])
    assert not same_place(line, [line_at(100, 70)])
    assert not same_place(line, [])


def test_frames_are_read_as_large_as_asked_and_never_enlarged() -> None:
    assert reading_size(3840, 2160, 1.0, 1920) == (1080, 1920)
    assert reading_size(2160, 3840, 1.0, 1920) == (1920, 1080)
    assert reading_size(640, 360, 1.0, 1920) == (360, 640)
    assert reading_size(720, 576, 16 / 15, 1920) == (576, 768)


def test_neighbours_are_a_step_away_on_either_side() -> None:
    pts = list(range(0, 100, 10))
    assert neighbours(pts, 50, 20) == [30, 70]
    assert neighbours(pts, 0, 20) == [20]
    assert neighbours([5], 5, 20) == []


def test_boxes_that_overlap_count_once() -> None:
    corners_42 = np.array([[0, 0], [49, 0], [49, 9], [0, 9]], np.float32)
    lines = [Line(text, 1, corners_42 + np.array([shift, 0], np.float32)) for text, shift in (("a", 0), ("b", 25))]
    assert area_share(lines, (20, 100)) == pytest.approx(75 * 10 / 2000)


@pytest.mark.parametrize("fields", [{"num_frames": 0}, {"width_px": 10}, {"min_score": 2.0}, {"step_s": 0.0}])
def test_fields_that_cannot_be_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"text: {next(iter(fields))} is "):
        Text(**fields)
