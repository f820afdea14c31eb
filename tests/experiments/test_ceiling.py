"""The prompt ceiling: templates are data that a stored run reads again, a planted good one is found, an idle one has no rank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.evaluation.spec_files import located_task
from experiments.statistics import independent_difference
from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.ceiling_tables import Search, control_table, sentences
from experiments.studies.elicitation.findings import Point
from experiments.studies.elicitation.halving import Round, halved, sizes
from experiments.studies.elicitation.named import card_named
from experiments.studies.elicitation.run import run_card
from experiments.studies.elicitation.templates import ONE_SHOT, PLAIN, THINK, Named, added, candidates, random_template
from experiments.studies.elicitation.workroom import Workroom
from experiments.tasks.agreement import same_answer
from experiments.tasks.prompting import SLOT
from experiments.tasks.task import asked_ids, resolve_task
from experiments.tasks.templated import Templated, as_template
from steering.errors import BadInput
from steering.model.models import LoadedModel, load_model
from tests.experiments.test_elicitation import QUIET

SPEC = {
    "dataset": "templates",
    "task": "find-start",
    "templates": {"asks": f"{SLOT} think first", "twice": f"{SLOT} {SLOT}"},
}


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load_model("builtin:base")


def test_a_templated_task_has_the_items_and_grades_of_its_task_and_a_digest_of_both(base: LoadedModel) -> None:
    plain, made = resolve_task("find-start"), resolve_task(SPEC)
    item = made.items("standard-test", 3)[2]
    assert made.items("standard-test", 3) == plain.items("standard-test", 3) and made.splits == plain.splits
    assert (
        asked_ids(made, base, item, "asks")
        == asked_ids(plain, base, item, "think")
        == asked_ids(made, base, item, "think")
    )
    assert made.prompt(item, "twice") == f"{plain.prompt(item, 'bare')} {plain.prompt(item, 'bare')}"
    text = f"let us try {item.gold} ; so answer {item.gold}"
    assert made.grade(item, text) == plain.grade(item, text) and made.grade(item, text).correct
    assert made.digest == resolve_task(json.loads(json.dumps(SPEC))).digest != plain.digest
    others = [SPEC | {"templates": {"asks": SLOT}}, SPEC | {"task": "find-start:rules=2-3,candidates=4-6"}]
    assert len({made.digest, *(resolve_task(other).digest for other in others)}) == 3
    with pytest.raises(BadInput, match="prompt form 'aks'"):
        made.prompt(item, "aks")


def test_a_templated_data_set_compares_answers_as_the_data_set_does(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "One and one?", "answer": "2"}))
    inner = {"dataset": "q.jsonl", "splits": {"test": "q.jsonl"}, "grader": "math"}
    spec = located_task({"dataset": "templates", "task": inner, "templates": {"a": f"Say: {SLOT}"}}, tmp_path)
    made = resolve_task(spec)  # without the folder, as whoever reads the stored run has it
    item = made.items("test", 1)[0]
    assert made.prompt(item, "a") == "Say: One and one?" and made.grade(item, "The answer is 2.").correct
    assert same_answer(made, item, "0.5", r"\frac{1}{2}") and not same_answer(resolve_task(SPEC), item, "1", "2")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (SPEC | {"templates": {"a": "no slot"}}, "'no slot' does not"),
        (SPEC | {"templates": {"think": SLOT}}, "has a form of that name"),
        (SPEC | {"templates": {}}, "at least one template"),
        (SPEC | {"task": {"dataset": "one-question", "prompt": "rules"}}, "no questions apart from its prompts"),
        ({"dataset": "templates", "task": "find-start"}, "`templates`"),
        (SPEC | {"forms": {}}, "field 'forms'"),
        (SPEC | {"templates": {"a": {"template": SLOT, "chatty": True}}}, "task.templates"),
    ],
)
def test_templates_that_cannot_be_asked_are_refused(spec: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        resolve_task(spec)


def test_halving_asks_fewer_and_fewer_candidates_more_and_more_questions() -> None:
    asked: list[tuple[int, int]] = []
    quality = {f"t{n}": n for n in range(16)}

    def measure(left, n):  # type: ignore[no-untyped-def]
        asked.append((len(left), n))
        return {name: quality[name] for name in left}

    best, rounds = halved(list(quality), 48, measure)
    assert best == "t15" and asked == [(16, 6), (8, 12), (4, 24), (2, 48)] and [r.n for r in rounds] == sizes(16, 48)
    assert halved(["a", "b", "c"], 4, lambda left, n: dict.fromkeys(left, 1))[0] == "a", "ties go to the first"
    assert halved(["a"], 4, lambda left, n: {"a": 0})[0] == "a" and sizes(3, 1) == [1, 1]


def test_templates_are_different_and_the_three_of_every_list_come_first(base: LoadedModel) -> None:
    for name, direct, think in (("find-start", "bare", "think"), ("short:story", "direct", "think")):
        task = resolve_task(name)
        solved = task.items(task.splits[1], 2)
        found = candidates(task, direct, think, solved, 16)
        assert [one.words for one in found[:3]] == [PLAIN, THINK, ONE_SHOT] and found[2].shots == 1
        assert len(found) == 16 == len({one.words for one in found}) == len({one.text for one in found})
        assert found == candidates(task, direct, think, solved, 16) != candidates(task, direct, think, solved, 16, 1)
        item, own = task.items(task.splits[-1], 1)[0], Templated(task, {"t": found[0].form, "u": found[1].form})
        assert own.prompt(item, "t") == task.prompt(item, direct) and own.prompt(item, "u") == task.prompt(item, think)
        assert max(one.shots for one in found) == 2


def test_a_setting_that_asks_to_think_first_lists_that_form_once() -> None:
    task = resolve_task("short:story")
    found = candidates(task, "think", "think", task.items("dev", 1), 5)
    assert [one.words for one in found[:2]] == [PLAIN, ONE_SHOT] and len({one.text for one in found}) == 5


def test_random_templates_have_other_words_of_as_many_tokens_and_the_question_where_it_was(base: LoadedModel) -> None:
    task = resolve_task("find-start")
    for text in (f"{SLOT} think first", f"ok so ; {SLOT} {SLOT} think", SLOT):
        one = Named(text, as_template(text))
        drawn = [random_template(base, task, one, seed).template for seed in range(20)]
        assert all(added(base, other) == added(base, text) for other in drawn)
        assert drawn == [random_template(base, task, one, seed).template for seed in range(20)]
        if text != SLOT:
            assert len(set(drawn)) > 15 and not any({"think", "first"} & set(other.split()) for other in drawn)
    english = Named("x", as_template(f"Question: {SLOT}\nAnswer:"))
    other = random_template(base, resolve_task("short:story"), english, 0).template
    assert SLOT in other and "Answer" not in other and sum(added(base, other)) <= sum(added(base, english.text))


def test_the_difference_of_shares_on_different_questions_has_the_published_interval() -> None:
    found = independent_difference(56, 70, 48, 80)
    assert found.difference == pytest.approx(0.2)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    none = independent_difference(0, 10, 0, 10)
    assert none.interval.low < 0 < none.interval.high
    with pytest.raises(ValueError, match="0 <= successes"):
        independent_difference(3, 2, 0, 1)


ONE = Elicit(thinking=None, settings=(Setting(name="x", split="standard-test", form="bare"),), max_new_tokens=120)


def test_a_planted_template_is_found_and_no_random_words_do_the_same(tmp_path: Path) -> None:
    given = {
        "n": 8, "n_dev": 8, "draws": 5,
        "templates": [SLOT, f"{SLOT} be quick", f"{SLOT} think first", f"{SLOT} ok yes", f"{SLOT} no"],
    }  # fmt: skip
    found = run_card(card_named("ceiling"), ONE, Store(tmp_path), given=given, console=QUIET)
    assert f"the search chose '{SLOT} think first'" in found.said[0]
    control = next(table for table in found.tables if "random words" in table.title).lines[0]
    assert float(str(control[3])) < 40 < float(str(control[1])), "random words are no better than none, mostly"
    assert {point.arm for point in found.points} == {"base", "prompt", "one-shot", "chosen"}
    chosen = next(point for point in found.points if point.arm == "chosen")
    asked = next(point for point in found.points if point.arm == "prompt")
    assert (chosen.accuracy, chosen.tokens) == (asked.accuracy, asked.tokens), "it is the form that asks to think first"
    assert "nothing is steered" in found.said[-1]
    for table in found.tables:
        assert all(len(line) == len(table.heads) for line in table.lines), table.title
    # the stored run is read again: its task holds the templates
    run = Store(tmp_path).open(found.runs[-1])
    task = resolve_task(run.manifest.spec["task"])
    assert {"chosen", "random-4", "think"} <= set(task.forms)
    rows = [
        row for own in found.runs[:-1] for row in Store(tmp_path).open(own).table().to_pylist() if row["arm"] != "base"
    ]
    read = sum(len(row["prompt_ids"]) for row in rows)
    assert f"It cost {read} tokens read" in found.said[0]


def test_templates_that_do_nothing_have_no_rank(tmp_path: Path) -> None:
    given = {"n": 8, "n_dev": 4, "draws": 8, "templates": [f"{SLOT} be quick", f"ok yes {SLOT}"]}
    found = run_card(card_named("ceiling"), ONE, Store(tmp_path), given=given, console=QUIET)
    line = next(table for table in found.tables if "random words" in table.title).lines[0]
    assert isinstance(line[6], float) and line[6] > 0.05
    assert "no detectable difference" in found.said[2]


class Held:
    """A run whose rows are given."""

    def __init__(self, right: dict[str, int]):
        self.rows = [{"arm": arm, "correct": n < hits} for arm, hits in right.items() for n in range(10)]

    def table(self, columns: list[str]) -> Held:
        return self

    def to_pylist(self) -> list[dict[str, object]]:
        return self.rows


@pytest.mark.parametrize(("chosen", "p"), [(8, 1 / 21), (3, 11 / 21), (0, 1.0)])
def test_the_rank_is_that_among_random_words(base: LoadedModel, chosen: int, p: float) -> None:
    one = Named("asks", as_template(f"{SLOT} think first"))
    noise = {f"random-{n}": as_template(f"{SLOT} ok {n}") for n in range(20)}
    run = Held({"chosen": chosen} | {name: 2 + n % 2 for n, name in enumerate(noise)})
    room = Workroom(ONE, Store("unused"), QUIET, {"builtin:base": base})
    search = Search(one, (), {"asks": one}, 0, 0, 0)
    table, words = control_table(ONE.settings[0], run, noise, search, room)  # type: ignore[arg-type]
    line = table.lines[0]
    assert line[6] == round(p, 3) and line[4] == "20.0 to 30.0" and line[5] == "2 to 2" and line[7] == f"{SLOT} ok 1"
    assert f"{round(21 * p) - 1} are right at least as often (20.0 to 30.0 %; rank p {p:.3f})" in words
    assert "adds no words" in control_table(ONE.settings[0], run, {}, search, room)[1]  # type: ignore[arg-type]


def test_a_tie_in_the_last_round_is_said() -> None:
    one = Named("a", as_template(SLOT))
    point = Point(
        setting="x", arm="chosen", label="a", role="prompt", n=4, accuracy=0.5, low=0.2, high=0.8, tokens=3, truncated=0, unscorable=0,
        difference=0.0, difference_low=-0.1, difference_high=0.1, run="r", split="s",
    )  # fmt: skip
    for right, said in (({"a": 2, "b": 2}, True), ({"a": 2, "b": 1}, False)):
        search = Search(one, (Round(4, right),), {"a": one}, 1, 1, 0)
        found = sentences(ONE.settings[0], search, point, independent_difference(2, 4, 2, 4), "rank", Held({}), [point])  # type: ignore[arg-type]
        assert ("1 other did as well in the last round" in found[0]) == said


def test_what_cannot_be_searched_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    for given, words in (({"templates": ["no slot"]}, "holds {question}"), ({"dose": "0v"}, "card ceiling: dose 0")):
        with pytest.raises(BadInput, match=words):
            run_card(card_named("ceiling"), ONE, Store(tmp_path), given={"n": 2} | given, console=QUIET)
    whole = ONE.model_copy(update={"max_new_tokens": 500})
    with pytest.raises(BadInput, match="no template leaves room"):
        run_card(card_named("ceiling"), whole, Store(tmp_path), given={"n": 2, "n_dev": 2}, console=QUIET)
