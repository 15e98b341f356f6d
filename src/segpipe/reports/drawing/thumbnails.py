"""Small pictures as text, for pages that hold their pictures themselves."""

import base64
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

MAX_THUMBNAIL_PX = 480
PHOTO_QUALITY, LOSSLESS = 75, 101  # OpenCV takes a quality above 100 for lossless

Pixels = npt.NDArray[np.uint8]


def shrink_photo(image: Pixels, max_px: int = MAX_THUMBNAIL_PX) -> Pixels:
    """Shrinks a (height, width, 3) picture until neither side is above `max_px`; each new pixel is a mean.

    A smaller picture stays as it is.
    """
    size_wh = _fit(image.shape, max_px)
    return image if size_wh is None else np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def shrink_mask(mask: Pixels, max_px: int = MAX_THUMBNAIL_PX) -> Pixels:
    """Shrinks a mask like its picture; indices and colours have no mean, so each new pixel is the middle one.

    Args:
        mask: (height, width) class indices, or (height, width, 3) their colours.
        max_px: as for `shrink_photo`.
    """
    size_wh = _fit(mask.shape, max_px)
    nearest = cv2.INTER_NEAREST_EXACT
    return mask if size_wh is None else np.asarray(cv2.resize(mask, size_wh, interpolation=nearest), np.uint8)


def _fit(shape: tuple[int, ...], max_px: int) -> tuple[int, int] | None:
    """Gives width and height after shrinking; None where the picture fits."""
    height, width = shape[:2]
    factor = max_px / max(height, width)
    return None if factor >= 1 else (max(1, round(width * factor)), max(1, round(height * factor)))


def embed(picture: Pixels, kind: Literal["photo", "drawing"]) -> str:
    """Gives a picture as a `data:` address.

    Args:
        picture: (height, width, 3) uint8 RGB.
        kind: a photo loses details; a drawing of few colours loses nothing. Both are WebP: of a mask's colours it
            makes half as many bytes as PNG, in about the same time.
    """
    quality = PHOTO_QUALITY if kind == "photo" else LOSSLESS
    options = (cv2.IMWRITE_WEBP_QUALITY, quality)
    _, encoded = cv2.imencode(".webp", np.ascontiguousarray(picture[..., ::-1]), options)
    return embed_bytes(encoded.tobytes(), "webp")


def embed_bytes(content: bytes, kind: str) -> str:
    """Gives an encoded picture as a `data:` address; `kind` is webp or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
