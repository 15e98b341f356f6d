"""Makes a project of one's own in a clone that still is the starter: `segpipe init`.

All that can fail is done in a scratch folder first. Then the files change places; if a step of that fails, they change
back. Only committed files are replaced, so Git has all that goes.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from segpipe.choices import MODELS, READERS
from segpipe.config.params import Config, load_config
from segpipe.config.params_edit import set_values
from segpipe.config.split_edit import Grouping
from segpipe.data.masks.mask_coding import MaskCoding, read_class_file
from segpipe.data.readers.folder import DOCUMENT
from segpipe.data.sources.proposed_table import describe_changes, format_coding, propose_table
from segpipe.data.sources.source import Source, find_folder, list_files
from segpipe.data.sources.survey import Survey, survey_masks
from segpipe.data.splits.split import find_groups
from segpipe.errors import ConfigError, DataError, SegpipeError, SourceError
from segpipe.faults import shown
from segpipe.files import whole_file
from segpipe.places import BUILD, CACHE, HEADLINE, LAST_DATASET, LOCK_FILE, PARAMS_FILE, RECIPES
from segpipe.project import dvc, git, list_git

DATA = Path("data")
DATA_FILE = Path("data.dvc")
GIT_IGNORE = Path(".gitignore")
OWN_FOLDER, BY_PATTERNS = "folder", "patterns"  # the formats whose class table the user writes
MAX_BYTES_IN_GIT = 20_000_000  # hosts of Git refuse or slow down beyond; DVC's cache has no limit
SHARE_KEPT_OUT = 0.15
NUM_LOOKED_AT = 20
GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L"})
DATA_IN_GIT = "outs:\n- path: data\n  cache: false\n  hash: md5\n"


@dataclass(frozen=True)
class Plan:
    """What a project is to be.

    Args:
        name: of the project, its registered model and its experiment.
        folder: of the labelled images; it stays as it is, its content is copied to `data/`.
        format: of the folder.
        options: of the format.
        model: a name of `segpipe models`; None keeps the present one.
        classes: names of the classes in the order of their values or colours, or one path of a file that lists their
            colours and names; where nothing else says them.
        grouping: what names the groups; None for the source's own.
    """

    name: str
    folder: Path
    format: str
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    classes: Sequence[str] = ()
    grouping: Grouping | None = None


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
    if lost:
        fix = "commit them (`git add -A`, `git commit`) or put them away (`git stash -u`), then run it again"
        raise ConfigError(f"uncommitted changes: {shown(lost)}; {fix}")


def _list_uncommitted() -> list[str]:
    """Lists changed files, and new ones where `segpipe init` replaces files."""
    entries = list_git(Path(), "status", "--porcelain", "--untracked-files=all", "--no-renames")
    is_new = "??"
    replaced = {path.parts[0] for path in (DATA, DATA_FILE, LOCK_FILE, HEADLINE, PARAMS_FILE, RECIPES)}
    return [entry[3:] for entry in entries if entry[:2] != is_new or Path(entry[3:]).parts[0] in replaced]


def find_formats(folder: Path) -> list[str]:
    """Finds the formats that read samples from a folder without options; only `folder` if it has a class table."""
    if find_folder(folder, DOCUMENT):
        return [OWN_FOLDER]
    found = []
    for name in READERS.names():
        with contextlib.suppress(SegpipeError):
            source: Source = READERS.call(name, {}, root=folder)
            if source.samples:
                found.append(name)
    if not found and _lacks_table(folder):
        found.append(OWN_FOLDER)
    return found


def _lacks_table(folder: Path) -> bool:
    """Whether a folder is of our own format but for the class table."""
    base = find_folder(folder, "masks")
    return base is not None and (base / "images").is_dir() and not (base / DOCUMENT).is_file()


def survey_folder(folder: Path, format_name: str, options: Mapping[str, Any]) -> Survey | None:
    """Looks at the masks of a folder whose class table has to be written; None where it is there or the format has it.

    Raises:
        SegpipeError: the options are wrong.
    """
    if format_name == OWN_FOLDER and _lacks_table(folder):
        base = find_folder(folder, "masks")
        assert base is not None
        return survey_masks([base / "masks" / name for name in list_files(base / "masks")])
    if format_name == BY_PATTERNS and not {"classes", "class_file"} & options.keys():
        # Any table will do to find the masks.
        classes = [{"name": name, "color": [0, 0, 0]} for name in "ab"]
        source: Source = READERS.call(format_name, {**options, "classes": classes}, root=folder)
        return survey_masks([sample.label.files[0] for sample in source.samples])
    return None


def name_classes(survey: Survey, classes: Sequence[str], where: str) -> MaskCoding:
    """Makes the class table of masks.

    Args:
        survey: of the masks.
        classes: as in `Plan`.
        where: the folder, for messages.

    Raises:
        SourceError: no table explains the masks.
        ConfigError: there are more or fewer names than classes.
    """
    proposed = propose_table(survey)
    if len(classes) == 1 and Path(classes[0]).is_file():
        file = Path(classes[0])
        entries = read_class_file(file, file.parent)
        return MaskCoding(entries, "colors" if survey.is_of_colors else "indices", written_in=DOCUMENT)
    if proposed is None:
        held = f"{len(survey.values)} values and {len(survey.colors)} colours"
        fix = (
            "`segpipe data check` says what is wrong with each; masks are PNG, with one value or colour for each class"
        )
        raise SourceError(f"{where}: {survey.extent} hold {held}, which are no class table; {fix}")
    held_by = proposed.values if survey.is_of_values else [list(color) for color in proposed.colors]
    if classes and len(classes) != len(proposed.entries):
        raise ConfigError(
            f"--classes: {len(classes)} names, but {survey.extent} hold {len(held_by)} classes: {shown(held_by, 20)}; "
            "give a name for each, in this order"
        )
    named = propose_table(survey, classes)
    assert named is not None
    return replace(named, written_in=DOCUMENT)


def prepare(plan: Plan, scratch: Path) -> Prepared:
    """Makes the new content in a scratch folder, and checks it.

    Raises:
        SegpipeError: the folder cannot be read in this format, or the plan does not fit it.
    """
    data, options = scratch / "data", dict(plan.options)
    try:
        shutil.copytree(plan.folder, data, ignore=shutil.ignore_patterns(".git", ".DS_Store", "Thumbs.db"))
    except shutil.Error as error:  # it has copied all that it could
        failed = [f"{source}: {why}" for source, _, why in error.args[0]]
        raise SourceError(f"--data {plan.folder}: cannot be copied: {shown(failed, 3)}") from error
    survey = survey_folder(data, plan.format, options)
    advice = ""
    if survey is not None:
        coding = name_classes(survey, plan.classes, str(plan.folder))
        advice = describe_changes(survey, coding)
        if plan.format == OWN_FOLDER:
            base = find_folder(data, "masks")
            assert base is not None
            (base / DOCUMENT).write_text(format_coding(coding) + "\n", encoding="utf-8")
        else:
            options |= _as_options(coding)
    elif plan.classes:
        raise ConfigError(f"--classes: the class table is there already, in {plan.folder}")
    try:
        source: Source = READERS.call(plan.format, options, root=data)
    except SourceError as error:
        raise SourceError(str(error).replace(str(data), str(plan.folder))) from error
    if not source.samples:
        raise DataError(source.problems)
    if plan.grouping is not None:
        by = {plan.grouping.key: plan.grouping.value}
        _, problems = find_groups(source.samples, by.get("group_pattern"), by.get("group_column"))
        if problems:
            raise DataError(problems)
    texts = _make_texts(replace(plan, options=options), source, scratch)
    num_bytes = sum((data / name).stat().st_size for name in list_files(data))
    return Prepared(data, source, texts, num_bytes <= MAX_BYTES_IN_GIT, advice)


def _as_options(coding: MaskCoding) -> dict[str, Any]:
    """The options of `patterns` that say a class table."""
    entries = [entry.model_dump(mode="json", exclude_none=True) for entry in coding.entries]
    options = {"classes": entries, "masks_are": coding.masks_are, "void": coding.void}
    return {key: value for key, value in options.items() if value is not None}


def _make_texts(plan: Plan, source: Source, scratch: Path) -> dict[Path, str]:
    """Gives params.yaml, and the recipes that train on `data/`, for the new project.

    Raises:
        ConfigError: the plan gives no valid parameters.
    """
    present = load_config()
    if plan.name in (present.register_.model_name, present.train.experiment):
        raise ConfigError(f"--name {plan.name}: is the name of the present project; give another")
    values, comments = _values_of_data(plan, source)
    own = {**values, **_values_of_name(plan.name), **_values_of_model(plan.model, present)}
    texts = {PARAMS_FILE: set_values(PARAMS_FILE.read_text(encoding="utf-8"), own, comments)}
    for recipe in sorted(RECIPES.glob("*.yaml")):
        if load_config(recipe).download.source == DATA.as_posix():
            named = values | _values_of_name(f"{plan.name}-{recipe.stem}")
            texts[recipe] = set_values(recipe.read_text(encoding="utf-8"), named, comments)
    for path, text in texts.items():
        copy = scratch / path.name
        copy.write_text(text, encoding="utf-8")
        try:
            load_config(copy)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(copy), str(path))) from error
    return texts


def _values_of_data(plan: Plan, source: Source) -> tuple[dict[str, Any], dict[str, str]]:
    """Gives the keys that say what the data are, and the comments that spoke of the starter's."""
    splits = {sample.official_split for sample in source.samples}
    keys: dict[str, str | None] = {"group_pattern": None, "group_column": None}
    if plan.grouping is not None:
        keys[plan.grouping.key] = plan.grouping.value
    values: dict[str, Any] = {
        "download.source": DATA.as_posix(),
        "download.format": plan.format,
        "download.options": dict(plan.options),
        "download.sha256": None,
        "download.join": {},
        "train.model.in_channels": 1 if _are_grey(source) else 3,
        "preprocess.classes": None,
        "preprocess.ignore": [],
        **{f"preprocess.{key}": value for key, value in keys.items()},
        "preprocess.split.val": "source" if "val" in splits else SHARE_KEPT_OUT,
        "preprocess.split.test": "source" if "test" in splits else SHARE_KEPT_OUT,
    }
    comments = {"preprocess.group_pattern": "^([^_]+)_ if the ids are SEQUENCE_FRAME; null: the source's own groups"}
    return values, comments


def _are_grey(source: Source) -> bool:
    """Whether images have one channel, by the headers of a few evenly spread ones."""
    chosen = source.samples[:: max(1, len(source.samples) // NUM_LOOKED_AT)]
    return all(_mode_of(sample.image) in GREY_MODES for sample in chosen)


def _mode_of(path: Path) -> str:
    try:
        with Image.open(path) as picture:
            return picture.mode
    except OSError:  # an array, or no picture, which `segpipe data check` says
        return ""


def _values_of_name(name: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"register.min_class_iou": {}, "register.accepted_problems": []}
    return {"train.experiment": name, "register.model_name": name, **empty}


def _values_of_model(name: str | None, present: Config) -> dict[str, Any]:
    """Gives the keys of another model; they name parts of the present one."""
    if name is None or name == present.train.model.name:
        return {}
    parts: dict[str, Any] = {"train.freeze": [], "train.freeze_batch_norm": [], "train.recompute": []}
    model: dict[str, Any] = {"name": MODELS.check(name), "options": {}, "weights": "none", "sha256": None}
    return {f"train.model.{key}": value for key, value in model.items()} | parts | {"train.learning_rate_factors": {}}


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
    git(Path(), "add", "--", *(path.as_posix() for path in paths))
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
