"""`evaluate` of `params.yaml`: how models predict, and how they are measured."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from segpipe.config.section import Count, Device, NonNegative, Positive, Section

MIN_WINDOW_PX = 64
MAX_OVERLAP = 0.9


class Crf(Section):
    """The dense conditional random field that refines probabilities (`segpipe.inference.crf`).

    No key has a default, so that whatever decides a score is written in `params.yaml`.

    Attributes:
        iterations: of the mean field.
        appearance_weight: of the kernel over places and colours.
        appearance_px: its standard deviation in the image, pixels.
        appearance_color: its standard deviation in each colour, of values 0..255.
        smoothness_weight: of the kernel over places alone.
        smoothness_px: its standard deviation, pixels.
    """

    iterations: Count
    appearance_weight: NonNegative
    appearance_px: Positive
    appearance_color: Positive
    smoothness_weight: NonNegative
    smoothness_px: Positive


class Inference(Section):
    """How a trained network predicts: the same in the evaluation, in `segpipe predict` and in the served model.

    Exports hold scales and mirroring, and compute in float32.

    Attributes:
        window_px: side of the windows that slide over an image; null: images up to 2048 x 2048 pixels whole, larger
            ones by windows of 1536.
        overlap: share of a window that its neighbour covers too, at least; windows begin at multiples of 64 px, so
            windows of 64 px do not overlap.
        flip: averages with the prediction of the mirrored image.
        scales: averages over the image at these sizes, 1.0 for its own.
        crf: null for none; refines the whole image, after windows were blended.
        precision: the number format of the network's convolutions and matrix products. `bf16` takes half the time in
            many networks and more in others, on devices that compute with it (x86 CPUs with avx512_bf16 or amx_bf16,
            NVIDIA GPUs since Ampere); on others it is float32 too.
    """

    window_px: Annotated[int, Field(ge=MIN_WINDOW_PX)] | None = None
    overlap: Annotated[float, Field(ge=0, le=MAX_OVERLAP)] = 0.25
    flip: bool = False
    scales: list[Annotated[float, Field(ge=0.1, le=4)]] = Field(default_factory=lambda: [1.0], min_length=1)
    crf: Crf | None = None
    precision: Literal["float32", "bf16"] = "float32"

    @property
    def in_float32(self) -> "Inference":
        """The same in float32: what an export computes, and a device that computes no bfloat16."""
        return self.model_copy(update={"precision": "float32"})

    def to_json(self) -> dict[str, object]:
        """Gives the settings for a file, without `precision` where it is float32: as before there was this key."""
        return self.model_dump(mode="json", exclude={"precision"} if self.precision == "float32" else None)

    @property
    def loops(self) -> list[str]:
        """How the model predicts by loops over the image, which the graph of an export cannot hold; for messages."""
        by_windows = [] if self.window_px is None else [f"by windows (window_px: {self.window_px})"]
        return [*by_windows, *([] if self.crf is None else ["by a CRF (crf)"])]


class Evaluate(Section):
    """How the splits kept out of training are measured.

    Attributes:
        device: as in `train`.
        num_threads: as in `train`.
        inference: how the model predicts.
        num_overlays: how many samples of each split the report draws: of the lowest, middle and highest mIoU.
    """

    NAME: ClassVar[str] = "evaluate"

    device: Device = "auto"
    num_threads: Count
    inference: Inference = Inference()
    num_overlays: Annotated[int, Field(ge=0)] = 6
