"""docs/export.md: its Python example runs, with ONNX Runtime alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from .conftest import TABLE, Exported, random_images

PAGE = (Path(__file__).parents[3] / "docs/export.md").read_text(encoding="utf-8")


def test_the_example_prints_shares_and_draws_the_mask(exported: Exported, tmp_path: Path) -> None:
    example = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    assert "segpipe" not in example and len(example.splitlines()) <= 20
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    Image.fromarray(random_images(50, 70, 3)).save(tmp_path / "street.png")
    command = [sys.executable, "-I", "example.py", str(exported.folder), "street.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *shares, confidence = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in shares] == list(TABLE.names)
    assert confidence.startswith("mean confidence: 0.")
    colors = np.asarray(Image.open(tmp_path / "colors.png"))
    assert colors.shape == (50, 70, 3)
    assert {tuple(color) for color in colors.reshape(-1, 3).tolist()} <= set(TABLE.colors)
