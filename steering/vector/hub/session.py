"""How the hub is reached: which endpoint and cache, whether at all, and what its refusals mean.

1. Endpoint, cache and offline mode are read from the environment at every call (`HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`,
   `HF_HUB_OFFLINE`), unless the caller names them.
2. Tokens are `huggingface_hub`'s own business; none is read, kept or shown here.
3. Whatever goes wrong between here and the hub is one BadInput that says which repository, where, and what to do. What goes wrong with
   this machine's disk stays the OSError that it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import BadInput
from .names import MAIN, Address


class NotAnswering(UserWarning):
    """The hub did not answer, and what an earlier fetch left in the cache was taken."""


RepositoryKind = Literal["model", "dataset"]
LIST = "the list of models"
_SHORT = re.compile(r"[0-9a-f]{7,39}")
PREFIXES: dict[RepositoryKind, str] = {"model": "", "dataset": "datasets/"}
"""What the address of a repository's page begins with."""


@dataclass(frozen=True)
class Session:
    """One way to the hub."""

    endpoint: str
    """URL of the hub, without a slash at its end."""
    cache: Path
    """Folder of fetched files, as `huggingface_hub` lays it out."""
    offline: bool
    """Whether only the cache is asked."""

    @staticmethod
    def of(endpoint: str | None = None, cache: Path | str | None = None, offline: bool = False) -> Session:
        """The session of this moment's environment, but for what is given. Raises BadInput for an endpoint that is no address."""
        from huggingface_hub import constants

        found = endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
        home = os.environ.get("HF_HOME")
        place = cache or os.environ.get("HF_HUB_CACHE") or (Path(home) / "hub" if home else constants.HF_HUB_CACHE)
        if not found.startswith(("http://", "https://")):
            raise BadInput(f"{found!r} is no address of a hub (HF_ENDPOINT): it begins with https:// or http://.")
        asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES
        return Session(found.rstrip("/"), Path(place).expanduser(), offline or asked or constants.is_offline_mode())

    def api(self) -> Any:
        """The client. Raises BadInput in offline mode."""
        from huggingface_hub import HfApi

        if self.offline:
            raise BadInput(
                f"Offline mode is on (HF_HUB_OFFLINE), and this needs the hub at {self.endpoint}: switch it off for this command."
            )
        return HfApi(endpoint=self.endpoint, library_name="steering-workbench")


@contextmanager
def in_words(session: Session, address: Address | None, doing: str, kind: RepositoryKind = "model") -> Iterator[None]:
    """Around requests: what `huggingface_hub` raises becomes one BadInput. `doing` completes "could not", as in "fetch the vector"."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    what = address.name if address is not None else LIST
    try:
        yield
    except LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, HfHubHTTPError):
            raise BadInput(_refused(session, address, what, doing, error.__cause__, kind)) from error
        raise BadInput(_not_here(session, what, error)) from error
    except HfHubHTTPError as error:
        raise BadInput(_refused(session, address, what, doing, error, kind)) from error
    except (httpx2.HTTPError, OSError) as error:
        if (
            isinstance(error, OSError)
            and error.errno is not None
            and not isinstance(error, ConnectionError | TimeoutError)
        ):
            raise  # of this machine's disk: its own message names the file
        raise BadInput(_broken(session, what, doing, error)) from error
    except ValueError as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"Could not {doing} {what} at {session.endpoint}: {_reason(error)}") from error


def first_line(error: BaseException) -> str:
    """What went wrong, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:240]


def _not_here(session: Session, what: str, error: Exception) -> str:
    if session.offline:
        return (
            f"{what} is not in the cache ({session.cache}), and offline mode is on: switch HF_HUB_OFFLINE off once and pull it, or give a "
            "file."
        )
    return (
        f"The hub at {session.endpoint} cannot be reached, and {what} is not in the cache ({session.cache}): "
        f"{first_line(error.__cause__ or error).rstrip('.')}. Try again when it answers, or give a file."
    )


def _refused(session: Session, address: Address | None, what: str, doing: str, error: Any, kind: RepositoryKind) -> str:
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    status = error.response.status_code if error.response is not None else 0
    login = "log in (`hf auth login`) or set HF_TOKEN to a token that may"
    if isinstance(error, GatedRepoError):
        return f"{what} is gated: ask for access on its page at {session.endpoint}, then {login} read it."
    if isinstance(error, RevisionNotFoundError) and address is not None:
        whole = " (a commit is written with all of its 40 digits)" if _SHORT.fullmatch(address.revision) else ""
        branch = (
            f" `hf repos branch create {address.repository} {address.revision}` makes a branch."
            if doing == "write"
            else ""
        )
        return (
            f"{address.repository} has no revision {address.revision!r} at {session.endpoint}: name a branch, a tag or a commit{whole}, or "
            f"leave the revision out for {MAIN}.{branch}"
        )
    if status == 401:
        return f"The hub at {session.endpoint} does not know who asks for {what} (401), or has no such repository: {login} {doing} it."
    if status == 403:
        return f"The hub at {session.endpoint} does not allow this token to {doing} {what} (403): {login}."
    if status == 404:
        lists = " (`steer vectors search` lists vectors)," if kind == "model" else ""
        return f"There is no {kind} repository {what} at {session.endpoint} (404), or it is private: check owner and name{lists} or log in."
    return f"Could not {doing} {what}: the hub at {session.endpoint} answers {status or 'with an error'} ({_reason(error)})."


def _broken(session: Session, what: str, doing: str, error: Exception) -> str:
    left = "" if what == LIST else " No file is left half."
    return (
        f"Could not {doing} {what}: the connection to {session.endpoint} broke ({first_line(error)}).{left} Run the same again when it "
        "answers."
    )


def _reason(error: BaseException) -> str:
    """What was said in a few lines: a hub names what it refuses behind the first one."""
    return " ".join(str(error).split())[:400] or type(error).__name__
