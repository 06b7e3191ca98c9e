# SPDX-License-Identifier: Apache-2.0
"""Text in a clip: how much of the picture it covers, and whether it was laid over it or belongs to the scene."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources
from operators.decode_ahead import Call, decode_ahead, each_clip
from operators.decode_child import DecodeChild
from operators.image_model import spread
from operators.text_places import OVERLAY, SCENE, STATIC, Look, Picture, kinds, same_place
from operators.text_reader import MIN_PX, Line, TextReader
from reelmill.column import Column
from reelmill.tables import CLIP_ID, CLIPS, SOURCES

_READS = {column.name: column for column in (*SOURCES, *CLIPS)}
FRAME_ASPECT = 16 / 9
CORNER_SHARE = 0.1  # a corner mark's own corner lies this near to the frame's, of width and height (cosmos-curate)
MARK_MAX_WIDTH = 0.4  # ours: of the frame; a wider line is a subtitle or a ticker
BOX = pa.struct(
    [
        ("pts", pa.int64()),
        ("text", pa.string()),
        ("score", pa.float32()),
        ("kind", pa.string()),
        ("left", pa.float32()),
        ("top", pa.float32()),
        ("width", pa.float32()),
        ("height", pa.float32()),
    ]
)
Found = list[tuple[Line, str]]  # the lines of one look and their kinds
_FAILED = "null if the row failed or the picture is smaller than 32 pixels"


@dataclass(frozen=True, kw_only=True)
class Text(Operator):
    """Reads `num_frames` frames of each clip (RapidOCR, detection and recognition) and says which text is laid over it.

    A frame is read at `width_px` for a 16:9 picture, at as many pixels for any other shape, never larger than it is:
    a line of 2 % of the height of a 3840 x 2160 frame is 22 pixels high then. About one CPU second a frame at 1920.

    What stays in place while the picture around it moves is `overlay`, what moves with it is `scene`; where nothing
    moves (a fixed camera, a still) it is `static`, and nobody can tell. Frames `step_s` before and after each one that
    is read are decoded and compared for this.

    Reads: the clip's frames and their source.
    Writes: see `writes`; all null where the row failed.

    Args:
        num_frames: frames that are read, evenly spread; a shorter clip gives all it has. A subtitle that stands for
            less than 1 / num_frames of the clip may be missed.
        width_px: width that a 16:9 frame is read at.
        min_score: confidence of a reading below which a line is dropped (0.7: Open-Sora 2.0).
        step_s: seconds to the neighbouring frames.
        time_limit_s: seconds to decode one clip's frames, above which the row fails with kind `resource`.
        memory_limit_gb: private memory of the decode child, likewise.

    Raises:
        ValueError: a number out of its range.
    """

    name: ClassVar[str] = "text"
    version: ClassVar[int] = 2
    neutral: ClassVar[frozenset[str]] = frozenset({"time_limit_s", "memory_limit_gb"})
    resources: ClassVar[Resources] = Resources(num_cpus=1.0, memory_gb=1.5)
    reads: ClassVar[tuple[Column, ...]] = (
        CLIP_ID,
        *(_READS[name] for name in ("uri", "seek_pts", "frame_pts", "time_base_num", "time_base_den")),
        *(_READS[name] for name in ("width_px", "height_px", "pixel_aspect")),
    )
    writes: ClassVar[tuple[Column, ...]] = (  # type: ignore[assignment]
        Column(
            "text_area_share_samples",
            pa.list_(pa.float32()),
            f"of each frame that was read: union of the text boxes over the frame's area, 0-1; {_FAILED}",
        ),
        Column("text_area_share_max", pa.float64(), f"the largest of text_area_share_samples; {_FAILED}"),
        Column(
            "text_overlay_area_share",
            pa.float64(),
            f"area of text that keeps its place while the picture moves, largest over the frames, 0-1; {_FAILED}",
        ),
        Column(
            "text_scene_area_share",
            pa.float64(),
            f"area of text that moves with the picture, largest over the frames, 0-1; {_FAILED}",
        ),
        Column(
            "text_static_area_share",
            pa.float64(),
            "area of text in a picture that does not move, overlay or not, largest over the frames, 0-1; " + _FAILED,
        ),
        Column("text_num_boxes", pa.int32(), f"lines of text in the frame that has the most; {_FAILED}"),
        Column(
            "text_max_height_share",
            pa.float64(),
            f"height of the tallest line's box (a quarter more than the letters) over the frame's height; 0 without "
            f"text; {_FAILED}",
        ),
        Column(
            "has_corner_mark",
            pa.bool_(),
            "a short line that does not move with the scene stands within 10 % of a corner of the frame, in at least "
            f"two of the frames (in one, if one was read); {_FAILED}",
        ),
        Column("text_strings", pa.list_(pa.string()), f"the different lines that were read, in order; {_FAILED}"),
        Column(
            "text_boxes",
            pa.list_(BOX),
            "every line: pts of its frame, text, confidence, kind (overlay, scene or static) and its upright box in "
            f"shares of the frame; {_FAILED}",
        ),
        Column("ocr_model", pa.string(), "library, version and models; null if the row failed"),
        Column("ocr_width_px", pa.int32(), "width that the frames were read at; null if the row failed"),
    )

    num_frames: int = 3
    width_px: int = 1920
    min_score: float = 0.7
    step_s: float = 0.4
    time_limit_s: float = 300.0
    memory_limit_gb: float = 4.0

    def __post_init__(self) -> None:
        for field, low in (("num_frames", 1), ("width_px", 64)):
            if getattr(self, field) < low:
                raise ValueError(f"text: {field} is {getattr(self, field)}, it must be at least {low}")
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"text: min_score is {self.min_score}, it must be from 0 to 1")
        if not self.step_s > 0:
            raise ValueError(f"text: step_s is {self.step_s}, it must be above 0")

    def setup(self) -> tuple[TextReader, DecodeChild]:
        return TextReader(), DecodeChild(self.memory_limit_gb)

    def process(self, state: tuple[TextReader, DecodeChild], batch: pa.Table) -> pa.Table:
        """The batch with the text's columns; a clip whose frames do not decode gets its error and nulls."""
        reader, child = state
        rows = batch.select([column.name for column in self.reads]).to_pylist()
        calls = (self._call(row) for row in rows)
        decoded = decode_ahead(child, "operators.video:read_frames", calls, self.time_limit_s)
        return self.with_writes(batch, each_clip(rows, decoded, partial(self._cells, reader)))

    def close(self, state: tuple[TextReader, DecodeChild]) -> None:
        state[1].close()

    def _looks(self, row: dict[str, Any]) -> dict[int, list[int]]:
        """The frames that are read, each with its neighbours."""
        step_pts = self.step_s * row["time_base_den"] / row["time_base_num"]
        return {pts: neighbours(row["frame_pts"], pts, step_pts) for pts in spread(row["frame_pts"], self.num_frames)}

    def _call(self, row: dict[str, Any]) -> Call:
        wanted = _all_of(self._looks(row))
        size = reading_size(row["width_px"], row["height_px"], row["pixel_aspect"], self.width_px)
        return {"uri": row["uri"], "frame_pts": wanted, "seek_pts": row["seek_pts"], "size": size}

    def _cells(self, reader: TextReader, row: dict[str, Any], frames_THWC: np.ndarray) -> dict[str, Any]:
        groups = self._looks(row)
        pictures = {pts: Picture(frame) for pts, frame in zip(_all_of(groups), frames_THWC, strict=True)}
        looks = [
            Look(pictures[pts], reader.read(pictures[pts].rgb_HWC, self.min_score), [pictures[n] for n in group])
            for pts, group in groups.items()
        ]
        size = frames_THWC.shape[1], frames_THWC.shape[2]
        facts = {"ocr_model": reader.model, "ocr_width_px": size[1]}
        return facts if min(size) < MIN_PX else facts | summary(list(groups), looks, size)


def _all_of(groups: Mapping[int, Sequence[int]]) -> list[int]:
    return sorted({pts for group in groups.values() for pts in group} | set(groups))


def reading_size(width_px: int, height_px: int, pixel_aspect: float, target_px: int) -> tuple[int, int]:
    """(height, width) in square pixels with the area of a 16:9 frame of `target_px`, or as it is if that is larger."""
    width = width_px * pixel_aspect
    scale = min(1.0, sqrt(target_px * target_px / FRAME_ASPECT / (width * height_px)))
    return max(1, round(height_px * scale)), max(1, round(width * scale))


def neighbours(frame_pts: Sequence[int], pts: int, step_pts: float) -> list[int]:
    """The frames nearest to one step before and one step after `pts`, but not `pts` itself; none at the clip's ends."""
    earlier, later = ([p for p in frame_pts if p < pts], [p for p in frame_pts if p > pts])
    return [min(side, key=lambda p: abs(abs(p - pts) - step_pts)) for side in (earlier, later) if side]


def summary(pts: Sequence[int], looks: Sequence[Look], size: tuple[int, int]) -> dict[str, Any]:
    """The columns that are about the lines of all looks; `size` is (height, width) of the pictures."""
    found = [
        [(line, kind) for line, kind in zip(look.lines, of_look, strict=True) if kind is not None]
        for look, of_look in zip(looks, kinds(looks), strict=True)
    ]
    samples = [area_share((line for line, _ in pairs), size) for pairs in found]
    lines = [line for pairs in found for line, _ in pairs]
    return {
        "text_area_share_samples": samples,
        "text_area_share_max": max(samples),
        **{f"text_{kind}_area_share": _largest_share(found, kind, size) for kind in (OVERLAY, SCENE, STATIC)},
        "text_num_boxes": max(map(len, found)),
        "text_max_height_share": max((line.height_px for line in lines), default=0.0) / size[0],
        "has_corner_mark": _has_corner_mark(found, size),
        "text_strings": list(dict.fromkeys(line.text for line in lines if line.is_read)),
        "text_boxes": [_box(at, *pair, size) for at, pairs in zip(pts, found, strict=True) for pair in pairs],
    }


def area_share(lines: Iterable[Line], size: tuple[int, int]) -> float:
    """Union of the lines' boxes over the picture's area, 0-1."""
    import cv2

    covered_HW = np.zeros(size, np.uint8)
    for line in lines:
        cv2.fillConvexPoly(covered_HW, np.rint(line.corners_42).astype(np.int32), 1)
    return float(covered_HW.mean())


def _largest_share(found: Sequence[Found], kind: str, size: tuple[int, int]) -> float:
    return max(area_share((line for line, its in pairs if its == kind), size) for pairs in found)


def _box(pts: int, line: Line, kind: str, size: tuple[int, int]) -> dict[str, Any]:
    left, top, right, bottom = line.bounds
    place = {
        "left": left / size[1],
        "top": top / size[0],
        "width": (right - left) / size[1],
        "height": (bottom - top) / size[0],
    }
    return {"pts": pts, "text": line.text, "score": line.score, "kind": kind, **place}


def _has_corner_mark(found: Sequence[Found], size: tuple[int, int]) -> bool:
    marks = [[line for line, kind in pairs if kind != SCENE and is_mark(line, size)] for pairs in found]
    if len(marks) == 1:
        return bool(marks[0])
    return any(
        same_place(line, others) for index, lines in enumerate(marks) for others in marks[index + 1 :] for line in lines
    )


def is_mark(line: Line, size: tuple[int, int]) -> bool:
    """Whether a line is short and stands in a corner of a picture of (height, width)."""
    height, width = size
    left, top, right, bottom = line.bounds
    near_side = min(left, width - right) <= CORNER_SHARE * width
    near_edge = min(top, height - bottom) <= CORNER_SHARE * height
    return near_side and near_edge and right - left <= MARK_MAX_WIDTH * width
