"""The shipped hybrid: its lines are those of the page that describes it, and a file that is not whole is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.studies.hybrid.shipped_lines import FILE, shipped_hybrid

PAGE = Path(__file__).parents[2] / "docs" / "hybrid.md"
LABELS = {
    "base": "base, bare prompt", "thinking": "thinking model", "hybrid": "**hybrid**", "random_category": "random category",
    "magnitude_only": "coefficients only (random vectors, random category)",
    "random_positions": "random positions at the hybrid's rate",
}  # fmt: skip


@pytest.mark.parametrize("arm", LABELS)
def test_the_page_has_the_shipped_figures(arm: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    text = text[text.index("careful") :]
    frame = shipped_hybrid().frame.set_index(["split", "arm"])
    cells = []
    for split in ("standard-test", "hard-test"):
        line = frame.loc[(split, arm)]
        cells.append(f"{100 * line['accuracy']:.1f} ({100 * line['low']:.0f}-{100 * line['high']:.0f})")
        if line["gap"] == line["gap"]:
            cells.append(f"{100 * line['gap']:.0f} ({100 * line['gap_low']:.0f} to {100 * line['gap_high']:.0f})")
    rows = [row for row in text.splitlines() if row.startswith(f"| {LABELS[arm]} |")]
    assert any(all(cell in row for cell in cells) for row in rows), (cells, rows)


def test_roles_and_numbers_are_whole(tmp_path: Path) -> None:
    found = shipped_hybrid()
    assert set(found.frame["arm"]) == set(found.roles) and found.roles["hybrid"] == "steered"
    assert (found.frame["n"] == 200).all() and found.frame["accuracy"].between(0, 1).all()
    (tmp_path / "cut.json").write_text(FILE.read_text()[:200])
    with pytest.raises(ValueError):
        shipped_hybrid(tmp_path / "cut.json")
