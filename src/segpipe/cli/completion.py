"""`segpipe completion`: prints what makes a shell complete segpipe's commands, options, files and names."""

import argparse
from collections.abc import Callable, Iterator

from segpipe.choices import MODELS, READERS
from segpipe.cli.arguments import guide
from segpipe.places import RECIPES

SHELLS = ("bash", "zsh", "tcsh")
NAMES: dict[str, Callable[[], list[str]]] = {
    "MODEL": MODELS.names,
    "FORMAT": READERS.names,
    "RECIPE": lambda: sorted(path.stem for path in RECIPES.glob("*.yaml")),
}
FILES = {"FILE", "IMAGES", "SOURCE", "PICTURE"}
FOLDERS = {"FOLDER"}


def add_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", make_parser: Callable[[], argparse.ArgumentParser]
) -> None:
    """Adds `completion` to the command.

    Args:
        commands: get one more.
        make_parser: makes the parser of the whole command line.
    """
    completion = commands.add_parser(
        "completion",
        help="print the completion for a shell",
        description="Print what makes a shell complete commands, options, files, models, formats and the recipes of "
        'this folder. bash reads it from the folder of the example, or by `eval "$(segpipe completion bash)"` in '
        "~/.bashrc; zsh from a file _segpipe in a folder of $fpath; tcsh by `source`.",
    )
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    guide(
        completion,
        "completion bash > ~/.local/share/bash-completion/completions/segpipe",
        "docs/command-line.md",
    )
    completion.set_defaults(run=lambda options: _print(make_parser(), options.shell))


def _print(parser: argparse.ArgumentParser, shell: str) -> None:
    import shtab

    for action in list_actions(parser):
        if action.metavar in NAMES:
            action.choices = NAMES[str(action.metavar)]()
        elif action.metavar in FILES | FOLDERS:
            action.complete = shtab.FILE if action.metavar in FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell))


def list_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Gives the arguments and options of a command and of all commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from list_actions(below)
