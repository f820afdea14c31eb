"""Files into a repository of the hub, in one commit.

1. All files are written in one commit: a reader finds the old state or the new one. Files of the old state that the new one lacks go.
2. A repository that is not there is made; one that holds other files than such a push writes is left alone.
3. What another vector, plan or probe held at the branch is replaced, and that is said, with the commit that still holds it.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import BadInput, listed
from .contents import CONFIG, EVIDENCE, FILES, digest_in, facts_in
from .evidence import effects_in
from .names import MAIN, Address, is_commit
from .session import PREFIXES, RepositoryKind, Session, in_words

ATTRIBUTES = ".gitattributes"
"""What the hub itself puts into a new repository."""


class Replacing(UserWarning):
    """A push took the place of another vector, plan or probe."""


@dataclass(frozen=True)
class Former:
    """Another vector, plan or probe whose place a push took."""

    digest: str
    """`unknown` where its `config.json` does not say it."""
    commit: str
    """That still holds it."""
    same: bool = False
    """Whether the push is of the same one, so that only its evidence went."""
    effects: int = 0
    """Measured effects that it came with, where the push brings none."""
    facts: tuple[str, ...] = ()
    """What its `config.json` said (licence, papers, useful amounts, the base model's commit) and that of the push does not."""

    def sentence(self, repository: str, what: str) -> str:
        """That it was replaced, and where it still is."""
        effects = [f"{self.effects} measured {'effect' if self.effects == 1 else 'effects'}"] if self.effects else []
        held = " and ".join([*effects, *([listed(self.facts)] if self.facts else [])])
        if self.same:
            return (
                f"{repository} held {held} of this {what}, and this push brings none of it: its card no longer says it. It is still there "
                f"as {repository}@{self.commit}."
            )
        return (
            f"{repository} held {what} {self.digest}, which this push replaced; who names the repository or branch now gets the new one. "
            f"The former is still there as {repository}@{self.commit}" + (f", with {held}." if held else ".")
        )


@dataclass(frozen=True)
class Pushed:
    """What a push made."""

    repository: str
    commit: str
    url: str
    replaced: Former | None = None
    """What it took the place of; None where nothing was there, or the same."""
    changed: bool = True
    """Whether the branch holds something else than before."""


@dataclass(frozen=True)
class _Held:
    """What the branch that is written held."""

    files: frozenset[str] = frozenset()
    commit: str = ""


def is_vectors(name: str) -> bool:
    """Whether a file is one of those of a vector's repository."""
    return name in FILES


def send(
    files: Mapping[str, bytes | Path],
    address: Address,
    session: Session,
    private: bool,
    message: str,
    *,
    own: Callable[[str], bool] = is_vectors,
    what: str = "vector",
    kind: RepositoryKind = "model",
) -> Pushed:
    """Write the files into the repository, which is made where there is none (`private` counts only then).

    `own` says which files a push of this sort writes, `what` it is for messages; `kind` is the hub's kind of repository.

    Raises BadInput offline, for a token that may not write, and for a repository that holds other files.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    if is_commit(address.revision):
        raise BadInput(
            f"{address.name} names a commit, which no push can change: name a branch that is there, or leave the revision out for {MAIN}."
        )
    api = session.api()
    with in_words(session, address, "write", kind):
        held = _make(api, address, session, private, own, what, kind)
        made = held is None
        held = held or _Held()
        former = _former(api, address, held, files)
        operations: list[Any] = [CommitOperationAdd(path_in_repo=n, path_or_fileobj=d) for n, d in files.items()]
        operations += [CommitOperationDelete(path_in_repo=name) for name in sorted(held.files - set(files))]
        try:
            done = api.create_commit(
                address.repository, operations, commit_message=message, revision=address.revision, repo_type=kind
            )
        except (HfHubHTTPError, ValueError) as error:
            if made and _refused(error):
                api.delete_repo(
                    address.repository, repo_type=kind
                )  # nothing is left of a push that the hub did not take
            raise
    if former is not None:
        warnings.warn(former.sentence(address.repository, what), Replacing, stacklevel=3)
    url = f"{session.endpoint}/{PREFIXES[kind]}{address.repository}"
    return Pushed(address.repository, str(done.oid), url, former, str(done.oid) != held.commit)


def _former(api: Any, address: Address, held: _Held, files: Mapping[str, bytes | Path]) -> Former | None:
    """What the branch held under another digest than the files' own."""
    given = files.get(CONFIG)
    if CONFIG not in held.files or not isinstance(given, bytes):
        return None
    with tempfile.TemporaryDirectory() as folder:

        def former(name: str) -> bytes:
            return Path(
                api.hf_hub_download(address.repository, name, revision=held.commit, local_dir=folder)
            ).read_bytes()

        config = former(CONFIG)
        digest = digest_in(config)
        effects = effects_in(former(EVIDENCE)) if EVIDENCE in held.files else 0
    brings = files.get(EVIDENCE)
    dropped = 0 if isinstance(brings, bytes) and effects_in(brings) else effects
    same, new = digest == digest_in(given), facts_in(given, address.repository)
    lost = tuple(said for name, said in facts_in(config, address.repository).items() if name not in new)
    return None if same and not dropped and not lost else Former(digest, held.commit, same, dropped, lost)


def _refused(error: Exception) -> bool:
    """Whether the hub has read what was sent and does not take it. After a broken connection or a fault of the hub it may have it."""
    response = getattr(error, "response", None)
    return isinstance(error, ValueError) if response is None else 400 <= response.status_code < 500


def _make(
    api: Any,
    address: Address,
    session: Session,
    private: bool,
    own: Callable[[str], bool],
    what: str,
    kind: RepositoryKind,
) -> _Held | None:
    """Make the repository where there is none (None); else the files of an earlier push at the branch that is written."""
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    if address.revision != MAIN and not api.repo_exists(address.repository, repo_type=kind):
        raise BadInput(
            f"There is no repository {address.repository} at {api.endpoint}, so it has no branch {address.revision!r}: push without "
            f"@{address.revision} first, then make the branch (`hf repos branch create {address.repository} {address.revision}`)."
        )
    try:
        api.create_repo(address.repository, private=private or None, repo_type=kind)
        return None
    except HfHubHTTPError as error:
        if error.response is None or error.response.status_code != 409:
            raise
    found = api.repo_info(address.repository, repo_type=kind)
    held = {entry.rfilename for entry in found.siblings or []}
    if others := sorted(name for name in held - {ATTRIBUTES} if not own(name)):
        raise BadInput(
            f"{address.repository} at {session.endpoint} holds other files than a {what}'s ({listed(others, 4)}): push to a repository of "
            f"its own, such as one with the {what}'s name."
        )
    if address.revision != MAIN:
        try:
            found = api.repo_info(address.repository, repo_type=kind, revision=address.revision)
        except RevisionNotFoundError:
            return _Held()  # the commit says so in its own words
        held = {entry.rfilename for entry in found.siblings or []}
    return _Held(frozenset(filter(own, held)), str(found.sha or ""))
