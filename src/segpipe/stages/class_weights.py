"""Weighs the classes by how rare they are in the training split."""

from segpipe.config.class_weights import ClassWeights
from segpipe.data.class_weights.class_weights import compute_class_weights
from segpipe.data.store import TRAIN, num_px_of_classes, read_manifest
from segpipe.documents import ClassWeighting
from segpipe.files import write_json
from segpipe.places import CLASS_WEIGHTS, DATASET
from segpipe.stages.stage import run_stage


def main(settings: ClassWeights) -> None:
    """Writes `class_weights.json`."""
    manifest, classes = read_manifest(DATASET)
    num_px = num_px_of_classes(manifest[manifest["split"] == TRAIN], classes)
    weights = compute_class_weights(settings.scheme, num_px, settings.cap, settings.options)
    share = num_px.sum(axis=0) / num_px.sum()
    names = classes.names
    weighting = ClassWeighting(
        **settings.model_dump(),
        share=dict(zip(names, share.tolist(), strict=True)),
        weights=dict(zip(names, weights.tolist(), strict=True)),
    )
    write_json(CLASS_WEIGHTS, weighting.to_json())


if __name__ == "__main__":
    run_stage(main, ClassWeights, CLASS_WEIGHTS)
