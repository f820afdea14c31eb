"""Level or slope: what is planted is found, by the right name; the product law holds for independent steps alone."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.special import expit

from experiments.pair.problem import parse_problem
from experiments.pair.trace import STYLES, think_response
from experiments.pair.verifier import verify
from experiments.store.runs import Arm, Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.axes import PLACES, axes_of, place_of, wide
from experiments.studies.elicitation.chains import Chain, predicted, product_law, step_accuracy
from experiments.studies.elicitation.named import card_named
from experiments.studies.elicitation.run import run_card
from experiments.studies.elicitation.shift_ranks import ranked_changes as among
from experiments.studies.elicitation.shifted import OWN, Shifted, change_of, shifted, verdict
from experiments.tasks.findstart import FindStart
from experiments.tasks.graders.grade import NOTHING, Grade, Known
from experiments.tasks.items import Item
from experiments.tasks.task import resolve_task
from steering.errors import BadInput
from tests.experiments.test_symbols import ASKED, VECTOR

WIDE = FindStart((2, 8), (2, 20))
ITEMS = {item.id: item for item in WIDE.items("test", 300)}
VARIANTS = (OWN, "renamed", "unseen operands")


def answered(arms: dict[str, tuple[float, float, float]], seed: int = 0) -> Shifted:
    """Arms by level, slope of rules, and shift of unseen operands."""
    rng = np.random.default_rng(seed)
    marks: dict[str, dict[str, dict[str, float]]] = {}
    for variant in VARIANTS:
        marks[variant] = {
            arm: {
                name: float(rng.random() < expit(level + slope * (len(item.data.rules) - 3) + odd * (variant == VARIANTS[2])))
                for name, item in ITEMS.items()
            }
            for arm, (level, slope, odd) in arms.items()
        }  # fmt: skip
    return shifted(axes_of(WIDE, list(ITEMS.values()), VARIANTS), ITEMS, marks)


@pytest.fixture(scope="module")
def found() -> tuple[Shifted, dict[str, Any]]:
    own = answered(
        {"base": (0.5, -0.6, -1.0), "higher": (2.5, -0.6, -1.0), "flatter": (0.5, 0.0, -1.0), "same": (0.5, -0.6, -1.0),
         "bolder": (0.5, -0.6, 1.0)}
    )  # fmt: skip
    return own, own.resampled(60)


def test_a_planted_level_is_told_from_a_planted_slope(found: tuple[Shifted, dict[str, Any]]) -> None:
    own, drawn = found
    assert own.names == ("rules", "candidates", "renamed", "unseen operands") and not own.constant
    told = {arm: change_of(own, arm, drawn) for arm in ("higher", "flatter", "bolder")}
    assert all(change is not None for change in told.values())
    for arm, place, truth in (("higher", 0, 2.0), ("flatter", 1, 0.6), ("bolder", 4, 2.0)):
        change = told[arm]
        assert change is not None and change.values[place] == pytest.approx(truth, abs=0.6)
        assert change.intervals[place].low > 0, arm
    assert verdict(told["higher"]).startswith("the level rises")  # type: ignore[arg-type]
    assert "the slope of rules is higher" in verdict(told["flatter"])  # type: ignore[arg-type]
    assert "the slope of unseen operands is higher" in verdict(told["bolder"])  # type: ignore[arg-type]
    assert "rules" not in verdict(told["higher"])  # type: ignore[arg-type]


def test_the_same_arm_again_changes_nothing(found: tuple[Shifted, dict[str, Any]]) -> None:
    own, drawn = found
    change = change_of(own, "same", drawn)
    assert change is not None and sum(one.low > 0 or one.high < 0 for one in change.intervals) <= 1
    base = change_of(own, "base", drawn)
    assert base is not None and verdict(base) == "neither level nor slope changes detectably"
    assert own.permutation_ps("base", 19)[0] == pytest.approx(1 / 20)


def test_an_arm_that_is_all_right_has_no_slope_and_says_so(found: tuple[Shifted, dict[str, Any]]) -> None:
    own, drawn = found
    rights = {**own.rights, "perfect": np.ones(len(own.items)), "cut": (own.table[:, 0] < 1).astype(float)}
    more = Shifted(own.names, own.constant, own.items, own.table, rights)
    assert more.why_not("perfect") == f"all {len(own.items)} answers are right" and "without an error" in more.why_not(
        "cut"
    )
    both = drawn | {"perfect": drawn["base"], "cut": drawn["base"]}
    assert change_of(more, "perfect", both) is None is change_of(more, "cut", both)
    assert change_of(more, "base", both, base="perfect") is None


def test_axes_are_exact_for_the_built_in_task_and_a_proxy_elsewhere(tmp_path: Path) -> None:
    assert wide(FindStart()) == (WIDE.name, "test") and wide(WIDE) == (None, "") and resolve_task(WIDE.name) == WIDE
    some = [item.data for item in ITEMS.values()]
    assert {place_of(problem) for problem in some} == set(PLACES)
    assert all((place_of(p) == PLACES[0]) == (len(p.rules) <= 5 and 3 <= len(p.candidates) <= 8) for p in some)
    rows = ['{"question": "one two 3 and 4.5 or 1,000", "answer": "x"}', '{"question": "one", "answer": "x"}']
    (tmp_path / "two.jsonl").write_text("\n".join(rows))
    task = resolve_task({"dataset": str(tmp_path / "two.jsonl"), "grader": "exact"})
    items = task.items("test", 2)
    words, numbers = axes_of(task, items, (OWN,))
    assert [words.of(item, OWN) for item in items] == [0.7, 0.1] and [numbers.of(item, OWN) for item in items] == [3, 0]


def steps(seed: int, n: int, wrong: float) -> list[Chain]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        lines = int(rng.integers(3, 30))
        bad = int((rng.random(lines) < wrong).sum())
        depth = int(rng.integers(2, 9))
        found.append(Chain(depth, PLACES[0] if depth <= 5 else PLACES[1], lines, bad, bad == 0, False))
    return found


def told(chains: list[Chain]) -> tuple[float, float]:
    """The interval of observed minus predicted that is said, in points."""
    arm = Arm(name="base", label="base", role="baseline", model="m", form="bare")
    table, (said,) = product_law("here", [arm], {"base": chains})
    assert {line[1] for line in table.lines} == {chain.depth for chain in chains}
    match = re.search(r"\(([-+.\d]+) to ([-+.\d]+); p", said)
    assert match
    return float(match[1]), float(match[2])


def test_the_product_law_holds_for_independent_steps_and_not_for_errors_that_come_together() -> None:
    chains = steps(0, 600, 0.04)
    assert step_accuracy(chains) == pytest.approx(0.96, abs=0.01)
    low, high = told(chains)
    assert low <= 0 <= high
    rng = np.random.default_rng(1)
    bad = rng.random(600) < 0.1
    heaped = [
        Chain(c.depth, c.place, c.lines, c.lines // 2 * int(b), not b, False) for c, b in zip(chains, bad, strict=True)
    ]
    assert told(heaped)[0] > 0, "traces fail less often than the product says where errors come together"
    assert predicted(chains[:1], chains)[0] == pytest.approx(step_accuracy(chains) ** chains[0].lines)
    failing = [Chain(c.depth, c.place, c.lines, c.wrong, False, cut=True) for c in chains]
    arm = Arm(name="base", label="base", role="baseline", model="m", form="bare")
    assert (
        f"{sum(not c.wrong for c in chains)} of the 600 wrong traces have no wrong step"
        in product_law("x", [arm], {"base": failing})[1][0]
    )
    assert "computes no lines" in product_law("x", [arm], {"base": []})[1][0]


def test_lines_that_are_not_right_and_goals_that_are_tested_early_are_counted() -> None:
    rng, slips = random.Random(3), 0
    for item in list(ITEMS.values())[:60]:
        for style in STYLES.values():
            verdict = verify(item.data, think_response(item.data, rng, style))
            assert verdict.well_formed and verdict.false_lines == verdict.wrong_lines - verdict.repaired_lines
            assert not (verdict.trace_ok and verdict.false_lines) and not verdict.early_goals
            slips += verdict.false_lines
    assert slips
    problem = parse_problem("rules + 3 ; * 7 ; - 4 ; goal 10 start 99 2 ?")
    for text, wrong, early in (
        ("first try 99 ; 99 + 3 = 2 ; 2 * 7 = 14 ; 14 - 4 = 10 ; goal 10 yes ; so answer 99", 0, 0),
        ("first try 99 ; 99 + 3 = 2 ; 2 * 7 = 14 ; 14 + 4 = 18 ; goal 10 no back ; enough guess ; so answer 2", 1, 0),
        ("first try 99 ; 99 + 3 = 2 ; 2 * 7 = 15 ; 15 - 4 = 11 ; goal 10 no back ; enough guess ; so answer 2", 1, 0),
        (
            "first try 99 ; 99 + 3 = 3 ; wait check 99 + 3 = 2 ; 2 * 7 = 14 ; goal 10 no back ; enough guess ; so answer 2",
            0,
            1,
        ),
    ):
        verdict = verify(problem, text)
        assert (verdict.false_lines, verdict.early_goals) == (wrong, early), text
        assert verdict.trace_ok == (not wrong and not early)


def graded(level: float, slope: float) -> Any:
    """A grader that is right as often as depth alone says."""

    def grade(self: FindStart, item: Item, text: str, known: Known = NOTHING) -> Grade:
        drawn = int.from_bytes(hashlib.sha256(f"{item.id}/{self.name}".encode()).digest()[:4]) / 2**32
        correct = bool(drawn < expit(level + slope * (len(item.data.rules) - 3)))
        return Grade(item.gold if correct else "none", correct, True, correct, True, (), "grammar", grader="planted")

    return grade


def test_the_card_finds_a_slope_that_a_grader_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FindStart, "grade", graded(1.0, -0.9))
    sizes = {"n": 60, "file": VECTOR, "directions": 2, "n_directions": 40, "resamples": 30, "permutations": 19}
    said = run_card(card_named("shift"), ASKED, Store(tmp_path), given=sizes, console=Console(quiet=True))
    (table,) = [table for table in said.tables if table.title.endswith("level and slopes")]
    lines = {str(line[0]): line for line in table.lines}
    match = re.search(r"\(([-+.\d]+) to ([-+.\d]+)\); p (.*)", str(lines["base, greedy"][4]))
    assert match and float(match[1]) <= -0.9 <= float(match[2]) < 0 and float(match[3]) == 0.05
    assert lines["one who guesses"][4] is not None and lines["base, greedy"][1] == 180
    same = [one for one in said.said if "is right where the base is" in one]
    assert len(same) == 3, "one grader for all arms"
    assert any("too few to tell anything" in one for one in said.said)


def test_questions_without_an_axis_that_varies_are_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    lines = [f'{{"question": "how many {word}", "answer": "{n}"}}' for n, word in enumerate(("cats", "dogs", "owls"))]
    (tmp_path / "three.jsonl").write_text("\n".join(lines))
    task = {"dataset": str(tmp_path / "three.jsonl"), "grader": "exact"}
    forms = tuple(Setting(name=form, split="test", form=form) for form in ("bare", "cot"))
    alike = Elicit(base="no/such-model", thinking=None, task=task, think="cot", settings=forms)
    one = ASKED.model_copy(update={"base": "no/such-model", "thinking": None})
    for asked, given, words in (
        (alike, {"n": 3}, "axes ten words, numbers varies among the first 3 questions of test.*--set n=N"),
        (one, {"n": 1, "twins": False}, "axes rules, candidates varies.*--set twins=true"),
    ):
        with pytest.raises(BadInput, match=words):
            run_card(card_named("shift"), asked, Store(tmp_path), given=given, console=Console(quiet=True))


def guessed(self: FindStart, item: Item, text: str, known: Known = NOTHING) -> Grade:
    """A grader of guesses: right as often as there are candidates, by the text alone."""
    drawn = int.from_bytes(hashlib.sha256(f"{item.id}/{text}/{self.name}".encode()).digest()[:4]) / 2**32
    correct = drawn < 1 / len(item.data.candidates)
    return Grade(item.gold if correct else "none", correct, True, correct, True, (), "grammar", grader="planted")


def test_levels_and_slopes_of_a_base_that_guesses_are_said_to_say_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FindStart, "grade", guessed)
    sizes = {"n": 24, "file": VECTOR, "directions": 2, "n_directions": 24, "resamples": 30, "permutations": 19}
    found = run_card(card_named("shift"), ASKED, Store(tmp_path), given=sizes, console=Console(quiet=True))
    levels = next(table for table in found.tables if table.title.endswith("level and slopes"))
    base = next(line for line in levels.lines if line[0] == "base, greedy")
    assert "at the level of guessing" in str(base[levels.heads.index("remark")])
    assert any("permutations of the axes" in note and "different methods" in note for note in levels.notes)
    for title in ("minus the base's", "among random directions"):
        table = next(table for table in found.tables if title in table.title)
        assert any("The base is at the level of guessing" in note for note in table.notes), table.notes
    compared = [said for said in found.said if "against the base" in said and "log-odds" in said]
    assert compared and all("a level or slope against it says little" in said for said in compared)


def test_an_arm_above_guessing_is_not_said_to_guess(found: tuple[Shifted, dict[str, Any]]) -> None:
    own, drawn = found
    guessing = {name: 1 / len(item.data.candidates) for name, item in ITEMS.items()}
    assert not own.guesses("higher", guessing, float(np.quantile(drawn["higher"][:, 0], 0.025)))
    assert own.guesses("higher", dict.fromkeys(ITEMS, 0.9), -np.inf) and not own.guesses("higher", {}, -np.inf)
    assert not own.guesses("higher", guessing, -np.inf), "accuracy alone is enough"


def test_the_steered_arm_is_ranked_among_random_directions_by_each_change() -> None:
    arms = {"base": (0.5, -0.6, 0.0), "steered": (3.0, -0.6, 0.0)} | {
        f"random-{n}": (0.5, -0.6, 0.0) for n in range(20)
    }
    table, said = among(ASKED.settings[0], answered(arms))
    ranks = {line[0]: line[-1] for line in table.lines}
    assert ranks["level"] == pytest.approx(1 / 21, abs=1e-3) and ranks["candidates"] > 0.05 and "too few" not in said
    assert said.count("(one-sided, as high)") == len(table.lines) and "one-sided" in table.heads[-1]
    few = answered({"base": (0.5, -0.6, 0.0), "steered": (30.0, 0.0, 0.0), "random-0": (0.5, -0.6, 0.0)})
    table, said = among(ASKED.settings[0], few)
    assert not table.lines and "no rank: of the steered arm, all 900 answers are right" in said
