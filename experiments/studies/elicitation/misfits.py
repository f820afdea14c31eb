"""Vectors that do not fit the model that they are added to, refused before its weights are loaded.

Layers and width come from the model's configuration. A vector of another model that fits is no misfit: it runs, and that it is foreign is
said with what is found.
"""

from __future__ import annotations

from collections.abc import Mapping

from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.model.reader import Sited, load_reader

from .asked import Elicit
from .card import Options


def refuse_misfits(asked: Elicit, options: Options, models: Mapping[str, LoadedModel]) -> None:
    """Raises BadInput, which names the file, for a vector with another width than the base's or at a layer that it does not have."""
    added = options.added()
    if not added:
        return
    revisions = asked.loading.revisions if asked.loading else {}
    base: Sited = models.get(asked.base) or load_reader(asked.base, revision=revisions.get(asked.base))
    for name, vector in added:
        try:
            vector.check_config(base)
        except BadInput as error:
            raise BadInput(f"{name}: {error}") from error
