"""What can be done from a token of a finished text: another token in its place, more draws, steering that begins or ends there.

1. Every action is a generation of its own: the form is set to it and it is run, so that the address, *Copy as* and a stored run hold it.
2. All that stands before the token is kept, as tokens (`begun`); lanes go on from there. An edit at a token steers the choice of the next
   one, so steering that begins at a token edits from the one before it on.
3. A text goes on from its own tokens under the plan's spans as if it had been written in one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.stack import Card
from steering.plan.span import Span

DRAWN = 8
"""Texts per lane where a token is drawn again."""
WARM = 1.0
"""Temperature of draws where the text was greedy."""


def lane_tokens(events: Sequence[Mapping[str, Any]], lane: int) -> tuple[list[int], int]:
    """Ids of a lane's response, and how many tokens its prompt has."""
    told = next(event for event in events if event["kind"] == "lanes")
    ids = [int(event["id"]) for event in events if event["kind"] == "token" and event["lane"] == lane]
    return ids, len(told["lanes"][lane]["prompt"])


def from_here(span: str, place: int) -> str:
    """The span that begins to steer with the choice of generated token `place`. One that lies in the prompt is put at the token before."""
    if place == 0:
        return span
    if not _reaches_text(Span.parse(span)):
        return f"window:{place - 1}:{place}"
    return f"after_n:{place - 1}" if span == "generated" else str(Span.parse(span) & Span.parse(f"after_n:{place - 1}"))


def until_here(span: str, place: int) -> str | None:
    """The span that no longer steers the choice of generated token `place`, nor any behind it; None where nothing is left of it."""
    read = Span.parse(span)
    if place == 0:
        return (
            None if read.generated_only or span == "last_prompt" else str(read - Span.parse("last_prompt | generated"))
        )
    if not _reaches_text(read):
        return span
    if read.generated_only and place == 1:
        return None
    return f"first_n:{place - 1}" if span == "generated" else str(read - Span.parse(f"after_n:{place - 1}"))


def with_token(span: str, position: int, prompt: int) -> str:
    """The span and the token at `position`, counted over a prompt of `prompt` tokens and what was generated."""
    place = position - prompt
    own = f"position:{position}" if place < 0 else f"window:{place}:{place + 1}"
    return str(Span.parse(span) | Span.parse(own))


def _reaches_text(span: Span) -> bool:
    """Whether some generated token can lie in it, by its form."""
    prompt = ("prompt", "last_prompt", "position", "text", "regex", "sinks")
    if span.kind == "intersection":
        return all(_reaches_text(part) for part in span.parts)
    if span.kind == "difference":
        return _reaches_text(span.parts[0])
    return any(_reaches_text(part) for part in span.parts) if span.parts else span.kind not in prompt


def acted(
    act: Mapping[str, Any], events: Sequence[Mapping[str, Any]], cards: Sequence[Card]
) -> tuple[dict[str, Any], list[Card], str]:
    """Fields of the form and the stack that an action asks for, and what is said where it cannot be done. `act` has `do`, `lane`,
    `position` and perhaps `token`."""
    ids, prompt = lane_tokens(events, int(act["lane"]))
    position, do = int(act["position"]), str(act["do"])
    place, own = position - prompt, list(cards)
    if do == "span":
        if not own:
            return {}, own, "There is no intervention whose span the token could join. Add one first."
        own[0] = replace(own[0], span=with_token(own[0].span, position, prompt))
        return {}, own, ""
    if not 0 <= place <= len(ids):
        return {}, own, "Choose a token of the response."
    begun = ids[:place]
    if do == "swap":
        begun = [*begun, int(act["token"])]
    fields: dict[str, Any] = {"pg_begun": ",".join(map(str, begun)), "pg_samples": 1}
    if do == "resample":
        fields |= {"pg_samples": DRAWN, "pg_warm": WARM}
    elif do == "from":
        if not own:
            return {}, own, "There is no intervention to steer with. Add one on the left, then choose the token again."
        own = [replace(card, span=from_here(card.span, place)) for card in own]
    elif do == "until":
        spans = [(card, until_here(card.span, place)) for card in own]
        own = [replace(card, span=span) for card, span in spans if span is not None]
    return fields, own, ""
