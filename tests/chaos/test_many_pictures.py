"""A folder of a thousand pictures of all kinds, some of them broken: each file is predicted or named, none is lost.

The same with 10,000 pictures: `NUM_FILES`; docs/reliability.md has the result.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chaos.pictures import HEIGHT, KINDS, WIDTH, Kind, Outcome
from PIL import Image, ImageOps
from safetensors.torch import save_file

from segpipe.classes import ClassTable
from segpipe.data.images import load_image
from segpipe.documents import ImageMapping
from segpipe.files import sha256_of_file
from segpipe.inference.network import build_network
from segpipe.places import MODEL_FILE, WEIGHTS_FILE

pytestmark = pytest.mark.slow

NUM_FILES = 1000
BROKEN_SHARE = 0.05  # of the files that would be predicted
SUBFOLDERS = ("", "day 1", "day 1/Straße", "tag.2/östlich/north-west", "%d, [a]")
STEMS = ("shot_{:05d}", "shot {:05d}", "übersicht {:05d}", "{:05d}.v2", "写真-{:05d}", 'it\'s {:05d}; "x"')
MAPPING = ImageMapping(range=(0, 65535), background=(255, 255, 255))
TABLES = ("predictions.csv", "skipped.csv", "legend.csv", "job.json")
SECONDS_PER_CALL = 300 + NUM_FILES / 5

# As Pillow shows them, the transparent ones on white.
SEEN_BY_PILLOW = (
    "png", "png grey", "png palette", "png palette transparent", "png rgba", "png la", "png 1 bit", "png interlaced",
    "png turned", "tiff", "tiff lzw", "tiff jpeg", "tiff cmyk", "tiff tiled", "tiff turned", "jpeg", "jpeg progressive",
    "jpeg cmyk", "jpeg grey", "jpeg turned", "gif", "bmp", "bmp palette", "ppm", "pgm", "pbm", "webp", "webp lossless",
    "webp alpha", "avif", "jpeg 2000", "jpeg 2000 codestream",
)  # fmt: skip


@dataclass(frozen=True)
class File:
    """A file of the folder: its kind, and what is to become of it; None if both outcomes are right."""

    path: Path
    kind: Kind
    outcome: Outcome | None


@dataclass(frozen=True)
class Job:
    """A folder of pictures, and the folder of their predictions."""

    root: Path
    files: tuple[File, ...]

    def call(self, output: str = "out") -> subprocess.CompletedProcess[str]:
        """Runs `segpipe predict` to its end."""
        start = time.monotonic()
        done = subprocess.run(
            _command(output), cwd=self.root, capture_output=True, text=True, timeout=SECONDS_PER_CALL, check=False
        )
        print(f"{len(self.files)} files, {time.monotonic() - start:.0f} s: {done.stdout.strip()}")
        return done

    def find(self, outcome: Outcome) -> set[str]:
        """Gives the files that surely have this outcome, as tables name them."""
        return {_as_text(file.path) for file in self.files if file.outcome == outcome}


def _as_text(path: Path) -> str:
    return str(path).encode(errors="backslashreplace").decode()


def _command(output: str) -> list[str]:
    return ["segpipe", "predict", "shots", "--model", "model", "--device", "cpu", "--output", output]


def _write_model(folder: Path) -> None:
    """Writes an untrained network of the starter that reads pictures by `MAPPING`."""
    folder.mkdir()
    classes = ClassTable(("road", "car", "sky"), ((128, 64, 128), (0, 0, 142), (70, 130, 180)))
    torch.manual_seed(0)
    network = build_network("compact_fpn", {}, classes.num_classes)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / WEIGHTS_FILE)
    document = {
        "model": {"name": "compact_fpn", "options": {}},
        "classes": classes.to_json(),
        "image_mapping": {"range": MAPPING.range, "background": MAPPING.background},
        "weights_sha256": sha256_of_file(folder / WEIGHTS_FILE),
    }
    (folder / MODEL_FILE).write_text(json.dumps(document))


def _write_file(folder: Path, number: int, stem_number: int) -> File:
    """Writes file `number`, which follows from its number alone; one in twenty of the readable ones is broken."""
    rng = np.random.default_rng(number)
    kind = list(KINDS.values())[number % len(KINDS)]
    place = folder / SUBFOLDERS[stem_number % len(SUBFOLDERS)]
    place.mkdir(parents=True, exist_ok=True)
    path = place / (STEMS[stem_number % len(STEMS)].format(stem_number) + kind.suffix)
    coarse = rng.integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3)).astype(np.uint8)
    kind.write(path, np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)))
    outcome: Outcome | None = kind.outcome
    if kind.outcome == "predicted" and rng.random() < BROKEN_SHARE:
        content = bytearray(path.read_bytes())
        if rng.random() < 0.5:
            outcome, content = "skipped", content[: int(len(content) * rng.uniform(0.05, 0.95))]
        else:
            outcome = None  # not all formats have a checksum
            for place_of_byte in rng.integers(0, len(content), 3):
                content[place_of_byte] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
    return File(path, kind, outcome)


def _write_files(folder: Path, num_files: int) -> Iterator[File]:
    names = list(KINDS.values())
    for number in range(num_files):
        differs = names[number % len(KINDS)].suffix.lower() != names[(number - 1) % len(KINDS)].suffix.lower()
        # Some files differ from the one before them only in the suffix.
        yield _write_file(folder, number, number - 1 if number % 10 == 1 and differs else number)


def _write_odd_files(folder: Path) -> Iterator[File]:
    """Writes intact pictures that cannot be predicted because of their places and names."""
    folder.mkdir()
    too_long = "x" * 251  # the suffix stays in the mask's name, because there are two
    for name in (f"{too_long}.png", f"{too_long}.bmp", os.fsdecode(b"stra\xdfe.png")):
        Image.new("L", (WIDTH, HEIGHT)).save(folder / name)
        yield File(folder / name, KINDS["png grey"], "skipped")
    (folder / "lost.png").symlink_to(folder / "nothing.png")
    yield File(folder / "lost.png", KINDS["png grey"], "skipped")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A folder of files, and a model."""
    root = tmp_path_factory.mktemp("many")
    _write_model(root / "model")
    files = [*_write_files(root / "shots", NUM_FILES), *_write_odd_files(root / "shots/odd")]
    assert len({file.path for file in files}) == NUM_FILES + 4
    return Job(root, tuple(files))


@pytest.fixture(scope="module")
def finished(job: Job) -> subprocess.CompletedProcess[str]:
    """The first call, whose predictions are in `out/`."""
    return job.call()


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _state(output: Path) -> dict[str, tuple[bytes, int]]:
    """Gives content and time of each file, of tables the content only: they are written by each call."""
    files = [path for path in output.rglob("*") if path.is_file()]
    return {
        path.relative_to(output).as_posix(): (path.read_bytes(), 0 if path.name in TABLES else path.stat().st_mtime_ns)
        for path in files
    }


def _paths_of(output: Path, table: str, root: Path) -> list[str]:
    return [str(root / row["path"]) for row in _read(output / table)]


@pytest.mark.parametrize("name", SEEN_BY_PILLOW)
def test_a_picture_is_read_as_pillow_shows_it(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    path = tmp_path / f"a{kind.suffix}"
    kind.write(path, np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    with Image.open(path) as stored:
        image: Any = ImageOps.exif_transpose(stored)
        if "A" in image.mode or "transparency" in image.info:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(load_image(path, MAPPING).pixels, expected)


@pytest.mark.parametrize("name", ["png 16 bit grey", "png 16 bit rgb", "pgm 16 bit"])
def test_sixteen_bits_become_eight(name: str, tmp_path: Path) -> None:
    kind, pixels = KINDS[name], np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    kind.write(tmp_path / f"a{kind.suffix}", pixels)
    deep = pixels.astype(float) * 257 - pixels // 2
    expected = np.rint(deep * 255 / 65535)
    if name != "png 16 bit rgb":
        expected = expected[..., :1].repeat(3, axis=2)
    np.testing.assert_array_equal(load_image(tmp_path / f"a{kind.suffix}", MAPPING).pixels, expected)


def test_every_file_is_predicted_or_named(job: Job, finished: subprocess.CompletedProcess[str]) -> None:
    assert finished.returncode == 2, finished.stderr[-4000:]
    predicted, rows = _paths_of(job.root / "out", "predictions.csv", job.root), _read(job.root / "out/skipped.csv")
    skipped = [str(job.root / row["path"]) for row in rows]
    assert len(predicted) == len(set(predicted))
    assert len(skipped) == len(set(skipped))
    assert all(row["reason"] for row in rows)
    assert not set(predicted) & set(skipped)
    assert {*predicted, *skipped} == {_as_text(file.path) for file in job.files} - job.find("left alone")
    assert job.find("predicted") <= set(predicted)
    assert job.find("skipped") <= set(skipped)
    assert f"{len(skipped)} skipped" in finished.stderr
    print(f"{len(predicted)} predicted, {len(skipped)} skipped, {len(job.find('left alone'))} left alone")


def test_every_mask_is_whole_and_upright(job: Job, finished: subprocess.CompletedProcess[str]) -> None:
    rows = {row["path"]: row for row in _read(job.root / "out/predictions.csv")}
    masks = {path.relative_to(job.root / "out/masks") for path in (job.root / "out/masks").rglob("*.png")}
    assert masks == {Path(row["image"] + ".png") for row in rows.values()}
    for file in job.files:
        if (row := rows.get(str(file.path))) is None:
            continue
        for folder in ("masks", "colors", "overlays"):
            with Image.open(job.root / "out" / folder / f"{row['image']}.png") as picture:
                picture.load()
                assert (str(picture.width), str(picture.height)) == (row["width_px"], row["height_px"])
        if file.outcome == "predicted":
            assert (int(row["height_px"]), int(row["width_px"])) == file.kind.size_hw, file.path


def test_a_second_call_changes_nothing(job: Job, finished: subprocess.CompletedProcess[str]) -> None:
    before = _state(job.root / "out")
    again = job.call()
    assert (again.returncode, again.stdout.split()[0]) == (2, "0"), again.stderr[-4000:]
    assert again.stderr.count("\n") <= finished.stderr.count("\n")
    assert _state(job.root / "out") == before


def test_a_killed_call_is_completed_by_the_next(job: Job, finished: subprocess.CompletedProcess[str]) -> None:
    with (job.root / "killed.txt").open("w") as said:
        process = subprocess.Popen(_command("killed"), cwd=job.root, stdout=said, stderr=said)
    rows = job.root / "killed/.progress/rows.jsonl"
    while process.poll() is None and (not rows.exists() or rows.read_bytes().count(b"\n") < NUM_FILES // 4):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (job.root / "killed/predictions.csv").exists()
    num_done = rows.read_bytes().count(b"\n")
    done = job.call("killed")
    assert done.returncode == 2, done.stderr[-4000:]
    assert f"{num_done} were predicted before" in done.stdout
    assert _state(job.root / "killed").keys() == _state(job.root / "out").keys()
    for table in ("predictions.csv", "skipped.csv"):
        names = (_paths_of(job.root / output, table, job.root) for output in ("killed", "out"))
        assert sorted(next(names)) == sorted(next(names))
