"""Texts of the built-in task for autoencoders: a model's own sampled responses with exact labels and verdicts.

1. Texts come from training problems unless development problems are asked for; test problems are never read.
2. Labels and verdicts are the grammar's (`pair/verifier.py`), as positions of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from saes.corpus import LabelledSpan, Text
from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt

from ..pair.problem import FORM_SUFFIX, Form, Problem
from ..pair.verifier import verify
from .readings import training_problems

SAMPLED_TOKENS = 360


def sampled_texts(
    model: LoadedModel,
    problems: Sequence[Problem],
    forms: Sequence[Form] = ("bare", "quick", "think"),
    *,
    temperature: float = 1.0,
    batch_size: int = 192,
) -> list[Text]:
    """One response per problem and form, in that order of problems within each form."""
    rows, asked = [], []
    for form in forms:
        for index, problem in enumerate(problems):
            rows.append(Row(encode_prompt(model, problem.prompt(form)), seed=index))
            asked.append(problem)
    settings = GenerationSettings(SAMPLED_TOKENS, temperature=temperature)
    found = generate(model, rows, settings, batch_size=batch_size, detail="tokens")
    return [text_of(model, problem, generation) for problem, generation in zip(asked, found, strict=True)]


def text_of(model: LoadedModel, problem: Problem, generation: Generation) -> Text:
    """A response with its labels and whether its answer is right."""
    words = [model.tokenizer.decode([t]) for t in generation.token_ids if t not in model.eos_ids]
    verdict, prompt = verify(problem, words), len(generation.prompt_ids)
    spans = tuple(LabelledSpan(s.label, prompt + s.start, prompt + s.end) for s in verdict.labels if s.end > s.start)
    return Text((*generation.prompt_ids, *generation.token_ids), prompt, spans, verdict.correct)


def training_texts(model: LoadedModel, problems: int, seed: int = 0) -> list[Text]:
    """Responses to `problems` training problems in every prompt form."""
    return sampled_texts(model, training_problems(problems, seed), tuple(FORM_SUFFIX))  # type: ignore[arg-type]
