"""Twins of problems: the same structure in other symbols, exactly; questions in other words, their right answers unchanged."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from experiments.evaluation.spec import EvalSpec
from experiments.pair.problem import ADDENDS, MODULUS, Problem, bucket_of
from experiments.pair.trace import STYLES, think_response
from experiments.pair.verifier import verify
from experiments.tasks.findstart import FindStart
from experiments.tasks.items import Item
from experiments.tasks.rewording import as_words
from experiments.tasks.task import resolve_task
from experiments.tasks.twins import TWINS, UNITS, TwinFindStart, renamed, scaled, shifted, trained_chains
from steering.errors import BadInput

WIDE = FindStart((2, 8), (2, 20))


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return [*FindStart().items("standard-test", 150), *FindStart().items("hard-dev", 100), *WIDE.items("test", 150)]


def test_a_renamed_problem_is_the_same_map_in_other_numbers(items: list[Item]) -> None:
    for item in items:
        problem: Problem = item.data
        for draw in (0, 1):
            twin = renamed(problem, draw)
            assert twin is not None
            units = [unit for unit in UNITS if scaled(problem, unit) == twin]
            assert units, "it is the problem times a unit"
            unit = units[0]
            assert [twin.run(unit * start % MODULUS) for start in range(MODULUS)] == [
                unit * problem.run(start) % MODULUS for start in range(MODULUS)
            ]
            assert twin.candidates == tuple(unit * c % MODULUS for c in problem.candidates)
            assert (
                [c for c in twin.candidates if twin.run(c) == twin.goal]
                == [twin.answer]
                == [unit * problem.answer % MODULUS]
            )
            assert all(rule.op == "*" or rule.operand in ADDENDS for rule in twin.rules)
            assert len(set(twin.rules)) == len(twin.rules), "no rule stands there twice"
            assert [r for r in twin.rules if r.op == "*"] == [r for r in problem.rules if r.op == "*"]
        assert renamed(problem, 0) != renamed(problem, 1) != problem


def test_every_operand_that_training_has_is_written_and_no_other() -> None:
    for offset in range(-MODULUS, MODULUS):
        rule = shifted(offset)
        assert (rule is None) == (offset % MODULUS in (0, 1, 50, 99))
        assert rule is None or (rule(0) == offset % MODULUS and rule.operand in ADDENDS)


def test_units_that_leave_the_trained_operands_are_not_drawn(items: list[Item]) -> None:
    assert len(UNITS) == 39 and all(
        sorted(unit * v % MODULUS for v in range(MODULUS)) == list(range(MODULUS)) for unit in UNITS
    )
    units = {unit: sum(scaled(item.data, unit) is None for item in items[100:200]) for unit in UNITS}
    assert any(units.values()) and not units[99], "99 turns signs alone"
    drawn = {next(u for u in UNITS if scaled(item.data, u) == renamed(item.data)) for item in items[:120]}
    assert len(drawn) > 20, "problems have units of their own"


def test_other_twins_keep_the_map(items: list[Item]) -> None:
    alone = 0
    for item in items:
        problem: Problem = item.data
        order = TWINS["permuted"](problem, 0)
        if order is None:
            assert len(problem.candidates) < 4
            alone += 1
        else:
            assert order.rules == problem.rules and sorted(order.candidates) == sorted(problem.candidates)
            assert all(a != b for a, b in zip(order.candidates, problem.candidates, strict=True))
        twin = TWINS["unseen"](problem, 0)
        assert twin is not None and twin.affine == problem.affine and twin.answer == problem.answer
        assert all(rule.op == "*" or 51 <= rule.operand <= 98 for rule in twin.rules)
        assert TWINS["unseen"](problem, 1) is None
    assert alone, "some have too few candidates for an order"


def test_right_traces_of_twins_are_verified_and_those_of_the_problem_are_not(items: list[Item]) -> None:
    rng = random.Random(0)
    for item in items[:40]:
        twin = renamed(item.data)
        assert twin is not None
        careful = think_response(twin, rng, STYLES["careful"])
        verdict = verify(twin, careful)
        assert verdict.well_formed and (not verdict.correct or verdict.trace_ok)
        assert not verify(item.data, careful).trace_ok


def test_twins_have_the_ids_of_their_problems_and_a_task_that_is_read_again() -> None:
    for name in (
        "find-start:twin=renamed",
        "find-start:twin=renamed,draw=1",
        "find-start:rules=3,candidates=2-5,twin=permuted",
    ):
        task = resolve_task(name)
        assert isinstance(task, TwinFindStart) and task.name == task.digest == name and resolve_task(task.name) == task
        split = task.splits[-2]
        own = {item.id: item for item in task.of.items(split, 60)}
        found = task.items(split, 20)
        assert found[:7] == task.items(split, 7) and all(task.has(own[item.id]) for item in found)
        assert all(TWINS[task.twin](own[item.id].data, task.draw) == item.data for item in found)
        assert all(task.grade(item, f"answer {item.gold}").correct for item in found)
    assert (
        len(
            {
                resolve_task(f"find-start{more}").digest
                for more in ("", ":twin=renamed", ":twin=permuted", ":twin=unseen")
            }
        )
        == 4
    )
    spec = EvalSpec(name="a", task="find-start:twin=unseen", splits={"standard-test": 2}, arms=())
    assert resolve_task(EvalSpec.model_validate_json(spec.model_dump_json()).task) == TwinFindStart(twin="unseen")
    mapping = {"dataset": "find-start", "rules": [3, 3], "candidates": [2, 5], "twin": "permuted"}
    assert resolve_task(mapping).name == "find-start:rules=3,candidates=2-5,twin=permuted"


def test_twins_that_do_not_exist_are_refused() -> None:
    for wrong, said in (
        ("find-start:twin=mirrored", "renamed, permuted, unseen"),
        ("find-start:twin=unseen,draw=1", "one draw"),
        ("find-start:twin=renamed,draw=x", "draw=x"),
        ("find-start:twin=renamed,rulez=3", "rulez"),
        ({"dataset": "find-start", "draw": 1}, "twin is one of"),
        ("find-start:rules=2,candidates=2-3,twin=permuted", "of the first"),
    ):
        with pytest.raises(BadInput, match=said):
            resolve_task(wrong).items("test", 3)


def test_chains_of_the_training_part_are_counted(items: list[Item]) -> None:
    assert trained_chains(items) == 0, "problems that are asked are held apart"
    twins = TwinFindStart().items("standard-test", 100)
    assert trained_chains(twins) == sum(bucket_of(item.data.chain) == "train" for item in twins)
    assert 70 < trained_chains(twins) < 100, "but 14 of 16 chains lie there"


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, object]:
    rows = [
        ("Ann has 3 apples. APPLES are red.", "3"), ("Bob sells pineapples.", "2"), ("Apples, apples!", "5"), ("Red pears?", "red"),
        ("No fruit.", "1"), ("An apple a day.", "7"),
    ]  # fmt: skip
    (tmp_path / "shop.jsonl").write_text("\n".join(json.dumps({"question": q, "answer": a}) for q, a in rows))
    return {"dataset": str(tmp_path / "shop.jsonl"), "grader": "exact"}


def test_whole_words_are_changed_with_their_case_and_the_right_answer_stays(shop: dict[str, object]) -> None:
    task, own = resolve_task(shop | {"words": {"apples": "blickets", "apple": "wug"}}), resolve_task(shop)
    questions = {item.id: item for item in own.items("test", 6)}
    found = task.items("test", 3)
    assert [item.data.question for item in found] == [
        "Ann has 3 blickets. BLICKETS are red.",
        "Blickets, blickets!",
        "An wug a day.",
    ]
    assert [item.gold for item in found] == ["3", "5", "7"] == [questions[item.id].gold for item in found]
    assert "Blickets, blickets!" in task.prompt(found[1], "bare") and task.digest != own.digest
    assert task.grade(found[1], "\\boxed{5}").correct and task.items("test", 2) == found[:2]
    again = resolve_task(shop | {"words": {"apple": "wug", "apples": "blickets"}, "draw": 1})
    assert again.items("test", 1)[0].data.question == "Ann has 3 wug. WUG are red." and again.digest != task.digest
    swapped = resolve_task(shop | {"words": {"apples": "red", "red": "apples"}})
    assert swapped.items("test", 1)[0].data.question == "Ann has 3 red. RED are apples."


def test_the_order_of_the_words_in_a_spec_says_nothing() -> None:
    one, two = as_words({"b": "y", "a": "x"}), as_words({"a": "x", "b": "y"})
    assert one == two and as_words({"a": "x", "b": "y"}, 1).table == {"a": "y", "b": "x"}


def test_words_that_would_change_more_than_words_are_refused(shop: dict[str, object]) -> None:
    for words, said in (
        ({"red": "blue"}, "stands in the right answer of test/00003"),
        ({"apples": "red"}, "'red' stands in the question test/00000"),
        ({"apples": "pears", "red": "pears"}, "not all different"),
        ({"apples": "Apples"}, "stays as it is"),
        ({}, "map old words to new ones"),
        ({"plums": "wugs"}, "0 of the first"),
    ):
        with pytest.raises(BadInput, match=said):
            resolve_task(shop | {"words": words}).items("test", 2)
    with pytest.raises(BadInput, match="no draw 1"):
        resolve_task(shop | {"words": {"apples": "wugs"}, "draw": 1})
    with pytest.raises(BadInput, match="no questions in words"):
        resolve_task({"dataset": "find-start", "words": {"apples": "wugs"}})
