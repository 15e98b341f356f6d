"""Puts a project in the place of the starter; all or nothing.

All that can fail is done in a scratch folder first. Then the files change places; if a step of that fails, they change
back. Only committed files are replaced, so Git has all that goes.
"""

import contextlib
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segpipe.choices import READERS
from segpipe.data.readers.folder import DOCUMENT, find_base
from segpipe.data.readers.patterns import OPTIONS
from segpipe.data.sources.proposed_table import describe_changes, format_coding
from segpipe.data.sources.source import Source, list_files
from segpipe.data.splits.split import find_groups
from segpipe.errors import ConfigError, DataError, Problem, SourceError
from segpipe.faults import shown
from segpipe.files import whole_file
from segpipe.new_project.labels import OWN_FOLDER, as_options, name_classes, survey_folder
from segpipe.new_project.parameters import Plan, make_texts
from segpipe.places import BUILD, CACHE, DATA, DATA_FILE, HEADLINE, LAST_DATASET, LOCK_FILE, PARAMS_FILE, RECIPES
from segpipe.project import dvc, git, list_git, succeeds

GIT_IGNORE = Path(".gitignore")
NOT_COPIED = (".git", ".gitignore", ".DS_Store", "Thumbs.db")  # an ignored image would be in nobody's clone
MAX_BYTES_IN_GIT = 20_000_000  # hosts of Git refuse or slow down beyond; DVC's cache has no limit
DATA_IN_GIT = "outs:\n- path: data\n  cache: false\n  hash: md5\n"


@dataclass(frozen=True)
class Prepared:
    """The new content, in the scratch folder.

    Args:
        data: the folder that becomes `data/`.
        source: what the reader finds in it.
        texts: new content of files, by path.
        is_in_git: whether Git holds the images; otherwise DVC's cache does.
        advice: what is still to be decided about the class table.
    """

    data: Path
    source: Source
    texts: Mapping[Path, str]
    is_in_git: bool
    advice: str


def check_clone(folder: Path) -> None:
    """Checks that nothing uncommitted would be lost.

    Args:
        folder: of the labelled images; what lies there may be uncommitted.

    Raises:
        ConfigError: this is no clone's root, or files are changed; all of them in the message.
    """
    if not (PARAMS_FILE.is_file() and Path(".git").exists()):
        raise ConfigError(
            f"{PARAMS_FILE} or .git: not here; run `segpipe init` in the root folder of a clone of segpipe"
        )
    here, target = Path().resolve(), folder.resolve()
    if target == here or here.is_relative_to(target):
        raise ConfigError(f"--data {folder}: holds this clone; give the folder of the images alone")
    git(Path(), "rev-parse", "--verify", "HEAD")
    lost = [path for path in _list_uncommitted() if not (here / path).is_relative_to(target)]
    if not (here / DATA).is_relative_to(target):
        lost += _list_unsaved_data()
    if (DATA / ".git").exists():
        raise ConfigError(
            f"{DATA}/ is a clone of its own, which would be lost; move it elsewhere and give it by --data"
        )
    if lost:
        fix = "commit them (`git add -A`, `git commit`) or put them away (`git stash -u`), then run it again"
        raise ConfigError(f"uncommitted changes: {shown(lost)}; {fix}")


def _list_uncommitted() -> list[str]:
    """Lists changed files, and new ones where `segpipe init` replaces files."""
    entries = list_git(Path(), "status", "--porcelain", "--untracked-files=all", "--no-renames")
    is_new = "??"
    replaced = {path.parts[0] for path in (DATA, DATA_FILE, LOCK_FILE, HEADLINE, PARAMS_FILE, RECIPES)}
    return [entry[3:] for entry in entries if entry[:2] != is_new or Path(entry[3:]).parts[0] in replaced]


def _list_unsaved_data() -> list[str]:
    """Names `data/` where Git ignores it and DVC has not all of it."""
    if not DATA.is_dir() or not succeeds(Path(), "check-ignore", "--quiet", DATA.as_posix()):
        return []
    is_saved = dvc(Path(), "status", DATA_FILE.as_posix(), "--json").strip() == "{}"
    return [] if is_saved else [f"{DATA} (`dvc commit -f {DATA_FILE}` saves it)"]


def prepare(plan: Plan, scratch: Path) -> Prepared:
    """Makes the new content in a scratch folder, and checks it.

    Raises:
        SegpipeError: the folder cannot be read in this format, or the plan does not fit it.
    """
    data = scratch / "data"
    _copy(plan.folder, data)
    try:
        options, advice = _state_table(plan, data)
        source: Source = READERS.call(plan.format, options, root=data)
    except SourceError as error:
        raise SourceError(str(error).replace(str(data), str(plan.folder))) from error
    if not source.samples:
        fix = f"`segpipe data formats {plan.format}` shows what is read"
        nothing = Problem("empty", str(plan.folder), f"holds no labelled image of format {plan.format}", fix)
        raise DataError(source.problems or [nothing])
    if plan.grouping is not None:
        by = {plan.grouping.key: plan.grouping.value}
        _, problems = find_groups(source.samples, by.get("group_pattern"), by.get("group_column"))
        if problems:
            raise DataError(problems)
    texts = make_texts(replace(plan, options=options), source, scratch)
    num_bytes = sum((data / name).stat().st_size for name in list_files(data))
    return Prepared(data, source, texts, num_bytes <= MAX_BYTES_IN_GIT, advice)


def _copy(folder: Path, data: Path) -> None:
    try:
        shutil.copytree(folder, data, ignore=shutil.ignore_patterns(*NOT_COPIED))
    except shutil.Error as error:  # it has copied all that it could
        failed = [f"{source}: {why}" for source, _, why in error.args[0]]
        raise SourceError(f"--data {folder}: cannot be copied: {shown(failed, 3)}") from error
    for path in (data, *data.rglob("*")):  # a read-only original gives a writable copy
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


def _state_table(plan: Plan, data: Path) -> tuple[dict[str, Any], str]:
    """Writes the class table that the masks need, into the folder or into the format's options.

    Returns:
        The options, and what is still to be decided about the table.

    Raises:
        SegpipeError: `--classes` does not fit the masks, or contradicts itself.
    """
    survey = survey_folder(data, plan.format, plan.options)
    if survey is None:
        if plan.classes:
            raise ConfigError(f"--classes: the class table is there already, in {plan.folder}")
        return dict(plan.options), ""
    coding = name_classes(survey, plan.classes, str(plan.folder))
    if wrong := coding.find_contradictions():
        raise ConfigError("\n".join(f"--classes: {line.removeprefix('classes: ')}" for line in wrong))
    if plan.format != OWN_FOLDER:
        coding = replace(coding, written_in=OPTIONS, masks_key="masks_are")
        return {**plan.options, **as_options(coding)}, describe_changes(survey, coding)
    (find_base(data) / DOCUMENT).write_text(format_coding(coding) + "\n", encoding="utf-8")
    return dict(plan.options), describe_changes(survey, coding)


def make_project(plan: Plan) -> Prepared:
    """Turns the clone in the working directory into a project; all or nothing.

    Raises:
        SegpipeError: it is not possible; the clone is as it was.
    """
    check_clone(plan.folder)
    if not plan.folder.is_dir():
        raise SourceError(f"--data {plan.folder}: no such folder; unpack an archive first")
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="init.", dir=CACHE) as folder:
        scratch = Path(folder)
        prepared = prepare(plan, scratch)
        with contextlib.ExitStack() as undo:
            _switch(prepared, scratch, undo)
            undo.pop_all()  # nothing is undone
    return prepared


def _switch(prepared: Prepared, scratch: Path, undo: contextlib.ExitStack) -> None:
    """Puts the new content in place, and leaves to `undo` how to go back."""
    old = scratch / "old"
    old.mkdir()
    undo.callback(git, Path(), "reset", "--quiet")
    for path in (DATA, BUILD, LAST_DATASET):
        _put_away(path, old / path.name, undo)
    for path in (DATA_FILE, LOCK_FILE, HEADLINE, GIT_IGNORE, *prepared.texts):
        _remember(path, undo)
    for path in (DATA_FILE, LOCK_FILE, HEADLINE):
        path.unlink(missing_ok=True)
    for path, text in prepared.texts.items():
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    undo.callback(shutil.rmtree, DATA, ignore_errors=True)
    prepared.data.rename(DATA)
    git(Path(), "rm", "-r", "--quiet", "--cached", "--ignore-unmatch", "--", DATA.as_posix())
    _track(prepared.is_in_git)
    paths = [DATA_FILE, GIT_IGNORE, *prepared.texts, *([DATA] if prepared.is_in_git else [])]
    git(Path(), "add", "--force", "--", *(path.as_posix() for path in paths))
    git(Path(), "rm", "--quiet", "--cached", "--ignore-unmatch", "--", LOCK_FILE.name, HEADLINE.name)


def _track(is_in_git: bool) -> None:
    """Lets DVC watch `data/`: with the files in Git, or in its own cache."""
    lines = GIT_IGNORE.read_text(encoding="utf-8").splitlines() if GIT_IGNORE.is_file() else []
    if not is_in_git:
        dvc(Path(), "add", DATA.as_posix())
        return
    GIT_IGNORE.write_text("".join(f"{line}\n" for line in lines if line != f"/{DATA}"), encoding="utf-8")
    DATA_FILE.write_text(DATA_IN_GIT, encoding="utf-8")
    dvc(Path(), "commit", "--force", DATA_FILE.as_posix())


def _put_away(path: Path, place: Path, undo: contextlib.ExitStack) -> None:
    if path.exists():
        path.rename(place)
        undo.callback(place.rename, path)


def _remember(path: Path, undo: contextlib.ExitStack) -> None:
    content = path.read_bytes() if path.is_file() else None
    undo.callback(_restore, path, content)


def _restore(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)
