"""Names of repositories: `owner/name`, with a revision `owner/name@revision`, and `hub:owner/name` where a file could be named too.

1. A name is read without any request; one that the hub could not have is refused with what it must look like.
2. A revision is a branch, a tag or a commit. Without one it is the branch `main`.
3. A path keeps a name's letters (`Path("hub:owner/name")`), so options that take files take names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import BadInput

PREFIX = "hub:"
MAIN = "main"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


@dataclass(frozen=True)
class Address:
    """One repository, and which state of it."""

    repository: str
    """`owner/name`."""
    revision: str = MAIN
    """Branch, tag or commit."""

    @property
    def name(self) -> str:
        """As it is written behind `hub:`."""
        return self.repository if self.revision == MAIN else f"{self.repository}@{self.revision}"

    @staticmethod
    def parse(text: str, revision: str | None = None) -> Address:
        """Address from `owner/name`, `owner/name@revision`, or either behind `hub:`; `revision` may be given apart. Raises BadInput."""
        repository, at, named = text.removeprefix(PREFIX).partition("@")
        if revision is not None and at:
            raise BadInput(f"{text!r} names a revision, and so does revision={revision!r}; give one of them.")
        if at and not named:
            raise BadInput(f"{text!r} ends with @: name a branch, a tag or a commit behind it, or leave the @ out.")
        wanted = named if at else revision if revision is not None else MAIN
        if not _REVISION.fullmatch(wanted) or ".." in wanted or "//" in wanted or wanted.endswith("/"):
            raise BadInput(
                f"{wanted!r} is not a revision: name a branch, a tag or a commit of 40 hexadecimal digits, as in owner/name@main."
            )
        return Address(checked_repository(repository), wanted)


def checked_repository(text: str) -> str:
    """`text` if a repository can be called that. Raises BadInput."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    why = "" if text.count("/") == 1 else " It needs an owner, one slash and a name."
    try:
        validate_repo_id(text)
    except HFValidationError as error:
        why = why or f" {str(error).rstrip('.')}."
    if why:
        raise BadInput(
            f"{text!r} is not the name of a repository.{why} Write owner/name, or owner/name@revision, with letters, digits, '-', '_' "
            "and '.'."
        )
    return text


def could_be_repository(text: str) -> bool:
    """Whether a repository could be called that."""
    try:
        return checked_repository(text) == text
    except BadInput:
        return False


def is_commit(text: str) -> bool:
    """Whether a text is a whole commit: 40 hexadecimal digits."""
    return _COMMIT.fullmatch(text) is not None


def is_hub_name(path: Path | str) -> bool:
    """Whether what is given in the place of a file names a repository."""
    return str(path).startswith(PREFIX)


def address_of(path: Path | str) -> Address:
    """The address that a path stands for (`is_hub_name`). Raises BadInput."""
    return Address.parse(str(path).replace("\\", "/"))
