"""`segpipe data formats` and `segpipe data sources`: the formats that can be read, and the sets that others publish."""

import argparse
import inspect
import json
from typing import Any

from segpipe.choices import READERS
from segpipe.cli.arguments import guide
from segpipe.cli.table import table


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `formats` and `sources` to the commands of `segpipe data`."""
    formats = commands.add_parser("formats", help="list the formats that can be read, or describe one with its options")
    formats.add_argument("name", nargs="?", metavar="NAME", help="a format; prints its layout and options")
    formats.add_argument("--json", action="store_true", help="print JSON")
    guide(formats, "data formats coco", "docs/data.md, Formats")
    formats.set_defaults(run=_run)
    sources = commands.add_parser("sources", help="list the public data sets")
    guide(sources, "data sources", "docs/data.md, Sources")
    sources.set_defaults(run=_list_public_sets)


def options_of(name: str) -> dict[str, Any]:
    """Gives the options of a format with their defaults: the keyword arguments of its function that have one.

    Raises:
        ConfigError: there is no such format.
    """
    return dict(READERS.function_of(name).__kwdefaults__ or {})


def _run(options: argparse.Namespace) -> None:
    names = READERS.names() if options.name is None else [READERS.check(options.name)]
    if options.json:
        described = [{"name": name, "about": _about(name), "options": options_of(name)} for name in names]
        print(json.dumps(described if options.name is None else described[0]))
    elif options.name is None:
        print("\n".join(table([["name", "about"], *([name, _about(name)] for name in names)])))
        print("\n`segpipe data formats NAME` shows the folders and options of one, for download.format and")
        print("download.options of params.yaml. docs/data.md, Other formats, has the commands that convert others.")
    else:
        _show(options.name)


def _about(name: str) -> str:
    return (READERS.module_of(name).__doc__ or "").partition("\n")[0]


def _show(name: str) -> None:
    defaults = options_of(name)
    print(inspect.cleandoc(READERS.module_of(name).__doc__ or ""), end="\n\n")
    shown = ", ".join(f"{key}: {json.dumps(value)}" for key, value in defaults.items())
    print(f"{'options':12}{shown or 'none'}", end="\n\n")
    print(inspect.cleandoc(READERS.function_of(name).__doc__ or ""))


def _list_public_sets(options: argparse.Namespace) -> None:
    from segpipe.data.sources.public_sets import find_public_set, public_set_names

    print("Public sets (write source: public:NAME into a .yaml file, and the file's path into download.source):\n")
    rows = [("name", "format", "size", "licence")]
    for name in public_set_names():
        public = find_public_set(name)
        assert public is not None
        sizes = [archive.size_bytes for archive in public.archives]
        size = f"{sum(s or 0 for s in sizes) / 1e9:.1f} GB" if all(sizes) else ""
        rows.append((name, public.format, size, public.licence))
    print("\n".join(f"  {line}" for line in table(rows)))
    print("\nNotes:\n")
    for name in public_set_names():
        public = find_public_set(name)
        if public is not None and public.note:
            print(f"  {name}: {public.note}")
