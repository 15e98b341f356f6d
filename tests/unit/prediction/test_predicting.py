"""Batches of pictures of equal size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segpipe.config.evaluate import Inference
from segpipe.data.images import Picture
from segpipe.inference.predictor import Predictor
from segpipe.prediction import predicting
from segpipe.prediction.inputs import Skipped
from segpipe.prediction.predicting import Predicted, Wanted, predict_all
from segpipe.prediction.reading import Scene


class _Recorder(nn.Module):
    """Gives the input as logits, and remembers how many pictures it got; refuses more than it has memory for."""

    def __init__(self, max_pictures: int = 100) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.max_pictures = max_pictures

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        if len(images_NCHW) > self.max_pictures:
            raise torch.OutOfMemoryError("out of memory")
        self.sizes.append(len(images_NCHW))
        return images_NCHW


def _scene(name: str, height: int, width: int = 8) -> Scene:
    pixels = np.random.default_rng([*name.encode()]).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return Scene(name, Path(name), (0, 0), Picture(pixels))


def _predict(
    module: _Recorder,
    scenes: list[Scene | Skipped],
    batch_size: int = 2,
    wanted: Wanted = Wanted(),  # noqa: B008
) -> list[Predicted | Skipped]:
    return list(predict_all(Predictor(module.eval()), 3, scenes, batch_size, wanted))


def test_pictures_of_one_size_are_predicted_together() -> None:
    module = _Recorder()
    scenes = [_scene("a", 4), _scene("b", 5), _scene("c", 4), _scene("d", 4), _scene("e", 5), _scene("f", 6)]
    found = _predict(module, [*scenes[:3], Skipped(Path("x"), "why"), *scenes[3:]])
    names = [one.scene.name if isinstance(one, Predicted) else "skipped" for one in found]
    assert names == ["a", "c", "skipped", "b", "e", "d", "f"]
    assert module.sizes == [2, 2, 1, 1]
    for one in found:
        if isinstance(one, Predicted):
            (alone,) = _predict(_Recorder(), [one.scene])
            assert isinstance(alone, Predicted)
            np.testing.assert_array_equal(one.mask, alone.mask)


def test_few_pictures_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _Recorder()
    monkeypatch.setattr(predicting, "MAX_HELD_PX", 100)
    _predict(module, [_scene(str(height), height) for height in (4, 5, 4, 6)], batch_size=100)
    assert module.sizes == [2, 1, 1]  # 32 + 40 + 32 px are more than 100: both of 4 rows go first


def test_large_pictures_and_windows_are_predicted_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _Recorder()
    monkeypatch.setattr(predicting, "MAX_BATCH_PX", 64)
    _predict(module, [_scene(name, 4) for name in "abcd"], batch_size=4)
    assert module.sizes == [2, 2]
    module = _Recorder()
    scenes = [_scene(name, 100, 100) for name in "ab"]
    found = list(predict_all(Predictor(module.eval(), Inference(window_px=64)), 3, scenes, 4, Wanted()))
    assert all(isinstance(one, Predicted) for one in found)
    assert set(module.sizes) == {1}


def test_what_does_not_fit_is_predicted_one_by_one() -> None:
    module = _Recorder(max_pictures=1)
    found = _predict(module, [_scene(name, 4) for name in "ab"])
    assert module.sizes == [1, 1]
    assert len(found) == 2
    (refused,) = _predict(_Recorder(max_pictures=0), [_scene("a", 4)])
    assert isinstance(refused, Skipped)
    assert "memory" in refused.reason


class _Greedy(nn.Module):
    """Needs more memory than any machine has."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW + torch.empty(1 << 50)


def test_a_cpu_without_memory_is_no_reason_to_end_the_job() -> None:
    (refused,) = _predict(_Greedy(), [_scene("a", 4)])
    assert isinstance(refused, Skipped)
    assert "memory" in refused.reason


def test_probabilities_count_as_what_is_held() -> None:
    without, one = (
        *_predict(_Recorder(), [_scene("a", 4)]),
        *_predict(_Recorder(), [_scene("a", 4)], wanted=Wanted(probabilities=True)),
    )
    assert isinstance(without, Predicted)
    assert isinstance(one, Predicted)
    assert one.probabilities_CHW is not None
    assert without.held_px == 4 * 8
    assert one.held_px == 4 * 8 + one.probabilities_CHW.nbytes // 4


def test_confidence_and_probabilities() -> None:
    (one,) = _predict(_Recorder(), [_scene("a", 4)], wanted=Wanted(confidence=True, probabilities=True))
    assert isinstance(one, Predicted)
    assert one.confidence is not None
    assert one.probabilities_CHW is not None
    assert (one.probabilities_CHW.dtype, one.probabilities_CHW.shape) == (np.float16, (3, 4, 8))
    logits_CHW = ((one.scene.picture.pixels - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]).transpose(2, 0, 1)
    expected_CHW = np.exp(logits_CHW) / np.exp(logits_CHW).sum(axis=0)
    np.testing.assert_allclose(one.probabilities_CHW, expected_CHW, atol=1e-3)
    np.testing.assert_array_equal(one.mask, expected_CHW.argmax(axis=0))
    assert np.abs(one.confidence - 255 * expected_CHW.max(axis=0)).max() <= 0.51
