"""The tags that segpipe writes to runs, versions, ledger and lock in MLflow, and functions that read them.

Everyone who may write to the registry can write any text into a tag, so reading never trusts its form. A constant has
the name of its tag. MLflow holds tags of every release, so a tag's name is never changed.
"""

import json
import math
from collections.abc import Mapping

# The lineage of a training; of a run, copied to its version
GIT_COMMIT = "segpipe.git_commit"  # the whole name of the commit
GIT_DIRTY = "segpipe.git_dirty"  # 'true' where files were changed and not committed
RECIPE = "segpipe.recipe"  # the recipe whose text params.yaml had, if it differed from the commit's params.yaml
EXPERIMENT = "segpipe.experiment"  # the name of the DVC experiment
DVC_LOCK_SHA256 = "segpipe.dvc_lock_sha256"  # of dvc.lock without the stage `register`
DVC_PREFIX = "segpipe.dvc."  # with a path: the hash by which DVC names it
ENVIRONMENT_PREFIX = "segpipe.environment."  # with a package, or a property of the machine: its value
LINEAGE_TAGS = (GIT_COMMIT, GIT_DIRTY, RECIPE, EXPERIMENT, DVC_LOCK_SHA256, DVC_PREFIX, ENVIRONMENT_PREFIX)

# What identifies a training; of a run
ATTEMPT = "segpipe.attempt"  # a random name of the training, the same after an interruption
SIGNATURE = "segpipe.signature"  # sha256 of everything that decides the weights
CREATED_MS = "segpipe.created_ms"  # when the run was created in MLflow, milliseconds since 1970
EVALUATION_FILES_SHA256 = "segpipe.evaluation_files_sha256"  # of the evaluation's files, as the run keeps them

# What identifies a version, and its scores; the weights' hash also of a run and of a logged model
WEIGHTS_SHA256 = "segpipe.weights_sha256"  # of weights.safetensors
WEIGHTS_BYTES = "segpipe.weights_bytes"  # the size of that file
MEGABYTE = 1e6  # bytes
EVALUATION_DIGEST = "segpipe.evaluation_digest"  # of the validation images, their labels and the metric
INFERENCE = "segpipe.inference"  # digest of how the model predicts; missing where it is the network alone
DATASET_DIGEST = "segpipe.dataset_digest"  # of the data set that it was trained on
CLASS_TABLE = "segpipe.class_table"  # digest of its classes
VAL_MEAN_IOU = "segpipe.val_mean_iou"  # on the validation split
VAL_MEAN_IOU_INTERVAL = "segpipe.val_mean_iou_interval"  # its 95% interval, 'LOW to HIGH'
VAL_IOU_PREFIX = "segpipe.val_iou."  # with a class: its IoU on the validation split

# The decision about a version, for MLflow's pages; segpipe itself reads decisions from the ledger
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
APPLIED = "segpipe.applied"  # 'true' where the alias was moved as the entry says
HEAD = "segpipe.head"  # number and digest of the last entry

# The lock: of the registered model NAME.lock
HOLDER = "segpipe.holder"  # user, machine and a random name of the process that holds it


def read_number(tags: Mapping[str, str], name: str) -> float | None:
    """Gives a tag's number; None where the tag is missing or holds no finite number."""
    return number_in(tags.get(name, ""))


def number_in(text: str) -> float | None:
    """Reads a finite number; None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def tags_below(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Gives the tags whose names begin with a prefix, with that prefix removed."""
    return {name.removeprefix(prefix): value for name, value in sorted(tags.items()) if name.startswith(prefix)}


def read_texts(tags: Mapping[str, str], name: str) -> list[str]:
    """Gives the texts of a tag that holds a JSON list; for any other content one line that says so."""
    try:
        texts = json.loads(tags.get(name, "[]"))
    except (ValueError, RecursionError):
        texts = None
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        return texts
    return [f"(tag {name} cannot be read: segpipe did not write it)"]
