"""The score table of an autoencoder of the built-in pair, on development problems.

1. Texts are the model's own sampled responses to bare and think-first prompts; pairs are the same questions asked both ways, read at the
   last prompt token; texts without reasoning, for token injection, are answers to be-quick prompts.
2. The causal effect of a latent is what happens to accuracy, tokens and behaviours when it alone is edited along a trace.
3. Test problems are never read, so whatever is selected by these scores can be tested on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from saes.dictionary import Dictionary
from saes.estimates import adjusted
from saes.injection import injection_effects
from saes.reason_score import Vocabulary
from saes.scores import candidates, score_table
from saes.statistics import LatentStatistics
from steering.model.models import LoadedModel

from ..pair.problem import Problem, split_problems
from ..store.runs import Store
from .ablation import AblationSpec, ArmFacts, run_ablation
from .demo import BASE
from .effects import behaviour_changes, effects
from .mode import DIRECT, REASONING
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


def causal_effects(
    store: Store,
    models: dict[str, LoadedModel],
    dictionary: Dictionary,
    statistics: LatentStatistics,
    latents: Sequence[int],
    *,
    model: str = BASE,
    form: str = REASONING,
    operations: Sequence[str] = ("ablate", "add 1p"),
    scope: str = "generated",
    n: int = 48,
    on_rows: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Paired changes on development problems when each latent alone is ablated, and steered by its peak: columns for `score_table`,
    indexed by latent, `<operation>_<what>` with `_low`, `_high`, `_p` and `_q` for accuracy, tokens and the rate of every behaviour
    (spans per 100 tokens)."""
    spec = AblationSpec(
        name="causal", model=model, form=form, splits={"standard-dev": n}, features=tuple((j,) for j in latents),
        operations=tuple(operations), scopes=(scope,), controls=0, splice=False,
    )  # fmt: skip
    run = run_ablation(spec, store, dictionary, statistics, models=models, on_rows=on_rows)
    found = effects(run).set_index("arm")
    changes = {"accuracy": found[["difference", "low", "high", "p"]]}
    changes["tokens"] = found[["tokens", "tokens_low", "tokens_high", "tokens_p"]].set_axis(
        ["difference", "low", "high", "p"], axis=1
    )
    for label, own in behaviour_changes(run).groupby("label"):
        changes[str(label)] = own.set_index("arm")[["difference", "low", "high", "p"]]
    columns: dict[str, list[float]] = {}
    for operation in operations:
        arms = [ArmFacts((j,), operation, scope, "target").name for j in latents]
        for what, values in changes.items():
            name, own = f"{operation.split()[0]}_{what}", values.loc[arms]
            columns[name] = own["difference"].tolist()
            for part in ("low", "high", "p"):
                columns[f"{name}_{part}"] = own[part].tolist()
            columns[f"{name}_q"] = adjusted(own["p"].to_numpy()).tolist()
    return pd.DataFrame(columns, index=pd.Index(latents, name="latent"))
