"""Reads an image of which a caller holds the bytes and not the path."""

import tempfile
from pathlib import Path

from segpipe.data.images import Picture, load_image
from segpipe.documents import ImageMapping


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
