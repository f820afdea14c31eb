"""`steer train`: what draws reasoning out of a model by training something small on it, beside what needs no training."""

from __future__ import annotations

from typing import Annotated

import typer

from .asking import FIND_START, TaskOption
from .elicit import asked_of, chosen_cards, list_cards, one_form, overrides, run_cards
from .options import RUNS, JsonOption, MarkdownOption, RunsOption


def train(
    card: Annotated[str, typer.Argument(help="A card's name, `all`, or `list`.")],
    pair: Annotated[str, typer.Option(help="builtin, two models as BASE,THINKING, or one model.")] = "builtin",
    runs: RunsOption = RUNS,
    task: TaskOption = FIND_START,
    forms: Annotated[
        str, typer.Option(help="Of another task: the direct prompt form and the one that asks to think first.")
    ] = "",
    split: Annotated[
        str, typer.Option(help="Of another task: the split that is asked; `test`, or its last, by default.")
    ] = "",
    preset: Annotated[str, typer.Option(help="quick (minutes on a laptop) or full.")] = "quick",
    sets: Annotated[list[str] | None, typer.Option("--set", help="Override one field of the card: --set n=100")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens per graded text.")] = 360,
    as_json: JsonOption = False,
    as_markdown: MarkdownOption = False,
) -> None:
    """Run training cards; a training that was stopped goes on after its last update, and what is stored is read."""
    from ..studies.training.named import CARDS

    if card == "list":
        list_cards(list(CARDS.values()), as_json)
        return
    one_form(as_json, as_markdown)
    given = overrides(preset, sets)
    asked = asked_of(pair, task, forms, split, max_new_tokens)
    form = "json" if as_json else "markdown" if as_markdown else ""
    run_cards(chosen_cards(card, CARDS), asked, runs, preset, given, form)
