"""One row as a lane of the trace component: tokens, tint, edits, behaviours, verdict and receipt, as plain JSON values.

1. Tokens are the stored display text, prompt first; nothing is tokenised or joined again.
2. Where steering fired is read from the stored edit ratios, for prompt and generated tokens alike; bar heights
   share one scale over the lanes shown.
3. The receipt is not ok when a planned edit did not fire, or when one fired that was not planned.
4. A behaviour keeps its letter and its line style over all arms and items of a split.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.metrics import Scale, number, values
from app.roles import look


@dataclass(frozen=True)
class Receipt:
    """What the plan asked for and what was done, of one row."""

    planned: int
    fired: int
    positions: int
    """Positions with a change larger than zero."""
    median: float | None
    largest: float | None

    @property
    def ok(self) -> bool:
        """Every planned edit fired and no other."""
        return self.planned == self.fired

    @property
    def sentence(self) -> str:
        """The receipt line."""
        if self.planned == 0 and self.fired == 0:
            return "no edits planned, none fired"
        sizes = "" if self.median is None else f", ‖Δ‖/‖h‖ median {self.median:.2f} (max {self.largest:.2f})"
        return f"fired {self.fired}/{self.planned} planned edits{sizes}"


def edits(row: Mapping[str, Any]) -> list[float]:
    """Edit ratio per position of prompt and generated tokens; 0 where nothing was edited."""
    return [value or 0.0 for value in values(row, "edit")]


def receipt(row: Mapping[str, Any]) -> Receipt:
    """The receipt of a row."""
    sizes = [size for size in edits(row) if size > 0]
    return Receipt(
        planned=int(row["edits_planned"] or 0),
        fired=int(row["edits_fired"] or 0),
        positions=len(sizes),
        median=statistics.median(sizes) if sizes else None,
        largest=max(sizes) if sizes else None,
    )


def behaviour_marks(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A letter and a line style number per behaviour label, in alphabetical order of the labels."""
    marks: dict[str, dict[str, Any]] = {}
    for index, label in enumerate(sorted(set(labels))):
        taken = {mark["letter"] for mark in marks.values()}
        letters = [c for c in label.upper() if c.isalnum()]
        free = [c for c in [*letters, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"] if c not in taken]
        marks[label] = {"letter": free[0] if free else "?", "style": index % 6}
    return marks


def verdict(row: Mapping[str, Any]) -> dict[str, str]:
    """The answer and how it was judged: the mark, its meaning and a tone."""
    answer = "no answer found" if row["answer"] is None else str(row["answer"])
    if row["correct"]:
        return {"answer": answer, "mark": "✓", "meaning": "right", "tone": "good"}
    if not row["scorable"]:
        return {"answer": answer, "mark": "?", "meaning": "unscorable: no answer could be read", "tone": "open"}
    return {"answer": answer, "mark": "✗", "meaning": "wrong", "tone": "bad"}


def lane(
    row: Mapping[str, Any], arm: Mapping[str, Any], scale: Scale, bar_top: float, marks: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The lane of `row`. `bar_top` is the edit ratio that gets the full bar height."""
    prompt = len(row["prompt_tokens"])
    appearance, proof, sizes = look(arm["role"]), receipt(row), edits(row)
    fired = [index for index, size in enumerate(sizes) if size > 0]
    in_prompt = sum(index < prompt for index in fired)
    generated = len(row["token_ids"])
    where = f"{in_prompt} of {prompt} prompt and {len(fired) - in_prompt} of {generated} generated positions"
    notes = [f"{generated} tokens", f"finish: {row['finish']}"]
    if row["truncated"]:
        notes.append("cut at the token limit")
    if row["trace_ok"] is not None:
        notes.append("trace verified ✓" if row["trace_ok"] else "trace not verified ✗")
    if row["well_formed"] is not None and not row["well_formed"]:
        notes.append("not well-formed")
    return {
        "label": arm["label"],
        "role": arm["role"],
        "glyph": appearance.glyph,
        "colour": appearance.colour,
        "verdict": verdict(row),
        "notes": notes,
        "steered": f"steered at {where}" if fired or proof.planned else "unsteered",
        "receipt": {"text": proof.sentence, "ok": proof.ok},
        "prompt": prompt,
        "tokens": [str(token) for token in [*row["prompt_tokens"], *row["tokens"]]],
        "tint": [None if tint is None else round(tint, 3) for tint in map(scale.tint, values(row, scale.metric))],
        "bar": [round(min(size / bar_top, 1.0), 3) if size > 0 and bar_top > 0 else 0 for size in sizes],
        "behaviours": [
            {
                "label": span["label"],
                "start": int(span["start"]),
                "end": int(span["end"]),
                "detector": span["detector"],
                "confidence": number(span["confidence"]),
                **marks.get(span["label"], {"letter": "?", "style": 0}),
            }
            for span in row["labels"] or []
        ],
    }
