# SPDX-License-Identifier: Apache-2.0
"""Faces: a detector in YuNet's published layout through OpenCV's own loading and decoding, boxes computed by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from operators.faces import Face, FaceFinder, Faces, area_share, summary
from tests.tiny_onnx import save_yunet
from tests.videos import write_video

SIZE = 480, 640


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_yunet(tmp_path_factory.mktemp("yunet") / "tiny.onnx")


def picture(*marks: tuple[int, int, int], color: tuple[int, int, int] = (255, 0, 0)) -> np.ndarray:
    """Black, with squares (left, top, side) of one colour."""
    rgb_HWC = np.zeros((*SIZE, 3), np.uint8)
    for left, top, side in marks:
        rgb_HWC[top : top + side, left : left + side] = color
    return rgb_HWC


@pytest.mark.parametrize("size", [SIZE, (370, 530)])  # the file says 640 x 640; OpenCV takes any size, padded to 32s
def test_a_box_stands_where_the_published_layout_says(weights: Path, size: tuple[int, int]) -> None:
    height, width = size
    (found,) = FaceFinder(weights, 0.8).find(picture((320, 160, 8))[:height, :width])  # cell (40, 20) of stride 8
    wanted = ((324 - 16) / width, (164 - 24) / height, 32 / width, 48 / height, 1.0)  # 32 x 48 around (324, 164)
    assert found == pytest.approx(wanted, abs=1e-5)


def test_what_is_too_large_is_found_at_a_fourth(weights: Path) -> None:
    finder = FaceFinder(weights, 0.95)
    found = finder.find(picture((320, 160, 32)))
    wanted = ((336 - 64) / 640, (176 - 96) / 480, 128 / 640, 192 / 480)  # one cell of the smaller picture, times four
    assert sum(face[:4] == pytest.approx(wanted, abs=1e-5) for face in found) == 1
    assert finder.find(picture((320, 160, 8), color=(0, 0, 255))) == []  # the planted detector sees red, not blue
    assert all(face.height == pytest.approx(48 / 480) for face in finder.find(picture((320, 160, 16))))


def test_two_marks_of_one_face_are_one(weights: Path) -> None:
    finder = FaceFinder(weights, 0.8)
    assert len(finder.find(picture((320, 160, 8), (328, 160, 8)))) == 1  # 24 of 40 columns overlap
    assert len(finder.find(picture((320, 160, 8), (360, 160, 8)))) == 2


def test_faces_of_a_clip(weights: Path, tmp_path: Path) -> None:
    import av

    seen = [picture(), picture((320, 160, 8)), picture((80, 80, 8), (480, 320, 8))]
    lossless = {"qp": "0", "preset": "ultrafast"}
    path = write_video(tmp_path / "a.mp4", np.repeat(np.stack(seen), 4, axis=0), fps=10, options=lossless)
    with av.open(str(path)) as container:
        pts = [frame.pts for frame in container.decode(video=0)]
    row: dict[str, Any] = {"clip_id": "c", "uri": str(path), "seek_pts": None, "frame_pts": pts}
    row |= {"width_px": SIZE[1], "height_px": SIZE[0], "pixel_aspect": 1.0}
    broken = row | {"clip_id": "d", "uri": str(tmp_path / "none.mp4")}
    schema = pa.schema({c.name: c.dtype for c in Faces.reads})
    operator = Faces(weights=str(weights), min_score=0.5)  # red bleeds out of so small a mark in 4:2:0
    state = operator.setup()
    try:
        table = operator.process(state, pa.Table.from_pylist([row, broken], schema=schema))
    finally:
        operator.close(state)
    first, failed = table.to_pylist()
    assert first["error"] is None
    assert (first["faces_num_max"], first["faces_width_px"]) == (2, 640)
    assert first["faces_frame_share"] == pytest.approx(2 / 3)
    assert first["faces_height_share_max"] == pytest.approx(0.1)
    assert first["faces_area_share_max"] == pytest.approx(2 * 0.05 * 0.1)
    assert [(box["pts"], round(box["left"], 3)) for box in first["faces_boxes"]] == [
        (pts[6], 0.481),
        *((pts[10], left) for left in (0.106, 0.731)),
    ]
    assert (failed["faces_num_max"], failed["faces_boxes"], failed["error_kind"]) == (None, None, "transient")


def test_boxes_over_the_edge_and_over_each_other_count_once() -> None:
    faces = [Face(-0.1, 0, 0.3, 0.5, 0.9), Face(0.1, 0, 0.3, 0.5, 0.8)]
    assert area_share(faces) == pytest.approx(0.4 * 0.5)
    assert summary([7], [[]]) == {
        "faces_num_max": 0,
        "faces_frame_share": 0.0,
        "faces_area_share_max": 0.0,
        "faces_height_share_max": 0.0,
        "faces_boxes": [],
    }


def test_a_file_that_is_no_yunet_is_said(tmp_path: Path) -> None:
    pointer = tmp_path / "face_detection_yunet_2023mar.onnx"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:8f2383e4\nsize 232589\n")
    older = save_yunet(tmp_path / "older.onnx", outputs=("cls", "bbox"))
    for path in (pointer, older):
        with pytest.raises(ValueError, match=rf"weights .*{path.name}: OpenCV finds no YuNet in it"):
            Faces(weights=str(path)).setup()
    with pytest.raises(ValueError, match="min_score is 0"):
        Faces(weights="w", min_score=0.0)
