"""docs/adding-a-model.md: a file that it shows is a model of the zoo as soon as it lies in the folder."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from model_contract import CHECKS

import segpipe.models
from segpipe.choices import MODELS
from segpipe.config.train import Train
from segpipe.errors import ConfigError
from segpipe.models import list_models
from segpipe.training.beginning.rehearsal import rehearse

NAME, SIZE = "two_convs", "fc_densenet78"
DOCUMENT = Path(__file__).parents[3] / "docs/adding-a-model.md"


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The document's model and its further size, in a folder that belongs to the package for the time of a test."""
    sources = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    for name, source in zip((NAME, SIZE), sources, strict=True):
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    spec = segpipe.models.__spec__
    assert spec is not None and spec.submodule_search_locations is not None
    paths = [*spec.submodule_search_locations, str(tmp_path)]
    monkeypatch.setattr(spec, "submodule_search_locations", paths)
    monkeypatch.setattr(segpipe.models, "__path__", paths)
    importlib.invalidate_caches()
    yield NAME
    for name in (NAME, SIZE):
        sys.modules.pop(f"segpipe.models.{name}", None)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_the_documents_model_keeps_the_contract(added: str, check: Callable[[str], None]) -> None:
    check(added)


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_the_documents_size_keeps_the_contract(check: Callable[[str], None]) -> None:
    check(SIZE)


@pytest.mark.usefixtures("added")
def test_a_message_about_the_size_names_it() -> None:
    with pytest.raises(ConfigError, match=f"^model '{SIZE}': option attention: "):
        MODELS.call(SIZE, {"attention": "sce"}, num_classes=2, in_channels=3)


def test_it_is_listed_and_can_be_chosen(added: str, make_train_settings: Callable[..., Train]) -> None:
    assert added in list_models()
    rehearse(make_train_settings(model={"name": added, "options": {"width": 8}}))


BREAKS = {
    "logits_have_the_images_size_and_are_the_same_each_time": (
        "self.head(hidden_NCHW)",
        "self.head(hidden_NCHW[..., 1:])",
    ),
    "every_parameter_gets_a_gradient": ("self.hidden(images_NCHW)", "self.hidden(images_NCHW).detach()"),
    "a_sample_does_not_depend_on_its_batch_in_evaluation": (
        "F.relu(self.hidden(images_NCHW))",
        "F.relu(self.hidden(images_NCHW - images_NCHW.mean()))",
    ),
    "weights_survive_safetensors": (
        "self.hidden(images_NCHW)",
        "self.hidden(images_NCHW) + self.__dict__.setdefault('drawn', torch.randn(1))",
    ),
    "channels_last_gives_the_same_logits": (
        "F.relu(self.hidden(images_NCHW))",
        "F.relu(self.hidden(images_NCHW)) * (1.0 if images_NCHW.is_contiguous() else 2.0)",
    ),
    "a_copy_computes_the_same": ("self.hidden(images_NCHW)", "self.hidden(images_NCHW) + (id(self) % 2**24)"),
    "training_takes_odd_sizes": (
        "F.relu(self.hidden(images_NCHW))",
        "F.relu(self.hidden(images_NCHW)).view(2, -1, 64, 64)",
    ),
    "no_layer_makes_onednn_write_past_its_buffer": ("num_classes, 1)", "num_classes, 1, stride=2)"),
    "images_of_other_channels": ("nn.Conv2d(in_channels, width", "nn.Conv2d(3, width"),
    "number_of_parameters_is_the_published_one": ('small={"width": 4}', 'small={"width": 4}, published=(2, 1e6)'),
    "card_and_parts": ("in_channels: int, width: Annotated", "in_channels: int, pretrained: bool, width: Annotated"),
}


def test_every_check_has_a_broken_model() -> None:
    assert BREAKS.keys() == CHECKS.keys()


@pytest.mark.parametrize("check", BREAKS)
def test_the_contract_finds_a_broken_model(added: str, check: str, tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.py"
    whole, broken = BREAKS[check]
    source = path.read_text(encoding="utf-8")
    assert whole in source
    path.write_text(source.replace(whole, broken), encoding="utf-8")
    with pytest.raises((AssertionError, RuntimeError)):
        CHECKS[check](added)
