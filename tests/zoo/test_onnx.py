"""Every model leaves torch: what ONNX Runtime computes is what torch computes, or its card says why it cannot."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnxruntime
import pytest
import torch
from model_contract import NUM_CLASSES, build, images_of, list_models

from segpipe.models import read_card

pytestmark = pytest.mark.zoo
SIZE = (96, 128)


def export(name: str, path: Path, dynamic_shapes: object = None, num_images: int = 1) -> None:
    module, images = build(name), images_of(num_images, 3, *SIZE)
    names = {"input_names": ["images"], "output_names": ["logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(module, (images,), path, **names, dynamic_shapes=dynamic_shapes, verbose=False)


@torch.no_grad()
def test_segformer_takes_other_sizes_than_it_was_exported_with(tmp_path: Path) -> None:
    path, any_size = tmp_path / "model.onnx", torch.export.Dim.DYNAMIC
    export("segformer", path, ({0: any_size, 2: any_size, 3: any_size},), num_images=2)
    session, module = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]), build("segformer")
    for size in (SIZE, (97, 131), (64, 64), (200, 333)):
        images = images_of(2, 3, *size)
        (logits,) = session.run(None, {"images": images.numpy()})
        expected = module(images)
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("name", list_models())
@torch.no_grad()
def test_a_model_exports_or_says_why_not(name: str, tmp_path: Path) -> None:
    reason = read_card(name).no_onnx
    if reason is not None:
        with pytest.raises(torch.onnx.OnnxExporterError):
            export(name, tmp_path / "model.onnx")
        return
    export(name, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = images_of(1, 3, *SIZE)
    (logits,) = session.run(None, {"images": images.numpy()})
    expected = build(name)(images)
    assert logits.shape == (1, NUM_CLASSES, *SIZE)
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=1e-3 * float(expected.abs().max()))
