"""Critiques of candidate answers to one question of the built-in task, written by its exact verifier.

A critique follows a candidate response and says what is wrong with it: it corrects the first wrong line of a trace, puts the stated answer
through the rules, says whether it reaches the goal, and gives the right solution where it does not. Three styles word it differently.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ...pair.problem import Problem
from ...pair.trace import STYLES, Style, think_response
from ...pair.verifier import read_equation, verify

STYLE_NAMES = ("plain", "checking", "doubting")


def attempt(problem: Problem, value: int, style: str) -> list[str]:
    """A value put through the rules, and the goal test's verdict."""
    words: list[str] = []
    start = value
    for rule in problem.rules:
        line = [str(value), *str(rule).split(), "=", str(rule(value)), ";"]
        words += line
        if style == "checking":
            words += ["check", *line[:-1], "ok", ";"]
        value = rule(value)
    verdict = ["yes", ";"] if problem.run(start) == problem.goal else ["no", "back", ";"]
    return [*words, "goal", str(problem.goal), *verdict]


OPENERS = {"plain": ((), ()), "checking": (("check",), ("check",)), "doubting": (("hmm",), ("hmm", "maybe"))}
"""Before the attempt at a right answer, and at a wrong one."""


def critique(problem: Problem, response: Sequence[str], style: str) -> list[str]:
    """What is wrong with a response, as words, without `<eos>`."""
    found, words = verify(problem, list(response)), _correction(response)
    if found.answer is None:
        words += ["no", "answer", ";", "first"]
    else:
        words += [*OPENERS[style][not found.correct], *_tried(problem, found.answer, style)]
        if found.correct:
            return [*words, "so", "answer", str(found.answer)]
        words += ["not", str(found.answer)]
    return [*words, *_tried(problem, problem.answer, style), "so", "answer", str(problem.answer)]


def _tried(problem: Problem, value: int, style: str) -> list[str]:
    return ["try", str(value), ";", *attempt(problem, value, style)]


def _correction(response: Sequence[str]) -> list[str]:
    """The first line of a trace whose result is wrong, put right."""
    for at in range(len(response) - 4):
        line = read_equation(response[at : at + 5])
        if line is not None and not line.right:
            return ["wait", "check", *response[at : at + 4], str(line.rule(line.value)), ";"]
    return []


def solutions(problem: Problem, count: int, seed: int) -> list[list[str]]:
    """Traces that solve a problem without a slip, in the corpus' careful style."""
    rng, careful = random.Random(f"solutions/{seed}"), STYLES["careful"]
    style = Style(**{**vars(careful), "slip": 0.0, "abandon": 0.0, "give_up_late": 0.0})
    return [think_response(problem, rng, style) for _ in range(count)]
