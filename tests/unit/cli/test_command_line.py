"""The command line as a whole: help, version, completion, what a start loads."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from facts import missing

from segpipe.cli import _parser, main
from segpipe.cli.completion import SHELLS, list_actions

ROOT = Path(__file__).parents[3]
HEAVY = {"torch", "pandas", "mlflow", "dvc", "prefect", "matplotlib", "cv2", "PIL"}


def walk(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Gives a command and all commands below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from walk(below)


COMMANDS = {command.prog: command for command in walk(_parser())}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example_that_it_takes_and_a_page_that_is_there(name: str) -> None:
    found = re.search(
        r"examples?:\n((?:  segpipe.*\n)+)(?:.*\n)*\nmore: ([\w./-]+)(?:, ([^\n]+))?", COMMANDS[name].format_help()
    )
    assert found
    for example in found[1].splitlines():
        words = shlex.split(example.partition(" > ")[0])
        assert " ".join(words).startswith(name)
        assert callable(_parser().parse_args(words[1:]).run)
    page = (ROOT / found[2]).read_text(encoding="utf-8")
    assert found[3] is None or re.search(rf"^#+ {re.escape(found[3].strip())}", page, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_fits_into_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = COMMANDS[name].format_help()
    assert max(map(len, text.partition("example")[0].splitlines())) <= 80


def test_each_value_has_a_name_in_the_help_and_each_argument_an_explanation() -> None:
    for action in list_actions(_parser()):
        takes_value = action.nargs != 0 and not isinstance(action, argparse._SubParsersAction)
        assert not takes_value or action.metavar, f"{action.dest} has no metavar"
        assert action.help or isinstance(action, argparse._SubParsersAction), f"{action.dest} has no help"


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"segpipe {version('segpipe')}\n"


def test_the_option_leaves_the_argument_version_to_the_commands() -> None:
    assert "version" not in _parser().parse_args(["registry", "unpin"])
    assert _parser().parse_args(["registry", "pin", "2"]).version == "2"


@pytest.mark.parametrize("group", [(), ("data",), ("recipe",), ("registry",)])
def test_a_command_that_needs_another_prints_its_help(
    group: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*group]) == 0
    printed = capsys.readouterr()
    assert printed.out == COMMANDS[" ".join(["segpipe", *group])].format_help()
    assert printed.err == ""


@pytest.mark.parametrize("wrong", [["no-such-command"], ["registry", "lst"], ["check", "a", "b"], ["completion", "sh"]])
def test_wrong_arguments_end_with_1_and_the_usage(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 1
    assert not missing(capsys.readouterr().err, "usage: segpipe", "error: ")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_completion_of_a_shell_knows_commands_options_and_names(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert not missing(script, "registry", "rollback", "confidence", "compact_fpn", "cityscapes")
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=script, text=True, check=False).returncode == 0


def test_bash_completes_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    ask = "COMP_WORDS=(segpipe registry roll); COMP_CWORD=2; _shtab_segpipe; echo ${COMPREPLY[@]}"
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["rollback"]


def test_a_start_loads_no_large_library() -> None:
    code = (
        "import sys, segpipe; segpipe.__version__; import segpipe.cli; segpipe.cli._parser(); "
        "print(*sys.modules, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.splitlines())


@pytest.mark.parametrize("module", ["segpipe.cli", "segpipe.stages.train", "segpipe.stages.download"])
def test_another_system_is_refused_before_its_missing_modules_are_imported(module: str) -> None:
    code = f"import sys, segpipe.config.params; sys.platform = 'win32'; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert not missing(done.stderr, "Linux", "macOS", "'win32'", "WSL", "`wsl --install`")
    assert "Traceback" not in done.stderr
