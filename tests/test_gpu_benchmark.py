"""The benchmark of accelerators, all of it in tiny sizes on the CPU: every part is measured, and wrong texts or receipts stop it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings

CPU = torch.device("cpu")


def test_the_command_measures_every_part(tmp_path: Path) -> None:
    out = tmp_path / "gpu.md"
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    found = json.loads(out.with_suffix(".json").read_text())
    what = {(line["rows"], line["what"]) for line in found["lines"]}
    decoding = {"`generate`", "engine, unsteered", "`generate` + hook", "engine, one plan", "engine, a plan per row"}
    assert what == {(rows, name) for rows in (1, 4) for name in decoding} | {
        (8, "loop over 4 configurations"),
        (8, "engine, one queue"),
    }
    assert all(line["speed"] > 0 for line in found["lines"]) and found["left_out"] == []
    assert all(line["low"] <= line["ratio"] <= line["high"] for line in found["lines"] if "ratio" in line)
    assert out.read_text() in done.stdout and "24 texts are those of the naive loop" in out.read_text()


def test_what_there_is_no_time_for_is_named() -> None:
    report = gpu.run(replace(gpu.TINY, minutes=0.0), CPU, torch.float32, lambda text: None)
    assert report.left_out == ["tiny, 1 rows", "tiny, 4 rows", "tiny, sweep"] and not report.lines
    assert "Not come to in time: tiny, sweep." in report.markdown()


def test_other_texts_than_the_naive_loops_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gpu.naive
    monkeypatch.setattr(gpu, "naive", lambda *given: [[*texts[:-1], texts[-1] + 1] for texts in right(*given)])
    with pytest.raises(RuntimeError, match="differ from the naive loop"):
        gpu.run(gpu.TINY, CPU, torch.float32, lambda text: None)


def test_a_receipt_that_is_not_as_planned_stops_it() -> None:
    loaded = gpu.model_of("tiny", CPU, torch.float32)
    rows = [Row((1, 5, 9)), Row((1, 5, 9), gpu.adding(loaded, 0, 1))]
    plain, steered = generate(loaded, rows, GenerationSettings(4), detail="tokens")
    gpu.shown([steered])
    with pytest.raises(RuntimeError, match="0 of 0 edits"):
        gpu.shown([plain])


def test_the_plain_hook_and_the_naive_loop_write_the_same() -> None:
    loaded = gpu.model_of("tiny", CPU, torch.float32)
    asked = [(1, 7, 9, 30), (1, 4, 200, 3)]
    for seed in (None, 3):
        assert gpu.hooked(loaded, asked, 8, seed, 1) == gpu.naive(loaded, asked, 8, seed, 1)
