"""What to read when a vector is extracted on a task: prompts in a form, or labelled spans of traces.

1. Extraction reads training problems only: neither the development nor the test split is ever read.
2. Behaviour readings take the ends of computed lines, where a trace goes on or turns to something else: after the trace has shown the
   behaviour, against before it has (or where it never does). The first side lies later in its traces on average, which the vector
   may carry too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.extraction import Reading
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt

from ..pair.problem import TRAINING, Problem, draw_problem
from ..pair.verifier import verify


def training_problems(n: int, seed: int = 0) -> list[Problem]:
    """`n` problems on training rule chains, fixed by `seed`."""
    rng = random.Random(f"extraction/{seed}")
    return [draw_problem(rng, TRAINING, "train") for _ in range(n)]


def prompt_reading(model: LoadedModel, problems: Sequence[Problem], form: str) -> Reading:
    """The last prompt token of each problem in a prompt form."""
    return Reading.last_token([encode_prompt(model, p.prompt(form)) for p in problems])  # type: ignore[arg-type]


def sampled_traces(
    model: LoadedModel, problems: Sequence[Problem], form: str = "think", max_new_tokens: int = 360
) -> list[Generation]:
    """One trace per problem at temperature 1."""
    rows = [Row(encode_prompt(model, p.prompt(form)), seed=i) for i, p in enumerate(problems)]  # type: ignore[arg-type]
    return generate(model, rows, GenerationSettings(max_new_tokens, temperature=1.0), batch_size=96)


def behaviour_readings(
    model: LoadedModel,
    problems: Sequence[Problem],
    traces: Sequence[Generation],
    labels: Sequence[str],
    settled: int = 3,
) -> tuple[Reading, Reading]:
    """Readings (behaving, not behaving) at the last tokens of computed lines of the same traces: after the first span with one of
    `labels`, and before it, from line `settled` on so that both sides lie inside the trace.

    Raises BadInput when one side is empty.
    """
    sequences, behaving, others = [], [], []
    for problem, trace in zip(problems, traces, strict=True):
        words = [model.tokenizer.decode([t]) for t in trace.token_ids if t not in model.eos_ids]
        verdict, prompt = verify(problem, words), len(trace.prompt_ids)
        first = min((span.end for span in verdict.labels if span.label in labels), default=len(words) + 1)
        ends = [span.end for span in verdict.labels if span.label == "computing"]
        sequences.append((*trace.prompt_ids, *trace.token_ids))
        behaving.append(tuple(prompt + end - 1 for end in ends if end > first))
        others.append(tuple(prompt + end - 1 for end in ends[settled:] if end < first))
    if not any(behaving) or not any(others):
        raise BadInput(
            f"{len(traces)} traces of {model.id} hold no computed line {'after' if any(others) else 'before'} one of "
            f"{', '.join(labels)}; read more traces."
        )
    return Reading(tuple(sequences), tuple(behaving)), Reading(tuple(sequences), tuple(others))
