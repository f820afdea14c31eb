"""Forking tokens of a task's sampled responses, with its exact labels or a labeller's."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from probes.forks import find_forks, fork_labels, fork_positions, fork_shift, fork_tokens
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import unknown
from steering.model.models import load_model
from steering.model.prompts import token_texts
from steering.plan.source import read_plan

from ..pair.problem import FORM_SUFFIX
from .asking import BUILTIN, Asking
from .probing import responses
from .readings import training_problems
from .task_texts import answered, labels_of


def fork_report(
    model: str, problems: int, form: str, share: float, plan: str | None, seed: int = 0, asking: Asking = BUILTIN
) -> dict[str, Any]:
    """Forks of one sampled response per question that is read: by token, label and place; with `plan`, how it moves them. Plain data.

    On the built-in task questions are training problems and labels exact; elsewhere labels are the lexicon's, and named so.
    """
    if asking.builtin and form not in FORM_SUFFIX:
        raise unknown("prompt form", form, FORM_SUFFIX)
    steered_by = read_plan(plan) if plan else None
    loaded = load_model(model)
    replace(asking, direct=form, reasoning=form, others=(), development={}, test={}).say([loaded], problems)
    if asking.builtin:
        made = responses(loaded, training_problems(problems, seed), form)  # type: ignore[arg-type]
        generations, labels = [r.generation for r in made], [r.labels for r in made]
    else:
        items = asking.questions(problems)
        generations = asking.responses(loaded, items, form)
        labels = [answered(loaded, asking, i, g).labels for i, g in zip(items, generations, strict=True)]
    forks = find_forks([g.entropy for g in generations], share)
    shift = None
    if steered_by is not None:
        rows = [Row(g.prompt_ids, steered_by, seed=i) for i, g in enumerate(generations)]
        settings = GenerationSettings(asking.max_new_tokens, temperature=1.0)
        steered = generate(loaded, rows, settings, batch_size=96)
        shift = asdict(fork_shift(generations, steered, share=share, seed=seed))
    texts = [token_texts(loaded, g.token_ids) for g in generations]
    return {
        "threshold": forks.threshold,
        "share": forks.share,
        "n": forks.tokens,
        "labelled_by": labels_of(asking),
        "tokens": fork_tokens(generations, forks, texts).to_dict("records"),
        "positions": fork_positions(forks).to_dict("records"),
        "labels": fork_labels(forks, labels).to_dict("records"),
        "label_starts": fork_labels(forks, labels, starts=True).to_dict("records"),
        "shift": shift,
    }
