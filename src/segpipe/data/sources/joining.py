"""Joins sources into one: a common class table, and names that cannot collide.

A class of the result is made of classes of the sources, as `preprocess.classes` says it. A class of the main source is
called by its name, one of a joined source by `SOURCE/NAME`. Each must be named exactly once, or be ignored, so that no
class is lost by a typing error.
"""

import difflib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from ruamel.yaml import YAML

from segpipe.classes import IGNORE_INDEX, MAX_NUM_CLASSES, ClassTable, Color
from segpipe.data.masks.labels import Label, digest_of
from segpipe.data.sources.source import RawSample, Source
from segpipe.errors import ConfigError
from segpipe.faults import Reading, shown

MAIN = ""
CLASSES_KEY, IGNORE_KEY = "preprocess.classes", "preprocess.ignore"
NUM_CLASSES_SHOWN = 40


@dataclass(frozen=True)
class MappedLabel:
    """A label whose classes become others.

    Args:
        label: what the source says.
        lookup: for each class index of the source, that of the result or `IGNORE_INDEX`.
    """

    label: Label
    lookup: tuple[int, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The source's files."""
        return self.label.files

    @property
    def key(self) -> str:
        """The key of the source's label, and the map."""
        return digest_of("mapped", self.label.key, self.lookup)

    def read(self, size_hw: tuple[int, int]) -> Reading:
        """Reads the source's label and maps it; its faults are passed on."""
        reading = self.label.read(size_hw)
        if reading.pixels is None:
            return reading
        table = np.full(256, IGNORE_INDEX, np.uint8)
        table[: len(self.lookup)] = self.lookup
        return replace(reading, pixels=np.asarray(cv2.LUT(reading.pixels, table), np.uint8))


@dataclass(frozen=True)
class _ClassMap:
    """Classes of the result, and what each class of a source becomes.

    Args:
        table: the result.
        lookups: by source, for each of its class indices that of the result or `IGNORE_INDEX`.
    """

    table: ClassTable
    lookups: Mapping[str, tuple[int, ...]]


def join_sources(
    sources: Mapping[str, tuple[Path, Source]],
    classes: Mapping[str, Sequence[str]] | None = None,
    ignore: Sequence[str] = (),
) -> Source:
    """Joins sources, or maps the classes of a single one.

    Args:
        sources: folder and content of each by its name, the main one first with the name ''. Ids and groups of the
            others begin with `NAME/` in the result.
        classes: the classes of the result, in order, each with the classes of the sources that become it; None where
            all sources have the same classes in the same order.
        ignore: classes of the sources that become void.

    Returns:
        All samples, problems and licences.

    Raises:
        ConfigError: the map does not name each class once, or there is none and the classes differ; all that is wrong
            in one message.
    """
    class_map = _common_classes(sources) if classes is None else _apply_map(sources, classes, ignore)
    samples: list[RawSample] = []
    problems = []
    for name, (_, source) in sources.items():
        lead = f"{name}/" if name else ""
        lookup = class_map.lookups[name]
        is_identity = lookup == tuple(range(len(lookup)))
        for sample in source.samples:
            label = sample.label if is_identity else MappedLabel(sample.label, lookup)
            group = None if sample.group is None else lead + sample.group
            samples.append(replace(sample, sample_id=lead + sample.sample_id, group=group, label=label))
        problems += [replace(problem, where=lead + problem.where) for problem in source.problems]
    samples.sort(key=lambda sample: sample.sample_id)
    coding = next(source.coding for _, source in sources.values()) if len(sources) == 1 else None
    return Source(class_map.table, tuple(samples), tuple(problems), _join_licences(sources), coding)


def _title(name: str, root: Path) -> str:
    """A source's name in messages; the main one's is that of its folder."""
    return name or root.name


def _join_licences(sources: Mapping[str, tuple[Path, Source]]) -> str:
    if len(sources) == 1:
        return next(source.licence for _, source in sources.values())
    return "; ".join(f"{_title(name, root)}: {source.licence}" for name, (root, source) in sources.items())


def _qualified(source_name: str, class_name: str) -> str:
    return f"{source_name}/{class_name}" if source_name else class_name


def _common_classes(sources: Mapping[str, tuple[Path, Source]]) -> _ClassMap:
    (_, main), *_ = sources.values()
    if any(source.classes.names != main.classes.names for _, source in sources.values()):
        tables = [
            f"  {_title(name, root)}: {shown(source.classes.names, NUM_CLASSES_SHOWN)}"
            for name, (root, source) in sources.items()
        ]
        head = f"{CLASSES_KEY}: the sources' classes or their order differ:"
        offer = "write a map into preprocess, for example this one (each class once, here or in ignore):"
        raise ConfigError("\n".join([head, *tables, offer, _propose_map(sources)]))
    identity = tuple(range(main.classes.num_classes))
    return _ClassMap(main.classes, dict.fromkeys(sources, identity))


def _propose_map(sources: Mapping[str, tuple[Path, Source]]) -> str:
    """Gives a map that merges what has the same name, as YAML."""
    proposal: defaultdict[str, list[str]] = defaultdict(list)
    for source_name, (_, source) in sources.items():
        for class_name in source.classes.names:
            proposal[class_name].append(_qualified(source_name, class_name))
    yaml = YAML()
    yaml.default_flow_style = None  # a list is written in one line
    yaml.width = 10_000
    text = io.StringIO()
    yaml.dump({"classes": dict(proposal)}, text)
    return "\n".join(f"  {line}" for line in text.getvalue().splitlines())


def _apply_map(
    sources: Mapping[str, tuple[Path, Source]], classes: Mapping[str, Sequence[str]], ignore: Sequence[str]
) -> _ClassMap:
    colors: dict[str, Color] = {
        _qualified(source_name, class_name): color
        for source_name, (_, source) in sources.items()
        for class_name, color in zip(source.classes.names, source.classes.colors, strict=True)
    }
    _check_map(sources, list(colors), classes, ignore)
    index_of = {name: index for index, members in enumerate(classes.values()) for name in members}
    lookups = {
        source_name: tuple(
            index_of.get(_qualified(source_name, class_name), IGNORE_INDEX) for class_name in source.classes.names
        )
        for source_name, (_, source) in sources.items()
    }
    table = ClassTable(tuple(classes), tuple(colors[members[0]] for members in classes.values()))
    return _ClassMap(table, lookups)


def _check_map(
    sources: Mapping[str, tuple[Path, Source]],
    known: Sequence[str],
    classes: Mapping[str, Sequence[str]],
    ignore: Sequence[str],
) -> None:
    """Raises ConfigError unless each class of the sources is named exactly once."""
    wrong = []
    num_classes = sum(source.classes.num_classes for _, source in sources.values())
    if len(known) < num_classes:
        wrong.append(
            f"{CLASSES_KEY}: a class of the main source has the name of a joined source's class; rename that join"
        )
    if len(classes) > MAX_NUM_CLASSES:
        wrong.append(f"{CLASSES_KEY}: {len(classes)} classes; a mask can hold at most {MAX_NUM_CLASSES}")
    places: defaultdict[str, list[str]] = defaultdict(list)
    for place, members in [*((f"{CLASSES_KEY}: {name}", m) for name, m in classes.items()), (IGNORE_KEY, ignore)]:
        for member in members:
            places[member].append(place)
            if member not in known:
                wrong.append(f"{place}: unknown class {member!r}{_nearest(member, known)}")
    for member, named_in in places.items():
        if len(named_in) > 1:
            where = " and ".join(place.removeprefix(f"{CLASSES_KEY}: ") for place in named_in)
            wrong.append(f"{CLASSES_KEY}: {member!r} is named {len(named_in)} times: in {where}")
    if forgotten := [name for name in known if name not in places]:
        fix = f"put each into a class, or into {IGNORE_KEY}"
        wrong.append(f"{CLASSES_KEY}: not named: {shown(forgotten, NUM_CLASSES_SHOWN)}; {fix}")
    if wrong:
        raise ConfigError("\n".join(wrong))


def _nearest(name: str, known: Sequence[str]) -> str:
    """The nearest class; a list of all could be hundreds."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
