"""Steering vectors to and from a model hub.

1. `pull_vector` gives the vector of one commit, checked (`hub.checks`); `push_vector` writes a repository in one commit.
2. A push names the commit of the base model. Without it, it is refused, unless it is forced: then the repository says that the commit is
   unknown, in `config.json` and on the card.
3. What a repository would hold can be made without a hub (`repository_files`) and looked at first.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import BadInput
from ..files import write_file
from .hub.base import base_facts
from .hub.card import card
from .hub.contents import (
    CARD,
    CONFIG,
    EVIDENCE,
    PLAN,
    VECTOR,
    Config,
    DoseFacts,
    VectorFile,
    checked_licence,
    checked_papers,
    to_bytes,
)
from .hub.download import Copy, fetch
from .hub.evidence import Evidence
from .hub.hashed import hashes
from .hub.names import Address
from .hub.session import Session
from .hub.upload import Pushed, send
from .vectors import SteeringVector

DEFAULT_PLAN: dict[str, Any] = {
    "interventions": [
        {"operation": "add", "vector": VECTOR, "span": "generated", "dose": {"amount": 1.0, "unit": "vector"}}
    ]
}
"""The vector once, at every generated token."""


def pull_vector(
    name: str,
    revision: str | None = None,
    *,
    endpoint: str | None = None,
    cache: Path | str | None = None,
    offline: bool = False,
) -> SteeringVector:
    """The vector of a repository, `[d_model]`: `owner/name`, or `owner/name@revision`.

    `revision` is a branch, a tag or a commit, `main` by default; `endpoint`, `cache` and `offline` are those of the environment unless they
    are given. Raises BadInput for a name that is none, a repository or revision that is not there, files that are not as their
    `config.json` says, a hub that cannot be reached, and offline for what is not in the cache.
    """
    return vector_of(pull_copy(name, revision, endpoint=endpoint, cache=cache, offline=offline))


def pull_copy(
    name: str,
    revision: str | None = None,
    *,
    endpoint: str | None = None,
    cache: Path | str | None = None,
    offline: bool = False,
) -> Copy:
    """The checked files behind `pull_vector`, with commit, configuration and evidence. Raises BadInput as that does."""
    return fetch(Address.parse(name, revision), Session.of(endpoint, cache, offline))


def vector_of(copy: Copy) -> SteeringVector:
    """The vector in a checked copy of a repository. Raises BadInput for one in another format of vector files."""
    return SteeringVector.load(copy.vector)


def push_vector(
    vector: SteeringVector,
    name: str,
    *,
    base_commit: str | None = None,
    base_model: str | None = None,
    tokenizer: str | None = None,
    evidence: Evidence | None = None,
    plan: Mapping[str, Any] | None = None,
    useful: tuple[float, float] | None = None,
    licence: str = "",
    arxiv: Sequence[str] = (),
    private: bool = False,
    force: bool = False,
    message: str = "",
    endpoint: str | None = None,
) -> Pushed:
    """Write a vector's repository `owner/name`, or its branch as `owner/name@branch`, in one commit; it is made where it is not there.

    What it holds is that of `repository_files`. Raises BadInput as that does, and for a hub that cannot be reached, a token that may not
    write, and a repository that holds other files than a vector's.
    """
    address = Address.parse(name)
    files = repository_files(
        vector, address.name, base_commit=base_commit, base_model=base_model, tokenizer=tokenizer, evidence=evidence, plan=plan,
        useful=useful, licence=licence, arxiv=arxiv, force=force,
    )  # fmt: skip
    said = message or f"Steering vector {vector.digest} at {vector.site}"
    return send(files, address, Session.of(endpoint), private, said)


def repository_files(
    vector: SteeringVector,
    repository: str,
    *,
    base_commit: str | None = None,
    base_model: str | None = None,
    tokenizer: str | None = None,
    evidence: Evidence | None = None,
    plan: Mapping[str, Any] | None = None,
    useful: tuple[float, float] | None = None,
    licence: str = "",
    arxiv: Sequence[str] = (),
    force: bool = False,
) -> dict[str, bytes]:
    """The files of a vector's repository, by name; `repository` is `owner/name`, or its branch as `owner/name@branch`, for the card.

    `base_commit` is the commit of the base model's repository (40 hexadecimal digits), `base_model` that repository's name where the vector
    names the model otherwise (a quantised file's name, say), `tokenizer` the hash of the tokenizer that it was read with, `useful` the
    smallest and largest useful amount in vector norms, `licence` an identifier such as `mit`, `arxiv` ids of papers. `plan` is a plan's
    mapping that names the vector by digest; by default the vector is added once at every generated token.
    Raises BadInput for a base model or commit that is not known unless `force`, and for whatever of these is not of its form.
    """
    origin = vector.provenance
    base = base_facts(
        f"Vector {vector.name!r}", origin.model_id, origin.model, commit=base_commit, tokenizer=tokenizer, force=force,
        repository=base_model,
    )  # fmt: skip
    shown = checked_evidence(evidence, vector.digest, "vector")
    data, beside = _bytes(vector), _beside(plan or DEFAULT_PLAN, vector)
    others = {PLAN: yaml.safe_dump(beside, sort_keys=False, allow_unicode=True).encode(), EVIDENCE: to_bytes(shown)}
    config = Config(
        name=vector.name,
        site=vector.site.name,
        width=len(vector.direction),
        norm=vector.norm,
        base_model=base,
        method=vector.provenance.method,
        contrast=vector.provenance.contrast,
        counts=vector.provenance.counts,
        dose=DoseFacts(useful=_range(useful)),
        licence=checked_licence(licence),
        arxiv=checked_papers(arxiv),
        file=VectorFile(digest=vector.digest, sha256=hashlib.sha256(data).hexdigest(), size=len(data)),
        files=hashes(others),
    )
    return {
        CONFIG: to_bytes(config),
        VECTOR: data,
        **others,
        CARD: card(repository, config, shown, beside, measured=plan is not None).encode(),
    }


def write_repository(files: Mapping[str, bytes], folder: Path | str) -> list[Path]:
    """The files in a folder of this machine, each whole or not there. Raises BadInput where one would take another file's place, before any
    is written, and OSError."""
    for name, data in files.items():
        if (place := Path(folder) / name).is_file() and place.read_bytes() != data:
            raise BadInput(
                f"{place} is there already and holds something else; give another folder, or remove it first."
            )
    written = []
    for name, data in files.items():
        write_file(Path(folder) / name, data)
        written.append(Path(folder) / name)
    return written


def checked_evidence(evidence: Evidence | None, digest: str, what: str) -> Evidence:
    """Evidence of the vector (or plan, or probe) of this digest, empty where none is given. Raises BadInput for that of another."""
    shown = evidence or Evidence()
    if shown.vector not in ("", digest):
        raise BadInput(f"The evidence is of {what} {shown.vector}, not of {digest}: give that of this {what}, or none.")
    return shown.model_copy(update={"vector": digest})


def _bytes(vector: SteeringVector) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return vector.save(Path(folder) / VECTOR).read_bytes()


def _beside(plan: Mapping[str, Any], vector: SteeringVector) -> dict[str, Any]:
    """A plan whose vector is named by the file beside it. Raises BadInput for one that needs other vectors, which the repository lacks."""
    entries = plan.get("interventions")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise BadInput(
            "The plan for the repository is no mapping with a list of interventions; `steer plan show` prints one."
        )
    written = []
    for place, entry in enumerate(entries):
        parts = [entry, *([entry["gate"]] if isinstance(entry.get("gate"), Mapping) else [])]
        foreign = [part["vector"] for part in parts if part.get("vector", VECTOR) not in (VECTOR, vector.digest)]
        if foreign:
            raise BadInput(
                f"interventions.{place} of the plan uses {foreign[0]}, which is not in the repository; one holds vector {vector.digest} "
                "alone. Give a plan of this vector, or none."
            )
        own = {key: value for key, value in entry.items() if key != "vector_name"} | {"vector": VECTOR}
        if "vector" in (entry.get("gate") or {}):
            own["gate"] = {**entry["gate"], "vector": VECTOR}
        written.append(own)
    return {"interventions": written}


def _range(useful: tuple[float, float] | None) -> tuple[float, float] | None:
    if useful is not None and not (all(map(math.isfinite, useful)) and useful[0] <= useful[1]):
        raise BadInput(
            f"Useful amounts from {useful[0]:g} to {useful[1]:g}: give two finite numbers, the smaller first."
        )
    return useful
