"""Reading image files: one decision for the doctor, preprocess, predict and the service.

`load_image` gives 8-bit RGB, or says exactly why not. `segpipe.documents.ImageMapping` says how deep, transparent and
many-band files become RGB; it is written in `params.yaml` and kept with the model, so that training and prediction read
alike. Masks use only the strict `decode`.
"""

from segpipe.data.images.decoding import Header, ImageFileError, read_header, size_of_image
from segpipe.data.images.formats import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    fault_of_name,
    is_named_as_picture,
    is_picture_name,
    stem_of,
)
from segpipe.data.images.georeference import Georeference
from segpipe.data.images.picture import Picture, load_image, read_labelled_image
from segpipe.data.images.tiff import GEO_TYPES

__all__ = [
    "GEO_TYPES",
    "IMAGE_SUFFIXES",
    "UNREAD_SUFFIXES",
    "Georeference",
    "Header",
    "ImageFileError",
    "Picture",
    "fault_of_name",
    "is_named_as_picture",
    "is_picture_name",
    "load_image",
    "read_header",
    "read_labelled_image",
    "size_of_image",
    "stem_of",
]
