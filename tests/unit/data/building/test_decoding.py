"""From files to pixels in a worker: what is kept, what is left out, and what is said about it."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from samples import Sample, write_source, write_store

from segpipe.classes import ClassTable
from segpipe.config.preprocess import Policy
from segpipe.data.building import decoding
from segpipe.data.building.decoding import NUM_PICTURES_OF_KIND, Place, Run, build_run, decode_sample
from segpipe.data.sources.source import RawSample

MakeSample = Callable[..., Sample]
MakeRun = Callable[..., Run]


@pytest.fixture(autouse=True)
def _threads_as_before() -> Any:
    num_threads = cv2.getNumThreads()
    yield
    cv2.setNumThreads(num_threads)


@pytest.fixture
def make_run(tmp_path: Path, classes: ClassTable) -> MakeRun:
    def make(samples: list[Sample], policy: dict[str, Any] | None = None) -> Run:
        (tmp_path / "out/shards").mkdir(parents=True)
        raw = write_source(tmp_path / "source", classes, samples).samples
        return Run(
            raw, [None] * len(raw), tmp_path / "source", classes, Policy.model_validate(policy or {}), tmp_path / "out"
        )

    return make


def _outside(sample: Sample) -> Sample:
    mask = sample.mask.copy()
    mask[16:, :16] = 77
    return dataclasses.replace(sample, mask=mask)


def _void(sample: Sample) -> Sample:
    return dataclasses.replace(sample, mask=np.full_like(sample.mask, 255))


def _three_channels(sample: Sample) -> Sample:
    return dataclasses.replace(sample, mask=np.repeat(sample.mask[..., None], 3, axis=2))


FIX_HINT = "preprocess.policy.fix: true"


@pytest.mark.parametrize(
    ("spoil", "policy", "expected"),
    [
        (_outside, {}, ("mask-values", "fail", False)),
        (_outside, {"actions": {"mask-values": "skip"}}, ("mask-values", "skip", False)),
        (_outside, {"fix": True}, ("mask-values", "fail", False)),  # there is nothing safe to make of it
        (_void, {}, ("mask-void", "warn", True)),
        (_void, {"actions": {"mask-void": "skip"}}, ("mask-void", "skip", False)),
        (_void, {"actions": {"mask-void": "fail"}}, ("mask-void", "fail", False)),
        (_three_channels, {}, ("mask-mode", "fail", False)),
        (_three_channels, {"actions": {"mask-mode": "skip"}}, ("mask-mode", "skip", False)),
        (_three_channels, {"fix": True}, ("mask-mode", "warn", True)),
        (_three_channels, {"fix": True, "actions": {"mask-mode": "skip"}}, ("mask-mode", "warn", True)),
    ],
)
def test_the_policy_decides_what_becomes_of_a_sample(
    make_sample: MakeSample,
    make_run: MakeRun,
    spoil: Callable[[Sample], Sample],
    policy: dict[str, Any],
    expected: tuple[str, str, bool],
) -> None:
    run = make_run([spoil(make_sample("a_0"))], policy)
    rows, (finding,) = build_run(run)
    assert (finding.problem.kind, finding.action, bool(rows)) == expected
    assert (finding.sample_id, finding.problem.where) == ("a_0", "masks/a_0.png")


def test_a_fixed_sample_is_fixed_in_the_store_and_not_in_the_source(make_sample: MakeSample, make_run: MakeRun) -> None:
    sample = make_sample("a_0")
    run = make_run([_three_channels(sample)], {"fix": True})
    before = run.samples[0].label.files[0].read_bytes()
    decoded, (finding,) = decode_sample(run.samples[0], run.root, run.policy, {})
    assert decoded is not None
    np.testing.assert_array_equal(decoded.mask, sample.mask)
    assert finding.problem.what.endswith("; fixed in the store")
    assert FIX_HINT not in finding.problem.fix
    assert run.samples[0].label.files[0].read_bytes() == before


def test_a_fixable_fault_says_how(make_sample: MakeSample, make_run: MakeRun) -> None:
    _, (fixable,) = build_run(make_run([_three_channels(make_sample("a_0"))]))
    assert FIX_HINT in fixable.problem.fix


def test_an_unfixable_fault_does_not_offer_a_fix(make_sample: MakeSample, make_run: MakeRun) -> None:
    _, (finding,) = build_run(make_run([_outside(make_sample("a_0"))]))
    assert FIX_HINT not in finding.problem.fix


def test_the_faults_of_image_and_mask_are_all_found_and_each_names_its_file(
    make_sample: MakeSample, make_run: MakeRun
) -> None:
    run = make_run([_outside(make_sample("a_0"))])
    run.samples[0].image.write_bytes(run.samples[0].image.read_bytes()[:500])
    rows, findings = build_run(run)
    assert rows == []
    assert [(f.problem.kind, f.problem.where) for f in findings] == [
        ("image-damaged", "images/a_0.png"),
        ("mask-values", "masks/a_0.png"),
    ]


def test_one_fault_that_fails_is_enough_among_warnings(make_sample: MakeSample, make_run: MakeRun) -> None:
    run = make_run([_void(_three_channels(make_sample("a_0")))])
    rows, findings = build_run(run)
    assert rows == []
    assert {finding.problem.kind: finding.action for finding in findings} == {"mask-mode": "fail", "mask-void": "warn"}


def test_good_samples_among_bad_ones_are_kept_in_order(make_sample: MakeSample, make_run: MakeRun) -> None:
    samples = [make_sample(f"a_{i}") for i in range(6)]
    run = make_run([_outside(sample) if i % 3 == 1 else sample for i, sample in enumerate(samples)])
    rows, findings = build_run(run)
    assert [row["sample_id"] for row in rows] == ["a_0", "a_2", "a_3", "a_5"]
    assert [finding.sample_id for finding in findings] == ["a_1", "a_4"]
    assert [row["offset"] for row in rows] == [4 * 32 * 32 * i for i in range(4)]


def test_a_grey_image_becomes_rgb(make_sample: MakeSample, make_run: MakeRun) -> None:
    run = make_run([make_sample("a_0")])
    grey = make_sample("a_0").image[..., 0]
    Image.fromarray(grey).save(run.samples[0].image)
    decoded, findings = decode_sample(run.samples[0], run.root, run.policy, {})
    assert decoded is not None
    assert findings == []
    np.testing.assert_array_equal(decoded.image, np.repeat(grey[..., None], 3, axis=2))


def test_only_the_first_of_a_kind_have_pictures(make_sample: MakeSample, make_run: MakeRun) -> None:
    spoilt = [_outside(make_sample(f"a_{i}")) for i in range(NUM_PICTURES_OF_KIND + 3)]
    _, findings = build_run(make_run(spoilt))
    has_picture = [finding.picture is not None for finding in findings]
    assert has_picture == [True] * NUM_PICTURES_OF_KIND + [False] * 3
    assert findings[0].picture is not None
    decoded = cv2.imdecode(np.frombuffer(findings[0].picture, np.uint8), cv2.IMREAD_COLOR)
    assert max(decoded.shape) <= 480


def test_pictures_are_counted_for_each_kind(make_sample: MakeSample, make_run: MakeRun) -> None:
    run = make_run([_outside(make_sample("a_0"))])
    _, (finding,) = decode_sample(run.samples[0], run.root, run.policy, Counter({"mask-void": 99}))
    assert finding.picture is not None
    _, (finding,) = decode_sample(run.samples[0], run.root, run.policy, Counter({"mask-values": NUM_PICTURES_OF_KIND}))
    assert finding.picture is None


def test_a_sample_with_a_place_is_copied_and_its_files_are_not_read(
    make_sample: MakeSample, make_run: MakeRun, tmp_path: Path, classes: ClassTable
) -> None:
    """Offsets that are no multiple of a page, and another name than it had."""
    samples = [make_sample("x_0", height=20, width=12), make_sample("x_1", height=24, width=28), make_sample("x_2")]
    (tmp_path / "last").mkdir()
    last = write_store(tmp_path / "last", classes, samples)
    new = make_sample("a_1")
    gone = RawSample("a_0", tmp_path / "gone.png", write_source(tmp_path / "x", classes, [new]).samples[0].label)
    run = make_run([new])
    record = last.manifest.drop(columns=["group", "split"]).to_dict("records")[1]
    place = Place(tmp_path / "last", {str(name): value for name, value in record.items()})
    rows, findings = build_run(dataclasses.replace(run, samples=[gone, *run.samples], places=[place, None]))
    assert findings == []
    assert {**rows[0], "offset": 0, "shard": ""} == {**place.row, "sample_id": "a_0", "offset": 0, "shard": ""}
    assert rows[1]["sample_id"] == "a_1"
    written = (run.output / "shards" / f"{rows[0]['shard']}.bin").read_bytes()
    assert written == b"".join(part.tobytes() for s in (samples[1], new) for part in (s.image, s.mask))


def test_links_that_lead_nowhere_are_named_with_all_the_rest(make_sample: MakeSample, make_run: MakeRun) -> None:
    run = make_run([make_sample("a_0"), make_sample("a_1"), make_sample("a_2")])
    files = [run.samples[0].image, *run.samples[1].label.files]
    for file in files:
        file.unlink()
        file.symlink_to("nowhere.png")
    rows, findings = build_run(run)
    assert [row["sample_id"] for row in rows] == ["a_2"]
    problems = [finding.problem for finding in findings]
    assert [(problem.kind, problem.where) for problem in problems] == [
        ("image-missing", "images/a_0.png"),
        ("mask-missing", "masks/a_1.png"),
    ]
    assert all("link" in problem.what for problem in problems)


def test_an_image_above_the_policys_limit_is_not_read(make_sample: MakeSample, make_run: MakeRun) -> None:
    run = make_run([make_sample("a_0")], {"max_megapixels": 0.0001})
    file = run.samples[0].image
    file.write_bytes(file.read_bytes()[:60])  # only the header is looked at
    rows, findings = build_run(run)
    assert rows == []
    assert {finding.problem.kind for finding in findings} == {"image-too-large"}
    assert {finding.problem.where for finding in findings} == {"images/a_0.png", "masks/a_0.png"}
    assert "max_megapixels: 1 in params.yaml" in findings[0].problem.fix


def test_large_images_are_read_one_after_another(
    make_sample: MakeSample, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(decoding, "LARGE_PX", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = make_run([make_sample("a_0")])
    thread = threading.Thread(target=build_run, args=(run,))
    with FileLock(tmp_path / f"segpipe-large-image-{os.getuid()}.lock"):
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(20)
    assert not thread.is_alive()
    assert list((run.output / "shards").glob("*.bin"))
