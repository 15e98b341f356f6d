"""Which files are pictures by their names, which of them are read, and why the others are not."""

from importlib.util import find_spec

# Extras of pyproject.toml: `pip install 'segpipe[heif,dicom,nifti]'`.
HAS_HEIF = find_spec("pillow_heif") is not None
HAS_DICOM = find_spec("pydicom") is not None
HAS_NIFTI = find_spec("nibabel") is not None
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
NIFTI_SUFFIXES = frozenset({".nii", ".nii.gz"})
# Of the formats in `decoding.IMAGE_FORMATS`.
_NAMES = "png jpg jpeg jpe jfif bmp tif tiff webp gif avif jp2 j2k jpf jpx ppm pgm pbm pnm pfm"
PILLOW_SUFFIXES = frozenset(f".{name}" for name in _NAMES.split())
ARRAY_SUFFIX = ".npy"
# The suffixes that are read, in small letters.
IMAGE_SUFFIXES = frozenset().union(
    PILLOW_SUFFIXES,
    {ARRAY_SUFFIX},
    HEIF_SUFFIXES if HAS_HEIF else (),
    DICOM_SUFFIXES if HAS_DICOM else (),
    NIFTI_SUFFIXES if HAS_NIFTI else (),
)

AS_PNG = "Save it as PNG or JPEG"
AS_VALUES = "Save its values as TIFF, 16-bit PNG or .npy"
# What files of other kinds are, and what to do.
_UNREAD = {
    "heic heif hif": (
        "is a HEIC picture, which is read only where pillow-heif is installed",
        "Install it (`pip install 'segpipe[heif]'`), or save it as JPEG",
    ),
    "dcm dicom": (
        "is a DICOM file, which is read only where pydicom is installed",
        "Install it: `pip install 'segpipe[dicom]'`",
    ),
    "nii nii.gz": (
        "is a NIfTI file, which is read only where nibabel is installed",
        "Install it: `pip install 'segpipe[nifti]'`",
    ),
    "mha mhd nrrd": ("is a volume, which is not read", "Save each slice as .npy"),
    "dng cr2 cr3 nef arw orf rw2 raf pef srw": ("is a camera's raw file, which is not read", AS_PNG),
    "psd psb xcf kra": ("is a file of a drawing program, which is not read", AS_PNG),
    "svg": ("is a drawing of lines (SVG), which is not read", "Save it as PNG in the size of its mask"),
    "jxl": ("is a JPEG XL picture, which is not read", AS_PNG),
    "tga pcx sgi icns": ("is a picture of an old format, which is not read", AS_PNG),
    "npz": ("is an archive of arrays, which is not read", "Save each array as .npy"),
    "exr hdr": ("is a picture of unlimited brightness, which is not read", AS_VALUES),
    "fits fts": ("is a FITS file, which is not read", AS_VALUES),
    "svs ndpi mrxs czi lif nd2 oib": ("is a microscope's file, which is not read", "Save its regions as TIFF or PNG"),
    "ecw sid vrt": ("is a map in a format that is not read", "Save it as GeoTIFF (`gdal_translate`)"),
}
_TEXTS = {f".{suffix}": texts for suffixes, texts in _UNREAD.items() for suffix in suffixes.split()}

# The suffixes of pictures that are not read.
UNREAD_SUFFIXES = frozenset(_TEXTS) - IMAGE_SUFFIXES


class KindError(ValueError):
    """A file of a kind that is not read.

    Args:
        what: the reason; continues a sentence that begins with the file's name.
        fix: what to do.
        kind: of the fault.
    """

    def __init__(self, what: str, fix: str, kind: str = "image-mode") -> None:
        super().__init__(f"{what}. {fix}")
        self.what, self.fix, self.kind = what, fix, kind


def suffix_of(name: str) -> str:
    """Gives the last suffix of a file's name or path in small letters, '.nii.gz' whole; '' if it has none."""
    lower = name.rpartition("/")[2].lower()
    if lower.endswith(".nii.gz"):
        return ".nii.gz"
    stem, dot, suffix = lower.rpartition(".")
    return dot + suffix if stem else ""


def stem_of(name: str) -> str:
    """Gives a file's name or path without that suffix."""
    return name[: len(name) - len(suffix_of(name))]


def is_picture_name(name: str) -> bool:
    """Whether a file with this name is read as a picture.

    Args:
        name: of the file, or its path.
    """
    return suffix_of(name) in IMAGE_SUFFIXES


def why_unread(name: str) -> tuple[str, str] | None:
    """Says why a file that is a picture by its name is not read.

    Args:
        name: of the file, or its path.

    Returns:
        What is wrong, as the rest of a sentence that begins with the name, and what to do. None if the file is read, or
        is no picture by its name.
    """
    return None if is_picture_name(name) else _TEXTS.get(suffix_of(name))


def fault_of_name(name: str) -> str | None:
    """Says the same as `why_unread` in one text: 'is a HEIC picture, ...; install ...'."""
    reason = why_unread(name)
    return None if reason is None else f"{reason[0]}. {reason[1]}"


def is_named_as_picture(name: str) -> bool:
    """Whether a file is a picture by its name, read or not: readers pair it, so that its fault is named."""
    return is_picture_name(name) or why_unread(name) is not None
