"""The score table of an autoencoder: of the built-in pair on development problems, or of any model on a task's questions.

1. Texts are the model's own sampled responses to bare and think-first prompts; pairs are the same questions asked both ways, read at the
   last prompt token; texts without reasoning, for token injection, are answers to be-quick prompts.
2. The causal effect of a latent is what happens to accuracy, tokens and behaviours when it alone is edited along a trace.
3. Test problems are never read, so whatever is selected by these scores can be tested on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from saes.corpus import Text
from saes.dictionary import Dictionary
from saes.estimates import adjusted
from saes.injection import injection_effects
from saes.reason_score import Vocabulary
from saes.scores import candidates, score_table
from saes.statistics import LatentStatistics
from steering.model.models import LoadedModel

from ..evaluation.spec import Generating
from ..pair.problem import Problem, split_problems
from ..store.runs import Store
from .ablation import AblationSpec, ArmFacts, run_ablation
from .asking import BUILTIN, Asking
from .demo import BASE
from .effects import behaviour_changes, effects
from .mode import task_of
from .readings import prompt_reading
from .task_texts import labels_of, responses
from .texts import sampled_texts

PAIR_WORDS = Vocabulary(("wait", "hmm", "maybe", "check", "back", "let us"))
"""Words of the built-in task that take the place of ReasonScore's list."""


def development_problems(n: int) -> list[Problem]:
    """Half of them standard, half hard."""
    return [*split_problems("standard-dev", n - n // 2), *split_problems("hard-dev", n // 2)]


def score_pair(
    model: LoadedModel,
    thinking: LoadedModel | None,
    dictionary: Dictionary,
    *,
    problems: int = 96,
    injected: int = 48,
    latents: Sequence[int] = (),
    asking: Asking = BUILTIN,
) -> pd.DataFrame:
    """All scores of every latent; injection for `latents` and, by the largest paired difference and ReasonScore, up to `injected` more.

    On another task than the built-in one, the questions are those that `asking` reads, `auroc_<label>` is against the lexicon's labels
    (`attrs["labels"]`), correctness is the task's grader's, and ReasonScore has its own list of words. `thinking` is another model with the
    same vocabulary and width; without it the columns that need one are missing. So are those that nothing can be
    said of on these texts (`attrs["left_out"]`): `correctness` where all answers are right or all wrong, `auroc_<label>` where there is one
    label, ReasonScore where its words do not occur.
    """
    common: dict[str, Any] = {"logit_tokens": 5}
    left_out: list[str] = []
    if thinking is not None:
        common["thinking"] = thinking
    if asking.builtin and not asking.read:
        asked = development_problems(problems)
        texts = sampled_texts(model, asked, ("bare", "think"))
        pairs = (prompt_reading(model, asked, asking.reasoning), prompt_reading(model, asked, asking.direct))
        common |= {"vocabulary": PAIR_WORDS, "pairs": pairs}
    else:
        items = asking.questions(problems)
        forms = tuple(dict.fromkeys((*asking.others, asking.reasoning)))
        texts = [made.text for made in responses(model, asking, items, forms)]
        texts, common["vocabulary"] = _scorable(model, texts, left_out)
        sides = (asking.reading(model, items, asking.reasoning), asking.reading(model, items, asking.direct))
        common["pairs"] = sides
    first = score_table(model, dictionary, texts, **common)
    ranked = [j for by in ("cot_difference", "reason_score") if by in first for j in candidates(first, by, injected)]
    chosen = list(dict.fromkeys([*latents, *ranked]))
    chosen = chosen[: len(latents) + injected]
    if not chosen:
        first.attrs |= {"labels": labels_of(asking), "left_out": left_out}
        return first
    if asking.builtin and not asking.read:
        plain = [t.ids for t in sampled_texts(model, asked, ("quick",))]
    else:
        plain = [made.text.ids for made in responses(model, asking, items, (asking.direct,))]
    found = injection_effects(model, dictionary, chosen, texts, plain)
    table = score_table(model, dictionary, texts, injection=found, **common)
    table.attrs |= {"labels": labels_of(asking), "left_out": left_out}
    return table


def _scorable(model: LoadedModel, texts: list[Text], left_out: list[str]) -> tuple[list[Text], Vocabulary | None]:
    """The texts without what cannot be scored on them, and the words of ReasonScore if two of them occur; what is missing is said."""
    if len({text.correct for text in texts} - {None}) < 2:
        left_out.append("correctness: the answers that could be compared are all right or all wrong")
        texts = [replace(text, correct=None) for text in texts]
    if len({span.label for text in texts for span in text.spans}) < 2:
        left_out.append("auroc_<label>: the texts have one label of behaviour or none")
        texts = [replace(text, spans=()) for text in texts]
    whole = "\n".join(model.tokenizer.decode(text.ids) for text in texts).lower()
    if sum(word.lower() in whole for word in Vocabulary().words) < 2:
        left_out.append("reason_score: the texts hold fewer than two of its words")
        return texts, None
    return texts, Vocabulary()


def causal_effects(
    store: Store,
    models: dict[str, LoadedModel],
    dictionary: Dictionary,
    statistics: LatentStatistics,
    latents: Sequence[int],
    *,
    model: str = BASE,
    form: str = BUILTIN.reasoning,
    operations: Sequence[str] = ("ablate", "add 1p"),
    scope: str = "generated",
    n: int = 48,
    directions: int = 20,
    asking: Asking = BUILTIN,
    on_rows: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Paired changes on development problems when each latent alone is ablated, and steered by its peak: columns for `score_table`,
    indexed by latent, `<operation>_<what>` with `_low`, `_high`, `_p` and `_q` for accuracy, tokens and the rate of every behaviour
    (spans per 100 tokens). The run also holds `directions` random directions of equal size beside each edit."""
    spec = AblationSpec(
        name="causal", model=model, task=task_of(asking), form=form, splits=_development(asking, n), features=tuple((j,) for j in latents),
        operations=tuple(operations), scopes=(scope,), controls=0, directions=directions, splice=False,
        generation=Generating(max_new_tokens=asking.max_new_tokens),
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


def _development(asking: Asking, n: int) -> dict[str, int]:
    """At most `n` questions of the first development split."""
    split, count = next(iter(asking.development.items()))
    return {split: n if asking.builtin else min(n, count)}
