"""`download` of `params.yaml`: where the labelled images come from."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from segpipe.choices import READERS
from segpipe.config.reading import read_yaml, validate
from segpipe.config.section import NameIn, Section
from segpipe.documents import ImageMapping
from segpipe.errors import ConfigError

REMOTE_SUFFIX = ".yaml"  # of a file that says where a source lies


class Remote(Section):
    """Where a source lies, and which content it must have.

    Attributes:
        source: a folder or an archive (.zip, .tar, .tar.gz, ...); an address of one (https://, s3://, gs://, ssh://);
            or `public:NAME`, a set that others publish (`segpipe data sources` lists them).
        sha256: of the archive; must be given for an archive at an address.
        allow_http: lets the archive come over plain http, where anyone in between can read the request.
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
            raise ValueError("sha256: must be given for an address, so that a changed content is noticed")
        return self


class SourceChoice(Remote):
    """One source of labelled images.

    Attributes:
        format: the layout in which the source keeps images and masks; a file of `segpipe/data/readers`.
        options: what the format's file defines.
    """

    format: Annotated[str, NameIn(READERS)]
    options: dict[str, Any] = Field(default_factory=dict)


Band = Annotated[int, Field(ge=1, le=1000)]
Percentile = Annotated[float, Field(ge=0, le=100)]
Byte = Annotated[int, Field(ge=0, le=255)]


class Images(Section):
    """How the values of image files become 8-bit RGB; the model keeps it, so that prediction reads images alike.

    Attributes:
        bands: numbers of the files' bands from 1, three for red, green and blue or one for grey: `[4, 3, 2]`. null
            takes the colours that a file declares; a file that declares none is then a problem.
        range: the values of deep images (16 bits, fractions) that become 0 and 255: `[0, 4095]`. Values of 8 bits
            stay as they are. null, without percentiles: a deep image is a problem, unless it is a DICOM file that
            states a window.
        percentiles: instead of `range`, percentiles of each image's own values: `[1.0, 99.0]`.
        background: RGB on which transparent images are composed; null ignores transparency and shows the colours
            that it hides.
    """

    bands: Annotated[list[Band], Field(min_length=1, max_length=3)] | None = None
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    percentiles: Annotated[list[Percentile], Field(min_length=2, max_length=2)] | None = None
    background: Annotated[list[Byte], Field(min_length=3, max_length=3)] | None = Field(
        default_factory=lambda: [255, 255, 255]
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Images":
        if self.bands is not None and len(self.bands) == 2:
            raise ValueError("bands: give one band (grey) or three (red, green, blue)")
        if self.range is not None and self.percentiles is not None:
            raise ValueError("percentiles: give range or percentiles, not both")
        for key in ("range", "percentiles"):
            limits = getattr(self, key)
            if limits is not None and limits[0] >= limits[1]:
                raise ValueError(f"{key}: the first value must be below the second (got {limits})")
        return self

    @property
    def mapping(self) -> ImageMapping:
        """The same for the model's description."""
        color = self.background
        return ImageMapping(
            bands=None if self.bands is None else tuple(self.bands),
            range=None if self.range is None else (self.range[0], self.range[1]),
            percentiles=None if self.percentiles is None else (self.percentiles[0], self.percentiles[1]),
            background=None if color is None else (color[0], color[1], color[2]),
        )


class Download(SourceChoice):
    """Where the labelled images come from.

    DVC watches `source`, so here it is a path: of a folder or an archive, or of a small .yaml file that says where the
    source lies (`source`, `sha256` and `allow_http` as in `Remote`). Joined sources are pinned by their `sha256`.

    Attributes:
        join: further sources by name; the ids of their samples begin with it (`NAME/ID`). A joined folder needs a
            `sha256` too; the message of `download` gives it.
        images: how the image files of all sources are read.
    """

    NAME: ClassVar[str] = "download"

    join: dict[Annotated[str, Field(pattern=r"^[\w-]+$")], SourceChoice] = Field(default_factory=dict)
    images: Images = Images()

    @model_validator(mode="after")
    def _can_be_watched(self) -> "Download":
        if self.is_remote:
            fix = "write {source: ADDRESS, sha256: ...} into a .yaml file and name that file"
            raise ValueError(f"source: must be a path, which DVC can watch; {fix}")
        if self.source.endswith(REMOTE_SUFFIX):
            given = {"sha256": self.sha256, "allow_http": "true" if self.allow_http else None}
            lines = [
                f"{key}: has no effect here; write `{key}: {value}` into {self.source}"
                for key, value in given.items()
                if value is not None
            ]
            if lines:
                raise ValueError("; ".join(lines))
        return self


def load_remote(path: Path) -> Remote:
    """Reads and checks a file that says where a source lies.

    Raises:
        ConfigError: as `load_section`.
    """
    document = read_yaml(path, f"must hold {', '.join(sorted(Remote.model_fields))}")
    return validate(Remote, document, f"{path}: ")


def locate(choice: SourceChoice) -> SourceChoice:
    """Gives a source with its address, if it names a .yaml file that holds the address.

    Raises:
        ConfigError: the file is wrong, or holds a path, which DVC would not watch.
    """
    if not choice.source.endswith(REMOTE_SUFFIX):
        return choice
    path = Path(choice.source)
    remote = load_remote(path)
    if not remote.is_remote:
        raise ConfigError(f"{path}: source: {remote.source} is a path; name it in params.yaml, where DVC watches it")
    return choice.model_copy(update=dict(remote))
