"""The few scores that Git holds with each commit: `metrics.json` in the project's root.

DVC keeps the full scores in its cache, which a fresh clone does not have. With this file `dvc metrics diff` can compare
two commits in every clone. The file is not an out of a stage, because DVC's run-cache cannot restore an out that is not
cached. So `evaluate` and `register` write it when they run, and `segpipe publish` where DVC has restored their outs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segpipe.files import write_json
from segpipe.metrics.parts.scores import CHIEF, list_labels
from segpipe.places import HEADLINE

NUM_DIGITS = 4


def write_headline(metrics: Mapping[str, Mapping[str, Any]], path: Path = HEADLINE) -> None:
    """Writes the file.

    Args:
        metrics: all scores of each split. Values per class and None (the interval of too few images) are left out.
        path: the file to write.
    """
    names = [CHIEF, *(f"{CHIEF}_{bound}" for bound in ("low", "high")), *list(list_labels())[1:]]
    document = {
        split: {name: round(scores[name], NUM_DIGITS) for name in names if scores.get(name) is not None}
        for split, scores in metrics.items()
    }
    write_json(path, document)
