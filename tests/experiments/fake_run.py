"""A small realistic run, written in code: what the tests of the store, the statistics and the app read.

1. The same arguments give the same bytes; nothing is random but a hash of (split, arm, item).
2. Its arms differ as in a real run: the baseline mostly answers at once, steering makes it try candidates.
3. With `hostile`, two rows of every arm hold markup that would run as a script in a page that does not escape it.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

from experiments.pair.problem import Problem, split_problems
from experiments.store.runs import Arm, Manifest, Run, Store

HOSTILE = ("<script>window.__xss=1</script>", '<img src=x onerror="window.__xss=1">')
SPLITS = ("standard-test", "hard-test")
SITE = "blocks.2.hook_resid_post"
LIMIT = 200
"""Longest generation in tokens; the longest traces are cut there."""
EDIT_SIZE = {"steered": 0.35, "random": 0.35, "wrong_sign": 0.34}
_THINKS = {"base_bare": 0.1, "base_think": 0.5, "steered": 0.85, "random": 0.15, "wrong_sign": 0.0, "thinking": 1.0}
"""Share of items that an arm reasons about."""


def _plan(vector: str, amount: float) -> dict[str, Any]:
    digest = hashlib.sha256(vector.encode()).hexdigest()[:16]
    edit = {"operation": "add", "vector": digest, "vector_name": vector, "site": SITE, "span": "last_prompt"}
    return {"interventions": [{**edit, "dose": {"amount": amount, "unit": "vector"}}]}


def make_arms() -> list[Arm]:
    """Baseline, prompt-only, steered, two controls, reference."""
    steer, against, control = _plan("reasoning", 1.0), _plan("reasoning", -1.0), _plan("random 0", 1.0)
    words = [
        ("base_bare", "Base", "baseline", "base", "bare", None, "The base model as it is."),
        ("base_think", "Base, asked to think", "prompt", "base", "think", None, "The prompt asks for thinking first."),
        ("steered", "Base + reasoning vector", "steered", "base", "bare", steer, "The direction, added once."),
        ("random", "Base + random vector", "control", "base", "bare", control, "A random direction, same norm."),
        ("wrong_sign", "Base - reasoning vector", "control", "base", "bare", against, "The direction, subtracted."),
        ("thinking", "Thinking model", "reference", "thinking", "bare", None, "The trained model: the top of the gap."),
    ]
    keys = ("name", "label", "role", "model", "form", "plan", "description")
    return [Arm.model_validate(dict(zip(keys, values, strict=True))) for values in words]


def _tokens(problem: Problem, arm: str, rng: random.Random) -> list[str]:
    """Generated words of one row, in the grammar of the built-in task."""
    if rng.random() >= _THINKS[arm]:
        return ["answer", str(rng.choice(problem.candidates)), "<eos>"]
    words = ["let", "us"]
    for candidate in problem.candidates:
        words += ["try", str(candidate), ";"]
        value = candidate
        for rule in problem.rules:
            result = rule(value)
            if arm != "thinking" and rng.random() < 0.04:
                slip = (result + 1) % 100
                words += [str(value), rule.op, str(rule.operand), "=", str(slip), ";", "wait", "check"]
            words += [str(value), rule.op, str(rule.operand), "=", str(result), ";"]
            value = result
        if value == problem.goal:
            return [*words, "goal", str(problem.goal), "yes", ";", "so", "answer", str(candidate), "<eos>"]
        words += ["goal", str(problem.goal), "no", "back", ";"]
    raise AssertionError("one candidate reaches the goal")


_BEHAVIOURS = (
    ("proposing", "try", 3),
    ("self-correcting", "wait", 8),
    ("backtracking", "back", 2),
    ("concluding", "so", 3),
)
"""Behaviour, the word that opens it, its length in tokens."""


def _labels(tokens: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for start, token in enumerate(tokens):
        for label, word, width in _BEHAVIOURS:
            if token == word:
                end = min(start + width, len(tokens))
                found.append({"label": label, "start": start, "end": end, "detector": "grammar", "confidence": 1.0})
    return found


def _ids(tokens: list[str]) -> list[int]:
    return [hashlib.sha256(t.encode()).digest()[0] for t in tokens]


def make_row(
    arm: str,
    form: str,
    split: str,
    order: int,
    problem: Problem,
    seed: int = 0,
    markup: str | None = None,
    limit: int = LIMIT,
) -> dict[str, Any]:
    """One row with every column of the schema. `markup` replaces the third token and is put into the prompt."""
    rng = random.Random(f"{split}/{arm}/{order}/{seed}")
    prompt = problem.prompt("think" if form == "think" else "bare")
    tokens = _tokens(problem, arm, rng)
    truncated = len(tokens) > limit
    tokens = tokens[:limit]
    answer = None if truncated or rng.random() < 0.05 else tokens[-2]
    reasoned = tokens[0] == "let"
    prompt_tokens = ["<bos>", *prompt.split()]
    if markup is not None:
        prompt = f"{prompt} {markup}"
        prompt_tokens.append(markup)
        tokens[min(2, len(tokens) - 2)] = markup
    n, positions = len(tokens), len(prompt_tokens) + len(tokens)
    logprob = [-round(rng.random() ** 3, 4) for _ in tokens]
    alternatives = [[t, ";", "try", "answer", "hmm"] for t in tokens]
    flat = [word for five in alternatives for word in five]
    edit_ratio = [0.0] * positions
    edited = 1 if arm in EDIT_SIZE else 0
    if edited:
        edit_ratio[len(prompt_tokens) - 1] = EDIT_SIZE[arm] + 0.01 * rng.random()
    item = f"{split}-{order:03d}"
    key = hashlib.sha256(f"{arm}/{item}/{seed}/{prompt}".encode()).hexdigest()
    return {
        "key": key,
        "arm": arm,
        "split": split,
        "item": item,
        "order": order,
        "seed": seed,
        "prompt": prompt,
        "gold": str(problem.answer),
        "text": " ".join(t for t in tokens if t != "<eos>"),
        "answer": answer,
        "correct": answer == str(problem.answer),
        "scorable": answer is not None,
        "truncated": truncated,
        "trace_ok": answer == str(problem.answer) and reasoned and "wait" not in tokens,
        "well_formed": not truncated and answer is not None,
        "finish": "length" if truncated else "eos",
        "prompt_ids": _ids(prompt_tokens),
        "token_ids": _ids(tokens),
        "prompt_tokens": prompt_tokens,
        "tokens": tokens,
        "logprob": logprob,
        "entropy": [round(2 * rng.random() ** 2, 4) for _ in tokens],
        "top_ids": _ids(flat),
        "top_tokens": flat,
        "top_logprob": [value - 0.7 * place for value in logprob for place in range(5)],
        "edit_ratio": edit_ratio,
        "edits_planned": edited,
        "edits_fired": edited,
        "labels": _labels(tokens) if n > 3 else [],
    }


def make_manifest(run_id: str = "fake", n_items: int = 12) -> Manifest:
    """The manifest of the fake run, with `n_items` in each of two splits."""
    return Manifest(
        run_id=run_id,
        name="Does the direction bring the reasoning out?",
        spec={
            "task": "find-the-start",
            "splits": list(SPLITS),
            "n": n_items,
            "settings": {"max_new_tokens": LIMIT, "temperature": 0.0},
        },
        arms=make_arms(),
        splits=dict.fromkeys(SPLITS, n_items),
        facts={"models": {"base": "0" * 16, "thinking": "1" * 16}, "tokenizer": "2" * 16, "versions": {"schema": 1}},
    )


def make_rows(n_items: int = 12, hostile: bool = False) -> list[dict[str, Any]]:
    """All rows of the fake run, in the order of arms within splits."""
    rows = []
    for split in SPLITS:
        problems = split_problems(split, n_items)
        for arm in make_arms():
            for order, problem in enumerate(problems):
                markup = HOSTILE[order] if hostile and order < len(HOSTILE) else None
                rows.append(make_row(arm.name, arm.form, split, order, problem, markup=markup))
    return rows


def make_fake_run(root: Path, n_items: int = 12, hostile: bool = False, **facts: Any) -> Run:
    """Write the run `fake` (`hostile` when so asked) into the store at `root`, complete, in shards of 16 rows; with further facts."""
    manifest = make_manifest("hostile" if hostile else "fake", n_items)
    manifest = manifest.model_copy(update={"facts": {**manifest.facts, **facts}})
    run = Store(root).create(manifest)
    rows = make_rows(n_items, hostile)
    for start in range(0, len(rows), 16):
        run.write(rows[start : start + 16])
    run.set_status("complete")
    return run


EVIL = '<script>window.__xss=1</script>"|&$x_1$\\%{}'


def make_markup_run(root: Path) -> Run:
    """A run whose arm labels, item names and answers, and whose name, are markup."""
    plain = make_manifest("hostile", 4)
    arms = [arm.model_copy(update={"label": f"{arm.label} {EVIL}"}) for arm in plain.arms]
    manifest = plain.model_copy(update={"name": EVIL, "arms": arms})
    run = Store(root).create(manifest)
    rows = [
        {**row, "item": f"{EVIL} {row['item']}", "answer": None if row["answer"] is None else f"{EVIL}{row['answer']}"}
        for row in make_rows(4, hostile=True)
    ]
    run.write(rows)
    run.set_status("complete")
    return run
