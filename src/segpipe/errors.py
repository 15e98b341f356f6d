"""The tree of errors that users see.

A `SegpipeError` is bad input or a bad state of the outside world: its message says what, where and how to fix it, and
every entry point prints that message and exits with the error's code, mostly 1. Anything else is a defect and keeps its
traceback.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from segpipe.addresses import redact

MAX_PROBLEMS_SHOWN = 40


class SegpipeError(Exception):
    """Root of all errors whose cause is the input or the environment, not the program.

    Args:
        message: what, where, how to fix it; secrets in its addresses are removed here.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class ConfigError(SegpipeError):
    """`params.yaml` (or a recipe) holds a value that cannot be used."""


class SourceError(SegpipeError):
    """A data source cannot be used: it is missing or unreachable, its sha256 differs, or its archive is unsafe."""


class StoreError(SegpipeError):
    """A file that an earlier stage wrote is missing, or its content differs from what that stage recorded."""


class TrainingError(SegpipeError):
    """The training cannot continue with these parameters."""


class TrackingError(SegpipeError):
    """MLflow cannot be reached or does not hold what was asked for."""


class IncomparableError(TrackingError):
    """A registered model cannot be measured on today's images: other classes, or not registered by segpipe."""


class CommandError(SegpipeError):
    """A program that segpipe ran (git, DVC, a stage) ended with an error.

    Args:
        message: what, where, how to fix it.
        lines: the last lines that the program wrote.
    """

    def __init__(self, message: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join([message, *lines]))
        self.lines = lines


class PredictionError(SegpipeError):
    """The images to predict cannot be read or their masks cannot be written."""


class SkippedError(PredictionError):
    """Some images could not be predicted; all the others were."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the data.

    Args:
        kind: short name of the sort of problem, the same for all its occurrences (`mask-missing`).
        where: the file, sample or class concerned.
        what: what is wrong, with the values seen.
        fix: what to do about it.
    """

    kind: str
    where: str
    what: str
    fix: str

    @staticmethod
    def from_json(document: Mapping[str, str]) -> "Problem":
        """Reads an entry of a data set's `report.json`; until version 0.1.0 its `fix` was called `mend`."""
        fix = document["fix"] if "fix" in document else document["mend"]
        return Problem(document["kind"], document["where"], document["what"], fix)

    def __str__(self) -> str:
        """One line: where, what, how to fix it."""
        return f"{self.where}: {self.what}. {self.fix}"


class DataError(SegpipeError):
    """The labelled images cannot be used for training; holds every problem found, not only the first.

    Args:
        problems: all problems, at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        shown = [f"  {problem}" for problem in self.problems[:MAX_PROBLEMS_SHOWN]]
        rest = Counter(problem.kind for problem in self.problems[MAX_PROBLEMS_SHOWN:])
        if rest:
            more = ", ".join(f"{count} x {kind}" for kind, count in sorted(rest.items()))
            shown.append(f"  and more: {more}")
        noun = "problem" if len(self.problems) == 1 else "problems"
        super().__init__("\n".join([f"{len(self.problems)} {noun} in the data:", *shown]))
