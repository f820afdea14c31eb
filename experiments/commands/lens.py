"""`steer vectors lens`: which tokens vectors and latents speak for, by the logit lens and by the Jacobian lens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from steering.errors import BadInput

from ..progress import paper, progress
from .options import DeviceOption, DtypeOption, JsonOption
from .warnings import say_controls, say_unknown, warn

if TYPE_CHECKING:
    from steering.extraction import JacobianLens, Lenses
    from steering.extraction.lens import LensToken
    from steering.model.models import LoadedModel
    from steering.vector.vectors import SteeringVector

HEADINGS = ("logit lens promotes", "Jacobian lens promotes", "logit lens demotes", "Jacobian lens demotes")


def lens(
    files: Annotated[list[Path] | None, typer.Argument(help="Vector files (.safetensors).")] = None,
    model: Annotated[str, typer.Option(help="The model that reads: hub id, folder, builtin:base.")] = "builtin:base",
    texts: Annotated[
        Path | None,
        typer.Option(
            help="What the Jacobian lens is fitted on, one text per line; a built-in model's own responses by default."
        ),
    ] = None,
    n: Annotated[int, typer.Option(help="Texts that are read at most.")] = 96,
    skip: Annotated[int, typer.Option(help="First positions of every text that are left out.")] = 16,
    longest: Annotated[int, typer.Option(help="Tokens of every text that are read.")] = 128,
    count: Annotated[int, typer.Option(help="Tokens of each end that are listed.")] = 10,
    sae: Annotated[
        str | None,
        typer.Option(help="Latents of this autoencoder, by their decoder rows: builtin:base, a folder, release/id."),
    ] = None,
    latents: Annotated[str, typer.Option(help="Numbers of the latents, as in 464,183.")] = "",
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tokens that vectors promote and demote: by the logit lens, and by a Jacobian lens fitted on texts, which takes in later layers."""
    from steering.extraction import both_lenses
    from steering.model.models import load_model

    from ..studies.lenses import check_texts_for, fitted_lenses, lens_texts

    if count < 1:
        raise BadInput(f"--count {count}: at least one token is listed.")
    vectors = [*_of_files(files or []), *_of_latents(sae, latents)]
    if not vectors:
        raise BadInput("Name vectors to read: files (.safetensors), or --sae with --latents.")
    lines = check_texts_for(model, texts, n)
    loaded = load_model(model, dtype=dtype, device=device)
    for _, vector in vectors:
        vector.check(loaded)
        _say_foreign(loaded, vector)
    if lines is not None:
        say_unknown(loaded, lines)
        say_controls(loaded, lines)
    read = lens_texts(loaded, lines, n)
    with progress("fitting on texts") as report:
        found = fitted_lenses(
            loaded, read, [vector.site for _, vector in vectors], skip=skip, longest=longest, on_progress=report
        )
    for said in found.said:
        warn(f"Warning: {said}")
    shown = []
    for source, vector in vectors:
        fitted = found.by_site[vector.site]
        shown.append((source, vector, fitted, both_lenses(loaded, fitted, vector, count)))
    if as_json:
        facts = [_facts(*one) | {"sentence": _sentence(one[-1], count)} for one in shown]
        print(json.dumps({"model": model, "about": read.about, "from_cache": found.kept, "vectors": facts}, indent=1))
        return
    console = paper()
    for source, vector, fitted, both in shown:
        console.print(_table(source, vector, both))
        console.print(Text(_sentence(both, count)))
        console.print(Text(f"{fitted.provenance.sentence} They are {read.about}."))
        for remark in both.remarks:
            console.print(Text(remark))


def _of_files(files: Sequence[Path]) -> list[tuple[str, SteeringVector]]:
    from steering.vector.vectors import SteeringVector

    return [(str(path), SteeringVector.load(path)) for path in files]


def _of_latents(sae: str | None, latents: str) -> list[tuple[str, SteeringVector]]:
    """Decoder rows as vectors. Raises BadInput for what is no number, or no latent of the autoencoder."""
    if (sae is None) != (not latents):
        raise BadInput("Give --sae and --latents together: an autoencoder, and numbers of its latents.")
    if sae is None:
        return []
    from saes.loading import load_dictionary
    from steering.vector.vectors import SteeringVector

    numbers = [part.strip() for part in latents.split(",")]
    if wrong := [part for part in numbers if not part.isdecimal()]:
        raise BadInput(f"--latents {latents!r}: {wrong[0]!r} is no number of a latent; write them as 464,183.")
    dictionary = load_dictionary(sae)
    rows = []
    for number in map(int, numbers):
        if number >= dictionary.latents:
            raise BadInput(f"{sae} has {dictionary.latents} latents, 0 to {dictionary.latents - 1}; {number} is none.")
        name = f"latent {number} of {dictionary.name}"
        rows.append(
            (
                f"{sae} latent {number}",
                SteeringVector(name, dictionary.site, dictionary.decoder[number], dictionary.provenance),
            )
        )
    return rows


def _say_foreign(model: LoadedModel, vector: SteeringVector) -> None:
    """Whose stream a vector is of, where it is another's than that of the model that reads it."""
    from steering.vector.vectors import UNKNOWN

    origin = vector.provenance
    if origin.model not in (UNKNOWN, model.fingerprint):
        warn(
            f"Warning: {vector.name!r} was extracted from {origin.model_id or origin.model}; both lenses are those of {model.id}, which "
            "has other weights."
        )


def _sentence(both: Lenses, count: int) -> str:
    return (
        f"Both lenses list {both.shared_promoted} of the {count} most promoted and {both.shared_demoted} of the {count} most demoted "
        f"tokens; cosine of their logits {both.cosine:+.2f}. What arrives at the end is {both.gain:.2f} times as long as the vector. Two "
        f"halves of the texts: cosine {both.halves_cosine:.3f} on this vector, their matrices differ by "
        f"{100 * both.halves_difference:.0f} %."
    )


def _table(source: str, vector: SteeringVector, both: Lenses) -> Table:
    table = Table(title=Text(f"{vector.name} at {vector.site} ({source})"), title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading)
    for row in zip(both.promoted, both.carried_promoted, both.demoted, both.carried_demoted, strict=True):
        table.add_row(
            *(
                Text(f"{token.text!r} {token.logit:+.2f}" if token.text else f"id {token.id} {token.logit:+.2f}")
                for token in row
            )
        )
    return table


def _tokens(tokens: Sequence[LensToken]) -> list[dict[str, Any]]:
    return [{"id": token.id, "text": token.text, "logit": token.logit} for token in tokens]


def _facts(source: str, vector: SteeringVector, fitted: JacobianLens, both: Lenses) -> dict[str, Any]:
    return {
        "vector": source,
        "name": vector.name,
        "site": str(vector.site),
        "digest": vector.digest,
        "logit": {"promoted": _tokens(both.promoted), "demoted": _tokens(both.demoted)},
        "jacobian": {"promoted": _tokens(both.carried_promoted), "demoted": _tokens(both.carried_demoted)},
        "agreement": {
            "shared_promoted": both.shared_promoted,
            "shared_demoted": both.shared_demoted,
            "cosine": both.cosine,
            "gain": both.gain,
        },
        "halves": {"cosine": both.halves_cosine, "difference": both.halves_difference},
        "axis_share": both.axis_share,
        "lens": {**vars(fitted.provenance), "digest": fitted.digest},
        "said": fitted.provenance.sentence,
        "remarks": list(both.remarks),
    }
