"""A hybrid on a data set of one's own: its questions, labels by the lexicon or a trained labeller, ended in the middle and gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from experiments.evaluation.spec_files import located_task
from experiments.pair.problem import FORM_SUFFIX, split_problems
from experiments.store.runs import Store
from experiments.studies.hybrid.arms import reference_arms
from experiments.studies.hybrid.run import run_hybrid
from experiments.studies.hybrid.spec import HybridSpec
from experiments.studies.hybrid.taxonomy import Traces
from experiments.studies.hybrid.texts import question_items, sentence_labels
from experiments.studies.hybrid.when import Positions, fit_categories
from experiments.studies.readings import training_problems
from probes.labels import BehaviourLabel
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from tests.experiments.command_line import Steer, command

SIZES = {
    "traces": 20, "rollouts": 24, "held_out": 8, "seeds": (42,), "epochs": 1, "sizes": (3,), "layers": (2,), "hidden": 32, "n_random": 1,
    "n_random_entropy": 1,
    "n_legacy": 0, "max_new_tokens": 80,
}  # fmt: skip


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of questions and two prompt forms, as a task's YAML file."""
    place = tmp_path_factory.mktemp("task")
    parts = {
        "train": training_problems(60, 31), "dev": split_problems("standard-dev", 4), "test": split_problems("standard-test", 4),
    }  # fmt: skip
    for name, problems in parts.items():
        lines = [json.dumps({"q": p.prompt("bare").removesuffix(" ?"), "a": str(p.answer)}) for p in problems]
        (place / f"{name}.jsonl").write_text("\n".join(lines))
    mapping = {
        "dataset": "train.jsonl", "question": "q", "answer": "a", "grader": "numeric",
        "splits": {name: f"{name}.jsonl" for name in parts},
        "forms": {
            "direct": "{question} " + FORM_SUFFIX["bare"], "cot": "{question} " + FORM_SUFFIX["think"],
        },
    }  # fmt: skip
    (place / "task.yaml").write_text(yaml.safe_dump(mapping, sort_keys=False))
    return place / "task.yaml"


def spec(task: Path, **more: Any) -> HybridSpec:
    given = {
        "task": located_task(yaml.safe_load(task.read_text()), task.parent), "form": "direct", "reasoning": "cot", "thinking_form": "cot",
        "read": {"train": 60}, "development": {"dev": 2}, "test": {"test": 2}, **SIZES, **more,
    }  # fmt: skip
    return HybridSpec.model_validate(given)


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    return command(monkeypatch, capsys)


@pytest.mark.slow
def test_a_hybrid_on_a_data_set_goes_on_where_it_was_ended(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet, asked = Console(quiet=True), spec(task, base="builtin:base", thinking="builtin:base")
    whole = run_hybrid(asked, Store(tmp_path / "whole"), quiet)
    with monkeypatch.context() as patched:
        patched.setattr("experiments.studies.hybrid.run.best_thresholds", ended)
        with pytest.raises(KeyboardInterrupt):
            run_hybrid(asked, Store(tmp_path / "cut"), quiet)
    with monkeypatch.context() as patched:
        patched.setattr("experiments.studies.hybrid.run.fit_bank", None)  # what was made is not made again
        patched.setattr("experiments.studies.hybrid.run.choose_taxonomy", None)
        again = run_hybrid(asked, Store(tmp_path / "cut"), quiet)
    assert again.decided == whole.decided and again.frame.equals(whole.frame)
    assert whole.run.manifest.splits == {"test": 2} and whole.run.manifest.spec["task"]["grader"] == "numeric"
    assert whole.decided["taxonomy"]["scored_by"] == "labels of the lexicon, which errs"
    arms = {arm.name: arm for arm in whole.run.manifest.arms}
    assert "base_think" not in arms and arms["thinking"].model == "builtin:base" and arms["thinking"].form == "cot"
    assert arms["hybrid"].controller is not None and arms["hybrid"].controller["thinking_form"] == "cot"
    rows = whole.run.table(columns=["arm", "item", "prompt", "text", "choices"]).to_pandas()
    text = {arm: group.sort_values("item")["text"].tolist() for arm, group in rows.groupby("arm")}
    assert text["no_effect"] == text["base"] and text["base"] != text["thinking"]
    prompts = {arm: set(group["prompt"]) for arm, group in rows.groupby("arm")}
    assert prompts["hybrid"] == prompts["base"] and all(p.endswith("think first") for p in prompts["thinking"])
    assert sum(len(choices) for choices in rows[rows["arm"] == "hybrid"]["choices"]) > 0


def ended(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_command_says_what_a_data_set_needs(task: Path, tmp_path: Path, steer: Steer) -> None:
    given = ("hybrid", "--task", task, "--runs", tmp_path / "runs")
    named = (*given, "--forms", "direct,cot")
    for arguments, said in (
        (given, "name two prompt forms"),
        (named, "--read: task"),
        ((*named, "--read", "train:60", "--dev", "dev:4"), "--test: task"),
        ((*named, "--read", "train:60", "--dev", "dev:4", "--test", "dev:4"), "share no question"),
        ((*named, "--read", "train:60", "--dev", "dev:4", "--test", "test:4"), "600 traces + 1000 rollouts + 200 held_out = 1800"),
        (("hybrid", "--read", "train:3"), "give --task too"),
        ((*given, "--forms", "direct,cott", "--read", "train:9", "--dev", "dev:4", "--test", "test:4"), "Did you mean 'cot'"),
    ):  # fmt: skip
        code, out, error = steer(*arguments)
        assert (code, out) == (2, "") and said in " ".join(error.split()), (arguments, error)
    assert not list((tmp_path / "runs").glob(".hybrid/*"))


def test_questions_of_the_uses_are_drawn_apart(task: Path) -> None:
    asked = spec(task)
    found = question_items(asked, asked.found)
    ids = [item.id for items in found.values() for item in items]
    assert [len(items) for items in found.values()] == [20, 24, 8] and len(set(ids)) == 52
    with pytest.raises(BadInput, match="each once"):
        question_items(spec(task, read={"train": 50}), asked.found)


def test_a_question_that_is_asked_twice_has_one_use(task: Path, tmp_path: Path) -> None:
    lines = (task.parent / "train.jsonl").read_text().splitlines()
    (tmp_path / "twice.jsonl").write_text(
        "\n".join([*lines[:50], *(line.replace(" ;", "  ;", 1) for line in lines[:10])])
    )
    mapping = {
        **spec(task).task,
        "dataset": str(tmp_path / "twice.jsonl"),
        "splits": {"train": str(tmp_path / "twice.jsonl")},
    }  # type: ignore[dict-item]
    asked = spec(task).model_copy(update={"task": mapping})
    with pytest.raises(BadInput, match="50 different ones"):
        question_items(asked, asked.found)


def test_a_pair_is_two_models_or_two_forms(task: Path) -> None:
    with pytest.raises(ValueError, match="one model, asked in one form|are one, asked in one form"):
        spec(task, base="m", thinking="m", thinking_form="direct")
    names = [arm.name for arm in reference_arms(spec(task, base="m", thinking="other"))]
    assert names == ["base", "base_think", "thinking"]


def test_sentences_carry_the_labels_of_what_was_written() -> None:
    model = load_model("builtin:base")
    prompt, said = encode_prompt(model, "rules + 2 ; goal 4 start 2 3 ?"), "2 + 2 = 4 ; check 4 = goal ; so 2"
    ids = encode_prompt(model, said)[1:]

    def halves(text: str) -> tuple[BehaviourLabel, ...]:
        middle = text.index("so")
        return tuple(
            BehaviourLabel(start, end, label, "test", 1.0)
            for start, end, label in ((0, middle, "working"), (middle, len(text), "saying"))
        )

    labelled = sentence_labels(model, Traces((prompt, prompt), (ids, ids)), [None, None], halves)  # type: ignore[list-item]
    words = {
        model.tokenizer.decode((*prompt, *ids)[first:last]): label
        for (number, first, last), label in labelled.items()
        if number == 1
    }
    assert words == {"2 + 2 = 4 ;": "working", "check 4 = goal ;": "working"}, (
        "sentences of fewer than three words are left out"
    )
    assert {first >= len(prompt) for _, first, _ in labelled} == {True}


def positions(category: list[int], rollout: list[int]) -> Positions:
    n = len(category)
    hidden = np.random.default_rng(0).normal(size=(n, 128)).astype(np.float32)
    return Positions(
        torch.from_numpy(hidden), np.ones(n, bool), np.array(category), np.array(rollout), np.zeros(n), np.ones(n)
    )


def test_one_category_needs_nothing_to_tell_apart() -> None:
    found = positions([1] * 20 + [0] * 2, list(range(20)) + [0, 1])
    read, fitted = fit_categories(load_model("builtin:base"), found, Site(1), 3)
    assert fitted is None and set(read.categories(found.hidden).tolist()) == {1}
