"""Folders of any layout, described by two patterns.

    images: 'frames/{split}/{group}/{id}.jpg'
    masks: 'gt/{split}/{group}/{id}_mask.png'

A pattern is a path below the root. `{id}`, `{split}` and `{group}` stand for one or more characters within one part of
the path, `*` for any number of them; all other characters stand for themselves. A placeholder takes as many characters
as it can; if it occurs twice, it has the same text in both places. An image and a mask belong together if all
placeholders that both patterns have are equal. The sample's id is the texts of the image pattern's placeholders, in
their order, joined by `/`. `{split}` is train, val or test, or training, valid, validation, testing. If nothing matches
and one folder holds everything, the patterns are tried below it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ValidationError

from segpipe.choices import describe_validation_error, nearest
from segpipe.data.images import is_named_as_picture
from segpipe.data.masks.mask_coding import Byte, ClassEntries, ClassEntry, MaskCoding, MasksAre, Rgb, read_class_file
from segpipe.data.sources.source import (
    SPLIT_WORDS,
    RawSample,
    Source,
    find_folder,
    in_one_form,
    list_files,
    pair_files,
    sorted_by_id,
)
from segpipe.errors import ConfigError, Problem
from segpipe.faults import shown

PLACEHOLDERS = ("id", "split", "group")
OPTIONS = "download.options of params.yaml"
PART = re.compile(r"(\{\w*\}|\*)")


@dataclass(frozen=True)
class _Pattern:
    """A parsed pattern.

    Args:
        text: as it was given.
        expression: matches a whole path.
        placeholders: those in it, in their order.
        num_literals: how many characters stand for themselves: of two patterns, the one with more is more specific.
    """

    text: str
    expression: re.Pattern[str]
    placeholders: tuple[str, ...]
    num_literals: int


@dataclass(frozen=True)
class _Match:
    """A file that matches a pattern."""

    path: Path
    texts: dict[str, str]


def _is_below(path: str) -> bool:
    return not path.startswith("/") and ".." not in PurePosixPath(path).parts and "\\" not in path


def _find_faults(option: str, text: str) -> list[str]:
    """Lists all faults of a pattern; one with faults is not compiled."""
    wrong = []
    names = [part[1:-1] for part in PART.split(text) if part.startswith("{") and part.endswith("}")]
    if unknown := sorted(set(names) - set(PLACEHOLDERS)):
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        wrong.append(f"unknown {', '.join(f'{{{name}}}' for name in unknown)}; known: {known} and *")
    if "id" not in names:
        wrong.append("has no {id}")
    if "**" in text:
        wrong.append("** is not known; * stands for any text within one folder's or file's name")
    if not _is_below(text):
        wrong.append("must be a path below the source, with / between its parts")
    return [f"option {option}: {what} (got {text!r})" for what in wrong]


def _compile(text: str) -> _Pattern:
    expression, names, num_literals = "", [], 0
    for part in PART.split(text.removeprefix("./")):
        if part == "*":
            expression += "[^/]*"
        elif part.startswith("{") and part.endswith("}"):
            name = part[1:-1]
            expression += f"(?P={name})" if name in names else f"(?P<{name}>[^/]+)"
            names += [name] * (name not in names)
        else:
            expression += re.escape(part)
            num_literals += len(part)
    return _Pattern(text, re.compile(expression), tuple(names), num_literals)


def _match_files(files: list[str], folder: Path, patterns: tuple[_Pattern, _Pattern]) -> tuple[list[_Match], ...]:
    """Gives the files that match each pattern; a file that matches both belongs to the more specific one."""
    by_pattern: dict[str, list[_Match]] = {pattern.text: [] for pattern in patterns}
    most_literal_first = sorted(patterns, key=lambda pattern: -pattern.num_literals)
    for file in files:
        for pattern in most_literal_first:
            if match := pattern.expression.fullmatch(file):
                by_pattern[pattern.text].append(_Match(folder / file, match.groupdict()))
                break
    return tuple(by_pattern[pattern.text] for pattern in patterns)


def _by_key(matches: list[_Match], shared: tuple[str, ...], root: Path) -> tuple[dict[str, _Match], list[Problem]]:
    found: dict[str, _Match] = {}
    problems = []
    for match in matches:
        key = in_one_form("/".join(match.texts[name] for name in shared))
        if key in found:
            what = f"has the same name, {key}, as {found[key].path.relative_to(root).as_posix()}"
            fix = "Remove one, or add a placeholder to both patterns"
            problems.append(Problem("name-twice", match.path.relative_to(root).as_posix(), what, fix))
        found[key] = match
    return found, problems


def _fill(pattern: _Pattern, texts: Mapping[str, str]) -> str:
    """Gives the path at which a file is expected, for messages."""
    path = pattern.text
    for name, text in texts.items():
        path = path.replace(f"{{{name}}}", text)
    return path


def _find_matches(root: Path, images: _Pattern, masks: _Pattern) -> tuple[list[_Match], list[_Match], list[str]]:
    """Gives the files that match each pattern, and all image files."""
    files = [file for file in list_files(root) if is_named_as_picture(file)]
    found_images, found_masks = _match_files(files, root, (images, masks))
    tops = {file.partition("/")[0] if "/" in file else "" for file in files}
    if not found_images and not found_masks and len(tops) == 1 and "" not in tops:
        (top,) = tops
        below = [file.removeprefix(f"{top}/") for file in files]
        found_images, found_masks = _match_files(below, root / top, (images, masks))
    return found_images, found_masks, files


class _ClassOption(BaseModel):
    classes: ClassEntries


def _read_coding(
    root: Path,
    classes: list[dict[str, Any]] | None,
    class_file: str | None,
    masks_are: MasksAre,
    void: list[int] | None,
    void_colors: list[tuple[int, int, int]] | None,
) -> tuple[MaskCoding | None, list[str]]:
    """Gives the meaning of the masks, or what is wrong with the options."""
    if (classes is None) == (class_file is None):
        return None, ["give either the option classes or the option class_file"]
    if class_file is not None:
        folder = find_folder(root, class_file) if _is_below(class_file) else None
        if folder is None:
            return None, [f"option class_file: no {class_file} in the source"]
        entries = read_class_file(folder / class_file, root)
    else:
        try:
            entries = _ClassOption.model_validate({"classes": classes}).classes
        except ValidationError as error:
            lines = describe_validation_error(error, lambda _: sorted(ClassEntry.model_fields))
            return None, [f"option {line}" for line in lines]
    file_key = None if class_file is None else "class_file"
    coding = MaskCoding(entries, masks_are, void, void_colors, OPTIONS, "masks_are", file_key)
    return coding, [f"option {line}" for line in coding.find_contradictions()]


def _make_samples(
    names: list[str],
    images: Mapping[str, _Match],
    masks: Mapping[str, _Match],
    coding: MaskCoding,
    order: Sequence[str],
) -> tuple[list[RawSample], list[Problem]]:
    label_of = coding.label_type()
    samples, problems = [], []
    for name in names:
        image, mask = images[name], masks[name]
        texts = mask.texts | image.texts
        word = texts.get("split")
        sample_id = "/".join(image.texts[placeholder] for placeholder in order)
        if word is not None and word.lower() not in SPLIT_WORDS:
            what = f"is in {word!r}, which is not a split; {nearest(word, list(SPLIT_WORDS))}"
            problems.append(Problem("list-line", sample_id, what, "Rename the folder, or use * instead of {split}"))
            continue
        split = None if word is None else SPLIT_WORDS[word.lower()]
        samples.append(RawSample(sample_id, image.path, label_of(mask.path), split, texts.get("group")))
    return samples, problems


def read_source(
    *,
    root: Path,
    images: str = "images/{id}.*",
    masks: str = "masks/{id}.png",
    masks_are: MasksAre = "indices",
    classes: list[dict[str, Any]] | None = None,
    class_file: str | None = None,
    void: list[Byte] | None = None,
    void_colors: list[Rgb] | None = None,
    licence: str = "not stated",
) -> Source:
    """Reads the files that match the patterns; only files with an image's suffix are considered.

    Args:
        root: the folder that the patterns begin in.
        images: pattern of the images.
        masks: pattern of the masks.
        masks_are: what a mask's pixels hold: class indices (of a palette, its indices), or colours.
        classes: the class table, `[{name: road, color: [128, 64, 128]}, ...]`; with a `value` in each if masks of
            indices hold other values than 0, 1, 2, ...
        class_file: instead, a file of the source: `.csv` with the columns name, r, g, b, or lines `R G B NAME`.
        void: values that are not labelled; null takes 255.
        void_colors: the same in masks of colours; null takes none.
        licence: the terms of use.

    Raises:
        ConfigError: the options are wrong or contradict each other; all in one message.
        SourceError: the class file is wrong.
    """
    wrong = _find_faults("images", images) + _find_faults("masks", masks)
    if images == masks:
        wrong.append(f"options images and masks: are the same (got {images!r})")
    coding, wrong_coding = _read_coding(root, classes, class_file, masks_are, void, void_colors)
    wrong += wrong_coding
    if wrong or coding is None:
        raise ConfigError("\n".join(f"data format 'patterns': {line}" for line in wrong))
    image_pattern, mask_pattern = _compile(images), _compile(masks)
    found_images, found_masks, files = _find_matches(root, image_pattern, mask_pattern)
    shared = tuple(name for name in image_pattern.placeholders if name in mask_pattern.placeholders)
    images_by_key, problems = _by_key(found_images, shared, root)
    masks_by_key, more = _by_key(found_masks, shared, root)
    names, unpaired = pair_files(
        {key: match.path for key, match in images_by_key.items()},
        {key: match.path for key, match in masks_by_key.items()},
        root,
        lambda key: _fill(image_pattern, masks_by_key[key].texts),
        lambda key: _fill(mask_pattern, images_by_key[key].texts),
    )
    samples, unknown = _make_samples(names, images_by_key, masks_by_key, coding, image_pattern.placeholders)
    problems += [*more, *unpaired, *unknown]
    if not found_images and not found_masks:
        what = f"no file matches {images!r} or {masks!r}; there are: {shown(files) or 'no images'}"
        problems.append(Problem("empty", str(root), what, "Change the patterns"))
    return Source(coding.classes, sorted_by_id(samples), tuple(problems), licence, coding)
