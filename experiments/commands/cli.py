"""The command line: `steer`.

1. Standard output is data, standard error is talk; `--json` prints one JSON document.
2. Exit codes: 0 done, 1 failure (a full disk too), 2 bad input (one message, no traceback), 3 partial (what could be run is stored), 130
   interrupted (everything finished is kept).
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from ..evaluation.refusals import refusals
from ..progress import progress, talk
from .ablation import ablate
from .attribution import attribute
from .demo import demo
from .doctor import doctor
from .elicit import elicit, train
from .extract import extract
from .families import families
from .get import get
from .hybrid import hybrid
from .monitor import monitor
from .options import RUNS, DryRunOption, JsonOption, RunsOption, TrackOption
from .overview import overview
from .pairs import pair_app
from .plan_options import VectorOption, named_vectors
from .plans import generate_, plan_app
from .probes import probe_app
from .prompts import prompt
from .published import import_app
from .report import report
from .runs import print_tables, runs_app
from .saes import sae_app
from .sweeps import sweep_app
from .traces import trace_app
from .vectors import vectors_app
from .warnings import own_in_words, warn

ORDER = (
    "demo", "doctor", "app", "models", "get", "pair",
    "extract", "vectors", "plan", "prompt", "generate",
    "eval", "sweep", "ablate", "hybrid", "elicit", "train", "overview", "attribute", "sae", "probe",
    "runs", "report", "trace", "import",
)  # fmt: skip
"""Verbs in the order of a first page: begin, make and look at, measure, read."""


class Verbs(typer.core.TyperGroup):
    """The verbs in `ORDER`, not in that of the code."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    name="steer",
    cls=Verbs,
    help="""Extract, apply and measure steering for reasoning.

    Begin with `steer demo` (the built-in pair, offline) and `steer app`; docs/commands.md has an example of every verb.""",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
)
app.add_typer(runs_app, name="runs")
app.add_typer(pair_app, name="pair")
app.add_typer(vectors_app, name="vectors")
app.add_typer(plan_app, name="plan")
app.add_typer(sae_app, name="sae")
app.add_typer(probe_app, name="probe")
app.add_typer(sweep_app, name="sweep")
app.add_typer(import_app, name="import")
app.add_typer(trace_app, name="trace")
app.command("demo")(demo)
app.command("doctor")(doctor)
app.command("get")(get)
app.command("extract")(extract)
app.command("generate")(generate_)
app.command("ablate")(ablate)
app.command("hybrid")(hybrid)
app.command("families")(families)
app.command("elicit")(elicit)
app.command("train")(train)
app.command("overview")(overview)
app.command("monitor")(monitor)
app.command("prompt")(prompt)
app.command("attribute")(attribute)
app.command("report")(report)


def main() -> None:
    """Entry point: maps errors to messages and exit codes."""
    from steering.errors import BadInput, NeverFired
    from steering.files import FULL, in_words

    from ..failures import WorkerFailed
    from ..store.runs import StoreError

    own_in_words()
    try:
        sys.exit(app(standalone_mode=False))
    except typer.exceptions.TyperException as error:
        show = getattr(error, "show", None)
        if show is not None:
            show()
        sys.exit(error.exit_code)
    except (BadInput, StoreError) as error:
        talk().print(f"Error: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(2)
    except ValidationError as error:
        for line in refusals(error):
            talk().print(f"Error: {line}", style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(2)
    except BrokenPipeError:  # what reads standard output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        talk().print(f"Error: {in_words(error)}", style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(1 if error.errno in FULL or error.errno == errno.EIO else 2)
    except NeverFired as error:
        talk().print(f"Error: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(1)
    except WorkerFailed as error:
        talk().print(
            f"Partial: {error} Run the same command again to go on.",
            style="red",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
        sys.exit(3)
    except (KeyboardInterrupt, typer.Abort):
        talk().print("Interrupted. Everything finished is stored; run the same command again to go on.", style="yellow")
        sys.exit(130)


@app.command("eval")
def evaluate(
    spec: Annotated[
        Path | None,
        typer.Argument(help="YAML file with an evaluation spec; without one, the built-in pair's reference arms."),
    ] = None,
    runs: RunsOption = RUNS,
    n: Annotated[int | None, typer.Option(help="Items per split (overrides the spec).")] = None,
    plan: Annotated[
        list[str] | None,
        typer.Option(
            help="One-line plan or plan file: an arm of its own beside the baseline; may be given several times."
        ),
    ] = None,
    vector: VectorOption = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key of the spec: --set generation.temperature=1.0")
    ] = None,
    track: TrackOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse vectors that are not known to come from their arm's model.")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run or resume an evaluation; interrupted runs go on where they stopped. It adds no controls: `steer sweep`, of one cell if need be,
    puts random directions beside a plan."""
    from ..evaluation.evaluate import run_evaluation
    from ..evaluation.loading import load
    from ..evaluation.rows import models_of
    from ..evaluation.spec_files import load_spec
    from ..store.runs import Store
    from ..store.trackers import check_tracker
    from ..store.trackers import track as send
    from ..tasks.remarks import say
    from ..tasks.task import check_form, resolve_task

    check_tracker(track)
    parsed, vectors = load_spec(spec, sets or [], n, plan or [], named_vectors(vector))
    if dry_run:
        from ..sweeps.estimate import estimated

        found = estimated([parsed])
        print(json.dumps(vars(found), indent=1) if as_json else found.sentence)
        return
    store, task = Store(runs), resolve_task(parsed.task)
    items = {split: task.items(split, count) for split, count in parsed.splits.items()}
    for arm in parsed.arms:
        check_form(task, arm.form, f"arm {arm.name}, task {task.name}")
    models = {name: load(name, parsed.loading) for name in models_of(parsed)}
    say(task, items, [(models[arm.model], arm.form) for arm in parsed.arms])
    with progress(f"evaluating {parsed.name}") as report:
        run = run_evaluation(parsed, store, vectors, models=models, on_rows=report, strict=strict)
    for arm, said in run.manifest.facts.get("origins", {}).items():
        print(f"warning: arm {arm}: {' '.join(said)}", file=sys.stderr)
    send(track, run)
    if as_json:
        print(json.dumps({"run": run.manifest.run_id, "summary": run.summary()}, indent=1, sort_keys=True))
    else:
        print_tables(run, Console())
        talk().print(f"Stored as {run.manifest.run_id}.", highlight=False, soft_wrap=True, markup=False)


@app.command()
def models(as_json: JsonOption = False) -> None:
    """The models that have a name here, and whether their weights are on this machine."""
    from steering.model.cached import is_whole
    from steering.model.named import NAMED, named_place
    from steering.model.sources import BUILTINS, STARTS

    facts = [
        {
            "id": name,
            "folder": str(folder),
            "ready": (folder / "model.safetensors").exists(),
            "get": f"steer pair {verb}",
        }
        for verb, named in (("train", BUILTINS), ("untraced", STARTS))
        for name, folder in named.items()
    ]
    facts += [
        {"id": name, "folder": str(named_place(name)), "ready": is_whole(named_place(name)), "get": f"steer get {name}"}
        for name in NAMED
    ]
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for fact in facts:
        print(f"{fact['id']}\t{'ready' if fact['ready'] else 'no weights: ' + str(fact['get'])}")


@app.command("app")
def open_app(
    runs: RunsOption = RUNS,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
    vectors: Annotated[Path | None, typer.Option(help="Folder of vector files that the Playground offers.")] = None,
    hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            help="A name, or name:port, under which browsers may ask the server beside this machine's own; for a proxy. Repeatable.",
        ),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            "--listen",
            help="Address to listen on; 0.0.0.0 in a container, whose port is then published on this machine alone.",
        ),
    ] = "127.0.0.1",
    alone: Annotated[
        bool,
        typer.Option(
            "--one-at-a-time",
            help="No command runs beside a generation; for a device whose memory holds one model.",
        ),
    ] = False,
) -> None:
    """Open the app on the stored runs."""
    from importlib.metadata import entry_points

    from steering.errors import BadInput

    from ..store.runs import Store

    Store(runs)  # refuses what is no store before a server is started
    parts = tuple(entry_points(group="steering_workbench.parts", name="app"))
    if not parts:
        raise BadInput("The app is not installed beside this program; install the package again (pip install -e .).")
    try:
        ipaddress.ip_address("127.0.0.1" if address == "localhost" else address)
    except ValueError as error:
        raise BadInput(
            f"--listen {address!r} is no address: give 127.0.0.1, 0.0.0.0 for every network of this machine, or one of its own."
        ) from error
    if address not in ("127.0.0.1", "localhost", "::1"):
        warn(
            f"Warning: listening on {address}. There are no passwords: whoever reaches port {port} sees all runs and can start jobs. In a "
            f"container, publish it on this machine alone (-p 127.0.0.1:{port}:{port}); elsewhere put a proxy with a login before it."
        )
    launch = parts[0].load()
    sys.exit(
        launch(runs, port=port, open_browser=browser, vectors=vectors, hosts=hosts or (), alone=alone, address=address)
    )


if __name__ == "__main__":
    main()
