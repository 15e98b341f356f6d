"""`train` of `params.yaml`: the network, what is minimised, and how."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from segpipe.choices import LOSSES, MODELS
from segpipe.config.augment import Augment
from segpipe.config.section import Choice, Count, Device, NameIn, NonNegative, Positive, Section, Share

REGISTERED = "models:/"  # begins the address of a model in MLflow's registry
DEFAULT_POWER = 0.9
CHOSEN_ON_DEVICE = ("micro_batch", "precision")  # keys for whose `auto` a training records what it has chosen


class ModelChoice(Choice):
    """The network, and its first weights.

    Attributes:
        name: a file of `segpipe/models`; `segpipe models` lists them.
        in_channels: 3 takes the images as they are; 1 takes their mean over the colours, for images that are grey.
        weights: `none`: random. `imagenet`: the encoder as torchvision, timm or smp publish it. `models:/NAME@ALIAS`
            or `models:/NAME/VERSION`: a registered model, to be trained further; DVC does not notice a moved alias.
            Otherwise the path of a file (.safetensors, or .pth that holds only tensors). The first layer is adapted to
            another number of channels; the head begins with random weights if the classes differ.
        sha256: of the file; must be given for a path, so that a changed content is noticed.
    """

    name: Annotated[str, NameIn(MODELS)]
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
            lines.append(f"sha256: must be given for weights from a file ({self.weights}); otherwise: {others}")
        if not self.is_from_file and self.sha256 is not None:
            lines.append("sha256: has an effect only if weights is a path")
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

    name: Annotated[str, NameIn(LOSSES)]
    weight: Positive = 1.0


class Schedule(Section):
    """The learning rate over the steps of a training.

    Attributes:
        name: after a linear warm-up `constant`, `cosine`, `poly`, `step` (times `factor` at each of the `milestones`),
            `exponential` (times `factor` each epoch) or `plateau` (times `factor` if the validation mIoU has not risen
            in `patience` epochs); or `one_cycle`, whose rise is its warm-up.
        warmup_share: share of all steps in which the rate rises.
        power: exponent of `poly`; the others do not use it, leave it at 0.9.
        factor: of `step`, `exponential` and `plateau`.
        milestones: of `step`, as shares of all steps.
        patience: of `plateau`, in epochs.
    """

    name: Literal["constant", "cosine", "poly", "one_cycle", "step", "exponential", "plateau"]
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    power: Positive = DEFAULT_POWER
    factor: Annotated[float, Field(gt=0, lt=1)] | None = None
    milestones: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)] | None = None
    patience: Count | None = None

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "Schedule":
        needed = {"step": {"factor", "milestones"}, "exponential": {"factor"}, "plateau": {"factor", "patience"}}
        asked = needed.get(self.name, set())
        given = {key for key in ("factor", "milestones", "patience") if getattr(self, key) is not None}
        given |= {"power"} if self.power != DEFAULT_POWER else set()  # files state its default
        lines = [f"{key}: is missing, {self.name} needs it" for key in sorted(asked - given)]
        without_use = given - asked - ({"power"} if self.name == "poly" else set())
        lines += [f"{key}: has no meaning with {self.name}" for key in sorted(without_use)]
        if lines:
            raise ValueError("; ".join(lines))
        return self


class EarlyStopping(Section):
    """Stops when the validation mIoU has not risen by `min_delta` in `patience` epochs."""

    patience: Count
    min_delta: Share


class Train(Section):
    """One training.

    Attributes:
        experiment: the MLflow experiment that holds the run.
        seed: of the initial weights, the order of samples and every augmentation.
        device: `auto` takes the first GPU, or the CPU if there is none.
        num_threads: CPU threads. Weights are reproducible bit for bit only with the same number of threads.
        precision: the number format of convolutions and matrix products. `bf16` makes many networks two to three times
            as fast on a GPU or a CPU that has it, and others no faster (docs/performance.md); `fp16` is for older GPUs;
            `tf32` is for networks of matrix products on GPUs since Ampere, whose convolutions torch computes so anyway;
            `auto` takes a few steps in each and remembers the fastest for this device. `model.json` says the choice.
        deterministic: `strict`: the same training gives the same weights, bit for bit, on the same model of CPU or GPU.
            `anywhere`: on each x86-64 CPU with AVX2, in float32, for more time (docs/performance.md), and the stage
            `evaluate` gives the same scores. `fast`: torch may choose kernels by their speed, on a GPU also such whose
            sums depend on timing; a training that goes on or is rebuilt then ends with other weights.
        model: the network, and its first weights.
        freeze: parts of the network that stay as they are, by the names that `segpipe models NAME` gives (`encoder`);
            so do the running statistics of their batch norms.
        freeze_batch_norm: parts of the network whose batch norms stay as they are, running statistics included: for
            small batches, with weights that were trained on larger ones (`[encoder]`).
        recompute: parts of the network, by name (`[encoder.layer1, encoder.layer2]`), that keep no activations for the
            backward pass and compute them again there: less memory, more time, the same weights bit for bit. A part
            that holds most of the network saves little, several smaller ones save more.
        learning_rate_factors: for parts of the network, by name, the factor of their learning rate.
        loss: the terms whose weighted sum is minimised.
        auxiliary_weight: weight of the loss at each auxiliary head, if the model has any.
        optimizer: `sgd` and `rmsprop` (with `momentum`), `adam` or `adamw`; `adamw` decays the weights separately from
            the gradient, the others add the decay to the gradient.
        learning_rate: the highest rate of the schedule.
        momentum: of `sgd` and `rmsprop`; null for 0.9 and 0.
        weight_decay: of the matrices and kernels of layers; not applied to biases, normalisation layers, position
            embeddings, class tokens and tables of relative positions.
        clip_gradient_norm: greatest norm of the gradient of all parameters together; a longer one is shortened to it;
            null for no limit.
        schedule: the learning rate over the steps.
        epochs: passes over the training split.
        batch_size: samples of a batch. Several processes share them.
        micro_batch: samples that a process's network sees at once; null for its whole part of the batch. The gradients
            of a batch are added up and equal those of the whole (but see `accumulate_batches`), for less memory. `auto`
            finds on a GPU the most that fits, and remembers it for this device; `model.json` says the choice. If memory
            becomes short later, a training of one process halves the number, says so (in `model.json` too) and goes on;
            a rebuild takes the lower number from the start and has other bits. Several processes end with a message.
        accumulate_batches: batches whose gradients make one step, as in one large batch. Batch norm, and losses over
            all pixels of a batch (Dice, Tversky, Lovasz-softmax, hard pixels), still use each batch separately; of
            several processes, each batch norm uses the whole batch, and such a loss the part of each process.
        augment: what is varied in a sample.
        half_resolution_share: share of the epochs, from the first, in which images and masks are halved on the device:
            four times as many steps a minute while the network learns the coarse layout.
        ema_decay: of the moving average of the weights that is validated and kept; null for none.
        validate_every: epochs between two validations; the last epoch is always validated.
        early_stopping: null for none.
        num_overlays: validation samples whose predictions are drawn, at about eight epochs spread over the training.
        checkpoint_minutes: time between two checkpoints, the most that a killed training loses; null for one checkpoint
            each epoch. It changes no weights, so a training may continue with another value. docs/operations.md says
            what a checkpoint costs.
    """

    NAME: ClassVar[str] = "train"

    experiment: Annotated[str, Field(pattern=r"^[\w ./-]+$")]
    seed: Annotated[int, Field(ge=0)] = 0
    device: Device = "auto"
    num_threads: Count
    precision: Literal["float32", "tf32", "bf16", "fp16", "auto"] = "float32"
    deterministic: Literal["anywhere", "strict", "fast"] = "strict"
    model: ModelChoice
    freeze: list[str] = Field(default_factory=list)
    freeze_batch_norm: list[str] = Field(default_factory=list)
    recompute: list[str] = Field(default_factory=list)
    learning_rate_factors: dict[str, Positive] = Field(default_factory=dict)
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
    micro_batch: Count | Literal["auto"] | None = None
    accumulate_batches: Count = 1
    augment: Augment
    half_resolution_share: Share = 0.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    validate_every: Count = 1
    early_stopping: EarlyStopping | None = None
    num_overlays: Annotated[int, Field(ge=0)] = 4
    checkpoint_minutes: Positive | None = 5.0

    def decisive(self) -> dict[str, Any]:
        """Gives the keys that decide the weights, as plain values: they identify a training."""
        return self.model_dump(mode="json", exclude={"checkpoint_minutes", "recompute"})

    def describes(self, recorded: Mapping[str, Any]) -> bool:
        """Whether these are the settings of a training.

        Args:
            recorded: what `decisive` gave in the training, with its choice for each `auto` of `CHOSEN_ON_DEVICE`.
        """
        own = self.decisive()
        chosen = {key: recorded.get(key) for key in CHOSEN_ON_DEVICE if own[key] == "auto"}
        return {**own, **chosen} == recorded

    @model_validator(mode="after")
    def _has_a_use_for_its_keys(self) -> "Train":
        lines = []
        if self.momentum is not None and self.optimizer not in {"sgd", "rmsprop"}:
            lines.append(f"momentum: has no meaning with {self.optimizer}")
        if self.deterministic == "anywhere" and self.precision != "float32":
            lines.append(f"precision: must be float32 with deterministic: anywhere (got {self.precision})")
        if self.deterministic == "anywhere" and self.device not in {"auto", "cpu"}:
            lines.append(f"device: must be cpu with deterministic: anywhere (got {self.device})")
        if self.schedule.name == "plateau" and self.validate_every > (self.schedule.patience or 1):
            lines.append(
                "schedule.patience: must be at least validate_every epochs, or each validation lowers the rate"
            )
        if lines:
            raise ValueError("; ".join(lines))
        return self
