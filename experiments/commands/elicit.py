"""`steer elicit` and `steer train`: what draws reasoning out of a model, without and with training, each with its controls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from steering.errors import BadInput, unknown

from ..progress import paper, warning
from .asking import FIND_START, TaskOption
from .hybrid import PAIRS
from .options import RUNS, JsonOption, MarkdownOption, RunsOption

if TYPE_CHECKING:
    from ..studies.elicitation.asked import Elicit
    from ..studies.elicitation.card import Card
    from ..studies.elicitation.findings import Findings
    from ..studies.elicitation.findings import Table as FoundTable


CardArgument = Annotated[str, typer.Argument(help="A card's name, `all`, or `list`.")]
PairOption = Annotated[str, typer.Option(help="builtin, careful, two models as BASE,THINKING, or one model.")]
FormsOption = Annotated[
    str, typer.Option(help="Of another task: the direct prompt form and the one that asks to think first.")
]
SplitOption = Annotated[
    str, typer.Option(help="Of another task: the split that is asked; `test`, or its last, by default.")
]
PresetOption = Annotated[str, typer.Option(help="quick (minutes on a laptop) or full.")]
SetsOption = Annotated[list[str] | None, typer.Option("--set", help="Override one field of the card: --set n=100")]
TokensOption = Annotated[int, typer.Option(min=2, help="Tokens per text that is graded.")]
FieldsOption = Annotated[bool, typer.Option("--fields", help="List the card's fields and presets, and run nothing.")]


def elicit(
    card: CardArgument,
    pair: PairOption = "builtin",
    runs: RunsOption = RUNS,
    task: TaskOption = FIND_START,
    forms: FormsOption = "",
    split: SplitOption = "",
    preset: PresetOption = "quick",
    sets: SetsOption = None,
    max_new_tokens: TokensOption = 360,
    fields: FieldsOption = False,
    as_json: JsonOption = False,
    as_markdown: MarkdownOption = False,
) -> None:
    """Run elicitation cards; a card that was stopped goes on where it was, and what is stored is read."""
    from ..studies.elicitation.named import CARDS

    if fields:
        list_fields(chosen_cards(card, CARDS), as_json, as_markdown)
        return
    cards(CARDS, card, (pair, task, forms, split, max_new_tokens), runs, preset, sets, as_json, as_markdown)


def train(
    card: CardArgument,
    pair: PairOption = "builtin",
    runs: RunsOption = RUNS,
    task: TaskOption = FIND_START,
    forms: FormsOption = "",
    split: SplitOption = "",
    preset: PresetOption = "quick",
    sets: SetsOption = None,
    max_new_tokens: TokensOption = 360,
    fields: FieldsOption = False,
    as_json: JsonOption = False,
    as_markdown: MarkdownOption = False,
) -> None:
    """Run training cards; a training that was stopped goes on after its last update, and what is stored is read."""
    from ..studies.training.named import CARDS

    if fields:
        list_fields(chosen_cards(card, CARDS), as_json, as_markdown)
        return
    cards(CARDS, card, (pair, task, forms, split, max_new_tokens), runs, preset, sets, as_json, as_markdown)


def cards(
    known: Mapping[str, Card],
    name: str,
    asking: tuple[str, str, str, str, int],
    runs: str,
    preset: str,
    sets: list[str] | None,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """List cards, or run those of a name; `asking` is what `asked_of` takes."""
    if name == "list":
        list_cards(list(known.values()), as_json)
        return
    one_form(as_json, as_markdown)
    given = overrides(preset, sets)
    form = "json" if as_json else "markdown" if as_markdown else ""
    run_cards(chosen_cards(name, known), asked_of(*asking), runs, preset, given, form)


def chosen_cards(name: str, cards: Mapping[str, Card]) -> list[Card]:
    """The card of that name, or `all` of them. Raises BadInput."""
    if name != "all" and name not in cards:
        raise unknown("card", name, cards)
    return list(cards.values()) if name == "all" else [cards[name]]


def overrides(preset: str, sets: list[str] | None) -> dict[str, Any]:
    """Fields that `--set` gives. Raises BadInput for these, or for an unknown preset."""
    from steering.documents import read_yaml

    if preset not in ("quick", "full"):
        raise unknown("preset", preset, ("quick", "full"), "--preset")
    given: dict[str, Any] = {}
    for text in sets or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise BadInput(f"--set {text}: write field=value, for example --set n=100.")
        if key in given:
            raise BadInput(f"--set {text}: {key} is set twice; set it once.")
        given[key] = read_yaml(value, f"--set {text}")
    return given


def asked_of(pair: str, task: str, forms: str, split: str, max_new_tokens: int) -> Elicit:
    """What the options ask. Raises BadInput."""
    from pydantic import ValidationError

    from ..evaluation.refusals import refusals
    from ..evaluation.spec_files import located_task
    from ..studies.elicitation.asked import Elicit, Setting
    from ..tasks.task import resolve_task
    from .prompts import task_of

    names = PAIRS.get(pair) or tuple(name.strip() for name in pair.split(","))
    if len(names) > 2 or not all(names):
        raise unknown("pair", pair, PAIRS, "--pair (or give two models as BASE,THINKING, or one)")
    facts: dict[str, Any] = {
        "base": names[0], "thinking": names[1] if len(names) == 2 else None, "max_new_tokens": max_new_tokens,
    }  # fmt: skip
    if task == FIND_START:
        if forms or split:
            raise BadInput("--forms and --split belong to another task: give --task too.")
    else:
        found = located_task(*task_of(task))
        known = resolve_task(found)
        named = [form.strip() for form in forms.split(",")]
        if len(named) != 2 or not all(named):
            raise BadInput(
                f"--forms{f' {forms}' if forms else ''}: name two prompt forms of task {known.name}, the direct one first; it has "
                f"{', '.join(known.forms)}."
            )
        if named[0] == named[1]:
            raise BadInput(
                f"--forms {forms} names one form twice, so that both settings ask the same questions in one form; name the direct form "
                f"first and then another of {', '.join(known.forms)}."
            )
        where = split or ("test" if "test" in known.splits else known.splits[-1])
        settings = [
            Setting(name=name, split=where, form=form)
            for name, form in zip(("direct prompts", "think-first prompts"), named, strict=True)
        ]
        facts |= {"task": found, "settings": settings, "think": named[1]}
    try:
        return Elicit.model_validate(facts)
    except ValidationError as error:
        raise BadInput("; ".join(refusals(error))) from error


def one_form(as_json: bool, as_markdown: bool) -> None:
    """Raises BadInput where both are asked for."""
    if as_json and as_markdown:
        raise BadInput("--json and --markdown: ask for one of them.")


def run_cards(cards: list[Card], asked: Elicit, runs: str, preset: str, given: dict[str, Any], form: str) -> None:
    """Run cards and print what they found: `form` is json, markdown or, by default, tables."""
    from ..store.runs import Store
    from ..studies.elicitation.run import run_card
    from ..studies.elicitation.written import markdown

    models: dict[str, Any] = {}
    documents: list[Any] = []
    refused: list[str] = []
    for card in cards:
        try:
            found = run_card(card, asked, Store(runs), preset, given, models=models)  # type: ignore[arg-type]
        except BadInput as error:
            if len(cards) == 1 or (card is cards[-1] and not documents):
                raise
            refused.append(card.name)
            warning(f"{card.name} is left out: {error}")
            continue
        documents.append(found.model_dump(mode="json"))
        if form == "markdown":
            print(markdown(found))
        elif not form:
            show(found, paper())
    if refused:
        warning(f"{len(refused)} of {len(cards)} cards were left out, as said above: {', '.join(refused)}.")
    if form == "json":
        print(json.dumps(documents if len(documents) > 1 else documents[0], indent=1, sort_keys=True))


def show(found: Findings, console: Console) -> None:
    """A card's points, tables and sentences on a console."""
    from ..studies.elicitation.written import signed

    for setting in dict.fromkeys(point.setting for point in found.points):
        table = Table(
            title=f"{found.card}, {setting}: {found.pair[0]} on {found.task}",
            title_justify="left",
            box=SIMPLE_HEAD,
            padding=0,
        )
        for head in ("arm", "n", "right % (95 %)", "tokens", "vs base", "vs its control", "cut", "no answer"):
            table.add_column(head, justify="left" if head == "arm" else "right", overflow="fold")
        for point in found.points:
            if point.setting == setting:
                table.add_row(
                    point.label, str(point.n), f"{100 * point.accuracy:.1f} ({100 * point.low:.1f}-{100 * point.high:.1f})",
                    f"{point.tokens:.0f}", signed(point.difference, point.difference_low, point.difference_high),
                    signed(point.over_control, point.over_control_low, point.over_control_high), str(point.truncated),
                    str(point.unscorable),
                )  # fmt: skip
        console.print(table, highlight=False)
    for own in found.tables:
        show_table(own, console)
    for sentence in found.said:
        console.print(sentence, highlight=False)
    console.print(f"Runs: {', '.join(found.runs)}.", highlight=False)


def show_table(own: FoundTable, console: Console, words: bool = False) -> None:
    """One table of findings with its notes; `words`: its columns hold words, and no numbers to be compared down a column."""
    table = Table(title=own.title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for number, head in enumerate(own.heads):
        table.add_column(head, justify="left" if number == 0 or words else "right", overflow="fold")
    for line in own.lines:
        table.add_row(*("" if cell is None else str(cell) for cell in line))
    console.print(table, highlight=False)
    for note in own.notes:
        console.print(note, highlight=False)


def list_fields(cards: list[Card], as_json: bool, as_markdown: bool) -> None:
    """What `--set` takes for each card."""
    from ..studies.elicitation.fields import fields_table
    from ..studies.elicitation.written import table_parts

    one_form(as_json, as_markdown)
    tables = {card.name: fields_table(card) for card in cards}
    if as_json:
        facts = [
            {"card": name, "field": field, "quick": quick, "full": full, "what": what}
            for name, table in tables.items()
            for field, quick, full, what in table.lines
        ]
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    for table in tables.values():
        if as_markdown:
            print("\n\n".join(table_parts(table)) + "\n")
        else:
            show_table(table, paper(), words=True)


def list_cards(cards: list[Card], as_json: bool) -> None:
    """Names, systems, papers, what is measured and by which control."""
    if as_json:
        facts = [
            {
                "card": card.name, "title": card.title, "row": row, "papers": list(card.papers), "measures": card.measures,
                "control": card.control,
            }
            for card in cards
            for row in card.systems
        ]  # fmt: skip
        print(json.dumps(facts, indent=1))
        return
    table = Table(box=SIMPLE_HEAD, padding=0)
    for head in ("card", "systems", "papers", "measures", "control"):
        table.add_column(head, overflow="fold")
    for card in cards:
        table.add_row(card.name, ", ".join(card.systems), ", ".join(card.papers), card.measures, card.control)
    paper().print(table, highlight=False)
