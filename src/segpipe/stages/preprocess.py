"""Checks every sample and writes the training-ready store."""

import json
import logging
import shutil
from dataclasses import asdict

from segpipe.config import Config
from segpipe.data.build import build_store
from segpipe.data.source import Source
from segpipe.data.store import Store
from segpipe.errors import MAX_PROBLEMS_SHOWN, DataError, StoreError
from segpipe.files import whole_folder, write_json
from segpipe.registry import READERS
from segpipe.reports.dataset import write_dataset_report
from segpipe.stages.stage import DATASET, RAW, run_stage

SOURCE = "source.json"  # what `download` has noted
PROBLEMS = DATASET.with_name("problems.json")  # where there are too many for a message

log = logging.getLogger(__name__)


def main(config: Config) -> None:
    """Writes `dataset/`: pixels, manifest, report."""
    try:
        description = json.loads((RAW / SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{RAW}: holds no source: {error}; run `dvc repro download`") from error
    root = RAW / description["name"]
    source: Source = READERS.call(description["format"], root=root)
    with whole_folder(DATASET) as output:
        try:
            manifest, warnings = build_store(source, root, config.preprocess, output)
        except DataError as error:
            if len(error.problems) > MAX_PROBLEMS_SHOWN:
                write_json(PROBLEMS, [asdict(problem) for problem in error.problems])
                log.error("all %d problems: %s", len(error.problems), PROBLEMS)
            raise
        digest = Store.open(output).digest
        # The later stages know the data set alone, and their runs say which files it was made from.
        shutil.copyfile(RAW / SOURCE, output / SOURCE)
        write_dataset_report(output, manifest, source.classes, digest, source.licence, warnings)
    PROBLEMS.unlink(missing_ok=True)
    counts = ", ".join(f"{count} {split}" for split, count in manifest["split"].value_counts().items())
    log.info("%d samples: %s", len(manifest), counts)
    for warning in warnings[:MAX_PROBLEMS_SHOWN]:
        log.warning("warning: %s", warning)
    if len(warnings) > MAX_PROBLEMS_SHOWN:
        log.warning("and %d more warnings: %s", len(warnings) - MAX_PROBLEMS_SHOWN, DATASET / "report.html")


if __name__ == "__main__":
    run_stage(main, DATASET)
