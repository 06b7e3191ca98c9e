# SPDX-License-Identifier: Apache-2.0
"""torchcodec as an optional reader: on the CPU, or on a GPU's own decoder (NVDEC) as backend `torchcodec-cuda`.

It is no dependency: it needs the CUDA build of torch and FFmpeg's shared libraries on the system. Only its exact
seeking is used; its approximate one gives wrong frames at open-GOP keys and with variable frame rates. It gives 8-bit
RGB, so deeper and HDR sources stay with PyAV. The checks are those of decord, and each frame's time is compared too.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from operators.rgb_reader import RgbSegment, index_of, is_at, picture_reason
from reelmill.packets import FrameIndex

CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg")
DEVICES = {"torchcodec": "cpu", "torchcodec-cuda": "cuda"}


def reason_against(uri: str, backend: str) -> tuple[str | None, FrameIndex | None]:
    """(reason, None) if torchcodec cannot be used here or must not read this file, else (None, its frames)."""
    reason = _machine_reason(backend)
    if reason is not None:
        return reason, None
    reason, index = index_of(uri, "torchcodec", CODECS)
    if index is None:
        return reason, None
    reason = _reader_reason(uri, backend, index)
    return (None, index) if reason is None else (reason, None)


def _machine_reason(backend: str) -> str | None:
    try:
        importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: it found no shared FFmpeg libraries
        lines = str(error).strip().splitlines() or [""]
        return f"torchcodec cannot be imported: {type(error).__name__}: {lines[0][:160]}"
    if DEVICES[backend] == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "torchcodec-cuda: torch sees no GPU"
    return None


def _open(uri: str, backend: str, threads: int) -> Any:
    decoders: Any = importlib.import_module("torchcodec.decoders")
    return decoders.VideoDecoder(
        uri.removeprefix("file://"),
        seek_mode="exact",
        dimension_order="NHWC",
        num_ffmpeg_threads=threads,
        device=DEVICES[backend],
    )


def _reader_reason(uri: str, backend: str, index: FrameIndex) -> str | None:
    """Compares its frame count, its first and last time and its first picture; frames in between as they come."""
    try:
        decoder = _open(uri, backend, 1)
        if len(decoder) != len(index.pts):
            return f"torchcodec counts {len(decoder)} frames, the packets are {len(index.pts)}"
        frames = [decoder.get_frame_at(i) for i in sorted({0, len(index.pts) - 1})]
    except (RuntimeError, ValueError, IndexError) as error:
        return f"torchcodec cannot read it: {(str(error).strip().splitlines() or [''])[0][:160]}"
    length_s = frames[-1].pts_seconds - frames[0].pts_seconds
    if not is_at(index, length_s, index.pts[-1] - index.pts[0]):
        return f"torchcodec places the last frame, pts {index.pts[-1]}, {length_s:.4f} s after the first"
    return picture_reason("torchcodec", uri, index, _array(frames[0]))


def _array(frame: Any) -> np.ndarray:
    return frame.data.cpu().numpy()


class TorchcodecSegment(RgbSegment):
    """A segment decoded by torchcodec."""

    def __init__(
        self, uri: str, backend: str, index: FrameIndex, start_pts: int | None, end_pts: int | None, threads: int
    ) -> None:
        self.backend = backend
        self._decoder = _open(uri, backend, threads)
        first = self._decoder.get_frame_at(0)
        self._shift_s = first.pts_seconds
        super().__init__(index, start_pts, end_pts, _array(first))

    def _pictures(self, start: int, stop: int) -> Iterator[Any]:
        for i in range(start, stop):
            try:
                frame = self._decoder.get_frame_at(i)
            except (RuntimeError, IndexError) as error:
                self._damaged(f"torchcodec: {(str(error).strip().splitlines() or ['stream ends early'])[0][:200]}")
                return
            if not is_at(self._index, frame.pts_seconds - self._shift_s, self._index.pts[i] - self._index.pts[0]):
                self._damaged(f"torchcodec gives the frame at {frame.pts_seconds:.4f} s for pts {self._index.pts[i]}")
                return
            yield _array(frame)
