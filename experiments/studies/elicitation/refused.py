"""Options of a card that are refused: in one sentence what was given, where, what is wrong with it, and what to give instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from steering.errors import BadInput

from .card import Card, Options

NEEDED = {
    "tuple_type": "a list is needed", "dict_type": "a map is needed", "string_type": "text is needed",
    "int_type": "a whole number is needed", "int_parsing": "a whole number is needed", "int_from_float": "a whole number is needed",
    "float_type": "a number is needed", "float_parsing": "a number is needed", "finite_number": "a number that is finite is needed",
    "too_short": "at least one value is needed", "too_long": "fewer values are needed",
    "bool_type": "true or false is needed", "bool_parsing": "true or false is needed",
}  # fmt: skip
"""What is needed, by the kind of pydantic's error."""
EXAMPLES = {
    "file": "think.safetensors", "files": "[think.safetensors]", "site": "blocks.2.hook_resid_post", "dev": "train", "brief": "quick",
    "lists": "{switch: [wait, hmm]}", "words": "{apples: blickets, red: wug}", "sae": "builtin:base", "latents": "[183]", "layer": "2",
    "templates": "['{question} Think first.']", "cue": "So the answer is", "filler": "...", "word": "think", "empty": "well",
    "answer_tokens": "12", "development": "{train: 48}", "read": "{train: 200}", "hybrid": "{epochs: 4}",
}  # fmt: skip
"""A value of a field that has none by itself, as it is written behind `--set`."""
FOUND = ("digest", "digests")
"""Fields that hold what is found out."""
SHOWN = 80


def check_given(card: Card, start: Options, given: Mapping[str, Any]) -> None:
    """Raises BadInput for values that no field of a card can have: a truth for a number, and what is found out."""
    for name, value in given.items():
        if isinstance(value, bool) and not isinstance(getattr(start, name), bool):
            raise BadInput(f"card {card.name}: {name} is {str(value).lower()}; {instead(start, name)}.")
        if name in FOUND and value:
            raise BadInput(
                f"card {card.name}: {name} is found out from the vector's file; leave it out and give the file."
            )


def check_made(card: Card, options: Options) -> None:
    """Raises BadInput where a list names one value twice: it would be asked once, and shown as two."""
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, tuple):
            twice = next((one for place, one in enumerate(value) if one in value[:place]), None)
            if twice is not None:
                raise BadInput(f"card {card.name}: {name} names {twice} twice; name each once.")


def refused(card: Card, start: Options, error: ValidationError) -> BadInput:
    """The first problem of a card's options."""
    problem = error.errors()[0]
    place = [str(part) for part in problem["loc"] if part != "[key]"]
    where = f"card {card.name}: {'.'.join(place)}"
    if problem["type"] == "value_error":  # a check of the card's own, which says what to give
        return BadInput(f"{where}{': ' if place else ''}{problem['msg'].removeprefix('Value error, ')}")
    value = repr(problem["input"])
    shown = value if len(value) <= SHOWN else f"{value[:SHOWN]}..."
    needed = NEEDED.get(problem["type"], problem["msg"].replace("Input should", "it should"))
    return BadInput(f"{where} is {shown}: {needed}; {instead(start, place[0]) if place else 'give another'}.")


def instead(start: Options, name: str) -> str:
    """A value that a field can have, as it is given."""
    value = getattr(start, name)
    value = list(value) if isinstance(value, tuple) else value
    example = EXAMPLES.get(name, "") if value in (None, [], {}) else json.dumps(value, default=str)
    if len(example) > SHOWN:
        example = EXAMPLES.get(name, "")
    if not example:
        return "give another value"
    return f"give a value such as --set {_quoted(f'{name}={example}')}"


def _quoted(text: str) -> str:
    """What stands behind `--set` as a shell takes it for one word."""
    return text if " " not in text and "{" not in text else f'"{text}"' if "'" in text else f"'{text}'"
