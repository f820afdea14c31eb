"""Forking tokens of the built-in task, with its exact labels."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from probes.forks import find_forks, fork_labels, fork_positions, fork_shift, fork_tokens
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import unknown
from steering.model.models import load_model
from steering.model.prompts import token_texts
from steering.plan.source import read_plan

from ..pair.problem import FORM_SUFFIX
from .probing import responses
from .readings import training_problems
from .texts import SAMPLED_TOKENS


def fork_report(model: str, problems: int, form: str, share: float, plan: str | None, seed: int = 0) -> dict[str, Any]:
    """Forks of one sampled response per training problem: by token, label and place; with `plan`, how it moves them. Plain data."""
    if form not in FORM_SUFFIX:
        raise unknown("prompt form", form, FORM_SUFFIX)
    steered_by = read_plan(plan) if plan else None
    loaded = load_model(model)
    made = responses(loaded, training_problems(problems, seed), form)  # type: ignore[arg-type]
    generations = [r.generation for r in made]
    forks = find_forks([g.entropy for g in generations], share)
    shift = None
    if steered_by is not None:
        rows = [Row(g.prompt_ids, steered_by, seed=i) for i, g in enumerate(generations)]
        steered = generate(loaded, rows, GenerationSettings(SAMPLED_TOKENS, temperature=1.0), batch_size=96)
        shift = asdict(fork_shift(generations, steered, share=share, seed=seed))
    texts = [token_texts(loaded, g.token_ids) for g in generations]
    labels = [r.labels for r in made]
    return {
        "threshold": forks.threshold,
        "share": forks.share,
        "n": forks.tokens,
        "tokens": fork_tokens(generations, forks, texts).to_dict("records"),
        "positions": fork_positions(forks).to_dict("records"),
        "labels": fork_labels(forks, labels).to_dict("records"),
        "label_starts": fork_labels(forks, labels, starts=True).to_dict("records"),
        "shift": shift,
    }
