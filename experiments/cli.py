"""The command line: `steer`.

1. Standard output is data, standard error is talk; `--json` prints one JSON document.
2. Exit codes: 0 done, 1 failure, 2 bad input (one message, no traceback), 3 partial (what could be run is stored), 130 interrupted
   (everything finished is kept).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from .commands.attribution import attribute
from .commands.doctor import doctor
from .commands.hybrid import hybrid
from .commands.options import RUNS, JsonOption, RunsOption
from .commands.plans import generate_, plan_app
from .commands.probes import probe_app
from .commands.prompts import prompt
from .commands.published import import_app
from .commands.report import report
from .commands.runs import print_tables, runs_app
from .commands.saes import ablate, sae_app
from .commands.sweeps import sweep_app
from .commands.vectors import vectors_app
from .progress import progress, talk

app = typer.Typer(
    name="steer",
    help="Extract, apply and measure steering for reasoning.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
)
pair_app = typer.Typer(help="Train and report on the built-in model pair.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")
app.add_typer(pair_app, name="pair")
app.add_typer(vectors_app, name="vectors")
app.add_typer(plan_app, name="plan")
app.add_typer(sae_app, name="sae")
app.add_typer(probe_app, name="probe")
app.add_typer(sweep_app, name="sweep")
app.add_typer(import_app, name="import")
app.command("doctor")(doctor)
app.command("generate")(generate_)
app.command("ablate")(ablate)
app.command("hybrid")(hybrid)
app.command("prompt")(prompt)
app.command("attribute")(attribute)
app.command("report")(report)


def main() -> None:
    """Entry point: maps errors to messages and exit codes."""
    from steering.errors import BadInput

    from .executors import WorkerFailed
    from .store import StoreError

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
        for problem in error.errors():
            place = ".".join(map(str, problem["loc"])) or "spec"
            talk().print(
                f"Error: {place}: {problem['msg']} (got {problem['input']!r})",
                style="red",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
        sys.exit(2)
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


@app.command()
def demo(
    runs: RunsOption = RUNS,
    n: Annotated[int, typer.Option(help="Test problems per split.")] = 200,
    n_dev: Annotated[int, typer.Option(help="Development problems for the choice of layer and dose.")] = 48,
    as_json: JsonOption = False,
) -> None:
    """The main job on the built-in pair: extract, choose on development problems, report on test problems."""
    from .demo import run_demo
    from .store import Store

    choice, run, behaviours = run_demo(Store(runs), n=n, n_dev=n_dev)
    if as_json:
        chosen = {
            "vector": choice.vector.name,
            "site": str(choice.vector.site),
            "dose": choice.dose,
            "tried": choice.tried,
        }
        document = {
            "choice": chosen,
            "run": run.manifest.run_id,
            "summary": run.summary(),
            "behaviours": behaviours.summary(),
        }
        print(json.dumps(document, indent=1, sort_keys=True))
        return
    console = Console()
    print_tables(run, console)
    from .behaviours import behaviour_table

    console.print(behaviour_table(behaviours))
    console.print(
        f"Stored as {run.folder} and {behaviours.folder}. Look at them: steer app --runs {runs}", highlight=False
    )


@app.command("eval")
def evaluate(
    spec: Annotated[
        Path | None,
        typer.Argument(help="YAML file with an evaluation spec; without one, the built-in pair's reference arms."),
    ] = None,
    runs: RunsOption = RUNS,
    n: Annotated[int | None, typer.Option(help="Items per split (overrides the spec).")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key of the spec: --set generation.temperature=1.0")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run or resume an evaluation; interrupted runs go on where they stopped."""
    from .evaluation import run_evaluation
    from .specs import load_spec
    from .store import Store

    parsed, vectors = load_spec(spec, sets or [], n)
    with progress(f"evaluating {parsed.name}") as report:
        run = run_evaluation(parsed, Store(runs), vectors, on_rows=report)
    if as_json:
        print(json.dumps({"run": run.manifest.run_id, "summary": run.summary()}, indent=1, sort_keys=True))
    else:
        print_tables(run, Console())


@app.command()
def extract(
    output: Annotated[Path, typer.Argument(help="Where to write the vector (.safetensors).")],
    base: Annotated[str, typer.Option(help="Base model: hub id, folder, or builtin:base.")] = "builtin:base",
    thinking: Annotated[str, typer.Option(help="Thinking model for the checkpoint contrast.")] = "builtin:thinking",
    contrast: Annotated[
        str, typer.Option(help="checkpoint: thinking minus base on the same tokens; mode: think-first minus be-quick.")
    ] = "checkpoint",
    site: Annotated[str, typer.Option(help="Where: blocks.<layer>.hook_resid_post")] = "blocks.1.hook_resid_post",
    prompts: Annotated[
        Path | None,
        typer.Option(help="Text file, one prompt per line (default: training problems of the built-in task)."),
    ] = None,
) -> None:
    """Extract a steering vector by difference of means."""
    from steering.errors import BadInput, unknown
    from steering.extraction import Reading, checkpoint_difference, mean_difference
    from steering.models import load_model
    from steering.prompts import encode_prompt
    from steering.sites import Site

    from .readings import prompt_reading, training_problems

    if contrast not in ("checkpoint", "mode"):
        raise unknown("contrast", contrast, ("checkpoint", "mode"))
    if output.suffix != ".safetensors":
        raise BadInput(f"{output}: vectors are written as .safetensors; give a name that ends so.")
    place, model = Site.parse(site), load_model(base)
    model.layout.check(place)
    if contrast == "mode":
        if prompts is not None:
            raise BadInput(
                "The mode contrast uses the built-in task's prompt forms; --prompts goes with --contrast checkpoint."
            )
        problems = training_problems(256)
        high, low = prompt_reading(model, problems, "think"), prompt_reading(model, problems, "quick")
        vectors = mean_difference(
            model, high, low, [place], name="think-first minus be-quick", contrast="last tokens of the two prompt forms"
        )
    else:
        if prompts is None:
            reading = prompt_reading(model, training_problems(256), "bare")
        elif not prompts.is_file():
            raise BadInput(f"No prompt file at {prompts}.")
        else:
            lines = [line for line in prompts.read_text().splitlines() if line.strip()]
            reading = Reading.last_token([encode_prompt(model, line) for line in lines])
        vectors = checkpoint_difference(model, load_model(thinking), reading, [place])
    vector = vectors[place]
    vector.save(output)
    print(json.dumps({"file": str(output), "digest": vector.digest, "site": str(place), "norm": vector.norm}))


@app.command()
def models(as_json: JsonOption = False) -> None:
    """The built-in models and whether their weights are here."""
    from steering.models import BUILTINS

    facts = [
        {"id": name, "folder": str(folder), "ready": (folder / "model.safetensors").exists()}
        for name, folder in BUILTINS.items()
    ]
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for fact in facts:
        print(f"{fact['id']}\t{'ready' if fact['ready'] else 'no weights'}")


@app.command("app")
def open_app(
    runs: RunsOption = RUNS,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
) -> None:
    """Open the app on the stored runs."""
    import importlib

    launch = importlib.import_module("app.launch").launch
    sys.exit(launch(runs, port=port, open_browser=browser))


@pair_app.command("train")
def pair_train(
    preset: Annotated[str, typer.Option(help="full (hours on a CPU) or quick (about two minutes).")] = "quick",
    folder: Annotated[Path, typer.Option(help="Checkpoints, curves and the finished models.")] = Path("checkpoints"),
    install: Annotated[bool, typer.Option(help="Replace the built-in weights by the result.")] = False,
) -> None:
    """Train the pair from scratch: pretraining, then GRPO. Resumes from its checkpoints."""
    from .pair.train import train_pair

    base, thinking = train_pair(preset, folder / preset, install=install)
    print(json.dumps({"base": str(base), "thinking": str(thinking)}))


@pair_app.command("report")
def pair_report(
    n: Annotated[int, typer.Option(help="Problems for pass@k and first-token probabilities.")] = 200,
    samples: Annotated[int, typer.Option(help="Samples per problem at temperature 1.")] = 32,
    k: Annotated[int, typer.Option(help="The k of pass@k.")] = 16,
) -> None:
    """What the base can do when sampled: trace-verified pass@k, first-token probability of reasoning, behaviours of both models. JSON."""
    from .pair.report import pair_facts

    with progress("sampling the base") as report:
        facts = pair_facts(n=n, samples=samples, k=k, on_rows=report)
    print(json.dumps(facts, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
