"""A small project of a user's own in a temporary folder, and its stages run as its user runs them.

The project has its own copy of `src/`, a hand-painted data set of three classes, git and DVC. `run_pipeline` runs the
whole pipeline, once in a test session; tests copy the result, MLflow's store included. `add_pipelines` gives a project
what Prefect needs.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from integration import ready_python
from mlflow.tracking import MlflowClient
from PIL import Image
from ruamel.yaml import YAML
from stores import open_store

REPOSITORY = Path(__file__).parents[2]
COPIED = (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml", "src")
COPIED_FOR_PIPELINES = ("pipelines", "Procfile", "requirements.lock")
MODEL_NAME, EXPERIMENT = "boxes", "painted"
STAGES = ("download", "preprocess", "class_weights", "train", "evaluate", "register")
TIMEOUT_SECONDS = 300

CLASSES = (("ground", (110, 90, 60)), ("sky", (110, 170, 230)), ("box", (200, 40, 40)))
SEQUENCES = {"a": (48, 64), "b": (32, 48), "c": (48, 64), "d": (40, 56)}
NUM_FRAMES = 3
DATASET_YAML = """\
classes:
  - {name: ground, color: [110, 90, 60]}
  - {name: sky, color: [110, 170, 230]}
  - {name: box, color: [200, 40, 40]}
licence: painted for a test
"""
PARAMS = f"""\
download: {{source: data, format: folder}}
preprocess:
  group_pattern: '^([^_]+)_'
  split: {{val: [c], test: [d]}}
class_weights: {{scheme: inverse_frequency, cap: 20}}
train:
  experiment: {EXPERIMENT}
  device: cpu
  num_threads: 1
  model: {{name: unet, options: {{width: 4, depth: 2}}}}
  loss: [{{name: cross_entropy}}]
  optimizer: adamw
  learning_rate: 3e-2
  schedule: {{name: cosine}}
  epochs: 12
  batch_size: 2
  augment: {{scale: [0.9, 1.2], crop: [32, 48]}}
  num_overlays: 2
evaluate: {{device: cpu, num_threads: 1, num_overlays: 1}}
register: {{model_name: {MODEL_NAME}, block_length: groups}}
"""


def environment(root: Path) -> dict[str, str]:
    """What a user's shell would have: the virtual environment's programs, the project's sources, no MLflow server."""
    foreign = ("MLFLOW_", "GIT_", "DVC_", "PYTHON", "PREFECT_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    identity = {f"GIT_{who}_{what}": "tester" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {
        **inherited,
        **identity,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "DVC_SITE_CACHE_DIR": str(root / ".dvc/tmp/site"),
        "DVC_NO_ANALYTICS": "1",
        "SEGPIPE_WORKERS": "1",  # to start another costs more than a dozen images
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root / "src"),
    }


@dataclass(frozen=True)
class Project:
    """A project's folder and what its user does in it.

    Args:
        root: the folder.
        variables: added to every command's environment.
    """

    root: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def start(self, *command: str, **options: Any) -> "subprocess.Popen[str]":
        """Starts a command in the project's folder."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        env = {**environment(self.root), **self.variables}
        return subprocess.Popen(command, cwd=self.root, env=env, text=True, **{**streams, **options})

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command in the project's folder, however it ends."""
        if ready_python.can_run(command, self.variables):
            return ready_python.run(command, self.root, {**environment(self.root), **self.variables}, TIMEOUT_SECONDS)
        with self.start(*command) as process:
            try:
                stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    def call(self, *command: str) -> str:
        """Runs a command that must succeed; gives its standard output."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, code: str) -> str:
        """Runs Python code that must succeed."""
        return self.call("python", "-c", code)

    def run_stage(self, stage: str) -> "subprocess.CompletedProcess[str]":
        """Runs a stage, however it ends."""
        return self.run("python", "-m", f"segpipe.stages.{stage}")

    def stage(self, stage: str) -> str:
        """Runs a stage that must succeed; gives what it says."""
        done = self.run_stage(stage)
        assert done.returncode == 0, f"{stage}: exit {done.returncode}\n{done.stderr}"
        return done.stderr

    def refused(self, stage: str) -> str:
        """Runs a stage that must refuse its input with one message and nothing else; gives the message."""
        return message_of_refusal(self.run_stage(stage))

    def change_params(self, dotted: str, value: Any) -> None:
        """Sets one key of params.yaml; a number is a place in a list."""
        yaml = YAML()
        document = yaml.load(self.root / "params.yaml")
        *sections, key = dotted.split(".")
        section = document
        for name in sections:
            section = section[int(name) if name.isdecimal() else name]
        section[key] = value
        yaml.dump(document, self.root / "params.yaml")

    def json(self, path: str) -> Any:
        """Reads a JSON file."""
        return json.loads((self.root / path).read_text(encoding="utf-8"))

    def change_json(self, path: str, change: Callable[[Any], Any]) -> None:
        """Lets a function change a JSON document in place."""
        document = self.json(path)
        change(document)
        (self.root / path).write_text(json.dumps(document), encoding="utf-8")

    def files(self, folder: str = "build") -> dict[str, bytes]:
        """All files below a folder by path, hidden ones too."""
        paths = sorted(path for path in (self.root / folder).rglob("*") if path.is_file())
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in paths}

    def client(self) -> MlflowClient:
        """A client of the project's own MLflow store."""
        return open_store(f"sqlite:///{self.root}/mlflow.db")

    def copy_to(self, root: Path) -> "Project":
        """A copy that shares nothing with this project: MLflow's absolute paths lead into the copy."""
        # cp, not copytree: DVC links its cache, and hard links and times must stay.
        subprocess.run(["cp", "-a", str(self.root), str(root)], check=True)
        if (root / "mlflow.db").exists():
            _move_store(root / "mlflow.db", str(self.root), str(root))
        return Project(root)


def message_of_refusal(done: "subprocess.CompletedProcess[str]") -> str:
    """The message of a command that ended with exit code 1 and one message, or a failed assertion."""
    assert done.returncode == 1, f"exit {done.returncode}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert done.stderr.count("segpipe: ") == 1, done.stderr
    return done.stderr.partition("segpipe: ")[2]


def _move_store(database: Path, old: str, new: str) -> None:
    connection = sqlite3.connect(database)
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for _, column, kind, *_ in connection.execute(f"PRAGMA table_info('{table}')").fetchall():
            if "CHAR" in kind.upper() or "TEXT" in kind.upper():
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE "{column}" LIKE ?',
                    (old, new, f"%{old}%"),
                )
    connection.commit()
    connection.close()


def read_picture(path: Path) -> Image.Image:
    """Reads a picture whole."""
    with Image.open(path) as picture:
        picture.load()
        return picture


def paint(sequence: str, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """A scene: ground below, sky above, a box that moves; every sequence another light, every frame another noise."""
    height, width = SEQUENCES.get(sequence, (40, 56))
    # Without it the sequences would be copies of one another, which the leak gate rightly refuses.
    coarse = np.random.default_rng([*sequence.encode()]).integers(-60, 61, (5, 7)).astype(np.float32)
    light = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))[..., None]
    rng = np.random.default_rng([frame, *sequence.encode()])
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2] = 1
    left = 4 + 7 * frame
    mask[height // 3 : 2 * height // 3, left : left + width // 4] = 2
    mask[-2:] = 255
    colors = np.array([*(color for _, color in CLASSES), *[(0, 0, 0)] * 253], np.int16)
    image = colors[mask] + light + rng.integers(-20, 21, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), mask


def add_sample(data: Path, sample_id: str, image: np.ndarray | None = None, mask: np.ndarray | None = None) -> None:
    """Adds an image and its mask to a data set; painted ones by default."""
    sequence, _, frame = sample_id.partition("_")
    painted_image, painted_mask = paint(sequence, int(frame))
    Image.fromarray(painted_image if image is None else image).save(data / "images" / f"{sample_id}.png")
    Image.fromarray(painted_mask if mask is None else mask).save(data / "masks" / f"{sample_id}.png")


def paint_data(data: Path) -> None:
    """Writes the data set in the layout of the `folder` reader."""
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
    (data / "dataset.yaml").write_text(DATASET_YAML, encoding="utf-8")
    for sequence in SEQUENCES:
        for frame in range(NUM_FRAMES):
            add_sample(data, f"{sequence}_{frame:03d}")


def make_sources(root: Path) -> Project:
    """Copies sources and graph, paints the data and writes the parameters: enough to run stages without git or DVC."""
    _copy(COPIED, root)
    paint_data(root / "data")
    (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
    return Project(root)


def _copy(names: tuple[str, ...], root: Path) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_dir():
            # Compiled files too, because to compile takes longer than a stage; but none that is being written.
            shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("*.pyc.*", "*.egg-info"))
        else:
            shutil.copyfile(REPOSITORY / name, root / name)


def run_pipeline(root: Path) -> None:
    """Makes a project after `git commit`, `dvc repro` and `git commit` of dvc.lock."""
    # With processes, as its user has them.
    project = Project(make_sources(root).root, {"SEGPIPE_WORKERS": "2"})
    (project.root / "data.dvc").write_text("outs:\n- path: data\n  cache: false\n", encoding="utf-8")
    project.call("git", "init", "--quiet")
    project.call("dvc", "commit", "--quiet", "--force", "data.dvc")
    project.call("git", "add", "--all")
    project.call("git", "commit", "--quiet", "--message", "Labelled images")
    project.call("dvc", "repro")
    project.call("git", "add", "--all")
    project.call("git", "commit", "--quiet", "--message", "Results")


def add_pipelines(project: Project) -> Project:
    """Commits the flows, the services and a recipe to a finished project; what `make setup` makes is only linked."""
    _copy(COPIED_FOR_PIPELINES, project.root)
    (project.root / "recipes").mkdir()
    (project.root / "recipes/quick.yaml").write_text(PARAMS.replace("epochs: 12", "epochs: 2"), encoding="utf-8")
    project.call("git", "add", "--all")
    project.call("git", "commit", "--quiet", "--message", "Pipelines")
    return with_environment(project.root)


def with_environment(root: Path) -> Project:
    """A clone of a project with pipelines, as `make setup` leaves it."""
    (root / ".venv").symlink_to(Path(sys.executable).parents[1])
    return Project(root, {"PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"})
