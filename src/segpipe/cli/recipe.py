"""`segpipe recipe`: lists, prints and copies complete parameter files of well-known trainings."""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segpipe.choices import nearest
from segpipe.cli.arguments import add_subcommands, guide
from segpipe.cli.table import table
from segpipe.config.download import locate
from segpipe.config.params import load_config
from segpipe.config.reading import PARAMS_FILE
from segpipe.errors import CommandError, ConfigError
from segpipe.files import whole_file
from segpipe.places import RECIPES
from segpipe.project import git_bytes

MAX_CHANGES_SHOWN = 12
MAX_VALUE_CHARS = 50


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `recipe` and its subcommands."""
    parser = commands.add_parser("recipe", help="complete parameter files of well-known trainings")
    guide(parser, "recipe list", "docs/recipes.md")
    below = add_subcommands(parser)

    listing = below.add_parser("list", help="list the recipes")
    listing.add_argument("--json", action="store_true", help="print JSON")
    guide(listing, "recipe list --json", "docs/recipes.md")
    listing.set_defaults(run=_list)

    show = below.add_parser("show", help="print a recipe")
    show.add_argument("name", metavar="RECIPE", help="of a file in recipes/, without .yaml")
    guide(show, "recipe show smoke", "docs/recipes.md")
    show.set_defaults(run=_show)

    use = below.add_parser("use", help=f"copy a recipe to {PARAMS_FILE}")
    use.add_argument("name", metavar="RECIPE", help="of a file in recipes/, without .yaml")
    use.add_argument("--force", action="store_true", help=f"copy even if changes of {PARAMS_FILE} are lost")
    guide(use, "recipe use fcn_resnet101_voc", "docs/recipes.md")
    use.set_defaults(run=_use)


def find_recipes() -> dict[str, Path]:
    """Gives the recipes of the working directory by name, sorted.

    Raises:
        ConfigError: there is none.
    """
    recipes = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    if not recipes:
        raise ConfigError(f"{RECIPES}: holds no recipe; run the command in the repository's root folder")
    return recipes


def find_recipe(name: str) -> Path:
    """Gives the file of a recipe.

    Raises:
        ConfigError: there is none of this name; the message gives the three nearest.
    """
    recipes = find_recipes()
    if name not in recipes:
        raise ConfigError(f"unknown recipe {name!r}; {nearest(name, list(recipes))}")
    return recipes[name]


def read_comment(recipe: Path) -> str:
    """Gives the comment that a recipe begins with, as one line: what it is, source, expectation, deviations, use."""
    text = recipe.read_text(encoding="utf-8")
    head = re.match(r"(?:#.*\n?)*", text)
    assert head is not None, "it matches the empty string too"
    return " ".join(line.lstrip("#").strip() for line in head.group().splitlines())


def describe_recipe(name: str) -> dict[str, str]:
    """Gives what `recipe list` says of a recipe: name, model, data and the first sentence of its comment.

    Raises:
        ConfigError: there is no such recipe, or it is no valid parameter file.
    """
    recipe = find_recipe(name)
    config = load_config(recipe)
    about = re.split(r"(?<=\.)\s", read_comment(recipe), maxsplit=1)[0]
    return {"name": name, "model": config.train.model.name, "data": locate(config.download).source, "about": about}


def _list(options: argparse.Namespace) -> None:
    described, problems = [], []
    for name in find_recipes():
        try:
            described.append(describe_recipe(name))
        except ConfigError as error:
            problems.append(str(error))
    if options.json:
        print(json.dumps(described))
    elif described:
        print("\n".join(table([["name", "model", "data", "about"], *(list(recipe.values()) for recipe in described)])))
    if problems:
        raise ConfigError("\n".join(problems))


def _show(options: argparse.Namespace) -> None:
    print(find_recipe(options.name).read_text(encoding="utf-8"), end="")


def _use(options: argparse.Namespace) -> None:
    recipe = find_recipe(options.name)
    load_config(recipe)
    before, after = _read(PARAMS_FILE), recipe.read_bytes()
    if before == after:
        print(f"{PARAMS_FILE} already has the content of {recipe}")
        return
    if before is not None and not options.force and not _is_kept(before):
        raise ConfigError(
            f"{PARAMS_FILE}: its content is in no commit and in no recipe, and would be lost; commit it, copy it to "
            f"{RECIPES}/, or use --force"
        )
    with whole_file(PARAMS_FILE) as temporary:
        temporary.write_bytes(after)
    print(f"{PARAMS_FILE} now has the content of {recipe}.")
    changes = list_changes(_parse(before or b""), _parse(after))
    print("\n".join(f"  {change}" for change in changes[:MAX_CHANGES_SHOWN]))
    if len(changes) > MAX_CHANGES_SHOWN:
        print(f"  and {len(changes) - MAX_CHANGES_SHOWN} more")
    print("Next: `segpipe check`, then `make repro`.")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _is_kept(content: bytes) -> bool:
    """Whether the last commit has this content as its parameters, or a recipe is the same."""
    try:
        is_committed = git_bytes(Path(), "show", f"HEAD:./{PARAMS_FILE}") == content
    except CommandError:  # no git, no commit, no such file
        is_committed = False
    return is_committed or any(path.read_bytes() == content for path in find_recipes().values())


def _parse(content: bytes) -> dict[str, Any]:
    """Reads parameters; gives an empty dictionary for content that is not YAML."""
    try:
        document = YAML(typ="safe", pure=True).load(content)
    except (YAMLError, UnicodeDecodeError):
        return {}
    return document if isinstance(document, dict) else {}


def list_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Says which values of two nested parameter sets differ, one line a dotted key: first those that `after` has."""
    old, new = _flatten(before), _flatten(after)
    changed = [
        f"{key}: {f'{_shorten(old[key])} -> ' if key in old else ''}{_shorten(value)}"
        for key, value in new.items()
        if key not in old or old[key] != value
    ]
    return changed + [f"{key}: removed" for key in old if key not in new]


def _flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        flat |= _flatten(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return flat


def _shorten(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[: MAX_VALUE_CHARS - 3]}..."
