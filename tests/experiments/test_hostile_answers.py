"""No answer hangs, outlasts or ends a run, and those that have a verdict get it."""

from __future__ import annotations

import time

import pytest

from experiments.tasks.graders.isolation import GRACE, shared
from experiments.tasks.graders.mathematics import MathGrader

from .hostile_answers import ANY, OTHER, RESPONSES, SAME

TIMEOUT = 1.0
MEMORY = 512
SLACK = 0.5
"""Seconds for what is done around a comparison, on a busy machine."""
GRADER = MathGrader(TIMEOUT, MEMORY)
PATIENT = MathGrader(4.0, MEMORY)
"""For answers that take milliseconds, also on a busy machine."""
CASES = (
    [(gold, f"\\boxed{{{answer}}}", True) for gold, answer in SAME]
    + [(gold, f"\\boxed{{{answer}}}", False) for gold, answer in OTHER]
    + [(gold, f"\\boxed{{{answer}}}", None) for gold, answer in ANY]
    + RESPONSES
)


def test_there_are_at_least_two_hundred() -> None:
    assert len(CASES) >= 200 and len({(gold, text) for gold, text, _ in CASES}) == len(CASES)


@pytest.mark.slow
def test_every_answer_gets_its_verdict_in_time() -> None:
    shared(TIMEOUT, MEMORY).start()
    wrong, slow, worst = [], [], (0.0, "")
    for gold, text, expected in CASES:
        began = time.monotonic()
        grade = GRADER.grade("", gold, text)
        took = time.monotonic() - began
        worst = max(worst, (took, text[:60]))
        if took > TIMEOUT + SLACK:
            slow.append((round(took, 2), text[:60]))
        if expected is not None and not grade.scorable and "longer than" in grade.explanation:
            grade = PATIENT.grade("", gold, text)
        if expected is not None and grade.correct is not expected:
            wrong.append((gold, text[:80], grade.answer and grade.answer[:80], grade.explanation))
        assert grade.scorable or not grade.correct, "an unscorable answer is never right"
        assert grade.grader == "math" and grade.explanation
    print(f"{len(CASES)} answers, the slowest {worst[0]:.2f} s: {worst[1]!r}")
    assert not slow, slow
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("answer", ["9^{9^{9^{9}}}", "(10^9)!"])
def test_what_cannot_be_compared_is_unscorable_and_says_why(answer: str) -> None:
    grade = GRADER.compare("5", answer)
    assert not grade.scorable and grade.value is None and grade.answer == answer
    assert (
        "longer than 1 s" in grade.explanation
        or "out of memory" in grade.explanation
        or "compared" in grade.explanation
    )
    assert GRADER.compare("5", "5").value == 1.0 and GRADER.compare("5", "6").value == 0.0


def test_a_worker_that_is_killed_is_replaced() -> None:
    worker = shared(PATIENT.timeout, MEMORY)
    worker.start()
    before = worker.restarts
    assert worker._process is not None
    worker._process.kill()
    worker._process.wait()
    assert PATIENT.compare("x", "x+1").scorable is False
    assert worker.restarts == before + 1
    assert PATIENT.compare(r"\frac{1}{2}", "0.5").correct


def test_a_stopped_worker_is_killed_in_time() -> None:
    import os
    import signal

    worker = shared(PATIENT.timeout, MEMORY)
    worker.start()
    assert worker._process is not None
    os.kill(worker._process.pid, signal.SIGSTOP)
    began = time.monotonic()
    assert not PATIENT.compare("x", "x+1").scorable
    assert time.monotonic() - began < PATIENT.timeout + GRACE + SLACK
    assert PATIENT.compare(r"\frac{1}{2}", "0.5").correct


def test_threads_share_one_worker() -> None:
    from concurrent.futures import ThreadPoolExecutor

    pairs = [(rf"\frac{{{i}}}{{7}}", f"{i}/7") for i in range(1, 20)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda p: PATIENT.compare(*p).correct, pairs))
        assert not any(pool.map(lambda p: PATIENT.compare(p[0], p[1] + "+1").correct, pairs))


def test_what_is_too_long_is_not_compared() -> None:
    for gold, answer in (("9" * 70_000, "5"), ("5", "9" * 70_000)):
        grade = PATIENT.compare(gold, answer)
        assert not grade.scorable and "at most 2000 characters" in grade.explanation
    assert "bytes" in shared(PATIENT.timeout, MEMORY).ask({"gold": "9" * 70_000, "answer": "5"})["error"]
    assert PATIENT.compare(r"\frac{1}{2}", "0.5").correct
