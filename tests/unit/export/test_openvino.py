"""Exports that OpenVINO computes; skipped where it is not installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from facts import missing

from segpipe.errors import ExportError, StoreError
from segpipe.export.document import ExportDescription
from segpipe.export.exported import ExportedModel
from segpipe.export.make import export_model
from segpipe.export.openvino_file import check_bf16, import_openvino
from segpipe.export.quantize import FewerBits

from .conftest import Exported, random_images

openvino = pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def folder(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("openvino") / "output"
    export_model(exported.network, output, "openvino", dataset=exported.dataset)
    return output


def test_it_predicts_what_onnx_runtime_predicts(exported: Exported, folder: Path) -> None:
    expected = ExportedModel.load(exported.folder, num_threads=1)
    for model in (
        ExportedModel.load(folder, num_threads=1),
        ExportedModel.load(exported.folder, num_threads=1, backend="openvino"),
    ):
        for shape in ((1, 32, 32), (1, 40, 33), (2, 97, 131)):
            images = random_images(*shape, 3)
            found, wanted = model.predict(images), expected.predict(images)
            assert (found.masks_NHW.dtype, found.confidences_NHW.dtype) == (np.uint8, np.float32)
            assert np.mean(found.masks_NHW == wanted.masks_NHW) >= 0.9999
            np.testing.assert_allclose(found.confidences_NHW, wanted.confidences_NHW, atol=1e-4)


def test_several_threads_predict_at_once(folder: Path) -> None:
    model = ExportedModel.load(folder, num_threads=1)
    images = [random_images(1, 32 + 8 * (index % 3), 40, 3) for index in range(24)]
    expected = [model.predict(image).masks_NHW for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: model.predict(image).masks_NHW, images))
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, two)


SIGNALLED = """
import os, pathlib, signal, sys
from segpipe.export.exported import ExportedModel
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
models = [ExportedModel.load(pathlib.Path(sys.argv[1]), num_threads=1) for _ in range(2)]
while models:  # as a service that follows an alias: the older one goes first
    models.pop(0)
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_handler_of_a_signal_runs_after_two_models_are_gone(folder: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", SIGNALLED, folder], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr


def test_the_files_describe_themselves(exported: Exported, folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"model.xml", "model.bin", "export.json"}
    description = ExportDescription.read(folder / "export.json", "")
    assert set(description.files) == {"model.xml", "model.bin"}
    assert (description.format, description.bf16, description.quantization) == ("openvino", False, None)
    assert description.versions["openvino"]
    model = openvino.Core().read_model(folder / "model.xml")
    assert model.get_rt_info(["segpipe", "weights_sha256"]).astype(str) == description.lineage.weights_sha256
    assert str(Path.cwd()) not in (folder / "model.xml").read_text()


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_changed_file_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    path = copied / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(StoreError) as raised:
        ExportedModel.load(copied)
    assert not missing(str(raised.value), str(path), "sha256")


def test_onnx_runtime_refuses_its_file(folder: Path) -> None:
    with pytest.raises(StoreError) as raised:
        ExportedModel.load(folder, backend="onnxruntime")
    assert not missing(str(raised.value), str(folder / "model.xml"), "--format onnx")


def test_int8_and_bf16(exported: Exported, tmp_path: Path) -> None:
    try:
        check_bf16()
    except ExportError as error:
        pytest.skip(str(error))
    fewer_bits = FewerBits(int8=True, bf16=True, max_mean_iou_loss=100)
    description = export_model(
        exported.network, tmp_path / "out", "openvino", dataset=exported.dataset, fewer_bits=fewer_bits
    )
    assert description.bf16 and description.quantization is not None
    assert 1e-4 < description.parity.agreements[0].max_confidence_difference < 0.2
    model = ExportedModel.load(tmp_path / "out", num_threads=1)
    assert model.predict(random_images(1, 40, 33, 3)).masks_NHW.shape == (1, 40, 33)


def test_bf16_that_loses_too_much_writes_nothing(exported: Exported, tmp_path: Path) -> None:
    try:
        check_bf16()
    except ExportError as error:
        pytest.skip(str(error))
    impossible = FewerBits(bf16=True, max_mean_iou_loss=-100)
    with pytest.raises(ExportError) as raised:
        export_model(exported.network, tmp_path / "out", "openvino", dataset=exported.dataset, fewer_bits=impossible)
    assert not missing(str(raised.value), "mIoU", "-100 points")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExportError) as raised:
        import_openvino("this")
    assert not missing(str(raised.value), "pip install 'segpipe[openvino]'")
