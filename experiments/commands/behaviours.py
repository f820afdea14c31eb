"""`steer runs behaviours`: what the rows of a run do beside being right or wrong."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..progress import paper
from .options import RUNS, JsonOption, RunsOption

EXPLORATORY = 30


def behaviours(
    run: str,
    by: Annotated[
        str,
        typer.Option(
            help="Label the stored texts anew: lexicon, or a trained labeller's file. By default the labels stored."
        ),
    ] = "",
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Behaviours of sentences and entropy of tokens per arm, paired against the baseline, beside the arm's controls."""
    from ..store.runs import Store
    from ..studies.row_behaviours import moved
    from ..tasks.labellers import labeller_named

    found = moved(Store(runs).open(run), labeller_named(by) if by else None)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return
    console = paper()
    for split in dict.fromkeys(one.split for one in found):
        own = [one for one in found if one.split == split]
        who = ", ".join(sorted({one.by for one in own} - {"model", ""})) or "nobody"
        table = Table(
            title=f"{split}: share of a row's sentences with a label (by {who}), entropy in nats; baseline beside arm",
            title_justify="left", box=SIMPLE_HEAD, padding=0,
        )  # fmt: skip
        for head in ("arm", "measure", "baseline", "arm's", "difference", "95 %", "rank p", "pairs", "left out"):
            table.add_column(head, justify="left" if head in ("arm", "measure") else "right", overflow="fold")
        for one in own:
            scale, unit = (1, "") if one.measure == "entropy" else (100, " %")
            numbers = ["", "", "", ""]
            if one.value is not None and one.baseline is not None and one.difference is not None:
                ends = (
                    "few items"
                    if one.interval is None
                    else f"{scale * one.interval.low:+.2f} to {scale * one.interval.high:+.2f}"
                )
                before, after = (f"{scale * value:.2f}{unit}" for value in (one.baseline, one.value))
                numbers = [before, after, f"{scale * one.difference:+.2f}", ends]
            rank = f"{one.rank_p:.3f} of {one.controls}" if one.rank_p is not None else "no control"
            table.add_row(one.arm, one.measure, *numbers, rank, str(one.pairs), str(one.left_out))
        console.print(table)
        empty = sorted({one.arm for one in own if not one.pairs})
        if empty:
            console.print(
                f"No pair of {', '.join(empty)} and the baseline has a labelled sentence on both sides.",
                highlight=False,
            )
        if max(one.pairs for one in own) < EXPLORATORY:
            console.print(f"Exploratory: fewer than {EXPLORATORY} pairs. Labels of a labeller err.", highlight=False)
