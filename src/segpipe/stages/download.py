"""Brings the labelled images unchanged into `build/raw`, and writes a description of them."""

import hashlib
import json
from pathlib import Path

from segpipe.addresses import redact
from segpipe.choices import READERS
from segpipe.code import digest_of_code
from segpipe.config.download import Download, SourceChoice, locate
from segpipe.data.fetching.fetch import fetch, hash_files, source_name
from segpipe.data.sources.source import Source
from segpipe.documents import BroughtSource, SourceDescription
from segpipe.errors import SourceError
from segpipe.files import sha256_of_file, whole_folder, write_json
from segpipe.places import DOWNLOADS, RAW, READERS_FILE, SOURCE_FILE
from segpipe.stages.stage import run_stage


def main(settings: Download) -> None:
    """Writes `raw/<source>/` for each source, `raw/source.json` and `raw/readers.json`."""
    name = source_name(settings.source)
    if name in settings.join:
        raise SourceError(
            f"params.yaml: download.join.{name}: download.source has the same name; rename one of the two"
        )
    with whole_folder(RAW) as output:
        sources = {name: _bring(locate(settings), output / name)}
        for joined_name, joined in settings.join.items():
            sources[joined_name] = _bring_pinned(joined_name, joined, output / joined_name)
        sha256 = hash_files(output)
        description = SourceDescription(
            name=name,
            **vars(sources[name]),
            sources=sources,
            image_mapping=settings.images.mapping,
            sha256=sha256,
        )
        write_json(output / SOURCE_FILE, description.to_json())
        # `preprocess` reads too: it is stale where the code of a chosen reader changes, and depends on no other reader.
        # Not in `source.json`, which is part of the data set: equal data sets train nothing again.
        readers = {key: digest_of_code([READERS.file_of(brought.format)]) for key, brought in sources.items()}
        write_json(output / READERS_FILE, readers)


def _bring(choice: SourceChoice, output: Path) -> BroughtSource:
    """Fetches one source, and checks that its reader accepts it."""
    fetch(choice.source, choice.sha256, output, cache=DOWNLOADS, allow_http=choice.allow_http)
    try:
        source: Source = READERS.call(choice.format, choice.options, root=output)
    except SourceError as error:
        # The message names the source as the user wrote it, not the temporary folder.
        raise SourceError(str(error).replace(str(output), redact(choice.source))) from error
    return BroughtSource(
        format=choice.format,
        options=choice.options,
        licence=source.licence,
        classes=source.classes,
    )


def _bring_pinned(name: str, choice: SourceChoice, output: Path) -> BroughtSource:
    """Fetches a joined source; DVC does not watch it, so its content must have the sha256 in `params.yaml`."""
    if choice.is_remote:  # archives and public sets are verified while they are fetched
        return _bring(choice, output)
    description = _bring(choice.model_copy(update={"sha256": None}), output)
    path = Path(choice.source)
    content = json.dumps(hash_files(output)).encode()
    found = sha256_of_file(path) if path.is_file() else hashlib.sha256(content).hexdigest()
    if found != choice.sha256:
        written = "is missing" if choice.sha256 is None else f"is {choice.sha256}"
        raise SourceError(
            f"params.yaml: download.join.{name}.sha256: {written}, but the content of {choice.source} has {found}; if "
            f"this content is right, write `sha256: {found}`: a joined source is pinned by its content"
        )
    return description


if __name__ == "__main__":
    run_stage(main, Download, RAW)
