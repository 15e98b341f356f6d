"""Graphs as ONNX files, with sizes that follow from those of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from facts import missing
from torch import nn

from segpipe.config.evaluate import Inference
from segpipe.errors import ExportError
from segpipe.export.exported import open_session
from segpipe.export.graph import ExportGraph
from segpipe.export.onnx_file import write_onnx
from segpipe.export.program import capture

from .conftest import random_images

SHAPES = ((1, 32, 48), (2, 37, 51), (3, 34, 34))


class Halved(nn.Module):
    """Divides negative numbers, and takes each second row of the image in turn, then the others."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        height = images_NCHW.shape[2]
        num_twice = -(-height // 2) * 2
        rows = torch.arange(num_twice).mul(2).remainder(height)
        return images_NCHW.index_select(2, rows)[:, :, :height]


class Counted(nn.Module):
    """Looks at values, which no graph can hold."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW[:, :, : int(images_NCHW.sum())]


@pytest.mark.parametrize(
    ("module", "inference"),
    [
        (nn.Conv2d(3, 4, 3, padding=1), Inference(scales=[0.75, 1.1], flip=True)),
        (nn.Conv2d(3, 4, 3, padding=1), Inference(flip=True)),
        (Halved(), Inference()),
    ],
)
def test_the_file_computes_what_the_graph_computes(module: nn.Module, inference: Inference, tmp_path: Path) -> None:
    graph = ExportGraph(module, inference, has_probabilities=True).eval()
    path = tmp_path / "model.onnx"
    write_onnx(capture(graph), graph.output_names, {"key": "value"}, path)
    session = open_session(path, num_threads=1)
    assert session.get_modelmeta().custom_metadata_map == {"key": "value"}
    for shape in SHAPES:
        images = random_images(*shape, 3)
        with torch.no_grad():
            expected = [output.numpy() for output in graph(torch.from_numpy(images))]
        masks, confidences, probabilities = session.run(None, {"images": images})
        assert np.mean(masks == expected[0]) >= 0.999
        np.testing.assert_allclose(confidences, expected[1], atol=1e-4)
        np.testing.assert_allclose(probabilities, expected[2], atol=1e-4)


def test_what_looks_at_values_is_refused() -> None:
    with pytest.raises(ExportError) as raised:
        capture(ExportGraph(Counted(), Inference()))
    assert not missing(str(raised.value), "torch.export")
