"""A folder of a team's own: `images/`, `masks/` and `dataset.yaml`.

images/NAME.jpg      any common format, 8 bits a channel
masks/NAME.png       one channel (or a palette's indices): class indices, and the void values
dataset.yaml         classes: [{name: road, color: [128, 64, 128]}, ...]
void: [255]            # optional
licence: our own       # optional
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segpipe.classes import IGNORE_INDEX, MAX_NUM_CLASSES, ClassTable
from segpipe.data.source import RawSample, Source, files_by_stem
from segpipe.errors import Problem, SourceError
from segpipe.registry import describe_validation_error

Byte = Annotated[int, Field(ge=0, le=255)]


class _Class(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1)]
    color: tuple[Byte, Byte, Byte]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")
    classes: Annotated[list[_Class], Field(min_length=2, max_length=MAX_NUM_CLASSES)]
    void: list[Byte] = [IGNORE_INDEX]
    licence: str = "not stated"


def _read_document(path: Path) -> _Document:
    try:
        document = _Document.model_validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file; it must hold the class table (README: your own images)") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: is not YAML: {error}") from error
    except ValidationError as error:
        lines = describe_validation_error(error, lambda keys: sorted((_Class if keys else _Document).model_fields))
        raise SourceError("\n".join(f"{path}: {line}" for line in lines)) from error
    names = [entry.name for entry in document.classes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(f"{path}: classes: named twice: {', '.join(twice)}")
    if wrong := [value for value in document.void if value < len(names)]:
        raise SourceError(f"{path}: void: {wrong} are indices of classes; 0..{len(names) - 1} are taken")
    return document


def read_source(*, root: Path) -> Source:
    """Reads the layout above.

    Args:
        root: the folder that holds `dataset.yaml`.

    Raises:
        SourceError: the class table is missing or wrong.
    """
    document = _read_document(root / "dataset.yaml")
    images, problems = files_by_stem(root / "images", root)
    masks, mask_problems = files_by_stem(root / "masks", root)
    problems += mask_problems
    for stem in sorted(images.keys() - masks.keys()):
        where = images[stem].relative_to(root).as_posix()
        problems.append(Problem("mask-missing", where, f"no masks/{stem}.png", "Add the mask or remove the image"))
    for stem in sorted(masks.keys() - images.keys()):
        where = masks[stem].relative_to(root).as_posix()
        problems.append(Problem("image-missing", where, f"no image images/{stem}.*", "Add it or remove the mask"))
    samples = tuple(RawSample(stem, images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys()))
    if not samples and not problems:
        problems.append(Problem("empty", str(root), "holds no image", "Put images into images/ and masks/"))
    classes = ClassTable(
        names=tuple(entry.name for entry in document.classes),
        colors=tuple(entry.color for entry in document.classes),
        void_values=tuple(document.void),
    )
    return Source(classes, samples, tuple(problems), document.licence)
