"""Verbs on a data set as on the built-in task: ablation, the latent of reasoning, scores of latents, probes; and what they refuse."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from experiments.commands.cli import main
from experiments.pair.problem import FORM_SUFFIX, split_problems
from experiments.store.runs import Store
from experiments.studies.asking import Asking, counted
from experiments.studies.readings import training_problems
from experiments.studies.task_examples import task_examples
from experiments.studies.task_texts import responses
from probes.probe import Probe
from steering.errors import BadInput
from steering.model.models import LoadedModel, load_model
from steering.plan.expression import parse_plan

Steer = Any


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of one's own: three files of questions, three prompt forms."""
    place = tmp_path_factory.mktemp("task")
    parts = {
        "train": training_problems(160), "dev": split_problems("standard-dev", 12), "test": split_problems("standard-test", 12),
    }  # fmt: skip
    for name, problems in parts.items():
        lines = [json.dumps({"q": p.prompt("bare").removesuffix(" ?"), "a": str(p.answer)}) for p in problems]
        (place / f"{name}.jsonl").write_text("\n".join(lines))
    task = {
        "dataset": "train.jsonl", "question": "q", "answer": "a", "grader": "numeric",
        "splits": {"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"},
        "forms": {
            "direct": {"template": "{question} " + FORM_SUFFIX["quick"]}, "cot": {"template": "{question} " + FORM_SUFFIX["think"]},
            "bare": {"template": "{question} " + FORM_SUFFIX["bare"]},
        },
    }  # fmt: skip
    (place / "task.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
    return place


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Steer:
    def run(*arguments: object, code: int = 0) -> Any:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["steer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said.err[-2000:]
        return said.err if code else said.out

    return run


def asking(folder: Path, **more: Any) -> Asking:
    from experiments.evaluation.spec_files import located_task

    task = located_task(yaml.safe_load((folder / "task.yaml").read_text()), folder)
    given = {"read": {"train": 40}, "development": {"dev": 6}, "test": {"test": 6}, "max_new_tokens": 160, **more}
    return Asking(task, "direct", "cot", ("bare",), **given)


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load_model("builtin:base")


def test_latents_are_ablated_on_a_data_set(steer: Steer, folder: Path, tmp_path: Path) -> None:
    said = steer(
        "ablate", "--model", "builtin:base", "--latents", "183", "--task", folder / "task.yaml", "--form", "cot", "--split", "test",
        "--n", "3", "--controls", "1", "--directions", "2", "--max-new-tokens", "40", "--json",
    )  # fmt: skip
    document = json.loads(said)
    run = Store(tmp_path / "runs").open(document["run"])
    assert run.manifest.splits == {"test": 3} and run.manifest.spec["task"]["grader"] == "numeric"
    assert set(run.table(["split"]).column("split").to_pylist()) == {"test"}
    assert "Did you mean 'cot'" in steer(
        "ablate", "--latents", "1", "--task", folder / "task.yaml", "--form", "cott", code=2
    )


@pytest.mark.slow
def test_the_latent_of_reasoning_is_found_on_a_data_set(
    steer: Steer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.studies.mode.DIRECTIONS", 2)  # nothing here is said of them
    said = steer(
        "sae", "mode", "--task", folder / "task.yaml", "--forms", "direct,cot", "--read", "train:40", "--dev", "dev:6", "--test", "test:10",
        "--max-new-tokens", "160", "--json",
    )  # fmt: skip
    document = json.loads(said)
    assert 183 in document["ranked"][:3], "the built-in base's own latent, found through the data set's forms"
    run = Store(tmp_path / "runs").open(document["run"])
    assert run.manifest.splits == {"test": 10}
    right = run.table(["arm", "correct"]).to_pandas().groupby("arm")["correct"].mean()
    assert right["direct-raised"] > right["direct"]


@pytest.mark.slow
def test_latents_are_scored_on_a_data_set_and_the_labels_are_named(steer: Steer, folder: Path, tmp_path: Path) -> None:
    steer(
        "sae", "score", "builtin:base", "--out", tmp_path / "t.parquet", "--task", folder / "task.yaml", "--forms", "direct,cot", "--read",
        "train:12", "--problems", "12", "--injected", "2", "--causal", "0", "--thinking", "none", "--max-new-tokens", "80",
    )  # fmt: skip
    table = pd.read_parquet(tmp_path / "t.parquet")
    assert table.attrs["labels"] == "lexicon"
    assert "thinking_difference" not in table and {"cot_difference", "density"} <= set(table.columns)
    missing = " ".join(table.attrs["left_out"])
    assert ("reason_score" in table) is ("reason_score" not in missing)
    assert ("correctness" in table) is ("correctness" not in missing)
    assert "auroc_<label>" in missing, "the built-in base writes no English sentences"


@pytest.mark.slow
def test_scores_that_the_texts_cannot_give_are_left_out_and_said(steer: Steer, folder: Path, tmp_path: Path) -> None:
    steer(
        "sae", "score", "builtin:base", "--out", tmp_path / "t.parquet", "--task", folder / "task.yaml", "--forms", "direct,cot", "--read",
        "train:4", "--problems", "4", "--injected", "1", "--causal", "0", "--thinking", "none", "--max-new-tokens", "6",
    )  # fmt: skip
    table = pd.read_parquet(tmp_path / "t.parquet")
    assert any(sentence.startswith("reason_score") for sentence in table.attrs["left_out"])
    assert "reason_score" not in table and "cot_difference" in table and "injection_class" in table


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("mode", "the prompt is in the form cot"),
        ("correct", "the answer will be right"),
        ("behaviour", "by the lexicon"),
    ],
)
def test_probe_targets_of_a_data_set(target: str, words: str, base: LoadedModel, folder: Path) -> None:
    model = base if target != "behaviour" else load_model("builtin:base")
    if target == "behaviour":  # the built-in base writes no English sentences: its texts have one label only
        with pytest.raises(BadInput, match="needs two classes"):
            task_examples(target, model, asking(folder), 8)
        return
    found = task_examples(
        target,
        model,
        asking(folder, read={"train": 160 if target == "correct" else 40}),
        160 if target == "correct" else 24,
    )
    assert words in found.target and len(found.classes) == 2
    assert set(found.groups) <= {item.id for item in asking(folder, read={"train": 160}).questions(160)}
    if target == "mode":
        assert found.counts == {"direct": 24, "cot": 24}


def test_a_probe_is_fitted_on_a_data_set_and_gates_a_plan(steer: Steer, folder: Path, tmp_path: Path) -> None:
    probe = tmp_path / "mode.safetensors"
    steer(
        "probe", "fit", "--target", "mode", "--model", "builtin:base", "--task", folder / "task.yaml", "--forms", "direct,cot", "--read",
        "train:24", "--problems", "24", "--out", probe,
    )  # fmt: skip
    assert Probe.load(probe).provenance.target == "the prompt is in the form cot"
    vector = Path(__file__).parents[2] / "steering" / "builtin" / "vectors" / "think-first.safetensors"
    written = tmp_path / "gate.safetensors"
    steer("probe", "gate", probe, "--out", written)
    plan = f"add {vector} 1v on generated when probe({written}) < 0.5"
    read, made = parse_plan(plan).interventions[0].gate, Probe.load(probe).gate(0.5)
    assert read is not None and (read.bias, read.site, read.threshold) == (made.bias, made.site, 0.5)
    said = steer(
        "generate",
        "--prompt",
        "rules + 15 ; * 9 ; goal 31 start 42 91 ?",
        "--plan",
        plan,
        "--max-new-tokens",
        "6",
        "--json",
    )
    assert json.loads(said)
    shown = steer(
        "probe", "map", "--target", "mode", "--model", "builtin:base", "--task", folder / "task.yaml", "--forms", "direct,cot", "--read",
        "train:24", "--problems", "24", "--sites", "blocks.{0-1}.hook_resid_post", "--offsets", "0", "--json",
    )  # fmt: skip
    assert len(json.loads(shown)) == 2


def test_what_a_data_set_cannot_give_is_refused_before_a_model_is_loaded(
    steer: Steer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = folder / "task.yaml"
    mode = ("sae", "mode", "--task", task, "--forms", "direct,cot")
    for arguments, said in (
        (("sae", "mode", "--task", task, "--forms", "direct"), "name two prompt forms"),
        ((*mode, "--dev", "dev:4", "--test", "test:4"), "--read: task"),
        ((*mode, "--read", "train", "--dev", "dev:4", "--test", "test:4"), "write split:count"),
        ((*mode, "--read", "train:4", "--dev", "dev:4", "--test", "dev:2"), "give splits that share no question"),
        ((*mode, "--read", "train:4", "--dev", "dve:4", "--test", "test:2"), "Did you mean 'dev'"),
        (
            (
                "sae",
                "mode",
                "--task",
                task,
                "--forms",
                "direct,cott",
                "--read",
                "train:4",
                "--dev",
                "dev:4",
                "--test",
                "test:4",
            ),
            "Did you mean 'cot'",
        ),
        (("probe", "fit", "--out", "p.safetensors", "--target", "modes", "--task", task), "Did you mean 'mode'"),
    ):
        assert said in steer(*arguments, code=2), arguments
    assert "needs the exact labels of the built-in task" in steer(
        "probe", "fit", "--out", "p.safetensors", "--target", "difficulty", "--task", task, "--forms", "direct,cot", "--read", "train:8",
        code=2,
    )  # fmt: skip


def test_responses_carry_grades_and_ends_of_sentences(base: LoadedModel, folder: Path) -> None:
    ask = asking(folder)
    items = ask.questions(6)
    for made in responses(base, ask, items, ("cot",)):
        assert made.prompt_ids == ask.prompts(base, [made.item], "cot")[0]
        assert all(0 < end <= len(made.token_ids) for end in made.ends)
        assert made.text.prompt == len(made.prompt_ids) and made.text.correct is made.correct


def test_counts_by_split_are_read_and_refused() -> None:
    assert counted("dev:48, hard:24", "--dev") == {"dev": 48, "hard": 24}
    for wrong in ("dev", "dev:0", "dev:-1", ":3", "dev:x"):
        with pytest.raises(BadInput, match="write split:count"):
            counted(wrong, "--dev")
