"""Coherence of pairs of steps: hand cases, valid traces are coherent, planted errors are found, shuffled steps are told from others."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path

import pytest

from experiments.pair.problem import Problem, Rule
from experiments.pair.trace import STYLES, think_response
from experiments.pair.verifier import read_equation, verify
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.coherence import refuse
from experiments.studies.elicitation.coherence_tables import (
    beside_random,
    changes,
    controls,
    kinds,
    overview,
    sentences,
)
from experiments.studies.elicitation.coherent import Clause, clause_of, clauses_of, coherent
from experiments.studies.elicitation.equations import claims_of, known_of, supported
from experiments.studies.elicitation.exploring import explored
from experiments.studies.elicitation.judged import Text, _exact, _read, counted, pooled, shuffled, strangers
from experiments.studies.elicitation.named import card_named
from experiments.studies.elicitation.run import options_of
from experiments.tasks.findstart import FindStart
from steering.errors import BadInput

PROBLEM = Problem((Rule("+", 5), Rule("*", 3)), 51, (7, 12, 40), 12)
SETTING = Setting(name="x", split="standard-test", form="think")


def clauses(text: str) -> tuple[Clause, ...]:
    """A text in clauses, as its steps are cut."""
    return clauses_of([part + " ;" for part in text.split(" ; ")])


def verdicts(text: str) -> list[bool | None]:
    read = clauses(text)
    return [coherent(PROBLEM, one, two) for one, two in zip(read, read[1:], strict=False)]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("let us try 7 ; 7 + 5 = 12 ; 12 * 3 = 36 ; goal 51 no back ; not 7 try 12", [True, True, True, None]),
        ("first try 12 ; 12 + 5 = 17 ; 17 * 3 = 51 ; goal 51 yes ; so answer 12", [True, True, True, None]),
        ("let us try 7 ; 7 + 5 = 13 ; 13 * 3 = 39", [False, True]),
        ("let us try 7 ; 7 + 5 = 13 ; wait check 7 + 5 = 12 ; 12 * 3 = 36", [True, True, True]),
        ("let us try 7 ; 7 + 5 = 13 ; wait check 7 + 5 = 14 ; 14 * 3 = 42", [False, False, True]),
        ("let us try 7 ; 7 + 5 = 13 ; wait check 7 * 3 = 21", [False, False]),
        ("let us try 7 ; 7 + 5 = 12 ; check 7 + 5 = 12 ok ; hmm check 12 * 3 = 36 ok", [True, True, False]),
        ("let us try 7 ; 7 + 5 = 13 ; check 7 + 5 = 13 ok ; check 7 + 5 = 12 ok", [False, False, False]),
        ("let us try 7 ; 12 + 5 = 17", [False]),
        ("let us try 7 ; 7 * 9 = 63", [True]),
        ("let us try 51 ; goal 51 yes ; so answer 51", [True, None]),
        ("let us try 51 ; goal 51 no back", [False]),
        ("let us try 51 ; goal 52 no back ; goal 51 no back", [False, False]),
        ("hmm maybe back ; 7 + 5 = 12 ; enough guess ; so answer 9 ; word word", [False, None, None, None]),
        ("let us try 7 ; 7 + 5 = ; 7 + 5 = 12", [None, False]),
    ],
)  # fmt: skip
def test_pairs_done_by_hand(text: str, right: list[bool | None]) -> None:
    assert verdicts(text) == right


def test_clauses_outside_the_grammar_say_nothing() -> None:
    outside = "| ; |try 7|let us try 100|not x try 7|goal 51 no|goal 51 maybe|7 + 5 = 12 13|check 7 + 5 = 12|-1 + 5 = 4"
    for words in outside.split("|"):
        assert clause_of(words.split()) == Clause(""), words
    assert read_equation("7 + 5 = 12".split()).right and not read_equation("7 - 9 = 2".split()).right  # type: ignore[union-attr]
    assert read_equation("7 ** 5 = 12".split()) is None and read_equation("7 +- 5 = 12".split()) is None


def made(count: int, style: str, seed: int = 0) -> list[tuple[Problem, list[str]]]:
    rng = random.Random(seed)
    items = FindStart().items("hard-test", count)
    return [(item.data, think_response(item.data, rng, STYLES[style])) for item in items]


def text_of(item: str, problem: Problem, words: list[str]) -> Text:
    read = clauses_of([part + " ;" for part in " ".join(words).split(" ; ")])
    verdict = verify(problem, words)
    return Text(item, verdict.correct, False, verdict.trace_ok, read, _exact(problem), explored(problem, read, False))


def test_a_text_that_ends_at_once_has_no_steps_and_tests_nothing() -> None:
    assert clauses_of([]) == ()
    assert explored(PROBLEM, (), cut=False)["skipped"] == len(PROBLEM.candidates)
    empty = Text("a", False, False, False, (), _exact(PROBLEM), explored(PROBLEM, (), False))
    whole = Text(
        "b",
        True,
        False,
        True,
        clauses("try 12 ; 12 + 5 = 17 ; 17 * 3 = 51 ; goal 51 yes ; so answer 12"),
        _exact(PROBLEM),
        {},
    )
    assert not empty.pairs and not empty.behind(whole) and not whole.behind(empty)


def test_a_valid_trace_is_coherent_and_without_errors_of_exploring() -> None:
    valid = 0
    for style in STYLES:
        for problem, words in made(60, style):
            text = text_of("q", problem, words)
            assert all(clause.kind for clause in text.steps) and len(text.pairs) > 2
            if text.valid:
                assert all(text.pairs) and not any(text.counts.values()), words
                valid += 1
            elif verify(problem, words).wrong_lines > verify(problem, words).repaired_lines:
                assert not all(text.pairs), words
    assert valid > 40


def test_a_trace_may_be_coherent_and_not_valid() -> None:
    for text in (
        "let us try 7 ; 7 * 3 = 21 ; goal 51 no back ; enough guess ; so answer 12",
        "let us try 7 ; 7 + 5 = 12 ; 12 * 3 = 36 ; goal 51 no back ; not 7 try 12 ; 12 + 5 = 17 ; 17 * 3 = 51 ; goal 51 yes ; so answer 40",
        "let us try 51 ; goal 51 yes ; so answer 12",
    ):
        own = text_of("q", PROBLEM, text.split())
        assert all(own.pairs) and not own.valid


@pytest.mark.parametrize(
    ("text", "error", "count"),
    [
        ("let us try 8 ; goal 51 no back ; not 8 try 12 ; goal 51 yes ; so answer 12", "not listed", 1),
        ("let us try 7 ; goal 51 no back ; not 7 try 12 ; goal 51 no back ; not 12 try 7 ; goal 51 no back", "tried again", 1),
        ("let us try 7 ; goal 51 no back ; not 7 try 7 ; goal 51 no back ; not 7 try 7", "tried at once again", 2),
        ("let us try 7 ; goal 51 no back ; not 7 try 40 ; hmm maybe back ; enough guess ; so answer 12", "skipped", 2),
        ("let us try 12 ; goal 51 no back ; not 12 try 7 ; goal 51 yes ; so answer 7", "wrong evaluation", 2),
        ("let us try 7 ; goal 51 no back ; not 40 try 12", "backtracking", 1),
        ("let us try 7 ; goal 51 no back ; 7 + 5 = 12 ; goal 51 no back ; not 7 try 12", "backtracking", 1),
        ("let us try 7 ; hmm maybe back ; not 7 try 40 ; goal 51 no back ; not 40 try 7 ; goal 51 no back", "tried again", 0),
        ("let us try 7 ; goal 51 no back ; not 7 try 12 ; goal 51 yes ; so answer 12", "skipped", 0),
    ],
)  # fmt: skip
def test_errors_of_exploring_done_by_hand(text: str, error: str, count: int) -> None:
    assert explored(PROBLEM, clauses(text), False)[error] == count
    assert explored(PROBLEM, clauses(text), True)["skipped"] == 0


def stated(text: str) -> list[bool]:
    return [own.right for own in claims_of(text).equations]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("So 12 * 3 = 36 apples.", [True]),
        ("3+4=8 and then 8 - 2 = 6, (2 + 3) * 4 = 20.", [False, True, True]),
        ("2 + 3 + 4 = 5 + 4 = 9", [True, True]),
        ("He sold 48/2 = <<48/2=24>>24 clips for $5.00 * 3 = $15.", [True, True]),
        ("10 / 3 = 3.33, 10 / 3 = 3.34, 10 / 3 = 3", [True, False, False]),
        (r"\(\frac{6}{3} + 1 = 3\), 3 \times 4 = 12, 50\% * 8 = 4, 3 x 4 = 12, 12 ÷ 4 = 3", [True] * 5),
        ("1,200 + 300 = 1,500", [True]),
        ("2x + 3 + 1 = 8, a^2 + 3 + 1 = 4, 3 + 4 = 7x, 2(3+4) = 14, 5 = 5, 4/0 = 0, 7 - that is, 3 + 4 = ", []),
        ("Step 2: 3 + 4 = 7", [True]),
        ("- 3 + 4 = 7\n1. 3 + 4 = 7", [True, True]),
        ("(3 + 4 = 7), 5 apples (3 + 2 = 5) and half, 10 * .5 = 5", [True] * 3),
        ("5 - 1 = 3 1/2, 1 1/2 / 1/2 = 3, 1/2 (68) + 10 = 44, 350 000 + 1 = 2", []),
    ],
)  # fmt: skip
def test_equations_of_natural_text_are_recomputed(text: str, right: list[bool]) -> None:
    assert stated(text) == right


def test_a_number_from_nowhere_is_told_from_a_known_one() -> None:
    known = known_of("Anna has three boxes of 12 pens and sells half of them.")
    first, second = claims_of("There are 3 * 12 = 36 pens."), claims_of("So 36 / 2 = 18, and 18 - 5 = 13.")
    assert supported(known, [], first) is True
    assert second.from_nowhere(known | first.numbers) == [5] and supported(known, [first], second) is False
    assert (
        supported(known, [], claims_of("So 36 / 2 = 18.")) is False
        and supported(known, [first], claims_of("So 36 / 2 = 18.")) is True
    )
    assert (
        supported(known, [], claims_of("No number.")) is None
        and supported(known, [], claims_of("3 + 12 = 16")) is False
    )
    assert counted([first, second], known) == {"equations": 3, "right": 3, "numbers": 8, "from nowhere": 1}
    assert claims_of("1. Take 9.").mentioned == (Fraction(9),)


def test_solutions_of_people_are_coherent_and_shuffled_ones_are_less_so(shared_data: Path) -> None:
    rows = [json.loads(line) for line in (shared_data / "gsm8k_test.jsonl").read_text("utf-8").splitlines()][:100]
    texts, right, equations = [], 0, 0
    for number, row in enumerate(rows):
        known, claims = (
            known_of(row["question"]),
            tuple(map(claims_of, row["answer"].split("####")[0].strip().splitlines())),
        )
        counts = counted(claims, known)
        right, equations = right + counts["right"], equations + counts["equations"]
        texts.append(Text(str(number), True, False, None, claims, _read(known), counts))
    share = pooled([text.pairs for text in texts])
    assert right == equations > 250, "every equation that is read is one"
    assert (
        share is not None
        and share > 0.85
        and max(shuffled(texts, 20)) < share - 0.1
        and max(strangers(texts, 20)) < share / 2
    )


def test_no_text_is_too_long_or_too_deep() -> None:
    deep = "(" * 500 + "3" + ")" * 500 + " + 1 = 4"
    for text in ("3+" * 4000, "(" * 4000 + "3", "3 " * 4000, "3)" * 4000, "1 + " * 3000 + "1 = 3001", deep, "=" * 4000):
        assert claims_of(text).equations == ()


def test_steps_that_do_not_belong_together_are_told_from_those_that_do() -> None:
    texts = [text_of(f"q{n}", problem, words) for n, (problem, words) in enumerate(made(30, "careful"))]
    assert pooled([text.pairs for text in texts]) == 1.0
    assert max(shuffled(texts, 20)) < 0.5 and max(strangers(texts, 20)) < 0.5
    table, power = controls(SETTING, {"base": "base"}, {"base": texts}, 20)
    assert power["base"][2] == pytest.approx(1 / 21) and table.lines[0][4] == table.lines[0][6] == pytest.approx(
        0.048, abs=1e-3
    )
    # a judge of texts whose steps belong nowhere has no rank to speak of
    rng = random.Random(1)
    nowhere = [
        Text(t.item, t.right, t.cut, t.valid, tuple(rng.sample(t.steps, len(t.steps))), t.judge, t.counts)
        for t in texts
    ]
    table, power = controls(SETTING, {"base": "base"}, {"base": nowhere}, 20)
    assert power["base"][2] > 0.05
    assert (
        "does not tell these texts from shuffled ones"
        in sentences(SETTING, {"base": "base"}, {"base": nowhere}, power)[0]
    )


def test_a_planted_loss_of_coherence_is_found_and_none_is_where_there_is_none() -> None:
    careful = [text_of(f"q{n}", problem, words) for n, (problem, words) in enumerate(made(40, "careful"))]
    spoilt = []
    for text, (problem, words) in zip(careful, made(40, "careful"), strict=True):
        at = max(n for n, word in enumerate(words) if word == "=")
        wrong = [*words[: at + 1], str((int(words[at + 1]) + 1) % 100), *words[at + 2 :]]
        spoilt.append(text_of(text.item, problem, wrong))
    labels = {"base": "base", "spoilt": "spoilt", "same": "same"}
    texts = {"base": careful, "spoilt": spoilt, "same": careful}
    table, said = changes(SETTING, labels, texts, "base")
    assert [line[0] for line in table.lines] == ["spoilt", "same"] and all(
        len(line) == len(table.heads) for line in table.lines
    )
    assert "no detectable difference" not in said[0] and "no detectable difference, +0.0 points" in said[1]
    assert "more traces are coherent than valid" not in sentences(SETTING, {"spoilt": "spoilt"}, texts, {})[0]
    guessing = [Text(t.item, t.right, t.cut, False, t.steps, t.judge, t.counts) for t in careful]
    assert "more traces are coherent than valid" in sentences(SETTING, {"g": "g"}, {"g": guessing}, {})[0]
    for made_table in (overview(SETTING, labels, texts, True), kinds(SETTING, labels, texts, True)):
        assert all(len(line) == len(made_table.heads) for line in made_table.lines)
    assert kinds(SETTING, labels, texts, True).lines[1][1:5] == (0, 0, 0, 0), "no spoilt trace is wholly coherent"
    beside, words = beside_random(SETTING, "steered", spoilt, [careful] * 20, True)
    assert beside.lines[0][5] == pytest.approx(0.048, abs=1e-3) and beside.lines[0][4] == 1.0 and "for fewer" in words


def test_texts_without_a_pair_are_said_to_hold_none() -> None:
    empty = Text(
        "q", True, False, False, (Clause("answer", number=3),), _exact(PROBLEM), dict.fromkeys(("skipped",), 0)
    )
    (said,) = sentences(SETTING, {"base": "base"}, {"base": [empty]}, {})
    assert (
        said
        == "x: base: none of its 1 texts holds a pair to test (0 have two steps or more), so nothing is said of their coherence."
    )
    words = Text("q", True, False, None, (claims_of("a"), claims_of("b")), _read(frozenset()), counted([], frozenset()))
    assert "1 have two steps or more" in sentences(SETTING, {"base": "base"}, {"base": [words]}, {})[0]
    assert controls(SETTING, {"base": "base"}, {"base": [words]}, 3)[1] == {}
    assert "no pair to test on one side" in beside_random(SETTING, "s", [words], [[words]], False)[1]


def test_a_dose_at_which_nothing_is_added_is_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(BadInput, match="card coherence: dose 0"):
        refuse(Elicit(), options_of(card_named("coherence"), "quick", {"dose": "0v"}))
