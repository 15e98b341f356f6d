"""Files by their names."""

from __future__ import annotations

from pathlib import Path

from segpipe.data.source import files_by_stem


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_images_are_found_by_their_path_without_suffix(tmp_path: Path) -> None:
    _touch(tmp_path, "images/b.PNG", "images/sub/a.v2.jpeg", "images/notes.txt", "images/Thumbs.db")
    files, problems = files_by_stem(tmp_path / "images", tmp_path)
    assert files == {"b": tmp_path / "images/b.PNG", "sub/a.v2": tmp_path / "images/sub/a.v2.jpeg"}
    assert problems == []


def test_one_name_for_two_files_is_a_problem(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.jpg", "images/a.png", "images/other/a.png")
    _, (problem,) = files_by_stem(tmp_path / "images", tmp_path)
    assert (problem.kind, problem.where) == ("name-twice", "images/a.png")


def test_a_missing_folder_is_a_problem(tmp_path: Path) -> None:
    files, (problem,) = files_by_stem(tmp_path / "masks", tmp_path)
    assert files == {}
    assert (problem.kind, problem.where) == ("folder-missing", "masks")
