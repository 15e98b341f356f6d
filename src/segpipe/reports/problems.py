"""The part of a report that shows the problems of a data set, and the page of `segpipe data check`."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from segpipe.data.building.decoding import Finding
from segpipe.errors import Problem
from segpipe.faults import KINDS, Action, Kind
from segpipe.files import write_json
from segpipe.reports.drawing.thumbnails import embed_bytes
from segpipe.reports.page import write_page

PICTURES = "pictures"
ACTIONS: tuple[Action, ...] = ("fail", "skip", "warn")
CONSEQUENCES: dict[Action, str] = {"fail": "stops a training", "skip": "left out", "warn": "warning"}


@dataclass(frozen=True)
class ShownProblem:
    """A problem on a page.

    Args:
        problem: what is wrong, where, and how to fix it.
        picture: a `data:` address, or None.
        file: path of the same picture next to the page, or None.
    """

    problem: Problem
    picture: str | None
    file: str | None


@dataclass(frozen=True)
class ProblemGroup:
    """All problems of the same kind with the same consequence.

    Args:
        name: the kind's name.
        kind: the kind, with its meaning.
        action: the consequence.
        shown: the problems; those with a picture come first.
    """

    name: str
    kind: Kind
    action: Action
    shown: tuple[ShownProblem, ...]

    @property
    def consequence(self) -> str:
        """The consequence in words."""
        return CONSEQUENCES[self.action]


def write_pictures(folder: Path, findings: Sequence[Finding]) -> list[ProblemGroup]:
    """Groups findings for `problems.html.j2`, the most severe first, and writes their pictures to `pictures/`.

    Args:
        folder: the folder of the page.
        findings: all findings.
    """
    groups: defaultdict[tuple[int, str], list[ShownProblem]] = defaultdict(list)
    num_pictures: defaultdict[str, int] = defaultdict(int)
    for finding in findings:
        name, picture, file = finding.problem.kind, None, None
        if finding.picture is not None:
            num_pictures[name] += 1
            picture = embed_bytes(finding.picture, "jpeg")
            file = f"{PICTURES}/{name}_{num_pictures[name]}.jpg"
            (folder / PICTURES).mkdir(exist_ok=True)
            (folder / file).write_bytes(finding.picture)
        groups[ACTIONS.index(finding.action), name].append(ShownProblem(finding.problem, picture, file))
    return [
        ProblemGroup(name, KINDS[name], ACTIONS[rank], tuple(sorted(shown, key=lambda one: one.picture is None)))
        for (rank, name), shown in sorted(groups.items())
    ]


def problems_of(findings: Sequence[Finding], *actions: Action) -> list[dict[str, str]]:
    """Gives the problems with these consequences as plain values, for a JSON report."""
    return [asdict(finding.problem) for finding in findings if finding.action in actions]


def write_check_report(
    folder: Path, source: str, findings: Sequence[Finding], num_samples: int, num_used: int
) -> list[ProblemGroup]:
    """Writes `report.html` and `report.json` about a source, even if the source cannot be used.

    Args:
        folder: an existing folder for the page and its pictures.
        source: the source's name.
        findings: all findings.
        num_samples: number of samples in the source.
        num_used: number of samples that can be used, fixed ones included.

    Returns:
        The problems, grouped as on the page.
    """
    counts = {"source": source, "num_samples": num_samples, "num_used": num_used}
    by_action = {action: problems_of(findings, action) for action in ACTIONS}
    write_json(folder / "report.json", {**counts, **by_action})
    groups = write_pictures(folder, findings)
    write_page(folder / "report.html", "check.html.j2", title=f"Check of {source}", groups=groups, **counts)
    return groups
