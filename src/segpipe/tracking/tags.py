"""The tags that segpipe writes to runs, versions, ledger and lock in MLflow; and how they are read: with care.

Whoever may write to the registry may write anything there. A constant is called as its tag; MLflow holds tags of every
release, so a name is never changed.
"""

import json
import math
from collections.abc import Mapping

# Where a training came from; of a run, copied to its version
GIT_COMMIT = "segpipe.git_commit"  # the whole name of the commit
GIT_DIRTY = "segpipe.git_dirty"  # 'true' where files were changed and not committed
RECIPE = "segpipe.recipe"  # the recipe that stood in params.yaml, if it was not the commit's own
EXPERIMENT = "segpipe.experiment"  # the name of the DVC experiment
DVC_LOCK_SHA256 = "segpipe.dvc_lock_sha256"  # of dvc.lock without the stage `register`
DVC_PREFIX = "segpipe.dvc."  # with a path: the hash by which DVC names it
ENVIRONMENT_PREFIX = "segpipe.environment."  # with a package, or a part of the machine: its version
LINEAGE_TAGS = (GIT_COMMIT, GIT_DIRTY, RECIPE, EXPERIMENT, DVC_LOCK_SHA256, DVC_PREFIX, ENVIRONMENT_PREFIX)

# What identifies a training; of a run
ATTEMPT = "segpipe.attempt"  # the training's own name, the same after an interruption
SIGNATURE = "segpipe.signature"  # sha256 of all that decides the weights
CREATED_MS = "segpipe.created_ms"  # when MLflow was told of the run, milliseconds since 1970
EVALUATION_FILES_SHA256 = "segpipe.evaluation_files_sha256"  # of the evaluation's files, as the run keeps them

# What a version is; the weights' hash also of a run and of a logged model
WEIGHTS_SHA256 = "segpipe.weights_sha256"  # of weights.safetensors
WEIGHTS_BYTES = "segpipe.weights_bytes"  # the size of that file
EVALUATION_DIGEST = "segpipe.evaluation_digest"  # of the validation images, their labels and the metric
DATASET_DIGEST = "segpipe.dataset_digest"  # of the data set that it was trained on
CLASS_TABLE = "segpipe.class_table"  # digest of its classes
VAL_MEAN_IOU = "segpipe.val_mean_iou"  # on the validation split
VAL_MEAN_IOU_INTERVAL = "segpipe.val_mean_iou_interval"  # its 95% interval, 'LOW to HIGH'
VAL_IOU_PREFIX = "segpipe.val_iou."  # with a class: its IoU on the validation split

# What was decided about a version, for MLflow's pages: the ledger is what counts
DECISION = "segpipe.decision"  # 'promoted' or 'not promoted'
REASONS = "segpipe.reasons"  # a JSON list of sentences
COMPARED_WITH = "segpipe.compared_with"  # the version that was champion then
DELTA = "segpipe.delta"  # how much higher the mIoU is than the champion's
DELTA_INTERVAL = "segpipe.delta_interval"  # its 95% interval, 'LOW to HIGH'
PROBABILITY_BETTER = "segpipe.probability_better"  # 0..1
LEDGER_ENTRY = "segpipe.ledger_entry"  # time and action of the entry that these tags show

# The ledger: of a version of NAME.ledger, the last of the registered model NAME.ledger
ENTRY = "segpipe.entry"  # the entry as JSON
DIGEST = "segpipe.digest"  # sha256 of that text
APPLIED = "segpipe.applied"  # 'true' where the alias has followed
HEAD = "segpipe.head"  # number and digest of the last entry

# The lock: of the registered model NAME.lock
HOLDER = "segpipe.holder"  # who holds it


def read_number(tags: Mapping[str, str], name: str) -> float | None:
    """Gives a tag's number; None where there is no such tag, or it is no finite number."""
    return number_in(tags.get(name, ""))


def number_in(text: str) -> float | None:
    """Gives the finite number that a text is; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def tags_below(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Gives the tags whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in sorted(tags.items()) if name.startswith(prefix)}


def read_texts(tags: Mapping[str, str], name: str) -> list[str]:
    """Gives the texts of a tag that holds a JSON list; of anything else, one line that says so."""
    try:
        texts = json.loads(tags.get(name, "[]"))
    except (ValueError, RecursionError):
        texts = None
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        return texts
    return [f"(tag {name} cannot be read: it is not what segpipe writes)"]
