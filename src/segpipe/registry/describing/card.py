"""The model card: the description of a registered model, about its champion.

A person's own text stands above the card and stays; segpipe replaces the card when the champion has changed. A card
decides nothing, so no error in it stops a registration.
"""

import logging
from collections.abc import Iterator, Mapping

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segpipe.registry.champion import CHAMPION, find_champion, identify
from segpipe.registry.describing.provenance import trace_version
from segpipe.registry.ledger import LEDGER_SUFFIX, MAX_DESCRIPTION_CHARS, about_ledger
from segpipe.reports.documents.lineage import TracedEvaluation, VersionLineage
from segpipe.tracking.client import retry_busy

log = logging.getLogger(__name__)

HEADING = "## Model card"
BELOW = "segpipe writes this part when the champion changes. Text above the heading is yours, and stays."
NO_USE = (
    "Not stated. Write it above the heading *Model card*: for which images and decisions the model is meant, and for "
    "which not."
)
UNKNOWN = ("nothing is known about its training.", "Not known: the run keeps no description", "### Scores\nNot known.")
NUM_WEAKEST = 3
SHORT = 12  # characters of a digest


def write_card(client: MlflowClient, model_name: str) -> None:
    """Writes the card, if it is about another champion or missing, and says what the ledger's registered model is."""
    try:
        champion = find_champion(client, model_name)
        text = client.get_registered_model(model_name).description or ""
        own, _, card = text.partition(f"{HEADING}\n{BELOW}")
        if champion is None:
            if card:  # its champion was deleted
                retry_busy(lambda: client.update_registered_model(model_name, own.strip()))
            return
        # A file that could not be downloaded once may be there now.
        if _title(champion) not in card or any(unknown in card for unknown in UNKNOWN):
            whole = _join(own.strip(), champion, trace_version(client, champion))
            if whole != text:
                retry_busy(lambda: client.update_registered_model(model_name, whole))
        _mark_ledger(client, model_name)
    except Exception as error:  # of MLflow, or content of the registry that segpipe did not write
        log.warning("the model card of %r was not written: %s", model_name, error)


def _mark_ledger(client: MlflowClient, model_name: str) -> None:
    """Describes a ledger that an earlier release began."""
    name, about = model_name + LEDGER_SUFFIX, about_ledger(model_name)
    try:
        if client.get_registered_model(name).description != about:
            retry_busy(lambda: client.update_registered_model(name, about))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # an alias that was set by hand has no ledger yet
            raise


def _title(champion: ModelVersion) -> str:
    """Gives the card's first line: it names the champion, so that a card about another one is recognised."""
    held = identify(champion)
    return f"Version {held.version} is the champion (weights {held.weights_sha256[:SHORT]})."


def _join(own: str, champion: ModelVersion, lineage: VersionLineage) -> str:
    begin = f"{own}\n\n{HEADING}" if own else HEADING
    parts = {
        "Intended use": ["See the text above this card."] if own else [NO_USE],
        "Model": list(_tell_model(lineage)),
        "Data": list(_tell_data(lineage)),
        "Limits": list(_tell_limits(lineage)),
        "Licence": list(_tell_licence(lineage)),
        "Scores": list(_tell_scores(lineage.evaluation)),
    }
    text = f"{begin}\n{BELOW}\n\n**{_title(champion)}** Load it by `models:/{champion.name}@{CHAMPION}`.\n"
    for heading, lines in parts.items():
        text += f"\n### {heading}\n"
        for index, line in enumerate(lines):
            if len(text) + len(line) > MAX_DESCRIPTION_CHARS:
                return f"{text}\nand {len(lines) - index} more lines: `segpipe registry lineage {CHAMPION}`"
            text += f"{line}\n"
    return text


def _tell_model(lineage: VersionLineage) -> Iterator[str]:
    run, code = lineage.run, lineage.code
    if run is None or run.model is None:
        yield "segpipe did not register this version: nothing is known about its training."
        return
    commit = f"commit `{code.commit[:SHORT]}`" if code.commit else "no commit"
    changes = " with uncommitted changes" if code.is_dirty else ""
    recipe = f", recipe `{code.recipe}`" if code.recipe else ""
    yield f"- `{run.model}`, semantic segmentation: one class for each pixel of an image of any size"
    yield f"- trained {run.started} UTC from {commit}{changes}{recipe}; first weights: {_first_weights(lineage)}"


def _first_weights(lineage: VersionLineage) -> str:
    model = lineage.params.get("model", {})
    return f"`{model.get('weights', 'not known')}`" if isinstance(model, Mapping) else "not known"


def _tell_data(lineage: VersionLineage) -> Iterator[str]:
    source = lineage.source
    if source is None:
        yield "Not known: the run keeps no description of its data."
        return
    digest = (lineage.dataset_digest or "")[:SHORT]
    yield f"- `{source.name}` ({source.format}), {source.num_files} files; digest of the data set `{digest}`"
    for split in lineage.splits or ():
        yield f"- {split.split}: {split.num_samples} images of {len(split.groups)} groups"


def _tell_limits(lineage: VersionLineage) -> Iterator[str]:
    yield "- The scores hold for images like those above; other cameras, places and seasons were not measured."
    yield "- Each pixel gets one of the classes, also where the image shows none of them."
    if lineage.evaluation and (val := lineage.evaluation.splits.get("val")):
        known = {name: iou for name, iou in val.iou.items() if iou is not None}
        weakest = sorted(known, key=lambda name: known[name])[:NUM_WEAKEST]
        yield f"- weakest classes (val IoU): {', '.join(f'{name} {known[name]:.3f}' for name in weakest)}"
        if unknown := [name for name in val.iou if name not in known]:
            yield f"- not measured, because no validation image shows them: {', '.join(unknown)}"
    for problem in lineage.problems or ():
        yield f"- a warning about the data: {problem}"


def _tell_licence(lineage: VersionLineage) -> Iterator[str]:
    licence = lineage.source.licence if lineage.source else ""
    yield f"- of the data: {licence or 'not stated'}"
    yield "- of the weights: not stated; who publishes them has to say"


def _tell_scores(evaluation: TracedEvaluation | None) -> Iterator[str]:
    if evaluation is None or not evaluation.splits:
        yield "Not known."
        return
    splits = evaluation.splits
    yield f"| | {' | '.join(splits)} |"
    yield f"| --- |{' ---: |' * len(splits)}"
    yield f"| mIoU | {' | '.join(_number(scores.mean_iou) for scores in splits.values())} |"
    yield f"| 95% interval | {' | '.join(_interval(scores.low, scores.high) for scores in splits.values())} |"
    for name in next(iter(splits.values())).iou:
        cells = " | ".join(_number(scores.iou.get(name)) for scores in splits.values())
        yield f"| {name.replace('|', '/')} | {cells} |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.4f} to {high:.4f}"
