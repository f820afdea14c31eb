"""From a token of a stored row to the Playground: the fields under which its text goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import stack
from app.playground_form import FORMS, LINKED
from app.playground_request import OWN, QUESTIONS, SPLITS
from app.vector_files import VectorFile


def fields_from(
    row: Mapping[str, Any], arm: Mapping[str, Any], task: object, place: int, vectors: Mapping[str, VectorFile]
) -> dict[str, str] | str:
    """Fields of the Playground, as a link has them, that keep the first `place` tokens of a row's response; or why there are none."""
    plan = arm.get("plan") or {}
    cards = [stack.card_of(entry, vectors) for entry in plan.get("interventions", [])]
    if not all(cards) or arm.get("controller"):
        return "The form of the Playground cannot say how this arm is steered; `steer eval` can."
    fields = {
        "pg_model": str(arm["model"]),
        "pg_stack": stack.write([card for card in cards if card]) or "[]",
        "pg_begun": ",".join(str(token) for token in row["token_ids"][:place]),
        "pg_tokens": str(min(4096, max(200, len(row["token_ids"]) + 60))),
        "pg_temp": "0.0",
        "pg_samples": "1",
        "pg_beside": "",
    }
    split, _, number = str(row["item"]).partition("/")
    builtin = task in ("find-start", {"dataset": "find-start"}) or (
        isinstance(task, Mapping) and bool(task.get("item"))
    )
    if builtin and split in SPLITS and arm["form"] in FORMS and not arm.get("opening"):
        return fields | {
            "pg_kind": QUESTIONS,
            "pg_split": split,
            "pg_number": str(int(number)),
            "pg_form": str(arm["form"]),
        }
    if len(row["prompt"]) > LINKED:
        return f"Its prompt has more than {LINKED:,} letters, which the address of the Playground does not hold."
    return fields | {"pg_kind": OWN, "pg_prompt": str(row["prompt"])}
