"""`steer overview`: every elicitor of a store in one table, and what elicitors have in common on one figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steering.errors import BadInput

from ..progress import paper, talk, warning
from .elicit import one_form, show_table
from .hybrid import PAIRS
from .options import RUNS, JsonOption, MarkdownOption, RunsOption

if TYPE_CHECKING:
    from ..studies.elicitation.findings import Findings


def overview(
    runs: RunsOption = RUNS,
    pair: Annotated[str, typer.Option(help="BASE,THINKING, where the store holds cards of several pairs.")] = "",
    task: Annotated[str, typer.Option(help="Name of the task, where the store holds cards of several.")] = "",
    setting: Annotated[str, typer.Option(help="Which setting of the cards; by default the first one.")] = "",
    card: Annotated[list[str] | None, typer.Option("--card", help="Only lines of this card; may be repeated.")] = None,
    controls: Annotated[bool, typer.Option("--controls/--no-controls", help="With the controls.")] = True,
    figure: Annotated[
        Path | None,
        typer.Option(help="Write the fingerprint card's figure there, as .svg or .png, its data beside it as .csv."),
    ] = None,
    as_json: JsonOption = False,
    as_markdown: MarkdownOption = False,
) -> None:
    """One table of all stored cards: what each elicitor recovers, with its interval, and what it costs to train and to use."""
    from ..store.runs import Store
    from ..studies.elicitation.findings import stored_findings
    from ..studies.elicitation.written import table_parts
    from ..studies.training.overview import ROLES, elicitors, overview_records, overview_table, settings_of

    one_form(as_json, as_markdown)
    store = Store(runs)
    found, broken = stored_findings(store)
    for words in broken:
        warning(words)
    if pair:
        named = PAIRS.get(pair) or tuple(name.strip() for name in pair.split(","))
        wanted = (named[0], named[1] if len(named) > 1 else None)
        if not (own := [one for one in found if one.pair == wanted]):
            raise BadInput(f"{store.root} holds no findings of {pair}; it has {_pairs(found)}.")
        found = own
    if task:
        if not (own := [one for one in found if one.task == task]):
            raise BadInput(
                f"{store.root} holds no findings on {task}; it has {', '.join(sorted({one.task for one in found}))}."
            )
        found = own
    if card:
        if odd := sorted(set(card) - {one.card for one in found}):
            raise BadInput(
                f"--card {odd[0]}: the store holds no findings of it; it has {', '.join(sorted({o.card for o in found}))}."
            )
        found = [one for one in found if one.card in card]
    if figure is not None:
        _figure(found, figure)
    chosen = setting or (settings_of(found) or [""])[0]
    roles = ROLES if controls else tuple(role for role in ROLES if role != "control")
    lines = elicitors(store, found, chosen, roles)
    table = overview_table(lines, chosen)
    if as_json:
        print(json.dumps({"records": overview_records(lines, chosen), "notes": list(table.notes)}, indent=1))
    elif as_markdown:
        print("\n\n".join(table_parts(table)))
    else:
        show_table(table, paper())


def _pairs(found: list[Findings]) -> str:
    return "; ".join(sorted({",".join(filter(None, one.pair)) for one in found})) or "none"


def _figure(found: list[Findings], path: Path) -> None:
    """Raises BadInput for another ending, and where no finding can be drawn."""
    from steering.files import write_file

    from ..report.evidence import Unavailable
    from ..report.figures.elicitors import elicitor_figure
    from ..report.writing import in_csv

    if path.suffix not in (".svg", ".png"):
        raise BadInput(f"--figure {path}: name a file that ends in .svg or .png.")
    own = [one for one in found if one.card == "fingerprint"]
    if not own:
        raise BadInput(
            "--figure: the store holds no findings of the card fingerprint; `steer train fingerprint` makes them."
        )
    try:
        drawing = elicitor_figure(own[-1])
    except Unavailable as error:
        raise BadInput(f"--figure: {error}.") from error
    write_file(path, drawing.svg.encode() if path.suffix == ".svg" else drawing.png())
    write_file(path.with_suffix(".csv"), in_csv(drawing.frame).encode())
    talk().print(f"{path}: {drawing.words}", highlight=False, markup=False)
