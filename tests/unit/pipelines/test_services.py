"""The services' folder, for its owner alone, with a log that does not grow at each start; and waiting for them."""

import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines import services
from pipelines.errors import PipelineError


@pytest.mark.parametrize("is_there", [False, True])
def test_no_other_user_can_open_the_folder(tmp_path: Path, is_there: bool) -> None:
    folder = tmp_path / ".services"
    if is_there:
        folder.mkdir(mode=0o755)
    services._make_private(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_long_log_is_put_aside_and_one_before_it_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MAX_LOG_BYTES", 5)
    log, aside = tmp_path / "log", tmp_path / "log.1"
    services._put_aside(log)
    for text, kept in (("short", None), ("longer", "longer"), ("longest", "longest")):
        log.write_text(text, encoding="utf-8")
        services._put_aside(log)
        assert log.exists() == (kept is None)
        assert (aside.read_text(encoding="utf-8") if aside.exists() else None) == kept


@pytest.mark.parametrize(("looks", "is_refused"), [([False, True, False, True], False), ([True, False, False], True)])
def test_services_are_given_up_when_they_are_missing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: list[bool], is_refused: bool
) -> None:
    """A process that has just begun shows neither arguments nor environment."""
    left = list(looks)

    def refuse(page: str, timeout: float) -> SimpleNamespace:
        if not left:
            return SimpleNamespace(close=lambda: None)
        raise ConnectionRefusedError

    log = tmp_path / "log"
    log.write_text("the last line", encoding="utf-8")
    monkeypatch.setattr(services, "LOG", log)
    monkeypatch.setattr(services, "_processes", lambda: ["honcho"] if left.pop(0) else [])
    monkeypatch.setattr(services, "_is_honcho", lambda process: True)
    monkeypatch.setattr(services.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(urllib.request, "build_opener", lambda *handlers: SimpleNamespace(open=refuse))
    if is_refused:
        with pytest.raises(PipelineError, match="the last line"):
            services._wait_until_healthy({"Prefect": "http://127.0.0.1:1/api/health"})
    else:
        services._wait_until_healthy({"Prefect": "http://127.0.0.1:1/api/health"})
