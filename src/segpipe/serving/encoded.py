"""Encoded images in, encoded masks out: for callers that hold a file's bytes and not its path."""

import tempfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.data.images import Picture, load_image
from segpipe.documents import ImageMapping

# Only runs of equal bytes are packed, as `segpipe predict` does.
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)


def decode_image(content: bytes, mapping: ImageMapping) -> Picture:
    """Decodes an image exactly as its file would be read.

    Args:
        content: of a file that is known by its content: JPEG, PNG, TIFF, WebP, BMP and the like.
        mapping: how its values become 8-bit RGB; of a model, `Network.image_mapping`.

    Raises:
        ImageFileError: it is not usable; says why, and what to do.
    """
    # By a file, because what reads images reads their parts several times, huge ones too.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(content)
        return load_image(path, mapping)


def encode_mask(mask: npt.NDArray[np.uint8]) -> bytes:
    """Encodes a (height, width) mask of class indices as PNG with one channel of 8 bits."""
    is_encoded, encoded = cv2.imencode(".png", mask, PNG)
    assert is_encoded
    return encoded.tobytes()
