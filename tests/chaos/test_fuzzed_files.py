"""Thousands of spoilt files: no crash, no hang, bounded memory, and no other mask accepted without a word."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chaos import fuzzing

from segpipe.data.masks.labels import ColorMask, IndexMask, plain_indices

# A file without a checksum cannot tell that a value became another valid one; docs/data-faults.md says so.
WITHOUT_CHECKSUM = ("tiff", "bmp", "gif", "ppm", "webp")
SECONDS_PER_THOUSAND = 120
MAX_GROWN_BYTES = 500_000_000
NUM_QUICK, NUM_SLOW, NUM_PER_PROCESS = 300, 10_000, 1_000


def read_spoilt(first: int, num: int, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, fuzzing.__file__, str(first), str(num), str(folder)],
        capture_output=True,
        text=True,
        timeout=60 + SECONDS_PER_THOUSAND * num / 1000,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def assert_safe(result: dict[str, Any]) -> None:
    assert result["crashes"] == []
    assert [what for what in result["wrong"] if not what.startswith(WITHOUT_CHECKSUM)] == []
    assert result["grown_bytes"] < MAX_GROWN_BYTES
    assert result["outcomes"]["refused"] > sum(result["outcomes"].values()) / 2


def test_sound_files_are_read_as_they_were_drawn(tmp_path: Path) -> None:
    """Else a wrong mask would be the fuzzer's own."""
    path = tmp_path / "a.png"
    for number in range(3):
        _, mask = fuzzing.draw(np.random.default_rng(number))
        for make, is_of_colors in fuzzing.MASK_FILES.values():
            path.write_bytes(make(mask))
            label = ColorMask(path, fuzzing.COLOR_MAP) if is_of_colors else IndexMask(path, plain_indices(6))
            reading = label.read(mask.shape)
            assert reading.faults == ()
            np.testing.assert_array_equal(reading.pixels, mask)


def test_some_spoilt_files(tmp_path: Path) -> None:
    assert_safe(read_spoilt(0, NUM_QUICK, tmp_path))


def test_a_page_at_a_place_that_cannot_exist(tmp_path: Path) -> None:
    """The system refuses to go there; that is the file's fault, not the system's."""
    assert read_spoilt(9086, 1, tmp_path)["crashes"] == []


@pytest.mark.slow
def test_ten_thousand_spoilt_files(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for first in range(NUM_QUICK, NUM_QUICK + NUM_SLOW, NUM_PER_PROCESS):
        result = read_spoilt(first, NUM_PER_PROCESS, tmp_path)
        assert_safe(result)
        outcomes.update(result["outcomes"])
    assert sum(outcomes.values()) == NUM_SLOW
