"""The folder of the services: for its owner alone, and with a log that does not grow at each start."""

from pathlib import Path

import pytest

from pipelines import services


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
