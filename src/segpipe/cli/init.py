"""`segpipe init`: makes a project of one's own in the present clone."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.choices import MODELS, READERS, nearest
from segpipe.cli.arguments import grouping, guide, option
from segpipe.config.params import load_config
from segpipe.errors import ConfigError

if TYPE_CHECKING:
    from segpipe.new_project.make import Prepared
    from segpipe.new_project.parameters import Plan


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `init` to the command."""
    init = commands.add_parser(
        "init",
        help="make a project of your own in this clone",
        description="Puts your labelled images in place of the starter's data, renames the registered model and the "
        "experiment, and writes params.yaml. It asks for what is missing, if the input is a terminal. What is not "
        "committed is never overwritten, and the folder of the images stays as it is.",
    )
    init.add_argument("--name", metavar="NAME", help="of the project: its registered model and its experiment")
    init.add_argument("--data", type=Path, metavar="FOLDER", help="with the images and labels; copied to data/")
    init.add_argument(
        "--format", metavar="NAME", help="of the folder (`segpipe data formats`; default: what it looks like)"
    )
    init.add_argument("--option", action="append", default=[], type=option, metavar="KEY=VALUE", help="of the format")
    init.add_argument("--model", metavar="NAME", help="see `segpipe models` (default: that of params.yaml)")
    init.add_argument(
        "--classes",
        metavar="NAMES",
        help="of the classes, with commas, in the order of the masks' values or colours; or a file of lines "
        "`R G B NAME`; where the labels do not name them (default: class_0, class_1, ...)",
    )
    init.add_argument(
        "--by", type=grouping, metavar="GROUPING", help="what is never divided: pattern:REGEX or column:NAME"
    )
    guide(init, "init --name berries --data ~/photos --classes ground,berry", "docs/first-hour.md")
    init.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from segpipe.new_project.make import check_clone, make_project

    if not _is_terminal() and (lacking := [flag for flag in ("name", "data") if getattr(options, flag) is None]):
        flags = {"name": "--name NAME", "data": "--data FOLDER"}
        given = " ".join(flags[flag] for flag in lacking)
        raise ConfigError(f"segpipe init: give {given}; it asks for them only in a terminal")
    check_clone(Path("data") if options.data is None else options.data)
    plan = _complete(options)
    _tell(make_project(plan), plan)


def _complete(options: argparse.Namespace) -> "Plan":
    """Makes the plan; asks for what is missing if there is a person to ask."""
    from segpipe.new_project.labels import find_formats
    from segpipe.new_project.parameters import Plan

    name = options.name or _ask("Name of the project (for example berries)")
    folder = options.data or Path(_ask("Folder of the labelled images", "data")).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"--data {folder}: no such folder; unpack an archive first")
    found = [options.format] if options.format else find_formats(folder)
    format_name = found[0] if len(found) == 1 else ""
    if not format_name:
        known = ", ".join(found or READERS.names())
        if not _is_terminal():
            what = "may be of several formats" if found else "looks like no format"
            raise ConfigError(f"--data {folder}: {what}; give --format, one of {known} (`segpipe data formats`)")
        format_name = _ask(f"Format ({known})")
    model = options.model
    if model is None and _is_terminal():
        present = load_config().train.model.name
        model = _ask("Model (`segpipe models` lists them)", present)
    names = [] if options.classes is None else [name.strip() for name in options.classes.split(",")]
    plan = Plan(name, folder, READERS.check(format_name), dict(options.option), model, names, options.by)
    if model is not None and model not in MODELS.names():
        raise ConfigError(f"--model {model}: unknown; {nearest(model, MODELS.names())}")
    return plan if names or not _is_terminal() else _ask_for_classes(plan)


def _is_terminal() -> bool:
    """Whether a person can answer."""
    return sys.stdin.isatty()


def _ask_for_classes(plan: "Plan") -> "Plan":
    from dataclasses import replace

    from segpipe.new_project.labels import name_classes, survey_folder

    survey = survey_folder(plan.folder, plan.format, plan.options)
    if survey is None:
        return plan
    table = name_classes(survey, (), str(plan.folder))
    held = table.values if survey.is_of_values else table.colors
    names = [
        _ask(f"Name of the class with {value} in the masks", entry.name)
        for value, entry in zip(held, table.entries, strict=True)
    ]
    return replace(plan, classes=names)


def _ask(question: str, default: str = "") -> str:
    """Asks until there is an answer.

    Raises:
        ConfigError: the input ends.
    """
    while True:
        try:
            answer = input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default
        except EOFError as error:
            raise ConfigError("segpipe init: no answer; give --name, --data, --format and --model") from error
        if answer:
            return answer


def _tell(prepared: "Prepared", plan: "Plan") -> None:
    source = prepared.source
    num_groups = len({sample.group for sample in source.samples if sample.group is not None})
    groups = f", {num_groups} groups" if num_groups else ""
    print(f"\n{plan.name}: {len(source.samples)} samples of format {plan.format}{groups} in data/")
    print(f"classes: {', '.join(source.classes.names)}")
    if source.problems:
        print(f"Problems that were found: {len(source.problems)}; `segpipe data check` lists them.")
    if prepared.advice:
        print(f"\n{prepared.advice}")
    place = "Git" if prepared.is_in_git else "DVC's cache (docs/operations.md: add a remote, so that others get them)"
    print(f"The images are kept in {place}. The starter's data and results are gone from the clone; Git has them.")
    print(f"\nNext:\n  git commit -m 'Project {plan.name}'")
    print("  segpipe data check            # all that is wrong with images and masks")
    if not any(sample.official_split == "val" for sample in source.samples):
        print("  segpipe data split --write    # validation and test by whole groups, rare classes in each")
    print("  make repro                    # trains, and registers the first champion")
