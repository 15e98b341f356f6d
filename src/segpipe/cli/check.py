"""`segpipe check`: checks a parameter file, and builds what it names; what was built once is remembered."""

import argparse
import hashlib
import importlib.metadata
import json
from pathlib import Path

from segpipe.cli.arguments import guide
from segpipe.code import PACKAGE
from segpipe.config.params import Config, load_config
from segpipe.config.reading import PARAMS_FILE
from segpipe.config.train import Train
from segpipe.errors import ConfigError, ExportError
from segpipe.export.packages import check_packages
from segpipe.files import whole_file
from segpipe.places import REHEARSED

NUM_REMEMBERED = 20  # of .cache/rehearsed.json
LIBRARIES = ("torch", "torchvision", "timm", "segmentation-models-pytorch")  # what networks are built with


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `check` to the command."""
    about = "check a parameter file; try to build all that it names"
    check = commands.add_parser(
        "check",
        help=about,
        description=f"{about.capitalize()}. Building takes torch and some seconds; what was built before, by the "
        "same code, is not built again.",
    )
    check.add_argument("file", nargs="?", metavar="FILE", type=Path, default=PARAMS_FILE, help="default: params.yaml")
    guide(check, "check recipes/smoke.yaml", "README.md, Models, losses, recipes")
    check.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    config = load_config(options.file)
    settings = config.train
    _check_exports(options.file, config)
    training = digest_of_training(settings)
    # A file of weights may have changed since.
    if settings.model.is_from_file or not _is_rehearsed(training):
        from segpipe.training.beginning.rehearsal import rehearse  # loads torch

        try:
            rehearse(settings)
        except ConfigError as error:
            raise ConfigError("\n".join(f"{options.file}: {line}" for line in str(error).splitlines())) from error
        _remember(training)
    print(f"{options.file} is valid")


def _check_exports(file: Path, config: Config) -> None:
    """Checks what would stop the exports of `register.export` after a training.

    Raises:
        ConfigError: a package is missing, or the model has no such form; all of them in one message.
    """
    formats, inference = config.register_.export, config.evaluate.inference
    lines = []
    try:
        check_packages(formats)
    except ExportError as error:
        lines += str(error).splitlines()
    if formats and inference.loops:
        how = " and ".join(inference.loops)
        lines.append(f"an export cannot predict {how}, as evaluate.inference does; write `export: []`")
    if {"onnx", "openvino"} & set(formats):
        from segpipe.models import read_card  # loads torch

        if reason := read_card(config.train.model.name).no_onnx:
            lines.append(f"{config.train.model.name} cannot be exported to ONNX: {reason}; take `torch` alone")
    if lines:
        raise ConfigError("\n".join(f"{file}: register.export: {line}" for line in lines))


def digest_of_training(settings: Train) -> str:
    """Identifies a training's parameters, this package's code and the libraries that build networks; 64 hex digits."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    for library in LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    for file in sorted(PACKAGE.rglob("*.py")):
        digest.update(file.relative_to(PACKAGE).as_posix().encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _is_rehearsed(training: str) -> bool:
    try:
        return training in json.loads(REHEARSED.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _remember(training: str) -> None:
    """Notes that a training can be built. Where nothing can be written, it is built again the next time."""
    try:
        known = json.loads(REHEARSED.read_text(encoding="utf-8"))
        kept = [one for one in known if isinstance(one, str) and one != training]
    except (OSError, ValueError, TypeError):
        kept = []
    try:
        with whole_file(REHEARSED) as temporary:
            temporary.write_text(json.dumps([*kept[1 - NUM_REMEMBERED :], training]), encoding="utf-8")
    except OSError:
        pass
