"""The graph computes what the predictor computes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from facts import missing
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from segpipe.config.evaluate import Crf, Inference
from segpipe.errors import ExportError
from segpipe.export.graph import ExportGraph, check_exportable, scale_length
from segpipe.export.in_torch import predict_in_torch
from segpipe.inference.predictor import Predictor

CRF = Crf(iterations=1, appearance_weight=1, appearance_px=1, appearance_color=1, smoothness_weight=1, smoothness_px=1)


@given(length=st.integers(1, 5000), scale=st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 4.0]))
def test_lengths_are_rounded_as_the_predictor_rounds(length: int, scale: float) -> None:
    assert scale_length(length, Fraction(scale).limit_denominator(1000)) == round(length * scale)


@pytest.mark.parametrize(
    "inference",
    [
        Inference(),
        Inference(flip=True),
        Inference(scales=[0.75]),
        Inference(scales=[0.5, 1.0, 1.5], flip=True),
    ],
)
@pytest.mark.parametrize("has_probabilities", [False, True])
def test_the_graph_predicts_as_the_predictor(inference: Inference, has_probabilities: bool) -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(3, 4, 3, padding=1).eval()
    images = np.random.default_rng(0).integers(0, 256, (2, 37, 50, 3), dtype=np.uint8)
    expected = predict_in_torch(Predictor(module, inference), images)
    graph = ExportGraph(module, inference, has_probabilities).eval()
    with torch.no_grad():
        outputs = graph(torch.from_numpy(images))
    assert len(outputs) == len(graph.output_names) == 2 + has_probabilities
    assert outputs[0].dtype == torch.uint8
    np.testing.assert_array_equal(outputs[0].numpy(), expected.masks_NHW)
    np.testing.assert_allclose(outputs[1].numpy(), expected.confidences_NHW, atol=1e-5)
    if has_probabilities:
        np.testing.assert_allclose(outputs[2].sum(dim=1).numpy(), 1, atol=1e-5)
        np.testing.assert_allclose(outputs[2].amax(dim=1).numpy(), expected.confidences_NHW, atol=1e-5)


def test_windows_and_a_crf_are_refused_with_what_to_do() -> None:
    check_exportable(Inference(flip=True, scales=[0.5]))
    with pytest.raises(ExportError) as raised:
        check_exportable(Inference(window_px=256, crf=CRF))
    assert not missing(str(raised.value), "window_px: 256", "crf", "--network-alone")
