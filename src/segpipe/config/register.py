"""`register` of `params.yaml`: when a model becomes the champion."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from segpipe.config.section import Count, KindOfFault, Positive, Section, Share

ExportFormat = Literal["onnx", "openvino", "torch"]
TORCH = "torch"
OWN_SUFFIXES = (".lock", ".ledger")  # of what the registry keeps about a model


class Budget(Section):
    """What a champion may cost; null for no limit.

    Attributes:
        backend: by what models predict while they are timed, as in `segpipe serve --backend`. `torch`: the network as
            MLflow's model serves it. `onnx`, `openvino`: the export of that format; `register.export` has to name it.
        latency_ms: median milliseconds for one validation image, as served, on the machine that registers.
        slowdown: greatest ratio of its latency to the champion's, both measured on the same machine.
        size_mb: of the weights' file, megabytes of 10^6 bytes.
    """

    backend: Literal["torch", "onnx", "openvino"] = "torch"
    latency_ms: Positive | None = None
    slowdown: Positive | None = None
    size_mb: Positive | None = None

    @property
    def needs_latency(self) -> bool:
        """Whether models have to be timed."""
        return self.latency_ms is not None or self.slowdown is not None

    @property
    def timed_export(self) -> ExportFormat | None:
        """The format of the exports that have to be timed; None where the networks are, or nothing is."""
        return None if self.backend == TORCH or not self.needs_latency else self.backend


class Register(Section):
    """When a model becomes the champion: if all of this holds on the validation split.

    Attributes:
        model_name: the name in the MLflow model registry.
        better: `interval`: the whole 95% interval of the difference in mIoU to the champion must exceed `min_delta`,
            so that a model is not promoted by chance. `point`: only the difference itself must, for small sets.
        min_delta: how much better a challenger must be.
        block_length: what the bootstrap of the interval draws. `groups`: whole groups (a single group is cut into
            blocks). A number: blocks of at least so many consecutive images of a group, for few and long sequences.
            Not null, because DVC cannot depend on a single key that is null.
        max_class_drop: how much the IoU of any class may fall below the champion's.
        max_slice_drop: how much the mIoU of any slice (the images of one camera, weather, site or group) may fall below
            the champion's; null: slices are only reported.
        min_mean_iou: no model below this mIoU, not even the first.
        min_class_iou: the same for single classes, by name.
        budget: what a champion may cost.
        export: formats in which the model is exported before it is registered; the exports are kept with the version.
        accepted_problems: kinds of warnings in the data set's report that do not stop a promotion, because a person has
            checked them.
    """

    NAME: ClassVar[str] = "register"

    model_name: Annotated[str, Field(pattern=r"^[\w .-]+$")]
    better: Literal["interval", "point"] = "interval"
    min_delta: Share = 0.0
    block_length: Count | Literal["groups"] = "groups"
    max_class_drop: Share = 1.0
    max_slice_drop: Share | None = None
    min_mean_iou: Share = 0.0
    min_class_iou: dict[str, Share] = Field(default_factory=dict)
    budget: Budget = Budget()
    export: list[ExportFormat] = Field(default_factory=list)
    accepted_problems: list[KindOfFault] = Field(default_factory=list)

    @field_validator("model_name")
    @classmethod
    def _is_no_name_of_ours(cls, name: str) -> str:
        if name.endswith(OWN_SUFFIXES):
            raise ValueError(
                f"must not end in {' or '.join(OWN_SUFFIXES)}, as the names of a model's lock and ledger do"
            )
        return name

    @model_validator(mode="after")
    def _exports_fit(self) -> "Register":
        if len(set(self.export)) < len(self.export):
            raise ValueError(f"export: names a format twice (got {', '.join(self.export)})")
        backend = self.budget.backend
        if backend != TORCH and backend not in self.export:
            formats = ", ".join([*self.export, backend])
            raise ValueError(f"budget.backend: {backend} needs the export of that format; write `export: [{formats}]`")
        return self

    @property
    def num_block_images(self) -> int | None:
        """The least number of images in a block; None for whole groups."""
        return None if self.block_length == "groups" else self.block_length
