"""A card from what is asked to its stored findings.

Findings are written when a card is through; its runs and parts are kept as they come, so that a card which is stopped goes on where it was.
Equal questions, models and options give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from steering.errors import BadInput, unknown
from steering.model.models import LoadedModel

from ...progress import talk
from ...store.files import write_whole
from ...store.runs import Store
from .asked import Elicit
from .card import Card, Options, Preset
from .findings import Findings
from .misfits import refuse_misfits
from .refused import check_given, check_made, refused
from .workroom import Workroom


def options_of(card: Card, preset: Preset, given: Mapping[str, Any] | None = None) -> Options:
    """A preset with some fields set. Raises BadInput."""
    start = card.quick if preset == "quick" else card.full
    for name in given or {}:
        if name not in type(start).model_fields:
            raise unknown("field", name, type(start).model_fields, where=f"card {card.name}")
    check_given(card, start, given or {})
    try:
        made = type(start).model_validate(start.model_dump() | dict(given or {}))
    except ValidationError as error:
        raise refused(card, start, error) from error
    check_made(card, made)
    return made


def run_card(
    card: Card,
    asked: Elicit,
    store: Store,
    preset: Preset = "quick",
    given: Mapping[str, Any] | None = None,
    *,
    console: Console | None = None,
    models: dict[str, LoadedModel] | None = None,
) -> Findings:
    """Run a card or go on with it; findings that are stored are read. Raises BadInput before a model is loaded."""
    options = options_of(card, preset, given)
    for setting in asked.settings:
        asked.found.items(setting.split, options.n)
    card.refuse(asked, options)
    refuse_misfits(asked, options, models or {})
    room = Workroom(asked, store, console or talk(), models)
    facts = options.model_dump(mode="json")
    beside = {name: room.model(name).fingerprint for name in options.further_models}
    key = {"card": card.name, "version": card.version, "options": facts} | ({"beside": beside} if beside else {})
    name = f"{card.name}-{asked.digest(room.pair, **key)}.json"
    path = room.folder / name
    if path.exists():
        try:
            return Findings.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise BadInput(
                f"{path} holds no findings that this program reads; delete it, and the same command makes them again from the stored rows."
            ) from error
    points, tables, said = card.run(room, options)
    found = Findings(
        card=card.name,
        systems=card.systems,
        papers=card.papers,
        pair=(asked.base, asked.thinking),
        task=asked.found.name,
        preset=preset if not given else f"{preset}, changed",
        options=facts,
        points=tuple(points),
        tables=tuple(tables),
        said=(*room.remarks, *said),
        runs=tuple(dict.fromkeys(room.runs)),
        version=card.version,
        models={name: model.fingerprint for name, model in room.pair.items()},
        max_new_tokens=asked.max_new_tokens,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_whole(path, (text + "\n").encode())
    return found
