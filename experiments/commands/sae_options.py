"""What the commands of autoencoders share: options, the model that is read, an autoencoder with its statistics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from saes.dictionary import Dictionary
    from saes.statistics import LatentStatistics
    from steering.model.models import LoadedModel

SAE = "builtin:base or another that is shipped, release/id of SAELens, or a folder."
SaeOption = Annotated[str, typer.Option("--sae", help=SAE)]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="Hub id, folder, builtin:base or builtin:thinking; by default the one that the autoencoder's card names."
    ),
]
StatisticsOption = Annotated[
    Path | None,
    typer.Option("--statistics", help="File of latent statistics; by default the one beside the autoencoder."),
]


def model_of(sae: str, model: str | None) -> str:
    """The model that is read: the one given, or the one that the autoencoder's card names. Raises BadInput where neither names one."""
    from saes.folders import trained_on
    from saes.loading import load_dictionary
    from steering.errors import BadInput

    if found := model or trained_on(sae):
        return found
    load_dictionary(sae)  # what is no autoencoder is refused as that
    raise BadInput(f"{sae} does not say on which model it was trained; name it with --model.")


def opened(sae: str, statistics: Path | None, model: LoadedModel | None = None) -> tuple[Dictionary, LatentStatistics]:
    """An autoencoder and its statistics. Raises BadInput where either cannot be read."""
    from saes.loading import load_dictionary
    from saes.statistics import LatentStatistics

    from ..studies.autoencoders import stored_statistics

    dictionary = load_dictionary(sae, model=model)
    found = LatentStatistics.load(statistics) if statistics is not None else stored_statistics(sae)
    found.check(dictionary)
    return dictionary, found
