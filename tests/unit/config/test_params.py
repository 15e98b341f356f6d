"""`params.yaml`: the files of the repository are right, and each mistake is named with its place and its fix."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from facts import facts_of, missing
from pydantic import ValidationError
from ruamel.yaml import YAML
from starter import make_params

from segpipe.config.download import load_remote
from segpipe.config.params import load_config
from segpipe.config.register import Budget
from segpipe.config.train import ModelChoice
from segpipe.errors import ConfigError

ROOT = Path(__file__).parents[3]
DELETE = object()


@functools.cache
def _read() -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(make_params())
    return document


def _edited(tmp_path: Path, changes: dict[str, Any]) -> Path:
    """Writes a params.yaml with dotted keys set or deleted."""
    document = copy.deepcopy(_read())
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = document
        for name in sections:
            section = section[name]
        if value is DELETE:
            del section[last]
        else:
            section[last] = value
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(document, text)
    path = tmp_path / "params.yaml"
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def _message(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value).replace(str(path), "params.yaml")


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))], ids=lambda p: p.name
)
def test_the_repositorys_files_are_valid(path: Path) -> None:
    load_config(path)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train.learning_rat", 0.1, "train.learning_rat: unknown key; did you mean 'learning_rate' or "),
        ("train.augment.scal", 0.1, "train.augment.scal: unknown key; did you mean 'scale'? known: "),
        ("train.early_stopping", {"patience": 1, "delta": 0}, "train.early_stopping.delta: unknown key; did you mean "),
        ("trian", {}, "trian: unknown key; did you mean 'train'? known: class_weights, download, "),
        ("registr", {}, "registr: unknown key; did you mean 'register'"),
        ("train", 3, "train: must hold keys and values, one a line (got 3)"),
        ("train.model", "unet", "train.model: must hold keys and values, one a line (got 'unet')"),
        ("train.loss", ["dice"], "train.loss.0: must hold keys and values, one a line (got 'dice')"),
        ("train.loss", [], "train.loss: must have at least 1 item (got [])"),
        ("train.epochs", None, "train.epochs: must be an integer (got null)"),
        ("train.augment.crop", "a", "train.augment.crop: must be a list (got 'a')"),
        ("train.micro_batch", 2.5, "train.micro_batch: must be an integer or be 'auto' (got 2.5)"),
        ("train.learning_rate", -0.1, "train.learning_rate: must be greater than 0 (got -0.1)"),
        (
            "train.augment.transforms",
            [{"name": "flip", "probability": 1.5}],
            "train.augment.transforms.0.probability: must be less than or equal to 1 (got 1.5)",
        ),
        (
            "train.augment.transforms",
            [{"name": "flip"}, {"name": "clasmix"}],
            "train.augment.transforms.1.name: unknown augmentation 'clasmix'; did you mean 'classmix' or ",
        ),
        (
            "train.augment.transforms",
            [{"name": "color_jitter", "options": {"hue": 0.7, "brightnes": 0.1}}],
            "train.augment.transforms.0: augmentation 'color_jitter': option brightnes: unknown; did you mean "
            "'brightness'? known: brightness, contrast, hue, saturation; augmentation 'color_jitter': option hue: must "
            "be less than or equal to 0.5 (got 0.7)",
        ),
        (
            "train.augment.transforms",
            [{"name": "blur", "options": {"sigma_px": [2, 1]}}],
            "train.augment.transforms.0: augmentation 'blur': option sigma_px: the lower bound must not ",
        ),
        (
            "train.augment.transforms",
            [{"name": "albumentations"}],
            "train.augment.transforms.0: augmentation 'albumentations': option transform: is missing",
        ),
        ("train.augment.rare_class_crop", {}, "train.augment.rare_class_crop.probability: is missing"),
        ("train.augment.transform", [], "train.augment.transform: unknown key; did you mean 'transforms'? known: "),
        ("class_weights.cap", 0.5, "class_weights.cap: must be greater than or equal to 1 (got 0.5)"),
        ("train.epochs", 0, "train.epochs: must be greater than or equal to 1 (got 0)"),
        ("train.epochs", 2.5, "train.epochs: must be a valid integer (got 2.5)"),
        ("train.epochs", "40", "train.epochs: must be a valid integer (got '40')"),
        ("train.num_threads", True, "train.num_threads: must be a valid integer (got true)"),
        ("train.learning_rate", "1,5", "train.learning_rate: must be a valid number (got '1,5')"),
        ("train.device", "gpu", "train.device: "),
        ("train.augment.scale", [2.0, 1.0], "train.augment: scale: the lower bound must not exceed the upper one"),
        ("train.augment.crop", [192], "train.augment.crop.1: is missing"),
        (
            "train.schedule.name",
            "linear",
            "train.schedule.name: must be 'constant', 'cosine', 'poly', 'one_cycle', 'step', 'exponential' or ",
        ),
        (
            "train.schedule",
            {"name": "step"},
            "train.schedule: factor: is missing, step needs it; milestones: is missing, step needs it",
        ),
        (
            "train.schedule",
            {"name": "plateau", "factor": 0.5, "power": 0.8, "milestones": [0.5]},
            "train.schedule: patience: is missing, plateau needs it; milestones: has no meaning with plateau; "
            "power: has no meaning with plateau",
        ),
        (
            "train.schedule",
            {"name": "cosine", "factor": 0.5, "patience": 2},
            "train.schedule: factor: has no meaning with cosine; patience: has no meaning with cosine",
        ),
        ("train.schedule", {"name": "exponential", "factor": 1.0}, "train.schedule.factor: must be less than 1 (got 1"),
        (
            "train.schedule",
            {"name": "step", "factor": 0.1, "milestones": [0.5, 30]},
            "train.schedule.milestones.1: must be less than 1 (got 30)",
        ),
        (
            "train.schedule",
            {"name": "plateau", "factor": 0.5, "patience": 3},  # validated every four epochs
            "train: schedule.patience: must be at least validate_every epochs, or each validation lowers the rate",
        ),
        ("train.momentum", 0.9, "train: momentum: has no meaning with adamw"),
        ("train.momentum", 1.0, "train.momentum: must be less than 1 (got 1.0)"),
        ("train.optimizer", "lion", "train.optimizer: must be 'sgd', 'rmsprop', 'adam' or 'adamw' (got 'lion')"),
        ("train.accumulate_batches", 0, "train.accumulate_batches: must be greater than or equal to 1 (got 0)"),
        ("train.clip_gradient_norm", 0, "train.clip_gradient_norm: must be greater than 0 (got 0)"),
        ("train.auxiliary_weight", -0.4, "train.auxiliary_weight: must be greater than or equal to 0 (got -0.4)"),
        ("train.freeze", "encoder", "train.freeze: must be a valid list (got 'encoder')"),
        ("train.learning_rate_factors", {"encoder": 0}, "train.learning_rate_factors.encoder: must be greater than 0 "),
        ("train.loss", [], "train.loss: "),
        ("train.loss", {"name": "dice"}, "train.loss: must be a valid list (got {'name': 'dice'})"),
        ("train.loss", [{"name": "dice", "weight": 0}], "train.loss.0.weight: must be greater than 0 (got 0)"),
        (
            "train.loss",
            [{"name": "dice"}, {"name": "dise"}],
            "train.loss.1.name: unknown loss 'dise'; did you mean 'dice'? known: ",
        ),
        ("train.model.in_channels", 4, "train.model.in_channels: must be 1 or 3 (got 4)"),
        ("train.model.weights", "", "train.model.weights: "),
        ("train.model.sha256", "ABC", "train.model.sha256: "),
        (
            "train.model.weights",
            "ImageNet",
            "train.model: sha256: must be given for weights from a file (ImageNet); otherwise: none, imagenet, ",
        ),
        ("train.model.sha256", "0" * 64, "train.model: sha256: has an effect only if weights is a path"),
        (
            "train.model",
            {"name": "unet", "weights": "models:/streets", "sha256": "0" * 64},
            "train.model: sha256: has an effect only if weights is a path; weights: must be models:/NAME@ALIAS or "
            "models:/NAME/VERSION (got models:/streets)",
        ),
        ("train.model.weights", "models:/a/b", "train.model: weights: must be models:/NAME@ALIAS or models:/NAME/VER"),
        ("train.model.weights", "models:/a@b/1", "train.model: weights: must be models:/NAME@ALIAS or "),
        ("train.model.name", "unett", "train.model.name: unknown model 'unett'; did you mean 'unet' or "),
        (
            "class_weights.scheme",
            "enett",
            "class_weights.scheme: unknown class-weighting scheme 'enett'; did you mean ",
        ),
        ("download.format", "foldr", "download.format: unknown data format 'foldr'; did you mean 'folder'"),
        ("train.epochs", DELETE, "train.epochs: is missing"),
        ("evaluate", DELETE, "evaluate: is missing"),
        ("download.source", "s3://bucket/a.zip", "download: source: must be a path, which DVC can watch; write "),
        ("download.source", "public:voc2012", "download: source: must be a path, which DVC can watch; write "),
        ("download.source", "http://example.org/a.zip", "download: source: an address must begin with https://"),
        (
            "download.join",
            {"city": {"source": "https://example.org/a.zip", "format": "folder"}},
            "download.join.city: sha256: must be given for an address",
        ),
        ("download.join", {"a b": {"source": "a", "format": "folder"}}, "download.join.a b"),
        ("preprocess.ignore", ["sky"], "preprocess: ignore: has an effect only if classes is given"),
        ("preprocess.group_column", "city", "preprocess: group_column: give group_pattern or group_column, not both"),
        ("preprocess.classes", {"road": []}, "preprocess.classes.road: "),
        (
            "preprocess.policy",
            {"actions": {"mask-value": "skip"}},
            "preprocess.policy.actions.mask-value: unknown kind of fault 'mask-value'; did you mean 'mask-values' or ",
        ),
        (
            "preprocess.policy",
            {"actions": {"mask-values": "warn"}},
            "preprocess.policy: actions: mask-values: warn is not possible; possible: fail, skip",
        ),
        ("download.sha256", "ABC", "download.sha256: "),
        ("download.images.bands", [1, 2], "download.images: bands: one band three"),
        ("download.images.bands", [0, 1, 2], "download.images.bands.0: must be greater than or equal to 1 (got 0)"),
        ("download.images.range", [5.0, 5.0], "download.images: range: first below second"),
        ("download.images.percentiles", [1.0, 101.0], "download.images.percentiles.1: must be less than 100"),
        ("download.images.background", [0, 0], "download.images.background: "),
        ("preprocess.group_pattern", "^[^_]+_", "preprocess.group_pattern: must have exactly one (group)"),
        ("preprocess.group_pattern", "(a)(b)", "preprocess.group_pattern: must have exactly one (group)"),
        ("preprocess.group_pattern", "(", "preprocess.group_pattern: must be a regular expression"),
        ("preprocess.split.val", 1.5, "preprocess.split.val: must be less than 1 (got 1.5)"),
        ("preprocess.split.val", "sourcee", "preprocess.split.val: must be 'source' (got 'sourcee')"),
        ("register.model_name", "a/b", "register.model_name: "),
        ("register.model_name", "door.lock", "register.model_name: must not end in .lock or .ledger, as the names"),
        ("register.better", "percentile", "register.better: must be 'interval' or 'point' (got 'percentile')"),
        ("register.max_class_drop", 1.5, "register.max_class_drop: must be less than or equal to 1 (got 1.5)"),
        ("register.block_length", 0, "register.block_length: must be greater than or equal to 1 (got 0)"),
        ("register.min_class_iou", {"car": -0.1}, "register.min_class_iou.car: must be greater than or equal to 0 "),
        ("register.budget", {"latency": 1}, "register.budget.latency: unknown key; did you mean 'latency_ms'? known: "),
        ("register.budget.latency_ms", 0, "register.budget.latency_ms: must be greater than 0 (got 0)"),
        ("register.budget.slowdown", "2x", "register.budget.slowdown: must be a valid number (got '2x')"),
        ("register.budget.backend", "tensorrt", "register.budget.backend: must be 'torch', 'onnx' or 'openvino'"),
        ("register.budget.backend", "onnx", "register: budget.backend: onnx needs the export of that format; write "),
        ("register.export", ["onxx"], "register.export.0: must be 'onnx', 'openvino' or 'torch' (got 'onxx')"),
        ("register.export", ["onnx", "onnx"], "register: export: names a format twice"),
        ("register.accepted_problems", "leak-near", "register.accepted_problems: must be a valid list "),
        ("register.accepted_problems", ["near"], "register.accepted_problems.0: unknown kind of fault 'near'; "),
        ("train.experiment", "a'b", "train.experiment: "),
        ("train.experiment", "", "train.experiment: "),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, key: str, value: object, expected: str) -> None:
    lines = _message(_edited(tmp_path, {key: value})).splitlines()
    where, _, _ = expected.partition(": ")
    told = [line for line in lines if line.startswith(f"params.yaml: {where}: ")]
    assert any(not missing(line, *facts_of(expected)) for line in told), lines


@pytest.mark.parametrize("value", [[], [3], 0, 1.0])
def test_a_wrong_split_rule_is_named_by_the_key_that_the_user_wrote(tmp_path: Path, value: object) -> None:
    for line in _message(_edited(tmp_path, {"preprocess.split.val": value})).splitlines():
        assert line.startswith(("params.yaml: preprocess.split.val: ", "params.yaml: preprocess.split.val.0: "))


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    changes = {
        "train.epochs": 0,
        "train.model.name": "x",
        "train.schedule": {"name": "step"},
        "register.min_delta": 2.0,
        "evaluate.num_threads": DELETE,
    }
    message = _message(_edited(tmp_path, changes))
    assert len(message.splitlines()) == len(changes)
    assert all(f"params.yaml: {key}: " in message for key in changes)


@pytest.mark.parametrize("value", [3, "x", None, [1], {"a": 1}, True, 2.5])
@pytest.mark.parametrize("key", ["train", "train.model", "train.micro_batch", "train.loss", "preprocess.split.val"])
def test_a_wrong_value_is_one_line_in_the_words_of_yaml(tmp_path: Path, key: str, value: object) -> None:
    path = _edited(tmp_path, {key: value})
    try:
        load_config(path)
    except ConfigError as error:
        of_key = [line for line in str(error).splitlines() if f"{key}: must" in line]
        assert len(of_key) <= 1
        words = ("instance of", "dictionary", "tuple", "boolean", "validation", "None", "Train", "Choice", "Input")
        assert not [word for word in words if word in str(error)]


def test_the_same_bits_anywhere_need_float32_on_a_cpu(tmp_path: Path) -> None:
    changes = {"train.deterministic": "anywhere", "train.precision": "bf16", "train.device": "cuda"}
    message = _message(_edited(tmp_path, changes))
    assert "precision: must be float32 with deterministic: anywhere (got bf16)" in message
    assert "device: must be cpu with deterministic: anywhere (got cuda)" in message


def test_endless_numbers_are_refused(tmp_path: Path) -> None:
    assert "train.learning_rate: " in _message(_edited(tmp_path, {"train.learning_rate": float("inf")}))


def test_no_such_file(tmp_path: Path) -> None:
    assert _message(tmp_path / "params.yaml") == "params.yaml: no such file; run in the repository's root folder"


@pytest.mark.parametrize("content", [b"train: [1, 2", b"a: 1\na: 2\n", b"\xff\xfe\xff"], ids=["open", "twice", "bytes"])
def test_not_yaml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    assert _message(tmp_path / "params.yaml").startswith("params.yaml: is not YAML: ")


@pytest.mark.parametrize("content", ["", "3", "[1]"])
def test_no_sections(tmp_path: Path, content: str) -> None:
    (tmp_path / "params.yaml").write_text(content)
    assert not missing(_message(tmp_path / "params.yaml"), "sections", "class_weights", "download")


def test_exponents_are_numbers(tmp_path: Path) -> None:
    text = make_params()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("learning_rate: 0.003", "learning_rate: 1e-3"), encoding="utf-8")
    assert load_config(path).train.learning_rate == 0.001


@pytest.mark.parametrize(
    ("key", "value", "get"),
    [
        ("preprocess.split.val", 0.2, lambda c: c.preprocess.split.val),
        ("preprocess.split.val", "source", lambda c: c.preprocess.split.val),
        ("preprocess.split.test", None, lambda c: c.preprocess.split.test),
        ("train.augment.crop", [64, 96], lambda c: list(c.train.augment.crop)),
        ("train.device", "cuda:1", lambda c: c.train.device),
        ("train.model.weights", "imagenet", lambda c: c.train.model.weights),
        ("train.model.weights", "models:/street scenes@champion", lambda c: c.train.model.weights),
        ("train.model.weights", "models:/streets/12", lambda c: c.train.model.weights),
        ("train.freeze", ["encoder.layer1"], lambda c: c.train.freeze),
        ("download.images.bands", [4, 3, 2], lambda c: list(c.download.images.mapping.bands)),
        ("download.images.range", [0.0, 4095.0], lambda c: list(c.download.images.mapping.range)),
        ("download.images.percentiles", [2.0, 98.0], lambda c: list(c.download.images.mapping.percentiles)),
        ("download.images.background", None, lambda c: c.download.images.mapping.background),
    ],
)
def test_a_valid_file_is_read(tmp_path: Path, key: str, value: object, get: Callable[[Any], object]) -> None:
    assert get(load_config(_edited(tmp_path, {key: value}))) == value


def test_what_belongs_into_the_file_that_says_where_a_source_lies_is_not_ignored(tmp_path: Path) -> None:
    given = {"download.source": "streets.yaml", "download.sha256": "0" * 64, "download.allow_http": True}
    with pytest.raises(ConfigError) as raised:
        load_config(_edited(tmp_path, given))
    assert not missing(
        str(raised.value), f"write `sha256: {'0' * 64}` into streets.yaml", "write `allow_http: true` into streets.yaml"
    )


def test_a_joined_address_with_its_sha256_is_right(tmp_path: Path) -> None:
    choice = {"source": "https://example.org/a.zip", "format": "camvid", "sha256": "0" * 64}
    assert load_config(_edited(tmp_path, {"download.join": {"city": choice}})).download.join["city"].is_remote


def test_a_file_says_where_a_source_lies(tmp_path: Path) -> None:
    path = tmp_path / "source.yaml"
    path.write_text("source: public:voc2012\n", encoding="utf-8")
    assert load_remote(path).source == "public:voc2012"
    path.write_text("sorce: public:voc2012\nsha256: abc\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_remote(path)
    lines = [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]
    assert lines[0] == "source: is missing"
    assert lines[1].startswith("sha256: must match")
    assert lines[2] == "sorce: unknown key; did you mean 'source'? known: allow_http, sha256, source"


@pytest.mark.parametrize(
    ("weights", "is_from_file"),
    [
        ("none", False),
        ("imagenet", False),
        ("models:/streets@champion", False),
        ("models:/streets/1", False),
        ("w.pth", True),
    ],
)
def test_weights_from_a_file_are_distinguished_from_others(weights: str, is_from_file: bool) -> None:
    choice = ModelChoice(name="unet", weights=weights, sha256="0" * 64 if is_from_file else None)
    assert choice.is_from_file is is_from_file


@pytest.mark.parametrize(
    ("budget", "needs_latency"),
    [({}, False), ({"size_mb": 1.0}, False), ({"latency_ms": 1.0}, True), ({"slowdown": 1.1}, True)],
)
def test_models_are_timed_only_where_the_budget_asks_for_it(budget: dict[str, float], needs_latency: bool) -> None:
    assert Budget(**budget).needs_latency is needs_latency


@pytest.mark.parametrize(
    ("budget", "timed"),
    [({"backend": "onnx"}, None), ({"backend": "onnx", "slowdown": 1.1}, "onnx"), ({"slowdown": 1.1}, None)],
)
def test_exports_are_timed_only_where_a_limit_is_theirs(budget: dict[str, Any], timed: str | None) -> None:
    assert Budget(**budget).timed_export == timed


def test_a_configuration_does_not_change() -> None:
    config = load_config(ROOT / "params.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        config.train.epochs = 3  # type: ignore[misc]
