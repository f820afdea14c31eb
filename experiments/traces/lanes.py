"""One row as a lane of a trace view: tokens, numbers, alternatives, behaviours, verdict and receipt, as plain JSON values.

1. Tokens are the stored display text, prompt first; nothing is tokenised or joined again.
2. Where steering fired is read from the stored edit ratios, for prompt and generated tokens alike.
3. The receipt is not ok when a planned edit did not fire, or when one fired that was not planned.
4. A behaviour keeps its letter and its colour over all arms and items of a split.
5. A number is there only where it was stored; a metric of which no number is stored is left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steering.plan.dose import oversized_sentence

from ..looks import look
from .metrics import METRICS, at, number, values

KEYWORD_DETECTORS = ("lexicon", "keyword", "words", "regex")
"""Names of detectors, or parts of names, that look at words only."""
TINTS = tuple(name for name in METRICS if name != "none")


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
        warning = oversized_sentence(self.largest or 0.0)
        return f"fired {self.fired}/{self.planned} planned edits{sizes}" + (f". {warning}" if warning else "")


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
    """A letter and a colour number per behaviour label, in alphabetical order of the labels."""
    marks: dict[str, dict[str, Any]] = {}
    for index, label in enumerate(sorted(set(labels))):
        taken = {mark["letter"] for mark in marks.values()}
        letters = [c for c in label.upper() if c.isalnum()]
        free = [c for c in [*letters, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"] if c not in taken]
        marks[label] = {"letter": free[0] if free else "?", "style": index % 8}
    return marks


def verdict(row: Mapping[str, Any]) -> dict[str, str]:
    """The answer and how it was judged: the mark, its meaning and a tone."""
    answer = "no answer found" if row["answer"] is None else str(row["answer"])
    if row["correct"]:
        return {"answer": answer, "mark": "✓", "meaning": "right", "tone": "good"}
    if row["finish"] == "nonfinite":
        return {
            "answer": answer,
            "mark": "?",
            "meaning": "not graded: the model's numbers became NaN or infinite",
            "tone": "bad",
        }
    if not row["scorable"]:
        why = "the text ends inside its thinking segment" if row.get("unclosed") else "no answer could be read"
        return {"answer": answer, "mark": "?", "meaning": f"unscorable: {why}", "tone": "open"}
    return {"answer": answer, "mark": "✗", "meaning": "wrong", "tone": "bad"}


def lane(row: Mapping[str, Any], arm: Mapping[str, Any], marks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The lane of `row`: its numbers per token, the stored alternatives, and everything that is said about it in words."""
    prompt = len(row["prompt_tokens"])
    appearance, proof = look(arm["role"]), receipt(row)
    fired = [index for index, size in enumerate(edits(row)) if size > 0]
    in_prompt = sum(index < prompt for index in fired)
    generated = len(row["token_ids"])
    where = f"{in_prompt} of {prompt} prompt and {len(fired) - in_prompt} of {generated} generated positions"
    notes = [f"{generated} tokens" if generated else "no tokens stored", f"finish: {row['finish']}"]
    if row["truncated"]:
        notes.append("cut at the token limit")
    if row["trace_ok"] is not None:
        notes.append("trace verified ✓" if row["trace_ok"] else "trace not verified ✗")
    if row["well_formed"] is not None and not row["well_formed"]:
        notes.append("not well-formed")
    numbers = {name: rounded(values(row, name)[0 if name == "edit" else prompt :]) for name in TINTS}
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
        "ids": [int(token) for token in [*row["prompt_ids"], *row["token_ids"]]],
        "text": "" if generated else str(row.get("text") or ""),
        "numbers": {name: found for name, found in numbers.items() if any(value is not None for value in found)},
        "alternatives": alternatives(row),
        "behaviours": [
            {
                "label": span["label"],
                "start": int(span["start"]),
                "end": int(span["end"]),
                "detector": span["detector"],
                "confidence": number(span["confidence"]),
                "hollow": keyword_only(span["detector"]),
                **marks.get(span["label"], {"letter": "?", "style": 0}),
            }
            for span in row["labels"] or []
        ],
    }


def rounded(numbers: Sequence[float | None]) -> list[float | None]:
    """Numbers to five significant digits: what is drawn or read, at half the size."""
    return [None if value is None else float(f"{value:.5g}") for value in numbers]


def alternatives(row: Mapping[str, Any]) -> dict[str, Any]:
    """The likeliest next tokens that were stored, `width` per generated token, best first; their texts once per id."""
    ids = [int(token) for token in row["top_ids"] or []]
    texts = dict(zip(ids, map(str, row["top_tokens"] or []), strict=False))
    return {
        "width": len(ids) // max(len(row["token_ids"]), 1),
        "ids": ids,
        "logprobs": rounded([at(row["top_logprob"], index) for index in range(len(ids))]),
        "texts": {str(token): text for token, text in texts.items()},
    }


def keyword_only(detector: str) -> bool:
    """Whether a label comes from words alone, which most often do not survive a second sample."""
    return any(word in detector.lower() for word in KEYWORD_DETECTORS)
