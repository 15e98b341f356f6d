"""The paths of a project's folders and files, relative to its root, and the names of the files in them."""

from pathlib import Path

# What a person writes
GRAPH_FILE = Path("dvc.yaml")
PARAMS_FILE = Path("params.yaml")
RECIPES = Path("recipes")  # complete parameter files
DATA = Path("data")  # the labelled images of this repository
DATA_FILE = Path("data.dvc")  # by which DVC watches them

# What stages write and Git holds
LOCK_FILE = Path("dvc.lock")
HEADLINE = Path("metrics.json")
RESULT_FILES = (LOCK_FILE.name, HEADLINE.name)

# The outs of the stages
BUILD = Path("build")
RAW = BUILD / "raw"
DATASET = BUILD / "dataset"
CLASS_WEIGHTS = BUILD / "class_weights.json"
MODEL = BUILD / "model"
EVALUATION = BUILD / "evaluation"
REGISTRATION = BUILD / "registration.json"

# The files in them
SOURCE_FILE = "source.json"  # in RAW and DATASET: what `download` brought
READERS_FILE = "readers.json"  # in RAW: digests of the code that reads the sources
REPORT_FILE = "report.json"  # in DATASET: what was found in the samples
MODEL_FILE = "model.json"  # in MODEL: all that decided the weights, and their sha256
WEIGHTS_FILE = "weights.safetensors"  # in MODEL
METRICS_FILE = "metrics.json"  # in EVALUATION: the scores of each split
EVALUATION_FILE = "evaluation.json"  # in EVALUATION: what was measured on what
REPORT_PAGE = "report.html"  # in DATASET and EVALUATION
INFERENCE_FILE = "inference.json"  # in EVALUATION, and next to the weights in the registry: how the model predicts
PER_IMAGE_FILE = "per_image.parquet"  # in EVALUATION: a row an image, in the order of the evidence
EVIDENCE_FOLDER = "evidence"  # in EVALUATION: the counts of each image, a file a kind
CONFUSION_FILE = f"{EVIDENCE_FOLDER}/confusion.parquet"
TABLES_FOLDER = "tables"  # in EVALUATION: slices, classes, reliability and others, a file a table

EXPORTS = "exports"  # in a registered version: a folder for each format, which holds the export and EXPORT_FILE
EXPORT_FILE = "export.json"  # in an export: what was exported, and how well it agrees with the network

# Not outs, because DVC deletes outs before a stage runs
CHECKPOINTS = Path("checkpoints")  # a folder for each training
TRAINING_FILE = "training.json"  # in a folder of checkpoints: the training that they belong to
CACHE = Path(".cache")  # makes the next run faster; may be deleted
DOWNLOADS = CACHE / "downloads"
LAST_DATASET = CACHE / "dataset"
MEASURED = CACHE / "measured.json"  # what was fastest on this device
REHEARSED = CACHE / "rehearsed.json"  # trainings that `segpipe check` has built
LOCKS = Path(".locks")
CLONES = Path("clones")  # of the revisions that are retrained

# What a person looks at
PAGES = Path("pages")
PROBLEMS_PAGE = PAGES / "preprocess"  # why there is no data set
CHECK_PAGE = PAGES / "check"
AUGMENTATIONS_PICTURE = PAGES / "augmentations.png"

# MLflow's store, if no server is configured
MLFLOW_STORE = Path("mlflow.db")
MLFLOW_ARTIFACTS = Path("mlruns")

STAGE_MODULES = "segpipe.stages."  # what the name of a stage's module begins with
RANK = "rank"  # a process of a training that several share; the train stage starts it

# Environment variables: where a training runs (segpipe.training.processes.launching).
PROCESSES, MACHINES = "SEGPIPE_PROCESSES", "SEGPIPE_MACHINES"
MACHINE, MEETING = "SEGPIPE_MACHINE", "SEGPIPE_MEETING"
