"""A repository's files on this machine: fetched at one commit, and checked.

1. A branch or tag is resolved to a commit once; every file is fetched at that commit, so a repository that changes meanwhile gives one
   state or the other, never a mixture.
2. Only the files of `contents.FILES` are fetched, whatever else lies there.
3. What the cache holds of a commit is not fetched again. Offline, the commit is the one that the branch or tag had when it was last
   fetched. Cached files are checked like fetched ones.
   So it is where the hub does not answer, which is said (`NotAnswering`): a newer commit may be there.
4. In the place of a file, a name means one commit for as long as the process lives: all cells of a sweep have one vector.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .checks import checked_folder
from .contents import EVIDENCE, FILES, VECTOR, Config
from .evidence import Evidence, read_evidence
from .names import Address, address_of, is_commit, is_hub_name
from .session import NotAnswering, RepositoryKind, Session, first_line, in_words

HUB_NOTE = "hub"
"""Key of a vector's notes: which repository and commit it was taken from by name."""


@dataclass(frozen=True)
class Copy:
    """The checked files of one commit of a repository."""

    address: Address
    commit: str
    folder: Path
    config: Config

    @property
    def vector(self) -> Path:
        """The vector's file."""
        return self.folder / VECTOR

    @property
    def where(self) -> str:
        """Repository and commit, for messages."""
        return f"{self.address.repository} at {self.commit[:12]}"

    def evidence(self) -> Evidence:
        """What the repository says that the vector does; empty where it says nothing. Raises BadInput for what is no evidence, or that of
        another vector."""
        path = self.folder / EVIDENCE
        if not path.is_file():
            return Evidence()
        return read_evidence(path.read_bytes(), f"{EVIDENCE} of {self.where}", self.config.file.digest)


def fetch(address: Address, session: Session) -> Copy:
    """The files of a repository, fetched (or taken from the cache) and checked.

    Raises BadInput for a repository that is not there or not a vector's, a connection that breaks, a file that is not as described, and
    offline for one that is not in the cache.
    """
    folder = snapshot(address, session, FILES)
    return Copy(address, folder.name, folder, checked_folder(folder, f"{address.repository} at {folder.name[:12]}"))


def snapshot(address: Address, session: Session, patterns: Sequence[str], kind: RepositoryKind = "model") -> Path:
    """The folder of one commit, which it is named by, with the files of these names and patterns; nothing is checked. Warns
    (`NotAnswering`) where the hub does not answer and the cache's commit is taken. Raises BadInput for what cannot be fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    with in_words(session, address, "read", kind):
        silent = _not_answering(address, session, kind)
        try:
            folder = Path(
                snapshot_download(
                    address.repository,
                    repo_type=kind,
                    revision=address.revision,
                    endpoint=session.endpoint,
                    cache_dir=session.cache,
                    local_files_only=session.offline or silent is not None,
                    allow_patterns=list(patterns),
                    max_workers=1,
                    tqdm_class=_silent(),
                    library_name="steering-workbench",
                )
            )
        except LocalEntryNotFoundError as error:
            if silent is None:
                raise
            if isinstance(silent, HfHubHTTPError):
                raise silent from error
            raise LocalEntryNotFoundError(str(error)) from silent
    if silent is not None:
        warnings.warn(
            f"The hub at {session.endpoint} does not answer for {address.name} ({first_line(silent).rstrip('.')}): taken from the cache, "
            f"as it was when it was last fetched, at commit {folder.name[:12]}.",
            NotAnswering,
            stacklevel=2,
        )
    return folder


def _not_answering(address: Address, session: Session, kind: RepositoryKind) -> Exception | None:
    """Why the hub does not say which commit is meant; None where it says so, and where it need not be asked."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    if session.offline or is_commit(address.revision):
        return None
    try:
        session.api().repo_info(address.repository, revision=address.revision, repo_type=kind)
    except RevisionNotFoundError:
        raise
    except (httpx2.ConnectError, httpx2.TimeoutException, HfHubHTTPError) as error:
        return error
    return None


def local_file(path: Path | str) -> Path:
    """The file that is meant: `path` itself, or the checked file of the repository that `hub:owner/name` names. Raises BadInput."""
    if not is_hub_name(path):
        return Path(path)
    session = Session.of()
    copy = _first(address_of(path), session)
    if not copy.vector.is_file():  # the cache was cleared since
        copy = fetch(Address(copy.address.repository, copy.commit), session)
    checked_folder(copy.folder, copy.where)
    return copy.vector


def taken_from(path: Path | str) -> dict[str, str]:
    """For a vector's notes: `hub`, the repository and commit (`owner/name@commit`) that a name stands for; empty for a file. Raises
    BadInput."""
    if not is_hub_name(path):
        return {}
    copy = _first(address_of(path), Session.of())
    return {HUB_NOTE: f"{copy.address.repository}@{copy.commit}"}


@cache
def _first(address: Address, session: Session) -> Copy:
    return fetch(address, session)


def _silent() -> Any:
    """A progress bar that shows nothing: the files are small."""
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):  # type: ignore[misc, type-arg]
        def __init__(self, *given: Any, **options: Any):
            super().__init__(*given, **{**options, "disable": True})

    return Silent
