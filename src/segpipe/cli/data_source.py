"""Labelled images that a command reads where they are: those that are named, or those of params.yaml."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.choices import READERS
from segpipe.cli.arguments import option
from segpipe.config.download import Download, Images, SourceChoice, locate
from segpipe.config.params import Config, load_config
from segpipe.config.preprocess import Policy, Preprocess, Split
from segpipe.config.reading import PARAMS_FILE
from segpipe.documents import ImageMapping
from segpipe.errors import SourceError
from segpipe.places import DOWNLOADS

if TYPE_CHECKING:
    from segpipe.data.sources.source import Source

DEFAULT_FORMAT = "folder"


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds SOURCE, its format and options, and the parameter file."""
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="folder or archive (default: those in params.yaml)")
    parser.add_argument(
        "--format", metavar="FORMAT", help=f"format of SOURCE, see `segpipe data formats` (default {DEFAULT_FORMAT})"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=option,
        metavar="KEY=VALUE",
        help="an option of the format; repeatable",
    )
    parser.add_argument(
        "--params", type=Path, default=PARAMS_FILE, metavar="FILE", help=f"a parameter file (default {PARAMS_FILE})"
    )


def choose_source(options: argparse.Namespace) -> tuple[SourceChoice, Preprocess, ImageMapping]:
    """Decides what is read, and by which settings.

    Args:
        options: of a command with `add_source_arguments`.

    Returns:
        SOURCE, or what params.yaml names; how it is checked and split; how its image files are read.

    Raises:
        SourceError: there is no such source, or the options contradict each other.
        ConfigError: params.yaml or an option is wrong.
    """
    has_params = options.source is None or options.params.exists()
    config: Config | None = load_config(options.params) if has_params else None
    if options.source is None:
        if options.format is not None or options.option:
            raise SourceError("--format and --option need SOURCE; without SOURCE, params.yaml gives format and options")
        assert config is not None
        choice: SourceChoice = config.download
        settings = config.preprocess
    else:
        if not Path(options.source).exists():
            raise SourceError(
                f"{options.source}: no such folder or archive; an address goes into download.source of params.yaml"
            )
        name = READERS.check(options.format or DEFAULT_FORMAT)
        choice = SourceChoice(source=options.source, format=name, options=dict(options.option))
        policy = Policy() if config is None else config.preprocess.policy
        settings = Preprocess(split=Split(val="source"), policy=policy)
    images = Images() if config is None else config.download.images
    return choice, settings, images.mapping


def read_sources(choice: SourceChoice, scratch: Path) -> "dict[str, tuple[Path, Source]]":
    """Reads the sources, the main one first and without a name: a folder where it is, all else unpacked.

    Args:
        choice: of `choose_source`.
        scratch: a folder for what is unpacked.

    Returns:
        Folder and content of each source, by its name.

    Raises:
        SourceError: a source cannot be read.
    """
    from segpipe.data.fetching.fetch import fetch

    sources = {}
    joined = choice.join if isinstance(choice, Download) else {}
    for number, (name, one) in enumerate({"": locate(choice), **joined}.items()):
        root = Path(one.source)
        if not root.is_dir():
            root = scratch / f"source{number}"
            fetch(one.source, one.sha256, root, cache=DOWNLOADS, allow_http=one.allow_http)
        try:
            sources[name] = (root, READERS.call(one.format, one.options, root=root))
        except SourceError as error:
            raise SourceError(str(error).replace(str(root), one.source)) from error
    return sources
