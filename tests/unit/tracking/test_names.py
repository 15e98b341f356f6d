"""Names of classes and samples as MLflow takes them: each its own, and a real store takes them all."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from segpipe.tracking.names import MAX_CHARS, metric_name, picture_name, read_name

ODD = [
    "a//b",
    "road/",
    "./x",
    "../x",
    ".",
    "..",
    "/abs",
    "a:b'c",
    "道路",
    "路面",
    "straße",
    "--2f-",
    "a--b",
    "a/b",
    "x" * 400,
]
PLAIN = ["traffic sign", "val/iou sign-2.b_c", "sky", "sign_symbol", "a-b"]


@pytest.mark.parametrize("name", PLAIN)
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert metric_name(name) == picture_name(name) == name


@pytest.mark.parametrize("form", [metric_name, picture_name])
def test_different_names_stay_different(form: object) -> None:
    assert callable(form)
    chance = random.Random(0)
    alphabet = "ab-./ 2f:道é~" + "x"
    names = {"".join(chance.choices(alphabet, k=chance.randint(1, 7))) for _ in range(20_000)} | set(ODD) | set(PLAIN)
    names |= {"x" * 399 + end for end in "abc"}
    taken = {form(name) for name in names}
    assert len(taken) == len(names)
    assert max(map(len, taken)) <= MAX_CHARS


@pytest.mark.parametrize("name", [name for name in ODD if len(name) < MAX_CHARS])
def test_a_name_can_be_read_back(name: str) -> None:
    assert read_name(metric_name(name)) == name


def test_a_store_takes_every_name(client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    names = [*ODD, *PLAIN, unicodedata.normalize("NFD", "é")]
    for name in names:
        client.log_metric(run_id, f"final_val/iou_{metric_name(name)}", 0.5)
        client.log_param(run_id, f"preprocess.classes.{metric_name(name)}", "x")
        client.set_tag(run_id, f"segpipe.val_iou.{metric_name(name)}", "0.5")
        client.log_image(run_id, np.asarray(Image.new("RGB", (2, 2))), key=picture_name(name), step=1, synchronous=True)
    data = client.get_run(run_id).data
    assert len(data.metrics) == len(data.params) == len(names)
    pictures = [artifact for artifact in client.list_artifacts(run_id, "images") if artifact.path.endswith(".png")]
    assert len({artifact.path.partition("+step+")[0] for artifact in pictures}) == len(names)
