"""Options that a verb would not use are refused, in place of being passed over in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.command_line import Steer, command


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    return command(monkeypatch, capsys)


GIVEN = ("--task", "short:addition", "--read", "train:60", "--dev", "dev:4", "--test", "test:4")


@pytest.mark.parametrize("verb", [("hybrid",), ("attribute",), ("sae", "mode")])
@pytest.mark.parametrize("option", ["--n", "--n-dev"])
def test_numbers_of_built_in_problems_beside_another_task_are_refused(
    steer: Steer, tmp_path: Path, verb: tuple[str, ...], option: str
) -> None:
    code, out, said = steer(*verb, "--runs", tmp_path, *GIVEN, "--forms", "direct,think", option, "5")
    assert (code, out) == (2, "") and said.startswith(f"Error: {option}: problems of the built-in task"), said
    assert "--test as split:count" in said


@pytest.mark.parametrize("verb", [("hybrid",), ("attribute",), ("sae", "mode")])
def test_numbers_of_problems_below_one_are_refused(steer: Steer, tmp_path: Path, verb: tuple[str, ...]) -> None:
    code, out, said = steer(*verb, "--runs", tmp_path, "--n-dev", "0")
    assert (code, out) == (2, "") and "--n-dev 0: give at least one problem" in said


@pytest.mark.parametrize(
    "verb", [("hybrid", *GIVEN), ("attribute", *GIVEN), ("probe", "fit", *GIVEN[:4], "--out", "p.safetensors")]
)
def test_a_third_form_that_is_not_reported_is_refused(steer: Steer, tmp_path: Path, verb: tuple[str, ...]) -> None:
    code, out, said = steer(*verb, "--forms", "direct,think,chat-think")
    assert (code, out) == (2, "") and "two forms are used here" in said and "leave chat-think out" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("probe", "fit", "--out", "p.safetensors", "--forms", "direct,think"), "give --task too"),
        (("probe", "map", "--read", "train:4"), "give --task too"),
        (("probe", "map", "--examples", "e.jsonl", "--task", "short:addition"), "leave --task, --forms and --read out"),
        (("probe", "stability", "--form", "think"), "give --task too"),
        (("probe", "stability", "--split", "dev"), "leave them out, or give --task"),
        (("probe", "forks", "--split", "dev"), "leave them out, or give --task"),
        (("probe", "forks", "--max-new-tokens", "12"), "leave them out, or give --task"),
    ],
)
def test_options_of_another_task_without_one_are_refused(steer: Steer, arguments: tuple[str, ...], said: str) -> None:
    code, out, error = steer(*arguments)
    assert (code, out) == (2, "") and said in error, error
