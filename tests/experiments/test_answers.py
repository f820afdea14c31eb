# ruff: noqa: E501
r"""What a response answers, and when two answers are the same: money, ends of texts, thinking, next questions, units, brackets, choices."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

from experiments.tasks.graders.final import final_answer
from experiments.tasks.graders.grade import NOTHING, Grade, Known
from experiments.tasks.graders.mathematics import MathGrader
from experiments.tasks.graders.plain import ChoiceGrader, ExactGrader, NumericGrader, number
from experiments.tasks.graders.table import grader_named
from experiments.tasks.task import DatasetTask, resolve_task
from steering.model.thinking import MARKERS, Markers, as_markers

from .answer_pairs import TOPICS

GRADER, ENDED, CUT = MathGrader(), Known("eos"), Known("length")
DOCUMENT = Path(__file__).parents[2] / "docs/datasets.md"


def graded(text: str, gold: str, known: Known = NOTHING) -> Grade:
    return GRADER.grade("", gold, text, known)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("The answer is $50 - $35 = $15.", "15"),
        ("So she has $100 - $40 = $60 left.", "60"),
        ("He pays $12.50 and gets back $7.50.", "7.50"),
        ("She earns $1,200*12=$14,400 a year", "14400"),
        ("They make $90*2=$180 a week", "180"),
        ("It costs $5 and$6 more, so the total is $11.", "11"),
        ("Each of the 3 shirts costs $20/2=$10", "10"),
        ("The cost is $2 + $3, i.e. $x = 5$.", "5"),
        ("He spent $20 on $n$ pens, so $n = 4$.", "4"),
        ("The price is $x = 12$ and the tax is $2, so the sum is $14.", "14"),
        ("$18 per day is what she makes. So she makes $18$.", "18"),
        ("The value is $ x = 7 $.", "7"),
        (r"It was \$30, and is $\frac{1}{2}$ of that, so it is \$15.", "15"),
        ("So the profit is -$5.", "-5"),
        ("Her debt is $-5$.", "-5"),
        ("The sum of $a$ and $b$ is $3$.", "3"),
        ("From $5 to $10 is a rise of $5", "5"),
        ("She has $1200 and pays $480, which leaves her with 1200-480 = $720.", "720"),
        ("The total is $2 million.", "2000000"),
    ],
)
def test_dollars_of_money_delimit_no_formula(text: str, gold: str) -> None:
    grade = graded(text, gold, ENDED)
    assert grade.correct, (grade.answer, grade.explanation)


def test_solutions_of_people_that_end_with_two_amounts_are_right(shared_data: Path) -> None:
    rows = [json.loads(line) for line in (shared_data / "gsm8k_test.jsonl").read_text("utf-8").splitlines()]
    right, amounts = Counter[bool](), Counter[bool]()
    for row in rows:
        solution, _, gold = row["answer"].rpartition("####")
        found = GRADER.grade(row["question"], gold.strip(), solution.strip(), ENDED).correct
        right[found] += 1
        last = re.sub(r"<<[^<>]*>>", "", solution.strip().splitlines()[-1])
        if len(re.findall(r"\$\s?\d", last)) > 1:
            amounts[found] += 1
    print(
        f"{right[True]} of {len(rows)}; of {sum(amounts.values())} whose last line holds two amounts, {amounts[True]}"
    )
    assert sum(amounts.values()) >= 257 and amounts[False] <= 5 and right[True] >= 1300


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("We add.\nFirst 3, then 4.\nShe has 3 + 4 = 7 apples in all", "7"),
        ("It is 5 at first. Then it is 9, so the height is 9 meters", "9"),
        ("There are 48+22=70 pink gumballs", "70"),
        ("So the name of the city is Rome and the number is 12", "12"),
        ("Thus we get\n\\[ x = 3 \\]\nas wanted and needed by all", "3"),
    ],
)
def test_a_text_that_ended_by_itself_is_finished(text: str, gold: str) -> None:
    assert graded(text, gold, ENDED).correct and graded(text, gold, Known("stop")).correct
    long = "We look at the first of all cases. " * 200 + text
    assert graded(long, gold, ENDED).correct, "however long it is"


def test_a_text_that_was_cut_has_no_last_statement() -> None:
    for text in ("She has 3 + 4 = 7 apples.", "The total is 1", "We try 3. There are 9 of them."):
        assert graded(text, "7", CUT).value is None and graded(text, "7", Known("cancelled")).value is None, text
    for text in ("The answer is 7. Now let us see whether", "So x is 7. And now", "\\boxed{7} and", "#### 7\nQuest"):
        assert graded(text, "7", CUT).correct, "what was announced before the cut is the answer"
    assert graded("The answer is 7", "7", CUT).value is None, "the number may go on"


@pytest.mark.parametrize("one", MARKERS, ids=lambda m: m.opening)
@pytest.mark.parametrize("grader", [GRADER, NumericGrader(), ExactGrader()], ids=lambda g: g.name)
def test_what_is_thought_is_no_answer_whatever_the_markers(one: Markers, grader: MathGrader) -> None:
    text = f"{one.opening}So \\boxed{{7}}? {one.closing}The answer is 12."
    assert grader.grade("", "12", text).correct and grader.grade("", "7", text).value == 0.0
    assert grader.grade("", "12", text.partition("?")[2]).correct, "also where the prompt opened the segment"
    cut = grader.grade("", "7", f"{one.opening}So \\boxed{{7}}, and")
    assert cut.value is None and cut.answer is None and cut.unclosed and cut.lenient is True
    assert "not closed" in cut.explanation
    assert grader.grade("", "8", f"{one.opening}So \\boxed{{7}}, and").lenient is False


def test_the_lenient_reading_is_an_option_and_both_are_counted() -> None:
    lenient = grader_named({"name": "math", "lenient": True})
    text = "<think>So \\boxed{7}, and"
    grade = lenient.grade("", "7", text)
    assert grade.correct and grade.unclosed and grade.lenient is True and grade.answer == "7"
    assert "inside a thinking segment" in grade.explanation
    assert lenient.facts != GRADER.facts and not graded("\\boxed{7}", "7").unclosed
    nothing = graded("<think>So \\boxed{7}</think>\n", "7")
    assert nothing.value is None and nothing.unclosed and nothing.lenient and "nothing follows" in nothing.explanation
    opened = graded("So \\boxed{7}, and", "7", Known("length", opened=True))
    assert opened.value is None and opened.unclosed, "the prompt opened the segment"
    for name in ("exact", "numeric", "choice"):
        text = "<think>It is B, so \\boxed{B}" if name == "choice" else text
        gold = "B" if name == "choice" else "7"
        assert grader_named({"name": name, "lenient": True}).grade("", gold, text).correct
        assert grader_named(name).grade("", gold, text).value is None


def test_markers_of_a_task_are_part_of_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"question": "q", "answer": "12"}\n')
    spec = {"dataset": "d.jsonl"}
    plain, own = (resolve_task({**spec, **more}, tmp_path) for more in ({}, {"thinking": ["<a>", "</a>"]}))
    assert isinstance(own, DatasetTask) and own.markers == as_markers(["<a>", "</a>"]) and own.digest != plain.digest
    (item,) = own.items("test", 1)
    assert own.grade(item, "<a>\\boxed{7}</a>\\boxed{12}").correct and own.grade(item, "<a>\\boxed{12}").unclosed
    assert own.grade(item, "<think>\\boxed{12}").correct, "and no other markers are"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("9*2 = 18\n#### 18\n\nA robe takes 2 bolts of fiber. How many bolts?\nIt takes 3.\n#### 3", "18"),
        ("#### 18\n\nTom has 3 apples and buys 4 more.\nHe has 7.\n#### 7\n\nAnn has 2.\n#### 2", "18"),
        ("#### 18\nWait, that is wrong: 9*3 = 27.\n#### 27", "27"),
        ("#### 18\nLet me check it. It is 17.\n#### 17", "17"),
        ("#### Step 1: add\n2 + 3 = 5\n#### Step 2: multiply\n5 * 2 = 10\n#### 10", "10"),
        ("#### Solution\nThe answer is 5.", "5"),
        ("#### 1. Add\nWe add.\n#### 2. Multiply\nSo the answer is 6.", "6"),
        ("The answer is \\boxed{18}.\n\nA robe takes 2 bolts of blue fiber. How many bolts does it take?\n\nIt takes \\boxed{3}.", "18"),
        ("The answer is 18.\n\nA robe takes 2 bolts of blue fiber. How many bolts does it take?\n\nThe answer is 3.", "18"),
        ("We get \\boxed{18}.\n\nBut is this really the right one for us to give?\n\nNo, it is \\boxed{3}.", "3"),
        ("#### 18\n#### 19", "19"),
        ("The sum is 16 - 3 - 4 = <<16-3-4=9>>9 eggs\n#### 9", "9"),
        ("<answer> 12 </answer>", "12"),
        ("\\boxed{12}<|im_end|>\n<|im_start|>user\n\\boxed{13}", "12"),
        ("The answer is 12.<end_of_turn>", "12"),
    ],
)  # fmt: skip
def test_a_next_question_has_an_answer_of_its_own(text: str, answer: str) -> None:
    assert final_answer(text).text == answer, final_answer(text)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        (r"\boxed{18 eggs}", "18"), (r"\boxed{\text{18 dollars}}", "18"), (r"\boxed{18\text{ eggs}}", "18"), (r"#### 18 eggs", "18"), (r"#### $18", "18"),
        (r"\boxed{2} or \boxed{3}", "2, 3"), (r"$x=\boxed{2}$ or $x=\boxed{3}$", "2, 3"), (r"\boxed{2}, \boxed{3} and \boxed{4}", "2,3,4"), (r"x = \boxed{1} \text{ and } y = \boxed{2}", "1, 2"),
        ("The answer is 1.2e3.", "1200"), ("The answer is 5 million.", "5000000"), (r"The answer is $3\frac12$.", "3.5"), ("Answer: 12 dozen", "144"),
    ],
)  # fmt: skip
def test_answers_are_found_whole(text: str, gold: str) -> None:
    grade = graded(text, gold)
    assert grade.correct, (grade.answer, grade.explanation)


def test_a_scale_that_the_question_counts_in_is_no_part_of_the_answer() -> None:
    question = "How many dozen eggs does he need?"
    assert GRADER.grade(question, "7", "He needs 84/12 = 7 dozen.").correct
    assert NumericGrader().grade(question, "7", "He needs 84/12 = 7 dozen.").correct
    assert not GRADER.grade("How many eggs does he need?", "7", "He needs 7 dozen.").correct


@pytest.mark.parametrize("topic", TOPICS)
def test_no_answer_is_accepted_that_is_another(topic: str) -> None:
    pairs = TOPICS[topic]
    assert len({pair[:2] for pair in pairs}) == len(pairs)
    accepted, missed = [], []
    for gold, answer, same in pairs:
        grade = GRADER.compare(gold, answer)
        if grade.correct and not same:
            accepted.append((gold, answer, grade.explanation))
        if same and not grade.correct:
            missed.append((gold, answer, grade.explanation))
    assert not accepted, accepted
    assert not missed, missed


@pytest.mark.slow
def test_the_document_says_what_we_and_the_bare_library_accept() -> None:
    from math_verify import parse, verify

    table = dict(re.findall(r"^\| ([a-z][^|]*?) \| (\d[^\n]*) \|$", DOCUMENT.read_text("utf-8"), re.M))
    for topic, pairs in TOPICS.items():
        counts = []
        for same in (True, False):
            chosen = [(gold, answer) for gold, answer, equal in pairs if equal is same]
            grades = [GRADER.compare(*pair) for pair in chosen]
            library = sum(bool(verify(parse(f"\\boxed{{{g}}}"), parse(f"\\boxed{{{a}}}"))) for g, a in chosen)
            counts.append((len(chosen), sum(g.correct for g in grades), sum(not g.scorable for g in grades), library))
        (equal, ours, _, library), (other, wrongly, unscorable, wrongly_library) = counts
        line = f"{equal} | {ours} | {library} | {other} | {wrongly} | {wrongly_library} | {unscorable}"
        print(f"| {topic} | {line} |")
        if version("math-verify") == "0.9.0":
            assert table[topic] == line, line
        assert wrongly == 0 and wrongly_library > 0, topic


@pytest.mark.parametrize(
    ("gold", "text", "right"),
    [
        ("Monday", "The answer is Monday.", True), ("Monday", "The answer is Monday or Tuesday.", False), ("Monday", "The answer is not Monday.", False), (r"\text{no}", "The answer is no, yes would be wrong.", True),
        (r"\text{yes}", "The answer is no, yes would be wrong.", False), ("yes", "So yes, it is even.", True), ("yes", "No, it is odd.", False), (r"\text{Evelyn}", "Evelyn has the greatest speed.", True), (r"\text{Evelyn}", "Therefore, it is Carla, not Evelyn.", False),
        (r"\text{Evelyn}", "It is either Evelyn or Carla.", False), (r"\text{even}", "The function is neither even nor odd.", False), (r"\text{odd}", "Thus the function is odd.", True),
    ],
)  # fmt: skip
def test_words_are_right_where_the_sentence_says_them(gold: str, text: str, right: bool) -> None:
    assert graded(text, gold).correct is right


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("**B**", "B"), ("[B]", "B"), ("b", "B"), ("(b)", "B"), ("Option B is right", "B"), ("(A) is wrong, (B) is right", "B"), ("B, C", None), ("A or B", None), ("Both A and B", None), ("(B) Paris", "B"), ("B. Paris", "B"),
        ("The answer is **B**.", "B"), ("The answer is [B].", "B"), ("The answer is b.", "B"), (r"\boxed{B, C}", None), (r"\boxed{\text{(B)}}", "B"), (r"\boxed{(B) 12}", "B"), ("I am not sure", None), ("A is wrong. B is right.", "B"), ("The answer is not A but B.", "B"),
        ("So the answer must be option C.", "C"), ("A. cold\nB. warm\nC. hot\nSo C.", "C"), ("I think A is a good guess, but the correct one is D", "D"), ("A cat sat.", None), ("The correct answer is B, because C is wrong.", "B"), ("B because A is too small", "B"),
        ("The answer is neither A nor B.", None), ("We rule out A, B and D, so C", "C"), ("<think>A</think>B", "B"), ("A) 5", "A"), ("E", None), ("", None), ("The answer is A or B.", None),
    ],
)  # fmt: skip
def test_one_option_letter_is_a_choice(text: str, letter: str | None) -> None:
    assert ChoiceGrader("ABCD").grade("", "A", text).answer == letter


def test_numbers_are_read_as_people_write_them() -> None:
    written = {
        r"3\frac12": 3.5, r"5\text{ apples}": 5, "1 million": 1e6, "12 dozen": 144, "1.2e3": 1200, "-3 1/2": -3.5, "five": 5, "$5": 5, "50%": 0.5, "x=5": 5, "1,200": 1200, "7 days": 7, "\u00bd": 0.5,
    }  # fmt: skip
    assert {text: number(text) for text in written} == written
    assert [number(text) for text in ("(1,200)", "5m", "1 2", "2, 5", "1e999", "1/0", "x", "nan", "0x10")] == [None] * 9
    grade = NumericGrader().grade
    assert (
        grade("", "5 hours", "\\boxed{300 minutes}").correct and not grade("", "5 hours", "\\boxed{5 minutes}").correct
    )


@pytest.mark.parametrize("name", ["math", "exact", "numeric", "choice"])
def test_what_a_verdict_depends_on_is_in_the_digest(name: str) -> None:
    facts, other = grader_named(name).facts, grader_named({"name": name, "lenient": True}).facts
    assert (
        facts["version"] == {"exact": 3, "numeric": 3}.get(name, 2)
        and facts["lenient"] is False
        and other == {**facts, "lenient": True}
    )


@pytest.mark.parametrize(
    "piece", ["=", "x=", "is ", "A =", "=1 ", "$5 ", "#### 1\n", "\\boxed{1}", "(A) is wrong, ", "\n\nWhat? "]
)
def test_reading_takes_time_linear_in_the_text(piece: str) -> None:
    text = (piece * 100_000)[:100_000]
    began = time.monotonic()
    final_answer(text, ENDED)
    ChoiceGrader().grade("", "A", text)
    assert time.monotonic() - began < 3
