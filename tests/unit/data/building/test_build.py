"""Building the store: the same bytes in every way of building, no work done twice, every problem of a source named."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import missing
from samples import Sample, build, content_of, write_source

from segpipe.classes import ClassTable
from segpipe.config.preprocess import Preprocess
from segpipe.data.building import reuse, shards
from segpipe.data.building.build import Built, build_store
from segpipe.data.masks.labels import IndexMask
from segpipe.data.sources.source import Source
from segpipe.data.store import Store
from segpipe.errors import Problem

MakeSample = Callable[..., Sample]
Change = Callable[[dict[str, Sample]], None]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGPIPE_WORKERS", "1")
    # The code that a key is of may be edited while a test runs.
    monkeypatch.setattr(reuse, "__file__", str(tmp_path / "no code/reuse.py"))


@dataclasses.dataclass
class Bench:
    """A folder for sources and stores, and the samples that are in the source now."""

    folder: Path
    classes: ClassTable
    samples: dict[str, Sample]
    num_built: int = 0

    @property
    def root(self) -> Path:
        return self.folder / "source"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def source(self) -> Source:
        """Writes the samples again."""
        shutil.rmtree(self.root, ignore_errors=True)
        return write_source(self.root, self.classes, list(self.samples.values()))

    def build(self, source: Source | None = None, cache: Path | None = None, **settings: Any) -> tuple[Built, Path]:
        """Gives what was built, and where."""
        self.num_built += 1
        output = self.folder / f"dataset{self.num_built}"
        return build(source or self.source(), self.root, output, cache, **settings), output

    def rebuild(self, source: Source | None = None, **settings: Any) -> Built:
        """Builds from the cache, and cold, and compares all that comes of it."""
        source = source or self.source()
        warm, output = self.build(source, self.cache, **settings)
        cold, expected = self.build(source, None, **settings)
        assert content_of(output) == content_of(expected)
        assert warm.findings == cold.findings
        assert warm.num_skipped == cold.num_skipped
        kept = {path.name for path in (self.cache / "shards").iterdir()}
        assert kept == {path.name for path in (output / "shards").iterdir()}
        Store.open(self.cache)
        return warm


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, classes: ClassTable, make_sample: MakeSample) -> Bench:
    """Twenty-four samples in about six runs."""
    monkeypatch.setattr(shards, "MEAN_RUN_LENGTH", 4)
    names = [(f"{group}_{i:02d}", split) for group, split in zip("tvw", SPLITS, strict=True) for i in range(8)]
    return Bench(tmp_path, classes, {name: make_sample(name, split, 16, 20) for name, split in names})


SPLITS = ("train", "val", "test")


# The same samples, the same bytes.


def test_a_good_source_becomes_a_store(bench: Bench) -> None:
    built, output = bench.build()
    assert (built.findings, built.num_skipped, built.num_decoded) == ((), 0, 24)
    store = Store.open(output)
    assert store.manifest["sample_id"].tolist() == sorted(bench.samples)
    assert store.manifest["shard"].nunique() > 3
    for index, sample in enumerate(bench.samples.values()):
        row = store.manifest.iloc[index]
        assert (row["sample_id"], row["group"], row["split"]) == (sample.sample_id, sample.group, sample.split)
        np.testing.assert_array_equal(store.read(index)[0], sample.image)
        np.testing.assert_array_equal(store.read(index)[1], sample.mask)


def test_the_order_in_which_a_source_lists_its_samples_does_not_matter(bench: Bench) -> None:
    source = bench.source()
    # Names that are ordered otherwise than the files are.
    named = [dataclasses.replace(sample, sample_id=f"{99 - i}") for i, sample in enumerate(source.samples)]
    built, first = bench.build(dataclasses.replace(source, samples=tuple(named)))
    np.random.default_rng(0).shuffle(named)
    _, second = bench.build(dataclasses.replace(source, samples=tuple(named)))
    assert content_of(first) == content_of(second)
    assert built.manifest["sample_id"].is_monotonic_increasing


def test_the_number_of_workers_does_not_matter(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    spoil_mask(bench, "t_03")
    source = bench.source()
    alone, expected = bench.build(source, policy=SKIP)
    for num_workers in (2, 3):
        monkeypatch.setenv("SEGPIPE_WORKERS", str(num_workers))
        built, output = bench.build(source, policy=SKIP)
        assert content_of(output) == content_of(expected)
        assert built.findings == alone.findings


# What is unchanged is not decoded again.


def _add(samples: dict[str, Sample]) -> None:
    samples["t_03b"] = dataclasses.replace(samples["t_03"], sample_id="t_03b", image=samples["t_03"].image[::-1].copy())


def _remove(samples: dict[str, Sample]) -> None:
    del samples["v_02"]


def _change_image(samples: dict[str, Sample]) -> None:
    image = samples["t_05"].image.copy()
    image[3, 3] ^= 1
    samples["t_05"] = dataclasses.replace(samples["t_05"], image=image)


def _change_mask(samples: dict[str, Sample]) -> None:
    mask = samples["w_01"].mask.copy()
    mask[:4] = 255
    samples["w_01"] = dataclasses.replace(samples["w_01"], mask=mask)


def _rename(samples: dict[str, Sample]) -> None:
    samples["t_99"] = dataclasses.replace(samples.pop("t_02"), sample_id="t_99")


def _swap_names(samples: dict[str, Sample]) -> None:
    first, second = samples["t_06"], samples["t_07"]
    samples["t_06"] = dataclasses.replace(second, sample_id="t_06")
    samples["t_07"] = dataclasses.replace(first, sample_id="t_07")


def _change_split(samples: dict[str, Sample]) -> None:
    samples["t_04"] = dataclasses.replace(samples["t_04"], split="val")


def _nothing(samples: dict[str, Sample]) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "num_decoded", "max_new_shards"),
    [
        (_nothing, 0, 0),
        (_add, 1, 2),
        (_remove, 0, 1),
        (_change_image, 1, 1),
        (_change_mask, 1, 1),
        (_rename, 0, 3),
        (_swap_names, 0, 2),
        (_change_split, 0, 0),
    ],
)
def test_a_change_costs_what_it_changes(bench: Bench, change: Change, num_decoded: int, max_new_shards: int) -> None:
    before = bench.rebuild().manifest
    change(bench.samples)
    after = bench.rebuild()
    assert after.num_decoded == num_decoded
    assert len(set(after.manifest["shard"]) - set(before["shard"])) <= max_new_shards


@pytest.mark.parametrize("name", ["t_00", "t_03", "t_07", "v_00", "v_06", "w_07"])
def test_wherever_a_sample_is_removed_only_neighbours_lie_elsewhere(bench: Bench, name: str) -> None:
    before = bench.rebuild().manifest
    del bench.samples[name]
    after = bench.rebuild()
    assert after.num_decoded == 0
    assert len(set(after.manifest["shard"]) - set(before["shard"])) <= 1


def test_many_changes_at_once_and_back_again(bench: Bench) -> None:
    originals = dict(bench.samples)
    bench.rebuild()
    rng = np.random.default_rng(5)
    changes = [_add, _remove, _change_image, _change_mask, _rename, _swap_names, _change_split]
    for _ in range(3):
        for index in rng.permutation(len(changes)):
            changes[index](bench.samples)
        bench.rebuild()
        bench.samples = dict(originals)
        bench.rebuild()


def test_the_end_of_a_run_may_vanish_with_its_shards_unchanged(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """A large sample, in a shard of its own, ends its run; without it two runs become one, and so do their shards."""
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 4 * 16 * 20 * 6)
    ids = list(bench.samples)
    first, *_ = shards.split_into_runs(ids)
    last = ids[first.stop - 1]
    large = bench.samples[last]
    bench.samples[last] = dataclasses.replace(
        large, image=np.tile(large.image, (4, 4, 1)), mask=np.tile(large.mask, (4, 4))
    )
    assert (bench.rebuild().manifest["shard"].value_counts() == 1).any()
    del bench.samples[last]
    assert bench.rebuild().num_decoded == 0


def test_a_large_sample_between_shards_may_be_removed(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    monkeypatch.setattr(shards, "MEAN_RUN_LENGTH", 1 << 40)
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 4 * 16 * 20 * 15)
    large = bench.samples["t_04"]
    bench.samples["t_04"] = dataclasses.replace(
        large, image=np.tile(large.image, (4, 4, 1)), mask=np.tile(large.mask, (4, 4))
    )
    bench.rebuild()
    del bench.samples["t_04"]
    assert bench.rebuild().num_decoded == 0


@pytest.mark.parametrize("twin", ["t_00b", "t_07b", "v_03b"])
def test_twins_of_one_content_lie_where_a_cold_build_lays_them(bench: Bench, twin: str) -> None:
    bench.samples[twin] = dataclasses.replace(bench.samples["t_00"], sample_id=twin)
    policy = {"actions": {"leak-exact": "warn", "leak-sequence": "warn"}}
    bench.rebuild(policy=policy)
    assert bench.rebuild(policy=policy).num_decoded == 0
    _change_image(bench.samples)
    assert bench.rebuild(policy=policy).num_decoded == 1
    del bench.samples["t_00"]
    assert bench.rebuild(policy=policy).num_decoded == 0
    bench.samples[twin] = dataclasses.replace(bench.samples[twin], image=255 - bench.samples[twin].image)
    assert bench.rebuild(policy=policy).num_decoded == 1


def test_equal_runs_have_one_shard_that_a_later_run_does_not_mistake(
    monkeypatch: pytest.MonkeyPatch, bench: Bench
) -> None:
    bench.samples["t_00b"] = dataclasses.replace(bench.samples["t_00"], sample_id="t_00b")
    policy = {"actions": {"duplicate": "warn"}}
    monkeypatch.setattr(shards, "MEAN_RUN_LENGTH", 1)  # each sample is a run
    bench.rebuild(policy=policy)
    monkeypatch.setattr(shards, "MEAN_RUN_LENGTH", 1 << 40)  # all are one, and the twins neighbours in it
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 2 * 4 * 16 * 20)
    assert bench.rebuild(policy=policy).num_decoded == 0


def test_a_split_that_loses_all_its_samples_is_a_problem(bench: Bench) -> None:
    for i in range(8):
        spoil_mask(bench, f"v_{i:02d}")
    built, _ = bench.build(policy=SKIP | {"max_skipped": 1.0})
    assert ("fail", "split-empty", "split val") in _found(built)


def test_what_a_table_says_of_samples_may_change(bench: Bench) -> None:
    source = bench.source()
    for value in ("sun", "rain"):
        described = tuple(dataclasses.replace(sample, attributes={"weather": value}) for sample in source.samples[1:])
        built = bench.rebuild(dataclasses.replace(source, samples=(source.samples[0], *described)))
        assert built.manifest["attribute_weather"].tolist()[1:] == [value] * 23
    assert built.num_decoded == 0


def test_another_meaning_of_the_labels_decodes_again(bench: Bench) -> None:
    bench.rebuild()
    source = bench.source()
    label = IndexMask(source.samples[0].label.files[0], {0: 1, 1: 0, 2: 2, 255: 255})
    changed = (dataclasses.replace(source.samples[0], label=label), *source.samples[1:])
    assert bench.rebuild(dataclasses.replace(source, samples=changed)).num_decoded == 1


def test_other_class_names_decode_again(bench: Bench) -> None:
    bench.rebuild()
    bench.classes = dataclasses.replace(bench.classes, names=("road", "van", "sky"))
    assert bench.rebuild().num_decoded == 24


def test_a_flipped_byte_in_the_cache_is_noticed_and_only_its_shard_is_decoded(bench: Bench) -> None:
    manifest = bench.rebuild().manifest
    name = manifest["shard"][5]
    path = bench.cache / "shards" / f"{name}.bin"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.unlink()  # of the store before it is a link
    path.write_bytes(content)
    assert bench.rebuild().num_decoded == (manifest["shard"] == name).sum() < 24
    assert bench.rebuild().num_decoded == 0


def test_files_without_a_sha256_are_always_decoded(bench: Bench) -> None:
    """A file that `download` has not hashed may have changed since last time."""
    source = bench.source()
    bench.build(source, bench.cache)
    settings = Preprocess.model_validate({"split": {"val": "source", "test": "source"}})
    (bench.folder / "unhashed").mkdir()
    built = build_store(source, bench.root, settings, bench.folder / "unhashed", {}, bench.cache)
    assert built.num_decoded == 24
    assert content_of(bench.folder / "unhashed") == content_of(bench.folder / "dataset1")


# Killed at any point, the next build is right.

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.link", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}


def _killed_at(num_changes: int, work: Callable[[], Any]) -> bool:
    """Does work in a child that is killed, as by kill -9, just before its n-th change of the file system.

    Returns:
        False where it ended before.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)
    try:
        seen = 0

        def count(event: str, args: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & WRITES):
                if seen == num_changes:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        sys.addaudithook(count)
        work()
        os._exit(0)
    finally:
        os._exit(1)


def test_a_build_that_is_killed_anywhere_does_no_harm(bench: Bench) -> None:
    """Each change of the file system is a point to be killed at; the child looks at no other."""
    bench.samples = {name: sample for name, sample in bench.samples.items() if name[2:] in {"00", "01", "02"}}
    bench.rebuild()
    original = bench.folder / "original cache"
    bench.cache.rename(original)
    for change in (_change_image_of("t_01"), _remove):
        change(bench.samples)
    source = bench.source()
    _, expected = bench.build(source)
    num_killed, num_decoded = 0, []
    while True:
        shutil.rmtree(bench.cache, ignore_errors=True)
        shutil.copytree(original, bench.cache)
        if not _killed_at(num_killed, lambda: bench.build(source, bench.cache)):
            break
        num_killed += 1
        shutil.rmtree(bench.folder / f"dataset{bench.num_built + 1}", ignore_errors=True)
        built, output = bench.build(source, bench.cache)
        assert content_of(output) == content_of(expected), num_killed
        num_decoded.append(built.num_decoded)
        Store.open(bench.cache)
        files = {path.relative_to(bench.cache).parts[0] for path in bench.cache.rglob("*")}
        assert files == {"dataset.json", "manifest.parquet", "shards"}, num_killed
    assert num_killed > 15
    # But for the moment in which the manifest is exchanged, nothing is lost that need not be.
    assert sorted(num_decoded)[-2:] == [1, 8]


def _change_image_of(name: str) -> Change:
    def change(samples: dict[str, Sample]) -> None:
        samples[name] = dataclasses.replace(samples[name], image=255 - samples[name].image)

    return change


# What is wrong, and what follows.

SKIP = {"actions": {"mask-values": "skip"}, "max_skipped": 0.5}


def spoil_mask(bench: Bench, name: str) -> None:
    mask = bench.samples[name].mask.copy()
    mask[4:, :8] = 77
    bench.samples[name] = dataclasses.replace(bench.samples[name], mask=mask)


def _found(built: Built) -> list[tuple[str, str, str]]:
    return [(finding.action, finding.problem.kind, finding.problem.where) for finding in built.findings]


def test_all_problems_are_reported_together(bench: Bench) -> None:
    spoil_mask(bench, "t_02")
    small = bench.samples["v_01"]
    bench.samples["v_01"] = dataclasses.replace(small, mask=small.mask[:8])
    source = bench.source()
    cut, none = bench.root / "images/t_04.png", bench.root / "masks/w_05.png"
    cut.write_bytes(cut.read_bytes()[:200])
    none.write_text("no image")
    missing = Problem("mask-missing", "images/t_nomask.png", "no masks/t_nomask.png", "Add the mask")
    twin = source.samples[0]
    source = dataclasses.replace(source, problems=(missing,), samples=(*source.samples, twin))
    built, _ = bench.build(source, group_pattern="^([tv])_", split={"val": ["v", "x"], "test": 0.9})
    found = _found(built)
    for expected in (
        ("fail", "group-missing", "w_00"),
        ("fail", "group-unknown", "preprocess.split.val"),
        ("fail", "id-twice", "t_00"),
        ("fail", "image-damaged", "images/t_04.png"),
        ("fail", "mask-missing", "images/t_nomask.png"),
        ("fail", "mask-values", "masks/t_02.png"),
        ("fail", "not-an-image", "masks/w_05.png"),
        ("fail", "size-mismatch", "masks/v_01.png"),
    ):
        assert expected in found
    assert built.of_action("fail") == [finding.problem for finding in built.findings if finding.action == "fail"]


def test_skipped_samples_are_counted_and_named(bench: Bench) -> None:
    for name in ("t_02", "w_05"):
        spoil_mask(bench, name)
    built = bench.rebuild(policy=SKIP)
    assert built.num_skipped == 2
    assert _found(built) == [("skip", "mask-values", "masks/t_02.png"), ("skip", "mask-values", "masks/w_05.png")]
    assert built.manifest["sample_id"].tolist() == [name for name in bench.samples if name not in {"t_02", "w_05"}]


def test_a_file_without_its_other_half_is_a_skipped_sample_and_a_failed_one_is_none(bench: Bench) -> None:
    spoil_mask(bench, "t_02")
    bench.samples["t_03"] = dataclasses.replace(bench.samples["t_03"], mask=bench.samples["t_03"].mask[:8])
    missing = Problem("mask-missing", "images/t_nomask.png", "no masks/t_nomask.png", "Add the mask")
    source = dataclasses.replace(bench.source(), problems=(missing,))
    built, _ = bench.build(source, policy=SKIP | {"actions": {"mask-values": "skip", "mask-missing": "skip"}})
    assert built.num_skipped == 2
    assert [action for action, *_ in _found(built)] == ["skip", "skip", "fail"]


def test_files_without_their_other_half_count_in_the_whole_too(bench: Bench) -> None:
    missing = [Problem("mask-missing", f"images/{i}.png", "no mask", "Add the mask") for i in range(30)]
    source = dataclasses.replace(bench.source(), problems=tuple(missing))
    built, _ = bench.build(source, policy={"actions": {"mask-missing": "skip"}, "max_skipped": 0.5})
    (problem,) = built.of_action("fail")
    assert problem.what == "30 of 54 samples are left out, more than 50.0%"


@pytest.mark.parametrize(("num_spoilt", "is_too_many"), [(0, False), (3, False), (4, True)])
def test_more_than_the_quota_may_not_be_left_out(bench: Bench, num_spoilt: int, is_too_many: bool) -> None:
    for i in range(num_spoilt):
        spoil_mask(bench, f"t_{i:02d}")
    built, _ = bench.build(policy=SKIP | {"max_skipped": 0.125})
    wrong = built.of_action("fail")
    if is_too_many:
        assert [problem.kind for problem in wrong] == ["too-many-skipped"]
        assert wrong[0].what == "4 of 24 samples are left out, more than 12.5%"
    else:
        assert wrong == []


def test_a_sample_with_findings_is_looked_at_each_time_and_named_each_time(bench: Bench) -> None:
    bench.samples["t_03"] = dataclasses.replace(bench.samples["t_03"], mask=np.full((16, 20), 255, np.uint8))
    spoil_mask(bench, "v_04")
    found = None
    for num_decoded in (24, 2, 2):
        built = bench.rebuild(policy=SKIP)
        assert built.num_decoded == num_decoded
        assert found in (None, _found(built))
        found = _found(built)
    assert found == [("warn", "mask-void", "masks/t_03.png"), ("skip", "mask-values", "masks/v_04.png")]


def test_a_file_that_is_fixed_later_is_decoded_then(bench: Bench) -> None:
    good = bench.samples["t_03"]
    spoil_mask(bench, "t_03")
    assert bench.rebuild().of_action("fail") != []
    bench.samples["t_03"] = good
    built = bench.rebuild()
    assert (built.findings, built.num_decoded) == ((), 1)


def test_a_changed_policy_is_followed_without_other_changes(bench: Bench) -> None:
    mask = bench.samples["t_03"].mask
    bench.samples["t_03"] = dataclasses.replace(bench.samples["t_03"], mask=np.repeat(mask[..., None], 3, axis=2))
    assert bench.rebuild(policy={"actions": {"mask-mode": "skip"}}).num_skipped == 1
    assert bench.rebuild(policy={"fix": True}).num_skipped == 0
    assert bench.rebuild(policy={"actions": {"mask-mode": "skip"}}).num_skipped == 1


def test_only_the_first_of_a_kind_have_pictures_in_the_whole_set(bench: Bench) -> None:
    for name in bench.samples:
        spoil_mask(bench, name)
    built, _ = bench.build()
    assert len(built.manifest) == 0
    has_picture = [finding.picture is not None for finding in built.findings if finding.problem.kind == "mask-values"]
    assert has_picture == [True] * 3 + [False] * 21


def test_all_samples_bad_is_no_store_and_says_why(bench: Bench) -> None:
    source = bench.source()
    for sample in source.samples:
        sample.image.write_text("no image")
    built, output = bench.build(source, bench.cache)
    assert len(built.manifest) == 0
    assert built.num_skipped == 0  # but not good enough to be used
    assert [kind for _, kind, _ in _found(built)].count("not-an-image") == 24
    assert list(content_of(output)) == []
    assert not bench.cache.exists()


def test_all_samples_with_warnings_are_kept_and_none_is_taken_over(bench: Bench) -> None:
    for name, sample in bench.samples.items():
        bench.samples[name] = dataclasses.replace(sample, mask=np.full_like(sample.mask, 255))
    for _ in range(2):
        built = bench.rebuild()
        assert (built.num_decoded, built.num_skipped) == (24, 0)


def test_an_empty_source_says_so(bench: Bench) -> None:
    source = Source(bench.classes, (), (Problem("empty", "images", "holds no image", "Add some"),), "none")
    built, _ = bench.build(source, bench.cache)
    assert ("fail", "empty", "images") in _found(built)
    assert len(built.manifest) == 0


def test_of_twins_by_name_the_same_is_taken_in_any_order(bench: Bench) -> None:
    source = bench.source()
    twin = dataclasses.replace(source.samples[3], sample_id="t_00")
    policy = {"actions": {"leak-exact": "warn", "leak-sequence": "warn"}}
    one, first = bench.build(dataclasses.replace(source, samples=(*source.samples, twin)), policy=policy)
    two, second = bench.build(dataclasses.replace(source, samples=(twin, *source.samples)), policy=policy)
    assert content_of(first) == content_of(second)
    assert one.findings == two.findings
    assert ("fail", "id-twice", "t_00") in _found(one)
    (problem,) = [finding.problem for finding in one.findings if finding.problem.kind == "id-twice"]
    assert not missing(problem.what, "images/t_00.png", "images/t_03.png")


def test_a_class_absent_from_train_is_a_problem(bench: Bench) -> None:
    for name, sample in bench.samples.items():
        if sample.split == "train":
            bench.samples[name] = dataclasses.replace(sample, mask=np.where(sample.mask == 1, 0, sample.mask))
    built, _ = bench.build()
    assert _found(built) == [("fail", "class-untrained", "class car")]


def test_a_class_absent_from_val_is_a_warning(bench: Bench) -> None:
    for name, sample in bench.samples.items():
        if sample.split == "val":
            bench.samples[name] = dataclasses.replace(sample, mask=np.where(sample.mask == 2, 255, sample.mask))
    built, _ = bench.build()
    assert _found(built) == [("warn", "class-absent", "split val, class sky")]


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_measured_split_of_void_alone_is_a_problem(split: str, bench: Bench) -> None:
    for name, sample in bench.samples.items():
        if sample.split == split:
            bench.samples[name] = dataclasses.replace(sample, mask=np.full_like(sample.mask, 255))
    built, _ = bench.build()
    (problem,) = built.of_action("fail")
    assert (problem.kind, problem.where) == ("split-void", f"split {split}")
    assert f"preprocess.split.{split}: [GROUP]" in problem.fix


def test_groups_and_splits_follow_the_settings(bench: Bench) -> None:
    split = {"val": ["w"], "test": ["t"]}
    built, _ = bench.build(group_pattern="^([a-z])_", split=split)
    expected = [[name, name[0], {"w": "val", "t": "test", "v": "train"}[name[0]]] for name in bench.samples]
    assert built.manifest[["sample_id", "group", "split"]].to_numpy().tolist() == expected


def test_samples_of_any_size_share_a_shard(bench: Bench, make_sample: MakeSample) -> None:
    for i, (height, width) in enumerate([(4, 4), (4, 200), (200, 4), (64, 64)]):
        bench.samples[f"t_1{i}"] = make_sample(f"t_1{i}", "train", height, width)
    _, output = bench.build()
    store = Store.open(output)
    for index, name in enumerate(sorted(bench.samples)):
        np.testing.assert_array_equal(store.read(index)[0], bench.samples[name].image)
        np.testing.assert_array_equal(store.read(index)[1], bench.samples[name].mask)


# Memory.

MEASURED = r"""
import re, sys
from pathlib import Path
import numpy as np
from samples import Sample, build, write_source
from segpipe.classes import ClassTable

folder, num_samples = Path(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)

def make(i):
    mask = rng.integers(0, 3, (16, 16), np.uint8).repeat(32, 0).repeat(32, 1)
    image = rng.integers(0, 256, (16, 16, 3), np.uint8).repeat(32, 0).repeat(32, 1)
    split = ("train", "val", "test")[i % 3]
    return Sample(f"{split}_{i:04d}", split, split, image, mask)

classes = ClassTable(("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
sources = [write_source(folder / "source", classes, [make(i)]) for i in range(num_samples)]
source = type(sources[0])(classes, tuple(s.samples[0] for s in sources), (), "")
built = build(source, folder / "source", folder / "out", folder / "cache")
assert (built.num_decoded, built.num_skipped) == (num_samples, 0), built.findings[:3]
# Not getrusage: its maximum counts what the parent held when it started this process.
print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    """A sample is 1 MiB: 360 more of them in memory would be visible."""
    peaks_bytes = []
    for num_samples in (40, 400):
        folder = tmp_path / str(num_samples)
        arguments = [sys.executable, "-c", MEASURED, folder, str(num_samples)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks_bytes.append(int(done.stdout))
    assert peaks_bytes[1] < 1.1 * peaks_bytes[0] + (4 << 20), peaks_bytes
