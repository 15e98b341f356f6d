"""Reads an image of which a caller holds the bytes and not the path."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from segpipe.data.images import Picture, load_image
from segpipe.documents import ImageMapping


@contextlib.contextmanager
def as_file(content: bytes, suffix: str = "") -> Iterator[Path]:
    """Gives an image as a file until the end of the body of this statement; its name has nothing of a caller's.

    It lies in the machine's folder for such files: from one of the service's own the system may remove it after days.

    What reads images reads their parts several times, huge ones too.

    Args:
        content: of the file.
        suffix: of the name, for formats that are known by it.
    """
    with tempfile.NamedTemporaryFile(prefix="segpipe-", suffix=suffix, buffering=0) as file:
        file.write(content)
        yield Path(file.name)


def decode_image(content: bytes, mapping: ImageMapping) -> Picture:
    """Decodes an image exactly as its file would be read.

    Args:
        content: of a file that is known by its content: JPEG, PNG, TIFF, WebP, BMP and the like.
        mapping: how its values become 8-bit RGB; of a model, `Network.image_mapping`.

    Raises:
        ImageFileError: it is not usable; says why, and what to do.
    """
    with as_file(content) as path:
        return load_image(path, mapping)
