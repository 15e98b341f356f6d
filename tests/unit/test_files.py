"""Files and folders are complete or missing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from segpipe.files import sha256_of_file, whole_file, whole_folder, write_json


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_sha256_of_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_whole_file_replaces_in_one_step_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    for text in ("first", "second"):
        with whole_file(path) as temporary:
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert _names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
@pytest.mark.parametrize(
    ("raised", "named"),
    [(errno.ENOSPC, "result"), (errno.EFBIG, "result"), (errno.ECONNRESET, None)],
)
def test_a_full_disk_names_the_file(
    tmp_path: Path, whole: Callable[[Path], AbstractContextManager[Path]], raised: int, named: str | None
) -> None:
    with pytest.raises(OSError, match=os.strerror(raised)) as caught, whole(tmp_path / "result"):
        raise OSError(raised, os.strerror(raised))
    assert caught.value.errno == raised
    assert caught.value.filename == (named and str(tmp_path / named))


def test_whole_file_keeps_the_old_and_leaves_nothing_on_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["a.txt"]


def test_whole_folder_replaces_the_old_one_entirely(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out"
    for name in ("first", "second"):
        with whole_folder(path) as temporary:
            (temporary / "sub").mkdir()
            (temporary / "sub" / name).write_text(name)
        assert _names(path / "sub") == [name]
    assert _names(path.parent) == ["out"]
    assert path.stat().st_mode & 0o777 == 0o755


def test_whole_folder_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk/out").mkdir(parents=True)
    (tmp_path / "out").symlink_to("disk/out")
    with whole_folder(tmp_path / "out") as temporary:
        (temporary / "a").write_text("a")
    assert (tmp_path / "out").is_symlink()
    assert _names(tmp_path / "disk/out") == ["a"]
    assert _names(tmp_path / "disk") == ["out"]


def test_whole_folder_keeps_the_old_and_leaves_nothing_on_error(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(RuntimeError), whole_folder(path) as temporary:
        (temporary / "half").write_text("half")
        assert _names(path) == ["old"]
        raise RuntimeError
    assert _names(tmp_path) == ["out"]
    assert _names(path) == ["old"]


def test_whole_folder_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / ".out.abc123.part").mkdir()
    (tmp_path / ".out.abc123.part" / "half").write_text("half")
    (tmp_path / ".another.abc123.part").mkdir()
    with whole_folder(tmp_path / "out"):
        pass
    assert _names(tmp_path) == [".another.abc123.part", "out"]


def test_whole_folder_leaves_the_unfinished_one_of_another_process_alone(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out") as first:
        (first / "a").write_text("first")
        with whole_folder(tmp_path / "out") as second:
            (second / "a").write_text("second")
        assert (tmp_path / "out/a").read_text() == "second"
    assert (tmp_path / "out/a").read_text() == "first"
    assert _names(tmp_path) == ["out"]


def test_whole_folder_keeps_the_left_over_of_a_file_with_a_similar_name(tmp_path: Path) -> None:
    """`.out.json.7.part` is what a killed `whole_file(out.json)` leaves."""
    (tmp_path / ".out.json.7.part").write_text("half")
    with whole_folder(tmp_path / "out") as temporary:
        (temporary / "a").write_text("a")
    assert _names(tmp_path / "out") == ["a"]


def test_write_json_is_readable_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1]})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"b": [1]}
    assert text.endswith("}\n")


def test_what_a_killed_process_left_of_a_file_is_removed_by_the_next_write(tmp_path: Path) -> None:
    left, fresh, other = (tmp_path / name for name in (".a.json.123.part", ".a.json.124.part", ".b.json.123.part"))
    for path in (left, fresh, other):
        path.write_text("half", encoding="utf-8")
    for path in (left, other):
        os.utime(path, (0, 0))
    write_json(tmp_path / "a.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [fresh.name, other.name, "a.json"]
