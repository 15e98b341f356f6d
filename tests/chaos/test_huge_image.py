"""An image of 10,000 x 10,000 px is trained on, evaluated and predicted by the starter's network in less than 4 GB."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from segpipe.data.images import size_of_image

pytestmark = pytest.mark.slow

SIDE_PX = 10_000
MAX_PEAK_BYTES = 4 * 10**9
TESTS = Path(__file__).parents[1]

PREPARE = """
import json, pathlib, sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from samples import Sample, write_store

from segpipe.classes import ClassTable
from starter_data.rendered_set import write_rendered_set
from starter_data import CLASS_COLORS, CLASS_NAMES
from segpipe.places import MODEL_FILE, WEIGHTS_FILE
from segpipe.inference.network import build_network
from segpipe.files import sha256_of_file

side_px = int(sys.argv[1])
frames = list(write_rendered_set(pathlib.Path("frames"), 0, 1, 8, 8, 480, 640))
pixels = [np.asarray(Image.open(file)) for file in frames]
masks = [np.asarray(Image.open(pathlib.Path("frames/masks") / f"{file.stem}.png")) for file in frames]
times = -(-side_px // 480)
huge = np.tile(pixels[0], (times, times, 1))[:side_px, :side_px]
huge_mask = np.tile(masks[0], (times, times))[:side_px, :side_px]
Image.fromarray(huge).save("huge.jpg", quality=92)

classes = ClassTable(CLASS_NAMES, CLASS_COLORS)
small = [Sample(f"s_{i}", "s", "train", pixels[i], masks[i]) for i in range(1, 8)]
samples = [Sample(f"{name}_0", name, name, huge, huge_mask) for name in ("train", "val")]
pathlib.Path("dataset").mkdir()
write_store(pathlib.Path("dataset"), classes, [*small, *samples])

model = pathlib.Path("model")
model.mkdir()
torch.manual_seed(0)
network = build_network("compact_fpn", {}, classes.num_classes)
save_file({key: value.contiguous() for key, value in network.state_dict().items()}, model / WEIGHTS_FILE)
document = {
    "model": {"name": "compact_fpn", "options": {}},
    "classes": classes.to_json(),
    "weights_sha256": sha256_of_file(model / WEIGHTS_FILE),
}
(model / MODEL_FILE).write_text(json.dumps(document))
"""

# As the stage trains: the starter's settings, all eight samples in a batch, so that each of four steps sees the huge
# image; a validation on it, and its picture for the report.
TRAIN = """
import json, pathlib

import torch

from segpipe.config.params import load_config
from segpipe.data.loading.loader import TrainLoader
from segpipe.data.store import Store
from segpipe.inference.device import keep_freed_memory, make_repeatable
from segpipe.training.loop import Fit, fit
from segpipe.inference.network import build_network
from segpipe.losses.cross_entropy import build_loss
from segpipe.reports.drawing.overlay import side_by_side
from segpipe.training.objective import Objective


class Sink:
    pictures = []

    def log_metrics(self, metrics, epoch):
        pass

    def log_prediction(self, name, image, truth, prediction, epoch):
        self.pictures.append(side_by_side(image, [truth, prediction], store.classes).shape)


keep_freed_memory()
make_repeatable(0, 2)
settings = load_config(pathlib.Path(PARAMS)).train.model_copy(
    update={"epochs": 4, "batch_size": 8, "num_overlays": 1, "precision": "float32"}
)
store = Store.open(pathlib.Path("dataset"))
network = build_network("compact_fpn", {}, store.classes.num_classes)
loss = build_loss(class_weights=torch.ones(store.classes.num_classes))
loader = TrainLoader(store.of_split("train"), settings.augment, settings.batch_size, settings.seed)
folder = pathlib.Path("trained")
folder.mkdir()
objective = Objective(((1.0, loss),), auxiliary_weight=0.4)
progress = fit(Fit(network, objective, loader, store.of_split("val"), settings, folder, Sink(), lambda: False))
assert loader.batches_per_epoch == 1, loader
assert Sink.pictures == [(2000, 6000, 3)], Sink.pictures
print(json.dumps(progress.history))
"""


def _run(folder: Path, *command: str) -> tuple[str, float, int]:
    """Runs a process; gives its output, its seconds and the most memory that it held, in bytes."""
    start = time.monotonic()
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])}
    with (folder / "output.txt").open("w+", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()
    assert process.returncode == 0, said
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seconds = time.monotonic() - start
    print(f"{' '.join(command)[:40]!r}: {seconds:.0f} s, peak {peak_bytes / 1e9:.2f} GB")
    return said, seconds, peak_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A huge JPEG, a store with it in training and validation, and an untrained network of the starter."""
    folder = tmp_path_factory.mktemp("huge")
    _run(folder, sys.executable, "-c", PREPARE, str(SIDE_PX))
    return folder


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_reading_takes_seven_bytes_a_pixel(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (SIDE_PX, SIDE_PX), 1 if mode != "RGB" else (1, 2, 3)).save(tmp_path / "bomb.png")
    imports = "from pathlib import Path; from segpipe.data.images import load_image"
    read = f"{imports}; from segpipe.documents import ImageMapping; load_image(Path('{{}}'), ImageMapping())"
    Image.new(mode, (8, 8)).save(tmp_path / "small.png")
    *_, own_bytes = _run(tmp_path, sys.executable, "-c", read.format("small.png"))
    *_, peak_bytes = _run(tmp_path, sys.executable, "-c", read.format("bomb.png"))
    assert (peak_bytes - own_bytes) / SIDE_PX**2 < 7.3


def test_a_huge_image_is_predicted_in_bounded_memory(folder: Path) -> None:
    options = ("--model", "model", "--device", "cpu", "--output", "predictions")
    *_, peak_bytes = _run(folder, "segpipe", "predict", "huge.jpg", *options)
    assert peak_bytes < MAX_PEAK_BYTES
    for name in ("masks", "colors", "overlays"):
        assert size_of_image(folder / f"predictions/{name}/huge.png") == (SIDE_PX, SIDE_PX)


def test_a_huge_image_trains_in_bounded_memory(folder: Path) -> None:
    script = TRAIN.replace("PARAMS", repr(str(TESTS.parent / "params.yaml")))
    said, _, peak_bytes = _run(folder, sys.executable, "-c", script)
    history = json.loads(said.splitlines()[-1])
    assert "val_mean_iou" in history[-1]
    assert peak_bytes < MAX_PEAK_BYTES
