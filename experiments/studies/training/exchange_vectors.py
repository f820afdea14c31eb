"""Vectors of behaviours, read from two models on the same texts: those of the thinking model.

A behaviour's vector is the mean over a window before its spans minus the mean over whole texts, at the norm of the latter (2506.18167).
"""

from __future__ import annotations

import numpy as np
import torch

from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.extraction.labels import LabelledSpan, LabelledTrace, label_means, label_vectors
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector

from ...pair.problem import Problem
from ...pair.verifier import verify
from ...tasks.items import Item
from ...tasks.task import asked_ids
from ..asking import Asking
from ..elicitation.findings import Table
from ..elicitation.workroom import Workroom
from ..task_texts import answered

FEWEST = 10
"""Spans of a behaviour in each half of the texts."""


def behaviour_vectors(
    room: Workroom, items: list[Item], site: Site, behaviours: tuple[str, ...], window: tuple[int, int]
) -> tuple[dict[tuple[str, str], SteeringVector], Table, list[str]]:
    """Vectors by behaviour and source (`base`, `thinking`), a table of their cosines, and what is said of them. `window`: tokens before a
    span that are read, and of it at most.

    Raises BadInput for a behaviour that the texts hold too rarely, and for a pair of two tokenizers.
    """
    task, thinking = room.asked.found, room.model(str(room.asked.thinking))
    if thinking.tokenizer_fingerprint != room.base.tokenizer_fingerprint:
        raise BadInput(
            f"card exchange: {thinking.id} has another tokenizer than {room.base.id}, so that the base cannot read its texts token by "
            f"token."
        )
    rows = [Row(tuple(asked_ids(task, thinking, item, room.asked.think)), seed=n) for n, item in enumerate(items)]
    settings = GenerationSettings(room.asked.max_new_tokens, temperature=1.0)
    texts = generate(thinking, rows, settings, batch_size=96, detail="tokens")
    traces = [
        trace
        for item, text in zip(items, texts, strict=True)
        if (trace := labelled(room, item, text, behaviours)).spans
    ]
    halves = [traces[::2], traces[1::2]]
    vectors: dict[tuple[str, str], SteeringVector] = {}
    parts: dict[tuple[str, str], list[torch.Tensor]] = {}
    for source, model in (("base", room.base), ("thinking", thinking)):
        for half in (traces, *halves):
            means = label_means(model, half, [site], before=window[0], after=window[1])
            for behaviour in behaviours:
                count = means.counts.get(behaviour, 0)
                if count < FEWEST:
                    raise BadInput(
                        f"card exchange: {len(half)} texts hold {count} spans of {behaviour}, fewer than {FEWEST}; read more "
                        f"(--set texts={2 * len(items)}) or leave it out of behaviours."
                    )
            made = label_vectors(model, means)
            for behaviour in behaviours:
                key = (behaviour, source)
                if half is traces:
                    vectors[key] = made[behaviour][site]
                else:
                    parts.setdefault(key, []).append(made[behaviour][site].direction)
    lines, said = [], []
    for behaviour in behaviours:
        one, other = parts[behaviour, "base"], parts[behaviour, "thinking"]
        across = float(np.mean([_cosine(one[0], other[1]), _cosine(one[1], other[0])]))
        count = int(vectors[behaviour, "base"].provenance.counts[0])
        lines.append((behaviour, f"{across:+.2f}", f"{_cosine(*one):+.2f}", f"{_cosine(*other):+.2f}", count))
        said.append(
            f"{behaviour}: the vectors of the two models have a cosine of {across:+.2f} across halves of the texts (ceilings "
            f"{_cosine(*one):+.2f} and {_cosine(*other):+.2f}) at {site}."
        )
    return (
        vectors,
        Table(
            title=f"Cosines of a behaviour's vectors at {site}, of one half of the texts with the other",
            heads=("behaviour", "base with thinking model", "base with itself", "thinking model with itself", "spans"),
            lines=tuple(lines),
        ),
        said,
    )


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.cosine_similarity(one.double(), other.double(), 0))


def labelled(room: Workroom, item: Item, text: Generation, behaviours: tuple[str, ...]) -> LabelledTrace:
    """A text with its spans of the behaviours: exact on the built-in task, else by the lexicon."""
    start, model = len(text.prompt_ids), room.model(str(room.asked.thinking))
    ids = tuple(token for token in text.token_ids if token not in model.eos_ids)
    if isinstance(item.data, Problem) and room.asked.builtin:
        found = [
            (s.start, s.end, s.label)
            for s in verify(item.data, model.tokenizer.convert_ids_to_tokens(list(ids))).labels
        ]
    else:
        asking = Asking(task=room.asked.task, direct=room.asked.settings[0].form, reasoning=room.asked.think)
        found = [(s.start, s.end, s.label) for s in answered(model, asking, item, text).labels]
    spans = tuple(LabelledSpan(start + a, start + b, name) for a, b, name in found if name in behaviours)
    return LabelledTrace((*text.prompt_ids, *ids), spans)
