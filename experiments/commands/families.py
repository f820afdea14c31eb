"""`steer families`: is there reasoning to elicit in a model?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..progress import paper
from .options import RUNS, JsonOption, RunsOption
from .prompts import task_of

if TYPE_CHECKING:
    from ..studies.families import Family, Side


UNREAD_WORDS = " (many answers could not be compared: it may be a matter of format)"


def families(
    model: Annotated[str, typer.Option(help="Model: hub id, folder, .gguf file, smollm2, or builtin:...")],
    names: Annotated[
        str | None,
        typer.Option(
            "--families",
            help="Tasks with both forms (names, YAML files), separated by commas; every short:NAME by default.",
        ),
    ] = None,
    forms: Annotated[
        str, typer.Option(help="The direct form and the one that asks to think first; direct,think for base models.")
    ] = "chat-direct,chat-think",
    split: Annotated[
        str, typer.Option(help="Split that is asked; keep another one for what is built on the choice.")
    ] = "dev",
    n: Annotated[int, typer.Option(help="Questions per family, greedy.")] = 200,
    sampled: Annotated[int, typer.Option(help="Of those, questions sampled for pass@k; 0 for none.")] = 40,
    k: Annotated[int, typer.Option(help="Samples per question.")] = 16,
    temperature: Annotated[float, typer.Option(help="Of the samples.")] = 0.8,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens per text.")] = 128,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Task families asked directly and asked to think first: paired differences, and pass@k of both. Goes on where it was stopped."""
    from steering.errors import BadInput

    from ..evaluation.spec_files import located_task
    from ..store.runs import Store
    from ..studies.families import EVERY, Search, search

    pair = [form.strip() for form in forms.split(",")]
    if len(pair) != 2 or not all(pair):
        raise BadInput(f"--forms {forms}: name two prompt forms, the direct one first, as in --forms direct,think.")
    for option, value, least in (("--n", n, 1), ("--sampled", sampled, 0), ("--k", k, 1)):
        if value < least:
            raise BadInput(f"{option} {value}: give at least {least}.")
    if names is not None and not names.strip(", "):
        raise BadInput("--families names none; leave the option out for every short family.")
    asked = EVERY if names is None else tuple(filter(None, (name.strip() for name in names.split(","))))
    spec = Search(
        model,
        tuple(located_task(*task_of(name)) for name in asked),
        pair[0],
        pair[1],
        split,
        n,
        sampled,
        k,
        temperature,
        max_new_tokens,
        called=_called(asked),
    )
    found = search(spec, Store(runs))
    if as_json:
        print(json.dumps([{**asdict(one), "helps": one.helps, "format": one.format} for one in found], indent=1))
        return
    console = paper()
    console.print(_table(found, k, model), highlight=False)
    best = [one for one in found if one.helps]
    console.print(
        f"Thinking first helps on {', '.join(one.name + UNREAD_WORDS * one.format for one in best)}." if best else
        f"Thinking first helps on none of these {len(found)} families, all of them considered.",
        highlight=False,
    )  # fmt: skip


def _called(asked: Sequence[str]) -> tuple[str, ...]:
    """Names of the families: a task's own, or its YAML file's, with its folder where another file has the same name."""
    files = [Path(name).name for name in asked if name.endswith((".yaml", ".yml"))]
    return tuple(
        Path(name).name if Path(name).name in files and files.count(Path(name).name) == 1 else name for name in asked
    )


def _table(found: list[Family], k: int, model: str) -> Table:
    sampled = any(one.direct.passed is not None for one in found)
    table = Table(
        title=f"{model}: right in %, greedy (95 %)" + (f", and pass@{k} of samples" if sampled else ""),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
    )
    for head in (
        "family",
        "n",
        "direct",
        "think first",
        "difference",
        "Holm's p",
        *((f"pass@{k} direct", f"pass@{k} think") if sampled else ()),
        "cut %",
        "no answer %",
    ):
        table.add_column(head, justify="left" if head == "family" else "right", overflow="fold")
    for one in found:
        table.add_row(
            one.name, str(one.n), _share(one.direct), _share(one.think),
            f"{100 * one.advantage:+.1f} ({100 * one.interval.low:+.1f} to {100 * one.interval.high:+.1f})", f"{one.adjusted:.3g}",
            *((_passed(one.direct), _passed(one.think)) if sampled else ()), f"{100 * one.direct.cut:.0f} / {100 * one.think.cut:.0f}",
            f"{100 * one.direct.unscorable:.0f} / {100 * one.think.unscorable:.0f}",
        )  # fmt: skip
    return table


def _share(side: Side) -> str:
    return f"{100 * side.accuracy:.1f} ({100 * side.interval.low:.0f}-{100 * side.interval.high:.0f})"


def _passed(side: Side) -> str:
    if side.passed is None:
        return ""
    own = side.passed
    return f"{100 * own.value:.0f} ({100 * own.interval.low:.0f}-{100 * own.interval.high:.0f}; n {own.n})"
