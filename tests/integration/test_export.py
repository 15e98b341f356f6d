"""`segpipe export` as a user types it, on a trained model."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from integration.project import Project, read_picture
from PIL import Image


def test_the_champion_is_exported_and_predicts_the_same_masks(original: Project, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    said = original.call("segpipe", "export", "champion", "--output", str(folder))
    assert "validation: " in said and "mIoU: " in said and "model.onnx" in said
    document = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    model = json.loads((original.root / "build/model/model.json").read_text(encoding="utf-8"))
    assert document["lineage"]["weights_sha256"] == model["weights_sha256"]
    assert document["lineage"]["dataset_digest"] == model["dataset"]["digest"]
    assert document["lineage"]["version"].startswith("boxes/")
    assert document["licence"] == "painted for a test"
    assert document["parity"]["images"] == "validation"

    image = np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "noise.png")
    original.call("segpipe", "predict", str(tmp_path / "noise.png"), "--output", str(tmp_path / "predicted"))
    expected = np.asarray(read_picture(tmp_path / "predicted/masks/noise.png"))
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (masks,) = session.run(["masks"], {"images": image[None]})
    assert np.mean(masks[0] == expected) >= 0.999
