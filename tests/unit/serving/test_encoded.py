"""Images as the bytes of files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from segpipe.data.images import ImageFileError
from segpipe.documents import ImageMapping
from segpipe.serving.encoded import decode_image


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "WEBP"])
def test_an_image_is_known_by_its_content(name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, name, **({"lossless": True} if name == "WEBP" else {}))
    np.testing.assert_array_equal(decode_image(content.getvalue(), ImageMapping()).pixels, pixels)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"0" * 40])
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(ImageFileError):
        decode_image(content, ImageMapping())
