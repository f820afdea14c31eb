"""Words beside numbers say what was computed, no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.arm_table import DEFINITIONS
from experiments.looks import LOOKS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["README.md", "docs/statistics.md"])
def test_where_the_paired_test_is_named_both_of_its_forms_are(name: str) -> None:
    text = (ROOT / name).read_text()
    named = [
        part
        for part in text.replace("\n|", "\n\n|").split("\n\n")
        for line in [part.replace("\n", " ")]
        if "exact McNemar" in line
    ]
    assert named
    assert all("several seeds" in part.replace("\n", " ") and "sign-flip" in part for part in named)
    assert "several seeds" in DEFINITIONS["p"]


def test_a_heading_does_not_claim_what_the_text_below_it_takes_back() -> None:
    text = (ROOT / "docs" / "hybrid.md").read_text()
    assert "**The base knows when.**" not in text
    (line,) = [part for part in text.split("\n* ") if part.startswith("**A probe of the base tells when")]
    assert "last five token" in line.split("**")[1]


def test_the_legend_of_controls_names_every_kind_of_them() -> None:
    assert all(kind in LOOKS["control"].meaning for kind in ("random directions", "latents", "wrong sign"))
