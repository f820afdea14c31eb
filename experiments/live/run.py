"""A live generation: rows planned, generated, graded and recorded as those of an evaluation, told token by token.

1. The rows are those that `steer eval` makes from the same spec: same keys, same batch geometry, same records.
2. Events, in order: `state` (a model is loaded, checks run), `lanes` (what is generated, with prompts), `token` (one per lane and token,
   those that the text begins with first), `end` (a lane's verdict and edits), `outcomes` (where lanes are drawn several times),
   `receipt`, `result` (manifest and rows, for the store).
3. What a model does not know of the prompt is told with `lanes`, before a token, and again with the receipt.
4. Cancelled at any token, the lanes end as they are and are told so; nothing is lost.
5. The receipt also replays the unsteered text alone, after the steered one (`_replay`), and counts the hooks that are left in the model.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from steering.engine.generation import Finished, Generation, Step, check_invariant, generate, stream
from steering.engine.predicted import greedily_written, with_every_number
from steering.engine.repetition import loop_of
from steering.errors import BadInput, Cancelled, NeverFired
from steering.model.models import LoadedModel
from steering.model.prompts import token_texts, unknown_in
from steering.vector.features import Features, load_stored
from steering.vector.vectors import SteeringVector

from ..evaluation.evaluate import manifest_of
from ..evaluation.executors import is_small
from ..evaluation.loading import load
from ..evaluation.records import record
from ..evaluation.rows import Parts, Planned, check_chunk, chunks_of, models_of
from ..evaluation.spec import EvalSpec
from ..tasks.task import resolve_task
from .outcomes import outcomes
from .receipt import receipt_of
from .request import STEERED, UNSTEERED, LiveRequest

Event = dict[str, Any]
Cancel = Callable[[], bool]


class Engine:
    """Owns the models. They are loaded when a request names them, kept, and let go when memory is asked for."""

    def __init__(self) -> None:
        self.models: dict[str, LoadedModel] = {}
        self._threads, self._shared = torch.get_num_threads(), False

    def loaded(self) -> list[str]:
        """Ids of the models in memory."""
        return list(self.models)

    def beside(self, other: bool) -> None:
        """Whether other work shares the machine during the next run. A thread that waits for one which has lost its core waits long, at
        every product: half the threads are then faster than all."""
        self._shared = other

    def unload(self) -> None:
        """Let all models go."""
        self.models.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def run(self, request: Mapping[str, Any], cancel: Cancel) -> Iterator[Event]:
        """The events of one request (`LiveRequest` as a mapping). Raises BadInput and ValidationError before any token."""
        asked = LiveRequest.model_validate(request)
        vectors = _vectors(asked)
        spec = EvalSpec.model_validate(asked.spec())
        for name in models_of(spec):
            if name not in self.models:
                yield {"kind": "state", "state": "loading", "detail": name}
                self.models[name] = load(name, spec.loading)
        small = all(is_small(self.models[name]) for name in models_of(spec))
        torch.set_num_threads(1 if small else max(1, self._threads // 2) if self._shared else self._threads)
        parts = Parts(resolve_task(spec.task), self.models, vectors, {})
        chunks = list(chunks_of(spec, parts))
        for chunk in chunks:
            check_chunk(chunk, spec, self.models)
        _check_vocabulary(asked, self.models)
        yield from _Live(spec, parts, chunks, cancel, asked).events()


def _vectors(asked: LiveRequest) -> dict[str, SteeringVector | Features]:
    found: dict[str, SteeringVector | Features] = {}
    for digest in asked.vectors:
        vector = load_stored(asked.files[digest])
        if vector.digest != digest:
            raise BadInput(f"{asked.files[digest]} has changed: it now holds vector {vector.digest}, not {digest}.")
        found[digest] = vector
    return found


def _check_vocabulary(asked: LiveRequest, models: Mapping[str, LoadedModel]) -> None:
    """Raises BadInput where tokens that the text begins with are not the same text to the model beside."""
    if asked.begun and asked.thinking:
        own, beside = models[asked.model], models[asked.thinking]
        if own.tokenizer_fingerprint != beside.tokenizer_fingerprint:
            raise BadInput(
                f"The text begins with tokens of {asked.model}; {asked.thinking} has another tokenizer. Leave the model beside out."
            )


class _Live:
    """One request under way."""

    def __init__(self, spec: EvalSpec, parts: Parts, chunks: list[list[Planned]], cancel: Cancel, asked: LiveRequest):
        self.spec, self.parts, self.chunks, self.cancel = spec, parts, chunks, cancel
        self.settings = spec.generation.settings()
        self.lanes = [planned for chunk in chunks for planned in chunk]
        self.asked = asked
        self.rows: dict[str, dict[str, Any]] = {}
        self.generations: dict[str, Generation] = {}
        self.stopped = False
        unknown = [(name, unknown_in(parts.models[name], text)) for name in models_of(spec) for text in asked.texts]
        self.warnings = list(dict.fromkeys(found.sentence(name) for name, found in unknown if found))
        self.trouble: str | None = None

    def model(self, planned: Planned) -> LoadedModel:
        return self.parts.models[planned.arm.model]

    def invariant(self, model: LoadedModel) -> bool:
        """Whether lanes are compared to the last bit: in half precision, where that holds on this machine."""
        if model.dtype == torch.float32 or model.executor is not None:
            return False
        try:
            check_invariant(model)
        except BadInput:
            return False
        return True

    def events(self) -> Iterator[Event]:
        hooks = {name: _hooks(self.parts.models[name]) for name in models_of(self.spec)}
        yield {
            "kind": "lanes",
            "lanes": [self._lane(planned) for planned in self.lanes],
            "gold": self.lanes[0].item.gold,
            "warnings": self.warnings,
        }
        for lane, planned in enumerate(self.lanes):
            yield from _begun(self.model(planned), self.asked.begun, lane)
        for chunk in self.chunks:
            if not self.stopped:
                yield from self._chunk(chunk)
        if self.asked.samples > 1 and self.rows:
            yield {"kind": "outcomes", "lanes": self._outcomes()}
        replay = "not checked"
        steered = [p for p in self.lanes if p.arm.name == STEERED and p.key in self.generations]
        if steered and not self.stopped:
            yield {"kind": "state", "state": "running", "detail": "replaying the unsteered text"}
            replay = self._replay()
        left = sum(_hooks(self.parts.models[name]) - count for name, count in hooks.items())
        made = [self.generations[planned.key] for planned in steered]
        sites = [site for p in steered[:1] for edit in p.row.plan.interventions for site in edit.sites]  # type: ignore[union-attr]
        receipt = receipt_of(made, sites, replay, left, self.trouble, self.stopped)
        yield {"kind": "receipt", **receipt, "warnings": [*self.warnings, *receipt.get("warnings", []), *self._loops()]}
        manifest = manifest_of(self.spec, self.parts, self.chunks).model_dump(mode="json")
        yield {"kind": "result", "manifest": manifest, "rows": list(self.rows.values())}

    def _lane(self, planned: Planned) -> Event:
        return {
            "name": planned.arm.name,
            "label": planned.arm.label + (f" · draw {planned.seed}" if self.asked.samples > 1 else ""),
            "role": planned.arm.role,
            "model": planned.arm.model,
            "prompt": token_texts(self.model(planned), planned.row.prompt_ids),  # type: ignore[union-attr]
        }

    def _chunk(self, chunk: list[Planned]) -> Iterator[Event]:
        model, first = self.model(chunk[0]), self.lanes.index(chunk[0])
        rows: Any = [planned.row for planned in chunk]
        begun = time.perf_counter()

        def cancelled() -> bool:
            self.stopped = self.stopped or self.cancel()
            return self.stopped

        try:
            alike = self.invariant(model)
            for event in stream(model, rows, self.settings, cancel=cancelled, silent_ok=True, invariant=alike):
                if isinstance(event, Finished):
                    yield self._end(chunk[event.row], first + event.row, event.generation, begun)
                else:
                    yield from _tokens(model, event, first, self.asked.samples == 1)
        except NeverFired as error:
            self.trouble = str(error)
            silent = [place for place, planned in enumerate(chunk) if planned.arm.name == STEERED]
            for index, generation in zip(silent, error.generations, strict=False):
                yield self._end(chunk[index], first + index, generation, begun)

    def _end(self, planned: Planned, lane: int, generation: Generation, begun: float) -> Event:
        model = self.model(planned)
        if self.asked.begun:
            (generation,) = with_every_number(model, [planned.row], [generation])  # type: ignore[list-item]
        row = record(model, self.parts.task, planned, generation)
        self.rows[planned.key], self.generations[planned.key] = row, generation
        seconds = time.perf_counter() - begun
        facts = ("text", "answer", "correct", "scorable", "finish", "trace_ok", "well_formed", "gold")
        return {
            "kind": "end",
            "lane": lane,
            **{key: row[key] for key in facts},
            "tokens": len(generation.token_ids),
            "seconds": seconds,
            "edit": [round(size, 5) for size in generation.receipt.ratio],
            "planned": generation.receipt.planned,
            "fired": generation.receipt.fired,
            "broken": None if generation.nonfinite is None else str(generation.nonfinite),
        }

    def _replay(self) -> str:
        """Whether the unsteered text, alone, is the same token for token: a greedy one is read, in one pass, and written again where a
        token is not the likeliest in that reading (near ties turn over); any other is written again."""
        planned = next(p for p in self.lanes if p.arm.name == UNSTEERED)
        first, greedy = self.generations[planned.key], not self.settings.temperature and not self.settings.processors
        if greedy and greedily_written(self.model(planned), planned.row, first.token_ids):  # type: ignore[arg-type]
            return "identical"
        try:
            (again,) = generate(
                self.model(planned), [planned.row], self.settings, detail="tokens", cancel=self.cancel,  # type: ignore[list-item]
                invariant=self.invariant(self.model(planned)),
            )  # fmt: skip
        except Cancelled:
            self.stopped = True
            return "not checked"
        if again.token_ids == first.token_ids:
            return "identical"
        exact = self.model(planned).dtype == torch.float32 or self.invariant(self.model(planned))
        return "differs" if exact else "differs in low bits"

    def _outcomes(self) -> list[dict[str, Any]]:
        """Per arm, what its texts came to."""
        found: dict[str, list[dict[str, Any]]] = {}
        for planned in self.lanes:
            if planned.key in self.rows:
                found.setdefault(planned.arm.name, []).append(self.rows[planned.key])
        return [
            {"name": name, "label": arm.label, "role": arm.role, **outcomes(found[name], len(self.asked.begun))}
            for arm in self.spec.arms
            if (name := arm.name) in found
        ]

    def _loops(self) -> list[str]:
        """A sentence per text that ends in a loop; of lanes that are drawn several times, per lane."""
        said, counts = [], dict.fromkeys((planned.arm.label for planned in self.lanes), 0)
        for planned in self.lanes:
            own = self.generations.get(planned.key)
            found = None if own is None else loop_of(own.token_ids, self.model(planned).eos_ids)
            if found is not None:
                counts[planned.arm.label] += 1
                said.append(f"The text of lane {planned.arm.label} {found.sentence}.")
        if (n := self.asked.samples) > 1:
            return [f"{count} of {n} texts of lane {label} end in a loop." for label, count in counts.items() if count]
        return said


def _begun(model: LoadedModel, begun: Sequence[int], lane: int) -> Iterator[Event]:
    """The tokens that a text begins with, which have no numbers yet."""
    numbers = {"logprob": None, "entropy": None, "edit": 0}
    for token, text in zip(begun, token_texts(model, begun), strict=True):
        yield {"kind": "token", "lane": lane, "id": token, "text": text, "begun": True, **numbers}


def _tokens(model: LoadedModel, step: Step, first: int, alternatives: bool) -> Iterator[Event]:
    texts = [token_texts(model, [token])[0] for token in step.token_ids]
    for place, row in enumerate(step.rows):
        event: Event = {
            "kind": "token",
            "lane": first + row,
            "id": int(step.token_ids[place]),
            "text": texts[place],
            "logprob": round(float(step.logprob[place]), 5),
            "entropy": round(float(step.entropy[place]), 5),
            "edit": round(float(step.edit_ratio[place]), 5),
        }
        if alternatives:
            ids, numbers = step.top_ids[place].tolist(), step.top_logprob[place].round(4).tolist()
            named = zip(ids, token_texts(model, ids), numbers, strict=True)
            event["top"] = [list(one) for one in named if one[0] < len(model.tokenizer)]  # rows behind are no tokens
        yield event


def _hooks(model: LoadedModel) -> int:
    """Hooks installed on the modules of a model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules())
