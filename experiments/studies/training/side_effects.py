"""What a training costs beside what it is for: texts out of form, and an ability that no reward looked at.

1. Format validity is the share of graded texts that ended and state an answer in the task's form (by its grammar, where it has one).
2. On the built-in task the untouched ability is arithmetic: results and goal tests of drill documents of the corpus, each predicted from
   the true words before it.
"""

from __future__ import annotations

import random

import numpy as np
import torch

from steering.model.models import LoadedModel

from ...pair.trace import drill_document
from ...pair.vocabulary import BOS, EOS, ID, PAD
from ...store.runs import Run

DOCUMENTS = 60


def formed(run: Run) -> dict[str, float]:
    """Per arm the share of texts in form."""
    found: dict[str, list[float]] = {}
    for row in run.table(columns=["arm", "finish", "scorable", "well_formed"]).to_pylist():
        ended = row["finish"] in ("eos", "stop")
        found.setdefault(row["arm"], []).append(float(ended and row["scorable"] and row["well_formed"] is not False))
    return {arm: float(np.mean(own)) for arm, own in found.items()}


@torch.no_grad()
def drilled(model: LoadedModel, documents: int = DOCUMENTS) -> np.ndarray:
    """Whether each result and goal test of drill documents is the likeliest next word, `[words]` of 0 and 1; the same words for every
    model."""
    rng = random.Random("side effects")
    drawn = [[BOS, *drill_document(rng), EOS] for _ in range(documents)]
    width = max(len(words) for words in drawn)
    ids = torch.tensor([[ID[w] for w in [*words, *[PAD] * (width - len(words))]] for words in drawn])
    told = model.model(input_ids=ids.to(model.device), use_cache=False).logits.argmax(-1).cpu()
    right = [
        float(told[row, at - 1] == ids[row, at])
        for row, words in enumerate(drawn)
        for at in range(1, len(words))
        if words[at - 1] == "=" or words[at] in ("yes", "no")
    ]
    return np.array(right)
