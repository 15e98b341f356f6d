"""Emits an event when a retraining finds that the champion of a registered model has moved."""

import os

from prefect.events import emit_event
from prefect.variables import Variable

from segpipe.addresses import redact
from segpipe.documents import Publication

CHAMPION_MOVED = "segpipe.champion.moved"
# The Prefect variable with each model's champion as it was told last. If it is lost, one event more is emitted.
TOLD = "segpipe_champions_told"


def tell_if_moved(publication: Publication, is_new: bool) -> None:
    """Emits the event, unless the last one named the same champion.

    A champion that a person has moved (`segpipe registry promote` or `rollback`) is told by the next retraining.

    Args:
        publication: the output of `segpipe publish --json`.
        is_new: whether the decision was made in this retraining; if not, it may have been told before the variable was
            there.
    """
    registration = publication.registration
    name, champion = registration.model_name, registration.champion
    told: dict[str, str] = dict(Variable.get(TOLD, default={}) or {})
    before = told.get(name, (publication.champion_before or "") if is_new else champion)
    if champion and champion != before:
        _emit(publication, champion, before or "")
    if champion and told.get(name) != champion:
        # Another retraining may have told of its own model meanwhile.
        present: dict[str, str] = dict(Variable.get(TOLD, default={}) or {})
        Variable.set(TOLD, {**present, name: champion}, overwrite=True)


def _emit(publication: Publication, champion: str, before: str) -> None:
    registration = publication.registration
    name = registration.model_name
    server = redact(os.environ.get("MLFLOW_TRACKING_URI", ""))
    page = f"{server.rstrip('/')}/#/models/{name}/versions/{champion}" if server.startswith("http") else ""
    is_about_it = registration.version == champion
    emit_event(
        CHAMPION_MOVED,
        resource={"prefect.resource.id": f"segpipe.model.{name}", "prefect.resource.name": name},
        payload={
            "model_name": name,
            "champion": champion,
            "champion_before": before,
            "reasons": " ".join(registration.reasons) if is_about_it else "",
            "mean_iou": registration.mean_iou if is_about_it else None,
            "page": page,
        },
    )
