"""A scale on which a model states how sure it is: a cue behind its text, and single tokens that answer it.

In the built-in task the cue is `maybe` and the levels are the numbers 5, 15 ... 95; elsewhere the cue is a line that names the scale, and
the levels are the digits 0 to 9, which stand for 0.05 to 0.95.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steering.engine.predicted import next_logprobs
from steering.engine.record import Row
from steering.errors import BadInput
from steering.model.models import LoadedModel

from ...decoders.paths import cue_ids
from ...statistics import Floats
from ...tasks.findstart import FindStart
from ...tasks.task import Task

SURE = tuple((2 * n + 1) / 20 for n in range(10))
"""What the levels stand for."""


@dataclass(frozen=True)
class Scale:
    """The cue, and one token per level."""

    cue_ids: tuple[int, ...]
    level_ids: tuple[int, ...]

    def value(self, token: int) -> float | None:
        """What a token says, None off the scale."""
        return SURE[self.level_ids.index(token)] if token in self.level_ids else None

    def stated(self, model: LoadedModel, texts: list[tuple[int, ...]]) -> tuple[Floats, Floats]:
        """Behind each text (all ids that are read): the probability of every level among the levels `[texts, levels]`, and what lies on the
        scale at all `[texts]`."""
        read = next_logprobs(model, [Row((*ids, *self.cue_ids)) for ids in texts]).double().exp().numpy()
        own = read[:, list(self.level_ids)]
        whole = own.sum(1)
        return np.asarray(own / whole[:, None]), np.asarray(whole)


def scale_of(model: LoadedModel, task: Task) -> Scale:
    """The scale in the words of a task. Raises BadInput for a tokenizer in which a level is no token of its own."""
    builtin = isinstance(task, FindStart)
    cue = "maybe" if builtin else "\nConfidence from 0 to 9:"
    names = [f"{100 * level:.0f}" if builtin else f" {n}" for n, level in enumerate(SURE)]
    try:
        asked = cue_ids(model, cue)
    except BadInput as error:
        raise BadInput(
            f"{model.id} does not know the words {cue!r}, behind which a confidence is asked for; give a model whose "
            f"tokenizer reads English."
        ) from error
    levels = []
    for name in names:
        whole = tuple(model.tokenizer(cue + (" " if builtin else "") + name, add_special_tokens=False)["input_ids"])
        if whole[: len(asked)] != asked or len(whole) != len(asked) + 1:
            own = tuple(model.tokenizer(name.strip(), add_special_tokens=False)["input_ids"])
            if len(own) != 1:
                raise BadInput(
                    f"{model.id} has no single token for {name.strip()!r}, a level of the scale of confidence."
                )
            whole = (*asked, *own)
        levels.append(whole[-1])
    if len(set(levels)) < len(levels):
        raise BadInput(f"{model.id} reads two levels of the scale of confidence as one token.")
    return Scale(asked, tuple(levels))
