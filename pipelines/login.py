"""The login of this clone's own Prefect server: whoever has it may run any command as the user of the workers."""

import os
import secrets
from pathlib import Path

from segpipe.files import open_private, whole_file

USER = "segpipe"
NUM_BYTES = 24


def find_login(path: Path) -> str:
    """Gives the login as Prefect takes it, `user:password`; makes it once, in a file that only its owner reads.

    A login that the environment names wins: a team's own, for its own servers.

    Args:
        path: the file; not made where the environment names a login.
    """
    for name in ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"):
        if given := os.environ.get(name):
            return given
    if not path.exists():
        with whole_file(path) as temporary, open_private(temporary) as file:
            file.write(f"{USER}:{secrets.token_urlsafe(NUM_BYTES)}\n")
    return path.read_text(encoding="utf-8").strip()
