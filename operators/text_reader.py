# SPDX-License-Identifier: Apache-2.0
"""Lines of text in one picture, by RapidOCR on onnxruntime with the models that lie in its wheel.

Detection alone is not enough: it reports one box over the whole of a blurred picture, so a line is read too, and what
could not be read (the models know Latin, Chinese and Japanese, not Cyrillic or Arabic) is marked as such. One thread,
so that a worker holds one CPU; onnxruntime starts no pool then and nothing spins.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

DETECTOR, RECOGNISER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"
SHORT_PX = 736  # RapidOCR's default for the detector: a smaller picture is enlarged to this short side
MIN_PX = 32  # the detector's grid: no text can be found in a smaller picture
MIN_LETTERS = 2  # ours: what is found by mistake in pictures without text is nearly always a single sign
MAX_BOX_SHARE = 0.5  # ours: a larger box is the one over a blurred picture
MAP_LEVEL, BOX_LEVEL = 0.2, 0.3  # ours, below RapidOCR's 0.3 and 0.5: faint marks; the reading sorts out the rest
UNREAD_LEVEL = 0.6  # ours: detector's score of a line that cannot be read; text gives 0.6-0.8, other things 0.3-0.55


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text.

    Args:
        text: what was read.
        score: mean confidence of the reading, 0-1; of a line that could not be read, of its detection.
        corners_42: float32 (x, y) of its corners in pixels of the picture: top left, top right, bottom right, bottom
            left as the text is read. The detector leaves a margin of about a quarter of the height around the letters.
        is_read: it was read with enough confidence; else `text` is empty.
    """

    text: str
    score: float
    corners_42: np.ndarray
    is_read: bool = True

    @property
    def height_px(self) -> float:
        """Height of the box across the reading direction, margin included."""
        sides = np.linalg.norm(self.corners_42 - np.roll(self.corners_42, 1, axis=0), axis=1)
        return float(min(sides[0] + sides[2], sides[1] + sides[3]) / 2)

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the upright box around it, pixels; right and bottom exclusive."""
        left, top = np.floor(self.corners_42.min(axis=0)).astype(int)
        right, bottom = np.ceil(self.corners_42.max(axis=0)).astype(int)
        return int(left), int(top), int(right), int(bottom)


class TextReader:
    """Reads pictures one by one. `model` names the models and the library.

    Raises:
        FileNotFoundError: the installed rapidocr has other models in its wheel.
    """

    def __init__(self) -> None:
        import cv2
        import rapidocr

        cv2.setNumThreads(1)
        models = Path(rapidocr.__file__).parent / "models"
        for name in (DETECTOR, RECOGNISER):
            if not (models / name).is_file():
                raise FileNotFoundError(f"text: {models / name} is missing; install rapidocr 3.10.0, which brings it")
        self._ocr = rapidocr.RapidOCR(params=_settings(models))
        names = " + ".join(Path(name).stem for name in (DETECTOR, RECOGNISER))
        self.model = f"rapidocr {version('rapidocr')}: {names}"

    def read(self, picture_HWC: np.ndarray, min_score: float) -> list[Line]:
        """The lines of a uint8 RGB [H, W, 3] picture; none in one whose short side is below 32 pixels.

        A line is read if the confidence is at least `min_score`; others are given if the detector is sure of them.
        """
        import cv2

        height, width = picture_HWC.shape[:2]
        if min(height, width) < MIN_PX:
            return []
        scale = max(1.0, min(SHORT_PX / min(height, width), 2 * SHORT_PX / max(height, width)))
        seen_HWC = np.ascontiguousarray(picture_HWC[..., ::-1])
        if scale > 1:
            size = round(width * scale), round(height * scale)
            seen_HWC = cv2.resize(seen_HWC, size, interpolation=cv2.INTER_CUBIC)
        detected, _, read, _ = self._ocr.run_ocr_steps(seen_HWC, {})
        if detected.boxes is None or detected.scores is None:
            return []
        boxes_N42 = np.asarray(detected.boxes, np.float32) / scale
        texts, scores = read.txts or ("",) * len(boxes_N42), read.scores or (0.0,) * len(boxes_N42)
        lines = [
            _line(*found, min_score)
            for found in zip(texts, map(float, scores), boxes_N42, map(float, detected.scores), strict=True)
        ]
        return [line for line in lines if line is not None and _area(line) <= MAX_BOX_SHARE * height * width]


def _line(text: str, score: float, corners_42: np.ndarray, detection: float, min_score: float) -> Line | None:
    if score >= min_score and sum(sign.isalnum() for sign in text) >= MIN_LETTERS:
        return Line(text, score, corners_42)
    return Line("", detection, corners_42, is_read=False) if detection >= UNREAD_LEVEL else None


def _area(line: Line) -> int:
    left, top, right, bottom = line.bounds
    return (right - left) * (bottom - top)


def _settings(models: Path) -> dict[str, Any]:
    """RapidOCR's parameters. The files are named, so that nothing is looked up or fetched."""
    return {
        "Global.log_level": "critical",
        "Global.use_cls": False,  # upside-down lines are left as they are
        "Global.use_vertical_padding": False,  # it would shift the boxes
        "Global.max_side_len": 1 << 20,  # the size is chosen here
        "Global.min_side_len": 1,
        "Det.model_path": str(models / DETECTOR),
        "Det.limit_type": "max",
        "Det.limit_side_len": 1 << 20,
        "Det.thresh": MAP_LEVEL,
        "Det.box_thresh": BOX_LEVEL,
        "Rec.model_path": str(models / RECOGNISER),
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
