"""The few scores that a commit states: `metrics.json` in the project's root, which Git holds.

DVC keeps the full scores in its cache, which a fresh clone does not have; from Git it can always say how the scores of
two commits differ. The file is no out of a stage (an out that is not cached cannot be restored by the run-cache), so
`evaluate` and `register` write it when they run, and `segpipe publish` where DVC has restored them.
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
        metrics: all scores of each split; what is None there (the interval of too few images) is left out, and so are
            the values per class.
        path: of the file.
    """
    names = [CHIEF, *(f"{CHIEF}_{bound}" for bound in ("low", "high")), *list(list_labels())[1:]]
    document = {
        split: {name: round(scores[name], NUM_DIGITS) for name in names if scores.get(name) is not None}
        for split, scores in metrics.items()
    }
    write_json(path, document)
