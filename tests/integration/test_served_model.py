"""The champion as another program loads it: without our sources, without pickle, on images of any size."""

from pathlib import Path

import numpy as np
from integration.project import MODEL_NAME, Project, read_picture
from PIL import Image

SERVE = """
import sys

# As on a machine where segpipe is not installed: no editable install, no source tree.
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", repr(f)).lower()]
sys.path[:] = [p for p in sys.path if "__editable__" not in p and not p.endswith("/src")]
try:
    import segpipe
except ImportError:
    pass
else:
    raise SystemExit(f"segpipe is still there: {segpipe.__file__}")

import mlflow
import numpy as np

store, name, output = sys.argv[1:]
mlflow.set_tracking_uri(store)
model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
batches = np.load(f"{output}/batches.npz")
masks = {key: model.predict(batches[key]) for key in batches.files}
np.savez(f"{output}/masks.npz", **masks)
print(sys.modules["segpipe"].__file__)
"""


def test_the_champion_predicts_as_the_command_does_without_our_sources(finished: Project, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    elsewhere = tmp_path / "elsewhere"
    images = elsewhere / "images"
    images.mkdir(parents=True)
    shapes = {"one": (1, 40, 56, 3), "two": (2, 97, 131, 3)}
    batches = {key: rng.integers(0, 256, shape, np.uint8) for key, shape in shapes.items()}
    for key, batch in batches.items():
        for index, image in enumerate(batch):
            Image.fromarray(image).save(images / f"{key}{index}.png")
    np.savez(elsewhere / "batches.npz", **batches)

    (elsewhere / "serve.py").write_text(SERVE, encoding="utf-8")
    variables = {"PYTHONPATH": "", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    arguments = ("serve.py", f"sqlite:///{finished.root}/mlflow.db", MODEL_NAME, str(elsewhere))
    # A project of its own folder: nothing of the sources lies there.
    stranger = Project(elsewhere, variables)
    loaded_from = stranger.call("python", *arguments).strip().splitlines()[-1]
    assert not loaded_from.startswith((str(finished.root / "src"), str(Path(__file__).parents[2])))

    finished.call("segpipe", "predict", str(images), "--output", str(elsewhere / "predictions"))
    masks = np.load(elsewhere / "masks.npz")
    for key, batch in batches.items():
        assert masks[key].dtype == np.uint8
        assert masks[key].shape == batch.shape[:3]
        for index, mask in enumerate(masks[key]):
            expected = np.asarray(read_picture(elsewhere / f"predictions/masks/{key}{index}.png"))
            np.testing.assert_array_equal(mask, expected)
    assert len(np.unique(masks["two"])) > 1


def test_the_models_folder_holds_weights_and_code_but_no_pickle(original: Project) -> None:
    files = [path for path in (original.root / "mlruns").rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"MLmodel", "weights.safetensors", "model.json", "served_model.py"} <= names
    assert not [path for path in files if path.suffix in {".pkl", ".pickle", ".pt", ".pth"}]
    (description,) = [path for path in files if path.name == "MLmodel"]
    assert "uint8" in description.read_text(encoding="utf-8")
