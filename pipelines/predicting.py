"""The flows `predict` (masks of many images, by several workers at once) and `shard` (one worker's share).

`segpipe predict` cuts the images into shards, and goes on where an earlier call ended; the flows only decide where the
shards run. The last call finds what the shards have predicted, and writes the tables of all.
"""

import glob
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed
from pydantic import Field

from pipelines import placement, summary
from pipelines.errors import PipelineError
from pipelines.flows import NUM_CRASHES_FORGIVEN, RETRY_DELAY_SECONDS, call
from pipelines.names import by_parameters
from pipelines.workspace import CURRENT, HOME, find_revision, identity, open_workspace
from segpipe.errors import CommandError, SkippedError
from segpipe.parent_death import die_with_parent

MAX_SHARDS = 100
ALL = ""  # the call for all images, which writes the tables
PART = re.compile(r"(\d+/\d+)?")
DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
# The only folder of the clone that Git leaves alone and no stage writes to.
PREDICTIONS = "predictions"
SOME_SKIPPED = "Some skipped"  # the state of a run that named what it could not predict
PREDICTED = re.compile(r"^\d+ images predicted")
SKIPPED = re.compile(r"\b\d+ skipped\b")


@dataclass(frozen=True)
class Request:
    """What is predicted, and how; the parameters of `predict`.

    Attributes:
        images: a folder, a picture, a video, a pattern, or a list of paths.
        output: the folder for the predictions.
        model: as for `segpipe predict --model`; empty for the champion.
        device: auto, cpu, cuda or cuda:N.
        every: of a video, each such frame is predicted.
        batch: images that are predicted at once, at most.
        confidence: whether confidences are written.
        probabilities: whether the probabilities of all classes are written.
    """

    images: str
    output: str
    model: str = ""
    device: str = "auto"
    every: int = 1
    batch: int = 4
    confidence: bool = False
    probabilities: bool = False

    def check(self) -> None:
        """Checks the texts, which come from a form of a web page.

        Raises:
            PipelineError: names all that cannot be used.
        """
        problems = [
            f"{name}: {problem}"
            for name, text in (("images", self.images), ("output", self.output), ("model", self.model))
            if (problem := _fault_of_text(text, may_be_empty=name == "model"))
        ]
        if not DEVICE.fullmatch(self.device):
            problems.append(f"device: must be auto, cpu, cuda or cuda:N (got {self.device!r})")
        if not problems and (problem := _fault_of_output(self.output)):
            problems.append(problem)
        if problems:
            raise PipelineError("\n".join(problems))

    def check_here(self, controller: str) -> None:
        """Checks that this worker finds the images.

        Args:
            controller: the clone of the run that has started this one.

        Raises:
            PipelineError: it does not; says on which machine.
        """
        where = f"this worker's clone, {identity()}"
        relative = [text for text in (self.images, self.output) if not Path(text).is_absolute()]
        if relative and controller != identity():
            raise PipelineError(
                f"{', '.join(relative)}: is relative to {where}, but the run was started in {controller}; for workers "
                "of several clones write absolute paths, of a disk that all of them share"
            )
        if problem := _fault_of_images(self.images):
            raise PipelineError(f"images: {problem}, seen from {where}; write a path that each worker of the pool sees")

    def to_command(self, part: str, again: bool) -> list[str]:
        """Gives the command; no text of the form can become an option of it.

        Args:
            part: I/N for a shard; empty for all images.
            again: deletes the predictions in the output folder first.
        """
        options = [f"--output={self.output}", f"--device={self.device}", f"--every={self.every}"]
        options += [f"--batch={self.batch}", *([f"--model={self.model}"] if self.model else [])]
        options += [*([f"--shard={part}"] if part else []), *(["--again"] if again else [])]
        options += ["--confidence"] if self.confidence else []
        options += ["--probabilities"] if self.probabilities else []
        return ["segpipe", "predict", *options, "--", self.images]


def _fault_of_text(text: str, may_be_empty: bool) -> str:
    if not text and not may_be_empty:
        return "is empty"
    if text.startswith("-"):
        return f"{text!r} begins like an option; write ./{text}"
    if any(ord(character) < ord(" ") or ord(character) == 0x7F for character in text):
        return f"{text!r} holds control characters"
    return ""


def _fault_of_images(images: str) -> str:
    path = HOME / images
    try:
        is_there = path.exists() or glob.has_magic(images)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return "" if is_there else f"{path} is not there"


def _fault_of_output(output: str) -> str:
    """Says why predictions cannot be written to a folder: in the clone they would be changes that are not committed."""
    folder, home = (HOME / output).resolve(), HOME.resolve()
    if folder == home or home.is_relative_to(folder):
        return f"output: {folder} holds the project itself; write {PREDICTIONS}/NAME, or an absolute path elsewhere"
    if folder.is_relative_to(home) and folder.relative_to(home).parts[0] != PREDICTIONS:
        return f"output: {folder} lies in the project; write {PREDICTIONS}/NAME, or an absolute path elsewhere"
    return ""


@flow(name="predict", flow_run_name=by_parameters("predict", "images"), persist_result=False)
def predict(
    images: Annotated[str, Field(min_length=1)],
    output: Annotated[str, Field(min_length=1)],
    model: str = "",
    shards: Annotated[int, Field(ge=1, le=MAX_SHARDS)] = 1,
    pool: Literal["cpu", "gpu"] = "cpu",
    device: str = "auto",
    every: Annotated[int, Field(ge=1)] = 1,
    batch: Annotated[int, Field(ge=1)] = 4,
    confidence: bool = False,
    probabilities: bool = False,
    again: bool = False,
) -> State[Any]:
    """Predicts the masks of images with the champion, by several workers at once if there are shards.

    Args:
        images: A folder of images, an image or video, a pattern like shots/**/*.jpg, or a .txt file with one path a
            line; on the workers' machines. Relative to the clone.
        output: A folder for masks/, colors/, overlays/ and tables. Absolute, or predictions/NAME in the clone. With
            workers on several machines a folder that all of them share.
        model: The folder of a trained model, models:/NAME@ALIAS or models:/NAME/VERSION. Empty: the champion in
            MLflow's registry.
        shards: Into so many parts the images are cut. Each free worker of the pool predicts one.
        pool: The work pool whose workers predict.
        device: auto, cpu, cuda or cuda:N.
        every: Of a video, each such frame is predicted.
        batch: So many images of one size are predicted at once, at most.
        confidence: Also write confidence/, the probability of each pixel's class.
        probabilities: Also write probabilities/ of all classes; large.
        again: Deletes the predictions that the folder holds first, for example those of an earlier champion.
    """
    die_with_parent()
    log = get_run_logger()
    request = Request(images, output, model, device, every, batch, confidence, probabilities)
    request.check()
    placement.check_server()
    placement.check_workers({pool})

    def run(parts: Sequence[str], again: bool) -> dict[str, State[Any]]:
        def start(part: str, attempt: int) -> FlowRun:
            what = f"shard {part}" if part else "tables" if shards > 1 else "all"
            parameters = {
                "request": asdict(request),
                "part": part,
                "again": again,
                "controller": identity(),
            }
            name = f"predict {images} {what} attempt {attempt}"
            return placement.start_child(f"shard/{pool}", name, parameters, None, ["predict"])

        return run_parts(parts, start, pool, log.info)

    if again:  # once: a run that goes on after a crash must not delete what was predicted before
        run([f"0/{shards}"], True)
    if shards > 1:
        run([f"{index + 1}/{shards}" for index in range(shards)], False)
    last = run([ALL], False)[ALL]
    lines = (last.message or "").splitlines()
    headline = summarize(lines)
    summary.create_prediction_artifact(headline, lines, Path(output))
    return Completed(name=last.name, message=headline)


def run_parts(
    parts: Sequence[str], start: Callable[[str, int], FlowRun], pool: str, say: Callable[[str], None]
) -> dict[str, State[Any]]:
    """Runs parts of the work at once as flow runs on a pool; one whose worker is lost goes on at another.

    Args:
        parts: their names.
        start: puts a part, with the number of its attempt, into the pool's queue.
        pool: its name.
        say: gets each end.

    Returns:
        The last state of each part, by its name.

    Raises:
        PipelineError: a part failed, or crashed too often; the others are cancelled.
    """
    running: dict[str, FlowRun] = {}
    ends: dict[str, State[Any]] = {}
    num_crashes: Counter[str] = Counter()
    with placement.cancelling(running):
        for part in parts:
            running[part] = start(part, 1)
        while running:
            part, state = placement.wait_for_first(running, pool, say)
            child = running.pop(part)
            if state.is_completed():
                say(f"{child.name}: {summarize((state.message or '').splitlines())}")
                ends[part] = state
                continue
            num_crashes[part] += state.is_crashed()
            if not state.is_crashed() or num_crashes[part] > NUM_CRASHES_FORGIVEN:
                raise PipelineError(f"{child.name}: {state.type.value.lower()}. {state.message or ''}".strip())
            say(f"{child.name}: crashed; it goes on in {RETRY_DELAY_SECONDS:g} s")
            time.sleep(RETRY_DELAY_SECONDS)
            running[part] = start(part, num_crashes[part] + 1)
    return ends


def summarize(lines: Sequence[str]) -> str:
    """Gives one line for what `segpipe predict` has printed."""
    predicted = [line for line in lines if PREDICTED.match(line)]
    skipped = [found.group() for line in lines if (found := SKIPPED.search(line))]
    return "; ".join([*predicted[-1:], *skipped[-1:]]) or next(reversed(lines), "done")


@flow(name="shard", persist_result=False)
def shard(request: dict[str, Any], part: str, again: bool, controller: str) -> State[Any]:
    """Predicts a share of the images on this worker's machine; started by `predict`.

    Args:
        request: What is predicted, and how.
        part: I/N; empty for all images, with the tables.
        again: Delete the predictions that the folder holds first.
        controller: The clone of the run that has started this one.
    """
    die_with_parent()
    log = get_run_logger()
    asked = Request(**request)
    asked.check()
    if not PART.fullmatch(part):
        raise PipelineError(f"part: must be I/N or empty (got {part!r})")
    asked.check_here(controller)
    workspace = open_workspace(find_revision(CURRENT, None), log.info)
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        log.info(line)

    try:
        call(workspace, asked.to_command(part, again), "", on_line, f"segpipe predict on {os.uname().nodename}")
    except CommandError as error:
        if error.code != SkippedError.exit_code:
            raise
        return Completed(name=SOME_SKIPPED, message="\n".join(lines))
    return Completed(message="\n".join(lines))
