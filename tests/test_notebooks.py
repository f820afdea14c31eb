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
    "first_vector_on_a_language_model": (
        r"unsteered: [0-2] of 8 answers end",
        r"answers that end: \+\d\d points \(\+\d+ to \+\d+\) against unsteered",
        r"over the mean of 19 random directions: \+\d\d points \(\+\d+ to \+\d+\); [0-2] of 19",
        r"wrong-sign +[0-8] \(0 to ",
        r"vector minus end token \+12: .* ends with a sentence \+\d\d points \(\+\d+ to \+\d+\)",
    ),
    "base_against_thinking": (
        r"layer 2, 3 v: [3-5]\d of 60 right",
        r"layer 3, 1 v: (5\d|60) of 60 right",
        r"layer 3, 1 v, wrong sign +60 +20\.0 \(12 to 32\) +0 \(-8 to 8\)",
        r"\+\d\d\.\d points over 20 random directions of equal edit size \(\+\d+\.\d to \+\d+\.\d, over items and directions, n = 60",
        r"\d+ of 300 solve half or more: \d\.\d % of directions \(\d\.\d to \d\.\d\)",
    ),
    "hybrid_and_decision_tokens": (
        r"the models part at \d+ of \d+ tokens, 1\.\d %",
        r" hybrid +30 +(9\d|100) \(\d\d to 100\)",
        r"random positions +30 +[12]\d \(",
        r"hybrid minus their mean: \+\d\d points \(\+\d+ to \+\d+, over items and banks\); \d of 20",
        r"the bank's vectors against the token at equal selector and budget, 2 comparisons: in \d the token is worth more, in none less",
    ),
    "elicitation_table": (
        r"base, greedy: 20\.0 % \(15\.0 to 26\.1\), n = 200",
        r"\d+ lines: \d+ with an interval above the base, \d+ of them by more than 60 points; [1-9]\d hold 0",
        r"CoT-decoding, aggregated confidence: \+\d\d\.\d points against the greedy base \(\+\d\d\.\d to \+\d\d\.\d; n 30\)",
        r"\d+ lines: \d above the base, \d\d below it",
        r"-71\.5 \(-77\.7 to -63\.9\)",
        r"the base asked again solves \d+ of \d+; of \d+ others \d lie above it, [1-9]\d* below",
    ),
    "bring_your_own_model": (
        r"(\d\d) of \1 hold, 0 fail",
        r"blocks\.99\.hook_resid_post does not exist: this model has 4 layers",
        r"random direction: 8 of 8 edits, 0\.\d\d of the activation",
        r"'4' against 'The answer is 5\.': right False, scorable True",
        r"steered: No detectable difference .*20 random directions of equal edit size",
    ),
    "exchange": (
        r"steered: 100\.0 % \(94 to 100\), n = 60; \+80\.0 points \(\+68 to \+88\)\n +20 random directions, [0-2] do as well",
        r"one bit changed: vector\.safetensors of me/damaged at 2{12} is not the file that its config\.json describes",
        r"and its sha256 put right: .* holds vector [0-9a-f]{16}; its config\.json says [0-9a-f]{16}",
        r"the same digest: True \| the same tokens for 12 prompts: True",
        r"another dose in plan\.yaml: plan\.yaml of me/damaged at 7{12} is not the file",
        r"on another model: The probe was fitted on weights",
        r"gguf \(llama\.cpp, repeng\) +blocks\.3\.hook_resid_post +True",
        r"short\.gguf is corrupt or cut short",
    ),
}
"""What a notebook's last paragraph is about."""
LANGUAGE = ("first_vector_on_a_language_model",)
"""Notebooks on SmolLM2."""
NAMES = [pytest.param(name, marks=[pytest.mark.language] if name in LANGUAGE else []) for name in SAID]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_runs_and_says_what_it_shows(name: str, request: pytest.FixtureRequest) -> None:
    if name in LANGUAGE:
        request.getfixturevalue("smollm2")  # skips where the model is not in the cache
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
        shown = [output.get("text", ""), *output.get("data", {}).values()]
        assert not any(re.search(r"/(home|root|tmp|work|Users)/", str(text)) for text in shown)
