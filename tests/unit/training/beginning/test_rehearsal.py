"""What is said of a training before there is any data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from facts import missing

from segpipe.config.train import Train
from segpipe.errors import ConfigError
from segpipe.training.beginning.rehearsal import rehearse, rehearse_batch

SHA256 = "0" * 64


def _refusal(settings: Train) -> str:
    with pytest.raises(ConfigError) as caught:
        rehearse(settings)
    return str(caught.value)


def test_what_is_right_is_accepted(make_train_settings: Callable[..., Train]) -> None:
    rehearse(make_train_settings())
    rehearse(make_train_settings(batch_size=1))


def test_a_training_split_of_one_sample_is_too_few_for_some_batch_norms(
    make_train_settings: Callable[..., Train],
) -> None:
    settings = make_train_settings(model={"name": "deeplabv3_mobilenet_v3_large"}, batch_size=4)
    rehearse(settings)
    with pytest.raises(ConfigError) as caught:
        rehearse_batch(settings, 1, 1)
    assert not missing(str(caught.value), "preprocess.split", "1 training sample", "deeplabv3_mobilenet_v3_large", "2")
    rehearse_batch(make_train_settings(batch_size=4), 1, 1)


def test_all_mistakes_are_told_together(make_train_settings: Callable[..., Train]) -> None:
    settings = make_train_settings(
        model={"name": "unet", "options": {"widht": 4}, "weights": "imagenet"},
        loss=[{"name": "focal", "options": {"gama": 2.0}}, {"name": "dice", "options": {"smooth": -1.0}}],
    )
    lines = _refusal(settings).splitlines()
    assert lines[0].startswith("model 'unet': option widht: unknown; did you mean 'width'")
    assert lines[1].startswith("model 'unet' has no weights from ImageNet (train.model.weights); models that do: ")
    assert lines[2].startswith("loss 'focal': option gama: unknown; did you mean 'gamma'")
    assert lines[3].startswith("loss 'dice': option smooth: must be greater than 0")
    assert len(lines) == 4


def test_an_encoder_that_does_not_fit(make_train_settings: Callable[..., Train]) -> None:
    message = _refusal(make_train_settings(model={"name": "deeplabv3plus", "options": {"encoder": "xception"}}))
    assert "model 'deeplabv3plus': option encoder: 'xception' does not fit" in message
    assert "What fits: " in message


def test_a_part_that_is_not_there(make_train_settings: Callable[..., Train]) -> None:
    assert "train.freeze: the network has no part 'heda'; did you mean 'head'" in _refusal(
        make_train_settings(freeze=["heda"])
    )


def test_a_file_that_is_not_there(make_train_settings: Callable[..., Train], tmp_path: Path) -> None:
    model = {"name": "unet", "weights": str(tmp_path / "none.pth"), "sha256": SHA256}
    assert _refusal(make_train_settings(model=model)) == (
        f"train.model.weights: {tmp_path}/none.pth: No such file or directory"
    )


def test_a_class_that_only_the_data_knows_is_not_refused(make_train_settings: Callable[..., Train]) -> None:
    rehearse(make_train_settings(loss=[{"name": "border_cross_entropy", "options": {"object_classes": [2]}}]))


def test_a_batch_that_a_batch_norm_cannot_take(make_train_settings: Callable[..., Train]) -> None:
    model = {"name": "pan", "options": {"encoder": "test_efficientnet"}}
    message = _refusal(make_train_settings(model=model, batch_size=1, augment={"crop": [128, 128]}))
    assert message.startswith("train.batch_size: 1 is too few for the batch norms of model 'pan'")
    rehearse(make_train_settings(model=model, batch_size=2, augment={"crop": [128, 128]}))


def test_a_crop_that_is_too_small_once_halved(make_train_settings: Callable[..., Train]) -> None:
    model = {"name": "fc_densenet56", "options": {"growth": 4}}
    settings = make_train_settings(model=model, augment={"crop": [40, 40]}, half_resolution_share=0.5)
    assert _refusal(settings).startswith(
        "train.augment.crop: 20x20 px, the network's input, is too small for 'fc_densenet56'"
    )
