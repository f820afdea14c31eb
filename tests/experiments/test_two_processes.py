"""Two processes that evaluate into one run at once: neither ends with an error, and the run is that of one process."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.spec_files import load_spec
from experiments.store.runs import Store
from experiments.store.upkeep import verify
from steering.vector.vectors import SteeringVector

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "steering" / "builtin" / "vectors"
ROUNDS = 4
SPEC = """
name: shared
splits: {standard-dev: 4}
generation: {max_new_tokens: 6}
rows_per_chunk: 2
arms:
- {name: base, label: base, role: baseline, model: "builtin:base", form: bare}
"""
TOGETHER = """
import sys, time
from pathlib import Path
from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.loading import load
from experiments.evaluation.spec_files import load_spec
from experiments.store.runs import Store
spec, vectors = load_spec(Path(sys.argv[1]), [], None)
models = {"builtin:base": load("builtin:base", None)}
print("ready", flush=True)
for line in sys.stdin:
    run_evaluation(spec, Store(line.strip()), vectors, models=models)
    print("done", flush=True)
"""
"""Evaluates into every store that it is told of, at the moment at which it is told."""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec with four vectors, so that there is something to write at once."""
    arms = "".join(
        f"- {{name: a{i}, label: a{i}, role: steered, model: 'builtin:base', form: bare, plan: {{interventions: "
        f"[{{operation: add, vector: {path}, span: last_prompt, dose: 1v}}]}}}}\n"
        for i, path in enumerate(sorted(VECTORS.glob("*.safetensors")))
    )
    path = tmp_path_factory.mktemp("spec") / "spec.yaml"
    path.write_text(SPEC + arms)
    return path


def test_two_processes_that_evaluate_into_one_run_both_end_well(spec: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOGETHER, str(spec)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    try:
        for process in both:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
        for number in range(ROUNDS):
            for process in both:
                process.stdin.write(f"{tmp_path / str(number)}\n")
            for process in both:
                process.stdin.flush()
            for process in both:
                assert process.stdout.readline() == "done\n", process.stderr.read()
        for process in both:
            process.stdin.close()
            assert process.wait(timeout=30) == 0
    finally:
        for process in both:
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                pipe.close()
    parsed, vectors = load_spec(spec, [], None)
    alone = run_evaluation(parsed, Store(tmp_path / "alone"), vectors)
    expected = contents(alone.folder)
    for number in range(ROUNDS):
        (entry,) = Store(tmp_path / str(number)).list()
        run = Store(tmp_path / str(number)).open(entry.run_id)
        assert contents(run.folder) == expected
        assert {one.status for one in verify(run)} == {"ok"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_file_written_by_many_at_once_is_always_whole(tmp_path: Path) -> None:
    vector = SteeringVector.load(VECTORS / "think-first.safetensors")
    path, errors = tmp_path / "v.safetensors", []

    def write() -> None:
        try:
            for _ in range(25):
                vector.save(path)
                assert SteeringVector.load(path).digest == vector.digest
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [p.name for p in tmp_path.iterdir()] == ["v.safetensors"]
