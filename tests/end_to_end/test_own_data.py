"""Two stories of docs/first-hour.md as their user runs them: from a clone of the starter to a champion of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from facts import missing
from integration.project import Project
from own_data import NUM_IMAGES, draw_set


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "names"),
    [("berries", "ground,berry", ["ground", "berry"]), ("fields", "label_map.txt", ["soil", "weed", "crop"])],
)
def test_own_masks_become_a_champion(clone: Project, tmp_path: Path, name: str, classes: str, names: list[str]) -> None:
    folder = draw_set(name, tmp_path)
    given = str(folder / classes) if (folder / classes).is_file() else classes
    told = clone.call("segpipe", "init", "--name", name, "--data", str(folder), "--classes", given)
    assert not missing(told, f"{NUM_IMAGES} samples", ", ".join(names))
    clone.call("git", "commit", "--quiet", "--message", "own")
    clone.call("segpipe", "data", "check")
    clone.call("segpipe", "data", "split", "--write")
    clone.call("git", "commit", "--quiet", "--all", "--message", "split")
    clone.call("segpipe", "recipe", "use", "smoke")
    clone.call("dvc", "repro", "--quiet")
    told = clone.call("segpipe", "publish")
    assert not missing(told, *names, f"{name}-smoke", "version 1")
    assert clone.json("build/registration.json")["decision"] == "promoted"
