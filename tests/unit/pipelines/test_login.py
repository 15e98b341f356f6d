"""The login of a clone's own server: made once, readable by its owner alone, and a team's own goes before it."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.login import find_login

NAMES = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")


@pytest.fixture(autouse=True)
def _without_a_given_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("careless_umask")
def test_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "login"
    login = find_login(path)
    assert path.stat().st_mode & 0o777 == 0o600
    user, _, password = login.partition(":")
    assert user and len(password) >= 32
    assert find_login(path) == login
    assert find_login(tmp_path / "another") != login
    assert sorted(file.name for file in tmp_path.iterdir()) == ["another", "login"]


def test_an_empty_file_is_no_login(tmp_path: Path) -> None:
    (tmp_path / "login").write_text("\n", encoding="utf-8")
    login = find_login(tmp_path / "login")
    assert login.startswith("segpipe:")
    assert find_login(tmp_path / "login") == login


@pytest.mark.parametrize("name", NAMES)
def test_a_login_of_the_environment_goes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "team:password")
    assert find_login(tmp_path / "login") == "team:password"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(name, "")
    assert find_login(tmp_path / "login") != "team:password"


@pytest.mark.parametrize(
    ("given", "hosts"), [({}, "127.0.0.1,localhost"), ({"NO_PROXY": "a.org"}, "a.org,127.0.0.1,localhost")]
)
def test_the_shell_s_requests_with_it_go_to_no_proxy(tmp_path: Path, given: dict[str, str], hosts: str) -> None:
    (tmp_path / ".services").mkdir()
    (tmp_path / ".services/addresses.json").write_text(json.dumps({"prefect": "http://127.0.0.1:4200"}))
    script = f'. {Path(__file__).parents[3]}/pipelines/login.sh; echo "$PREFECT_API_URL $no_proxy $NO_PROXY"'
    variables = {"PATH": os.environ["PATH"], **given}
    shown = subprocess.run(["sh", "-euc", script], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert shown.stdout == f"http://127.0.0.1:4200/api {hosts} {hosts}\n", shown.stderr
