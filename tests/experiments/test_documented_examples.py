"""The examples of docs/commands.md run as they stand, in order, and every verb has one."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch
import typer
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from experiments.commands.cli import app
from experiments.pair.problem import split_problems
from experiments.store.runs import Store
from experiments.studies.readings import training_problems
from experiments.tasks.task import resolve_task
from tests.experiments.test_prompting import QWEN3
from tests.experiments.test_prompting import model as templated
from tests.experiments.test_published_results import BASE, HYBRID, THINKING, answers

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
ELSEWHERE = {
    "app": "tests/app/test_browser.py",
    "demo": "tests/experiments/test_demo.py",
    "get": "tests/steering/test_sources.py",
    "hybrid": "tests/experiments/test_hybrid.py",
    "vectors pull": "tests/experiments/test_hub_commands.py",
    "vectors search": "tests/experiments/test_hub_commands.py",
    **{
        verb: "tests/experiments/test_run_publication.py"
        for verb in ("plan push", "plan pull", "probe push", "probe pull", "runs publish", "runs pull")
    },
    "plan run": "tests/experiments/test_plan_elsewhere.py",
    "trace kl": "tests/experiments/test_traces.py",
    "pair train": "tests/experiments/test_pair_training.py",
    "pair untraced": "tests/experiments/test_corrupted.py",
}
"""Verbs that other tests run."""
TRACES = [
    ("backtracking", "Wait, that is not right."),
    ("deduction", "So the sum is 12."),
    ("uncertainty-estimation", "I am not sure about this."),
]


def examples() -> list[str]:
    """The command lines of the page, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.S)
    return [line.split("   #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def verbs(command: click.Command, name: str = "") -> Iterator[str]:
    """Every verb of the command line."""
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        for part, inside in command.commands.items():  # type: ignore[attr-defined]
            yield from verbs(inside, f"{name} {part}".strip())
    else:
        yield name


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, but for the files that the examples read."""
    folder = tmp_path_factory.mktemp("examples")
    for kind, name, body in re.findall(r"```(yaml|jsonl|text)\n# (\S+)\n(.*?)```", PAGE.read_text(), flags=re.S):
        (folder / name).write_text(body)
        assert name.endswith({"text": ".txt"}.get(kind, f".{kind}"))
    answers(folder / "answers.json", {"base_model": BASE, "thinking_model": THINKING, "hybrid_model": HYBRID}, {})
    (folder / "trace.txt").write_text("Let me see. 3 + 4 = 7. Wait, that is wrong. So the answer is 8.")
    (folder / "traces.json").write_text(json.dumps(annotated()))
    for split, problems in (
        ("train", training_problems(16)),
        ("dev", split_problems("standard-dev", 4)),
        ("test", split_problems("standard-test", 4)),
    ):
        rows = [{"q": p.prompt("bare").removesuffix(" ?"), "a": str(p.answer)} for p in problems]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def annotated() -> list[dict[str, str]]:
    """Traces in the format of published annotations."""
    return [
        {
            "original_message": {"role": "user", "content": f"Question {n}?"},
            "full_response": " ".join(text for _, text in TRACES),
            "thinking_process": " ".join(text for _, text in TRACES),
            "annotated_response": "".join(f'["{label}"]{text} ["end-section"]' for label, text in TRACES),
        }
        for n in range(4)
    ]  # type: ignore[misc]


def language_model(place: Path) -> Path:
    """A tiny random model with a byte-level tokenizer and a chat template, and two pages of text for it."""
    tokenizer = templated(QWEN3, None, False).tokenizer
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), initializer_range=0.5, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=48, max_position_embeddings=1024, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(place / "language-model")
    tokenizer.save_pretrained(place / "language-model")
    story = resolve_task("short:story")
    questions = [item.data["question"] for item in story.items("train", 60)]
    (place / "natural.txt").write_text("\n".join(questions))
    return place / "language-model"


@pytest.mark.slow
def test_the_examples_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("STEERING_CACHE", str(place / "cache"))
    model = language_model(place)
    for file in place.glob("*.yaml"):
        file.write_text(re.sub(r"\bMODEL\b", str(model), file.read_text()))
    for line in examples():
        runs = Store("runs").list() if Path("runs").is_dir() else []
        for word, name in (("RUN", "pair-"), ("SWEEP", "example-"), ("STORY", "story-")):
            line = re.sub(rf"\b{word}\b", next((e.run_id for e in runs if e.run_id.startswith(name)), word), line)
        line = re.sub(r"\bMODEL\b", str(model), line)
        command, _, target = line.partition(" > ")
        words = shlex.split(command)
        assert words[0] == "steer", line
        done = CliRunner().invoke(app, words[1:], catch_exceptions=True)
        assert done.exit_code == 0, f"{line}\n{done.output[-3000:]}\n{done.exception!r}"
        if target:
            Path(target).write_text(done.stdout)
        assert done.stdout or words[1:3] == ["runs", "verify"] or "-o" in words or "--out" in words, (
            f"{line} printed nothing"
        )


def test_every_verb_has_an_example() -> None:
    shown = {line.removeprefix("steer ") for line in examples()}
    for verb in verbs(typer.main.get_command(app)):
        assert any(line.startswith(verb) for line in shown) or verb in ELSEWHERE, f"steer {verb} has no example"
    page = PAGE.read_text()
    for verb, test in ELSEWHERE.items():
        assert f"`steer {verb}" in page and (PAGE.parents[1] / test).is_file()
    assert all(os.sep not in line.split()[1] for line in examples())
