"""Small models that bring a package `segpipe` of their own, each in its own process; numbers worked out by hand."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import mlflow
import numpy as np
import pytest
from samples import Sample

from segpipe.data.store import Store
from segpipe.errors import IncomparableError, TrackingError
from segpipe.registry.measuring.confine import without_network
from segpipe.registry.measuring.measure import (
    classes_of_served,
    confusions_of_served,
    latency_of_served,
    predict_served,
)
from segpipe.registry.measuring.trust import Runnable

MODEL = """\
import mlflow
import numpy as np


class Model(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        {load}

    def predict(self, context, model_input: np.ndarray, params=None):
        {predict}


mlflow.models.set_model(Model())
"""
# Bright pixels are class 1, dark ones class 0; only the model's own copy of `segpipe.classes` knows the limit.
BY_BRIGHTNESS = """
        import importlib.util, warnings
        from segpipe.classes import LIMIT
        assert importlib.util.find_spec("served_predictions") is None, "our folder is on the path"
        print("progress", flush=True)
        warnings.warn("no matter")
        return (model_input[..., 0] >= LIMIT).astype(np.uint8)
"""
MakeModel = Callable[..., Path]


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Saves a model: `make_model(name, load=, predict=, code=, metadata=)` gives its folder."""

    def make(
        name: str = "model",
        load: str = "pass",
        predict: str = BY_BRIGHTNESS,
        code: str | None = "LIMIT = 100",
        metadata: dict[str, object] | None = None,
    ) -> Path:
        package = tmp_path / f"code of {name}" / "segpipe"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "classes.py").write_text(code or "", encoding="utf-8")
        script = tmp_path / f"{name}.py"
        script.write_text(MODEL.format(load=load.strip(), predict=predict.strip()), encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's own, of its type hints and of ours
            mlflow.pyfunc.save_model(
                path=str(tmp_path / name),
                python_model=str(script),
                code_paths=[str(package)] if code else None,
                pip_requirements=["numpy"],
                metadata={"classes": ["sky", "road"]} if metadata is None else metadata,
            )
        return tmp_path / name

    return make


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    """Two images of different sizes, in the classes road, car and sky; 255 is void."""
    images = {"a_0": [[0, 200], [200, 0]], "b_0": [[0, 0, 200]]}
    masks = {"a_0": [[2, 0], [1, 255]], "b_0": [[0, 2, 2]]}
    return make_store(
        [
            Sample(name, name[0], "val", np.array(grey, np.uint8)[..., None].repeat(3, 2), np.array(mask, np.uint8))
            for (name, grey), mask in zip(images.items(), masks.values(), strict=True)
        ]
    )


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 60) -> bool:
    end = time.monotonic() + timeout_seconds
    while not (is_met := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return is_met


def test_a_model_is_counted_in_the_stores_classes_by_its_own_code(
    make_model: MakeModel, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    files = sorted(model.rglob("*"))
    # What a shell may hold must not reach the model: today's sources, strict warnings, a server that is down.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4] / "src"))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert classes_of_served(model) == ("sky", "road")
    confusions = confusions_of_served(Runnable(model), ("sky", "road"), store)
    # Predicted: sky road / road sky, and sky sky road. No car, which the model does not know.
    expected = [[[1, 0, 0], [1, 0, 0], [0, 0, 1]], [[0, 0, 1], [0, 0, 0], [1, 0, 1]]]
    np.testing.assert_array_equal(confusions.dense(), expected)
    assert sorted(model.rglob("*")) == files


def test_a_models_own_code_has_neither_network_nor_secrets(
    make_model: MakeModel, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not without_network():
        pytest.skip("this system lets nobody leave the network")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        predict = f"""
        import os, socket
        assert "secret" not in os.environ.values()
        is_reached = socket.socket().connect_ex({server.getsockname()}) == 0
        return np.full(model_input.shape[:3], is_reached, np.uint8)
        """
        (mask,) = predict_served(Runnable(make_model(predict=predict)), store, [0])
    assert not mask.any()


def test_masks_come_in_the_order_asked_for_and_the_process_ends_with_the_last(
    make_model: MakeModel, store: Store, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    model = make_model(load=f"import os, pathlib; pathlib.Path({str(note)!r}).write_text(str(os.getpid()))")
    masks = predict_served(Runnable(model), store, [1, 0, 1])
    assert next(masks).tolist() == [[0, 0, 1]]
    assert next(masks).tolist() == [[0, 1], [1, 0]]
    pid = int(note.read_text())
    assert pid != os.getpid()
    assert is_running(pid)
    masks.close()  # type: ignore[attr-defined]
    assert not is_running(pid)


def test_a_class_that_the_data_no_longer_have_cannot_be_measured(make_model: MakeModel, store: Store) -> None:
    expected = r"predicts tree, which the data set does not have \(it has road, car, sky\);.* `model_name: .*`register`"
    with pytest.raises(IncomparableError, match=expected):
        confusions_of_served(Runnable(make_model()), ("sky", "tree"), store)


def test_an_index_without_a_name_is_refused(make_model: MakeModel, store: Store) -> None:
    with pytest.raises(IncomparableError, match="it predicts class index 1 but names 1 classes"):
        confusions_of_served(Runnable(make_model()), ("sky",), store)


def test_what_segpipe_did_not_register_is_named(make_model: MakeModel, store: Store, tmp_path: Path) -> None:
    with pytest.raises(IncomparableError, match=r"it is no MLflow model \(no file MLmodel\); promote by hand"):
        next(predict_served(Runnable(tmp_path), store, [0]))
    with pytest.raises(IncomparableError, match="its MLmodel names no classes"):
        latency_of_served([Runnable(make_model(metadata={}))], store)


def test_a_model_without_its_own_code_is_refused(make_model: MakeModel, store: Store) -> None:
    """Today's package is installed, and would serve it."""
    with pytest.raises(TrackingError, match=r"exit code 1(.|\n)*without its code: segpipe"):
        next(predict_served(Runnable(make_model(load="import segpipe.classes", code=None)), store, [0]))


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({"load": "raise RuntimeError('no such layer')"}, r"exit code 1(.|\n)*RuntimeError: no such layer$"),
        ({"predict": "return model_input[:, :1, :, 0]"}, r"gives \(1, 1, 300\) uint8 where .*\(1, 200, 300\) uint8"),
        ({"predict": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"}, "killed by SIGKILL"),
    ],
    ids=["does not load", "another shape", "killed"],
)
def test_a_model_that_cannot_predict_is_told_with_its_last_lines(
    make_model: MakeModel, make_store: Callable[..., Store], broken: dict[str, str], expected: str
) -> None:
    image = np.zeros((200, 300, 3), np.uint8)  # more than a pipe holds: it breaks while the image is handed over
    store = make_store([Sample("a_0", "a", "val", image, image[..., 0])])
    with pytest.raises(TrackingError, match=expected) as raised:
        next(predict_served(Runnable(make_model(**broken)), store, [0]))
    assert "requirements.txt" in str(raised.value)


def test_a_process_that_ends_between_two_images_is_told(make_model: MakeModel, store: Store, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    predict = f"""
        import os, pathlib, threading
        pathlib.Path({str(note)!r}).write_text(str(os.getpid()))
        threading.Timer(0.5, os._exit, [3]).start()
        return model_input[..., 0]
    """
    masks = predict_served(Runnable(make_model(predict=predict)), store, [0, 1])
    next(masks)
    pid = int(note.read_text())
    assert wait_until(lambda: not is_running(pid))
    with pytest.raises(TrackingError, match="exit code 3"):
        next(masks)


def test_where_one_model_fails_the_others_are_not_waited_for(
    make_model: MakeModel, store: Store, tmp_path: Path
) -> None:
    note = tmp_path / "loaded"
    slow = make_model("slow", load=f"import pathlib, time; time.sleep(20); pathlib.Path({str(note)!r}).touch()")
    broken = make_model("broken", load="raise RuntimeError('no such layer')")
    with pytest.raises(TrackingError, match="no such layer"):
        latency_of_served([Runnable(broken), Runnable(slow)], store)
    assert not note.exists()


KILLED_PARENT = """
import sys
from pathlib import Path
from segpipe.data.store import Store
from segpipe.registry.measuring.measure import predict_served
from segpipe.registry.measuring.trust import Runnable
next(predict_served(Runnable(Path(sys.argv[1])), Store.open(Path(sys.argv[2])), [0]))
"""


def test_the_process_ends_with_a_parent_that_is_killed(make_model: MakeModel, store: Store, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    predict = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    command = [sys.executable, "-c", KILLED_PARENT, str(make_model(predict=predict)), str(tmp_path / "dataset")]
    with subprocess.Popen(command) as parent:
        try:
            assert wait_until(lambda: note.exists() and note.read_text() != "")
        finally:
            parent.kill()
    pid = int(note.read_text())
    is_gone = wait_until(lambda: not is_running(pid), timeout_seconds=10)
    if not is_gone:
        os.kill(pid, signal.SIGKILL)
    assert is_gone


def test_models_take_turns_and_the_first_round_does_not_count(
    make_model: MakeModel, store: Store, tmp_path: Path
) -> None:
    """By a clock that the models move: two images, a round of 1,000 ms each, four of 1 to 80; the other thrice."""
    turns = tmp_path / "turns"

    def make(name: str, factor: int) -> Path:
        load = """
        import time
        self.now, self.costs = 0.0, [1000, 1000, 1, 2, 3, 4, 5, 6, 7, 80]
        time.perf_counter = lambda: self.now
        """
        predict = f"""
        self.now += {factor} * self.costs.pop(0) / 1000
        with open({str(turns)!r}, "a") as file:
            file.write({name!r})
        return model_input[..., 0]
        """
        return make_model(name, load, predict)

    latencies = latency_of_served([Runnable(make("A", 1)), Runnable(make("B", 3))], store)
    # Of 1, 2, ... 7, 80 the 10% and the 90% quantile are 1.7 and 7 + 0.3 * 73.
    assert [asdict(latency) for latency in latencies] == [
        pytest.approx({"median_ms": factor * 4.5, "low_ms": factor * 1.7, "high_ms": factor * 28.9})
        for factor in (1, 3)
    ]
    assert turns.read_text() == 10 * "AB"
