"""Writes a flow's outcome as markdown and tables to its page in Prefect's UI."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from pipelines.workspace import Revision
from segpipe.addresses import redact
from segpipe.documents import Publication
from segpipe.places import LOCK_FILE

TRAININGS = "?workflowType=machine_learning"  # without it, MLflow opens on GenAI in a browser that is new to it


@dataclass(frozen=True)
class Outcome:
    """The outcome of a retraining.

    Attributes:
        headline: one line.
        markdown: all facts.
        scores: one row for each class and measure, one column for each split.
    """

    headline: str
    markdown: str
    scores: list[dict[str, float | str]]


def summarize(publication: Publication, revision: Revision, executed: Sequence[str], commit: str | None) -> Outcome:
    """Describes a retraining's outcome.

    Args:
        publication: the output of `segpipe publish --json`.
        revision: that was trained.
        executed: the stages that were run.
        commit: the commit with `dvc.lock`; None where none was made.
    """
    registration = publication.registration
    name, version, champion = registration.model_name, registration.version, registration.champion
    # If nothing was registered, the decision was made in an earlier retraining.
    before = publication.champion_before if "register" in executed else champion
    ran = f"ran {', '.join(executed)}" if executed else "nothing was stale, no stage was run"
    headline = f"{name} version {version} {registration.decision}; the champion is version {champion}; {ran}"
    server = redact(os.environ.get("MLFLOW_TRACKING_URI", ""))
    run_id, experiment_id = publication.run_id, publication.experiment_id
    rows = [
        ("revision", revision.label),
        ("stages run", ", ".join(executed) or "none: nothing was stale"),
        ("version", _link(server, f"models/{name}/versions/{version}", f"{name} version {version}")),
        ("MLflow run", _link(server, f"experiments/{experiment_id}/runs/{run_id}{TRAININGS}", run_id)),
        ("decision", f"**{registration.decision}**"),
        ("reasons", " ".join(registration.reasons)),
        ("champion before", f"version {before}" if before else "none"),
        ("champion now", f"version {champion}" if champion else "none"),
        *((f"{split} mIoU", f"{scores['mean_iou']:.4f}") for split, scores in publication.metrics.items()),
    ]
    if commit:
        rows.append((LOCK_FILE.name, f"commit {commit}"))
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return Outcome(
        headline,
        f"# {headline}\n\n| | |\n| --- | --- |\n{table}\n",
        _scores(publication.metrics, publication.labels),
    )


def _link(server: str, path: str, text: str) -> str:
    return f"[{text}]({server.rstrip('/')}/#/{path})" if server.startswith("http") else text


def _scores(metrics: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> list[dict[str, float | str]]:
    splits = list(metrics)
    overall = [
        {"measure": label, **{split: _rounded(metrics[split][name]) for split in splits}}
        for name, label in labels.items()
    ]
    classes = [
        {"measure": f"IoU {name}", **{split: _rounded(metrics[split]["iou"][name]) for split in splits}}
        for name in metrics[splits[0]]["iou"]
    ]
    return overall + classes


def _rounded(value: float | None) -> float | str:
    return "-" if value is None else round(value, 4)


def create_artifacts(outcome: Outcome) -> None:
    """Puts the outcome on the flow run's page."""
    create_markdown_artifact(outcome.markdown, key="retraining", description=outcome.headline)
    create_table_artifact(outcome.scores, key="scores", description=outcome.headline)


def create_prediction_artifact(headline: str, lines: Sequence[str], output: Path) -> None:
    """Puts the output of `segpipe predict` on the flow run's page."""
    text = "\n".join(f"- {line}" for line in lines)
    create_markdown_artifact(f"# {headline}\n\n{text}\n", key="prediction", description=f"masks in {output}")
