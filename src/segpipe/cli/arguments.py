"""Parsing command lines; types of arguments: each turns a text into a value, or says what it must be."""

import argparse
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

from segpipe.config.split_edit import Grouping
from segpipe.prediction.shards import Shard


class Parser(argparse.ArgumentParser):
    """A parser that ends with 1 on wrong arguments, as on every error that the user can fix; 2 means another thing."""

    def error(self, message: str) -> NoReturn:
        """Prints usage and message, and ends the process."""
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


class HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs, and leaves a text of several lines as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def guide(command: argparse.ArgumentParser, example: str, page: str) -> None:
    """Ends the help of a command with an example and the place of its documentation.

    Args:
        command: its parser.
        example: a command line that the parser takes, without the leading name of the program.
        page: a file of `docs/`, or `README.md`.
    """
    program = shlex.split(command.prog)[0]
    command.epilog = f"example:\n  {program} {example}\n\nmore: {page}"
    command.formatter_class = HelpFormatter


def add_subcommands(command: argparse.ArgumentParser) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    """Lets a command have commands below it; without one of them it prints its help, and that is no error."""
    command.set_defaults(run=lambda options: command.print_help())
    return command.add_subparsers(metavar="COMMAND")


def natural(text: str) -> int:
    """Reads a number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number from 0 up (got {text!r})")
    return int(text)


def positive(text: str) -> int:
    """Reads a number from 1 up."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a number from 1 up (got {text!r})")
    return int(text)


def shard(text: str) -> Shard:
    """Reads I/N: which of how many."""
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def png_file(text: str) -> Path:
    """Reads the path of a picture to write."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"must end in .png (got {text!r})")
    return Path(text)


def option(text: str) -> tuple[str, Any]:
    """Reads KEY=VALUE, the value as JSON where it is, else as text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE (got {text!r})")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def grouping(text: str) -> Grouping:
    """Reads what names the groups."""
    kind, _, value = text.partition(":")
    if kind not in ("pattern", "column") or not value:
        raise argparse.ArgumentTypeError(f"must be pattern:REGEX or column:NAME (got {text!r})")
    if kind == "pattern":
        try:
            num_groups = re.compile(value).groups
        except re.error as error:
            raise argparse.ArgumentTypeError(f"must hold a regular expression: {error} (got {value!r})") from error
        if num_groups != 1:
            raise argparse.ArgumentTypeError(
                f"must have exactly one (group), around the sequence's name (got {value!r})"
            )
    return Grouping(f"group_{kind}", value)
