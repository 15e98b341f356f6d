"""Which files are pictures, by the suffixes of their names."""

# The suffixes that are read, in small letters.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def suffix_of(name: str) -> str:
    """Gives the last suffix of a file's name or path, in small letters; '' if it has none."""
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return (dot + suffix).lower() if stem else ""


def is_picture_name(name: str) -> bool:
    """Whether a file with this name is read as a picture.

    Args:
        name: of the file, or its path.
    """
    return suffix_of(name) in IMAGE_SUFFIXES


def fault_of_name(name: str) -> str | None:
    """Says why a file, whose name is that of a picture, is not read.

    Args:
        name: of the file, or its path.

    Returns:
        The reason and what to do; None if the file is read, or its name is not that of a picture.
    """
    return None
