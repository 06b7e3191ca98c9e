# SPDX-License-Identifier: Apache-2.0
"""Frames of a clip, window by window and in every bucket's size, from one decode.

`next_window` runs in a decode child. It is called with everything it needs; the open decoder between two calls is only
a cache, so a fresh child simply opens the file again. At most one window of frames is held.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from operators.contract import RowError
from operators.video import media_errors
from reelmill.buckets import Fit
from reelmill.geometry import Window
from tokenization.crops import Crop, CropRule, cut_window

Cut = list[np.ndarray] | tuple[tuple[Crop, ...], np.ndarray]


@dataclass(frozen=True)
class ClipFrames:
    """What to decode.

    Args:
        uri: local path or s3:// URI.
        is_image: a still image.
        frame_pts: pts of the frames that may be encoded, ascending.
        seek_pts: pts of a key frame at or before the first.
        windows: pieces of `frame_pts`.
        fits: sizes wanted of each frame.
        crops: in place of them: crops of the native frame, whose draw follows from `key` and the window's number.
    """

    uri: str
    is_image: bool
    frame_pts: tuple[int, ...]
    seek_pts: int | None
    windows: tuple[Window, ...]
    fits: tuple[Fit, ...]
    crops: CropRule | None = None
    key: str = ""


@dataclass
class _Cursor:
    clip: ClipFrames
    index: int
    windows: Iterator[Cut]


_cursor: _Cursor | None = None


def next_window(clip: ClipFrames, index: int) -> "Cut":
    """Frames uint8 RGB [T, H, W, 3] of window `index`, one array per fit; or its crops.

    Raises:
        RowError: bad_input where the file is at fault, transient where the storage is.
    """
    global _cursor
    if _cursor is None or _cursor.clip != clip or _cursor.index != index:
        close()
        _cursor = _Cursor(clip, index, iter_windows(clip, index))
    try:
        frames = next(_cursor.windows)
    except BaseException:
        close()
        raise
    _cursor.index += 1
    if _cursor.index == len(clip.windows):
        close()
    return frames


def close() -> None:
    """Closes the file that is open between two calls."""
    global _cursor
    if _cursor is not None:
        _cursor.windows.close()  # type: ignore[attr-defined]
        _cursor = None


def iter_windows(clip: ClipFrames, first: int = 0) -> Iterator[Any]:
    """The windows from number `first` on. Raises RowError."""
    with media_errors(clip.uri):
        if clip.crops is not None:
            yield from _crop_windows(clip, clip.crops, first)
            return
        yield from _image_window(clip) if clip.is_image else _video_windows(clip, first)


def _image_window(clip: ClipFrames) -> Iterator[list[np.ndarray]]:
    from reelmill.spans import read_image

    (window,) = clip.windows
    sized = (read_image(clip.uri, (fit.scaled_height_px, fit.scaled_width_px)) for fit in clip.fits)
    yield [np.stack([_cut(image, fit)] * window.length) for image, fit in zip(sized, clip.fits, strict=True)]


def _crop_windows(clip: ClipFrames, rule: CropRule, first: int) -> Iterator[tuple[tuple[Crop, ...], np.ndarray]]:
    from reelmill.spans import frame_rgb, iter_frames, open_media, read_image

    if clip.is_image:
        yield cut_window([read_image(clip.uri)], 1, rule, f"{clip.key}/0")
        return
    windows = clip.windows[first:]
    positions = [p for window in windows for p in range(window.start, window.start + window.length)]
    with open_media(clip.uri) as media:
        frames = map(frame_rgb, iter_frames(media, [clip.frame_pts[p] for p in positions], clip.seek_pts))
        for number, window in enumerate(windows, first):
            yield cut_window(islice(frames, window.length), window.length, rule, f"{clip.key}/{number}")


def _video_windows(clip: ClipFrames, first: int) -> Iterator[list[np.ndarray]]:
    from reelmill.spans import iter_frames, open_media

    windows = clip.windows[first:]
    positions = sorted({p for window in windows for p in _positions(clip, window)})
    with open_media(clip.uri) as media:
        frames = iter_frames(media, [clip.frame_pts[p] for p in positions], clip.seek_pts)
        decoded = zip(positions, frames, strict=True)
        kept: dict[int, list[np.ndarray]] = {}
        for window in windows:
            wanted = _positions(clip, window)
            kept = {p: sized for p, sized in kept.items() if p >= window.start}
            while wanted[-1] not in kept:
                position, frame = next(decoded)
                kept[position] = [_sized(frame, fit) for fit in clip.fits]
            yield [np.stack([kept[p][i] for p in wanted]) for i in range(len(clip.fits))]


def _positions(clip: ClipFrames, window: Window) -> list[int]:
    """Positions in `frame_pts`; a still that is shown several times repeats the last."""
    return [min(p, len(clip.frame_pts) - 1) for p in range(window.start, window.start + window.length)]


def _sized(frame: Any, fit: Fit) -> np.ndarray:
    from reelmill.spans import frame_rgb

    rgb_HWC = frame_rgb(frame, (fit.scaled_height_px, fit.scaled_width_px))
    return _cut(rgb_HWC, fit)


def _cut(rgb_HWC: np.ndarray, fit: Fit) -> np.ndarray:
    top, left = max(0, fit.top_px), max(0, fit.left_px)
    cut = rgb_HWC[top : fit.top_px + fit.height_px, left : fit.left_px + fit.width_px]
    if fit.top_px < 0 or fit.left_px < 0:
        cut = _padded(cut, fit)
    if cut.shape[:2] != (fit.height_px, fit.width_px):
        raise RowError(
            "bad_input",
            f"a frame of {rgb_HWC.shape[1]}x{rgb_HWC.shape[0]} pixels where "
            f"{fit.scaled_width_px}x{fit.scaled_height_px} was expected",
        )
    return cut.copy()


def _padded(cut_HWC: np.ndarray, fit: Fit) -> np.ndarray:
    """The frame with its edges repeated, as its place in the bucket says."""
    import cv2

    above, before = max(0, -fit.top_px), max(0, -fit.left_px)
    below, after = fit.height_px - above - cut_HWC.shape[0], fit.width_px - before - cut_HWC.shape[1]
    return cv2.copyMakeBorder(cut_HWC, above, below, before, after, cv2.BORDER_REPLICATE)
