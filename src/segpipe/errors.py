"""The tree of errors that users see.

A `SegpipeError` is bad input or a bad state of the outside world: its message says what, where and how to fix it, and
every entry point prints that message and exits with the error's code, mostly 1. Anything else is a defect and keeps its
traceback.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from segpipe.addresses import redact

MAX_PROBLEMS_SHOWN = 40
NUM_NAMES_SHOWN = 3
NUM_PIXELS = re.compile(r"\d+ px")


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
        code: with which it ended; None where it was not started or was stopped.
    """

    def __init__(self, message: str, lines: tuple[str, ...] = (), code: int | None = None) -> None:
        super().__init__("\n".join([message, *lines]))
        self.lines, self.code = lines, code


class PredictionError(SegpipeError):
    """The images to predict cannot be read or their masks cannot be written."""


class ExportError(SegpipeError):
    """A model cannot be exported, or its export does not predict what the model predicts."""


class SkippedError(PredictionError):
    """Some images could not be predicted; all the others were."""

    exit_code = 2


class ServingError(SegpipeError):
    """The service cannot start as it was asked to, or a model cannot be put into service."""


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


def fold_problems(problems: Iterable[Problem]) -> list[tuple[str, list[Problem]]]:
    """Puts problems together that say the same of several files, except for the file's name and a number of pixels.

    Returns:
        One line for each different problem, in the order of their first, and the problems that it stands for.
    """
    folds: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        stem = PurePosixPath(problem.where).stem
        what = NUM_PIXELS.sub("", problem.what).replace(f"/{stem}.", "/")
        folds.setdefault((problem.kind, what, problem.fix), []).append(problem)
    return [(_describe_fold(equal), equal) for equal in folds.values()]


def _describe_fold(equal: Sequence[Problem]) -> str:
    first, *others = equal
    if not others:
        return str(first)
    names = ", ".join(problem.where for problem in equal[:NUM_NAMES_SHOWN])
    rest = ", ..." if len(equal) > NUM_NAMES_SHOWN else ""
    differs = "" if all(problem.what == first.what for problem in others) else " (the first)"
    return f"{len(equal)} of them ({names}{rest}): {first.what}{differs}. {first.fix}"


class DataError(SegpipeError):
    """The labelled images cannot be used for training; holds every problem found, not only the first.

    Args:
        problems: all problems, at least one.
        advice: what would fix many of them; '' for none.
    """

    def __init__(self, problems: Sequence[Problem], advice: str = "") -> None:
        self.problems = tuple(problems)
        folded = fold_problems(self.problems)
        shown = [f"  {line}" for line, _ in folded[:MAX_PROBLEMS_SHOWN]]
        rest: Counter[str] = Counter()
        for _, equal in folded[MAX_PROBLEMS_SHOWN:]:
            rest.update(problem.kind for problem in equal)
        if rest:
            more = ", ".join(f"{count} x {kind}" for kind, count in sorted(rest.items()))
            shown.append(f"  and more: {more}")
        noun = "problem" if len(self.problems) == 1 else "problems"
        about = [f"{len(self.problems)} {noun} in the data:", *shown]
        super().__init__("\n".join([*about, *([advice] if advice else [])]))
