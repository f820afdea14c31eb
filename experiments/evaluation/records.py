"""Rows as they are generated, graded and stored.

1. The rows of a chunk run in one call; arms whose decoders make their candidates in the same way share them.
2. A row is graded by its task, from its text and from what is known beside it: how it ended, how its thinking is marked.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from probes.labels import in_tokens
from steering.compile.text import character_places
from steering.engine.generation import Generation, Row, generate
from steering.engine.predicted import with_every_number
from steering.engine.sampling import GenerationSettings
from steering.hybrid import decode
from steering.hybrid.row import HybridGeneration
from steering.model.models import LoadedModel
from steering.model.prompts import token_texts
from steering.model.thinking import leaves_open, model_markers

from ..decoders.candidates import Answered, Asked, Decoded, decoded
from ..decoders.named import decoder_named
from ..tasks.agreement import same_answer
from ..tasks.graders.grade import Grade, Known, unscorable
from ..tasks.task import Labels, Task
from .rows import Parts, Planned, way_of

if TYPE_CHECKING:
    from .spec import EvalSpec


def chunk_records(chunk: Sequence[Planned], spec: EvalSpec, parts: Parts) -> list[dict[str, Any]]:
    """Generate and grade the rows of a chunk; as they are stored."""
    way, settings, model = way_of(chunk[0].arm), spec.generation.settings(), parts.models[chunk[0].arm.model]
    rows: Any = [planned.row for planned in chunk]
    batch = min(len(rows), spec.rows_per_batch or len(rows))
    generations: Sequence[Generation]
    if way.hybrid:
        beside = parts.models[way.beside] if way.beside else None
        generations = decode(model, beside, rows, settings, batch_size=batch)
    elif way.work is not None:
        generations = decoded_rows(model, parts.task, chunk, settings, batch)
    else:
        generations = generate(model, rows, settings, batch_size=batch, invariant=spec.batch_invariant)
        if any(planned.arm.begun for planned in chunk):
            generations = with_every_number(model, rows, generations)
    return [record(model, parts.task, p, g) for p, g in zip(chunk, generations, strict=True)]


def decoded_rows(
    model: LoadedModel, task: Task, chunk: Sequence[Planned], settings: GenerationSettings, batch: int
) -> list[Decoded]:
    """The rows of arms whose decoders make their candidates in the same way: made once per question, chosen from by each arm."""
    askings: dict[str, Asked] = {}
    for planned in chunk:
        askings.setdefault(_asking(planned), _asked(model, task, planned))
    decoder = decoder_named(chunk[0].arm.decoder or {})
    found = dict(
        zip(askings, decoder.candidates(model, list(askings.values()), settings, batch_size=batch), strict=True)
    )
    rows = []
    for planned in chunk:
        asking = _asking(planned)
        own = decoder_named(planned.arm.decoder or {})
        chosen, scores = own.choose(found[asking], askings[asking])
        rows.append(decoded(found[asking], chosen, scores, own.spent(found[asking])))
    asked = [Row(one.prompt_ids, one.plan) for one in (askings[_asking(planned)] for planned in chunk)]
    return with_every_number(model, asked, rows)  # type: ignore[return-value]


def _asking(planned: Planned) -> str:
    """What the candidates of a row depend on beside the way of its chunk."""
    assert isinstance(planned.row, Row)
    return json.dumps([planned.item.id, planned.row.prompt_ids, planned.row.plan.digest, planned.seed])


def _asked(model: LoadedModel, task: Task, planned: Planned) -> Asked:
    row = planned.row
    assert isinstance(row, Row)
    compared: dict[tuple[str, str], bool] = {}

    def answered(generation: Generation) -> Answered:
        text, grade = graded(model, task, planned, generation)
        return Answered(text, grade.answer, grade.correct)

    def same(one: str, other: str) -> bool:
        if (one, other) not in compared:
            compared[one, other] = same_answer(task, planned.item, one, other)
        return compared[one, other]

    return Asked(row.prompt_ids, row.plan, row.seed, answered, same)


def known_of(model: LoadedModel, planned: Planned, finish: str | None) -> Known:
    """What is known of a row beside its text: how it ended, and the markers of its model's thinking segment."""
    markers = model_markers(model)
    data = planned.item.data
    question = str((data.get("question") if isinstance(data, Mapping) else getattr(data, "question", None)) or "")
    prompt = planned.prompt.removesuffix(planned.arm.opening)
    return Known(finish, leaves_open(prompt, question, markers), markers)


def behaviours(model: LoadedModel, task: Task, body: Sequence[int]) -> list[dict[str, Any]]:
    """Labels of a response by the task's labeller, over its tokens; none where the task has nobody who labels."""
    if not isinstance(task, Labels) or task.labeller is None:
        return []
    text, places = character_places(model, body)
    return [
        {"label": s.label, "start": s.start, "end": s.end, "detector": s.detector, "confidence": s.confidence}
        for s in in_tokens(task.labeller.label(text), places)
    ]


def own_ids(model: LoadedModel, generation: Generation) -> list[int]:
    """The ids of a response without those that end it."""
    return [token for token in generation.token_ids if token not in model.eos_ids]


def graded(model: LoadedModel, task: Task, planned: Planned, generation: Generation) -> tuple[str, Grade]:
    """A response as text, and its grade; one whose numbers broke is not graded, as what the model had written is not its answer."""
    text = model.tokenizer.decode(own_ids(model, generation))
    if generation.finish == "nonfinite":
        return text, unscorable("", None, "the model's numbers became NaN or infinite")
    opening = planned.arm.opening
    known = known_of(model, planned, generation.finish)
    return text, task.grade(planned.item, f"{opening.strip()} {text}" if opening else text, known)


def record(model: LoadedModel, task: Task, planned: Planned, generation: Generation) -> dict[str, Any]:
    """One row as it is stored: graded, with its tokens as text."""
    ids, opening = list(generation.token_ids), planned.arm.opening
    text, grade = graded(model, task, planned, generation)
    if generation.finish == "nonfinite":
        logging.getLogger(__name__).warning(
            "Arm %s, item %s, seed %s is not graded: %s.",
            planned.arm.name, planned.item.id, planned.seed, generation.nonfinite,
        )  # fmt: skip
    given = len(opening.split())
    tokens = token_texts(model, ids)
    receipt = generation.receipt
    return {
        "key": planned.key,
        "arm": planned.arm.name,
        "split": planned.split,
        "item": planned.item.id,
        "order": planned.order,
        "seed": planned.seed,
        "prompt": planned.prompt,
        "gold": planned.item.gold,
        "text": text,
        "answer": grade.answer,
        "correct": grade.correct,
        "scorable": grade.scorable,
        "truncated": generation.finish == "length",
        "trace_ok": grade.trace_ok,
        "well_formed": grade.well_formed,
        "finish": generation.finish,
        "prompt_ids": list(generation.prompt_ids),
        "token_ids": ids,
        "prompt_tokens": token_texts(model, generation.prompt_ids),
        "tokens": tokens,
        "logprob": list(generation.logprob),
        "entropy": list(generation.entropy),
        "top_ids": list(generation.top_ids),
        "top_tokens": token_texts(model, generation.top_ids),
        "top_logprob": list(generation.top_logprob),
        "edit_ratio": list(receipt.ratio),
        "edits_planned": receipt.planned,
        "edits_fired": receipt.fired,
        "labels": [
            {
                "label": s.label,
                "start": max(0, s.start - given),
                "end": s.end - given,
                "detector": grade.detector,
                "confidence": 1.0,
            }
            for s in grade.labels
            if s.end > given
        ]
        or behaviours(model, task, own_ids(model, generation)),
        "choices": [vars(choice) for choice in generation.choices]
        if isinstance(generation, HybridGeneration)
        else None,
        "unclosed": grade.unclosed,
        "lenient": grade.lenient,
        "spent": generation.spent if isinstance(generation, Decoded) else None,
        "candidates": list(generation.candidates) if isinstance(generation, Decoded) else None,
    }
