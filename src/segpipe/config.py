"""`params.yaml` as one frozen, strict model, read once by `load_config`.

A section carries the name of the stage that reads it. A key that is not described here is an error, and so is a value
out of its range: all problems of a file are reported together, before any stage starts its work.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segpipe.errors import ConfigError
from segpipe.faults import KINDS, Action
from segpipe.registry import (
    AUGMENTATIONS,
    LOSSES,
    MODELS,
    READERS,
    WEIGHTINGS,
    Registry,
    describe_validation_error,
    nearest,
)

PARAMS_FILE = Path("params.yaml")

T = TypeVar("T", bound=BaseModel)

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]


def _name_in(registry: Registry) -> AfterValidator:
    def check(name: str) -> str:
        try:
            return registry.check(name)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(check)


def _check_pattern(pattern: str) -> str:
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from error
    if num_groups != 1:
        raise ValueError("must have exactly one (group): the part of the sample's id that names its sequence")
    return pattern


def _check_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"unknown kind of fault {kind!r}; {nearest(kind, sorted(KINDS))}")
    return kind


KindOfFault = Annotated[str, AfterValidator(_check_kind)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Choice(_Section):
    """A model, a loss or an augmentation by name, with the options that its file defines."""

    name: str
    options: dict[str, Any] = {}


REGISTERED = "models:/"  # begins the address of a model in MLflow's registry


class ModelChoice(Choice):
    """The network, and what it begins with.

    Attributes:
        name: a file of `segpipe/models`; `segpipe models` lists them.
        in_channels: 3 takes the images as they are; 1 their mean over the colours, for images that are grey.
        weights: `none`: random. `imagenet`: the encoder as torchvision, timm or smp publish it. `models:/NAME@ALIAS`
            or `models:/NAME/VERSION`: a registered model, to be trained further; DVC does not see that an alias moved.
            Else the path of a file (.safetensors, or .pth with tensors alone). A first layer for images of other
            channels is adapted; the head begins anew where the classes are others.
        sha256: of the file; must be given for a path, so that another content is noticed.
    """

    name: Annotated[str, _name_in(MODELS)]
    in_channels: Literal[1, 3] = 3
    weights: Annotated[str, Field(min_length=1)] = "none"
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None

    @property
    def is_from_file(self) -> bool:
        """Whether the first weights lie in a file."""
        return self.weights not in {"none", "imagenet"} and not self.weights.startswith(REGISTERED)

    @model_validator(mode="after")
    def _weights_are_known(self) -> "ModelChoice":
        lines = []
        if self.is_from_file and self.sha256 is None:
            others = f"none, imagenet, {REGISTERED}NAME@ALIAS, {REGISTERED}NAME/VERSION"
            lines.append(f"sha256: must be given for weights from a file ({self.weights}); known besides: {others}")
        if not self.is_from_file and self.sha256 is not None:
            lines.append("sha256: has a meaning only where weights is a path")
        if self.weights.startswith(REGISTERED) and not re.fullmatch(r"models:/[^/@]+(@[^/@]+|/\d+)", self.weights):
            lines.append(f"weights: must be {REGISTERED}NAME@ALIAS or {REGISTERED}NAME/VERSION (got {self.weights})")
        if lines:
            raise ValueError("; ".join(lines))
        return self


class LossTerm(Choice):
    """One term of the loss.

    Attributes:
        name: a file of `segpipe/losses`.
        weight: the term's factor in the sum.
    """

    name: Annotated[str, _name_in(LOSSES)]
    weight: Positive = 1.0


class Remote(_Section):
    """Where a source lies, and what it must be.

    Attributes:
        source: a folder or an archive (.zip, .tar, .tar.gz, ...); an address of one (https://, s3://, gs://, ssh://);
            or `public:NAME`, a set that others publish (`segpipe data sources` lists them).
        sha256: of the archive; must be given for an archive at an address.
        allow_http: lets the archive come over plain http, where anyone on the way sees what is asked for.
    """

    source: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    allow_http: bool = False

    @property
    def is_remote(self) -> bool:
        """Whether the source is to be fetched over the network."""
        return "://" in self.source or self.source.startswith("public:")

    @model_validator(mode="after")
    def _is_safe(self) -> "Remote":
        if self.source.startswith("http://") and not self.allow_http:
            raise ValueError("source: an address must begin with https://, or set allow_http: true")
        if self.source.startswith(("https://", "http://")) and self.sha256 is None:
            raise ValueError("sha256: must be given for an address, so that another content is noticed")
        return self


class SourceChoice(Remote):
    """One source of labelled images.

    Attributes:
        format: the layout in which the source keeps images and masks; a file of `segpipe/data/readers`.
        options: what the format's file defines.
    """

    format: Annotated[str, _name_in(READERS)]
    options: dict[str, Any] = {}


class Download(SourceChoice):
    """Where the labelled images come from.

    DVC watches `source`, so here it is a path: of a folder or an archive, or of a small .yaml file that says where the
    source lies (`source`, `sha256` and `allow_http` as in `Remote`). What is joined to it is pinned instead.

    Attributes:
        join: further sources by name, which begins the ids of their samples (`NAME/ID`). A joined folder has its
            `sha256` too; the message of `download` gives it.
    """

    join: dict[Annotated[str, Field(pattern=r"^[\w-]+$")], SourceChoice] = {}

    @model_validator(mode="after")
    def _can_be_watched(self) -> "Download":
        if self.is_remote:
            mend = "write {source: ADDRESS, sha256: ...} into a .yaml file and name that file"
            raise ValueError(f"source: must be a path, which DVC can watch; {mend}")
        return self


SplitRule = Literal["source"] | Annotated[list[str], Field(min_length=1)] | Annotated[float, Field(gt=0, lt=1)]


class Split(_Section):
    """Which samples are kept out of training.

    Each rule is one of:

    - a list of group names: these sequences, whole;
    - a share (0..1): so many samples, in whole sequences, drawn by `preprocess.seed`; val's share is of what test
      leaves, and new sequences may change the draw: name the groups to keep a split as it is;
    - `source`: the samples that the source itself puts in that split, even within a sequence (the report warns).

    Attributes:
        val: chooses epochs and champions.
        test: is reported and never chosen by; null for none.
    """

    val: SplitRule
    test: SplitRule | None = None


class Policy(_Section):
    """What is done about faults of single files and of the whole set.

    Attributes:
        fix: mend in the store what is safe to mend; the source stays as it is.
        actions: for a kind of fault (`segpipe data kinds` lists them) `fail`, `skip` the sample, or `warn` and use it.
        max_skipped: greatest share of the samples that may be left out.
    """

    fix: bool = False
    actions: dict[KindOfFault, Action] = {}
    max_skipped: Share = 0.05

    @model_validator(mode="after")
    def _actions_exist(self) -> "Policy":
        wrong = [
            f"{kind}: {action} is not possible; possible: {', '.join(KINDS[kind].allowed)}"
            for kind, action in self.actions.items()
            if action not in KINDS[kind].allowed
        ]
        if wrong:
            raise ValueError("actions: " + "; ".join(wrong))
        return self

    def action_of(self, kind: str) -> Action:
        """What is done about a kind."""
        return self.actions.get(kind, KINDS[kind].action)


class Preprocess(_Section):
    """How raw samples become the training-ready store.

    Attributes:
        classes: null takes the classes of the sources, which must then be the same; else each class of the result, in
            order, with the sources' classes that become it (`car: [car, van]`; `NAME/car` is joined source NAME's).
        ignore: the sources' classes that become void, where `classes` is given.
        group_pattern: regular expression with one (group), searched in a sample's id; samples of one group (a video
            sequence, a patient, a field) are split as a whole. null takes the groups that the source knows, and where
            it knows none each sample for itself.
        group_column: instead of a pattern, a column of the source's table.
        split: what is kept out of training.
        seed: of the draw, where a split is given as a share.
        policy: what is done about faults.
    """

    classes: dict[str, Annotated[list[str], Field(min_length=1)]] | None = None
    ignore: list[str] = []
    group_pattern: Annotated[str, AfterValidator(_check_pattern)] | None = None
    group_column: str | None = None
    split: Split
    seed: Annotated[int, Field(ge=0)] = 0
    policy: Policy = Policy()

    @model_validator(mode="after")
    def _fits_together(self) -> "Preprocess":
        if self.group_pattern is not None and self.group_column is not None:
            raise ValueError("group_column: give either a pattern or a column")
        if self.ignore and self.classes is None:
            raise ValueError("ignore: has a meaning only beside classes")
        return self


class ClassWeights(_Section):
    """How rare classes count in the loss.

    Attributes:
        scheme: a file of `segpipe/data/weightings`.
        cap: no weight exceeds so many times the weight of the most frequent class.
        options: what the scheme's file defines.
    """

    scheme: Annotated[str, _name_in(WEIGHTINGS)]
    cap: Annotated[float, Field(ge=1)] = 20.0
    options: dict[str, Any] = {}


class TransformChoice(Choice):
    """An augmentation by name.

    Attributes:
        name: a file of `segpipe/data/augmentations`.
        probability: share of the samples that it is applied to.
        options: what the augmentation's file defines.
    """

    name: Annotated[str, _name_in(AUGMENTATIONS)]
    probability: Share = 1.0

    @model_validator(mode="after")
    def _options_fit(self) -> "TransformChoice":
        try:
            AUGMENTATIONS.call(self.name, self.options)
        except ConfigError as error:
            raise ValueError("; ".join(str(error).splitlines())) from error
        return self


class RareClassCrop(_Section):
    """Windows that are placed on rare classes.

    Attributes:
        probability: share of the samples whose window is placed so that it holds a random pixel of a drawn class.
        power: a class is drawn from those in the sample by its inverse frequency in the training split, to this power;
            0 draws all alike.
    """

    probability: Share
    power: Annotated[float, Field(ge=0, le=2)] = 1.0


class Augment(_Section):
    """What is varied in a training sample.

    Attributes:
        crop: height and width in pixels of what training sees; parts outside the image are void.
        scale: lower and upper bound of the random zoom, drawn log-uniformly.
        rare_class_crop: null places every window anywhere in the image, all places alike.
        transforms: what is done to the crop, in this order.
    """

    crop: tuple[Count, Count] = Field(strict=False)
    scale: tuple[Positive, Positive] = Field(default=(1.0, 1.0), strict=False)
    rare_class_crop: RareClassCrop | None = None
    transforms: list[TransformChoice] = []

    @model_validator(mode="after")
    def _scale_is_ordered(self) -> "Augment":
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale: the lower bound must not exceed the upper one")
        return self


class Schedule(_Section):
    """The learning rate over the steps of a training.

    Attributes:
        name: after a linear warm-up `constant`, `cosine`, `poly`, `step` (times `factor` at each of the `milestones`),
            `exponential` (times `factor` an epoch) or `plateau` (times `factor` where the validation mIoU has not risen
            in `patience` epochs); or `one_cycle`, whose rise is its warm-up.
        warmup_share: share of all steps in which the rate rises.
        power: exponent of `poly`.
        factor: of `step`, `exponential` and `plateau`.
        milestones: of `step`, as shares of all steps.
        patience: of `plateau`, in epochs.
    """

    name: Literal["constant", "cosine", "poly", "one_cycle", "step", "exponential", "plateau"]
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    power: Positive = 0.9
    factor: Annotated[float, Field(gt=0, lt=1)] | None = None
    milestones: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)] | None = None
    patience: Count | None = None

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "Schedule":
        needed = {"step": {"factor", "milestones"}, "exponential": {"factor"}, "plateau": {"factor", "patience"}}
        asked = needed.get(self.name, set())
        given = {key for key in ("factor", "milestones", "patience") if getattr(self, key) is not None}
        given |= {"power"} & self.model_fields_set
        lines = [f"{key}: is missing, {self.name} needs it" for key in sorted(asked - given)]
        without_use = given - asked - ({"power"} if self.name == "poly" else set())
        lines += [f"{key}: has no meaning with {self.name}" for key in sorted(without_use)]
        if lines:
            raise ValueError("; ".join(lines))
        return self


class EarlyStopping(_Section):
    """Stops when the validation mIoU has not risen by `min_delta` in `patience` epochs."""

    patience: Count
    min_delta: Share = 0.0


class Train(_Section):
    """One training.

    Attributes:
        experiment: the MLflow experiment that holds the run.
        seed: of the initial weights, the order of samples and every augmentation.
        device: `auto` takes the first GPU where there is one.
        num_threads: CPU threads. Weights are reproducible bit for bit for one number of threads only.
        model: the network, and what it begins with.
        freeze: parts of the network that stay as they are, by the names that `segpipe models NAME` gives (`encoder`);
            the running statistics of their batch norms too.
        freeze_batch_norm: parts of the network whose batch norms stay as they are, running statistics included: for
            small batches, with weights that were trained on larger ones (`[encoder]`).
        learning_rate_factors: for parts of the network, by name, the factor of their learning rate.
        loss: the terms whose weighted sum is minimised.
        auxiliary_weight: weight of the loss at each auxiliary head, where the model has any.
        optimizer: `sgd` and `rmsprop` (with `momentum`), `adam` or `adamw`; `adamw` decays weights apart from the
            gradient, the others as a part of it.
        learning_rate: the highest rate of the schedule.
        momentum: of `sgd` and `rmsprop`; null for 0.9 and 0.
        weight_decay: not applied to biases and normalisation layers.
        clip_gradient_norm: longer gradients are shortened to this length, that of all parameters together; null for
            none.
        schedule: the learning rate over the steps.
        epochs: passes over the training split.
        batch_size: samples that the network sees at once.
        accumulate_batches: batches whose mean gradient makes a step. Batch norm still sees each batch by itself.
        augment: what is varied in a sample.
        half_resolution_share: share of the epochs, from the first, in which images and masks are halved on the device:
            four times as many steps a minute while the network learns the coarse layout.
        ema_decay: of the moving average of the weights that is validated and kept; null for none.
        validate_every: epochs between two validations; the last epoch is always validated.
        early_stopping: null for none.
        num_overlays: validation samples whose predictions are drawn, at about eight epochs spread over the training.
    """

    experiment: Annotated[str, Field(pattern=r"^[\w ./-]+$")]
    seed: Annotated[int, Field(ge=0)] = 0
    device: Device = "auto"
    num_threads: Count
    model: ModelChoice
    freeze: list[str] = []
    freeze_batch_norm: list[str] = []
    learning_rate_factors: dict[str, Positive] = {}
    loss: Annotated[list[LossTerm], Field(min_length=1)]
    auxiliary_weight: NonNegative = 0.4
    optimizer: Literal["sgd", "rmsprop", "adam", "adamw"]
    learning_rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    weight_decay: NonNegative = 0.0
    clip_gradient_norm: Positive | None = None
    schedule: Schedule
    epochs: Count
    batch_size: Count
    accumulate_batches: Count = 1
    augment: Augment
    half_resolution_share: Share = 0.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    validate_every: Count = 1
    early_stopping: EarlyStopping | None = None
    num_overlays: Annotated[int, Field(ge=0)] = 4

    @model_validator(mode="after")
    def _has_a_use_for_its_keys(self) -> "Train":
        lines = []
        if self.momentum is not None and self.optimizer not in {"sgd", "rmsprop"}:
            lines.append(f"momentum: has no meaning with {self.optimizer}")
        if self.schedule.name == "plateau" and self.validate_every > (self.schedule.patience or 1):
            lines.append(
                "schedule.patience: must be at least validate_every epochs, or each validation lowers the rate"
            )
        if lines:
            raise ValueError("; ".join(lines))
        return self


class Evaluate(_Section):
    """How the splits kept out of training are measured.

    Attributes:
        device: as in `train`.
        num_threads: as in `train`.
        num_overlays: the samples of each split drawn in the report: evenly spread over it.
    """

    device: Device = "auto"
    num_threads: Count
    num_overlays: Annotated[int, Field(ge=0)] = 6


class Budget(_Section):
    """What a champion may cost; null for no limit.

    Attributes:
        latency_ms: median milliseconds for one validation image, as served, on the machine that registers.
        slowdown: how many times the champion's latency, measured beside it on the same machine.
        size_mb: of the weights' file, megabytes of 10^6 bytes.
    """

    latency_ms: Positive | None = None
    slowdown: Positive | None = None
    size_mb: Positive | None = None

    @property
    def needs_latency(self) -> bool:
        """Whether models have to be timed."""
        return self.latency_ms is not None or self.slowdown is not None


class Register(_Section):
    """When a model becomes the champion: where all of this holds on the validation split.

    Attributes:
        model_name: the name in the MLflow model registry.
        better: `interval` asks that the whole 95% interval of the difference in mIoU to the champion exceeds
            `min_delta`, so that chance cannot promote; `point` asks it of the difference alone, for small sets.
        min_delta: how much better a challenger must be.
        block_length: null takes whole groups as the units that chance draws (a single group is cut into blocks); a
            number cuts each group into blocks of at least so many consecutive images, for few and long sequences.
        max_class_drop: how much the IoU of any class may fall below the champion's.
        min_mean_iou: no model below this mIoU, not even the first.
        min_class_iou: the same for single classes, by name.
        budget: what a champion may cost.
        accepted_problems: kinds of warnings in the data set's report that do not stop a promotion, because somebody has
            looked at them.
    """

    model_name: Annotated[str, Field(pattern=r"^[\w .-]+$")]
    better: Literal["interval", "point"] = "interval"
    min_delta: Share = 0.0
    block_length: Count | None = None
    max_class_drop: Share = 1.0
    min_mean_iou: Share = 0.0
    min_class_iou: dict[str, Share] = {}
    budget: Budget = Budget()
    accepted_problems: list[KindOfFault] = []


class Config(_Section):
    """The whole of `params.yaml`; a section for each stage."""

    download: Download
    preprocess: Preprocess
    class_weights: ClassWeights
    train: Train
    evaluate: Evaluate
    register_: Register = Field(alias="register")


def _keys_at(data_path: list[str]) -> list[str]:
    """The right keys of the section that `data_path` leads to."""
    model: Any = Config
    for part in data_path:
        field = next((f for name, f in model.model_fields.items() if (f.alias or name) == part), None)
        kinds = [] if field is None else [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if model is None:
            return []
    return sorted(field.alias or name for name, field in model.model_fields.items())


def load_config(path: Path = PARAMS_FILE) -> Config:
    """Reads and checks a parameter file.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds unknown keys or impossible values: all in one message.
    """
    document = _read_yaml(path, f"must hold the sections {', '.join(_keys_at([]))}")
    return _validate(Config, document, path, _keys_at)


def load_remote(path: Path) -> Remote:
    """Reads and checks a file that says where a source lies.

    Raises:
        ConfigError: as `load_config`.
    """
    known = sorted(Remote.model_fields)
    document = _read_yaml(path, f"must hold {', '.join(known)}")
    return _validate(Remote, document, path, lambda _: known)


def locate(choice: SourceChoice) -> SourceChoice:
    """Gives a source with its place, where it names a file that says the place.

    Raises:
        ConfigError: the file is wrong, or says another path, which DVC would not watch.
    """
    path = Path(choice.source)
    if path.suffix != ".yaml":
        return choice
    remote = load_remote(path)
    if not remote.is_remote:
        raise ConfigError(f"{path}: source: {remote.source} is a path; name it in params.yaml, where DVC watches it")
    return choice.model_copy(update=dict(remote))


def _read_yaml(path: Path, expectation: str) -> dict[str, Any]:
    try:
        # YAML 1.2: `1e-3` is a number, `no` is a word.
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; run in the repository's root folder") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: {expectation}")
    return document


def _validate(model: type[T], document: dict[str, Any], path: Path, keys_at: Callable[[list[str]], list[str]]) -> T:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = describe_validation_error(error, keys_at=keys_at)
        raise ConfigError("\n".join(f"{path}: {line}" for line in lines)) from error
