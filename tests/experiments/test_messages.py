"""Messages of the command line: what a person typed comes back as it was typed."""

from __future__ import annotations

import sys

import pytest
from pydantic import ValidationError

from experiments.commands.cli import main
from experiments.evaluation.refusals import _nearest, refusals
from experiments.store.manifest import near
from experiments.studies.hybrid.spec import HybridSpec
from steering.errors import NAMED, listed, unknown
from steering.model.vocabulary import Unknown


def test_a_word_between_colons_is_no_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("extract", "v.safetensors", "--read", "banana"), ("runs", "show", ":banana:")):
        monkeypatch.setattr(sys, "argv", ["steer", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert ("span:A:B" in said) if "--read" in arguments else (":banana:" in said)


def test_a_list_that_is_cut_says_how_many_are_left() -> None:
    """In place of dots that run into the full stop of the sentence."""
    names, many = [f"name-{n}" for n in range(15)], [f"name-{n}" for n in range(NAMED + 5)]
    assert str(unknown("thing", "x", names)).endswith("name-13, name-14."), "all that a card has"
    for said in (str(unknown("thing", "x", many)), near("x", names), _nearest("x", names)):
        assert " and " in said and said.rstrip().endswith(" more.") and "..." not in said, said
    assert str(unknown("thing", "x", names[:2])).endswith("Valid: name-0, name-1.")
    assert listed(names) == f"{', '.join(names[:12])} and 3 more" and listed(names[:12]) == ", ".join(names[:12])
    piece = Unknown(tuple(names), 30).sentence("m")
    assert "'name-7' and 7 more. It is fed" in piece


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"thinking": "builtin:base"}, "thinking_form: base and thinking model are one"),
        ({"labeller": "other"}, "labeller: the built-in task has exact labels"),
        (
            {"task": "short:addition", "form": "direct", "reasoning": "think", "read": {"train": 3}},
            "read, development and test: task short:addition needs all three, as split: count, and development, test is not given",
        ),
        ({"form": "cot"}, "Unknown prompt form 'cot' in form, task find-start"),
    ],
)
def test_what_a_spec_checks_itself_is_said_in_its_own_words(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        HybridSpec.model_validate(changes)
    (line,) = refusals(refused.value)
    assert said in line and "Value error" not in line and not line.startswith("spec:") and "(got" not in line, line


def test_a_check_inside_a_spec_keeps_the_place() -> None:
    with pytest.raises(ValidationError) as refused:
        HybridSpec.model_validate({"loading": {"device": "cpu", "device_map": "auto"}})
    assert refusals(refused.value) == ["loading: give device or device_map, not both"]
