"""Files into a repository of the hub, in one commit.

1. All files of `contents.FILES` are written in one commit: a reader finds the old state or the new one.
2. A repository that is not there is made; one that holds anything but a vector's files is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import BadInput, listed
from .contents import FILES
from .names import Address
from .session import Session, in_words

ATTRIBUTES = ".gitattributes"
"""What the hub itself puts into a new repository."""


@dataclass(frozen=True)
class Pushed:
    """What a push made."""

    repository: str
    commit: str
    url: str


def send(files: Mapping[str, bytes], address: Address, session: Session, private: bool, message: str) -> Pushed:
    """Write the files into the repository, which is made where there is none (`private` counts only then).

    Raises BadInput offline, for a token that may not write, and for a repository that holds other files.
    """
    from huggingface_hub import CommitOperationAdd

    api = session.api()
    with in_words(session, address, "write"):
        _make(api, address, session, private)
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in files.items()]
        done = api.create_commit(address.repository, operations, commit_message=message, revision=address.revision)
    return Pushed(address.repository, str(done.oid), f"{session.endpoint}/{address.repository}")


def _make(api: Any, address: Address, session: Session, private: bool) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(address.repository, private=private or None)
        return
    except HfHubHTTPError as error:
        if error.response is None or error.response.status_code != 409:
            raise
    held = {entry.rfilename for entry in api.model_info(address.repository).siblings or []}
    if others := sorted(held - {ATTRIBUTES, *FILES}):
        raise BadInput(
            f"{address.repository} at {session.endpoint} holds other files than a vector's ({listed(others, 4)}): push to a repository of "
            "the vector's own, such as one with the vector's name."
        )
