"""Plans in one line, for the command line.

    expression   := intervention (";" intervention)*
    intervention := OPERATION VECTOR [DOSE] ["keep-norm"] ["at" SITES] ["on" SPAN] ["when" GATE]
    gate         := KIND ["(" VECTOR ")"] ("<" | ">") NUMBER ["at" SITE]

For example `add wait.safetensors 0.5v~decay:32 at blocks.{2,3}.hook_resid_post on first_n:8 when entropy > 1.2; ablate doubt`.

1. A vector is a name given by the caller, the path of a vector file, or `hub:owner/name`. `on` defaults to generated.
2. The expression reads back: `expression_of(parse_plan(text, vectors))` gives the same plan.
3. Mistakes are refused with the place where they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import BadInput, unknown
from ..model.sites import Site, parse_sites
from ..vector.features import Features, load_stored
from ..vector.hub.names import is_hub_name
from ..vector.vectors import SteeringVector
from .dose import Dose
from .gate import GATES, NEEDS_VECTOR, Gate
from .plan import ALL_OPERATIONS, Intervention, Plan
from .span import Span

KEYWORDS = ("at", "on", "when", "keep-norm")
_GATE = re.compile(r"([a-z]+)\s*(?:\(([^)]*)\))?\s*([<>])\s*(\S+)")


def parse_plan(text: str, vectors: Mapping[str, SteeringVector | Features] | None = None) -> Plan:
    """Plan from its one-line form. Raises BadInput naming the intervention and the word that cannot be read."""
    known = dict(vectors or {})
    parts = [part for part in _split(text, ";") if part.strip()]
    if not parts:
        raise BadInput("The plan is empty. Write for example: add wait.safetensors 0.5v on generated.")
    return Plan(tuple(_intervention(part.strip(), known) for part in parts))


def expression_of(plan: Plan, names: Mapping[str, str] | None = None) -> str:
    """One-line form of a plan; `names` maps digests of vectors to what to call them (their own names otherwise)."""
    called = names or {}

    def name(vector: SteeringVector | Features) -> str:
        own = called.get(vector.digest, vector.name)
        return f'"{own}"' if re.search(r"[\s;()\"]", own) or own in KEYWORDS else own

    lines = []
    for i in plan.interventions:
        words = [
            i.operation,
            name(i.vector),
            *([str(i.dose)] if i.dose is not None else []),
            *(["keep-norm"] if i.keep_norm else []),
        ]
        words += ["at", ",".join(site.name for site in i.sites), "on", str(i.span)]
        if i.gate is not None:
            inside = f"({name(i.gate.vector)})" if i.gate.vector is not None else ""
            words += ["when", f"{i.gate.kind}{inside}", "<" if i.gate.below else ">", repr(i.gate.threshold)]
            words += ["at", i.gate.site.name] if i.gate.site is not None else []
        lines.append(" ".join(words))
    return "; ".join(lines)


def _split(text: str, separator: str) -> list[str]:
    """Split outside double quotes."""
    parts, quoted, start = [], False, 0
    for index, letter in enumerate(text):
        if letter == '"' and text[index - 1 : index] != "\\":
            quoted = not quoted
        elif letter == separator and not quoted:
            parts.append(text[start:index])
            start = index + 1
    if quoted:
        raise BadInput(f"A double quote is not closed in {text!r}.")
    return [*parts, text[start:]]


def _words(text: str) -> list[str]:
    """Words, with quoted text kept whole."""
    return re.findall(r'(?:[^\s"]|"(?:[^"\\]|\\.)*")+', text)


def _clauses(words: list[str], where: str) -> tuple[list[str], dict[str, list[str]]]:
    """What stands before the first keyword, and the words of each keyword's clause; a gate keeps its own `at`."""
    head: list[str] = []
    found: dict[str, list[str]] = {}
    current = head
    for word in words:
        if word in KEYWORDS and not (word == "at" and "when" in found):
            if word in found:
                raise BadInput(f"{word!r} stands twice in {where!r}.")
            current = found.setdefault(word, [])
        else:
            current.append(word)
    return head, found


def _intervention(text: str, vectors: Mapping[str, SteeringVector | Features]) -> Intervention:
    head, clauses = _clauses(_words(text), text)
    if clauses.get("keep-norm"):
        raise BadInput(f"{clauses['keep-norm'][0]!r} after keep-norm is not understood in {text!r}.")
    for keyword in ("at", "on", "when"):
        if keyword in clauses and not clauses[keyword]:
            raise BadInput(f"Nothing follows {keyword!r} in {text!r}.")
    if head and head[0] not in ALL_OPERATIONS:
        raise unknown("operation", head[0], ALL_OPERATIONS, text)
    if not 2 <= len(head) <= 3:
        raise BadInput(
            f"{text!r}: write an operation, a vector and a dose, as in add wait.safetensors 0.5v on generated."
        )
    return Intervention(
        head[0],  # type: ignore[arg-type]
        _vector(head[1], vectors),
        Span.parse(" ".join(clauses.get("on", ["generated"]))),
        Dose.parse(head[2]) if len(head) == 3 else None,
        sites=parse_sites(_split_sites(" ".join(clauses["at"]))) if "at" in clauses else (),
        gate=_gate(" ".join(clauses["when"]), vectors) if "when" in clauses else None,
        keep_norm="keep-norm" in clauses,
    )


def _split_sites(text: str) -> list[str]:
    """Site names separated by commas that are not inside braces."""
    return [part.strip() for part in re.findall(r"(?:[^,{]|\{[^}]*\})+", text)]


def _gate(text: str, vectors: Mapping[str, SteeringVector | Features]) -> Gate:
    condition, _, where = text.partition(" at ")
    match = _GATE.fullmatch(condition.strip())
    if match is None:
        raise BadInput(
            f"{text!r} is not a gate. Write for example: entropy > 1.5, or cosine(wait) < 0.2 at blocks.1.hook_resid_post."
        )
    kind, name, sign, number = match.groups()
    if kind == "call":
        raise BadInput("A gate that calls a function has no one-line form; build the plan in Python.")
    if kind not in GATES:
        raise unknown("gate", kind, [g for g in GATES if g != "call"], text)
    if kind in NEEDS_VECTOR and not name:
        raise BadInput(f"Gate {kind} needs a vector in brackets, as in {kind}(wait) > 0.")
    try:
        threshold = float(number)
    except ValueError as error:
        raise BadInput(f"{number!r} in {text!r} is not a number.") from error
    vector = _direction(name, vectors) if name else None
    site = Site.parse(where.strip()) if where else None
    bias = 0.0
    if kind == "probe" and vector is not None and "probe" in vector.provenance.notes:  # written by `steer probe gate`
        bias, site = float(vector.provenance.notes["bias"]), site or vector.site
    return Gate(kind, threshold, sign == "<", vector, bias, site)  # type: ignore[arg-type]


def _direction(name: str, vectors: Mapping[str, SteeringVector | Features]) -> SteeringVector:
    found = _vector(name, vectors)
    if not isinstance(found, SteeringVector):
        raise BadInput(f"A gate reads a direction, but {name!r} holds latents.")
    return found


def _vector(name: str, vectors: Mapping[str, SteeringVector | Features]) -> SteeringVector | Features:
    name = name.strip().strip('"')
    if name in vectors:
        return vectors[name]
    if name.endswith(".safetensors") or "/" in name or is_hub_name(name):
        return load_stored(Path(name))
    raise (
        unknown("vector", name, vectors)
        if vectors
        else BadInput(f"No vector is called {name!r}. Give the path of a vector file, such as wait.safetensors.")
    )
