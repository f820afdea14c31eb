"""What is said of a task's questions: those that a model does not know, and those that stand there twice. By every verb that asks them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from experiments.commands.runs import print_tables
from experiments.progress import paper
from experiments.store.runs import Store
from experiments.tasks.remarks import remarks, repeated
from experiments.tasks.task import resolve_task
from steering.model.models import LoadedModel, load_model
from tests.experiments.command_line import Steer, command

UNKNOWN = "questions are not known whole. builtin:base does not know"


class Ended(Exception):
    """Raised in place of the work after the warnings."""


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    return command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load_model("builtin:base")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions in English, which the built-in models do not know; one of them twice."""
    place = tmp_path_factory.mktemp("task")
    asked = [f"A farmer sells {n} eggs and keeps two. How many were there?" for n in (3, 4, 5, 3)]
    for part in ("train", "dev", "test"):
        lines = [json.dumps({"question": f"{text} ({part})", "answer": str(n)}) for n, text in enumerate(asked)]
        (place / f"{part}.jsonl").write_text("\n".join(lines))
    task = {
        "dataset": "test.jsonl", "grader": "numeric", "splits": {part: f"{part}.jsonl" for part in ("train", "dev", "test")},
        "forms": {"direct": "{question}", "cot": "{question} think first"},
    }  # fmt: skip
    (place / "task.yaml").write_text(yaml.safe_dump(task))
    arm = {"name": "base", "label": "base", "role": "baseline", "model": "builtin:base", "form": "direct"}
    spec = {"name": "asked", "task": task, "splits": {"test": 4}, "arms": [arm], "generation": {"max_new_tokens": 2}}
    (place / "spec.yaml").write_text(yaml.safe_dump(spec))
    return place


def test_a_task_that_the_model_cannot_read_is_said(base: LoadedModel) -> None:
    story, builtin = resolve_task("short:story"), resolve_task("find-start")
    forms = [(base, "direct"), (base, "think")]
    (said,) = remarks(story, {"dev": story.items("dev", 20)}, forms)
    assert said.startswith("short:story: 8 of the first 8 questions are not known whole. builtin:base does not know")
    assert remarks(builtin, {"standard-dev": builtin.items("standard-dev", 20)}, [(base, "quick")]) == []


def test_questions_that_stand_there_twice_are_counted(folder: Path) -> None:
    task = resolve_task(yaml.safe_load((folder / "task.yaml").read_text()), folder)
    said = repeated(task, "test", task.items("test", 4), "direct")
    assert said == (
        "test.jsonl, test: the 4 questions are 3 different ones; what is asked twice counts twice, and intervals are too narrow."
    )
    assert repeated(task, "test", task.items("test", 3), "direct") == ""


TASK = ("--task", "TASK", "--forms", "direct,cot", "--read", "train:4")
CHOSEN = (*TASK, "--dev", "dev:2", "--test", "test:2")
ONE_FORM = ("--task", "TASK", "--form", "direct", "--model", "builtin:base")
STUDIES = "experiments.studies"
VERBS: list[tuple[tuple[str, ...], str]] = [
    (("attribute", *CHOSEN, "--contrast", "mode"), f"{STUDIES}.layer_choice.layer_vectors"),
    (("hybrid", *CHOSEN), f"{STUDIES}.hybrid.run.taxonomy"),
    (
        ("probe", "fit", *TASK, "--out", "p.safetensors", "--model", "builtin:base"),
        f"{STUDIES}.task_examples.responses",
    ),
    (("probe", "map", *TASK, "--model", "builtin:base"), f"{STUDIES}.task_examples.responses"),
    (("probe", "forks", *ONE_FORM, "--problems", "4"), f"{STUDIES}.asking.Asking.responses"),
    (("probe", "stability", *ONE_FORM, "--problems", "4"), f"{STUDIES}.task_stability.responses"),
    (
        ("sae", "score", "builtin:base", *TASK, "--out", "s", "--causal", "0", "--thinking", "none"),
        f"{STUDIES}.scoring.responses",
    ),
    (("sae", "mode", *CHOSEN), f"{STUDIES}.mode.choose_mode"),
    (("ablate", "--latents", "1", *ONE_FORM, "--split", "test", "--n", "4"), f"{STUDIES}.ablation.run_ablation"),
    (
        (
            "families",
            "--model",
            "builtin:base",
            "--families",
            "TASK",
            "--forms",
            "direct,cot",
            "--split",
            "test",
            "--n",
            "4",
        ),
        f"{STUDIES}.families.run_evaluation",
    ),
    (
        (
            "extract",
            "v.safetensors",
            "--task",
            "TASK",
            "--contrast",
            "mode",
            "--forms",
            "cot,direct",
            "--split",
            "test",
            "--n",
            "4",
        ),
        f"{STUDIES}.contrasts.extract_contrast",
    ),
    (("eval", "SPEC"), "experiments.evaluation.evaluate.run_evaluation"),
]


@pytest.mark.parametrize(("verb", "work"), VERBS, ids=[" ".join(verb[:2]) for verb, _ in VERBS])
def test_every_verb_that_asks_says_it_before_the_work(
    verb: tuple[str, ...],
    work: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ended(*_: object, **__: object) -> Callable[..., object]:
        raise Ended

    monkeypatch.setattr(f"{STUDIES}.hybrid.making.question_items", few)  # a hybrid reads more than these few, each once
    monkeypatch.setattr(work, ended)
    monkeypatch.chdir(tmp_path)
    words = [{"TASK": str(folder / "task.yaml"), "SPEC": str(folder / "spec.yaml")}.get(word, word) for word in verb]
    monkeypatch.setattr("sys.argv", ["steer", *words])
    from experiments.commands.cli import main

    with pytest.raises(Ended):
        main()
    said = " ".join(capsys.readouterr().err.split())
    assert UNKNOWN in said and said.count(UNKNOWN) == 1, said


def few(spec: object, task: object) -> dict[str, list[object]]:
    return {"traces": task.items("train", 4)}  # type: ignore[attr-defined]


def test_what_is_said_of_questions_stands_beside_the_numbers(
    folder: Path, tmp_path: Path, steer: Steer, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, said = steer("eval", folder / "spec.yaml", "--runs", tmp_path)
    assert code == 0, said
    out = " ".join(out.split())
    for place in (said, out):
        assert UNKNOWN in place and "the 4 questions are 3 different ones" in place
    store = Store(tmp_path)
    (run,) = [store.open(entry.run_id) for entry in store.list()]
    assert len(run.manifest.facts["questions"]) == 2
    print_tables(run, paper())
    assert "the 4 questions are 3 different ones" in " ".join(capsys.readouterr().out.split())


def test_rows_with_one_id_are_refused_with_their_places(folder: Path, tmp_path: Path, steer: Steer) -> None:
    rows = [{"id": name, "question": text, "answer": "1"} for name, text in (("a", "x ?"), ("b", "y ?"), ("a", "z ?"))]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = yaml.safe_load((folder / "spec.yaml").read_text())
    spec |= {"task": {"dataset": "q.jsonl", "id": "id", "forms": {"direct": "{question}"}}, "splits": {"test": 3}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    code, _, said = steer("eval", tmp_path / "spec.yaml", "--runs", tmp_path / "runs")
    assert code == 2 and "rows 0 and 2 have one id, id 'a'" in said and not list((tmp_path / "runs").rglob("*.parquet"))
