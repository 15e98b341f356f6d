"""How a model gets into service: all backends on one network, and what is refused."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from facts import missing
from tiny_network import write_network
from unit.serving.conftest import Reddest

from segpipe.classes import ClassTable
from segpipe.config.evaluate import Inference
from segpipe.errors import SegpipeError, ServingError
from segpipe.export.exported import Prediction
from segpipe.files import write_json
from segpipe.inference.network import Network
from segpipe.places import INFERENCE_FILE
from segpipe.serving import backends
from segpipe.serving.backends import Served, choose_folder, load_served
from segpipe.serving.samples import SAMPLES_FILE, Expected, check_prediction, make_samples


@pytest.fixture(scope="module")
def network_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def export_folder(network_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Measured in bfloat16: the export, and the samples on which it is tried, are in float32 all the same.
    root = tmp_path_factory.mktemp("export")
    measured = Path(shutil.copytree(network_folder, root / "measured"))
    write_json(measured / INFERENCE_FILE, Inference(precision="bf16").to_json())
    backends._export(measured, root / "export")  # by another process, as the service does
    return root / "export"


@pytest.mark.parametrize(("backend", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_all_backends_give_the_masks_of_the_network(
    network_folder: Path, export_folder: Path, tmp_path: Path, backend: str, package: str
) -> None:
    pytest.importorskip(package)
    by_torch = load_served(network_folder, "torch", tmp_path, "streets", "3")
    by_export = load_served(export_folder, backend, tmp_path, "streets", "3")
    network = Network.load(network_folder, torch.device("cpu"))
    for sample in make_samples():
        expected = network.predict(sample)
        first, second = by_torch.model.predict(sample), by_export.model.predict(sample)
        np.testing.assert_array_equal(first.masks_NHW, expected)
        assert (second.masks_NHW == expected).mean() > 0.999
        np.testing.assert_allclose(first.confidences_NHW, second.confidences_NHW, atol=1e-3)
    assert by_torch.model.weights_sha256 == by_export.model.weights_sha256 == network.weights_sha256
    assert by_torch.model.classes == by_export.model.classes
    assert by_export.label == "3"
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_served_says_what_can(network_folder: Path, export_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="no such folder"):
        load_served(tmp_path / "nothing", "onnx", tmp_path, "x")
    with pytest.raises(ServingError, match="--backend onnx"):
        load_served(export_folder, "torch", tmp_path, "x")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SegpipeError) as refused:
        load_served(empty, "onnx", tmp_path, "x")
    assert not missing(str(refused.value), "empty", "model.json", "--backend torch")


def test_what_an_export_writes_meanwhile_goes_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(backends, "run_module", lambda *_, **options: seen.append(options["env"]["TMPDIR"]))
    backends._export(tmp_path / "network", tmp_path / "place" / "export")
    assert seen == [str(tmp_path / "place")]


def test_an_export_that_a_version_holds_is_taken_if_it_is_of_its_weights(
    network_folder: Path, export_folder: Path, tmp_path: Path
) -> None:
    assert choose_folder(network_folder, {}, "onnx") == network_folder
    held = {"onnx": export_folder}
    chosen = {backend: choose_folder(network_folder, held, backend) for backend in ("onnx", "openvino", "torch")}
    assert chosen == {"onnx": export_folder, "openvino": export_folder, "torch": network_folder}
    with pytest.raises(ServingError, match="other weights") as refused:
        choose_folder(write_network(tmp_path, seed=1), held, "onnx")
    assert "--backend torch" in str(refused.value)


def test_masks_that_differ_from_torchs_are_not_served(export_folder: Path, tmp_path: Path) -> None:
    expected = Expected.read(export_folder)
    assert expected is not None
    masks = [mask.copy() for mask in expected.masks]
    expected.check("x", masks)
    masks[1][:, :20] += 1
    with pytest.raises(ServingError, match="131x97") as refused:
        expected.check("streets 4", masks)
    assert not missing(str(refused.value), "streets 4", "%", "--backend torch")


def test_damaged_samples_are_named(tmp_path: Path) -> None:
    assert Expected.read(tmp_path) is None
    for content in (b"", b"PK\x03\x04", b"text"):
        (tmp_path / SAMPLES_FILE).write_bytes(content)
        with pytest.raises(ServingError, match=SAMPLES_FILE):
            Expected.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"masks_NHW": np.full((1, 8, 8), 3, np.uint8)}, "class 3"),
        ({"masks_NHW": np.zeros((1, 4, 4), np.uint8)}, "(1, 4, 4)"),
        ({"confidences_NHW": np.full((1, 8, 8), np.nan, np.float32)}, "nan"),
        ({"confidences_NHW": np.full((1, 8, 8), 2, np.float32)}, "2.0"),
    ],
)
def test_a_prediction_that_cannot_be_is_told(change: dict[str, np.ndarray], fact: str) -> None:
    good = Prediction(np.zeros((1, 8, 8), np.uint8), np.ones((1, 8, 8), np.float32))
    check_prediction("x", good, (8, 8), 3)
    with pytest.raises(ServingError, match=r"^x: ") as refused:
        check_prediction("x", dataclasses.replace(good, **change), (8, 8), 3)
    assert fact in str(refused.value)


def test_a_model_is_tried_before_it_serves(classes: ClassTable, tmp_path: Path) -> None:
    one_class = ClassTable(classes.names[:1], classes.colors[:1])
    with pytest.raises(ServingError, match="has 1 classes"):
        backends._try(Served(Reddest(one_class), "onnx", "boxes", "3"), None)


def test_onnx_needs_no_torch(export_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "import segpipe.cli.serve, segpipe.serving.web.app, segpipe.serving.web.server\n"
        "from segpipe.serving.backends import load_served\n"
        f"load_served(Path({str(export_folder)!r}), 'onnx', Path({str(tmp_path)!r}), 'x')\n"
        "print({'torch', 'mlflow', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
