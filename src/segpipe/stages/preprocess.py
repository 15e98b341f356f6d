"""Checks every sample and writes the training-ready store."""

import logging
import shutil
from pathlib import Path

from segpipe.choices import READERS
from segpipe.config.preprocess import Preprocess
from segpipe.data.building.advice import advise
from segpipe.data.building.build import Built, build_store
from segpipe.data.sources.joining import join_sources
from segpipe.data.sources.source import Source
from segpipe.data.store import digest_of
from segpipe.documents import SourceDescription
from segpipe.errors import MAX_PROBLEMS_SHOWN, DataError, fold_problems
from segpipe.files import whole_folder
from segpipe.places import DATASET, LAST_DATASET, PROBLEMS_PAGE, RAW, SOURCE_FILE
from segpipe.reports.dataset import write_dataset_report
from segpipe.reports.problems import write_check_report
from segpipe.stages.stage import run_stage

log = logging.getLogger(__name__)


def main(settings: Preprocess) -> None:
    """Writes `dataset/`: pixels, manifest, report; or a page that shows why the samples cannot be used."""
    description = SourceDescription.read(RAW / SOURCE_FILE, "run `dvc repro download`")
    root = RAW / description.name
    sha256 = {RAW / name: content for name, content in description.sha256.items()}
    source = join_sources(_read_sources(description), settings.classes, settings.ignore)
    with whole_folder(DATASET) as output:
        built = build_store(source, root, settings, output, sha256, LAST_DATASET, description.image_mapping)
        _refuse_problems(built, source, description.name)
        # The later stages read only the data set, and their runs record the files that it was made from.
        shutil.copyfile(RAW / SOURCE_FILE, output / SOURCE_FILE)
        digest = digest_of(built.manifest, source.classes)
        write_dataset_report(
            output, built.manifest, source.classes, digest, source.licence, built.findings, built.num_skipped
        )
    shutil.rmtree(PROBLEMS_PAGE, ignore_errors=True)
    _log_summary(built)


def _read_sources(description: SourceDescription) -> dict[str, tuple[Path, Source]]:
    """Reads the sources that `download` brought, the main one first and without a name."""
    sources = {}
    for name, choice in description.sources.items():
        source: Source = READERS.call(choice.format, choice.options, root=RAW / name)
        sources["" if name == description.name else name] = (RAW / name, source)
    return sources


def _refuse_problems(built: Built, source: Source, name: str) -> None:
    """Ends the stage if a problem forbids training, and writes a page that shows the problems in pictures."""
    if problems := built.of_action("fail"):
        with whole_folder(PROBLEMS_PAGE) as output:
            write_check_report(output, name, built.findings, len(source.samples), len(built.manifest))
        log.error("all problems, with pictures: %s", PROBLEMS_PAGE / "report.html")
        raise DataError(problems, advise(source, problems))


def _log_summary(built: Built) -> None:
    counts = ", ".join(f"{count} {split}" for split, count in built.manifest["split"].value_counts().items())
    log.info("%d samples: %s; %d of them decoded again", len(built.manifest), counts, built.num_decoded)
    for action, title in (("skip", "left out"), ("warn", "warning")):
        folded = fold_problems(built.of_action(action))
        for line, _ in folded[:MAX_PROBLEMS_SHOWN]:
            log.warning("%s: %s", title, line)
        if len(folded) > MAX_PROBLEMS_SHOWN:
            rest = sum(len(equal) for _, equal in folded[MAX_PROBLEMS_SHOWN:])
            log.warning("%s: and %d more: %s", title, rest, DATASET / "report.html")


if __name__ == "__main__":
    run_stage(main, Preprocess, DATASET)
