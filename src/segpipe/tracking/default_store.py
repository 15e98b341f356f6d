"""The place of MLflow's store if no server is named: one for a clone, its worktrees and DVC's experiments.

DVC runs a queued or a temporary experiment in a folder that it deletes afterwards, and worktrees are deleted too. The
runs stay, because the store is at the top of the clone's main worktree.
"""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from segpipe.places import GRAPH_FILE, MLFLOW_ARTIFACTS, MLFLOW_STORE

# Variables that DVC sets only for the stages of an experiment: its name, and the clone that it was started in.
EXPERIMENT_NAME, EXPERIMENT_HOME = "DVC_EXP_NAME", "DVC_ROOT"


def current_experiment() -> str | None:
    """Gives the name of the DVC experiment that this process is a stage of; None outside an experiment."""
    return os.environ.get(EXPERIMENT_NAME) or None


def default_store() -> str:
    """Gives the address of the store that is used where `MLFLOW_TRACKING_URI` names none."""
    home = os.environ.get(EXPERIMENT_HOME) if current_experiment() else None
    return f"sqlite:///{find_home(Path(home) if home else Path.cwd()) / MLFLOW_STORE}"


def find_home(folder: Path) -> Path:
    """Gives the project's root in the main worktree of its clone; outside git the project's root.

    Args:
        folder: the project's root, or a folder below it.
    """
    folder = folder.resolve()
    project = next((place for place in (folder, *folder.parents) if (place / GRAPH_FILE).is_file()), folder)
    top = next((place for place in (project, *project.parents) if (place / ".git").exists()), None)
    if top is None or (top / ".git").is_dir():
        return project
    main = _find_main_worktree(top / ".git")
    home = main / project.relative_to(top) if main else project
    return home if home.is_dir() else project


def _find_main_worktree(pointer: Path) -> Path | None:
    """Follows the `.git` file of a linked worktree; None for a submodule, or where the repository is a bare one."""
    try:
        private = pointer.parent / pointer.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        common = (private / (private / "commondir").read_text(encoding="utf-8").strip()).resolve()
    except (OSError, ValueError):
        return None
    return common.parent if common.name == ".git" else None


def artifact_location(address: str, experiment: str) -> str | None:
    """Gives the folder for the files of an MLflow experiment: next to the store's file, for all processes.

    By default MLflow takes a folder in the working directory of the process that creates the experiment.

    Args:
        address: of the store.
        experiment: its name.

    Returns:
        None where the store is no SQLite file: a server has its own place.
    """
    scheme, _, file = address.partition(":///")
    if scheme != "sqlite" or not file:
        return None
    path = Path(urlsplit(file).path if file.startswith("file:") else file.partition("?")[0])
    return str(path.resolve().parent / MLFLOW_ARTIFACTS / re.sub(r"[^\w-]", "_", experiment))
