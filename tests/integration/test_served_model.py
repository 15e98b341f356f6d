"""The champion as another program loads it: without our sources, without pickle, on images of any size."""

import base64
import io
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from daemons import find_free_ports
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
import pandas as pd

name, output = sys.argv[1:]
model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
batches = np.load(f"{output}/batches.npz")
masks = {key: model.predict(batches[key]) for key in batches.files}
for key in batches.files:
    contents = [open(f"{output}/images/{key}{index}.png", "rb").read() for index in range(len(batches[key]))]
    for index, content in enumerate(model.predict(pd.DataFrame({"image": contents}))):
        open(f"{output}/{key}{index}.mask.png", "wb").write(content)
np.savez(f"{output}/masks.npz", **masks)
print(sys.modules["segpipe"].__file__)
"""


STARTUP_SECONDS = 120
CURL_OF_DOCUMENT = """\
(printf '{"dataframe_records": [{"image": "'; base64 < street.jpg | tr -d '\\n'; printf '"}]}') | \\
  curl -sS -H 'Content-Type: application/json' --data-binary @- http://127.0.0.1:5001/invocations | \\
  python -c "import base64, json, sys; \\
    open('mask.png', 'wb').write(base64.b64decode(json.load(sys.stdin)['predictions'][0]))"
"""


def address_of(project: Project) -> dict[str, str]:
    """The one variable that another folder needs: without it, MLflow makes an empty store where it is started."""
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{project.root}/mlflow.db"}


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
    variables = {"PYTHONPATH": "", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", **address_of(finished)}
    arguments = ("serve.py", MODEL_NAME, str(elsewhere))
    # A project of its own folder: nothing of the sources lies there.
    stranger = Project(elsewhere, variables)
    loaded_from = stranger.call("python", *arguments).strip().splitlines()[-1]
    assert not loaded_from.startswith((str(finished.root / "src"), str(Path(__file__).parents[2])))
    assert not (elsewhere / "mlflow.db").exists(), "the address of the store was not taken from the environment"

    finished.call("segpipe", "predict", str(images), "--output", str(elsewhere / "predictions"))
    masks = np.load(elsewhere / "masks.npz")
    for key, batch in batches.items():
        assert masks[key].dtype == np.uint8
        assert masks[key].shape == batch.shape[:3]
        for index, mask in enumerate(masks[key]):
            expected = np.asarray(read_picture(elsewhere / f"predictions/masks/{key}{index}.png"))
            np.testing.assert_array_equal(mask, expected)
            np.testing.assert_array_equal(np.asarray(read_picture(elsewhere / f"{key}{index}.mask.png")), expected)
    assert len(np.unique(masks["two"])) > 1


def test_the_document_has_the_line_that_is_tested() -> None:
    text = (Path(__file__).parents[2] / "docs/registry.md").read_text(encoding="utf-8")
    assert CURL_OF_DOCUMENT in text


def test_the_models_folder_holds_weights_and_code_but_no_pickle(original: Project) -> None:
    files = [path for path in (original.root / "mlruns").rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"MLmodel", "weights.safetensors", "model.json", "served_model.py"} <= names
    assert not [path for path in files if path.suffix in {".pkl", ".pickle", ".pt", ".pth"}]
    (description,) = [path for path in files if path.name == "MLmodel"]
    text = description.read_text(encoding="utf-8")
    assert "uint8" in text and "encoded images" in text
    (requirements,) = [path for path in files if path.name == "requirements.txt"]
    assert {"opencv-python-headless", "pillow"} <= {
        line.partition("==")[0] for line in requirements.read_text().split()
    }


@pytest.mark.slow
def test_mlflow_serves_the_champion_in_another_folder(finished: Project, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 56, 3), np.uint8)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "images").mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(elsewhere / f"images/{index}.png")
    (port,) = find_free_ports(1)
    served = Project(elsewhere, {"PYTHONPATH": "", **address_of(finished)})
    champion = f"models:/{MODEL_NAME}@champion"
    options = ("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port))
    process = served.start("mlflow", "models", "serve", "--model-uri", champion, *options, process_group=0)
    try:
        address = f"http://127.0.0.1:{port}"
        answer = json.loads(ask(process, address, {"inputs": images.tolist()}))
        contents = [base64.b64encode((elsewhere / f"images/{index}.png").read_bytes()).decode() for index in range(2)]
        rows = {"columns": ["image"], "data": [[content] for content in contents]}
        encoded = json.loads(ask(process, address, {"dataframe_split": rows}))
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(process, address, {"dataframe_split": rows | {"data": [["bm8gaW1hZ2U="]]}})
        reason = json.loads(refused.value.read())
        refused.value.close()
        shown = served.call(
            "bash", "-c", CURL_OF_DOCUMENT.replace("5001", str(port)).replace("street.jpg", "images/0.png")
        )
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
    finished.call("segpipe", "predict", str(elsewhere / "images"), "--output", str(elsewhere / "predictions"))
    for index, mask in enumerate(answer["predictions"]):
        expected = np.asarray(read_picture(elsewhere / f"predictions/masks/{index}.png"))
        np.testing.assert_array_equal(np.asarray(mask), expected)
        content = base64.b64decode(encoded["predictions"][index], validate=True)
        with Image.open(io.BytesIO(content)) as picture:
            np.testing.assert_array_equal(np.asarray(picture), expected)
        if index == 0:
            np.testing.assert_array_equal(np.asarray(read_picture(elsewhere / "mask.png")), expected)
    assert refused.value.code == 400 and "image 0" in reason["message"] and "not an image" in reason["message"]
    assert shown == ""
    assert not (elsewhere / "mlflow.db").exists()


def ask(process: subprocess.Popen[str], address: str, document: dict[str, object]) -> bytes:
    """Sends a document to a server that is starting; gives its answer."""
    deadline = time.monotonic() + STARTUP_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", json.dumps(document).encode(), headers)
    with urllib.request.urlopen(request, timeout=STARTUP_SECONDS) as answer:
        content: bytes = answer.read()
    return content
