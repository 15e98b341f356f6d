"""`segpipe data`: draws, checks, splits and shows labelled images."""

import argparse
import sys
from pathlib import Path

from segpipe.cli.arguments import add_subcommands, guide, natural, positive
from segpipe.cli.data_check import add_command as add_check
from segpipe.cli.data_formats import add_commands as add_formats
from segpipe.cli.data_show import add_command as add_show
from segpipe.cli.data_split import add_command as add_split


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `data` and what belongs to it."""
    parser = commands.add_parser("data", help="labelled images")
    guide(parser, "data check photos", "docs/data.md")
    data = add_subcommands(parser)
    add_formats(data)
    add_check(data)
    add_split(data)
    add_show(data)

    render = data.add_parser("render", help="draw street scenes with their masks")
    render.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="folder for images/, masks/ and dataset.yaml"
    )
    render.add_argument("--sequences", type=positive, default=10, metavar="N", help="number of streets (default 10)")
    render.add_argument("--frames", type=positive, default=10, metavar="N", help="frames of each street (default 10)")
    render.add_argument(
        "--every", type=positive, default=6, metavar="N", help="approximate metres between two frames (default 6)"
    )
    render.add_argument("--height", type=positive, default=192, metavar="N", help="pixels (default 192)")
    render.add_argument("--width", type=positive, default=256, metavar="N", help="pixels (default 256)")
    render.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="another seed draws other streets (default 0)"
    )
    guide(render, "data render --output streets --sequences 3", "docs/results.md, The starter data")
    render.set_defaults(run=_render)


def _render(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from starter_data.rendered_set import write_rendered_set

    o = options
    files = write_rendered_set(o.output, o.seed, o.sequences, o.frames, o.every, o.height, o.width)
    count = sum(1 for _ in tqdm(files, total=o.sequences * o.frames, disable=not sys.stderr.isatty()))
    print(f"{count} images with masks in {o.output}")
