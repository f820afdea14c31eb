"""What compression is compared with: a direction of the model's own short texts, and texts that are cut at equal tokens.

1. The length direction is the mean over questions of h(short) - h(long) at the last token of question and text (2507.04742, section 3),
   where short and long are the shortest and the longest of a model's own samples of a question that ended. Published pairs are written by
   another model; these are not.
2. A cut text ends where its last step within a budget ends, and its answer is forced there by a cue. The budget is the largest one at
   which texts cost no more tokens, the cue's included, than those that they are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steering.errors import BadInput
from steering.extraction import Reading, paired_difference
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import SteeringVector

from ...statistics import Floats
from ...store.runs import Run
from .asked import Elicit, Setting
from .stated import Reflected
from .workroom import Workroom

MIN_PAIRS = 4
"""Questions below which no direction is made."""


@dataclass(frozen=True, eq=False)
class Shortened:
    """The direction, or why there is none."""

    vector: SteeringVector | None
    said: str


def development(asked: Elicit, setting: Setting, given: str | None) -> str | None:
    """A split beside the one that is graded; None where the task has none. Raises BadInput for a name that it does not have."""
    known = asked.found.splits
    if given is not None and (given not in known or given == setting.split):
        others = ", ".join(name for name in known if name != setting.split)
        raise BadInput(
            f"card compression: dev is {given!r}, no other split of the task; name another one: {others or 'it has none'}."
        )
    guesses = [given] if given else [setting.split.replace("test", "dev"), "dev", "validation", "train"]
    return next((name for name in guesses if name in known and name != setting.split), None)


def length_direction(
    room: Workroom, setting: Setting, split: str | None, n: int, samples: int, temperature: float, layer: int | None
) -> Shortened:
    """Short minus long at the output of a layer, from sampled texts of `n` development questions, asked to think first."""
    if split is None:
        return Shortened(None, "the task has no split beside the one that is graded, so no length direction is made.")
    other = setting.model_copy(update={"split": split})
    arm = room.arm(other, "texts", "base, asked to think first", "baseline", form=room.asked.think)
    found = room.evaluate(
        "compression-texts", other, [arm], n, what="texts to read", temperature=temperature, seeds=tuple(range(samples))
    )
    pairs = ends_of(found, room)
    if len(pairs) < MIN_PAIRS:
        return Shortened(
            None,
            f"{len(pairs)} of {n} development questions have two ended texts of different length, fewer than {MIN_PAIRS}: no length "
            "direction is made.",
        )
    site = Site(max(0, round(room.base.n_layers * 20 / 28) - 1) if layer is None else layer)
    short, long = (
        Reading(tuple(pair[side] for pair in pairs), tuple((len(pair[side]) - 1,) for pair in pairs)) for side in (0, 1)
    )
    vector = paired_difference(
        room.base, short, long, [site], name="short minus long", contrast="shortest minus longest of a question's own texts"
    )[site]  # fmt: skip
    agreement = float(str(vector.provenance.notes["agreement"]))
    return Shortened(
        vector,
        f"the length direction is read at {site} from {len(pairs)} pairs of texts (mean cosine of a pair with it {agreement:.2f}).",
    )


def along(vector: SteeringVector, dose: float) -> Plan:
    """Add the vector at every generated token, `dose` in units of the activation's norm."""
    return Plan((Intervention("add", vector, Span("generated"), Dose(dose, "residual")),))


def ends_of(found: Run, room: Workroom) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Per question the shortest and the longest ended text, each with its prompt and without its end token."""
    texts: dict[str, list[tuple[int, ...]]] = {}
    for row in found.table(columns=["item", "prompt_ids", "token_ids", "finish"]).to_pylist():
        ids = tuple(token for token in row["token_ids"] if token not in room.base.eos_ids)
        if row["finish"] == "eos" and ids:
            texts.setdefault(row["item"], []).append((*row["prompt_ids"], *ids))
    return [
        (min(own, key=len), max(own, key=len))
        for _, own in sorted(texts.items())
        if len(min(own, key=len)) < len(max(own, key=len))
    ]


def cut_at(texts: Sequence[Reflected], budget: int, cue: int) -> list[tuple[int, int]]:
    """Per text the number of its steps that are kept within `budget` tokens, and what it costs with the cue; -1 of a text kept whole."""
    found = []
    for text in texts:
        if text.tokens <= budget:
            found.append((-1, text.tokens))
            continue
        kept = sum(end + cue <= budget for end in text.ends)
        found.append((kept, (0, *text.ends)[kept] + cue))
    return found


def cut_to(
    texts: Sequence[Reflected], right: Sequence[Sequence[bool]], tokens: float, cue: int
) -> tuple[Floats, float]:
    """Whether each text, cut so that all cost at most `tokens` on average, is right, and what they cost; `right` holds per text the
    forced answers before its first step and after each one. A budget of nothing forces the answer before the first step."""
    best = cut_at(texts, 0, cue)
    for budget in sorted({text.tokens for text in texts} | {end + cue for text in texts for end in text.ends}):
        cut = cut_at(texts, budget, cue)
        if np.mean([cost for _, cost in cut]) > tokens:
            break
        best = cut
    held = [text.right if kept < 0 else own[kept] for (kept, _), text, own in zip(best, texts, right, strict=True)]
    return np.array(held, dtype=float), float(np.mean([cost for _, cost in best]))
