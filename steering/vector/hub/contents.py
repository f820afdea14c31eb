"""What a repository of a vector holds: five files, and what stands in `config.json` (`evidence.json`: `evidence`).

1. `config.json` names the format and its version, and says all that a reader needs to refuse a wrong file: site, width, digest, sha256.
2. The base model is named with its commit; where that is not known it is `unknown`, in so many letters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import BadInput, listed
from .names import could_be_repository

CONFIG, VECTOR, PLAN, EVIDENCE, CARD = "config.json", "vector.safetensors", "plan.yaml", "evidence.json", "README.md"
FILES = (CONFIG, VECTOR, PLAN, EVIDENCE, CARD)
FORMAT = "steering-workbench/hub"
VERSION = 1
UNKNOWN = "unknown"
TAG = "steering-vector"
LIBRARY = "steering-workbench"
LAYERS = "blocks.<layer> is the 0-based decoder layer; hook_resid_pre is its input, hook_resid_post its output (TransformerLens names)"
UNIT = "vector: an amount of 1 adds the stored direction once, with the length that it has"

_PAPER = re.compile(r"\d{4}\.\d{4,5}(v\d+)?")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")


class Frozen(BaseModel):
    """A part of a file: what it does not name is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BaseModelFacts(Frozen):
    """Whose activations the direction lies in."""

    id: str
    """As the vector names it; `unknown` where it does not."""
    repository: str = ""
    """Of the hub, where its weights come from and `id` is another name for them, such as a quantised file's."""
    commit: str = UNKNOWN
    """Commit of the model's repository, 40 hexadecimal digits, or `unknown`."""
    fingerprint: str = UNKNOWN
    """Hash of the weights in memory (`LoadedModel.fingerprint`)."""
    tokenizer: str = UNKNOWN
    """Hash of vocabulary, special tokens and chat template (`LoadedModel.tokenizer_fingerprint`)."""

    @property
    def elsewhere(self) -> str:
        """Its name for other programs, and for the hub's search; empty where it has none."""
        return self.repository or (self.id if could_be_repository(self.id) else "")


class DoseFacts(Frozen):
    """In what the plan's amounts are counted, and which amounts are of use."""

    unit: str = UNIT
    useful: tuple[float, float] | None = None
    """Smallest and largest amount that did something worth having; None where nobody says."""


class VectorFile(Frozen):
    """What `vector.safetensors` must be."""

    name: str = VECTOR
    digest: str = Field(pattern=r"[0-9a-f]{16}")
    """Hash of direction and site, by which plans name the vector."""
    sha256: str = Field(pattern=r"[0-9a-f]{64}")
    size: int = Field(ge=1)
    """Bytes."""


class Config(Frozen):
    """`config.json`."""

    format: str = FORMAT
    version: int = VERSION
    name: str
    site: str
    layers: str = LAYERS
    width: int = Field(ge=1)
    """Numbers in the direction."""
    norm: float
    """Euclidean length, in units of the activations."""
    base_model: BaseModelFacts
    method: str
    contrast: str = ""
    counts: tuple[int, ...] = ()
    """Samples averaged on each side."""
    dose: DoseFacts = DoseFacts()
    licence: str = ""
    arxiv: tuple[str, ...] = ()
    file: VectorFile
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 by name of what else is read: plan and evidence."""


def to_bytes(part: BaseModel) -> bytes:
    """A part as a file: sorted keys, so that equal parts are equal bytes."""
    return (json.dumps(part.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def checked_licence(text: str) -> str:
    """An identifier of a licence, or nothing. Raises BadInput."""
    if text and not _LICENCE.fullmatch(text):
        raise BadInput(
            f"{text!r} is not an identifier of a licence: write it as the hub does, such as mit, apache-2.0 or other."
        )
    return text


def checked_papers(ids: Sequence[str]) -> tuple[str, ...]:
    """arXiv ids. Raises BadInput."""
    for paper in ids:
        if not _PAPER.fullmatch(paper):
            raise BadInput(f"{paper!r} is not an arXiv id: write it as 2506.18167.")
    return tuple(ids)


def read_config(data: bytes, where: str) -> Config:
    """`config.json` from its bytes. Raises BadInput, which begins with `where`, for another format, another version, or what is missing."""
    facts = read_json(data, where)
    if facts.get("format") != FORMAT:
        raise BadInput(
            f"{where} is not that of a steering vector: its format is {facts.get('format')!r}, not {FORMAT!r}. Name a repository that "
            "`steer vectors push` wrote (`steer vectors search` lists some)."
        )
    if facts.get("version") != VERSION:
        raise BadInput(
            f"{where} is of version {facts.get('version')!r} of the format; this program reads version {VERSION}. Update the program, or "
            "name a revision of the repository that holds that version."
        )
    config = parsed(Config, facts, where)
    if config.file.name != VECTOR:
        raise BadInput(
            f"{where} names the file {config.file.name!r}; a repository's vector is {VECTOR}. Ask its author to push it again."
        )
    return config


def digest_in(data: bytes) -> str:
    """The digest of the vector, plan or probe that a `config.json` is of; `unknown` where it says none."""
    try:
        facts = read_json(data, CONFIG)
    except BadInput:
        return UNKNOWN
    own = facts["file"] if isinstance(facts.get("file"), dict) else facts
    return str(own.get("digest") or UNKNOWN)


def facts_in(data: bytes, repository: str) -> dict[str, str]:
    """What a person said to a push, as the `config.json` of a repository holds it, in words by name; what it does not hold or is no such
    fact is left out. A plan's or probe's name is such a fact where it is not the repository's."""
    try:
        facts = read_json(data, CONFIG)
    except BadInput:
        return {}
    base, dose = (facts[name] if isinstance(facts.get(name), dict) else {} for name in ("base_model", "dose"))
    papers, title = facts.get("arxiv"), facts.get("name") if "kind" in facts else None
    said = {
        "title": f"the title {title!r}" if title and title != repository.rpartition("/")[2] else "",
        "licence": f"the licence {facts.get('licence')}" if facts.get("licence") else "",
        "arxiv": f"papers ({listed(papers)})" if isinstance(papers, list) and papers else "",
        "useful": f"useful amounts {dose['useful']}" if dose.get("useful") else "",
        "commit": f"the base model's commit {base['commit']}" if base.get("commit", UNKNOWN) != UNKNOWN else "",
    }
    return {name: text for name, text in said.items() if text}


def read_json(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object. Raises BadInput."""
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{where} is not JSON ({error}); it is cut short, or another file. Mend it; where it lies in the hub's cache, delete it and "
            "pull again."
        ) from error
    if not isinstance(facts, dict):
        raise BadInput(f"{where} holds a {type(facts).__name__}; a JSON object is needed.")
    return facts


_Part = TypeVar("_Part", bound=BaseModel)


def parsed(kind: type[_Part], facts: dict[str, Any], where: str) -> _Part:
    """A part from its JSON. Raises BadInput, which names the first field that is not as it must be."""
    try:
        return kind.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise BadInput(f"{where}: {place}: {first['msg']}. docs/hub.md says what it holds.") from error
