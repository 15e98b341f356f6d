"""The page about the command `segpipe`: the help of each subcommand, as the parser prints it."""

import argparse
from collections.abc import Iterator
from typing import cast

INTRODUCTION = """# Command line

The help of each command, as `segpipe COMMAND --help` prints it. An error that the user can fix ends with exit code 1.
"""
WIDTH = 88


def describe_commands(parser: argparse.ArgumentParser) -> str:
    """Gives the page as Markdown."""
    sections = (f"## {one.prog}\n\n```text\n{_help_of(one)}```\n" for one in _walk(parser))
    return "\n".join([INTRODUCTION, *sections])


def _walk(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Gives a parser, and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            # Two names of one command are one parser.
            yield from (deeper for one in dict.fromkeys(action.choices.values()) for deeper in _walk(one))


def _help_of(parser: argparse.ArgumentParser) -> str:
    """Gives a help whose lines are as long on each machine; argparse takes the width of the terminal."""
    kind = cast(type[argparse.HelpFormatter], parser.formatter_class)
    parser.formatter_class = lambda prog: kind(prog, width=WIDTH)
    return parser.format_help()
