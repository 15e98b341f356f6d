"""The option of commands that take a model of the registry."""

import argparse

from segpipe.registry.addresses import TRACKING


def add_registry_option(command: argparse.ArgumentParser) -> None:
    """Adds `--registry`, for commands that take a model."""
    command.add_argument(
        "--registry", metavar="ADDRESS", help=f"address of MLflow; default: {TRACKING}, or the project's own store"
    )
