"""Finds the pictures and videos that a command line names, and the name that the outputs of each get."""

import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from segpipe.data.images import IMAGE_SUFFIXES, fault_of_name, is_picture_name, stem_of
from segpipe.errors import PredictionError
from segpipe.prediction.videos import is_video_name

LIST_SUFFIX = ".txt"

NO_FILE = "is not there, or is no file"
A_VIDEO = "is a video in a folder. Name the file itself: `segpipe predict FILE`"
A_LINK = "is a link to a folder, which is not followed. Name it itself: `segpipe predict FOLDER LINK`"
NO_UTF_8 = "has a name that is not UTF-8. Rename it"

# How files begin that are pictures without doubt, and the suffix that they should have.
PICTURE_STARTS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"GIF8": ".gif"}
DICOM_MARK, DICOM_PREAMBLE_BYTES = b"DICM", 128  # scanners often write names without a suffix


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
            own = _normalize(output)  # the masks of an earlier call may match too
            found, not_read = _name_files([one for one in matches if one.is_file() and not _lies_in(one, own)]), []
        else:
            problems.append(f"{path}: no such file or folder")
            continue
        if not found and not not_read:
            problems.append(f"{argument}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        inputs += found
        skipped += not_read
    if problems:
        raise PredictionError("\n".join(problems))
    inputs += _name_files(files)
    skipped += [Skipped(one.path, NO_UTF_8) for one in inputs if not _is_utf_8(one.path)]
    named = {_normalize(path) for path in [*map(Path, arguments), *(one.path for one in inputs)]}
    return _name_uniquely([one for one in inputs if _is_utf_8(one.path)]), _list_unnamed(skipped, named)


def _list_unnamed(skipped: Iterable[Skipped], named: set[Path]) -> list[Skipped]:
    """Gives each file once, without the videos and links in folders that are named elsewhere too."""
    once = {one.path: one for one in skipped}.values()
    return [one for one in once if one.reason not in {A_VIDEO, A_LINK} or _normalize(one.path) not in named]


def _lies_in(path: Path, folder: Path) -> bool:
    return _normalize(path).is_relative_to(folder)


def _is_utf_8(path: Path) -> bool:
    """Whether a path can be written into a table; Python keeps bytes of other encodings as surrogates."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _find_in_folder(folder: Path, prefix: str) -> tuple[list[Input], list[Skipped]]:
    """Finds the pictures below a folder; files that are no pictures by name and content are left alone."""
    files, skipped = _list_files(folder)
    inputs = []
    for path in files:
        reason = fault_of_name(path.name)
        if is_picture_name(path.name) and path.is_file():
            inputs.append(Input(prefix + stem_of(path.relative_to(folder).as_posix()), path))
        elif is_picture_name(path.name) or (reason and not path.is_file()):
            skipped.append(Skipped(path, NO_FILE))
        elif reason:
            skipped.append(Skipped(path, reason))
        elif is_video_name(path.name):
            skipped.append(Skipped(path, A_VIDEO))
        elif suffix := _find_true_suffix(path):
            skipped.append(Skipped(path, f"is a picture, but its name does not end as one. Rename it: NAME{suffix}"))
    return inputs, skipped


def _find_true_suffix(path: Path) -> str | None:
    """Gives the suffix that a file should have which is a picture, whatever its name; None for other files."""
    try:
        if not path.is_file():  # a pipe would wait
            return None
        with path.open("rb") as file:
            beginning = file.read(DICOM_PREAMBLE_BYTES + len(DICOM_MARK))
    except OSError:
        return None
    if beginning[DICOM_PREAMBLE_BYTES:] == DICOM_MARK:
        return ".dcm"
    return next((suffix for start, suffix in PICTURE_STARTS.items() if beginning.startswith(start)), None)


def _list_files(folder: Path) -> tuple[list[Path], list[Skipped]]:
    """Lists what lies below a folder, and the folders that are not searched.

    Links to other folders are not followed, because they can lead in a circle.
    """
    files: list[Path] = []
    skipped: list[Skipped] = []

    def name_unread(error: OSError) -> None:
        skipped.append(Skipped(Path(error.filename), f"is a folder that cannot be read: {error.strerror}"))

    whole = folder.resolve()
    for place, folders, names in os.walk(folder, onerror=name_unread):
        files += [Path(place, name) for name in names]
        links = [link for name in folders if (link := Path(place, name)).is_symlink()]
        skipped += [Skipped(link, A_LINK) for link in links if not link.resolve().is_relative_to(whole)]
    return sorted(files), skipped


def _read_list(path: Path) -> tuple[list[Input], list[Skipped]]:
    """Reads a list of paths; empty lines and lines that begin with # are left out."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise PredictionError(f"{path}: is no list of paths in UTF-8: {error}") from error
    paths = [path.parent / line for line in lines if line and not line.startswith("#")]
    skipped = [Skipped(one, NO_FILE) for one in paths if not one.is_file()]
    return _name_files([one for one in paths if one.is_file()]), skipped


def _name_files(paths: Sequence[Path]) -> list[Input]:
    """Names files by their path below the folder that they have in common."""
    if not paths:
        return []
    places = [_normalize(path) for path in paths]
    base = os.path.commonpath([place.parent for place in places])
    names = [stem_of(place.relative_to(base).as_posix()) for place in places]
    return [Input(name, path, is_video_name(path.name)) for name, path in zip(names, paths, strict=True)]


def _normalize(path: Path) -> Path:
    """Gives the absolute path without `..`; links are kept."""
    return Path(os.path.normpath(path.absolute()))


def _name_uniquely(inputs: Sequence[Input]) -> list[Input]:
    """Leaves out files that are named twice; files whose outputs would have one name keep the suffix in theirs.

    Raises:
        PredictionError: names are equal all the same.
    """
    by_path: dict[Path, Input] = {}
    for one in inputs:
        by_path.setdefault(_normalize(one.path), one)
    named = list(by_path.values())
    shorter = set(by_path.values())  # names without suffix
    while clashing := _find_clashes(named) & shorter:
        shorter -= clashing
        named = [_keep_suffix(one) if one in clashing else one for one in named]
    counts = Counter(one.name for one in named)
    twice = sorted(str(one.path) for one in named if counts[one.name] > 1)
    if twice:
        raise PredictionError(
            "files with the same name, so one mask would replace the other; predict them by calls with different "
            f"--output, or name the folder that holds them all: {', '.join(twice)}"
        )
    return named


def _keep_suffix(one: Input) -> Input:
    return replace(one, name=one.name + one.path.name[len(stem_of(one.path.name)) :])


def _find_clashes(inputs: Iterable[Input]) -> set[Input]:
    """Finds inputs whose outputs would replace those of another.

    Two have one name, also where a disk does not distinguish small letters; a picture lies where a video's frames will;
    or a picture's `NAME.png` is the folder of another.
    """
    keys = {one: unicodedata.normalize("NFC", one.name).casefold() for one in inputs}
    counts = Counter(keys.values())
    folders = {str(folder) for key in keys.values() for folder in PurePosixPath(key).parents}
    folders_of_videos = {keys[one] for one in keys if one.is_video}
    return {
        one
        for one, key in keys.items()
        if counts[key] > 1
        or (one.is_video and key in folders)
        or not {f"{key}.png", f"{key}.npy", f"{key}.tif"}.isdisjoint(folders | folders_of_videos)
    }
