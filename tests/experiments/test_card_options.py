"""Options of elicitation cards that are refused: one sentence says what was given, where, and what to give instead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.named import CARDS, card_named
from experiments.studies.elicitation.run import options_of, run_card
from steering.errors import BadInput
from tests.experiments.command_line import Steer, command

steer = pytest.fixture(command)
ASKED = Elicit(base="no/such-model", thinking=None)
STORY = Elicit(
    base="no/such-model",
    thinking=None,
    task="short:story",
    think="think",
    settings=(Setting(name="direct prompts", split="test", form="direct"),),
)


@pytest.mark.parametrize("name", list(CARDS))
@pytest.mark.parametrize("value", [{"a": [{}]}, [[]], "?", -1, float("nan"), float("inf")])
def test_a_value_that_no_field_takes_is_named_with_the_card_the_field_and_an_example(name: str, value: Any) -> None:
    """Every field of every card: what it does not take is refused in a sentence that names the card and the field."""
    card, taken = card_named(name), 0
    for field in type(card.quick).model_fields:
        try:
            card.refuse(ASKED, options_of(card, "quick", {field: value}))
        except BadInput as error:
            said = str(error)
            if "compares two models" in said:
                continue
            assert "\n" not in said and "Input should" not in said and field in said.replace("digest", "digests"), said
            assert f"card {name}" in said or "No vector file" in said, said
        else:
            taken += 1
    assert taken < len(type(card.quick).model_fields), "n at least takes none of these"


@pytest.mark.parametrize(
    ("card", "given", "words"),
    [
        ("symbols", {"words": {2: 5}}, "words: 2: 5 is no pair of words.*in quotes what looks like one"),
        ("symbols", {"words": {"apples:wugs": None}}, "'apples:wugs' has no new word.*a blank behind each colon"),
        (
            "audit",
            {"files": "think.safetensors"},
            r"files is 'think.safetensors': a list is needed.*--set files=\[think",
        ),
        ("shift", {"file": ["think.safetensors"]}, "file is .*: text is needed.*--set file=think.safetensors"),
        (
            "compression",
            {"lists": {"switch": "wait"}},
            "lists.switch is 'wait': a list is needed.*--set 'lists={switch: ",
        ),
        ("compression", {"doses": [0.3, 0.3]}, "doses names 0.3 twice; name each once"),
        ("compression", {"layer": 4, "brief": None}, "layer is 4; builtin:base has layers 0 to 3"),
        ("compression", {"dev": "nowhere"}, "dev is 'nowhere', no other split of the task; name another one"),
        ("switching", {"strengths": []}, "strengths are positive"),
        ("switching", {"windows": [0]}, "windows are positive"),
        ("audit", {"dev": "standard-test"}, "dev is 'standard-test', the split that is graded; name another one"),
        ("ceiling", {"site": "blocks.0.hook_resid_post"}, "give files too"),
        ("symbols", {"dose": "30deg"}, "dose 30deg: a vector is added, by a constant amount such as"),
        ("audit", {"span": "somewhere"}, "card audit: span: Unknown span"),
        ("shift", {"digest": "0123"}, "digest is found out"),
    ],
)
def test_what_is_said_of_values_that_a_card_does_not_take(card: str, given: dict[str, Any], words: str) -> None:
    own = card_named(card)
    with pytest.raises(BadInput, match=words):
        own.refuse(Elicit(), options_of(own, "quick", given))


def test_words_that_stand_in_no_question_are_named_and_others_offered(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match="none of the first 4 questions of test has one of the words zebra; give words.*such as"
    ):
        run_card(card_named("symbols"), STORY, Store(tmp_path), given={"n": 4, "words": {"zebra": "wug"}})


def test_forms_and_fields_that_are_given_twice_are_refused(steer: Steer, tmp_path: Path) -> None:
    for wrong, words in (
        (("--task", "short:story", "--forms", "direct,direct"), "--forms direct,direct names one form twice"),
        (("--set", "n=3", "--set", "n=4"), "n is set twice"),
        (("--max-new-tokens", "1"), "'--max-new-tokens': .*greater than or equal to 2"),
    ):
        code, _, said = steer("elicit", "symbols", *wrong, "--runs", tmp_path)
        assert code == 2, said
        assert re.search(words, said.replace("\n", " ")), said


def test_two_settings_that_are_one_are_named() -> None:
    one = Setting(name="one", split="test", form="direct")
    for two, words in (
        (
            one.model_copy(update={"name": "two"}),
            "one and two ask the same questions, those of test, in one form, direct; name two",
        ),
        (one.model_copy(update={"form": "think"}), "two settings are called 'one'"),
    ):
        with pytest.raises(ValueError, match=words):
            Elicit(task="short:story", think="think", settings=(one, two))
