"""One sample from its files to its pixels, with all that is wrong with it. Runs in workers."""

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock

from segpipe.classes import ClassTable
from segpipe.config.preprocess import Policy
from segpipe.data.building.shards import Row, Sample, write_shards
from segpipe.data.images import Header, is_named_as_picture, read_header, read_labelled_image
from segpipe.data.inspection.checks import check_sample
from segpipe.data.inspection.fault_picture import mark_fault
from segpipe.data.sources.source import RawSample
from segpipe.data.store import SHARDS
from segpipe.documents import DECIDES_NOTHING, ImageMapping
from segpipe.errors import Problem
from segpipe.faults import Action, Fault

NUM_PICTURES_OF_KIND = 3
MEGA = 1_000_000
LARGE_PX = 16 * MEGA  # reading a larger one takes more than 0.1 GB
FIX = "Or write preprocess.policy.fix: true, which fixes it in the store"


@dataclass(frozen=True)
class Finding:
    """A problem and what is done about it.

    Args:
        problem: what is wrong, where, and how to fix it.
        action: by the policy: the data cannot be used, the sample is left out, or it is a warning.
        sample_id: of the sample concerned; '' for one of the whole set.
        picture: JPEG that shows it.
    """

    problem: Problem
    action: Action
    sample_id: str = ""
    picture: bytes | None = None


@dataclass(frozen=True)
class Place:
    """Where the pixels of an unchanged sample already are.

    Args:
        folder: a store's.
        row: its row of that store.
    """

    folder: Path
    row: Row


@dataclass(frozen=True)
class Run:
    """Samples whose pixels share shards.

    Args:
        samples: neighbours by name.
        places: of each sample that need not be decoded again; None for the others.
        root: folder of the source; names of files in messages begin there (`name_of`).
        classes: the class table.
        policy: what is done about faults.
        output: folder of the new store.
        mapping: how the values of image files become 8-bit RGB.
    """

    samples: Sequence[RawSample]
    places: Sequence[Place | None]
    root: Path
    classes: ClassTable
    policy: Policy
    output: Path
    mapping: ImageMapping = DECIDES_NOTHING


def build_run(run: Run) -> tuple[list[Row], list[Finding]]:
    """Decodes, checks, counts and writes a run's samples.

    Returns:
        For each sample that is kept what the manifest says of it, and all findings.
    """
    cv2.setNumThreads(0)
    findings: list[Finding] = []

    def samples() -> Iterator[Sample]:
        for raw, place in zip(run.samples, run.places, strict=True):
            if place is not None:
                yield _copy_sample(raw.sample_id, place)
                continue
            num_pictures = Counter(finding.problem.kind for finding in findings if finding.picture)
            with _alone_where_large(raw):  # until it is written
                sample, found = decode_sample(raw, run.root, run.policy, num_pictures, run.mapping)
                findings.extend(found)
                if sample is not None:
                    yield sample
                    del sample

    rows = write_shards(run.output / SHARDS, samples(), run.classes)
    return rows, findings


@contextlib.contextmanager
def _alone_where_large(raw: RawSample) -> Iterator[None]:
    """Lets only one worker of this machine hold a large image at a time: many of them would fill the memory."""
    if max((header.reading_px for header in _headers_of(raw).values()), default=0) <= LARGE_PX:
        yield
        return
    with FileLock(Path(tempfile.gettempdir()) / f"segpipe-large-image-{os.getuid()}.lock"):
        yield


def _headers_of(raw: RawSample) -> dict[Path, Header]:
    """Reads the headers of a sample's pictures; annotation files have none."""
    paths = dict.fromkeys(path for path in (raw.image, *raw.label.files) if is_named_as_picture(path.name))
    return {path: header for path in paths if (header := read_header(path)) is not None}


def _find_missing(raw: RawSample) -> list[tuple[Path, Fault]]:
    """Finds links that lead nowhere: a reader only lists names."""
    kinds = {raw.image: "image-missing"} | {path: "mask-missing" for path in raw.label.files if path != raw.image}
    what, fix = "is a link to a file that does not exist", "Remove it, or bring the file back"
    return [(path, Fault(kind, what, fix)) for path, kind in kinds.items() if path.is_symlink() and not path.exists()]


def _find_too_large(headers: Mapping[Path, Header], limit_px: float) -> list[tuple[Path, Fault]]:
    key = "preprocess.policy.max_megapixels"
    found = []
    for path, header in headers.items():
        if header.reading_px <= limit_px:
            continue
        counted = f" of {header.bytes_per_px} bytes, which count as {header.reading_px} px"
        is_deep = header.bytes_per_px > 1
        what = f"has {header.width}x{header.height} px{counted * is_deep}, more than {key}: {limit_px / MEGA:g}"
        fix = f"Cut it into parts, or write {key}: {-(-header.reading_px // MEGA)} in params.yaml (400 at most)"
        found.append((path, Fault("image-too-large", what, fix)))
    return found


def _copy_sample(sample_id: str, place: Place) -> Sample:
    row = place.row
    height, width = int(row["height"]), int(row["width"])
    data = np.memmap(
        place.folder / SHARDS / f"{row['shard']}.bin", np.uint8, "r", int(row["offset"]), (4 * height * width,)
    )
    image, mask = data[: 3 * height * width], data[3 * height * width :]
    return Sample(sample_id, image.reshape(height, width, 3), mask.reshape(height, width))


def decode_sample(
    raw: RawSample,
    root: Path,
    policy: Policy,
    num_pictures: Mapping[str, int],
    mapping: ImageMapping = DECIDES_NOTHING,
) -> tuple[Sample | None, list[Finding]]:
    """Reads a sample's files.

    Args:
        raw: names them.
        root: paths in messages are relative to it.
        policy: what is done about faults.
        num_pictures: how many pictures of each kind there are already; some are enough.
        mapping: how the values of image files become 8-bit RGB.

    Returns:
        The sample, or None if its faults forbid its use; and all findings.
    """
    headers = _headers_of(raw)
    if unread := _find_missing(raw) + _find_too_large(headers, policy.max_megapixels * MEGA):
        problems = [_problem_of(fault, name_of(file, root), policy) for file, fault in unread]
        return None, [Finding(problem, policy.action_of(problem.kind), raw.sample_id) for problem in problems]
    header = headers.get(raw.image)
    mask = raw.label.read((0, 0) if header is None else (header.height, header.width))
    mask_size_hw = None if mask.pixels is None else (mask.pixels.shape[0], mask.pixels.shape[1])
    image = read_labelled_image(raw.image, mapping, mask_size_hw)
    findings = []
    mask_file = raw.label.files[0]
    faults = [(raw.image, fault) for fault in image.faults] + [(mask_file, fault) for fault in mask.faults]
    faults += [
        (raw.image if fault.kind.startswith("image-") else mask_file, fault)
        for fault in check_sample(image.pixels, mask.pixels)
    ]
    for file, fault in faults:
        picture = None
        if num_pictures.get(fault.kind, 0) < NUM_PICTURES_OF_KIND:
            picture = mark_fault(image.pixels, mask.pixels, fault)
        problem = _problem_of(fault, name_of(file, root), policy)
        findings.append(Finding(problem, action_on(fault, policy), raw.sample_id, picture))
    if image.pixels is None or mask.pixels is None or any(finding.action != "warn" for finding in findings):
        return None, findings
    return Sample(raw.sample_id, image.pixels, mask.pixels), findings


def action_on(fault: Fault, policy: Policy) -> Action:
    """What is done about a fault: one that is fixed in the store is a warning."""
    return "warn" if fault.is_fixed and policy.fix else policy.action_of(fault.kind)


def name_of(file: Path, root: Path) -> str:
    """Names a file by its path within its source.

    The name of a file of a joined source begins with the source's folder, which in `build/raw` lies next to `root`;
    elsewhere it is the whole path.
    """
    for folder in (root, root.parent):
        if file.is_relative_to(folder):
            return file.relative_to(folder).as_posix()
    return file.as_posix()


def _problem_of(fault: Fault, where: str, policy: Policy) -> Problem:
    if not fault.is_fixed:
        return Problem(fault.kind, where, fault.what, fault.fix)
    if policy.fix:
        return Problem(fault.kind, where, f"{fault.what}; fixed in the store", fault.fix)
    return Problem(fault.kind, where, fault.what, f"{fault.fix}. {FIX}")
