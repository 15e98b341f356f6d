"""The command `segpipe`. A subcommand imports its modules only when it runs, so that each starts quickly."""

import argparse
import contextlib
import json
import os
import select
import sys
from typing import TextIO, cast

from segpipe.addresses import redact
from segpipe.cli.arguments import Parser, add_subcommands, guide
from segpipe.cli.check import add_commands as add_check_command
from segpipe.cli.clean import add_commands as add_clean_command
from segpipe.cli.completion import add_commands as add_completion_command
from segpipe.cli.data import add_commands as add_data_commands
from segpipe.cli.export import add_commands as add_export_command
from segpipe.cli.init import add_commands as add_init_command
from segpipe.cli.models import add_commands as add_models_command
from segpipe.cli.predict import add_commands as add_predict_command
from segpipe.cli.recipe import add_commands as add_recipe_commands
from segpipe.cli.registry import add_commands as add_registry_commands
from segpipe.cli.serve import add_commands as add_serve_command
from segpipe.config.params import load_config
from segpipe.config.reading import load_section
from segpipe.config.train import Train
from segpipe.documents import Registration
from segpipe.errors import ConfigError, StoreError
from segpipe.places import CHECKPOINTS, DATASET, EVALUATION, MACHINE, MODEL, REGISTRATION
from segpipe.stages.stage import prepare_process, report_errors, writing_alone
from segpipe.terminal import PrintableStream


def main(arguments: list[str] | None = None) -> int:
    """Runs a command line; prints the help where it names no command.

    Returns:
        The exit code: 0; 1 after an error that the user can fix; 2 where `predict` skipped images.
    """
    options = _parser().parse_args(arguments)
    prepare_process()

    def run() -> None:
        # All commands print text from registries and folders, which may hold control characters.
        with contextlib.redirect_stdout(cast(TextIO, PrintableStream(sys.stdout))):
            options.run(options)
            sys.stdout.flush()

    try:
        return report_errors(run)
    except BrokenPipeError:
        if not _is_output_closed():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _is_output_closed() -> bool:
    """Whether the reader of our output has closed it, as `head` does."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="segpipe", description="From labelled images to a registered champion."
    )
    guide(parser, "check", "README.md")
    # Without a name in the options: commands have an argument `version` of their own.
    suppressed = argparse.SUPPRESS
    parser.add_argument(
        "--version", action=_Version, nargs=0, dest=suppressed, default=suppressed, help="print the version of segpipe"
    )
    commands = add_subcommands(parser)

    add_check_command(commands)

    schema = commands.add_parser("schema", help="print the JSON schema of params.yaml, for editors")
    guide(schema, "schema > params.schema.json", "README.md, Your own images")
    schema.set_defaults(run=_print_schema)

    add_init_command(commands)
    add_data_commands(commands)
    add_models_command(commands)
    add_recipe_commands(commands)

    add_predict_command(commands)
    add_serve_command(commands)
    add_export_command(commands)

    join = commands.add_parser(
        "join",
        help="take part in a training that another machine leads",
        description="For a training on several machines that share this folder (docs/several-gpus.md). Machine 0 runs "
        "`dvc repro`, each of the others this command, with SEGPIPE_MACHINES, SEGPIPE_MACHINE and SEGPIPE_MEETING set. "
        "It waits for machine 0, and ends with the training.",
    )
    guide(join, "join", "docs/several-gpus.md")
    join.set_defaults(run=_join)

    publish = commands.add_parser("publish", help="send the results in build/ to MLflow if it lacks them; print them")
    publish.add_argument("--json", action="store_true", help="print scores, decision and ids as one line of JSON")
    guide(publish, "publish --json", "docs/registry.md")
    publish.set_defaults(run=_publish)

    unlock = commands.add_parser(
        "unlock",
        help="make DVC work again after a kill or a full disk",
        description="Use it when DVC says 'JSON structure is corrupted'. It deletes DVC's record of running commands "
        "(.dvc/tmp/rwlock) if the record is damaged and no command is running here. "
        "It deletes no results, no cache and no checkpoints.",
    )
    unlock.add_argument("--quiet", action="store_true", help="print nothing if nothing is wrong")
    guide(unlock, "unlock", "docs/reliability.md")
    unlock.set_defaults(run=_unlock)

    add_registry_commands(commands)
    add_clean_command(commands)
    add_completion_command(commands, _parser)
    return parser


class _Version(argparse.Action):
    """Prints the version; it is read only then, because that takes a tenth of a second."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import segpipe

        print(f"segpipe {segpipe.__version__}")
        parser.exit(0)


def _print_schema(options: argparse.Namespace) -> None:
    from segpipe.config.schema import make_schema

    print(json.dumps(make_schema(), indent=1, ensure_ascii=False))


def _join(options: argparse.Namespace) -> None:
    from segpipe.training.processes.launching import Placement, launch

    settings = load_section(Train)
    placement = Placement.of(os.environ, settings.device)
    if not placement.machine:
        raise ConfigError(f"{MACHINE} must be 1 or more here; machine 0 leads the training by `dvc repro`")
    launch(placement)


def _unlock(options: argparse.Namespace) -> None:
    from segpipe.stages.dvc_locks import repair_locks

    done = repair_locks()
    if done or not options.quiet:
        print("\n".join(done) or "DVC's record of running commands (.dvc/tmp/rwlock) is not damaged")


def _publish(options: argparse.Namespace) -> None:
    from segpipe.registry.publish import COMPARED_ONLY, publish
    from segpipe.registry.results import Results
    from segpipe.reports.headline import write_headline

    settings = load_config().register_
    results = Results.read(DATASET, MODEL, EVALUATION)
    # MLflow prints addresses of runs; standard output is for our lines only.
    with writing_alone(REGISTRATION), contextlib.redirect_stdout(sys.stderr):
        publication = publish(results, CHECKPOINTS, settings)
    write_headline(results.metrics)  # if DVC has restored `evaluate` from its cache, the stage has not written it
    registration, metrics, labels = publication.registration, publication.metrics, publication.labels
    if options.json:
        print(json.dumps(publication.to_json()))
        return
    splits = list(metrics)
    width = 2 + max(map(len, [*results.class_names, *labels.values()]))
    print("\nIoU".ljust(width + 1) + "".join(split.rjust(8) for split in splits))
    for name in results.class_names:
        values = [metrics[split]["iou"][name] for split in splits]
        print(name.ljust(width) + "".join("       -" if v is None else f"{v:8.3f}" for v in values))
    for key, label in labels.items():
        values = [metrics[split][key] for split in splits]
        print(label.ljust(width) + "".join("       -" if v is None else f"{v:8.3f}" for v in values))
    print(f"\n{registration.model_name} version {registration.version}: {registration.decision}.", end=" ")
    print(" ".join(registration.reasons))
    champion = f"version {registration.champion}" if registration.champion else "no version yet"
    print(f"The champion is {champion}.")
    if _noted_decision() == COMPARED_ONLY:
        print(f"{REGISTRATION} says {COMPARED_ONLY!r}, because a DVC experiment wrote it. The registry decided now.")
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    address = redact(server) if server.startswith("http") else ".venv/bin/mlflow ui  (then open http://127.0.0.1:5000)"
    print(f"\nRuns and versions:  {address}")
    print(f"Report:             .venv/bin/python -m webbrowser {EVALUATION / 'report.html'}")


def _noted_decision() -> str | None:
    """Gives the decision in `registration.json`, which `register` wrote here or DVC took from its cache."""
    try:
        return Registration.read(REGISTRATION, "run `dvc repro register`").decision
    except StoreError:
        return None
