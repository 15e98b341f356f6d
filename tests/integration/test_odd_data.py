"""Odd names and odd sizes go through all six stages, or are refused before anything is trained."""

from __future__ import annotations

import json

import numpy as np
import pytest
from integration.project import STAGES, Project
from PIL import Image

NAMES = ("a$b//c", "道路", "路面")
SIZES = {"a_thin": (1, 4000), "c_thin": (1, 4000), "c_tall": (4000, 1), "c_dot": (1, 1), "d_thin": (1, 4000)}


def rename_classes(project: Project, names: tuple[str, ...]) -> None:
    rows = [f"  - {{name: {json.dumps(name)}, color: [{index}, 90, 60]}}" for index, name in enumerate(names)]
    (project.root / "data/dataset.yaml").write_text("\n".join(["classes:", *rows, "licence: painted"]), "utf-8")


@pytest.mark.slow
def test_names_of_any_script_and_images_of_one_row_are_registered(finished: Project) -> None:
    rename_classes(finished, NAMES)
    random = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(image).save(finished.root / f"data/images/{name}.png")
        Image.fromarray(image[..., 0] % 3).save(finished.root / f"data/masks/{name}.png")
    finished.change_params("register.model_name", "odd")
    for stage in STAGES:
        finished.stage(stage)
    (version,) = finished.client().search_model_versions("name = 'odd'")
    metrics = finished.client().get_run(version.run_id).data.metrics
    assert {f"final_val/iou_{name}" for name in ("道路", "路面", "a--24-b--2f---2f-c")} <= metrics.keys()
    shown = finished.call("segpipe", "registry", "show", "champion")
    assert all(name in shown for name in NAMES)


def test_unusable_names_are_refused_before_the_training(finished: Project) -> None:
    rename_classes(finished, ("road ", "ro\tad", "sky"))
    finished.stage("download")
    message = finished.refused("preprocess")
    assert "'road '" in message
    assert "'ro\\tad'" in message
