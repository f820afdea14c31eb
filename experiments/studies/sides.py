"""The two sides of a contrast as a model reads them: sequences, what of each is text, which tokens are read, and what is held out.

1. `Where` says which tokens: `last` (the last token that is fed), `first`, `index:N` (tokens of the text, from 0, or from its end),
   `mean` and `span:A:B` (the mean over the text, or over its tokens A to B, end exclusive). What is text is what the person wrote: no BOS,
   nothing of a chat template, and after a prompt only what follows it.
2. In labelled spans, the spans take the text's place, and `window` is the window of `steering.extraction.labels`.
3. `Sides.split` holds items out whole: a pair, a question or a trace with both its sides, and all that share a token sequence.
4. `reading` is the one place in which readings of a contrast are made. Attention sinks of the model are left out (`extraction.sinks`),
   unless `+sinks` follows what is read.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from steering.errors import BadInput, unknown
from steering.extraction import LabelledTrace, Reading
from steering.extraction.annotations import token_span
from steering.extraction.labels import window
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt

from ..tasks.prompting import Form, encode_form, prompt_text

KINDS = ("last", "first", "mean", "index:N", "span:A:B", "window")
SINKS = "+sinks"
LEAST = 4
"""Items of a side with fewer than which nothing is held out."""
MARK = "TEXT-OF-THE-USER"
CHAT = Form(chat=True)


@dataclass(frozen=True)
class Where:
    """Which tokens of a text are read."""

    kind: Literal["last", "first", "mean", "index", "span", "window"] = "last"
    start: int = 0
    stop: int = 0
    sinks: bool = False
    """Attention sinks are read too, where it names them."""

    @staticmethod
    def parse(text: str) -> Where:
        """`last`, `first`, `mean`, `index:N`, `span:A:B` or `window`, with `+sinks` after it to read attention sinks. Raises BadInput."""
        plain = text.removesuffix(SINKS)
        kind, *numbers = plain.split(":")
        wanted = {"index": 1, "span": 2}.get(kind, 0)
        if kind not in {name.partition(":")[0] for name in KINDS}:
            raise unknown("reading position", text, KINDS, "--read")
        try:
            given = [int(number) for number in numbers]
        except ValueError:
            given = []
        if len(given) != wanted or len(numbers) != wanted:
            shape = next(name for name in KINDS if name.partition(":")[0] == kind)
            raise BadInput(f"--read {text}: write {shape}{', with whole numbers' if wanted else ''}.")
        return replace(Where(kind, *given), sinks=plain != text)  # type: ignore[arg-type]

    def __str__(self) -> str:
        numbers = {"index": f":{self.start}", "span": f":{self.start}:{self.stop}"}.get(self.kind, "")
        return f"{self.kind}{numbers}{SINKS if self.sinks else ''}"

    @property
    def needs_text(self) -> bool:
        """Whether it has to be known which tokens are the text."""
        return self.kind != "last"

    def inside(self, start: int, end: int, what: str) -> tuple[int, int]:
        """The tokens `(start, end)` that are read of a text at `(start, end)`. Raises BadInput where it is too short."""
        length = end - start
        if self.kind in ("first", "index"):
            if not -length <= self.start < length:
                raise BadInput(f"{what} has {length} tokens; --read {self} is not among them.")
            place = start + self.start % length
            return place, place + 1
        if self.kind == "span":
            first, last = (n + length if n < 0 else n for n in (self.start, self.stop))
            if not 0 <= first < last <= length:
                raise BadInput(f"{what} has {length} tokens; --read {self} is empty or not inside them.")
            return start + first, start + last
        return start, end


@dataclass(frozen=True)
class Body:
    """One sequence as fed, and the tokens `(start, end)` of it that are text, or labelled."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    what: str
    """What it is called in messages."""


@dataclass(frozen=True)
class Sides:
    """Both sides, and the item that each sequence belongs to."""

    positive: tuple[Body, ...]
    negative: tuple[Body, ...]
    items: tuple[tuple[int, ...], tuple[int, ...]]
    paired: bool
    """Sequence k of one side belongs to sequence k of the other."""
    labelled: bool = False

    def readings(self, where: Where) -> tuple[Reading, Reading]:
        """(positive, negative)."""
        return reading(self.positive, where, self.labelled), reading(self.negative, where, self.labelled)

    def split(self, share: float, seed: int) -> tuple[Sides, Sides] | None:
        """(what is extracted from, what is held out), about `share` of each side; None where a side is too small to be divided."""
        group = _groups(self)
        order = sorted(set(group.values()))
        random.Random(f"contrast/{seed}").shuffle(order)
        wanted = [round(share * len(side)) for side in self.items]
        members = {one: [[i for i in side if group[i] == one] for side in self.items] for one in order}
        held: set[int] = set()
        counts = [0, 0]
        for one in order:
            sizes = [len(side) for side in members[one]]
            if all(have + more <= want for have, more, want in zip(counts, sizes, wanted, strict=True)):
                held.add(one)
                counts = [have + more for have, more in zip(counts, sizes, strict=True)]
        parts = [self._of({i for i in group if (group[i] in held) == outside}) for outside in (False, True)]
        few = min(len({body.ids for body in side}) for part in parts for side in (part.positive, part.negative))
        small = min(len({body.ids for body in side}) for side in (self.positive, self.negative))
        return None if few < 2 or small < LEAST else (parts[0], parts[1])

    def _of(self, items: set[int]) -> Sides:
        rows = [[k for k, item in enumerate(side) if item in items] for side in self.items]
        bodies = [tuple(side[k] for k in kept) for side, kept in zip((self.positive, self.negative), rows, strict=True)]
        own = tuple(tuple(side[k] for k in kept) for side, kept in zip(self.items, rows, strict=True))
        return replace(self, positive=bodies[0], negative=bodies[1], items=own)  # type: ignore[arg-type]


def _groups(sides: Sides) -> dict[int, int]:
    """Per item the smallest item that it shares a sequence with, by way of others too."""
    root: dict[int, int] = {}

    def find(item: int) -> int:
        while root.setdefault(item, item) != item:
            item = root[item]
        return item

    owner: dict[tuple[int, ...], int] = {}
    for bodies, items in zip((sides.positive, sides.negative), sides.items, strict=True):
        for body, item in zip(bodies, items, strict=True):
            one, other = sorted((find(item), find(owner.setdefault(body.ids, item))))
            root[other] = one
    return {item: find(item) for item in root}


def reading(bodies: Sequence[Body], where: Where, labelled: bool = False) -> Reading:
    """The tokens that are read of some sequences. Raises BadInput naming the text that is too short."""
    return replace(_positions(bodies, where, labelled), sinks=where.sinks)


def _positions(bodies: Sequence[Body], where: Where, labelled: bool) -> Reading:
    sequences = [body.ids for body in bodies]
    if where.kind == "last" and not labelled:
        return Reading.last_token(sequences)
    if where.kind == "last":
        where = Where("index", -1)
    spans = [[where.inside(*span, body.what) for span in body.spans] for body in bodies]
    if where.kind in ("first", "index"):
        return Reading.at(sequences, [tuple(dict.fromkeys(start for start, _ in row)) for row in spans])
    return Reading.over(sequences, spans)


def text_sides(
    model: LoadedModel,
    positive: Sequence[str],
    negative: Sequence[str],
    where: Where,
    *,
    prompts: Sequence[str] | None = None,
    paired: bool = False,
    chat: bool = False,
) -> Sides:
    """Texts as sides. With `prompts`, text k follows prompt k on both sides, joined as they are written; with `chat`, a text is a user's
    turn with the generation prompt after it, or after a prompt (the user's turn) the beginning of the response.

    Raises BadInput for a chat without a template, and for a text whose tokens cannot be told from those around it where that is needed.
    """
    if where.kind == "window":
        raise BadInput(
            "--read window is the window of a labelled span; texts are read at last, first, mean, index:N or span:A:B."
        )
    if (paired or prompts is not None) and len(positive) != len(negative):
        raise BadInput(f"Pairs need as many positive as negative texts; there are {len(positive)} and {len(negative)}.")
    asked = prompts or [""] * max(len(positive), len(negative))
    bodies = [
        tuple(
            body_of(model, text, where, prompt=asked[k], chat=chat, what=f"{name} text {k + 1}")
            for k, text in enumerate(side)
        )
        for name, side in (("Positive", positive), ("Negative", negative))
    ]
    together = paired or prompts is not None
    offset = 0 if together else len(positive)
    items = tuple(range(len(positive))), tuple(offset + k for k in range(len(negative)))
    return Sides(bodies[0], bodies[1], items, together)


def sequence_body(model: LoadedModel, ids: Sequence[int], what: str) -> Body:
    """A sequence that is text but for its BOS."""
    start = int(len(ids) > 1 and ids[0] == model.tokenizer.bos_token_id)
    return Body(_short(model, tuple(ids), what), ((start, len(ids)),), what)


def body_of(
    model: LoadedModel, text: str, where: Where, *, prompt: str = "", chat: bool = False, what: str = "The text"
) -> Body:
    """One text as fed; see `text_sides`."""
    if not chat and not prompt:
        return sequence_body(model, encode_prompt(model, text), what)
    if not chat:
        whole, start = prompt + text, len(prompt)
        ids = encode_prompt(model, whole)
    elif prompt:
        before = prompt_text(model, CHAT, prompt)
        whole, start = before + text, len(before)
        ids = encode_form(model, CHAT, prompt, text)
    else:
        whole = prompt_text(model, CHAT, text)
        start = len(prompt_text(model, CHAT, MARK).partition(MARK)[0])
        ids = encode_form(model, CHAT, text)
    ids = _short(model, ids, what)
    if not where.needs_text:
        return Body(ids, (), what)
    own = text if whole.startswith(text, start) else text.strip()  # templates trim
    return Body(ids, (_tokens(model, whole, ids, start, start + len(own), what),), what)


def _tokens(model: LoadedModel, whole: str, ids: tuple[int, ...], start: int, end: int, what: str) -> tuple[int, int]:
    """The tokens of characters `start` to `end` of the text that `ids` encode."""
    offsets = None
    if model.tokenizer.is_fast:
        encoded = model.tokenizer(whole, return_offsets_mapping=True)
        every = tuple(encoded["input_ids"])
        shift = next((k for k in range(3) if every[k : k + len(ids)] == ids), None)
        offsets = None if shift is None else encoded["offset_mapping"][shift : shift + len(ids)]
    found = None if offsets is None else token_span(offsets, start, end)
    if found is None:
        raise BadInput(
            f"{what}: which of its tokens are the text's own cannot be told by the tokenizer of {model.id}; read its last token (last)."
        )
    return found


def span_sides(traces: Sequence[LabelledTrace], label: str, where: Where) -> Sides:
    """Spans of a label against those of all other labels, in the same traces. Raises BadInput for a label that no span has."""
    names = sorted({span.label for trace in traces for span in trace.spans})
    if label not in names:
        raise unknown("label", label, names)
    if len(names) < 2:
        raise BadInput(f"All spans are labelled {label!r}, so there is nothing to tell them from.")
    bodies: tuple[list[Body], list[Body]] = ([], [])
    items: tuple[list[int], list[int]] = ([], [])
    for number, trace in enumerate(traces):
        for side, is_label in enumerate((True, False)):
            spans = [s for s in trace.spans if (s.label == label) == is_label]
            if spans:
                places = tuple(window(s) if where.kind == "window" else (s.start, s.end) for s in spans)
                bodies[side].append(Body(trace.token_ids, places, f"A span of trace {number + 1}"))
                items[side].append(number)
    return Sides(tuple(bodies[0]), tuple(bodies[1]), (tuple(items[0]), tuple(items[1])), False, labelled=True)


def _short(model: LoadedModel, ids: tuple[int, ...], what: str) -> tuple[int, ...]:
    if len(ids) > model.context:
        raise BadInput(
            f"{what} has {len(ids)} tokens; {model.id} reads at most {model.context}. Cut it, or leave it out."
        )
    return ids
