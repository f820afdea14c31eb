"""Repositories of plans and of probes: a `config.json` that names every other file with its sha256, those files, and a card.

1. `kind` says what lies there; a probe is not read as a plan, nor the other way round.
2. Only files that `config.json` names are read, each once its sha256 fits: what is cut short, damaged in the cache or exchanged is refused.
3. Names of files lead nowhere else: one folder `vectors/` at most.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ...errors import BadInput
from .contents import CARD, CONFIG, EVIDENCE, PLAN, BaseModelFacts, Frozen, parsed, read_json
from .contents import FORMAT as OF_VECTORS
from .download import snapshot
from .evidence import Evidence, read_evidence
from .names import Address
from .session import Session

FORMAT = "steering-workbench/hub-files"
VERSION = 1
PROBE = "probe.safetensors"
VECTORS = "vectors/"
_NAME = re.compile(r"(vectors/)?[A-Za-z0-9][A-Za-z0-9._-]*")
_PATTERNS = (CONFIG, PLAN, PROBE, EVIDENCE, f"{VECTORS}*.safetensors")
Kind = Literal["plan", "probe"]


class HashedConfig(Frozen):
    """`config.json`."""

    format: str = FORMAT
    version: int = VERSION
    kind: Kind
    name: str
    digest: str = Field(pattern=r"^[0-9a-f]{16}$")
    """The plan's or the probe's own."""
    sites: tuple[str, ...]
    """Where it edits or reads: `blocks.<layer>.hook_<kind>`, layers from 0."""
    base_model: BaseModelFacts
    facts: dict[str, Any] = Field(default_factory=dict)
    """What else is said of it, as plain data."""
    licence: str = ""
    arxiv: tuple[str, ...] = ()
    files: dict[str, str]
    """sha256 by name, of every file but this one and the card."""


@dataclass(frozen=True)
class HashedCopy:
    """The checked files of one commit."""

    address: Address
    commit: str
    folder: Path
    config: HashedConfig

    @property
    def where(self) -> str:
        """Repository and commit, for messages."""
        return f"{self.address.repository} at {self.commit[:12]}"

    def evidence(self) -> Evidence:
        """What its author says that it does; empty where nothing is said. Raises BadInput for what is no evidence."""
        if EVIDENCE not in self.config.files:
            return Evidence()
        return read_evidence((self.folder / EVIDENCE).read_bytes(), f"{EVIDENCE} of {self.where}")


def own_files(kind: Kind) -> Callable[[str], bool]:
    """Which files a push of this kind writes: those and the card."""
    fixed = {CONFIG, CARD, EVIDENCE, PLAN if kind == "plan" else PROBE}
    return lambda name: name in fixed or (kind == "plan" and name.startswith(VECTORS))


def hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """sha256 by name."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}


def fetch_hashed(address: Address, session: Session, kind: Kind) -> HashedCopy:
    """The files of a plan's or a probe's repository, fetched (or taken from the cache) and checked. Raises BadInput."""
    folder = snapshot(address, session, _PATTERNS)
    where = f"{address.repository} at {folder.name[:12]}"
    if not (folder / CONFIG).is_file():
        raise BadInput(
            f"{where} holds no {CONFIG}, so it is no repository of a {kind}: name one that was pushed as such."
        )
    facts = read_json((folder / CONFIG).read_bytes(), f"{CONFIG} of {where}")
    if facts.get("format") != FORMAT or facts.get("kind") != kind:
        if facts.get("format") == OF_VECTORS:
            raise BadInput(
                f"{CONFIG} of {where} is not that of a {kind}: format {OF_VECTORS!r} is a vector's. `steer vectors pull` fetches it, and "
                f"hub:{address.name} names it where a vector is named."
            )
        if facts.get("format") == FORMAT and facts.get("kind") in ("plan", "probe"):
            raise BadInput(
                f"{where} holds a {facts['kind']}, not a {kind}: `steer {facts['kind']} pull` fetches it, and hub:{address.name} names it "
                f"where a {facts['kind']} is named."
            )
        raise BadInput(
            f"{CONFIG} of {where} is not that of a {kind}: format {facts.get('format')!r}, kind {facts.get('kind')!r}, not {FORMAT!r} and "
            f"{kind!r}."
        )
    if facts.get("version") != VERSION:
        raise BadInput(
            f"{CONFIG} of {where} is of version {facts.get('version')!r} of the format; this program reads version {VERSION}."
        )
    config = parsed(HashedConfig, facts, f"{CONFIG} of {where}")
    for name, digest in config.files.items():
        _check(folder, name, digest, where)
    return HashedCopy(address, folder.name, folder, config)


def _check(folder: Path, name: str, digest: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInput(f"{CONFIG} of {where} names {name!r}, which is no file of such a repository.")
    path = folder / name
    if not path.is_file():
        raise BadInput(f"{where} lacks {name}, which its {CONFIG} names. Ask its author to push it again.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != digest:
        raise BadInput(
            f"{name} of {where} is not the file that its {CONFIG} names: sha256 {found[:16]}..., not {digest[:16]}... If {path} was "
            "changed or cut short, delete it and pull again; otherwise ask its author to push it again."
        )
