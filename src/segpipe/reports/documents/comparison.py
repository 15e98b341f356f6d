"""Two versions next to each other: what differs in scores, data, parameters and environment."""

from collections.abc import Sequence
from dataclasses import dataclass

from segpipe.classes import Color
from segpipe.reports.documents.versions import AboutModel, ListedVersion


@dataclass(frozen=True, kw_only=True)
class ComparedVersion(ListedVersion):
    """One of two versions that are compared; its scores are those with which it was registered.

    Attributes:
        latency_ms: of one image: the median; None where it was not measured.
        latency_low_ms: a tenth of the calls is faster.
        latency_high_ms: a tenth of the calls is slower.
        num_parameters: None where they were not counted.
        run_id: of its training.
        model: name of the network; None where segpipe did not register it.
    """

    latency_ms: float | None = None
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    num_parameters: int | None = None
    run_id: str | None
    model: str | None


@dataclass(frozen=True, kw_only=True)
class ComparedImages:
    """The validation images on which two versions are compared.

    Attributes:
        evaluation_digest: of images and labels.
        num_images: how many.
        kind: 'group' or 'block': the units that count as independent.
        num_units: how many units.
    """

    evaluation_digest: str
    num_images: int
    kind: str
    num_units: int


@dataclass(frozen=True, kw_only=True)
class ScoreDifference:
    """A score of two versions on the same images; None where a value is not known.

    Attributes:
        first: of the first version, 0..1.
        second: of the second.
        difference: second minus first.
        low: of the 95% interval of the difference.
        high: as `low`.
    """

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None

    @property
    def direction(self) -> str:
        """`better` where the interval is above zero, `worse` where below, "" where it contains zero."""
        if self.low is None or self.high is None:
            return ""
        return "better" if self.low > 0 else "worse" if self.high < 0 else ""


@dataclass(frozen=True, kw_only=True)
class MeanDifference(ScoreDifference):
    """The mIoU of two versions.

    Attributes:
        probability: that the second version is better, 0..1; None without an interval.
    """

    probability: float | None


@dataclass(frozen=True, kw_only=True)
class NamedClass:
    """A class.

    Attributes:
        name: of the class.
        color: RGB, 0..255.
    """

    name: str
    color: Color


@dataclass(frozen=True, kw_only=True)
class ClassDifference(ScoreDifference, NamedClass):
    """The IoU of a class in two versions."""


@dataclass(frozen=True, kw_only=True)
class TextDifference:
    """A property that two versions do not share.

    Attributes:
        name: of the property.
        first: of the first version; None where it has none.
        second: of the second.
    """

    name: str
    first: str | None
    second: str | None


@dataclass(frozen=True, kw_only=True)
class ComparedPicture:
    """An image on which two versions differ.

    Attributes:
        file: the picture next to the page.
        sample_id: name of the image.
        group: its group.
        first: mIoU of the first version on it; None where nothing is labelled.
        second: of the second.
    """

    file: str
    sample_id: str
    group: str
    first: float | None
    second: float | None


@dataclass(frozen=True, kw_only=True)
class VersionComparison(AboutModel):
    """The output of `segpipe registry compare --json`; differences are second minus first.

    Attributes:
        versions: the first and the second.
        set: the images.
        notes: on the images, for the reader.
        mean_iou: of both.
        classes: the IoU of each class.
        data: what differs in the data and the code.
        params: what differs in the parameters.
        environment: what differs in packages and machine.
        pictures: the images that differ most, the most different first.
    """

    versions: tuple[ComparedVersion, ComparedVersion]
    set: ComparedImages
    notes: Sequence[str]
    mean_iou: MeanDifference
    classes: Sequence[ClassDifference]
    data: Sequence[TextDifference]
    params: Sequence[TextDifference]
    environment: Sequence[TextDifference]
    pictures: Sequence[ComparedPicture]
