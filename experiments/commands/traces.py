"""`steer trace`: pages of stored traces, and what is computed along them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import RUNS, JsonOption, RunsOption

trace_app = typer.Typer(help="Stored traces as pages, and KL along them.", no_args_is_help=True)


@trace_app.command()
def kl(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    key: Annotated[str, typer.Argument(help="Key of a steered row; `steer runs query` lists keys.")],
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """KL(steered || unsteered) along a row's own text by forced decoding, stored beside the run for the trace view."""
    from ..store.runs import Store
    from ..traces.forced_kl import backfill

    found = backfill(Store(runs).open(run), key)
    if as_json:
        print(json.dumps({"run": run, "key": key, **found}, indent=1))
        return
    print(f"{found['tokens']} tokens, mean {found['mean']:.4f} nats, largest {found['largest']:.4f} at #{found['at']}")
    print(f"log-probabilities within {found['off']:.2g} nats of the stored ones")


@trace_app.command()
def page(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    item: Annotated[str, typer.Argument(help="Id of the question.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("trace.html"),
    arms: Annotated[
        list[str] | None,
        typer.Option("--arm", help="One or two arms; by default the baseline and the first steered one."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed, where a question has several.")] = None,
    runs: RunsOption = RUNS,
) -> None:
    """Write one question in two arms as a page that opens without a network."""
    from ..store.runs import Store
    from ..traces import TraceView

    opened = Store(runs).open(run)
    steered = [arm.name for arm in opened.manifest.arms if arm.role == "steered"]
    chosen = arms or [opened.manifest.baseline.name, *steered[:1]]
    print(TraceView.of(opened, item, chosen, seed).to_html(output))
