"""Probes to and from a model hub.

1. A repository holds the probe as safetensors, and a `config.json` with its sha256, base model and commit, classes, counts and what was
   measured on the held-out groups when it was fitted.
2. `hub:owner/name` stands wherever a probe's file is named (`load_probe`).
3. What was measured is the author's own; a probe is checked against the weights it was fitted on when it reads a model (`Probe.check`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from steering.errors import BadInput
from steering.vector.hub.base import base_facts
from steering.vector.hub.contents import CARD, CONFIG, checked_licence, checked_papers, to_bytes
from steering.vector.hub.hashed import PROBE, HashedConfig, HashedCopy, fetch_hashed, hashes, own_files
from steering.vector.hub.names import Address, address_of, is_hub_name
from steering.vector.hub.session import Session
from steering.vector.hub.upload import Pushed, send

from .card import probe_card
from .probe import Probe


def push_probe(
    probe: Probe,
    name: str,
    *,
    title: str = "",
    base_commit: str | None = None,
    base_model: str | None = None,
    tokenizer: str | None = None,
    licence: str = "",
    arxiv: Sequence[str] = (),
    private: bool = False,
    force: bool = False,
    endpoint: str | None = None,
) -> Pushed:
    """Write a probe's repository `owner/name`, or its branch as `owner/name@branch`, in one commit; it is made where it is not there.

    `title` is what the card calls it, by default what it predicts; the rest is as for `push_vector`. Raises BadInput for a base model or
    commit that is not known unless `force`, and for a hub that refuses or cannot be reached.
    """
    address = Address.parse(name)
    files = probe_files(
        probe,
        address.name,
        title=title,
        base_commit=base_commit,
        base_model=base_model,
        tokenizer=tokenizer,
        licence=licence,
        arxiv=arxiv,
        force=force,
    )
    said = f"Probe {probe.digest} at {probe.site}"
    return send(files, address, Session.of(endpoint), private, said, own=own_files("probe"), what="probe")


def probe_files(
    probe: Probe,
    repository: str,
    *,
    title: str = "",
    base_commit: str | None = None,
    base_model: str | None = None,
    tokenizer: str | None = None,
    licence: str = "",
    arxiv: Sequence[str] = (),
    force: bool = False,
) -> dict[str, bytes]:
    """The files of a probe's repository, by name; `repository` is `owner/name`, or its branch.

    Raises BadInput as `push_probe` for what is not known or not of its form.
    """
    origin = probe.provenance
    base = base_facts(
        f"The probe of {origin.target or probe.classes[1]!r}", origin.model_id, origin.model, commit=base_commit, tokenizer=tokenizer,
        force=force, repository=base_model,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        files = {PROBE: probe.save(Path(folder) / PROBE).read_bytes()}
    facts = {
        "kind": probe.kind, "classes": list(probe.classes), "width": probe.width, "target": origin.target, "train": origin.train,
        "test": origin.test, "train_groups": origin.train_groups, "test_groups": origin.test_groups,
        "held_out": origin.notes.get("held out", {}),
    }  # fmt: skip
    config = HashedConfig(
        kind="probe",
        name=title
        or ("" if Path(origin.target).suffix else origin.target)
        or Address.parse(repository).repository.rpartition("/")[2],
        digest=probe.digest,
        sites=(probe.site.name,),
        base_model=base,
        facts=facts,
        licence=checked_licence(licence),
        arxiv=checked_papers(arxiv),
        files=hashes(files),
    )
    return {CONFIG: to_bytes(config), **files, CARD: probe_card(repository, config).encode()}


def pull_probe(
    name: str,
    revision: str | None = None,
    *,
    endpoint: str | None = None,
    cache: Path | str | None = None,
    offline: bool = False,
) -> Probe:
    """The probe of a repository: `owner/name`, or `owner/name@revision`. Raises BadInput for a repository that is not there or not a
    probe's, files that are not as its `config.json` says, and a hub that cannot be reached."""
    return probe_of(pull_probe_copy(name, revision, endpoint=endpoint, cache=cache, offline=offline))


def pull_probe_copy(
    name: str,
    revision: str | None = None,
    *,
    endpoint: str | None = None,
    cache: Path | str | None = None,
    offline: bool = False,
) -> HashedCopy:
    """The checked files behind `pull_probe`, with commit and configuration. Raises BadInput as that does."""
    return fetch_hashed(Address.parse(name, revision), Session.of(endpoint, cache, offline), "probe")


def probe_of(copy: HashedCopy) -> Probe:
    """The probe in a checked copy. Raises BadInput for one that is not the probe which its `config.json` names."""
    if PROBE not in copy.config.files:
        raise BadInput(f"{copy.where} names no {PROBE} in its {CONFIG}. Ask its author to push it again.")
    probe = Probe.load(copy.folder / PROBE)
    if probe.digest != copy.config.digest:
        raise BadInput(
            f"{PROBE} of {copy.where} is probe {probe.digest}; its {CONFIG} says {copy.config.digest}. Ask its author to push it again."
        )
    return probe


def load_probe(path: Path | str) -> Probe:
    """A probe's file, or the repository that `hub:owner/name` names. Raises BadInput as `Probe.load` and `pull_probe`."""
    if not is_hub_name(path):
        return Probe.load(path)
    return probe_of(fetch_hashed(address_of(path), Session.of(), "probe"))
