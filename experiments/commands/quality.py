"""Reports of vectors' quality in the terminal, and `steer vectors quality`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from steering.errors import BadInput

from ..progress import talk
from .options import (
    DeviceOption,
    DtypeOption,
    HeldOutOption,
    NegativeOption,
    PairsOption,
    PositiveOption,
    TextsOption,
    check_texts,
)
from .warnings import say_controls, say_unknown, warn

if TYPE_CHECKING:
    from steering.extraction import Quality

HEADINGS, COLUMN = 20, 30
"""Columns of the terminal for the names of the measures, and for each vector."""


def quality_tables(reports: Sequence[Quality], width: int) -> list[Table]:
    """The reports as tables that can be read in `width` columns: one column per vector, as many beside each other as fit."""
    from steering.extraction import quality_table

    tables = []
    beside = max(1, (width - HEADINGS) // COLUMN)
    for start in range(0, len(reports), beside):
        lines = quality_table(reports[start : start + beside])
        table = Table(title=lines.title, show_header=False)
        table.add_column(style="bold")
        for _ in range(lines.row_count):
            table.add_column(overflow="fold")
        for column in lines.columns:
            table.add_row(column.header, *column.cells)
        tables.append(table)
    return tables


def show_quality(reports: Sequence[Quality], console: Console) -> None:
    """Print reports."""
    for table in quality_tables(reports, console.width):
        console.print(table)


def quality(
    files: Annotated[list[Path], typer.Argument(help="Vector files (.safetensors).")],
    model: Annotated[
        str | None, typer.Option(help="Measure on texts in this model: hub id, folder, builtin:base.")
    ] = None,
    positive: PositiveOption = None,
    negative: NegativeOption = None,
    pairs: PairsOption = None,
    read: Annotated[
        str, typer.Option(help="Which tokens: last, first, mean, index:N, span:A:B; by default as the vector was.")
    ] = "",
    texts: TextsOption = "plain",
    held_out: HeldOutOption = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of what is held out.")] = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """The quality reports stored beside vectors; with --model and texts, their quality on those, measured now."""
    from ..studies.quality_files import read_quality

    given = positive is not None or negative is not None or pairs is not None
    if given != (model is not None):
        raise BadInput(
            "To measure, give --model and texts (--positive and --negative, or --pairs); without, reports are read."
        )
    stored = {file: read_quality(file) for file in files}
    said: dict[Path, str] = {}
    if model is not None:
        reports = _measured(
            files, stored, said, model, positive, negative, pairs, read, texts, held_out, seed, dtype, device
        )
    else:
        reports = {file: found.report for file, found in stored.items() if found is not None}
        for file, found in stored.items():
            said[file] = (
                found.sentence
                if found is not None
                else "there is no report beside it. Measure it: give --model and --positive, --negative or --pairs."
            )
    if as_json:
        facts: list[dict[str, Any]] = [
            {
                "file": str(file),
                "said": said.get(file, ""),
                "report": reports[file].to_dict() if file in reports else None,
            }
            for file in files
        ]
        print(json.dumps(facts, indent=1))
    elif reports:
        show_quality(list(reports.values()), Console())
    for file, text in said.items():
        if text:
            talk().print(f"{file}: {text}", highlight=False, soft_wrap=True, markup=False)
    if model is None and len(reports) < len(files):
        raise typer.Exit(1 if not reports else 3)


def _measured(
    files: Sequence[Path],
    stored: dict[Path, Any],
    said: dict[Path, str],
    model: str,
    positive: Path | None,
    negative: Path | None,
    pairs: Path | None,
    read: str,
    texts: str,
    held_out: float,
    seed: int,
    dtype: str,
    device: str | None,
) -> dict[Path, Quality]:
    from steering.model.models import load_model
    from steering.vector.vectors import SteeringVector

    from ..studies.contrasts import ContrastSpec, measure
    from ..studies.quality_files import known_texts
    from ..studies.sides import Where
    from ..studies.sources import OwnTexts

    check_texts(texts)
    own = OwnTexts.read(positive, negative, pairs)
    if own.alike:
        warn(f"Warning: {own.alike}")
    vectors = {file: SteeringVector.load(file) for file in files}
    known = {file: vector.provenance.notes.get("read", "last") for file, vector in vectors.items()}
    where = {file: Where.parse(read or (known[file] if known[file] != "window" else "last")) for file in files}
    specs = {
        file: ContrastSpec(sites=(str(vectors[file].site),), read=str(where[file]), held_out=held_out, seed=seed)
        for file in files
    }
    loaded = load_model(model, dtype=dtype, device=device)
    say_unknown(loaded, own.every)
    if texts == "plain":
        say_controls(loaded, own.every)
    found = {}
    for file, vector in vectors.items():
        sides = own.sides(loaded, where[file], chat=texts == "chat")
        found[file] = measure(loaded, vector, sides, specs[file])
        said[file] = known_texts(stored[file], [body.ids for body in (*sides.positive, *sides.negative)])
    return found
