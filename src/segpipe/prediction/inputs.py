"""Finds the pictures and videos that a command line names, and the name that the outputs of each get."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segpipe.data.images import IMAGE_SUFFIXES, fault_of_name, is_picture_name
from segpipe.errors import PredictionError
from segpipe.prediction.videos import is_video_name

LIST_SUFFIX = ".txt"


@dataclass(frozen=True)
class Input:
    """A picture or a video.

    Attributes:
        name: of its outputs, a relative path without suffix; the frames of a video lie below it.
        path: of the file.
        is_video: whether it holds many pictures.
    """

    name: str
    path: Path
    is_video: bool = False


@dataclass(frozen=True)
class Skipped:
    """What is not predicted.

    Attributes:
        path: of the file.
        reason: why, the rest of a sentence that begins with the path.
    """

    path: Path
    reason: str


def find_inputs(arguments: Sequence[str], output: Path) -> tuple[list[Input], list[Skipped]]:
    """Finds all pictures and videos, each once.

    Args:
        arguments: folders (with all below them), patterns (`'shots/**/*.jpg'`), pictures, videos, and `.txt` files with
            one path a line, relative to the list's folder.
        output: the folder for the predictions.

    Returns:
        What is to be predicted, and what cannot be, by its name.

    Raises:
        PredictionError: an argument names nothing, inputs lie in the output, or two would have outputs of one name;
            names all such arguments.
    """
    problems: list[str] = []
    inputs: list[Input] = []
    skipped: list[Skipped] = []
    files: list[Path] = []
    num_folders = sum(Path(argument).is_dir() for argument in arguments)
    for argument in arguments:
        path = Path(argument)
        if path.is_file() and path.suffix.lower() != LIST_SUFFIX:
            files.append(path)
            continue
        if path.is_dir():
            found, not_read = _find_in_folder(path, f"{path.resolve().name}/" if num_folders > 1 else "")
            if output.resolve().is_relative_to(path.resolve()):
                problems.append(f"{output} lies in {path}: the next call would predict its masks; choose another")
        elif path.is_file():
            found, not_read = _read_list(path)
        elif glob.has_magic(argument):
            # Path.glob takes no absolute pattern.
            matches = (Path(match) for match in sorted(glob.glob(argument, recursive=True)))  # noqa: PTH207
            found, not_read = _name_files([match for match in matches if match.is_file()]), []
        else:
            problems.append(f"{path}: no such file or folder")
            continue
        if not found and not not_read:
            problems.append(f"{argument}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        inputs += found
        skipped += not_read
    if problems:
        raise PredictionError("\n".join(problems))
    return _name_uniquely([*inputs, *_name_files(files)]), list(dict.fromkeys(skipped))


def _find_in_folder(folder: Path, prefix: str) -> tuple[list[Input], list[Skipped]]:
    """Finds the pictures below a folder; files that are no pictures by their names are left alone."""
    inputs, skipped = [], []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        if is_picture_name(path.name):
            inputs.append(Input(prefix + path.relative_to(folder).with_suffix("").as_posix(), path))
        elif reason := fault_of_name(path.name):
            skipped.append(Skipped(path, reason))
        elif is_video_name(path.name):
            skipped.append(Skipped(path, "is a video in a folder. Name the file itself: `segpipe predict FILE`"))
    return inputs, skipped


def _read_list(path: Path) -> tuple[list[Input], list[Skipped]]:
    """Reads a list of paths; empty lines and lines that begin with # are left out."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise PredictionError(f"{path}: is no list of paths in UTF-8: {error}") from error
    paths = [path.parent / line for line in lines if line and not line.startswith("#")]
    skipped = [Skipped(one, "is not there, or is no file") for one in paths if not one.is_file()]
    return _name_files([one for one in paths if one.is_file()]), skipped


def _name_files(paths: Sequence[Path]) -> list[Input]:
    """Names files by their path below the folder that they have in common."""
    if not paths:
        return []
    places = [_normalize(path) for path in paths]
    base = os.path.commonpath([place.parent for place in places])
    names = [place.relative_to(base).with_suffix("").as_posix() for place in places]
    return [Input(name, path, is_video_name(path.name)) for name, path in zip(names, paths, strict=True)]


def _normalize(path: Path) -> Path:
    """Gives the absolute path without `..`; links are kept."""
    return Path(os.path.normpath(path.absolute()))


def _name_uniquely(inputs: Sequence[Input]) -> list[Input]:
    """Leaves out files that are named twice; files that differ only in the suffix keep it in their name.

    Raises:
        PredictionError: names are equal all the same.
    """
    by_path: dict[Path, Input] = {}
    for one in inputs:
        by_path.setdefault(_normalize(one.path), one)
    once = list(by_path.values())
    counts = Counter(one.name for one in once)
    named = [replace(one, name=one.name + one.path.suffix) if counts[one.name] > 1 else one for one in once]
    counts = Counter(one.name for one in named)
    twice = sorted(str(one.path) for one in named if counts[one.name] > 1)
    if twice:
        raise PredictionError(
            "files with the same name, so one mask would replace the other; predict them by calls with different "
            f"--output, or name the folder that holds them all: {', '.join(twice)}"
        )
    return named
