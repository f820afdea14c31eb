"""What an edit costs in fluency, so that a dose that only breaks the model is seen.

1. `repeated` is the share of a text's 3-grams (of token ids) that stood in it before; 0 for texts of fewer than three tokens.
2. `logprob` is the mean log-probability of a text's tokens, in nats, where the *unsteered* model reads it after the plain prompt, whoever
   wrote it and however it was asked for. French after an English beginning is unlikely by itself: the text that the model writes when it is
   asked for French, read the same way, is what a steered text is compared with.
3. Both are means over texts; the token that ends a text is no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steering.engine.forced import unsteered_logprob
from steering.model.models import LoadedModel

from ...store.runs import Run

READ_CONTROLS = 3
"""Random directions of a run whose texts are read for `logprob`; `repeated` is counted in all of them."""


@dataclass(frozen=True)
class Damage:
    """Of one arm."""

    texts: int
    repeated: float
    logprob: float | None
    """None where it was not read."""


def repeated_share(ids: Sequence[int]) -> float:
    """Share of 3-grams that stood in the text before."""
    grams = list(zip(ids, ids[1:], ids[2:], strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def arms_read(run: Run) -> list[str]:
    """The arms whose texts are read: all but random directions, and the first few of those."""
    names = [arm.name for arm in run.manifest.arms]
    drawn = [name for name in names if "-random-" in name]
    return [name for name in names if "-random-" not in name] + drawn[:READ_CONTROLS]


def damage(run: Run, model: LoadedModel) -> dict[str, dict[str, Any]]:
    """Of every arm of a run, as plain data: the fields of `Damage`."""
    rows = run.table(columns=["arm", "split", "item", "seed", "prompt_ids", "token_ids"]).to_pylist()
    base = run.manifest.baseline.name
    plain = {(r["split"], r["item"], r["seed"]): r["prompt_ids"] for r in rows if r["arm"] == base}
    written: dict[str, list[tuple[list[int], list[int]]]] = {}
    for row in rows:
        ids = [i for i in row["token_ids"] if i not in model.eos_ids]
        written.setdefault(row["arm"], []).append((plain[row["split"], row["item"], row["seed"]], ids))
    wanted = arms_read(run)
    texts = [(name, text) for name in wanted for text in written[name] if text[1]]
    read: dict[str, list[float]] = {}
    for (name, _), found in zip(texts, unsteered_logprob(model, [text for _, text in texts]), strict=True):
        read.setdefault(name, []).append(sum(found) / len(found))
    return {
        name: {
            "texts": len(own),
            "repeated": sum(repeated_share(ids) for _, ids in own) / len(own),
            "logprob": sum(read[name]) / len(read[name]) if name in read else None,
        }
        for name, own in written.items()
    }
