"""The login of this clone's own Prefect server: everyone who has it can run any command as the workers' user."""

import os
import secrets
from pathlib import Path

from segpipe.files import open_private, whole_file

USER = "segpipe"
NUM_BYTES = 24


def find_login(path: Path) -> str:
    """Gives the login in Prefect's form, `user:password`; creates it once, in a file that only its owner can read.

    A login in the environment is used instead, for example for a team's servers.

    Args:
        path: the file; not created if the environment has a login.
    """
    for name in ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"):
        if given := os.environ.get(name):
            return given
    if not path.exists() or not path.read_text(encoding="utf-8").strip():  # an empty one would switch the login off
        with whole_file(path) as temporary, open_private(temporary) as file:
            file.write(f"{USER}:{secrets.token_urlsafe(NUM_BYTES)}\n")
    return path.read_text(encoding="utf-8").strip()
