"""An export is written whole and equal, or not at all."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from facts import missing

import segpipe
from segpipe.classes import ClassTable
from segpipe.errors import ExportError, StoreError
from segpipe.export.document import ExportDescription
from segpipe.export.exported import ExportedModel
from segpipe.export.in_torch import predict_in_torch
from segpipe.export.make import check_output, export_model
from segpipe.export.parity import Limits
from segpipe.files import sha256_of_file
from segpipe.inference.network import Network

from .conftest import Exported, random_images

CPU = torch.device("cpu")
SIZES = ((1, 40, 33), (2, 97, 131), (3, 64, 64))


def test_an_export_predicts_what_the_network_predicts(exported: Exported) -> None:
    network, model = Network.load(exported.network, CPU), ExportedModel.load(exported.folder, num_threads=1)
    assert (model.classes, model.image_mapping) == (network.classes, network.image_mapping)
    assert model.weights_sha256 == network.weights_sha256
    for shape in ((1, 32, 32), *SIZES):
        images = random_images(*shape, 3)
        expected, found = predict_in_torch(network.predictor, images), model.predict(images)
        assert (found.masks_NHW.dtype, found.confidences_NHW.dtype) == (np.uint8, np.float32)
        assert np.mean(found.masks_NHW == expected.masks_NHW) >= 0.9999
        np.testing.assert_allclose(found.confidences_NHW, expected.confidences_NHW, atol=1e-4)


def test_the_document_says_what_was_compared_and_where_it_comes_from(exported: Exported) -> None:
    found = ExportDescription.read(exported.folder / "export.json", "")
    assert json.loads((exported.folder / "export.json").read_text()) == json.loads(
        json.dumps(exported.description.to_json())
    )
    assert {path.name for path in exported.folder.iterdir()} == {"model.onnx", "export.json"}
    assert found.files == {"model.onnx": sha256_of_file(exported.folder / "model.onnx")}
    assert (found.lineage.version, found.lineage.commit) == ("streets/3", "c" * 40)
    assert (found.network_alone, found.inference) == (False, {"scales": [1.0], "flip": False})
    assert found.parity.images == "validation"
    assert found.parity.agreements[0].num_px == 2 * 48 * (32 + 40)
    assert found.parity.mean_iou_of_export == pytest.approx(found.parity.mean_iou, abs=1e-3)


def test_the_onnx_file_describes_itself_and_names_no_file_of_this_machine(exported: Exported) -> None:
    content = (exported.folder / "model.onnx").read_bytes()
    assert str(Path.cwd()).encode() not in content and b"site-packages" not in content
    model = onnx.load_from_string(content)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert ClassTable.from_json(json.loads(metadata["classes"])) == exported.description.classes
    assert metadata["weights_sha256"] == exported.description.lineage.weights_sha256
    assert metadata["commit"] == "c" * 40
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    pixels = ["batch", "height", "width"]
    assert shapes == {"images": [*pixels, 3], "masks": pixels, "confidences": pixels}


@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_torch_program_needs_none_of_our_code(
    write_network: Callable[..., Path], tmp_path: Path, in_channels: int
) -> None:
    network = write_network(tmp_path / "network", in_channels)
    description = export_model(network, tmp_path / "output", "torch", has_probabilities=True)
    assert (description.format, description.parity.images) == ("torch", "made up")
    with zipfile.ZipFile(tmp_path / "output/model.pt2") as archive:
        assert not any(str(Path(segpipe.__file__).parent).encode() in archive.read(name) for name in archive.namelist())
    extra = {"metadata.json": ""}
    module = torch.export.load(tmp_path / "output/model.pt2", extra_files=extra).module(check_guards=False)
    assert json.loads(extra["metadata.json"])["weights_sha256"] == description.lineage.weights_sha256
    for shape in SIZES:
        masks, confidences, probabilities = module(torch.from_numpy(random_images(*shape, 3)))
        assert masks.shape == confidences.shape == shape
        assert probabilities.shape == (shape[0], 3, *shape[1:])


def test_windows_are_left_out_only_where_that_is_asked_for(write_network: Callable[..., Path], tmp_path: Path) -> None:
    # The network in bfloat16 differs from its export in float32: the two are compared in float32.
    network = write_network(tmp_path / "network", inference={"window_px": 64, "precision": "bf16"})
    with pytest.raises(ExportError) as raised:
        export_model(network, tmp_path / "output", "torch")
    assert not missing(str(raised.value), "window_px: 64", "--network-alone")
    assert not (tmp_path / "output").exists()
    assert export_model(network, tmp_path / "output", "torch", network_alone=True).network_alone


def test_of_an_export_that_differs_nothing_is_left(exported: Exported, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with pytest.raises(ExportError):
        export_model(exported.network, output, "torch", limits=Limits(1.1, 0.1))
    assert list(tmp_path.iterdir()) == []


def test_another_data_set_is_refused(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as raised:
        export_model(exported.network, tmp_path / "output", dataset=tmp_path)
    assert not missing(str(raised.value), str(tmp_path))


def test_a_folder_with_other_files_is_not_replaced(exported: Exported, tmp_path: Path) -> None:
    check_output(exported.folder)
    check_output(tmp_path / "new")
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ExportError) as raised:
        export_model(exported.network, tmp_path)
    assert not missing(str(raised.value), str(tmp_path), "thesis.txt")
    assert (tmp_path / "thesis.txt").exists()
    with pytest.raises(ExportError):
        check_output(tmp_path / "thesis.txt")
    model = tmp_path / "repository/streets/1/model.plan"  # as Triton keeps an engine that we did not write
    model.parent.mkdir(parents=True)
    model.touch()
    with pytest.raises(ExportError, match=r"1/model\.plan"):
        check_output(tmp_path / "repository/streets")
