"""Published answers as runs: what they hold, and how far the verdicts agree with the published counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.commands.published import import_app
from experiments.evaluation.published_answers import SPLIT, import_answers
from experiments.evaluation.summarise import summarise
from experiments.store.runs import Store
from steering.errors import BadInput

QUESTIONS = [
    ("What is 1+1?", "2"),
    ("What is 1/2?", r"\frac{1}{2}"),
    ("Which city?", r"\text{Rome}"),
    ("What is 3+3?", "6"),
]
BASE = ["The answer is 2.", "So it is 0.3.", "It is Oslo.", "Let us add 3 and"]
THINKING = ["<think> hm </think> \\boxed{2}", "\\boxed{0.5}", "The answer is Rome.", "\\boxed{6}"]
HYBRID = ["\\boxed{2}", "\\boxed{1/2}", "\\boxed{\\text{Milan}}", "Therefore, the sum is 6."]


def answers(path: Path, texts: dict[str, list[str]], published: dict[str, float], order: int = 1) -> Path:
    tasks = [
        {"question": q, "correct_answer": g, "model_answers": {k: v[i] for k, v in texts.items()}}
        for i, (q, g) in list(enumerate(QUESTIONS))[::order]
    ]
    accuracy = {k: published.get(k, 0.0) for k in ("base_model", "thinking_model", "hybrid_model")}
    meta = {"base_model": "B", "thinking_model": "T", "n_tasks": len(tasks)}
    path.write_text(json.dumps({"metadata": meta, "results": {"accuracy": accuracy}, "tasks": tasks}))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    texts = {"base_model": BASE, "thinking_model": THINKING, "hybrid_model": HYBRID}
    full = answers(
        tmp_path / "hybrid_answers_x_math.json",
        texts,
        {"base_model": 50.0, "thinking_model": 100.0, "hybrid_model": 75.0},
    )
    control = {"base_model": [""] * 4, "thinking_model": [""] * 4, "hybrid_model": BASE}
    return [
        full,
        answers(tmp_path / "hybrid_answers_x_math_random-vectors.json", control, {"hybrid_model": 25.0}, order=-1),
    ]


def test_files_become_one_run_with_arms_paired_by_question(tmp_path: Path, files: list[Path]) -> None:
    run, found = import_answers(Store(tmp_path / "runs"), files)
    assert run.manifest.status == "complete" and [(a.name, a.role) for a in run.manifest.arms] == [
        ("base:x_math", "baseline"), ("thinking:x_math", "reference"), ("hybrid:x_math", "steered"),
        ("hybrid:x_math_random-vectors", "control"),
    ]  # fmt: skip
    arms = {a.name: a for a in summarise(run.table(), run.manifest).split(SPLIT).arms}
    assert [round(4 * a.accuracy.value) for a in arms.values() if a.accuracy] == [1, 4, 3, 1]
    control = arms["hybrid:x_math_random-vectors"].versus_baseline
    assert control is not None and (control.difference, control.n, control.helped, control.hurt) == (0.0, 4, 0, 0)
    hybrid = arms["hybrid:x_math"].versus_baseline
    assert hybrid is not None and (hybrid.helped, hybrid.hurt) == (2, 0)
    assert (arms["base:x_math"].truncated, arms["base:x_math"].unscorable) == (1, 1)
    assert [(a.graded, a.published, a.n) for a in found] == [
        (0.25, 0.5, 4),
        (1.0, 1.0, 4),
        (0.75, 0.75, 4),
        (0.25, 0.25, 4),
    ]
    assert found[0].difference == -0.25 and found[0].cut == found[0].cut_without_answer == 1 and found[0].attainable
    row = run.table(arms=["thinking:x_math"]).to_pylist()[0]
    assert row["token_ids"] == row["edit_ratio"] == row["top_ids"] == [] and row["answer"] == "2" and row["gold"] == "2"


def test_importing_twice_changes_no_byte(tmp_path: Path, files: list[Path]) -> None:
    first, _ = import_answers(Store(tmp_path / "runs"), files)
    before = {p.name: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()}
    second, _ = import_answers(Store(tmp_path / "runs"), files)
    assert {p.name: p.read_bytes() for p in second.folder.rglob("*") if p.is_file()} == before
    alone, _ = import_answers(Store(tmp_path / "runs"), files[1:])
    assert alone.manifest.arms[0].role == "baseline" and alone.manifest.run_id != first.manifest.run_id


def test_other_files_are_refused(tmp_path: Path, files: list[Path]) -> None:
    store = Store(tmp_path / "runs")
    (tmp_path / "other.json").write_text('{"tasks": [1]}')
    data: dict[str, Any] = json.loads(files[1].read_text())
    for task in data["tasks"]:
        task["question"] += " (another)"
    (tmp_path / "hybrid_answers_far.json").write_text(json.dumps(data))
    for paths, message in (
        ([tmp_path / "other.json"], "no file of published answers"),
        ([tmp_path / "none.json"], "There is no file"),
        ([files[0], tmp_path / "hybrid_answers_far.json"], "shares no question"),
        ([], "Name at least one"),
    ):
        with pytest.raises(BadInput, match=message):
            import_answers(store, paths)


def test_the_command_says_where_grades_differ(tmp_path: Path, files: list[Path]) -> None:
    asked = ["hybrid-results", *map(str, files), "--runs", str(tmp_path / "runs")]
    found = CliRunner().invoke(import_app, [*asked, "--json"])
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["agreement"][0]["difference"] == -0.25 and document["run"].startswith("published-")
    table = CliRunner().invoke(import_app, asked)
    assert table.exit_code == 0 and document["run"] in table.stdout


@pytest.mark.slow
def test_verdicts_agree_with_the_published_counts_within_two_points(tmp_path: Path, shared_data: Path) -> None:
    paths = sorted((shared_data / "published").glob("hybrid_answers_*.json"))
    if not paths:
        pytest.skip("../shared/data/published holds no answer files")
    _, found = import_answers(Store(tmp_path), paths)
    for a in found:
        print(
            f"{a.arm}: n {a.n}, {100 * a.graded:.1f} graded, {100 * a.published:.1f} published, {100 * a.difference:+.1f}, {a.cut} cut"
        )
    apart = [a for a in found if abs(a.difference) > 0.02]
    assert [a.arm for a in apart] == ["thinking:qwen2.5-14b_math500"]
    (thinking,) = apart
    assert not thinking.attainable, "288 of 332 texts were counted right, and fewer end with an answer"
    assert thinking.n - thinking.cut_without_answer < 288
    assert sorted(a.n for a in found) == [332, 332, 332, 396, 500]
