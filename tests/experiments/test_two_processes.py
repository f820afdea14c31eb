"""Two processes that evaluate into one run at once: neither ends with an error, and the run is that of one process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.loading import load
from experiments.evaluation.spec_files import load_spec
from experiments.store.runs import Store
from experiments.store.upkeep import verify
from steering.vector.vectors import SteeringVector
from tests.steer_process import context

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


def evaluate_when_told(path: Path, channel: Any) -> None:
    """Evaluate into every store that comes through the channel, at the moment at which it comes, until None does."""
    spec, vectors = load_spec(path, [], None)
    models = {"builtin:base": load("builtin:base", None)}
    channel.send("ready")
    while (store := channel.recv()) is not None:
        run_evaluation(spec, Store(store), vectors, models=models)
        channel.send("done")


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
    forked = context()
    pairs = [forked.Pipe() for _ in range(2)]
    both = [forked.Process(target=evaluate_when_told, args=(spec, theirs)) for _, theirs in pairs]
    channels = [mine for mine, _ in pairs]
    for process, (_, theirs) in zip(both, pairs, strict=True):
        process.start()
        theirs.close()  # so that a process that ends with an error ends its channel
    try:
        for channel in channels:
            assert channel.recv() == "ready"
        for number in range(ROUNDS):
            for channel in channels:
                channel.send(str(tmp_path / str(number)))
            for channel in channels:
                assert channel.recv() == "done"
        for process, channel in zip(both, channels, strict=True):
            channel.send(None)
            process.join(timeout=30)
            assert process.exitcode == 0
    finally:
        for process in both:
            process.kill()
            process.join()
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
