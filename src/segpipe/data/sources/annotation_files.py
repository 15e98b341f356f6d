"""Reads the text files of annotation tools, and finds the images that they name.

Such a file was written on another machine. Its names may be full Windows paths, addresses, or names with the prefix of
an upload. Only files below the source's folder are ever found for them.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from segpipe.data.images import is_named_as_picture
from segpipe.data.sources.source import SPLIT_WORDS, in_one_form, list_files
from segpipe.errors import ConfigError, SourceError
from segpipe.faults import shown

UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before an uploaded file's name


class AnnotationFileError(SourceError):
    """An annotation file that cannot be read.

    Args:
        path: of the file.
        what: what is wrong; continues a sentence that begins with the file's name.
        line: where, from 1.
    """

    def __init__(self, path: Path, what: str, line: int | None = None) -> None:
        super().__init__(f"{path}{'' if line is None else f':{line}'}: {what}")
        self.what = what
        self.line = line


def read_text(path: Path) -> str:
    """Reads a text file, without its byte order mark.

    Raises:
        AnnotationFileError: it is missing or not UTF-8.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise AnnotationFileError(path, "no such file") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AnnotationFileError(path, "is not UTF-8 text; save it as UTF-8", line) from error


def read_json(path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Reads a JSON file.

    Args:
        path: of the file.
        object_hook: makes something smaller of each object as soon as it is read, so that a large file never lies in
            memory as Python objects.

    Raises:
        AnnotationFileError: it is missing, or not JSON.
    """
    try:
        return json.loads(read_text(path), object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise AnnotationFileError(path, f"is not JSON: {error.msg} (column {error.colno})", error.lineno) from error
    except ValueError as error:  # Python reads no number of more than 4300 digits
        raise AnnotationFileError(path, f"is no annotation file: {str(error).partition(';')[0]}") from error
    except RecursionError as error:
        raise AnnotationFileError(path, "is no annotation file: nested too deeply") from error


def split_of(*names: str) -> str | None:
    """Finds the split in the name of a file or folder: `instances_val2017` is 'val'; the first name with one counts."""
    for name in names:
        for word in re.findall("[a-z]+", name.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def check_below_root(option: str, paths: Iterable[str]) -> None:
    """Checks that paths of an option stay below the source's folder.

    Raises:
        ConfigError: some do not.
    """
    leading_out = [path for path in paths if Path(path).is_absolute() or ".." in Path(path).parts]
    if leading_out:
        raise ConfigError(f"option {option}: must be paths within the source (got {', '.join(leading_out)})")


def plain_parts(listed: str) -> tuple[str, ...]:
    """Splits a listed name into parts: `C:/set/../a.jpg` and `/data/local-files/?d=set/a.jpg` are (set, a.jpg)."""
    text = listed.replace("\\", "/")
    if "://" in text or "?" in text:
        with contextlib.suppress(ValueError):  # not an address, but its last parts may still be a name
            address = urlsplit(text)
            text = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    return tuple(part for part in text.split("/") if part not in {"", ".", ".."} and not part.endswith(":"))


@dataclass(frozen=True)
class ImageTree:
    """All image files below a folder, to be found by their names in an annotation file.

    Args:
        root: the folder.
        paths: of the images within it.
        paths_of_name: the same by their last part, its letters in one form.
    """

    root: Path
    paths: frozenset[str]
    paths_of_name: dict[str, tuple[str, ...]]

    @staticmethod
    def of_folder(root: Path) -> "ImageTree":
        """Lists a folder, once."""
        paths = [path for path in list_files(root) if is_named_as_picture(path)]
        paths_of_name: dict[str, list[str]] = {}
        for path in paths:
            paths_of_name.setdefault(in_one_form(path.rpartition("/")[2]), []).append(path)
        return ImageTree(root, frozenset(paths), {name: tuple(found) for name, found in paths_of_name.items()})

    def find(self, listed: str, folders: Iterable[str] = ("",), within: str = "") -> Path | str:
        """Finds the image that an annotation file means.

        Args:
            listed: its name in the file.
            folders: in which it is looked for first, as paths within the root.
            within: where it is looked for by its name alone if no folder has it; a path within the root.

        Returns:
            The image, or the message that it is missing.
        """
        parts = plain_parts(listed)
        if not parts:
            return f"names no image: {listed!r}"
        for folder in folders:
            path = "/".join((*folder.split("/"), *parts)) if folder else "/".join(parts)
            if path in self.paths:
                return self.root / path
        last = in_one_form(parts[-1])
        for name in dict.fromkeys((last, UPLOAD_PREFIX.sub("", last, count=1))):
            found = [path for path in self.paths_of_name.get(name, ()) if not within or path.startswith(f"{within}/")]
            best = _most_alike(found, parts)
            if len(best) == 1:
                return self.root / best[0]
            if best:
                return f"names {listed}, which may be any of {shown(best)}"
        return f"names {listed}, no such image"


def _most_alike(paths: list[str], parts: tuple[str, ...]) -> list[str]:
    """Keeps the paths that share most of their last parts with a listed name."""

    def num_shared(path: str) -> int:
        pairs = zip(reversed(in_one_form(path).split("/")), reversed(list(map(in_one_form, parts))), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    most = max(map(num_shared, paths), default=0)
    return [path for path in paths if num_shared(path) == most]
