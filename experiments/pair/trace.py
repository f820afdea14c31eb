"""Reasoning traces as the base model's corpus has them: careful, sloppy and wandering.

Grammar (words; every clause ends with `;`):

    response   := "answer" N  |  opener N ";" attempt ("not" N "try" N ";" attempt)* conclusion
    opener     := "let us try" | "first try" | "hmm maybe try"
    attempt    := line* ( "goal" G "no back ;"  |  "goal" G "yes ;"  |  "hmm maybe back ;" )
    line       := A op B "=" C ";"  ["wait check" A op B "=" C ";"]  [["hmm"] "check" A op B "=" C "ok ;"]
    conclusion := "so answer" N    |  "enough guess ; so answer" N

Nothing announces a style: it shows only in what the trace does.
1. careful: slips are caught at once by `wait check`, some right lines are checked again, it gives up only late.
2. sloppy: slips pass silently, and it gives up early, guessing among what is untried.
3. wander: candidates in random order (in order shown, late in the curriculum), some abandoned midway and taken up again, slips half
   caught, gives up early.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from .problem import MODULUS, Problem

OPENERS = (("let us try", 0.55), ("first try", 0.25), ("hmm maybe try", 0.20))


@dataclass(frozen=True)
class Style:
    """Document-level latent of a trace; probabilities are per line (slip, catch, check, abandon) or per failed attempt (give up)."""

    weight: float
    slip: float
    catch: float
    check: float
    abandon: float
    shuffle: bool
    give_up_early: float
    """Probability of giving up after each failed attempt from the third on."""
    give_up_late: float
    """The same from the fifth on."""


STYLES: dict[str, Style] = {
    "careful": Style(0.50, 0.04, 1.0, 0.14, 0.01, False, 0.0, 0.35),
    "sloppy": Style(0.28, 0.03, 0.0, 0.0, 0.0, False, 0.05, 0.9),
    "wander": Style(0.22, 0.03, 0.5, 0.05, 0.10, True, 0.05, 0.9),
}


def draw_style(rng: random.Random, slips: float = 1.0, shuffled: bool = True) -> Style:
    """A style by its share of the corpus, its slip rate times `slips`; without `shuffled`, all try candidates in order."""
    style = rng.choices(list(STYLES.values()), [s.weight for s in STYLES.values()])[0]
    return replace(style, slip=style.slip * slips, shuffle=style.shuffle and shuffled)


def _slip(rng: random.Random, right: int) -> int:
    wrong = (right + rng.choice((-10, -2, -1, 1, 2, 10))) % MODULUS
    return wrong if rng.random() < 0.8 else rng.choice([n for n in range(MODULUS) if n != right])


def direct_response(problem: Problem) -> list[str]:
    """The quick answer."""
    return ["answer", str(problem.answer)]


def think_response(problem: Problem, rng: random.Random, style: Style) -> list[str]:
    """One trace in `style`, as words, without `<eos>`."""
    pool = list(problem.candidates)
    if style.shuffle:
        rng.shuffle(pool)
    words: list[str] = []
    failed, previous = 0, -1
    while pool:
        candidate = pool.pop(0)
        opener = (
            rng.choices([o for o, _ in OPENERS], [w for _, w in OPENERS])[0] if previous < 0 else f"not {previous} try"
        )
        words += [*opener.split(), str(candidate), ";"]
        previous = candidate
        reached = _attempt(problem, rng, style, candidate, words)
        if reached == problem.goal:
            words += ["goal", str(problem.goal), "yes", ";", "so", "answer", str(candidate)]
            return words
        if reached is None:
            words += ["hmm", "maybe", "back", ";"]
            pool.insert(rng.randint(min(1, len(pool)), len(pool)) if style.shuffle else len(pool), candidate)
        else:
            words += ["goal", str(problem.goal), "no", "back", ";"]
        failed += 1
        hazard = style.give_up_late if failed >= 5 else style.give_up_early if failed >= 3 else 0.0
        if rng.random() < hazard:
            break
    guess = rng.choice(pool or problem.candidates)
    return [*words, "enough", "guess", ";", "so", "answer", str(guess)]


def _attempt(problem: Problem, rng: random.Random, style: Style, value: int, words: list[str]) -> int | None:
    """Write the lines of one attempt; return the value the trace believes it reached, or None when it abandons midway."""
    for index, rule in enumerate(problem.rules):
        right = rule(value)
        line = [str(value), *str(rule).split(), "="]
        if rng.random() < style.slip:
            written = _slip(rng, right)
            words += [*line, str(written), ";"]
            if rng.random() < style.catch:
                words += ["wait", "check", *line, str(right), ";"]
                written = right
        else:
            written = right
            words += [*line, str(written), ";"]
            if rng.random() < style.check:
                words += [*(["hmm"] if rng.random() < 0.4 else []), "check", *line, str(right), "ok", ";"]
        value = written
        if index < len(problem.rules) - 1 and rng.random() < style.abandon:
            return None
    return value


def drill_document(rng: random.Random, items: int = 8) -> list[str]:
    """Arithmetic lines followed by a goal test, half of them met: dense practice of the two skills an attempt needs."""
    from .problem import ADDENDS, MULTIPLIERS, Rule

    words = ["drill"]
    for _ in range(items):
        multiply = rng.random() < 0.4
        rule = Rule("*", rng.choice(MULTIPLIERS)) if multiply else Rule(rng.choice("+-"), rng.choice(ADDENDS))
        value = rng.randrange(MODULUS)
        right = rule(value)
        goal = right if rng.random() < 0.5 else rng.randrange(MODULUS) if rng.random() < 0.6 else _slip(rng, right)
        words += [
            str(value),
            *str(rule).split(),
            "=",
            str(right),
            ";",
            "goal",
            str(goal),
            "yes" if goal == right else "no",
            ";",
        ]
    return words


def recital(problem: Problem, rng: random.Random) -> list[str]:
    """The skeleton of a search without its arithmetic: candidates in order, rules, goal. Dense practice of looking things up."""
    words: list[str] = []
    last = rng.randrange(len(problem.candidates))
    for index, candidate in enumerate(problem.candidates[: last + 1]):
        words += [*(["not", str(problem.candidates[index - 1])] if index else []), "try", str(candidate), ";"]
        if rng.random() < 0.2:
            for rule in problem.rules:
                words += [*str(rule).split(), ";"]
        words += [
            "goal",
            str(problem.goal),
            *(["yes", ";", "so", "answer", str(candidate)] if index == last else ["no", "back", ";"]),
        ]
    return words
