"""`segpipe models`: the list, one model, and what is wrong."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from facts import missing

import segpipe.cli.models
import segpipe.models.parts.fcn
from segpipe.choices import Registry
from segpipe.cli import main
from segpipe.cli.models import FIGURES, read_figures
from segpipe.models import has_pretrained, list_models, read_card

DOCUMENT = Path(__file__).parents[3] / "docs/models.md"
CHEAP = ["compact_fpn", "unet"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("this must work offline")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "names", lambda self: CHEAP)


@pytest.mark.usefixtures("two_models")
def test_the_list_says_name_source_size_and_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    head, fpn, unet, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "source", "parameters", "GFLOPs", "imagenet", "ONNX", "paper"]
    assert fpn.split()[:6] == ["compact_fpn", "segpipe", "2.03", "5.5", "-", "yes"]
    assert unet.split()[:6] == ["unet", "segpipe", "31.04", "254.7", "-", "yes"]
    assert "MICCAI 2015" in unet


@pytest.mark.usefixtures("two_models")
def test_the_figures_of_the_file_are_those_that_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--count", "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted == [asdict(read_figures()[name]) for name in CHEAP]
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == counted


@pytest.mark.zoo
def test_the_file_of_figures_is_what_is_counted_for_all_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--count", "--json"]) == 0
    assert capsys.readouterr().out == FIGURES.read_text(encoding="utf-8"), (
        "run `segpipe models --count --json > figures && mv figures src/segpipe/cli/model_figures.json`"
    )


@pytest.mark.parametrize("name", sorted(read_figures()))
def test_the_file_of_figures_says_what_a_models_card_says(name: str) -> None:
    row, card = read_figures()[name], read_card(name)
    assert (row.source, row.paper, row.imagenet) == (card.source, card.paper, has_pretrained(name))
    assert row.onnx == (card.no_onnx is None)


@pytest.mark.usefixtures("two_models")
def test_a_model_without_figures_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unet = read_figures()["unet"]
    monkeypatch.setattr(segpipe.cli.models, "read_figures", lambda: {"unet": replace(unet, parameters=1)})
    assert main(["models", "--json"]) == 0
    assert [m["parameters"] for m in json.loads(capsys.readouterr().out)] == [2033787, 1]


def test_the_list_loads_no_torch() -> None:
    code = "import sys; from segpipe.cli import main; main(['models']); print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "pandas"} & set(done.stdout.splitlines())


@pytest.mark.usefixtures("two_models")
def test_json_has_exact_numbers_for_a_number_of_classes(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {}
    for num_classes in ("11", "12"):
        assert main(["models", "--json", "--classes", num_classes]) == 0
        numbers[num_classes] = {m["name"]: m["parameters"] for m in json.loads(capsys.readouterr().out)}
    # One more class is one more row of the 1x1 head: 64 weights and a bias in U-Net, 32 and one in the small pyramid.
    assert numbers["12"]["unet"] - numbers["11"]["unet"] == 65
    assert numbers["12"]["compact_fpn"] - numbers["11"]["compact_fpn"] == 33


def test_one_model_shows_options_and_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pspnet"]) == 0
    shown = capsys.readouterr().out
    assert "Zhao et al." in shown
    assert 'encoder: "resnet50"' in shown
    assert "encoder, decoder, head, auxiliary" in shown
    assert "weights: imagenet" in shown


def test_a_size_is_shown_with_its_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fcn16s_vgg16"]) == 0
    shown = capsys.readouterr().out
    assert (segpipe.models.parts.fcn.__doc__ or "") in shown
    options = (
        "pool4_scale: 1.0, width: 64, fc_width: 4096, batch_norm: false, dropout: 0.5, learn_last_upsampling: false"
    )
    assert f"{options}, attention: null" in shown
    assert "pool4_scale: factor" in shown and "fc_width: channels" in shown


def test_an_unknown_name_gives_the_three_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fcn8_vgg16"]) == 1
    assert not missing(capsys.readouterr().err, "'fcn8s_vgg16'", "'fcn32s_vgg16'", "'fcn16s_vgg16'")


def test_the_document_has_a_row_of_each_model_and_its_pictures_are_there() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)[: len(list_models())] == list_models()
    pictures = re.findall(r"\]\((images/models/\w+\.png)\)", text)
    assert pictures
    assert all((DOCUMENT.parent / picture).is_file() for picture in pictures)
