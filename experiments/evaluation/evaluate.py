"""Evaluation: arms on the same items with the same budget, stored row by row.

1. Everything is checked before the first forward pass: models, task, splits, forms, plans, prompt lengths.
2. Arms that share a model share batches, so conditions that are compared run in the same batch geometry.
3. Rows are stored in chunks whose content depends on the spec alone: an interrupted run that is started again redoes only what is not
   stored and ends with the same bytes.
4. An arm with a controller is a hybrid of its model and, where the controller needs one, a thinking model fed the same prompt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from steering.compile.origin import left_out, origins
from steering.engine.generation import Row
from steering.errors import BadInput
from steering.hybrid import Controller
from steering.model.models import LoadedModel
from steering.plan.plan import Plan
from steering.vector.features import Features
from steering.vector.vectors import SteeringVector

from ..store.runs import Manifest, Run, Store
from ..tasks.items import Item
from ..tasks.remarks import remarks
from ..tasks.task import resolve_task
from .executors import ChunkExecutor, in_process
from .hybrids import FOLDER as CONTROLLERS
from .hybrids import keep_controllers
from .loading import load
from .rows import Parts, Planned, check_chunk, chunks_of, models_of, rules_of, way_of
from .spec import EvalSpec


def run_evaluation(
    spec: EvalSpec,
    store: Store,
    vectors: Mapping[str, SteeringVector | Features] | None = None,
    controllers: Mapping[str, Controller] | None = None,
    *,
    models: dict[str, LoadedModel] | None = None,
    on_rows: Callable[[int, int], None] | None = None,
    executor: ChunkExecutor = in_process,
    strict: bool = False,
) -> Run:
    """Run or resume an evaluation; returns the run, sealed with its summary.

    `vectors` maps digests to vectors and features named by the arms' plans, `controllers` digests to the controllers that the arms name;
    `models` is a cache shared between calls; `strict` refuses vectors that are not known to come from the model of their arm, which the
    manifest's facts say otherwise (`origins`); `on_rows(done, total)` reports progress; `executor` says where chunks run.

    Raises BadInput before any forward pass. On KeyboardInterrupt the run is marked interrupted and keeps every stored chunk.
    """
    from .summarise import stored_summary, summarise
    from .summary import to_json

    models = {} if models is None else models
    vectors = vectors or {}
    rules = rules_of(spec, controllers or {})
    for name in models_of(spec):
        if name not in models:
            models[name] = load(name, spec.loading)
    parts = Parts(resolve_task(spec.task), models, vectors, rules)
    chunks = list(chunks_of(spec, parts))
    for chunk in chunks:
        check_chunk(chunk, spec, models)
    manifest = manifest_of(spec, parts, chunks)
    if strict and (found := manifest.facts.get("origins")):
        arm, said = next(iter(found.items()))
        raise BadInput(
            f"Arm {arm!r}: {said[0]} Take a vector of that arm's model, or leave strict out to run it all the same."
        )
    run = store.create(manifest)
    if vectors:
        with run.local("vectors") as place:
            for vector in vectors.values():
                if not (path := place / f"{vector.digest}.safetensors").exists():
                    vector.save(path)
    if rules:
        with run.local(CONTROLLERS) as place:
            keep_controllers(place, rules.values())
    stored = run.keys(drop_corrupt=True)
    missing = {n: left for n, chunk in enumerate(chunks) if (left := [p for p in chunk if p.key not in stored])}
    total = sum(map(len, chunks))
    done = total - sum(map(len, missing.values()))
    try:
        if missing:
            run.set_status("running")
        if on_rows is not None and done:
            on_rows(done, total)
        for number in executor(run, spec, parts, missing):
            done += len(missing[number])
            if on_rows is not None:
                on_rows(done, total)
        if stored_summary(run) is None:  # none, or by the methods of another version
            run.write_summary(json.loads(to_json(summarise(run.table(), run.manifest))))
            run.set_status("complete")
    except BaseException:
        with suppress(OSError):  # a disk without room for a few bytes: what failed first is what is said
            run.set_status("interrupted")
        raise
    return run


def latents_of(features: Features) -> dict[str, Any]:
    """Which latents they are, and of which autoencoder where that is known."""
    of = features.provenance.notes.get("autoencoder")
    return {"latents": list(features.latents)} | ({"autoencoder": of} if of else {})


def said_of_plans(
    chunks: Sequence[Sequence[Planned]], parts: Parts, say: Callable[[Plan, LoadedModel], Sequence[str]]
) -> dict[str, list[str]]:
    """By arm, what is to be said of its plan on its model: vectors of another model (`origins`), positions left out (`left_out`)."""
    plans = {p.arm.name: (p.row.plan, p.arm.model) for chunk in chunks for p in chunk if isinstance(p.row, Row)}
    found = {name: list(say(plan, parts.models[model])) for name, (plan, model) in plans.items()}
    return {name: said for name, said in found.items() if said}


def said_of_questions(chunks: Sequence[Sequence[Planned]], parts: Parts) -> list[str]:
    """What is to be said of the questions that are asked (`remarks`): repeated ones, and those that a model's tokenizer does not know."""
    items: dict[str, dict[str, Item]] = {}
    asked: dict[tuple[str, str], None] = {}
    for p in (p for chunk in chunks for p in chunk):
        items.setdefault(p.split, {})[p.item.id] = p.item
        asked[p.arm.model, p.arm.form] = None
        if (beside := way_of(p.arm).beside) is not None:
            asked[beside, (p.arm.controller or {}).get("thinking_form") or p.arm.form] = None
    if not items:
        return []
    fed = [(parts.models[model], form) for model, form in asked]
    return remarks(parts.task, {split: list(own.values()) for split, own in items.items()}, fed)


def manifest_of(spec: EvalSpec, parts: Parts, chunks: Sequence[Sequence[Planned]]) -> Manifest:
    """The manifest of the run that these chunks make; its id is the hash of their rows' keys."""
    import torch
    import transformers

    keys = hashlib.sha256("".join(p.key for chunk in chunks for p in chunk).encode()).hexdigest()
    used, models = models_of(spec), parts.models
    return Manifest(
        run_id=f"{spec.name}-{keys[:10]}",
        name=spec.name,
        status="running",
        spec=spec.model_dump(mode="json"),
        arms=list(spec.arms),
        splits=dict(spec.splits),
        seeds=len(spec.generation.seeds),
        facts={
            "models": {name: models[name].fingerprint for name in used},
            "tokenizers": {name: models[name].tokenizer_fingerprint for name in used},
            "vectors": {
                v.digest: {"name": v.name, "site": v.site.name}
                | ({"norm": round(v.norm, 4)} if isinstance(v, SteeringVector) else latents_of(v))
                for v in parts.vectors.values()
            },
            **({"origins": foreign} if (foreign := said_of_plans(chunks, parts, origins)) else {}),
            **({"questions": said} if (said := said_of_questions(chunks, parts)) else {}),
            **({"sinks": skipped} if (skipped := said_of_plans(chunks, parts, left_out)) else {}),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    )
