"""Updates and shifts of elicitors on one figure: sparsity, fingerprint, and what each can solve at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.report.evidence import Unavailable
from experiments.report.figures.elicitors import elicitor_figure
from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Setting
from experiments.studies.elicitation.run import run_card
from experiments.studies.training.named import CARDS
from experiments.studies.training.supports import AGAIN, support_table
from steering import load_model
from steering.errors import BadInput
from tests.experiments.test_training import BARE, SMALL, asked_of

QUIET = Console(quiet=True)
SETTING = Setting(name="bare prompts", split="standard-test", form="bare")


def test_sparsity_of_an_update_that_is_known(tmp_path: Path) -> None:
    """Five numbers of the other model differ by 1."""
    asked = asked_of(tmp_path)
    with pytest.raises(BadInput, match="compares two models"):
        run_card(CARDS["sparsity"], asked, Store(tmp_path / "runs"), given=SMALL["sparsity"], console=QUIET)
    pair = asked.model_copy(update={"thinking": str(tmp_path / "other")})
    findings = run_card(CARDS["sparsity"], pair, Store(tmp_path / "runs"), given=SMALL["sparsity"], console=QUIET)
    assert {point.setting for point in findings.points} == {"direct prompts", "think-first prompts"}
    total = sum(p.numel() for p in load_model(asked.base).model.parameters())
    left = findings.tables[0]
    assert all(line[1] == line[2] == f"{100 * (1 - 5 / total):.2f}" for line in left.lines), (
        "at every tolerance, in both precisions"
    )
    assert all(float(str(line[3])) < 100 for line in left.lines)
    (kind,) = findings.tables[1].lines
    assert kind[0] == "MLP" and kind[1] == 1
    few = {"shares": [1e-9]}
    with pytest.raises(BadInput, match="is less than one; give a larger share"):
        run_card(CARDS["sparsity"], pair, Store(tmp_path / "runs"), given=SMALL["sparsity"] | few, console=QUIET)


def test_a_fingerprint_holds_every_elicitor_and_a_model_that_is_itself(tmp_path: Path) -> None:
    given = SMALL["fingerprint"] | {"models": ["builtin:base"]}
    findings = run_card(CARDS["fingerprint"], BARE, Store(tmp_path), given=given, console=QUIET)
    last = [table for table in findings.tables if "blocks.3" in table.title]
    sets = [table for table in findings.tables if "can solve at all" in table.title]
    assert len(sets) == 2, "answers, and verified traces"
    for table in sets:
        assert table.lines[0][0] == AGAIN and all(
            sum(int(str(cell)) for cell in line[1:5]) == 4 for line in table.lines
        ), "every question is in one of the four sets"
        assert {"asked to think", "random vector 0", "random vector 1"} <= {str(line[0]) for line in table.lines}
    assert len(last) == 2, "on the base's own texts and on the thinking model's"
    for table in last:
        *rows, chance = table.lines
        labels = [str(line[0]) for line in rows]
        assert str(chance[0]).startswith("2 random vectors") and "to" in str(chance[1])
        assert {"asked to think", "thinking model", "trained vector, seed 0"} <= set(labels)
        assert "builtin:base" not in labels and any(
            "Without a shift at this layer: builtin:base" in note for note in table.notes
        )
        cosines = {
            (a, b): float(str(line[n + 1])) for line, a in zip(rows, labels, strict=True) for n, b in enumerate(labels)
        }
        assert all(cosines[a, b] == cosines[b, a] for a, b in cosines), "both ways round"
        assert all(-1 <= value <= 1 for value in cosines.values()) and cosines["thinking model", "thinking model"] > 0.5
    assert any("ceilings" in sentence and "for more, never below 0.333" in sentence for sentence in findings.said)
    drawing = elicitor_figure(findings)
    assert drawing.svg == elicitor_figure(findings).svg and drawing.png()[:4] == b"\x89PNG"
    frame = drawing.frame.set_index("elicitor")
    shown = [table for table in findings.tables if table.title.endswith("the thinking model's texts")]
    assert frame.loc["thinking model", "thinking model"] in {table.lines[1][2] for table in shown}
    assert "asked to think" in frame.index and any("random vectors" in name for name in frame.index)
    solved = next(line for line in sets[-1].lines if line[0] == "thinking model")
    assert f"{frame.loc['thinking model', 'solved']:+.1f}" == str(solved[-1]).split(" ")[0]
    with pytest.raises(Unavailable, match="not of sparsity"):
        elicitor_figure(findings.model_copy(update={"card": "sparsity"}))
    with pytest.raises(Unavailable, match="support above 0"):
        elicitor_figure(
            findings.model_copy(update={"tables": tuple(table for table in findings.tables if table not in sets)})
        )


def test_a_fingerprint_on_a_tiny_model_with_a_chat_template(tmp_path: Path) -> None:
    asked = asked_of(tmp_path).model_copy(update={"thinking": str(tmp_path / "other")})
    given = SMALL["fingerprint"] | {"read": {"train": 12}}
    with pytest.raises(BadInput, match="builtin:base has another tokenizer"):
        run_card(
            CARDS["fingerprint"],
            asked,
            Store(tmp_path / "runs"),
            given=given | {"models": ["builtin:base"]},
            console=QUIET,
        )
    findings = run_card(CARDS["fingerprint"], asked, Store(tmp_path / "runs"), given=given, console=QUIET)
    assert len(findings.tables) >= 4 and findings.points
    with pytest.raises(BadInput, match="at least 4"):
        run_card(CARDS["fingerprint"], asked, Store(tmp_path / "runs"), given=given | {"n": 3}, console=QUIET)


def counts(solved: range, n: int = 60) -> np.ndarray:
    """Right samples of `n` questions, 3 of each that is solved."""
    return np.array([3.0 if number in solved else 0.0 for number in range(n)])


def test_an_elicitor_that_creates_is_told_from_one_that_only_draws_again() -> None:
    base, again = counts(range(30)), counts(range(2, 32))
    own = {AGAIN: again, "luck": counts(range(1, 31)), "creates": counts(range(55)), "destroys": counts(range(5))}
    table, said = support_table(SETTING, base, own, 8, verified=True)
    lines = {str(line[0]): line for line in table.lines}
    assert lines[AGAIN][1:5] == (28, 2, 2, 28) and lines[AGAIN][7] is None
    assert lines["creates"][1:5] == (30, 25, 0, 5) and lines["creates"][5].startswith("100 %")
    assert lines["destroys"][1:5] == (5, 0, 25, 30) and lines["destroys"][6].startswith("0 %")
    told = {label: next(words for words in said if f": {label} alone" in words) for label in own if label != AGAIN}
    assert "alone solves 25 of 60 questions, the base's own second draw 2" in told["creates"]
    assert "no detectable difference" in told["luck"] and "no detectable" not in told["creates"]
    assert "+41.7" in told["creates"] and "-41.7" in told["destroys"]
