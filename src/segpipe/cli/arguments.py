"""Parsing command lines; types of arguments: each turns a text into a value, or says what it must be."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that ends with 1 on wrong arguments, as on every error that the user can fix; 2 means another thing."""

    def error(self, message: str) -> NoReturn:
        """Prints usage and message, and ends the process."""
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


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
