"""The JSON files that stages write and other rooms read, as types; each file is checked when it is read.

A file of an older release lacks keys that came later, and one of a newer release has more: both can be read. A file's
keys are written in the order of the attributes, so that equal contents are equal bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from segpipe.classes import ClassTable
from segpipe.errors import Problem, StoreError


@dataclass(frozen=True, kw_only=True)
class Document:
    """The content of a JSON file."""

    @classmethod
    def read(cls, path: Path, fix: str) -> Self:
        """Reads a file.

        Args:
            path: of the file.
            fix: how to fix a file that cannot be read, for the message.

        Raises:
            StoreError: it is missing, or has other content; names the file and the key.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror or error}; {fix}") from error
        return cls.parse(content, str(path), fix)

    @classmethod
    def parse(cls, content: str | bytes, where: str, fix: str) -> Self:
        """Reads the content of such a file.

        Args:
            content: of the file.
            where: the file's name in messages.
            fix: as for `read`.

        Raises:
            StoreError: as for `read`.
        """
        try:
            document: Self = TypeAdapter(cls).validate_json(content, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            what = f"{key}: {first['msg']}" if key else first["msg"]
            raise StoreError(f"{where}: {what}; {fix}") from error
        return document

    def to_json(self) -> dict[str, object]:
        """The document as plain values, the keys in the order of the attributes."""
        return asdict(self)


@dataclass(frozen=True)
class ImageMapping:
    """How the values of an image's file become 8-bit RGB: the same in training and in prediction.

    The defaults decide nothing; so were images read before this was written down.

    Attributes:
        bands: numbers of the file's bands from 1, three for red, green and blue or one for grey; None takes the
            colours that the file declares.
        range: values of 16 bits, of fractions and the like that become 0 and 255; what lies beyond is cut off.
        percentiles: the same as percentiles (0..100) of each image's own values; not together with `range`.
        background: RGB, 0..255, on which a transparent image is composed; None ignores the transparency.
    """

    bands: tuple[int, ...] | None = None
    range: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    background: tuple[int, int, int] | None = None


DECIDES_NOTHING = ImageMapping()


@dataclass(frozen=True)
class BuiltModel:
    """The arguments that build a network.

    Attributes:
        name: of the file in `segpipe.models`.
        options: of its builder.
        in_channels: of the images; releases without this key had only RGB.
    """

    name: str
    options: Mapping[str, Any]
    in_channels: int = 3


@dataclass(frozen=True)
class InitialWeights:
    """The weights that a training began with.

    Attributes:
        source: the value of `train.model.weights`.
        version: of a registered model.
        sha256: of the file, or of the tensors from ImageNet; None for random ones.
    """

    source: str
    version: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class NamedDataset:
    """The data set of a training.

    Attributes:
        name: of its folder.
        digest: of its content.
    """

    name: str
    digest: str


@dataclass(frozen=True)
class UsedParams:
    """The parameters that decide the weights.

    Attributes:
        train: the section `train`, without keys that do not decide the weights.
        class_weights: scheme, cap and the weights themselves.
    """

    train: Mapping[str, Any]
    class_weights: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ClassWeighting(Document):
    """`class_weights.json`: how much each class counts in the loss.

    Attributes:
        scheme: a file of `segpipe/data/class_weights/schemes`.
        cap: the largest weight, as a multiple of the weight of the most frequent class.
        options: of the scheme.
        share: by class, the share of the labelled pixels of the training split, 0..1.
        weights: by class.
    """

    scheme: str
    cap: float
    options: Mapping[str, Any]
    share: Mapping[str, float]
    weights: Mapping[str, float]

    def decisive(self) -> dict[str, object]:
        """What decides a training's weights: without the shares, which the digest of the data set covers."""
        document = self.to_json()
        del document["share"]
        return document


@dataclass(frozen=True, kw_only=True)
class TrainingDescription(Document):
    """`training.json`: everything that decides the weights, known before the training.

    Attributes:
        signature: sha256 of the rest.
        experiment: in MLflow.
        model: the network.
        initial_weights: None in files of releases without `train.model.weights`.
        classes: that the network predicts.
        dataset: on which it is trained.
        params: of the training.
        image_mapping: how the training images were read; files of earlier releases have the default.
        environment: versions of packages, and properties of the machine.
        code: digest of the code that was loaded; None in files of the first release.
    """

    signature: str
    experiment: str
    model: BuiltModel
    initial_weights: InitialWeights | None = None
    classes: ClassTable
    dataset: NamedDataset
    params: UsedParams
    image_mapping: ImageMapping = DECIDES_NOTHING
    environment: Mapping[str, str]
    code: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelDescription(TrainingDescription):
    """`model.json`: everything that decided the weights, and their sha256.

    Attributes:
        best_epoch: the epoch whose weights were kept.
        weights_sha256: of `weights.safetensors`.
        halved_to: the training's last number of samples at once, if the memory became too short for the number in its
            parameters; else None, as in files of earlier releases.
    """

    best_epoch: int
    weights_sha256: str
    halved_to: int | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkDescription(Document):
    """The part of `model.json` that is needed to build and load a network.

    Attributes:
        model: the network.
        classes: that it predicts.
        image_mapping: how its images are to be read; files of earlier releases have the default.
        weights_sha256: of `weights.safetensors`.
    """

    model: BuiltModel
    classes: ClassTable
    image_mapping: ImageMapping = DECIDES_NOTHING
    weights_sha256: str


@dataclass(frozen=True, kw_only=True)
class EvaluationDescription(Document):
    """`evaluation.json`: digests of weights, classes and images; scores with equal digests may be compared.

    Attributes:
        weights_sha256: of the weights.
        class_table: digest of the classes.
        evaluation_digest: of the validation images, their labels and the metric.
        inference: digest of how the model predicts; None in files of releases that had only the network.
    """

    weights_sha256: str
    class_table: str
    evaluation_digest: str
    inference: str | None = None


@dataclass(frozen=True, kw_only=True)
class BroughtSource:
    """One of the sources that `download` brought.

    Attributes:
        format: its reader.
        options: of the reader.
        licence: as the source says.
        classes: of its labels.
    """

    format: str
    options: Mapping[str, Any] = field(default_factory=dict)
    licence: str
    classes: ClassTable


@dataclass(frozen=True, kw_only=True)
class SourceDescription(Document):
    """`source.json`: the sources that `download` brought. The first keys are of the main source.

    Attributes:
        name: of the main source, and of its folder.
        format: its reader.
        options: of the reader; `options` and `sources` are empty in files of the first releases.
        licence: as the source says.
        classes: of its labels.
        sources: all, the main one too, by their names.
        image_mapping: how the images of all sources are read; files of earlier releases have the default.
        sha256: of each file, by its place below `raw/`.
    """

    name: str
    format: str
    options: Mapping[str, Any] = field(default_factory=dict)
    licence: str
    classes: ClassTable
    sources: Mapping[str, BroughtSource] = field(default_factory=dict)
    image_mapping: ImageMapping = DECIDES_NOTHING
    sha256: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ReportedSplit:
    """A split in `report.json`.

    Attributes:
        split: its name.
        num_samples: how many.
        groups: of the samples, sorted.
        shares: by class, the share of the labelled pixels, 0..1.
    """

    split: str
    num_samples: int
    groups: Sequence[str]
    shares: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class DatasetReport(Document):
    """`report.json` of a data set: what was found in the samples.

    Attributes:
        splits: those that have samples.
        num_skipped: number of samples that were left out.
        warnings: as they were written; take `problems`.
    """

    splits: Sequence[ReportedSplit]
    num_skipped: int = 0
    warnings: Sequence[Mapping[str, str]]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The warnings."""
        return tuple(Problem.from_json(warning) for warning in self.warnings)


@dataclass(frozen=True, kw_only=True)
class Registration(Document):
    """`registration.json`: a model's version in the registry, and the decision about it.

    Attributes:
        model_name: the registered model.
        version: its number there; None where it is not registered.
        decision: 'promoted', 'not promoted' or 'compared only'.
        reasons: why.
        champion: the version that the alias names now.
        mean_iou: on the validation split.
        weights_sha256: identifies the weights.
        evaluation_digest: identifies the images and labels that they were measured on.
    """

    model_name: str
    version: str | None
    decision: str
    reasons: tuple[str, ...]
    champion: str | None
    mean_iou: float
    weights_sha256: str
    evaluation_digest: str


@dataclass(frozen=True, kw_only=True)
class Publication(Document):
    """The output of `segpipe publish --json`: a registration, its run in MLflow, and the scores.

    Attributes:
        registration: the version and the decision.
        experiment_id: of the run.
        run_id: the training's run.
        champion_before: the version that was the champion when the decision was made.
        metrics: as in `metrics.json`: the scores of each split, by the names of the metrics.
        labels: the names of the metrics on pages; a clone of an older revision prints none.
    """

    registration: Registration
    experiment_id: str
    run_id: str
    champion_before: str | None
    metrics: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, str] = field(default_factory=dict)
