"""`steer sae vector` and `steer sae label`: one latent as a steering vector, and under a name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steering.errors import BadInput

from ..store.latent_labels import Label, labels_of, write_labels
from .options import RUNS, RunsOption
from .sae_options import SAE, StatisticsOption

LatentArgument = Annotated[int, typer.Argument(min=0, help="The latent's number.")]


def vector(
    sae: Annotated[str, typer.Argument(help=SAE)],
    latent: LatentArgument,
    out: Annotated[Path, typer.Option(help="File of the vector (.safetensors).")],
    activation: Annotated[
        float | None,
        typer.Option(help="Of the latent at 1v; by default its mean where it is active, from the statistics."),
    ] = None,
    statistics: StatisticsOption = None,
) -> None:
    """Write one latent's decoder row as a steering vector, at the activation that the latent usually has."""
    from saes.directions import latent_vector
    from saes.loading import load_dictionary

    from .sae_options import opened

    if out.suffix != ".safetensors":
        raise BadInput(f"{out}: vectors are written as .safetensors; give a name that ends so.")
    if activation is None:
        dictionary, found = opened(sae, statistics)
        if latent < dictionary.latents and not found.alive[latent]:
            raise BadInput(
                f"Latent {latent} of {dictionary.name} has no mean activation: it was never active. Give --activation."
            )
        activation = float(found.mean[latent] / found.density[latent]) if latent < dictionary.latents else 1.0
    else:
        dictionary = load_dictionary(sae)
    print(latent_vector(dictionary, latent, activation).save(out))


def label(
    sae: Annotated[str, typer.Argument(help="What the dashboard names the autoencoder, such as builtin:base.")],
    latent: LatentArgument,
    text: Annotated[str, typer.Argument(help="What it responds to, in a few words; empty takes the label away.")],
    judge: Annotated[
        str, typer.Option(help="Who says so, where that is a model or another person: shown as judged.")
    ] = "",
    runs: RunsOption = RUNS,
) -> None:
    """Name a latent; the Features page shows the name and searches it."""
    from saes.loading import load_dictionary

    if (dictionary := load_dictionary(sae)).latents <= latent:
        raise BadInput(f"Latent {latent} does not exist: {sae} has 0 to {dictionary.latents - 1}.")
    found = labels_of(runs, sae)
    own, judged = found.get(latent, Label()).own, found.get(latent, Label()).judged
    made = Label(own, text, judge) if judge else Label(text, judged, found.get(latent, Label()).judge)
    print(write_labels(runs, sae, {**found, latent: made}))
