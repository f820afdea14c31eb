"""What becomes of questions that are cut: how their rests are completed, and whether a part of one is answered.

1. Completions are greedy, of the part as it stands, as many tokens as the rest takes; what a model made once is read again.
2. A question whose rest is longer than what is asked for, or which does not fit into the context, is left out and counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel
from steering.model.prompts import as_data, encode_prompt

from ...pair.problem import FORM_SUFFIX
from ...statistics import Floats
from ...tasks.findstart import FindStart
from ...tasks.formed import Formed
from ...tasks.graders.grade import Known
from ...tasks.items import Item
from ...tasks.prompting import encode_form
from ...tasks.task import Task
from .asked import Elicit, Setting
from .prefixes import Cut, cuts, exact, rouge_l
from .steps import BATCH, decoded
from .workroom import Workroom


@dataclass(frozen=True)
class Asked:
    """Questions that are completed; `items` have their answers, None where there is none."""

    name: str
    texts: tuple[str, ...]
    keys: tuple[int, ...]
    """Which question of the split each belongs to, for pairs; of fresh ones their own number."""
    items: tuple[Item, ...] | None


@dataclass(frozen=True, eq=False)
class Completed:
    """What became of one group at one share: of the questions that were read, by `keys`."""

    keys: tuple[int, ...]
    exact: Floats
    rouge: Floats
    right: Floats | None
    left_out: int


def completed(
    room: Workroom, setting: Setting, model: LoadedModel, name: str, group: Asked, share: float, longest: int
) -> Completed:  # fmt: skip
    """A group's completions at a share, and its answers where it has right ones; made once."""
    facts = {
        "model": name, "share": share, "longest": longest, "form": setting.form,
        "texts": hashlib.sha256(repr((group.texts, [item.gold for item in group.items or ()])).encode()).hexdigest()[:16],
    }  # fmt: skip

    def make() -> dict[str, list[object]]:
        held = cuts(group.texts, share)
        texts: list[object] = list(completions(model, held, longest))
        right: list[object] = []
        if group.items is not None:
            right += answered(model, room.asked, setting, group.items, held)
        return {"texts": texts, "right": right}

    made = room.part("contamination", facts, make)
    held = cuts(group.texts, share)
    kept = [n for n, text in enumerate(made["texts"]) if text is not None]
    pairs = [(own.rest, made["texts"][n]) for n in kept if (own := held[n]) is not None]
    right = [value for value in made["right"] if value is not None]
    return Completed(
        tuple(group.keys[n] for n in kept),
        np.array([float(exact(*pair)) for pair in pairs]),
        np.array([rouge_l(*pair) for pair in pairs]),
        np.array(right, dtype=float) if right else None,
        len(group.texts) - len(kept),
    )


def completions(model: LoadedModel, held: Sequence[Cut | None], longest: int) -> list[str | None]:
    """The greedy completion of every prefix; None of one that is not read: no cut, a rest that is too long, or too long for the context."""
    rows: dict[int, tuple[Row, int]] = {}
    for place, own in enumerate(held):
        if own is None:
            continue
        ids = encode_prompt(model, as_data(model, own.prefix))
        needed = len(encode_prompt(model, as_data(model, own.prefix + own.rest))) - len(ids) + 2
        if 1 <= needed <= longest + 2 and len(ids) + needed <= model.context:
            rows[place] = Row(ids), needed
    found: list[str | None] = [None] * len(held)
    for tokens in sorted({needed for _, needed in rows.values()}):
        own_rows = {place: row for place, (row, needed) in rows.items() if needed == tokens}
        written = generate(
            model, list(own_rows.values()), GenerationSettings(tokens), batch_size=BATCH, detail="tokens"
        )
        for place, one in zip(own_rows, written, strict=True):
            found[place] = joined(model, own_rows[place].prompt_ids, one.token_ids)
    return found


def joined(model: LoadedModel, prompt: Sequence[int], ids: Sequence[int]) -> str:
    """What the text gains by the ids behind a prompt: a word that goes on from the prompt's last one is told from a new one."""
    before, after = decoded(model, prompt), decoded(model, (*prompt, *ids))
    return after[len(before) :] if after.startswith(before) else decoded(model, ids)


def answered(
    model: LoadedModel, asked: Elicit, setting: Setting, items: Sequence[Item], held: Sequence[Cut | None]
) -> list[bool | None]:
    """Whether the answer to a part of each question, asked in the setting's form, is the whole question's; None where it does not fit."""
    rows: dict[int, Row] = {}
    for place, own in enumerate(held):
        if own is not None:
            ids = _asked(asked.found, model, own.prefix, setting.form)
            if len(ids) + asked.max_new_tokens <= model.context:
                rows[place] = Row(ids)
    found: list[bool | None] = [None] * len(held)
    settings = GenerationSettings(asked.max_new_tokens)
    written = generate(model, list(rows.values()), settings, batch_size=BATCH, detail="tokens") if rows else []
    for place, one in zip(rows, written, strict=True):
        found[place] = bool(asked.found.grade(items[place], decoded(model, one.token_ids), Known(one.finish)).correct)
    return found


def _asked(task: Task, model: LoadedModel, prefix: str, form: str) -> tuple[int, ...]:
    if isinstance(task, FindStart):
        return encode_prompt(model, f"{prefix} {FORM_SUFFIX[form]}")
    assert isinstance(task, Formed)
    return encode_form(model, task.asked[form], prefix)
