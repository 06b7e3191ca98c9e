# SPDX-License-Identifier: Apache-2.0
"""Faces in a clip: how many, how large, where. Found, never recognised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources
from operators.decode_ahead import Call, decode_ahead, each_clip
from operators.decode_child import DecodeChild
from operators.image_model import spread
from operators.text import reading_size
from operators.weights import Need, Weights, locate, weights_hash
from reelmill.column import Column
from reelmill.tables import CLIP_ID, CLIPS, SOURCES

_READS = {column.name: column for column in (*SOURCES, *CLIPS)}
LARGEST_PX = 300  # YuNet was trained on faces of 10 to 300 pixels
COARSE = 4  # the second look at a larger picture has a fourth of its sides: faces of 40 to 1,200 of its pixels
OVERLAP = 0.3  # of two boxes over their union, above which they are one face: OpenCV's default
MOST = 5000  # boxes before that: OpenCV's default
BOX = pa.struct(
    [
        ("pts", pa.int64()),
        ("score", pa.float32()),
        ("left", pa.float32()),
        ("top", pa.float32()),
        ("width", pa.float32()),
        ("height", pa.float32()),
    ]
)
_FAILED = "null if the row failed"


@dataclass(frozen=True, kw_only=True)
class Faces(Operator):
    """Looks for faces in `num_frames` frames of each clip, by YuNet.

    A 16:9 frame is looked at `width_px` wide, other shapes at as many pixels, never larger than it is, and once more at
    a fourth of that for the faces that are too large for YuNet there. At 3840 all faces from 2 % of the frame's height
    to 90 % were found, eight of ten of 1.5 %, three of ten of 1 %; at 1920 two of ten of 2 % (docs/recipes.md). What
    looks like a face counts as one: a dial, a mask, a picture on a wall.

    Reads: the clip's frames and their source.
    Writes: faces_num_max, faces_frame_share, faces_area_share_max, faces_height_share_max, faces_boxes, faces_width_px,
        faces_weights_hash.

    Args:
        weights: face_detection_yunet_2023mar.onnx or _2026may.onnx: a path, s3://, or hf://ORG/NAME@COMMIT/FILE.
        sha256: of that file; null: not checked.
        num_frames: frames that are looked at, evenly spread; a shorter clip gives all it has.
        width_px: width that a 16:9 frame is looked at.
        min_score: confidence below which a face does not count, 0-1.
        time_limit_s: seconds to decode one clip's frames, above which the row fails with kind `resource`.
        memory_limit_gb: private memory of the decode child, likewise.

    Raises:
        ValueError: a number out of its range, or a file that is no YuNet.
    Source: Wu et al. 2023 (doi:10.1007/s11633-023-1423-y) in OpenCV's FaceDetectorYN; score: ours, see docs/recipes.md.
    """

    name: ClassVar[str] = "faces"
    neutral: ClassVar[frozenset[str]] = frozenset({"time_limit_s", "memory_limit_gb"})
    resources: ClassVar[Resources] = Resources(num_cpus=1.0, memory_gb=2.5)
    seconds_per_row: ClassVar[float] = 4.0
    reads: ClassVar[tuple[Column, ...]] = (
        CLIP_ID,
        *(_READS[name] for name in ("uri", "seek_pts", "frame_pts", "width_px", "height_px", "pixel_aspect")),
    )
    writes: ClassVar[tuple[Column, ...]] = (  # type: ignore[assignment]
        Column("faces_num_max", pa.int32(), f"faces in the frame that has the most; {_FAILED}"),
        Column("faces_frame_share", pa.float64(), f"frames with a face over the frames looked at, 0-1; {_FAILED}"),
        Column(
            "faces_area_share_max",
            pa.float64(),
            f"union of a frame's face boxes over its area, largest over the frames, 0-1; {_FAILED}",
        ),
        Column(
            "faces_height_share_max",
            pa.float64(),
            f"height of the tallest face's box over the frame's height; 0 without faces; {_FAILED}",
        ),
        Column(
            "faces_boxes",
            pa.list_(BOX),
            f"every face: pts of its frame, confidence, and its upright box in shares of the frame; {_FAILED}",
        ),
        Column("faces_width_px", pa.int32(), f"width that the frames were looked at; {_FAILED}"),
        Column("faces_weights_hash", pa.string(), f"sha256 of the weights; {_FAILED}"),
    )

    weights: str
    sha256: str | None = None
    num_frames: int = 3
    width_px: int = 3840
    min_score: float = 0.8
    time_limit_s: float = 300.0
    memory_limit_gb: float = 4.0

    def __post_init__(self) -> None:
        Weights(self.weights, self.sha256)
        for field, low in (("num_frames", 1), ("width_px", 64)):
            if getattr(self, field) < low:
                raise ValueError(f"faces: {field} is {getattr(self, field)}, it must be at least {low}")
        if not 0 < self.min_score <= 1:
            raise ValueError(f"faces: min_score is {self.min_score}, it must be above 0 and at most 1")

    @property
    def needs(self) -> tuple[Need, ...]:
        note = "face_detection_yunet_2023mar.onnx of the hub's opencv/face_detection_yunet (0.2 MB)"
        return (Need(Weights(self.weights, self.sha256), "MIT", note),)

    def setup(self) -> tuple["FaceFinder", str, DecodeChild]:
        path = locate(Weights(self.weights, self.sha256))
        return FaceFinder(path, self.min_score), weights_hash(path), DecodeChild(self.memory_limit_gb)

    def process(self, state: tuple["FaceFinder", str, DecodeChild], batch: pa.Table) -> pa.Table:
        """The batch with the faces' columns; a clip whose frames do not decode gets its error and nulls."""
        finder, digest, child = state
        rows = batch.select([column.name for column in self.reads]).to_pylist()
        calls = (self._call(row) for row in rows)
        decoded = decode_ahead(child, "operators.video:read_frames", calls, self.time_limit_s)
        return self.with_writes(batch, each_clip(rows, decoded, partial(self._cells, finder, digest)))

    def close(self, state: tuple["FaceFinder", str, DecodeChild]) -> None:
        state[2].close()

    def _call(self, row: dict[str, Any]) -> Call:
        wanted = spread(row["frame_pts"], self.num_frames)
        size = reading_size(row["width_px"], row["height_px"], row["pixel_aspect"], self.width_px)
        return {"uri": row["uri"], "frame_pts": wanted, "seek_pts": row["seek_pts"], "size": size}

    def _cells(self, finder: "FaceFinder", digest: str, row: dict[str, Any], frames_THWC: np.ndarray) -> dict[str, Any]:
        wanted = spread(row["frame_pts"], self.num_frames)
        found = summary(wanted, [finder.find(frame_HWC) for frame_HWC in frames_THWC])
        return found | {"faces_width_px": frames_THWC.shape[2], "faces_weights_hash": digest}


class Face(NamedTuple):
    """A face's upright box in shares of the picture's width and height; it may reach over the edge. And its score."""

    left: float
    top: float
    width: float
    height: float
    score: float


class FaceFinder:
    """YuNet over single pictures, on one thread.

    Raises:
        ValueError: the file is no YuNet of 2023 or later.
    """

    def __init__(self, path: Path, min_score: float) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._min_score = min_score
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns of what is of no concern
        try:
            self._detector = cv2.FaceDetectorYN.create(str(path), "", (64, 64), min_score, OVERLAP, MOST)
            self._detector.detect(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            raise ValueError(
                f"weights {path}: OpenCV finds no YuNet in it; wanted is face_detection_yunet_2023mar.onnx, "
                f"232,589 bytes, not its pointer of Git LFS: {error}"
            ) from error
        finally:
            cv2.utils.logging.setLogLevel(level)

    def find(self, picture_HWC: np.ndarray) -> list[Face]:
        """The faces of a uint8 RGB picture, surest first."""
        import cv2

        bgr_HWC = np.ascontiguousarray(picture_HWC[..., ::-1])
        looks = [self._look(bgr_HWC)]
        height, width = bgr_HWC.shape[:2]
        if height > LARGEST_PX:
            small = max(1, width // COARSE), max(1, height // COARSE)
            looks.append(self._look(cv2.resize(bgr_HWC, small, interpolation=cv2.INTER_AREA)))
        faces = [face for look in looks for face in look]
        boxes = [(f.left * width, f.top * height, f.width * width, f.height * height) for f in faces]
        kept = cv2.dnn.NMSBoxes(boxes, [face.score for face in faces], self._min_score, OVERLAP)
        return [faces[int(index)] for index in np.array(kept).ravel()]

    def _look(self, bgr_HWC: np.ndarray) -> list[Face]:
        height, width = bgr_HWC.shape[:2]
        self._detector.setInputSize((width, height))
        found_N15 = self._detector.detect(bgr_HWC)[1]
        if found_N15 is None:
            return []
        return [Face(x / width, y / height, w / width, h / height, s) for x, y, w, h, *_, s in found_N15.tolist()]


def summary(pts: Sequence[int], faces: Sequence[Sequence[Face]]) -> dict[str, Any]:
    """The columns that are about the faces of each frame looked at."""
    return {
        "faces_num_max": max(map(len, faces)),
        "faces_frame_share": sum(map(bool, faces)) / len(faces),
        "faces_area_share_max": max(map(area_share, faces)),
        "faces_height_share_max": max((face.height for found in faces for face in found), default=0.0),
        "faces_boxes": [{"pts": at, **face._asdict()} for at, found in zip(pts, faces, strict=True) for face in found],
    }


def area_share(faces: Sequence[Face], cells: int = 1000) -> float:
    """Union of the faces' boxes over the picture's area, to a thousandth of its sides."""
    covered_HW = np.zeros((cells, cells), bool)
    for face in faces:
        left, top, right, bottom = (
            min(cells, max(0, math.floor(cells * edge + 0.5)))
            for edge in (face.left, face.top, face.left + face.width, face.top + face.height)
        )
        covered_HW[top:bottom, left:right] = True
    return float(covered_HW.mean())
