# SPDX-License-Identifier: Apache-2.0
"""Short clips whose every frame is known: photographs under a moving camera, encoded as footage is, and measured.

Frames are luma only, 960 x 540. That is twice the 270 rows that the meters look at; in UHD material eight code values
are averaged in each direction instead of two, so that compression noise counts for more here than there.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.ladders.stills import PHOTOS, RENDERED, Still, install_packages, read_still
from operators.contract import Meter
from operators.measure import measure_segment
from operators.scores import Groups

os.environ.setdefault("SVT_LOG", "1")  # libsvtav1 writes a page to stderr otherwise

HEIGHT, WIDTH = 540, 960
PROXY_PX = 2.0  # pixels here per pixel of the 270-row proxy
MARGIN = 1.6  # the photograph is shown at this multiple of the frame, so that there is somewhere to move to
FPS = 30


@dataclass(frozen=True)
class Codec:
    """An encoder of PyAV's wheel and what it is asked for."""

    name: str
    encoder: str
    options: tuple[tuple[str, str], ...]


def _x264(crf: int) -> Codec:
    return Codec(f"H.264 crf {crf}", "libx264", (("preset", "veryfast"), ("crf", str(crf)), ("g", "60")))


def _x265(crf: int) -> Codec:
    parameters = "log-level=none:keyint=60:pools=none:frame-threads=1"
    return Codec(
        f"HEVC crf {crf}", "libx265", (("preset", "ultrafast"), ("crf", str(crf)), ("x265-params", parameters))
    )


def _av1(crf: int) -> Codec:
    parameters = "lp=1:keyint=60"
    return Codec(f"AV1 crf {crf}", "libsvtav1", (("preset", "11"), ("crf", str(crf)), ("svtav1-params", parameters)))


H264_18, H264_23, H264_28, H264_30 = (_x264(crf) for crf in (18, 23, 28, 30))
HEVC_22, HEVC_28 = _x265(22), _x265(28)
AV1_30, AV1_42 = _av1(30), _av1(42)
CODECS = (H264_18, H264_23, H264_30, HEVC_22, HEVC_28, AV1_30, AV1_42)


@dataclass(frozen=True)
class Pose:
    """Where the camera looks: the picture's shift (pixels, right and down), growth and clockwise turn."""

    x: float = 0.0
    y: float = 0.0
    growth: float = 1.0
    clockwise_deg: float = 0.0


@lru_cache(maxsize=4)
def canvas_of(still: Still) -> np.ndarray:
    """float32 luma [860, 1536+], 0-255, of a picture at `MARGIN` times the frame."""
    import cv2

    luma_HW = cv2.cvtColor(read_still(still), cv2.COLOR_BGR2GRAY)
    factor = MARGIN * max(HEIGHT / luma_HW.shape[0], WIDTH / luma_HW.shape[1])
    size = (round(luma_HW.shape[1] * factor), round(luma_HW.shape[0] * factor))
    return cv2.resize(luma_HW, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def look(canvas_HW: np.ndarray, pose: Pose, *, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """float32 [height, width]: the canvas as seen at a pose, turned and grown about the frame's centre."""
    import cv2

    rows, columns = canvas_HW.shape
    matrix = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), -pose.clockwise_deg, pose.growth)
    matrix[:, 2] += (width - columns) / 2 + pose.x, (height - rows) / 2 + pose.y
    return cv2.warpAffine(
        canvas_HW, matrix, (width, height), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101
    )


def pictures(quick: bool) -> tuple[Still, ...]:
    """The photographs and the renderings, unpacked; three photographs for a smoke test."""
    install_packages()
    return PHOTOS[1:4] if quick else (*PHOTOS, *RENDERED)


def encode(
    path: Path,
    frames_HW: Iterable[np.ndarray],
    codec: Codec,
    *,
    fps: int | Fraction = FPS,
    pts: Sequence[int] | None = None,
) -> Path:
    """Writes full-range luma frames [540, 960] as limited-range 4:2:0 without colour; `pts` in units of 1/fps."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec.encoder, rate=fps, options=dict(codec.options))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        for index, frame_HW in enumerate(frames_HW):
            planes[:HEIGHT] = np.rint(np.clip(frame_HW, 0, 255) * (219 / 255) + 16)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = index if pts is None else pts[index], 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def measure(
    frames_HW: Iterable[np.ndarray],
    codec: Codec,
    meters: Sequence[Meter],
    *,
    fps: int | Fraction = FPS,
    pts: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Encodes the frames, decodes them again, and gives the meters' series and scores, and num_frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = encode(Path(folder) / "clip.mp4", frames_HW, codec, fps=fps, pts=pts)
        series = measure_segment(str(path), meters)
    return series | scores_of(series, meters, float(fps))


def scores_of(series: dict[str, Any], meters: Sequence[Meter], fps: float) -> dict[str, Any]:
    """The meters' scores of a series that is one clip."""
    num = len(series["frame_pts"])
    facts = pa.table({"num_frames": [num], "duration_s": [num / fps], "fps": [fps]})
    scores: dict[str, Any] = {"num_frames": num}
    for meter in meters:
        groups = {c.name: _group(series[c.name]) for c in meter.writes if not _is_nested(series[c.name])}
        for score in meter.scores:
            value = score.compute(groups, facts)[0]
            scores[score.column.name] = value.as_py() if isinstance(value, pa.Scalar) else value
    return scores


def _group(values: Sequence[float | None]) -> Groups:
    array = np.array([np.nan if v is None else v for v in values], np.float64)
    return Groups(array, np.zeros(len(array), np.int64), 1)


def _is_nested(values: Sequence[Any]) -> bool:
    return any(isinstance(value, list) for value in values)


Path2D = Callable[[int], Pose]


def shown(canvas_HW: np.ndarray, path: Path2D, num_frames: int) -> Iterator[np.ndarray]:
    """The canvas along a path: float32 [540, 960] per frame."""
    for index in range(num_frames):
        yield look(canvas_HW, path(index))
