"""The tutorials run clean, and what they say of their numbers is what comes out."""

from __future__ import annotations

import re
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
SAID = {
    "sweeps_and_statistics": (
        r"cell-002 is real\. On 60 problems that did not choose it: \+\d+\.\d points over unsteered \(\+\d",
        r"wrong sign: \d+\.\d % \(\d+ to \d+\)",
    ),
    "probes_and_gates": (
        r"think against quick: AUROC 1\.000",
        r"bare, gate of think and quick +\d+\.\d+ +(1|2|3|4)\d of 60",
        r"bare, gate of think and bare +\d+\.\d+ +60 of 60",
        r"think, gate of think and bare +\d+\.\d+ +0 of 60",
    ),
}
"""What a notebook's last paragraph is about."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_a_tutorial_runs_and_says_what_it_shows(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    begun = time.monotonic()
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    assert time.monotonic() - begun < 180
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    told = "\n".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)
    for pattern in SAID[name]:
        assert re.search(pattern, told), (pattern, told)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_stored_outputs_are_whole_and_name_no_machine(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any(cell.get("outputs") for cell in code)
    for output in (output for cell in code for output in cell.get("outputs", [])):
        assert output["output_type"] != "error"
        assert not re.search(r"/(home|root|tmp|work|Users)/", str(output.get("text", "")))
