"""Brings the labelled images in as they are found, and notes what was brought."""

from segpipe.config import Config
from segpipe.data.fetch import fetch, hash_files, source_name
from segpipe.data.source import Source
from segpipe.errors import SourceError
from segpipe.files import whole_folder, write_json
from segpipe.registry import READERS
from segpipe.stages.stage import RAW, run_stage


def main(config: Config) -> None:
    """Writes `raw/<source>/` and `raw/source.json`."""
    settings = config.download
    name = source_name(settings.source)
    with whole_folder(RAW) as output:
        fetch(settings.source, settings.sha256, output / name)
        try:
            source: Source = READERS.call(settings.format, root=output / name)
        except SourceError as error:
            # The user knows the source by its own name, not by the folder it was being copied to.
            raise SourceError(str(error).replace(str(output / name), settings.source)) from error
        description = {
            "name": name,
            "format": settings.format,
            "licence": source.licence,
            "classes": source.classes.to_json(),
            "sha256": hash_files(output / name),
        }
        write_json(output / "source.json", description)


if __name__ == "__main__":
    run_stage(main, RAW)
