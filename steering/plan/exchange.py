"""Plans to and from a model hub, with the vectors and features that they use.

1. A repository holds `plan.yaml`, whose vectors are named by files beside it (`vectors/<digest>.safetensors`), so it is whole: a plan that
   is pulled needs nothing else, and has the digest that it was pushed with.
2. All vectors are of one base model, which is named with its commit, as for vectors (`vector.exchange`).
3. Evidence is the author's own; without any the card says that nothing is shown.
4. `hub:owner/name` stands wherever a plan is given (`source`), for a plan's repository, and for the plan.yaml of a vector's.
5. A gate that calls a function of Python is not pushed: nobody else has the function.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..documents import read_yaml_file
from ..errors import BadInput
from ..model.sites import Site
from ..vector.exchange import checked_evidence, vector_of
from ..vector.features import Features, load_stored
from ..vector.hub.base import base_facts
from ..vector.hub.contents import (
    CARD,
    CONFIG,
    EVIDENCE,
    FORMAT,
    PLAN,
    UNKNOWN,
    VECTOR,
    checked_licence,
    checked_papers,
    read_json,
    to_bytes,
)
from ..vector.hub.download import HUB_NOTE, fetch, snapshot
from ..vector.hub.evidence import Evidence
from ..vector.hub.hashed import VECTORS, HashedConfig, HashedCopy, fetch_hashed, hashes, own_files
from ..vector.hub.hashed_card import plan_card
from ..vector.hub.names import Address
from ..vector.hub.session import Session
from ..vector.hub.upload import Pushed, send
from ..vector.vectors import SteeringVector
from .plan import Intervention, Plan


def push_plan(
    plan: Plan,
    name: str,
    *,
    title: str = "",
    base_commit: str | None = None,
    base_model: str | None = None,
    tokenizer: str | None = None,
    evidence: Evidence | None = None,
    licence: str = "",
    arxiv: Sequence[str] = (),
    private: bool = False,
    force: bool = False,
    endpoint: str | None = None,
) -> Pushed:
    """Write a plan's repository `owner/name`, or its branch as `owner/name@branch`, in one commit; it is made where it is not there.

    `title` is what the card calls it, the repository's name by default; the rest is as for `push_vector`. Raises BadInput as
    `plan_files` does, and for a hub that cannot be reached, a token that may not write, and a repository that holds other files.
    """
    address = Address.parse(name)
    files = plan_files(
        plan, address.name, title=title, base_commit=base_commit, base_model=base_model, tokenizer=tokenizer, evidence=evidence,
        licence=licence, arxiv=arxiv, force=force,
    )  # fmt: skip
    said = f"Steering plan {plan.digest}"
    return send(files, address, Session.of(endpoint), private, said, own=own_files("plan"), what="plan")


def plan_files(
    plan: Plan,
    repository: str,
    *,
    title: str = "",
    base_commit: str | None = None,
    base_model: str | None = None,
    tokenizer: str | None = None,
    evidence: Evidence | None = None,
    licence: str = "",
    arxiv: Sequence[str] = (),
    force: bool = False,
) -> dict[str, bytes]:
    """The files of a plan's repository, by name; `repository` is `owner/name`, or its branch.

    Raises BadInput for a plan without steps, vectors of several models, a gate that cannot be written down, and as `push_vector` for what
    else is not known or not of its form.
    """
    held = plan.vectors
    if not plan or not held:
        raise BadInput("A plan without steps edits nothing; there is nothing to push.")
    if all(step.operation == "add" and step.dose is not None and not step.dose.amount for step in plan.interventions):
        raise BadInput("The plan adds nothing: its amounts are 0. Give an amount other than 0.")
    if called := [step.gate.name for step in plan.interventions if step.gate is not None and step.gate.kind == "call"]:
        raise BadInput(
            f"The gate {called[0]!r} calls a function of Python, which a file cannot hold; push a plan with another gate."
        )
    model_id, fingerprint = _origin(plan)
    base = base_facts(
        "The plan", model_id, fingerprint, commit=base_commit, tokenizer=tokenizer, force=force, repository=base_model
    )
    shown = checked_evidence(evidence, plan.digest, "plan")
    vectors = {f"{VECTORS}{digest}.safetensors": _bytes(vector) for digest, vector in sorted(held.items())}
    files = {PLAN: _yaml(plan), EVIDENCE: to_bytes(shown), **vectors}
    config = HashedConfig(
        kind="plan",
        name=title or Address.parse(repository).repository.rpartition("/")[2],
        digest=plan.digest,
        sites=_all_sites(plan),
        base_model=base,
        facts={"vectors": [_facts(vector) for _, vector in sorted(held.items())], "steps": len(plan.interventions)},
        licence=checked_licence(licence),
        arxiv=checked_papers(arxiv),
        files=hashes(files),
    )
    return {
        CONFIG: to_bytes(config),
        **files,
        CARD: plan_card(repository, config, shown, files[PLAN].decode()).encode(),
    }


def pull_plan(
    name: str,
    revision: str | None = None,
    *,
    endpoint: str | None = None,
    cache: Path | str | None = None,
    offline: bool = False,
) -> Plan:
    """The plan of a repository: `owner/name`, or `owner/name@revision`. Raises BadInput for a repository that is not there or not a
    plan's, files that are not as its `config.json` says, and a hub that cannot be reached."""
    return plan_of(pull_plan_copy(name, revision, endpoint=endpoint, cache=cache, offline=offline))


def pull_plan_copy(
    name: str,
    revision: str | None = None,
    *,
    endpoint: str | None = None,
    cache: Path | str | None = None,
    offline: bool = False,
) -> HashedCopy:
    """The checked files behind `pull_plan`, with commit, configuration and evidence. Raises BadInput as that does."""
    return fetch_hashed(Address.parse(name, revision), Session.of(endpoint, cache, offline), "plan")


def plan_of(copy: HashedCopy) -> Plan:
    """The plan in a checked copy. Raises BadInput for one that is not the plan which its `config.json` names."""
    if PLAN not in copy.config.files:
        raise BadInput(f"{copy.where} names no {PLAN} in its {CONFIG}. Ask its author to push it again.")
    data = read_yaml_file(copy.folder / PLAN)
    vectors = {}
    for name in copy.config.files:
        if name.startswith(VECTORS):
            vector = load_stored(copy.folder / name)
            if name != f"{VECTORS}{vector.digest}.safetensors":
                raise BadInput(
                    f"{name} of {copy.where} holds vector {vector.digest}: another vector in its place. Ask its author to push it again."
                )
            vectors[vector.digest] = vector
    plan = Plan.from_dict(_by_digest(data), vectors)
    if plan.digest != copy.config.digest:
        raise BadInput(
            f"{PLAN} of {copy.where} is plan {plan.digest}; its {CONFIG} says {copy.config.digest}. Ask its author to push it again."
        )
    model_id, _ = _origin(plan)
    said = copy.config.base_model.id
    if said != (model_id or UNKNOWN) or copy.config.sites != _all_sites(plan):
        raise BadInput(
            f"{CONFIG} of {copy.where} says base model {said} and sites {', '.join(copy.config.sites)}; the plan is of "
            f"{model_id or UNKNOWN} and edits {', '.join(_all_sites(plan))}. Ask its author to push it again."
        )
    return plan


def named_plan(name: str) -> Plan:
    """The plan that `hub:owner/name` stands for: of a plan's repository, or the plan.yaml of a vector's. A name means one commit for as
    long as the process lives. Raises BadInput."""
    return _first(Address.parse(name), Session.of())


@cache
def _first(address: Address, session: Session) -> Plan:
    folder = snapshot(address, session, (CONFIG,))
    exact, where = Address(address.repository, folder.name), f"{CONFIG} of {address.repository} at {folder.name[:12]}"
    of_vector = (folder / CONFIG).is_file() and read_json((folder / CONFIG).read_bytes(), where).get("format") == FORMAT
    if not of_vector:
        return _taken(plan_of(fetch_hashed(exact, session, "plan")), exact)
    copy = fetch(exact, session)
    if not (copy.folder / PLAN).is_file():
        raise BadInput(
            f"{copy.where} holds no {PLAN}. Ask its author to push it again, or name the vector in a plan of one line."
        )
    return _taken(Plan.from_dict(read_yaml_file(copy.folder / PLAN), {VECTOR: vector_of(copy)}), exact)


def _taken(plan: Plan, exact: Address) -> Plan:
    """The plan, each of whose vectors notes the repository and commit that it is of."""
    note = {HUB_NOTE: exact.name}
    held = {digest: replace(v, provenance=v.provenance.noting(note)) for digest, v in plan.vectors.items()}
    return Plan.from_dict(plan.to_dict(), held)


def _yaml(plan: Plan) -> bytes:
    """The plan as a file whose vectors lie beside it."""
    written = plan.to_dict()
    for entry in written["interventions"]:
        for part in (entry, entry.get("gate") or {}):
            if "vector" in part:
                part["vector"] = f"{VECTORS}{part['vector']}.safetensors"
    return yaml.safe_dump(written, sort_keys=False, allow_unicode=True).encode()


def _by_digest(data: Any) -> Any:
    """Digests in the place of the files' names; what is no plan stays as it is."""
    entries = data.get("interventions") if isinstance(data, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        for part in (entry, entry.get("gate") if isinstance(entry, dict) else None):
            if isinstance(part, dict) and isinstance(part.get("vector"), str):
                part["vector"] = part["vector"].removeprefix(VECTORS).removesuffix(".safetensors")
    return data


def _origin(plan: Plan) -> tuple[str, str]:
    """Id and fingerprint of the model that the plan's vectors are of, as far as they say. Raises BadInput for several."""
    origins = {(v.provenance.model_id, v.provenance.model) for v in plan.vectors.values()}
    known = {one for one in origins if one != ("", UNKNOWN)}
    if len(known) > 1:
        raise BadInput(
            f"The plan's vectors are of several models ({', '.join(sorted(i or m for i, m in known))}); a repository's are of one."
        )
    return known.pop() if known else ("", UNKNOWN)


def _all_sites(plan: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(site.name for step in plan.interventions for site in _sites(step)))


def _sites(step: Intervention) -> tuple[Site, ...]:
    return step.sites or (step.site or step.vector.site,)


def _bytes(vector: SteeringVector | Features) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return vector.save(Path(folder) / "vector.safetensors").read_bytes()


def _facts(vector: SteeringVector | Features) -> dict[str, Any]:
    origin = vector.provenance
    return {
        "digest": vector.digest, "name": vector.name, "site": vector.site.name, "method": origin.method, "contrast": origin.contrast,
    }  # fmt: skip
