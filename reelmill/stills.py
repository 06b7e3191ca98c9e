# SPDX-License-Identifier: Apache-2.0
"""Still images (JPEG, PNG, WebP, AVIF) as one-frame sources, by Pillow."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from reelmill.media import MAX_PIXELS, MediaError, open_bytes

if TYPE_CHECKING:
    from PIL import Image

# What Pillow and the libraries below it raise on damaged files; libavif gives plain RuntimeErrors.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, struct.error)


def read_image(uri: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A still image as uint8 RGB [H, W, 3], turned by its EXIF orientation; transparency is laid on black.

    Args:
        size: (height, width) as displayed; null: native. Scaled by area averaging.

    Raises:
        MediaError: not a readable image, or too large.
        FileNotFoundError, OSError: storage failed.
    """
    from PIL import Image, ImageOps

    with open_image(uri) as image:
        picture = ImageOps.exif_transpose(_eight_bit(image))
        if picture.has_transparency_data:
            picture = picture.convert("RGBA").convert("RGBa")
        picture = picture.convert("RGB")
    if size is not None and size != (picture.height, picture.width):
        shrinks = size[0] < picture.height
        picture = picture.resize((size[1], size[0]), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
    return np.asarray(picture)


def _opened(file: BinaryIO) -> "Image.Image":
    """`Image.open` without its warning about large pictures: a limit is set here and in Pillow (179 megapixels)."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file)


def _eight_bit(image: "Image.Image") -> "Image.Image":
    """A 16-bit grey picture scaled to 8 bits: Pillow's own conversion would clip all but its darkest codes to white."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    grey_HW = np.asarray(image).clip(0, 65535)
    eight = Image.fromarray(((grey_HW.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    eight.getexif().load(image.getexif().tobytes())
    return eight


@contextmanager
def open_image(uri: str | Path) -> "Iterator[Image.Image]":
    """The opened (not yet decoded) image; what the file is guilty of inside the block becomes MediaError."""
    from PIL import Image, UnidentifiedImageError

    with open_bytes(uri) as file:
        try:
            with _opened(file) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise MediaError(
                        f"{uri}: image of {image.width}x{image.height} pixels, more than the limit of "
                        f"{MAX_PIXELS} pixels"
                    )
                yield image
        except UnidentifiedImageError as error:
            raise MediaError(f"{uri}: not a readable image; copy it again or remove it") from error
        except Image.DecompressionBombError as error:
            raise MediaError(f"{uri}: image too large: {error}") from error
        except _DAMAGE as error:
            if isinstance(error, MediaError) or getattr(file, "failure", None) is not None:
                raise
            raise MediaError(f"{uri}: damaged image: {error}; copy it again or remove it") from error
