"""Short families of questions: their answers worked out again, splits apart, forms, and the search over families."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from experiments.commands.families import _table
from experiments.pair.problem import split_problems
from experiments.store.runs import Store
from experiments.studies.families import Search, search
from experiments.tasks.graders.grade import Known
from experiments.tasks.graders.plain import ExactGrader, NumericGrader
from experiments.tasks.short import DAYS, FAMILIES, FORMS
from experiments.tasks.task import resolve_task
from steering.errors import BadInput
from tests.experiments.command_line import Steer, command


def numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"-?\d+", text)]


def after(text: str, word: str) -> str:
    return text.partition(word)[2]


AGAIN: dict[str, Callable[[str], str]] = {
    "addition": lambda q: str(sum(numbers(q))),
    "subtraction": lambda q: str(numbers(q)[0] - numbers(q.replace(" - ", " "))[1]),
    "multiplication": lambda q: str(numbers(q)[0] * numbers(q)[1]),
    "chain": lambda q: str(eval(re.sub(r"[^\d+ -]", "", q))),
    "story": lambda q: str(numbers(q)[0] + numbers(q)[1] - numbers(q)[2]),
    "sequence": lambda q: str(2 * numbers(q)[3] - numbers(q)[2]),
    "largest": lambda q: str(max(numbers(q))),
    "decimals": lambda q: max(re.findall(r"\d+\.\d+", q), key=float),
    "last-letters": lambda q: "".join(w[-1] for w in re.findall(r"words (\w+) and (\w+)", q)[0]),
    "counting": lambda q: str(q.rstrip("?").split()[-1].count(re.findall(r"letter (\w) ", q)[0])),
    "alphabet": lambda q: sorted(re.findall(r"\w+", after(q, ":")))[0],
    "weekday": lambda q: DAYS[(DAYS.index(q.split()[2].rstrip(".")) + (-1 if "ago" in q else 1) * numbers(q)[0]) % 7],
    "clock": lambda q: (lambda t: str(60 * (t[2] - t[0]) + t[3] - t[1]))([int(n) for n in re.findall(r"\d+", q)]),
    "logic": lambda q: str(eval(re.findall(r"value of (.*)\?", q)[0])),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_worked_out_again(family: str) -> None:
    task = resolve_task(f"short:{family}")
    for item in task.items("test", 100):
        assert item.gold == AGAIN[family](item.data["question"]), item.data["question"]
        for text in (item.gold, f"{item.gold}.", f"The answer is {item.gold}.", f"First I look.\nAnswer: {item.gold}"):
            assert task.grade(item, text, Known("eos")).correct, (item.data["question"], text)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_question_is_in_two_splits_or_twice(family: str) -> None:
    task = resolve_task(f"short:{family}")
    sizes = {"train": 100, "dev": 200, "test": 200}
    asked = [item.data["question"] for split, n in sizes.items() for item in task.items(split, n)]
    assert len(set(asked)) == len(asked) == 500
    assert [i.id for i in task.items("dev", 5)] == [i.id for i in task.items("dev", 50)[:5]]
    assert [i.data for i in task.items("dev", 5)] == [i.data for i in task.items("dev", 50)[:5]]


def test_a_family_that_has_fewer_questions_says_so() -> None:
    with pytest.raises(BadInput, match="has about"):
        resolve_task("short:counting").items("train", 5000)
    with pytest.raises(BadInput, match="Did you mean 'addition'"):
        resolve_task("short:adition")
    with pytest.raises(BadInput, match="asked for no more|at least one|ask for at least"):
        resolve_task("short:addition").items("dev", 0)


def test_one_short_line_is_an_answer_as_it_stands() -> None:
    grade = ExactGrader().grade
    assert grade("", "camera", "camera", Known("eos")).correct and grade("", "camera", "Camera.", Known("eos")).correct
    assert grade("", "15:45", "15:45", Known("eos")).correct
    for wrong in ("not the camera at all", "desert", "camera\ndesert"):
        assert not grade("", "camera", wrong, Known("eos")).correct
    assert not grade("", "camera", "camera", Known("length")).scorable, "a line that was cut is no answer"


@pytest.mark.parametrize(
    ("said", "times"),
    [
        ("Twice", 2), ("once.", 1), ("**Thrice**", 3), ("The letter e occurs twice in the word needle.", 2),
        ("First n, then e.\nAnswer: twice", 2), (r"\boxed{\text{twice}}", 2), ("Answer: three times", 3), ("Answer: twice (2)", 2),
        ("Let me count once more. It occurs 3 times.", 3),
    ],
)  # fmt: skip
def test_a_number_of_times_may_be_said_in_words(said: str, times: int) -> None:
    task = resolve_task("short:counting")
    (item,) = task.items("train", 1)
    for gold in ("1", "2", "3"):
        grade = task.grade(replace(item, gold=gold), said, Known("eos"))
        assert grade.scorable and grade.correct == (gold == str(times)), grade


@pytest.mark.parametrize(
    "said",
    [
        "Not once", "It occurs more than twice.", "It occurs once or twice.", "Answer: twice as many",
        "Once we look at the word, the letter is plain to see.", "It occurs once in nee and twice in dle.",
    ],
)  # fmt: skip
def test_words_that_name_no_single_number_of_times_are_no_number(said: str) -> None:
    task = resolve_task("short:counting")
    assert not task.grade(task.items("train", 1)[0], said, Known("eos")).scorable


def test_once_is_a_number_only_where_a_number_of_times_is_asked() -> None:
    grade = NumericGrader().grade
    assert not grade("What is 1 + 1?", "2", "Answer: twice", Known("eos")).scorable
    assert grade("How often does it rain?", "2", "Answer: twice", Known("eos")).correct
    assert not grade("How often does it rain?", "2", "It rains twice", Known("length")).scorable, "it was cut"


def test_another_version_of_its_grader_is_another_task(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resolve_task("short:counting").digest
    monkeypatch.setattr(NumericGrader, "facts", {"grader": "numeric", "version": 99})
    assert resolve_task("short:counting").digest != before


def quick(**more: object) -> Search:
    given = {
        "model": "builtin:base", "families": ("find-start", "find-start:rules=2,candidates=3"), "direct": "quick", "think": "think",
        "split": "standard-dev", "n": 6, "sampled": 2, "k": 3, "max_new_tokens": 80,
    }  # fmt: skip
    return Search(**{**given, **more})  # type: ignore[arg-type]


def test_a_search_is_stored_resumed_and_counts_what_was_cut(tmp_path: Path) -> None:
    spec = quick(families=("find-start",))
    (one,) = search(spec, Store(tmp_path), Console(quiet=True))
    assert one.advantage == pytest.approx(one.think.accuracy - one.direct.accuracy)
    assert one.adjusted == one.p and one.n == 6
    assert one.direct.passed is not None and (one.direct.passed.k, one.direct.passed.n) == (3, 2)
    rows = Store(tmp_path).open(one.run).table(arms=["think"]).to_pylist()
    assert one.think.cut == sum(row["truncated"] for row in rows) / 6
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert search(spec, Store(tmp_path), Console(quiet=True)) == [one]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before, "nothing is written anew"


def test_a_search_refuses_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("experiments.studies.families.load", lambda *a: pytest.fail("a model was loaded"))
    for more, said in (
        ({"direct": "chat-direct"}, "Unknown prompt form"),
        ({"split": "dev"}, "Unknown split"),
        ({"families": ("short:nope",)}, "Unknown family"),
        ({"families": ("find-start", "find-start")}, "is family 1 again"),
        ({"think": "quick"}, "name two"),
        ({"temperature": 0.0}, "all alike"),
        ({"temperature": -1.0}, "greater than or equal to 0"),
    ):
        with pytest.raises((BadInput, ValueError), match=said):
            search(quick(**more), Store(tmp_path), Console(quiet=True))


def test_the_command_prints_every_family_and_says_whether_one_is_helped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steer: Steer = command(monkeypatch, capsys)
    given = (
        "families", "--model", "builtin:base", "--families", "find-start", "--forms", "quick,think", "--split", "standard-dev", "--n", "4",
        "--sampled", "0", "--max-new-tokens", "60", "--runs", tmp_path,
    )  # fmt: skip
    code, out, _ = steer(*given)
    assert code == 0 and "find-start" in out and "Thinking first helps on" in out
    code, out, _ = steer(*given, "--json")
    (line,) = json.loads(out)
    assert code == 0 and line["direct"]["passed"] is None and isinstance(line["helps"], bool)
    code, _, error = steer("families", "--model", "builtin:base", "--families", "")
    assert code == 2 and "names none" in error
    code, _, error = steer("families", "--model", "builtin:base", "--forms", "quick")
    assert code == 2 and "name two prompt forms" in error


def test_nothing_is_said_of_samples_where_none_are_drawn(tmp_path: Path) -> None:
    for sampled, said in ((0, False), (2, True)):
        found = search(
            quick(families=("find-start",), n=2, sampled=sampled, max_new_tokens=8),
            Store(tmp_path),
            Console(quiet=True),
        )
        table = _table(found, 3, "builtin:base")
        heads = " ".join(str(column.header) for column in table.columns)
        assert ("pass@" in f"{table.title} {heads}") is said


def test_tasks_over_one_file_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steer: Steer = command(monkeypatch, capsys)
    rows = [
        {"question": p.prompt("bare").removesuffix(" ?"), "answer": str(p.answer)}
        for p in split_problems("standard-dev", 2)
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, words in (("one", "?"), ("two", "? be quick")):
        forms = {"direct": "{question} " + words, "think": "{question} ? think first"}
        (tmp_path / f"{name}.yaml").write_text(
            yaml.safe_dump({"dataset": "q.jsonl", "grader": "numeric", "forms": forms})
        )
    families = f"{tmp_path / 'one.yaml'},{tmp_path / 'two.yaml'}"
    code, out, error = steer(
        "families", "--model", "builtin:base", "--families", families, "--forms", "direct,think", "--split", "test", "--n", "2",
        "--sampled", "0", "--max-new-tokens", "8", "--runs", tmp_path / "runs", "--json",
    )  # fmt: skip
    assert code == 0, error
    assert sorted(line["name"] for line in json.loads(out)) == ["one.yaml", "two.yaml"]
    twice = ({"dataset": "a.jsonl"}, {"dataset": "a.jsonl", "question": "q"})
    assert quick(families=twice).names == ["a.jsonl", "a.jsonl (family 2)"]


def test_forms_ask_for_the_answer_alone_or_for_steps() -> None:
    task = resolve_task("short:addition")
    item = task.items("dev", 1)[0]
    prompts = {form: task.prompt(item, form) for form in FORMS}
    assert all(item.data["question"] in prompt for prompt in prompts.values())
    assert "step by step" in prompts["think"] and "step by step" not in prompts["direct"]
    assert prompts["chat-direct"].endswith("nothing else.")
