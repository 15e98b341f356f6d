"""Projects for the integration tests."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from integration.project import Project, make_sources


@pytest.fixture
def sources(tmp_path: Path) -> Project:
    """Sources, data and parameters; nothing has run."""
    return make_sources(tmp_path / "project")


@pytest.fixture
def mount_small_disk() -> Iterator[Callable[[Path, int], None]]:
    """Puts a file system of its own under a folder: `mount(folder, free_kb)` keeps what is in it and fills the rest.

    Skips where the system does not let us mount.
    """
    mounted = []

    def mount(folder: Path, free_kb: int) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can mount a small disk")
        content = folder.with_name(f"{folder.name}-content")
        folder.rename(content)
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], capture_output=True)
        if done.returncode != 0:
            pytest.skip("this system mounts no small disk")
        mounted.append(folder)
        shutil.copytree(content, folder, dirs_exist_ok=True)
        ballast_bytes = shutil.disk_usage(folder).free - free_kb * 1024
        (folder / "ballast").write_bytes(bytes(ballast_bytes))

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
