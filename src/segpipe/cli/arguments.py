"""Types of command-line arguments: each turns a text into a value, or says what it must be."""

import argparse
from pathlib import Path


def natural(text: str) -> int:
    """Reads a number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number from 0 up (got {text!r})")
    return int(text)


def positive(text: str) -> int:
    """Reads a number from 1 up."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a number from 1 up (got {text!r})")
    return int(text)


def png_file(text: str) -> Path:
    """Reads the path of a picture to write."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"must end in .png (got {text!r})")
    return Path(text)
