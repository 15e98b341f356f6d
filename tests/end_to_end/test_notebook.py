"""The notebook, as its reader runs it: its cells in order, in one process, in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from integration.project import REPOSITORY, Project

NOTEBOOK = REPOSITORY / "docs/from-labels-to-champion.ipynb"

CHECK = """
assert scores["mean_iou"] > 0.9, scores
right = (prediction.mask == (np.asarray(truth) == 255)).mean()
assert right > 0.95, right
assert model.describe().name == "berries-smoke" and model.describe().version == "1"
print("the notebook ran")
"""


def read_notebook() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return document


def test_the_notebook_has_the_form_that_jupyter_reads_and_no_outputs() -> None:
    document = read_notebook()
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in document["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in document["cells"]:
        assert {"cell_type", "id", "metadata", "source"} <= cell.keys()
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            compile("".join(cell["source"]), cell["id"], "exec")


@pytest.mark.slow
def test_the_cells_lead_from_labels_to_a_prediction(clone: Project, tmp_path: Path) -> None:
    cells = ["".join(cell["source"]) for cell in read_notebook()["cells"] if cell["cell_type"] == "code"]
    (tmp_path / "notebook.py").write_text("\n\n".join([*cells, CHECK]), encoding="utf-8")
    reader = Project(tmp_path, {"PYTHONPATH": str(clone.root / "src"), "TMPDIR": str(tmp_path)})
    assert reader.call("python", "notebook.py").splitlines()[-1] == "the notebook ran"
