"""Makes text from outside safe for a terminal: a tag or a file's name may hold codes that change the display."""

import re
from typing import Any, TextIO

# C0 and C1 controls (except line feed and tab), line separators, and characters that change the direction of text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Gives a text with its control characters written as escapes.

    >>> print(printable("red: \x1b[31mX"))
    red: \x1b[31mX
    """
    return _CONTROLS.sub(_write_out, text)


class PrintableStream:
    """A stream that writes control characters as escapes.

    Args:
        stream: gets the text.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Passes a text on."""
        return self._stream.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _write_out(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
