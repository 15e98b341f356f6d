"""Whether a challenger becomes the champion."""

from dataclasses import dataclass

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Candidate:
    """What the gate knows of a model version.

    Attributes:
        version: number in the registry.
        mean_iou: on the validation split, 0..1.
        evaluation_digest: identifies the images, masks and metric definition behind that number, or `UNKNOWN`.
        class_table: identifies the order and names of the classes.
    """

    version: str
    mean_iou: float
    evaluation_digest: str
    class_table: str


@dataclass(frozen=True)
class Decision:
    """The gate's answer.

    Attributes:
        promoted: whether the challenger becomes the champion.
        reasons: why, in whole sentences.
    """

    promoted: bool
    reasons: tuple[str, ...]


def decide(challenger: Candidate, champion: Candidate | None, min_delta: float) -> Decision:
    """Promotes a challenger that is better by more than `min_delta` on the same images, classes and metric."""
    if champion is None:
        return Decision(True, ("There was no champion.",))
    obstacles = []
    if champion.evaluation_digest == UNKNOWN:
        obstacles.append(f"Version {champion.version}, the champion, was not registered by segpipe: nothing compares.")
    elif challenger.class_table != champion.class_table:
        obstacles.append(f"Version {champion.version}, the champion, knows other classes: the mIoUs mean other things.")
    elif challenger.evaluation_digest != champion.evaluation_digest:
        obstacles.append(
            f"Version {champion.version}, the champion, was measured on other validation images: a difference could be "
            "the images'. To begin a new line, set the alias champion in MLflow by hand."
        )
    if obstacles:
        return Decision(False, tuple(obstacles))
    delta = challenger.mean_iou - champion.mean_iou
    figures = f"validation mIoU {challenger.mean_iou:.4f} against {champion.mean_iou:.4f} of version {champion.version}"
    if delta > min_delta:
        return Decision(True, (f"Better: {figures} ({delta:+.4f}, more than {min_delta:g} asked).",))
    return Decision(False, (f"Not better: {figures} ({delta:+.4f}, more than {min_delta:g} asked).",))
