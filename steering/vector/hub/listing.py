"""Vectors that a hub lists.

1. The hub is asked once whether it answers before the list is fetched, whose own requests are repeated for half a minute.
2. A repository is listed by its tag (`contents.TAG`) alone; whether it holds a vector of this program is known when it is pulled.
3. The base model is what its card says, and filters by id, without a commit.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import BadInput
from .contents import LIBRARY, TAG
from .names import checked_repository
from .session import Session, in_words

MOST = 1000
_BASE = "base_model:"


@dataclass(frozen=True)
class Listed:
    """One repository of the list."""

    repository: str
    base_models: tuple[str, ...]
    """Ids that its card names."""
    library: str | None
    downloads: int
    likes: int
    changed: str
    """Date of the last change, or nothing."""


def listed_vectors(session: Session, base: str | None = None, limit: int = 20) -> list[Listed]:
    """Repositories with the tag `steering-vector`, of one base model where its id is given, as the hub orders them. Raises BadInput."""
    if not 1 <= limit <= MOST:
        raise BadInput(f"A list of {limit} repositories cannot be asked for: give a limit from 1 to {MOST}.")
    filters = [TAG, *([f"{_BASE}{checked_repository(base)}"] if base is not None else [])]
    api = session.api()
    with in_words(session, None, "read"):
        _answers(session)
        models = list(api.list_models(filter=filters, limit=limit))
    return [
        Listed(
            model.id,
            _base_models(model.tags or []),
            model.library_name,
            int(model.downloads or 0),
            int(model.likes or 0),
            model.last_modified.date().isoformat() if model.last_modified else "",
        )
        for model in models
    ]


def _answers(session: Session) -> None:
    """Raises what `huggingface_hub` raises where the hub does not answer, or refuses."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    asked = {"filter": TAG, "limit": "1"}
    hf_raise_for_status(
        get_session().get(
            f"{session.endpoint}/api/models", params=asked, headers=build_hf_headers(library_name=LIBRARY),
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
    )  # fmt: skip


def _base_models(tags: list[str]) -> tuple[str, ...]:
    """From `base_model:owner/name`, without those that name the relation too (`base_model:adapter:owner/name`)."""
    named = [tag.removeprefix(_BASE) for tag in tags if tag.startswith(_BASE)]
    return tuple(name for name in named if ":" not in name)
