"""The data set of a run as MLflow shows it: an input for each split, with name, schema and profile.

The inputs have the name of the source and different digests, so that MLflow can tell them apart, and a metric can name
the split that it was measured on.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.schema import TensorDatasetSchema
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.types.schema import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from segpipe.documents import DatasetReport, ReportedSplit, SourceDescription
from segpipe.errors import StoreError
from segpipe.places import REPORT_FILE, SOURCE_FILE

DIGEST_CHARS = 16  # MLflow's pages show a digest in full; 36 characters at most
MAX_NAME_CHARS = 500
WHOLE = "training"  # the context of the only input of runs of earlier releases


def describe_inputs(
    fallback_name: str, digest: str, in_channels: int, hashes: Mapping[str, str], files: Mapping[str, bytes]
) -> list[DatasetInput]:
    """Gives the inputs of a run: one for each split that has samples.

    Args:
        fallback_name: of the data set, where `files` holds no description of its sources.
        digest: of the whole data set.
        in_channels: of its images.
        hashes: by which DVC names the data.
        files: of the run's lineage, by name.
    """
    name, licence = _name_of(files, fallback_name)
    image, mask = (TensorSpec(np.dtype(np.uint8), shape) for shape in ((-1, -1, -1, in_channels), (-1, -1, -1)))
    schema = TensorDatasetSchema(features=Schema([image]), targets=Schema([mask]))
    source = CodeDatasetSource(tags=dict(hashes))
    inputs = []
    for split in _splits_of(files):
        data = MetaDataset(source, name=name, digest=split_digest(digest, split.split))
        profile = {
            "num_samples": split.num_samples,
            "num_groups": len(split.groups),
            "licence": licence,
            "share_of_labelled_pixels": split.shares,
        }
        dataset = Dataset(
            name,
            data.digest,
            source._get_source_type(),
            source.to_json(),
            schema=json.dumps(schema.to_dict()),
            profile=json.dumps(profile, ensure_ascii=False),
        )
        inputs.append(DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, split.split)]))
    if inputs:
        return inputs
    dataset = MetaDataset(source, name=name, digest=digest)._to_mlflow_entity()
    return [DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, WHOLE)])]


def split_digest(digest: str, split: str) -> str:
    """Gives the digest of a split: the beginning of the data set's, and the split's name."""
    return f"{digest[:DIGEST_CHARS]}-{split}"


def find_datasets(inputs: Sequence[DatasetInput]) -> dict[str, tuple[str, str]]:
    """Gives name and digest of a run's inputs by their contexts: `train`, `val`, `test`."""
    found: dict[str, tuple[str, str]] = {}
    for one in inputs:
        contexts = [tag.value for tag in one.tags if tag.key == MLFLOW_DATASET_CONTEXT]
        found |= {context: (str(one.dataset.name), str(one.dataset.digest)) for context in contexts}
    return found


def _name_of(files: Mapping[str, bytes], fallback_name: str) -> tuple[str, str | None]:
    """Gives the sources' names, joined by `+`, and the licence of the main one."""
    try:
        source = SourceDescription.parse(files.get(SOURCE_FILE, b""), SOURCE_FILE, "")
    except StoreError:  # a data set without sources was not read from files
        return fallback_name, None
    others = sorted(set(source.sources) - {source.name})
    return " + ".join([source.name, *others])[:MAX_NAME_CHARS], source.licence


def _splits_of(files: Mapping[str, bytes]) -> Sequence[ReportedSplit]:
    try:
        return DatasetReport.parse(files.get(REPORT_FILE, b""), REPORT_FILE, "").splits
    except StoreError:
        return ()
