"""What may be run as a job: checked for every job, a new one, a repeated one and one that a file of the ledger remembers.

1. A command is one of the forms in `FORMS`, with the options that are named there and no others; what it writes lies in the store, or on an
   upload shelf. A command that takes a store gets this server's, unless it names a folder inside it.
2. A generation is a `LiveRequest`, and its vectors, as those of a command, lie among those that the app can offer.
3. Refusals are one sentence for the reader.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.shelf import shelves
from app.vector_files import SHIPPED
from experiments.live.request import LiveRequest
from steering.errors import BadInput


class NotAdmitted(ValueError):
    """Something that is not run here. The message is written for the reader."""


def _like(pattern: str) -> Callable[[str, str], bool]:
    return lambda word, store: re.fullmatch(pattern, word) is not None


def _inside(word: str, store: str) -> bool:
    """A path in the store, or in the folder of uploads."""
    return any(_lies_in(Path(word), place) for place in _places(store))


def _in_store(word: str, store: str) -> bool:
    """The store itself, or a folder in it."""
    return word == store if "://" in store else "://" not in word and _lies_in(Path(word), Path(store))


def _vector(word: str, store: str) -> bool:
    """The file of a vector that the app can offer."""
    named = os.environ.get("STEERING_VECTORS")
    return any(_lies_in(Path(word), place) for place in (*SHIPPED, *_places(store), *([Path(named)] if named else [])))


NAME = _like(r"[A-Za-z0-9][A-Za-z0-9._:/,@+-]*")
NUMBER = _like(r"[0-9]{1,9}")
WORD = _like(r"[A-Za-z0-9][A-Za-z0-9._:,-]*")
MODEL = _like(r"[^-\x00][^\x00]*")
PAIR = _like(r"builtin:(careful-)?(base|thinking)")
"""The models that have texts of their own."""
SETTING = _like(r"[a-z_]{1,40}=[0-9.]{1,12}")
"""A card's field set to a number."""
DECIMAL = _like(r"[0-9]{1,6}(\.[0-9]{1,6})?")
TASK = _like(r"find-start|[a-z0-9-]{1,40}(:[a-z0-9_-]{1,40})?")
"""A task that is known by name; a task's file may name others, so that none is taken."""
SITE = _like(r"blocks\.[0-9]{1,4}\.[a-z_.]{1,30}(\.[0-9]{1,4})?")
FLAG = None
Kind = Callable[[str, str], bool] | None
STORE: dict[str, Kind] = {"--runs": _in_store, "--json": FLAG}
FORMS: dict[tuple[str, ...], tuple[tuple[Kind, ...], dict[str, Kind]]] = {
    ("demo",): ((), {"--n": NUMBER, "--n-dev": NUMBER, **STORE}),
    ("doctor",): ((MODEL,), {"--dtype": WORD, "--device": WORD, **STORE}),
    ("eval",): ((_inside,), {"--n": NUMBER, "--dry-run": FLAG, **STORE}),
    ("sweep", "run"): ((_inside,), {"--workers": NUMBER, "--threads": NUMBER, "--dry-run": FLAG, **STORE}),
    ("ablate",): (
        (),
        {
            "--latents": WORD,
            "--operation": WORD,
            "--scope": WORD,
            "--n": NUMBER,
            "--controls": NUMBER,
            "--sae": NAME,
            **STORE,
        },
    ),
    ("extract",): (
        (_inside,),
        {
            "--base": MODEL,
            "--thinking": MODEL,
            "--contrast": WORD,
            "--site": SITE,
            "--layers": WORD,
            "--positive": _inside,
            "--negative": _inside,
            "--spans": _inside,
            "--label": MODEL,
            "--read": WORD,
            "--method": WORD,
            "--texts": WORD,
            "--held-out": DECIMAL,
            "--name": MODEL,
            "--task": TASK,
            "--n": NUMBER,
            "--forms": WORD,
        },
    ),
    ("elicit",): ((WORD,), {"--pair": NAME, "--preset": WORD, "--set": SETTING, **STORE}),
    ("train",): ((WORD,), {"--pair": NAME, "--preset": WORD, "--set": SETTING, **STORE}),
    ("hybrid",): ((), {"--pair": NAME, "--n": NUMBER, "--n-dev": NUMBER, "--set": SETTING, **STORE}),
    ("sae", "dashboard"): ((NAME,), {"--out": _inside, "--problems": NUMBER}),
    ("sae", "vector"): ((NAME, NUMBER), {"--out": _inside, "--activation": DECIMAL}),
    ("trace", "kl"): ((WORD, WORD), STORE),
    ("monitor",): (
        (),
        {
            "--model": MODEL,
            "--file": _inside,
            "--row": NAME,
            "--vector": _vector,
            "--sae": NAME,
            "--latents": WORD,
            "--strongest": NUMBER,
            **STORE,
        },
    ),
    ("runs", "list"): ((), STORE),
    ("runs", "show"): ((WORD,), STORE),
    ("runs", "verify"): ((WORD,), STORE),
    ("runs", "reproduce"): ((WORD,), {"--n": NUMBER, **STORE}),
    ("vectors", "lens"): (
        (_vector,),
        {"--model": PAIR, "--sae": NAME, "--latents": NUMBER, "--n": NUMBER, "--count": NUMBER, "--json": FLAG},
    ),
    ("vectors", "decompose"): ((_vector,), {"--sae": NAME, "--count": NUMBER, "--draws": NUMBER, "--json": FLAG}),
    ("vectors", "audit"): (
        (_vector,),
        {
            "--model": MODEL,
            "--task": TASK,
            "--forms": WORD,
            "--dose": WORD,
            "--span": WORD,
            "--n": NUMBER,
            "--n-dev": NUMBER,
            **STORE,
        },
    ),
    ("vectors", "import"): ((_inside,), {"--out": _inside, "--format": WORD, "--layers": WORD}),
}
"""By verb: the kinds of its arguments, all of which may be left out, and of its options' values."""


def admitted_command(arguments: Any, store: Path | str | None = None) -> list[str]:
    """The arguments of a `steer` command as they are run. Raises NotAdmitted for a command that the app does not start.

    `store` is this server's: a folder or a URL, by default that of STEERING_RUNS.
    """
    place = str(os.environ.get("STEERING_RUNS", "runs") if store is None else store)
    if not isinstance(arguments, list) or any(not isinstance(word, str) or "\x00" in word for word in arguments):
        raise NotAdmitted("An argument of the command is not text.")
    verb = next((verb for verb in FORMS if tuple(arguments[: len(verb)]) == verb), None)
    if verb is None:
        known = ", ".join(" ".join(form) for form in FORMS)
        raise NotAdmitted(f"steer {' '.join(arguments[:2])[:80]} cannot be started here; the app runs {known}.")
    (kinds, options), words, given = FORMS[verb], iter(arguments[len(verb) :]), 0
    for word in words:
        if word.startswith("-"):
            if word not in options:
                raise NotAdmitted(
                    f"steer {' '.join(verb)} is not started here with {word[:80]}; there are {', '.join(options)}."
                )
            kind = options[word]
            value = "" if kind is None else next(words, None)
            if value is None or (kind is not None and not kind(value, place)):
                raise NotAdmitted(_wrong(word, value, place))
        elif given == len(kinds):
            raise NotAdmitted(
                f"steer {' '.join(verb)} takes {given or 'no'} argument{'s' * (given != 1)}; {word[:80]!r} is one more."
            )
        else:
            kind = kinds[given]
            if kind is not None and not kind(word, place):
                raise NotAdmitted(_wrong("an argument", word, place))
            given += 1
    return [*arguments, *(["--runs", place] if "--runs" in options and "--runs" not in arguments else [])]


def admitted_generation(request: Any, store: Path | str | None = None) -> dict[str, Any]:
    """A generation's request as it was given. Raises NotAdmitted for what is no `LiveRequest` and for a vector from elsewhere."""
    place = str(os.environ.get("STEERING_RUNS", "runs") if store is None else store)
    if not isinstance(request, Mapping):
        raise NotAdmitted("What was asked is no request for a generation.")
    try:
        asked = LiveRequest.model_validate(dict(request))
    except (ValidationError, BadInput) as error:
        said = (
            error.errors()[0]["msg"].removeprefix("Value error, ") if isinstance(error, ValidationError) else str(error)
        )
        raise NotAdmitted(f"This cannot be generated: {said}.") from error
    for file in asked.files.values():
        if not _vector(file, place):
            raise NotAdmitted(
                f"The vector {file[:200]} lies neither in the store, nor among the uploads, nor in the folder of --vectors."
            )
    return dict(request)


def _places(store: str) -> list[Path]:
    """Folders in which a job may write."""
    found = [] if "://" in store else [Path(store)]
    with suppress(BadInput, OSError):  # without a folder of uploads there is the store alone
        found.append(shelves())
    return found


def _lies_in(path: Path, folder: Path) -> bool:
    try:
        return path.expanduser().resolve().is_relative_to(folder.expanduser().resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def _wrong(where: str, value: str | None, store: str) -> str:
    return f"{'nothing' if value is None else repr(value[:200])} cannot be given as {where} here; what is written lies in {store}."
