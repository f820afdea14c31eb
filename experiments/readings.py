"""What to read when a vector is extracted on a task: prompts in a form, or labelled spans of traces.

1. Extraction reads training problems only: neither the development nor the test split is ever read.
2. Behaviour readings take the ends of computed lines, where a trace goes on or turns to something else: those that a labelled span follows,
   against the others of the same traces.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from steering.engine import Generation, Row, generate
from steering.errors import BadInput
from steering.extraction import Reading
from steering.models import LoadedModel
from steering.prompts import encode_prompt
from steering.sampling import GenerationSettings

from .pair.problem import TRAINING, Problem, draw_problem
from .pair.verifier import verify


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
    model: LoadedModel, problems: Sequence[Problem], traces: Sequence[Generation], label: str
) -> tuple[Reading, Reading]:
    """Readings (before the behaviour, elsewhere) over the same traces: the last tokens of computed lines that the behaviour follows
    directly, and those of all other computed lines.

    Raises BadInput when the behaviour never follows a computed line.
    """
    sequences, before, elsewhere = [], [], []
    for problem, trace in zip(problems, traces, strict=True):
        words = [model.tokenizer.decode([t]) for t in trace.token_ids if t not in model.eos_ids]
        verdict = verify(problem, words)
        prompt = len(trace.prompt_ids)
        starts = {prompt + span.start - 1 for span in verdict.labels if span.label == label and span.start > 0}
        ends = {prompt + span.end - 1 for span in verdict.labels if span.label == "computing"}
        sequences.append((*trace.prompt_ids, *trace.token_ids))
        before.append(tuple(sorted(starts & ends)))
        elsewhere.append(tuple(sorted(ends - starts)))
    if not any(before):
        raise BadInput(
            f"The behaviour {label!r} never follows a computed line in {len(traces)} traces of {model.id}; read more traces."
        )
    return Reading(tuple(sequences), tuple(before)), Reading(tuple(sequences), tuple(elsewhere))
