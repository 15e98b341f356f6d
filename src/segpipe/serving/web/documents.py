"""The JSON of the service's answers, typed."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from segpipe.classes import ClassTable
from segpipe.serving.backends import Served
from segpipe.serving.following import Follower, Trouble
from segpipe.serving.roles import Role


@dataclass(frozen=True)
class AboutModel:
    """What a client may know of a model.

    Attributes:
        role: champion or challenger.
        name: of the registered model, or the folder.
        version: its number in the registry; None of a folder.
        weights_sha256: identifies its weights.
        backend: by what it predicts.
    """

    role: Role
    name: str
    version: str | None
    weights_sha256: str
    backend: str

    @staticmethod
    def of(served: Served) -> "AboutModel":
        """Describes a model in service."""
        return AboutModel(served.role, served.name, served.version, served.model.weights_sha256, served.backend)


@dataclass(frozen=True)
class AboutClass:
    """A class.

    Attributes:
        index: its value in a mask.
        name: of the class.
        color: red, green and blue, 0..255.
    """

    index: int
    name: str
    color: tuple[int, int, int]

    @staticmethod
    def list_of(classes: ClassTable) -> "tuple[AboutClass, ...]":
        """Describes each class of a table."""
        pairs = zip(classes.names, classes.colors, strict=True)
        return tuple(AboutClass(index, name, color) for index, (name, color) in enumerate(pairs))


@dataclass(frozen=True)
class ServedModel:
    """A model that answers, and what its masks mean.

    Attributes:
        model: which it is.
        classes: in the order of their indices.
    """

    model: AboutModel
    classes: tuple[AboutClass, ...]

    @staticmethod
    def of(served: Served) -> "ServedModel":
        """Describes a model in service."""
        return ServedModel(AboutModel.of(served), AboutClass.list_of(served.model.classes))


@dataclass(frozen=True)
class Allowed:
    """What a request may hold.

    Attributes:
        max_bytes: of its body.
        max_px: of a picture.
        max_files: of a request.
    """

    max_bytes: int
    max_px: int
    max_files: int


@dataclass(frozen=True)
class AboutService(ServedModel):
    """What a client needs to know to ask and to draw.

    Attributes:
        challenger: the second model; None where there is none now.
        limits: of a request.
    """

    challenger: ServedModel | None
    limits: Allowed


@dataclass(frozen=True)
class FollowedModel:
    """A model, and what stands against following its alias.

    Attributes:
        model: that answers; None where there is none now.
        trouble: why the newest version is not served; None where all is well.
    """

    model: AboutModel | None
    trouble: Trouble | None

    @staticmethod
    def of(follower: Follower) -> "FollowedModel":
        """Describes what a follower holds."""
        served = follower.served
        return FollowedModel(None if served is None else AboutModel.of(served), follower.trouble)


@dataclass(frozen=True)
class Readiness(FollowedModel):
    """Whether requests are answered, and why not by newer models.

    Attributes:
        status: `ready` or `not ready`.
        challenger: the same of the second model; None where the service has none.
    """

    status: Literal["ready", "not ready"]
    challenger: FollowedModel | None


@dataclass(frozen=True)
class RunLengths:
    """A class's pixels in COCO's compressed form, which `pycocotools.mask.decode` reads.

    Attributes:
        size: height and width, px.
        counts: the lengths of the runs, column by column.
    """

    size: tuple[int, int]
    counts: str


@dataclass(frozen=True)
class ClassInPicture(AboutClass):
    """A class, and what a picture has of it.

    Attributes:
        px: its pixels.
        share: of the picture's pixels, 0..1.
        mean_confidence: over its pixels, 0..1; None if it has none.
        rle: its pixels; None if it has none.
    """

    px: int
    share: float
    mean_confidence: float | None
    rle: RunLengths | None


@dataclass(frozen=True)
class PredictedPicture:
    """What was predicted of a picture.

    Attributes:
        name: of its file, as the client wrote it.
        width: px.
        height: px.
        notes: what was done to the values of its file.
        mean_confidence: over all pixels, 0..1.
        classes: of the model, in the order of their indices.
        polygons: the outlines of the classes as GeoJSON; None if they are not wanted.
    """

    name: str
    width: int
    height: int
    notes: tuple[str, ...]
    mean_confidence: float
    classes: tuple[ClassInPicture, ...]
    polygons: dict[str, object] | None = None

    def to_json(self) -> dict[str, Any]:
        """Gives the content of the JSON; without the key `polygons` if they are not wanted."""
        content = asdict(self)
        if self.polygons is None:
            del content["polygons"]
        return content
