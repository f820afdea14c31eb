"""Tasks, data sets and the plain graders: what is read, what is refused, and what changes a digest."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.pair.problem import bucket_of, split_problems
from experiments.tasks.graders.final import final_answer
from experiments.tasks.graders.plain import ChoiceGrader, ExactGrader, NumericGrader, number
from experiments.tasks.graders.table import grader_named
from experiments.tasks.task import DatasetTask, resolve_task, task_named
from steering.errors import BadInput
from tests.tiny import tiny

ROWS = [
    {"q": f"What is {i}+{i}?", "a": f"Add.\n#### {2 * i}", "n": f"x{i}", "o": ["1", "2", "3"], "i": i % 3}
    for i in range(5)
]
MAPPING = {"question": "q", "answer": "a", "extract": "####"}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".csv":
        path.write_text("q,a\n" + "".join('"{q}","{a}"\n'.format(**r) for r in rows))
    else:
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_items(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "d.jsonl", ROWS)
    expected = resolve_task({"dataset": "d.jsonl", **MAPPING}, tmp_path).items("test", 5)
    write(tmp_path / f"e.{kind}", ROWS)
    found = resolve_task({"dataset": f"e.{kind}", **MAPPING}, tmp_path)
    assert found.items("test", 5) == expected and [i.gold for i in expected] == ["0", "2", "4", "6", "8"]
    assert found.items("test", 3) == expected[:3], "the first n of a longer list are the shorter list"
    assert found.prompt(expected[1], "bare") == "What is 1+1?"


def test_what_cannot_be_read_is_refused_with_its_place(tmp_path: Path) -> None:
    write(tmp_path / "d.jsonl", ROWS)
    (tmp_path / "bad.jsonl").write_text('{"q": "x", "a": "#### 1"}\nnot json\n')

    def asks(message: str, n: int = 5, split: str = "test", **spec: Any) -> None:
        with pytest.raises(BadInput, match=message):
            resolve_task({"dataset": "d.jsonl", **MAPPING, **spec}, tmp_path).items(split, n)

    asks("has 5 items in split 'test'; 6 were asked for", n=6)
    asks("ask for at least one", n=0)
    asks("Unknown split 'tes'.*Did you mean 'test'", split="tes")
    asks(r"Unknown field 'question' in d.jsonl, test, row 0 \(question: says which field it is\)", question="question")
    asks(r"Unknown field 'gold' in .*row 0 \(answer: says which field it is\)", answer="gold")
    asks(r"row 0: there is no gold answer \(boxed\)", extract="boxed")
    asks("bad.jsonl, line 2 is not JSON", dataset="bad.jsonl")
    asks("no data file at", dataset="none.jsonl")
    asks("Unknown grader 'mth'.*Did you mean 'math'", grader="mth")
    asks("Unknown option 'tolerence'.*Did you mean 'tolerance'", grader={"name": "numeric", "tolerence": 1})
    asks("needs base_url", grader="judge")
    asks("task.fields: Extra", fields=1)
    asks("task.forms|template", forms={"bare": "no slot"})
    asks("task.system is for chat forms", system="x", forms={"bare": "{question}"})
    asks(
        "rows 0 and 1 have one id, n 'x0'",
        dataset=str(write(tmp_path / "twice.jsonl", [ROWS[0], ROWS[0]])),
        id="n",
        n=2,
    )
    for name in ("gsm8", "find-strat"):
        with pytest.raises(BadInput, match="Unknown task"):
            resolve_task(name)
    with pytest.raises(BadInput, match="names its `dataset`"):
        resolve_task({"question": "q"})


def test_the_digest_changes_with_grader_and_mapping_and_with_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "d.jsonl", ROWS)
    write(tmp_path / "copy.jsonl", ROWS)

    def digest(**spec: Any) -> str:
        return resolve_task({"dataset": "d.jsonl", **MAPPING, **spec}, tmp_path).digest

    first = digest()
    assert digest(dataset="copy.jsonl") == first, "where the rows lie decides nothing"
    assert digest(forms={"mine": "Q: {question}"}) == first, "prompts are in row keys by their ids"
    assert digest(grader="math") == first and digest(id="n") == first
    changed = [
        digest(grader="exact"), digest(grader={"name": "numeric"}), digest(grader={"name": "numeric", "tolerance": 0.1}),
        digest(question="a"), digest(answer="n"), digest(extract="whole"), digest(options="o"),
    ]  # fmt: skip
    assert len({first, *changed}) == len(changed) + 1
    assert resolve_task("find-start").digest == resolve_task({"dataset": "find-start"}).digest == "find-start"


def test_an_item_with_another_answer_is_another_item(tmp_path: Path) -> None:
    before = resolve_task({"dataset": str(write(tmp_path / "d.jsonl", ROWS)), **MAPPING}).items("test", 5)
    mended = [dict(row) for row in ROWS]
    mended[2]["a"] = "#### 5"
    after = resolve_task({"dataset": str(write(tmp_path / "d.jsonl", mended)), **MAPPING}).items("test", 5)
    assert [a.id == b.id for a, b in zip(before, after, strict=True)] == [True, True, False, True, True]


def test_options_are_lettered_and_graded_by_letter(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", ROWS)
    task = resolve_task(
        {
            "dataset": str(path),
            "question": "q",
            "answer": "i",
            "options": "o",
            "grader": {"name": "choice", "letters": "ABC"},
        }
    )
    item = task.items("test", 2)[1]
    assert task.prompt(item, "bare") == "What is 1+1?\nA. 1\nB. 2\nC. 3" and item.gold == "B"
    assert task.grade(item, "The answer is (B).").correct and not task.grade(item, "C").correct
    assert not task.grade(item, "I am not sure").scorable


def test_a_data_set_is_encoded_for_the_model(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [{"q": "w8 w9", "a": "w10"}])
    task = resolve_task(
        {"dataset": str(path), "question": "q", "answer": "a", "grader": "exact", "forms": {"bare": "w11 {question} ;"}}
    )
    assert isinstance(task, DatasetTask)
    item, model = task.items("test", 1)[0], tiny("llama")
    assert task.encode(model, item, "bare", " wait") == (11, 8, 9, 5, 7)
    assert task.fed_text(model, item, "bare", " wait") == "w11 w8 w9 ; wait"
    with pytest.raises(BadInput, match="Unknown prompt form 'cot'"):
        task.encode(model, item, "cot")


def test_known_data_sets_read_from_files(shared_data: Path) -> None:
    gsm = resolve_task({"dataset": "gsm8k", "file": str(shared_data / "gsm8k_test.jsonl")})
    items = gsm.items("test", 1319)
    assert len(items) == 1319 and items[0].gold == "18" and all(i.gold for i in items)
    math = resolve_task({"dataset": "math500", "file": str(shared_data / "math500_test.jsonl")})
    items = math.items("test", 500)
    assert len(items) == 500 and len({i.id for i in items}) == 500
    right = [math.grade(i, f"So the answer is $\\boxed{{{i.gold}}}$.") for i in items]
    assert all(g.correct for g in right), "a gold answer is right by itself"
    others = [math.grade(a, f"\\boxed{{{b.gold}}}") for a, b in zip(items, items[1:] + items[:1], strict=True)]
    same = [(a.gold, b.gold) for a, b, g in zip(items, items[1:] + items[:1], others, strict=True) if g.correct]
    print(same)
    assert len(same) < 12, same


def test_the_built_in_task_keeps_its_items_and_has_others_at_any_difficulty() -> None:
    plain = task_named("find-start")
    assert [i.data for i in plain.items("standard-test", 5)] == split_problems("standard-test", 5)
    easy = resolve_task("find-start:rules=2,candidates=3-4")
    same = resolve_task({"dataset": "find-start", "rules": 2, "candidates": [3, 4]})
    assert (
        easy == same
        and easy.digest == easy.name == "find-start:rules=2,candidates=3-4"
        and easy.splits == ("train", "dev", "test")
    )
    for split in easy.splits:
        items = easy.items(split, 40)
        assert items[:10] == easy.items(split, 10)
        assert {bucket_of(i.data.chain) for i in items} == {split}
        assert {len(i.data.rules) for i in items} == {2} and {len(i.data.candidates) for i in items} == {3, 4}
    item = easy.items("test", 1)[0]
    assert easy.grade(item, f"answer {item.gold}").correct and easy.grade(item, "hmm").value is None
    for bad in (
        "find-start:rules=1",
        "find-start:rules=4-2",
        "find-start:candidates=x",
        "find-start:rule=3",
        "find-start:rules=9",
    ):
        with pytest.raises(BadInput):
            resolve_task(bad)


def test_generated_tasks_are_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(BadInput, match="pip install reasoning-gym"):
        resolve_task("reasoning-gym:countdown")

    class Made(list[dict[str, str]]):
        def score_answer(self, answer: str, entry: dict[str, str]) -> float:
            if answer == "crash":
                raise RuntimeError("no parse")
            return 1.0 if answer == entry["answer"] else 0.01

    def create(name: str, seed: int, size: int, **options: int) -> Made:
        if options.get("bad"):
            raise AssertionError("bad must be 0")
        return Made({"question": f"{name} {seed + i}?", "answer": str(seed + i)} for i in range(size))

    package = types.SimpleNamespace(
        create_dataset=create, __version__="1", factory=types.SimpleNamespace(DATASETS={"countdown": 1})
    )
    monkeypatch.setitem(sys.modules, "reasoning_gym", package)
    task = resolve_task({"dataset": "reasoning-gym:countdown", "seed": 3})
    items = task.items("test", 4)
    assert items[:2] == task.items("test", 2) and items[0].id == "test/00000" and items[0].gold == "2000003"
    assert task.items("dev", 1)[0].gold == "1000003" and task.prompt(items[0], "bare") == "countdown 2000003?"
    assert (
        task.grade(items[0], "The answer is 2000003.").correct and task.grade(items[0], "The answer is 7.").value == 0.0
    )
    assert not task.grade(items[0], "The answer is: crash").scorable
    assert task.digest != resolve_task("reasoning-gym:countdown").digest
    with pytest.raises(BadInput, match="Unknown task 'countdwn'.*Did you mean 'countdown'"):
        resolve_task("reasoning-gym:countdwn")
    with pytest.raises(BadInput, match="bad must be 0"):
        resolve_task({"dataset": "reasoning-gym:countdown", "options": {"bad": 1}}).items("test", 1)


@pytest.mark.parametrize(
    ("text", "answer", "how"),
    [
        ("We get \\boxed{1} at first, so \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}", "boxed"),
        ("She has 9*2 = 18.\n#### 18", "18", "after ####"),
        ("The answer is $\\frac{3}{4}$. Let me check.", "\\frac{3}{4}", "announced"),
        ("Answer: 40 daps equal 42 baps.", "40", "announced"),
        ("Therefore, the sixth term of the sequence is $350$.", "350", "concluded"),
        ("Therefore, the number of points is $$99 - 40 = 59$$.", "59", "concluded"),
        ("So, the unicycle's speed is 12\u03c0 inches per second.", "12\u03c0", "concluded"),
        ("The sum is 21.\nThe minimum value is 16, which is achieved when $a = b = 2$.", "16", "last statement"),
        ("So x is 4. To verify, we check that 4 * 3 = 12, which is right.", "4", "concluded"),
        ("The answer is 12.\nYou are an AI assistant that helps. So 7 is the answer: 7", "12", "announced"),
        ("<think> maybe 3 </think> The answer is 5.", "5", "announced"),
        ("Thus x = 12. Now let us look at the next 14 and", "12", "concluded"),
        ("The cube is 216 inches.\n" * 5 + "The cube is", "216", "repeated"),
        ("We try 3, and 4, and then 17 gives", None, "the text breaks off without a final answer"),
        ("", None, "the response is empty"),
    ],
)  # fmt: skip
def test_the_final_answer_is_found_where_it_stands(text: str, answer: str | None, how: str) -> None:
    found = final_answer(text)
    assert (found.text.rstrip("\u0020") if found.text else found.text, found.how) in (
        (answer, how),
        (f"x = {answer}", how),
    )


def test_plain_graders_keep_unscorable_apart_from_wrong() -> None:
    exact, numeric, choice = ExactGrader(), NumericGrader(0.01), ChoiceGrader("ABCD")
    cases: list[tuple[Callable[[str], Any], list[tuple[str, float | None]]]] = [
        (lambda t: exact.grade("", "New York", t), [("The answer is: new  york", 1.0), ("The answer is: Boston", 0.0), ("", None)]),
        (lambda t: numeric.grade("", "200", t), [("\\boxed{201}", 1.0), ("\\boxed{203}", 0.0), ("\\boxed{1e999}", None)]),
        (lambda t: choice.grade("", "B", t), [("B", 1.0), ("(B) Paris", 1.0), ("\\boxed{\\text{C}}", 0.0), ("A or B", None), ("", None)]),
    ]  # fmt: skip
    for grade, expected in cases:
        for text, value in expected:
            assert grade(text).value == value, text
    assert ExactGrader(whole=True, case=True).grade("", "a b", " a b\n").correct
    assert [number(t) for t in ("50%", "1/2", r"\frac{1}{2}", ".5", "1,000", "x", "1/0")][:4] == [number("0.5")] * 4
    assert number("1,000") == 1000 and number("x") is None and number("1/0") is None
    for bad in (
        lambda: NumericGrader(2),
        lambda: ChoiceGrader("abc"),
        lambda: numeric.grade("", "red", "1"),
        lambda: choice.grade("", "X", "A"),
    ):
        with pytest.raises(BadInput):
            bad()
    assert grader_named("choice").facts["letters"] == "ABCDE"
