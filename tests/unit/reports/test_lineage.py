"""The page from images to alias: every section tells what was recorded, or that nothing was."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segpipe.reports.documents.lineage import VersionLineage
from segpipe.reports.lineage import write_lineage_page

PERHAPS_MISSING = ("source", "problems", "splits", "run", "evaluation", "decision", "dataset_digest", "weights_sha256")


@pytest.fixture
def document() -> dict[str, Any]:
    problem = {"kind": "leak-near", "where": "a_3, a_4", "what": "nearly the same", "fix": "Keep one"}
    val = {
        "mean_iou": 0.6423,
        "low": 0.6,
        "high": 0.7,
        "others": {"pixel accuracy": 0.91},
        "iou": {"road": 0.8, "sign": None},
    }
    test = {
        "mean_iou": 0.5,
        "low": None,
        "high": None,
        "others": {"pixel accuracy": 0.85},
        "iou": {"road": 0.7, "sign": 0.3},
    }
    return {
        "model_name": "streets",
        "version": "7",
        "is_champion": True,
        "is_pinned": False,
        "warnings": [],
        "source": {"name": "data", "format": "folder", "licence": "CC BY 4.0", "num_files": 361},
        "data": {"data": "aaa.dir", "build/raw": "bbb.dir"},
        "dataset_digest": "d" * 36,
        "problems": [problem],
        "splits": [
            {"split": "train", "num_samples": 168, "groups": ["a", "b"], "shares": {"road": 0.75, "sign": 0.25}},
            {"split": "val", "num_samples": 32, "groups": ["c"], "shares": {"road": 0.5}},
        ],
        "class_weights": {"road": 0.5, "sign": 2.0},
        "params": {"train": {"model": {"name": "unet", "options": {}}, "scale": [0.5, 2.0], "early_stopping": None}},
        "code": {"commit": "c" * 40, "is_dirty": False, "recipe": None, "patch": None},
        "environment": {"torch": "2.14.1", "num_threads": "2"},
        "run": {
            "run_id": "r" * 32,
            "experiment": "day",
            "started": "12:01",
            "ended": "12:30",
            "status": "FINISHED",
            "best_epoch": 58,
            "model": "unet",
        },
        "evaluation": {"evaluation_digest": "e" * 64, "inference": None, "splits": {"val": val, "test": test}},
        "weights_sha256": "f" * 64,
        "decision": {
            "decision": "promoted",
            "reasons": ["Better."],
            "decided": "2026-03-04 12:31",
            "by": "register",
            "evidence": {},
        },
        "ledger": [
            {
                "number": 2,
                "time": "2026-03-04",
                "previous": "0" * 64,
                "time_ms": 1,
                "who": "trainer",
                "action": "promote",
                "about": "7",
                "reasons": ["Better.", "Fast."],
                "evidence": {},
                "champion_before": None,
                "champion_after": "7",
                "is_pinned": False,
                "version": "7",
                "digest": "1" * 64,
            }
        ],
        "predecessors": [
            {
                "version": "3",
                "mean_iou": 0.6123,
                "commit": "b" * 40,
                "since": "Feb",
                "until": "March",
                "decision": "promoted",
            }
        ],
    }


def _write(folder: Path, document: dict[str, Any]) -> str:
    typed = VersionLineage.parse(json.dumps(document), "document", "correct the test")
    path = write_lineage_page(folder, typed)
    assert path == folder / "index.html"
    return path.read_text(encoding="utf-8")


def _words(page: str) -> str:
    """The page's body as a reader sees it: no tags, one space between words."""
    body = page.partition("<body>")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_the_chain_names_each_step_and_leads_to_its_section(tmp_path: Path, document: dict[str, Any]) -> None:
    page = _write(tmp_path, document)
    chain = page[page.index("<ol") : page.index("</ol>")]
    assert _words("<body>" + chain) == (
        f"source data 361 files data {'d' * 12} digest of the data set split 168 / 32 train / val "
        f"training {'r' * 12} unet weights {'f' * 12} epoch 58 evaluation {'e' * 12} val mIoU 64.2% "
        "decision promoted 2026-03-04 12:31 alias champion version 7"
    )
    assert "missing" not in chain
    links = re.findall(r'href="#([^"]+)"', page)
    assert links == ["source", "data", "splits", "training", "weights", "evaluation", "decision", "ledger"]
    assert set(links) <= set(re.findall(r'id="([^"]+)"', page))


def test_every_section_tells_what_was_recorded(tmp_path: Path, document: dict[str, Any]) -> None:
    words = _words(_write(tmp_path, document))
    for text in (
        "streets, version 7: from images to alias This version is the champion.",
        "name data format folder licence CC BY 4.0 files 361",
        f"data aaa.dir build/raw bbb.dir digest of the data set {'d' * 36}",
        "a_3, a_4 : nearly the same. Keep one. leak-near",
        "train 168 a, b val 32 c",
        "class train val road 75.0% 50.0% sign 25.0% none",
        "road 0.500 sign 2.00",
        "train.model.name unet train.model.options {} train.scale [0.5, 2.0] train.early_stopping null",
        f"commit {'c' * 40} params.yaml as committed",
        "torch 2.14.1 num_threads 2",
        f"run {'r' * 32} experiment day model unet status FINISHED started 12:01 ended 12:30 best epoch 58",
        f"sha256 {'f' * 64}",
        "mIoU 64.2% 50.0% 95% interval 60.0% to 70.0% not recorded pixel accuracy 91.0% 85.0%",
        "class val test road 80.0% 70.0% sign not labelled 30.0%",
        "promoted , 2026-03-04 12:31, by register Better.",
        "2 2026-03-04 trainer promote 7 none → 7 Better. Fast.",
        f"3 61.2% {'b' * 12} Feb March promoted",
    ):
        assert text in words


def test_bars_and_whiskers_stand_where_their_numbers_say(tmp_path: Path, document: dict[str, Any]) -> None:
    page = _write(tmp_path, document)
    # Weights 0.5 and 2.0 of 2.0; IoUs 0.8, 0.7, none and 0.3 of 1; the predecessor's mIoU.
    assert re.findall(r'class="bar" style="width: ([\d.]+)%', page) == [
        *("25.0", "100.0"),
        *("80.0", "70.0", "0", "30.0"),
        "61.2",
    ]
    # 200 px for 0..1: the interval 0.6..0.7 around 0.6423; the test split has no interval.
    assert re.findall(r'<path class="interval [^"]*" d="([^"]+)"', page) == ["M120.0 4v8M120.0 8H140.0M140.0 4v8"]
    assert re.findall(r'<circle [^>]*cx="([\d.]+)"', page) == ["128.5", "100.0"]


def test_what_was_not_recorded_is_said(tmp_path: Path, document: dict[str, Any]) -> None:
    document |= dict.fromkeys(PERHAPS_MISSING)
    document |= {name: {} for name in ("data", "class_weights", "params", "environment")}
    document |= {"is_champion": False, "ledger": [], "predecessors": []}
    document["code"] |= {"commit": None}
    page = _write(tmp_path, document)
    assert page.count('<p class="absent">Not recorded.</p>') == 12
    assert page.count('class="step missing"') == 7  # all but the alias, which is none
    assert page.count("<table") == 1, "of the code"
    assert "This version is not the champion." in page
    assert "segpipe registry rebuild" not in page


def test_a_pin_and_what_is_wrong_with_the_ledger_stand_at_the_top(tmp_path: Path, document: dict[str, Any]) -> None:
    assert "pinned" not in _write(tmp_path, document)
    page = _write(tmp_path, document | {"is_pinned": True, "warnings": ["entry 3 was <changed>"]})
    assert "This version is the champion, pinned." in page
    assert "<b>Warning:</b> entry 3 was &lt;changed&gt;." in page


def test_a_first_champion_has_none_before_it(tmp_path: Path, document: dict[str, Any]) -> None:
    page = _write(tmp_path, document | {"predecessors": []})
    assert page.partition("Earlier champions</h2>")[2].lstrip().startswith("<p>None.</p>")


def test_no_problem_is_not_the_same_as_no_record(tmp_path: Path, document: dict[str, Any]) -> None:
    document["problems"] = []
    assert "Problems found None." in _words(_write(tmp_path, document))


def test_a_version_can_be_rebuilt_unless_files_were_not_committed(tmp_path: Path, document: dict[str, Any]) -> None:
    assert "segpipe registry rebuild 7" in _words(_write(tmp_path, document))
    document["code"] |= {"is_dirty": True, "patch": "lineage/uncommitted.patch"}
    words = _words(_write(tmp_path, document))
    assert "segpipe registry rebuild" not in words
    assert "params.yaml see below" in words
    assert "stored with the run: lineage/uncommitted.patch ." in words
    document["code"]["patch"] = None
    assert "The difference to the commit is not recorded." in _words(_write(tmp_path, document))


def test_a_recipe_is_named(tmp_path: Path, document: dict[str, Any]) -> None:
    document["code"]["recipe"] = "camvid"
    assert "params.yaml the same as recipes/camvid.yaml" in _words(_write(tmp_path, document))


def test_everything_is_escaped_and_nothing_is_fetched(tmp_path: Path, document: dict[str, Any]) -> None:
    evil = "<b>&\"'<script src='https://evil.example'>"

    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {(evil if key in {"road", "torch", "data"} else key): spoil(item) for key, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return evil if isinstance(value, str) else value

    data = document.pop("data")
    page = _write(tmp_path, {**spoil(document), "data": spoil(data)})
    assert "<script" not in page
    assert evil not in page
    assert _words(page).count(evil) > 30
    assert all(link.startswith(("#", "data:")) for link in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert not re.search(r"url\(|@import", page)


def test_what_a_registry_says_is_text_and_never_a_part_of_the_page(tmp_path: Path, document: dict[str, Any]) -> None:
    attack = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'

    def plant(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plant(below) for name, below in value.items()}
        if isinstance(value, list):
            return [plant(below) for below in value]
        return attack if isinstance(value, str) else value

    page = _write(tmp_path, plant(document))
    assert html.escape(attack).replace("&quot;", "&#34;") in page
    assert "<script" not in page
    assert "<img" not in page


def test_the_page_in_a_browser(tmp_path: Path, document: dict[str, Any], look_at: Callable[[Path], None]) -> None:
    document["class_weights"]["a class with a name that is longer than any phone is wide, and goes on and on"] = 1.0
    document["params"] |= {"a" * 60: "x" * 300}
    document["ledger"][0]["reasons"].append("x" * 200)
    _write(tmp_path, document)
    look_at(tmp_path / "index.html")
