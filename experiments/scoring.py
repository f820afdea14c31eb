"""The score table of an autoencoder of the built-in pair, on development problems.

1. Texts are the model's own sampled responses to bare and think-first prompts; pairs are the same questions asked both ways, read at the
   last prompt token; texts without reasoning, for token injection, are answers to be-quick prompts.
2. Test problems are never read, so whatever is selected by these scores can be tested on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from saes.dictionary import Dictionary
from saes.injection import injection_effects
from saes.reason_score import Vocabulary
from saes.scores import candidates, score_table
from steering.models import LoadedModel

from .mode import DIRECT, REASONING
from .pair.problem import Problem, split_problems
from .readings import prompt_reading
from .texts import sampled_texts

PAIR_WORDS = Vocabulary(("wait", "hmm", "maybe", "check", "back", "let us"))
"""Words of the built-in task that take the place of ReasonScore's list."""


def development_problems(n: int) -> list[Problem]:
    """Half of them standard, half hard."""
    return [*split_problems("standard-dev", n - n // 2), *split_problems("hard-dev", n // 2)]


def score_pair(
    model: LoadedModel,
    thinking: LoadedModel,
    dictionary: Dictionary,
    *,
    problems: int = 96,
    injected: int = 48,
    latents: Sequence[int] = (),
) -> pd.DataFrame:
    """All scores of every latent; injection for `latents` and, by the largest paired difference and ReasonScore, up to `injected` more."""
    asked = development_problems(problems)
    texts = sampled_texts(model, asked, ("bare", "think"))
    pairs = (prompt_reading(model, asked, REASONING), prompt_reading(model, asked, DIRECT))
    common = {"vocabulary": PAIR_WORDS, "pairs": pairs, "thinking": thinking, "logit_tokens": 5}
    first = score_table(model, dictionary, texts, **common)  # type: ignore[arg-type]
    chosen = list(
        dict.fromkeys(
            [*latents, *candidates(first, "cot_difference", injected), *candidates(first, "reason_score", injected)]
        )
    )
    chosen = chosen[: len(latents) + injected]
    if not chosen:
        return first
    plain = [replace(t, spans=(), correct=None) for t in sampled_texts(model, asked, ("quick",))]
    found = injection_effects(model, dictionary, chosen, texts, [t.ids for t in plain])
    return score_table(model, dictionary, texts, injection=found, **common)  # type: ignore[arg-type]
