"""What is known of a row beside its text reaches its grade: how it ended, the markers of its model, a segment that its prompt begins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.loading import Loading
from experiments.evaluation.sentences import render_table, sentence
from experiments.evaluation.spec import EvalSpec, Generating
from experiments.evaluation.summarise import summarise
from experiments.store.runs import Arm, Store
from experiments.tasks.graders.grade import Grade, Known, verdict
from experiments.tasks.graders.mathematics import MathGrader
from steering.model.models import LoadedModel
from steering.model.thinking import MARKERS, Markers
from tests.experiments.test_prompting import QWEN3, R1
from tests.experiments.test_prompting import model as templated
from tests.tiny import tiny

SEEN: list[Known] = []


def watched(self: MathGrader, question: str, gold: str, text: str, known: Known) -> Grade:
    SEEN.append(known)
    return replace(verdict("math", text, False, "watched"), unclosed=len(SEEN) % 2 == 1, lenient=len(SEEN) % 4 == 1)


def evaluated(tmp_path: Path, model: LoadedModel, form: Any, **task: Any) -> Any:
    rows = [{"question": f"w{8 + i} what is <think>?", "answer": "5"} for i in range(4)]
    if model.id.startswith("tiny"):
        rows = [{"question": f"w{8 + i} w9", "answer": "5"} for i in range(4)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    SEEN.clear()
    spec = EvalSpec(
        name="known", task={"dataset": str(tmp_path / "d.jsonl"), "forms": {"asked": form}, **task}, splits={"test": 4},
        arms=(Arm(name="base", label="base", role="baseline", model=model.id, form="asked"),),
        generation=Generating(max_new_tokens=3),
    )  # fmt: skip
    return run_evaluation(spec, Store(tmp_path / "runs"), models={model.id: model})


@pytest.fixture(autouse=True)
def _watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MathGrader, "grade", watched)


def test_a_rows_finish_and_its_readings_are_stored_and_shown(tmp_path: Path) -> None:
    run = evaluated(tmp_path, tiny("llama"), "{question}")
    rows = run.table().to_pylist()
    assert sorted(k.finish or "" for k in SEEN) == sorted(row["finish"] for row in rows) and len(rows) == 4
    assert all(k.markers == MARKERS and not k.opened for k in SEEN)
    assert sum(row["unclosed"] for row in rows) == 2 and sum(bool(row["lenient"]) for row in rows) == 1
    summary = summarise(run.table(), run.manifest)
    (arm,) = summary.split("test").arms
    assert (arm.unclosed, arm.lenient) == (2, 1)
    said = "2 rows end inside the thinking segment; 1 of them hold the right answer there"
    assert said in sentence(arm) and said in str(render_table(summary, "test").caption)


def test_a_prompt_that_begins_thinking_says_so(tmp_path: Path) -> None:
    evaluated(tmp_path, tiny("llama"), "{question} <think>")
    assert all(k.opened for k in SEEN) and len(SEEN) == 4
    for number, (template, opened) in enumerate(((R1, True), (QWEN3, False))):
        (folder := tmp_path / str(number)).mkdir()
        evaluated(folder, narrow(templated(template, None, False)), {"template": "{question}", "chat": True})
        assert [k.opened for k in SEEN] == [opened] * 4, "a marker in the question begins nothing"


def narrow(model: LoadedModel) -> LoadedModel:
    """A tiny model that has an embedding for every id of the tokenizer."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    from steering.model.models import wrap

    config = LlamaConfig(
        vocab_size=len(model.tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    return wrap(AutoModelForCausalLM.from_config(config).float(), model.tokenizer, id="templated")


def test_markers_of_a_model_are_part_of_its_rows(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    plain = evaluated(tmp_path / "a", tiny("llama"), "{question}")
    own = replace(tiny("llama"), extra={"thinking_markers": (Markers("<a>", "</a>"),)})
    other = evaluated(tmp_path / "b", own, "{question}")
    assert all(k.markers == (Markers("<a>", "</a>"),) for k in SEEN)
    keys = [set(run.table(["key"])["key"].to_pylist()) for run in (plain, other)]
    assert not keys[0] & keys[1], "rows that were read by other markers are other rows"


def test_a_spec_gives_a_model_its_markers() -> None:
    loading = Loading.model_validate({"thinking": {"builtin:base": [["<a>", "</a>"]]}})
    assert loading.load("builtin:base").extra["thinking_markers"] == (Markers("<a>", "</a>"),)
    assert "thinking_markers" not in Loading().load("builtin:base").extra
