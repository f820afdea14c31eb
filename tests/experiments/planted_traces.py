"""Traces of the built-in task whose decisive steps are planted."""

from __future__ import annotations

import numpy as np
from rich.console import Console

from experiments.pair.problem import Problem
from experiments.pair.verifier import verify
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.steps import Trace, steps_of
from experiments.tasks.items import Item
from steering.model.models import LoadedModel

QUIET = Console(quiet=True)
SETTING = Setting(name="think-first prompts", split="standard-test", form="think")
THINK = Elicit(settings=(SETTING,))


def trace_of(model: LoadedModel, problem: Problem, text: str, number: int = 0) -> Trace:
    """A trace of the base with this response."""
    ids = tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    prompt = tuple(model.tokenizer(problem.prompt("think"))["input_ids"])
    item = Item(f"standard-test/{number:05d}", str(problem.answer), problem)
    steps, answer = steps_of(model, ids, problem)[:-1], verify(problem, text).answer
    listed = tuple(map(str, problem.candidates))
    return Trace(item, "base", "base", "builtin:base", prompt, ids, steps, str(answer), False, listed)


def searched(problem: Problem, check: bool = False) -> str:
    """A careful trace that tries the candidates in order."""
    words, previous = [], None
    for candidate in problem.candidates:
        words.append(f"not {previous} try {candidate} ;" if previous is not None else f"let us try {candidate} ;")
        value = candidate
        for rule in problem.rules:
            words.append(f"{value} {rule} = {rule(value)} ;")
            if check:
                words.append(f"check {value} {rule} = {rule(value)} ok ;")
            value = rule(value)
        if value == problem.goal:
            return " ".join([*words, f"goal {problem.goal} yes ; so answer {candidate}"])
        words.append(f"goal {problem.goal} no back ;")
        previous = candidate
    raise AssertionError


def planted(trace: Trace, samples: int = 32) -> tuple[dict[str, list[list[object]]], np.ndarray]:
    """Continuations and forced distributions of a writer whose answer changes at the sentences that decide, and nowhere else."""
    rng = np.random.default_rng(len(trace.ids))
    k = len(trace.candidates)
    believed, spread = 0, [np.full(k + 1, 1 / (k + 1))]
    for step in trace.steps:
        if step.choice:
            believed = (believed + 1) % k
        peaked = np.full(k + 1, 0.05 / k)
        peaked[believed] = 0.95
        spread.append(peaked if believed or step.choice else spread[-1])
    draws = [[trace.candidates[min(n, k - 1)] for n in rng.choice(k + 1, samples, p=own)] for own in spread]
    differs = [[bool(rng.random() < (0.6 if step.choice else 0.3)) for _ in range(samples)] for step in trace.steps]
    returns = [[False] * samples for _ in trace.steps]
    return {"answers": draws, "differs": differs, "returns": returns}, np.array(spread)
