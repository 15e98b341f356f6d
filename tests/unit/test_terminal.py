"""Control characters of others never reach a terminal."""

from __future__ import annotations

import logging

import pytest

from segpipe.cli import main
from segpipe.cli.table import table
from segpipe.errors import ConfigError
from segpipe.stages.stage import _Formatter, report_errors
from segpipe.terminal import printable

EVIL = "red\x1b[31m \x9b2J \rover \u202egnp.exe \x07\x7f"
SHOWN = "red\\x1b[31m \\x9b2J \\x0dover \\u202egnp.exe \\x07\\x7f"


def test_what_changes_a_terminal_is_written_out_and_all_else_stays() -> None:
    assert printable(EVIL) == SHOWN
    assert printable(SHOWN) == SHOWN
    assert printable("道路 é\tx\n😀") == "道路 é\tx\n😀"


def test_a_cell_stays_in_its_line() -> None:
    assert table([[EVIL, "a"], ["two\nlines", "b"]])[1].startswith("two lines")
    assert "\x1b" not in "".join(table([[EVIL]]))


def test_messages_and_logs_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ConfigError(EVIL)

    assert report_errors(fail) == 1
    assert SHOWN in capsys.readouterr().err
    record = logging.LogRecord("segpipe", logging.INFO, "", 0, "%s", (EVIL,), None)
    assert SHOWN in _Formatter("%(message)s").format(record)


def test_the_output_of_a_command_is_printable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("segpipe.cli.check._run", lambda options: print(EVIL))
    assert main(["check"]) == 0
    assert SHOWN in capsys.readouterr().out
