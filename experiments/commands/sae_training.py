"""`steer sae train`: an autoencoder from texts to a card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ..progress import paper
from .options import JsonOption
from .warnings import warn

TextsOption = Annotated[
    Path | None, typer.Option(help="Texts: .jsonl with `text`, or one per line. Without: the built-in task's own.")
]
PieceOption = Annotated[
    int | None,
    typer.Option(help="Tokens that a text of a file is read in at a time, to its end; by default the model's context."),
]


def train(
    out: Annotated[Path, typer.Option(help="Folder of the training; the autoencoder is its `sae`.")],
    model: Annotated[str, typer.Option(help="Hub id, folder, or a name of `steer models`.")] = "builtin:base",
    site: Annotated[str, typer.Option(help="Whose activations are read.")] = "blocks.2.hook_resid_post",
    architecture: Annotated[str, typer.Option(help="topk, batchtopk, jumprelu, standard.")] = "topk",
    latents: Annotated[int, typer.Option(help="Width of the dictionary.")] = 1024,
    k: Annotated[int, typer.Option(help="Latents active per token (topk, batchtopk).")] = 16,
    sparsity: Annotated[float, typer.Option(help="Sparsity coefficient (jumprelu, standard).")] = 1.0,
    activations: Annotated[int, typer.Option(help="Tokens to train on; few texts are read several times.")] = 2_000_000,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    texts: TextsOption = None,
    piece: PieceOption = None,
    about: Annotated[str, typer.Option(help="What the card says that the texts of the file are.")] = "",
    problems: Annotated[int, typer.Option(help="Training problems that the built-in models respond to.")] = 3000,
    keep_sinks: Annotated[
        bool,
        typer.Option("--keep-sinks", help="Train on attention sinks too, which can hold nearly all of the variance."),
    ] = False,
    hold: Annotated[
        bool,
        typer.Option("--hold", help="Hold the activations in memory, so that the model reads few texts only once."),
    ] = False,
    stored: Annotated[str, typer.Option(help="Precision of the matrices on disk: float32, bfloat16.")] = "float32",
    statistics_tokens: Annotated[
        int | None, typer.Option(help="Tokens of training texts that statistics are read on; by default all.")
    ] = None,
    loss_tokens: Annotated[
        int | None, typer.Option(help="Held-back tokens that losses are measured on; by default all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train an autoencoder, read its statistics, and measure its quality on held-back texts. Goes on where it stopped."""
    from dataclasses import asdict

    from saes.training import TrainingSpec
    from steering.errors import BadInput
    from steering.model.models import load_model
    from steering.model.sites import Site

    from ..studies.autoencoders import facts_of, held_back_texts, make_autoencoder, texts_of

    for option, value in (("--statistics-tokens", statistics_tokens), ("--loss-tokens", loss_tokens)):
        if value is not None and value < 1:
            raise BadInput(f"{option} {value}: give at least 1, or leave it out to read all.")
    if (piece is not None or about) and texts is None:
        raise BadInput(f"{'--about' if about else '--piece'} is of the texts of a file; give --texts too.")
    spec = TrainingSpec(
        architecture, latents, k, sparsity, activations, learning_rate=learning_rate, seed=seed, keep_sinks=keep_sinks, hold=hold,  # type: ignore[arg-type]
        stored=stored,  # type: ignore[arg-type]
    )  # fmt: skip
    loaded, place = load_model(model), Site.parse(site)
    loaded.layout.check(place)
    training, held_back = texts_of(loaded, texts, problems, piece), held_back_texts(loaded, texts, piece)
    facts = None if texts is None else facts_of(texts, piece, training, held_back, about)
    folder, quality = make_autoencoder(
        loaded, place, spec, out, training, held_back, facts=facts, statistics_tokens=statistics_tokens, loss_tokens=loss_tokens
    )  # fmt: skip
    shares = {"recovered": quality.recovered, "recovered_of_mean": quality.recovered_of_mean}
    for remark in quality.remarks:
        warn(remark)
    show_facts(
        {**asdict(quality), **shares, "folder": str(folder)},
        f"{architecture} autoencoder of {model} at {place}",
        as_json,
    )


def show_facts(facts: dict[str, Any], title: str, as_json: bool) -> None:
    """A table of names and values, or the same as JSON."""
    if as_json:
        print(json.dumps(facts, indent=1, default=str))
        return
    table = Table(title=title, show_header=False)
    for key, value in _flat(facts):
        table.add_row(key, f"{value:.4g}" if isinstance(value, float) else str(value))
    paper().print(table)


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values; those of an inner mapping with its name before theirs."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}: ")
        else:
            yield f"{before}{key}", value
