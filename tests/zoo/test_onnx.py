"""Every model is exported for any size and batch, and predicts the same, or its card says why it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_contract import NUM_CLASSES, build, list_models, trained_by_statistics

from segpipe.config.evaluate import Inference
from segpipe.errors import ExportError
from segpipe.export.exported import open_session
from segpipe.export.graph import ExportGraph
from segpipe.export.onnx_file import write_onnx
from segpipe.export.program import capture
from segpipe.models import read_card

pytestmark = pytest.mark.zoo
# Batch, height and width: a multiple of all strides, odd ones, and the smallest.
SHAPES = ((1, 96, 128), (2, 97, 131), (1, 200, 129), (2, 33, 47))
MAX_DIFFERENCE = 1e-3  # of probabilities
MIN_EQUAL_SHARE = 0.999
SMALLEST_OF_A_PROGRAM_PX = 96  # torch programs take no maps of one pixel


@pytest.mark.parametrize("name", list_models())
@torch.no_grad()
def test_a_model_exports_or_says_why_not(name: str, tmp_path: Path) -> None:
    graph = ExportGraph(trained_by_statistics(build(name)), Inference(), has_probabilities=True).eval()
    path = tmp_path / "model.onnx"
    if read_card(name).no_onnx is not None:
        with pytest.raises(ExportError):
            write_onnx(capture(graph), graph.output_names, {}, path)
        return
    program = capture(graph)
    write_onnx(program, graph.output_names, {}, path)
    session, module = open_session(path, num_threads=1), program.module(check_guards=False)
    for shape in SHAPES:
        images = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        expected = graph(torch.from_numpy(images))
        check_equal(session.run(None, {"images": images}), expected, shape)
        if min(shape[1:]) >= SMALLEST_OF_A_PROGRAM_PX:
            check_equal([output.numpy() for output in module(torch.from_numpy(images))], expected, shape)


def check_equal(found: list[np.ndarray], expected: tuple[torch.Tensor, ...], shape: tuple[int, ...]) -> None:
    masks, confidences, probabilities = found
    assert (masks.dtype, masks.shape) == (np.uint8, shape)
    assert probabilities.shape == (shape[0], NUM_CLASSES, *shape[1:])
    np.testing.assert_allclose(confidences, expected[1].numpy(), rtol=0, atol=MAX_DIFFERENCE)
    np.testing.assert_allclose(probabilities, expected[2].numpy(), rtol=0, atol=MAX_DIFFERENCE)
    assert np.mean(masks == expected[0].numpy()) >= MIN_EQUAL_SHARE
