"""`steer sae`: train and look at autoencoders, and find the latent that starts reasoning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..progress import paper, progress, talk
from .asking import (
    FIND_START,
    DevelopmentOption,
    FormsOption,
    ReadOption,
    TaskOption,
    TestOption,
    TokensOption,
    asking_of,
    check_counts,
)
from .options import RUNS, JsonOption, RunsOption
from .sae_latents import label, vector
from .sae_options import SAE, ModelOption, SaeOption, StatisticsOption, model_of, opened
from .sae_training import PieceOption, TextsOption, show_facts, train
from .warnings import warn

if TYPE_CHECKING:
    from saes.dictionary import Dictionary
    from steering.model.models import LoadedModel

sae_app = typer.Typer(
    help="Sparse autoencoders: train, look at, and find the latent that starts reasoning.", no_args_is_help=True
)
sae_app.command("train")(train)
sae_app.command("vector")(vector)
sae_app.command("label")(label)


@sae_app.command("show")
def show(
    sae: Annotated[str, typer.Argument(help=SAE)],
    as_json: JsonOption = False,
) -> None:
    """What an autoencoder is, and its card."""
    from saes.loading import load_dictionary

    dictionary = load_dictionary(sae)
    facts = {
        "name": dictionary.name, "site": str(dictionary.site), "latents": dictionary.latents, "width": dictionary.width,
        "architecture": dictionary.sae.cfg.architecture(), "digest": dictionary.digest, **dictionary.card,
    }  # fmt: skip
    show_facts(facts, sae, as_json)


@sae_app.command("statistics")
def statistics_(
    sae: Annotated[str, typer.Argument(help=SAE)],
    out: Annotated[Path, typer.Option(help="Where the statistics go.")],
    model: ModelOption = None,
    texts: TextsOption = None,
    piece: PieceOption = None,
    problems: Annotated[int, typer.Option(help="Training problems that the built-in models respond to.")] = 1000,
) -> None:
    """Density, mean and peak of every latent on texts, for doses in peaks and matched controls."""
    from saes.loading import load_dictionary
    from saes.statistics import latent_statistics
    from steering.model.models import load_model

    from ..studies.autoencoders import texts_of

    loaded = load_model(model_of(sae, model))
    dictionary = load_dictionary(sae, model=loaded)
    say_origin(dictionary, loaded)
    found = latent_statistics(loaded, dictionary, texts_of(loaded, texts, problems, piece))
    print(found.save(out))


@sae_app.command("score")
def score(
    sae: Annotated[str, typer.Argument(help=SAE)],
    out: Annotated[Path, typer.Option(help="Parquet file of the table.")],
    by: Annotated[str, typer.Option(help="Score that the terminal's table is sorted by.")] = "cot_difference",
    top: Annotated[int, typer.Option(help="Latents shown.")] = 12,
    problems: Annotated[int, typer.Option(help="Questions read.")] = 96,
    model: ModelOption = None,
    thinking: Annotated[
        str | None,
        typer.Option(
            help="Another model with the same vocabulary and width; 'none' leaves its columns out. builtin:thinking beside builtin:base, "
            "else none by default."
        ),
    ] = None,
    statistics: StatisticsOption = None,
    task: TaskOption = FIND_START,
    forms: FormsOption = "",
    read: ReadOption = "",
    development: DevelopmentOption = "",
    max_new_tokens: TokensOption = 360,
    injected: Annotated[int, typer.Option(help="Latents put to the token-injection test.")] = 48,
    causal: Annotated[int, typer.Option(help="Latents that are ablated and steered, the largest first.")] = 8,
    directions: Annotated[
        int, typer.Option(min=0, help="Random directions of equal size beside each of these edits, in the stored run.")
    ] = 20,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Score every latent of an autoencoder on responses to a task's questions, with intervals and adjusted p.

    Labels of behaviours and the correctness of traces are exact on the built-in task alone; elsewhere behaviours are the lexicon's.
    """
    from saes.loading import load_dictionary
    from saes.scores import candidates
    from steering.model.models import load_model

    from ..store.runs import Store
    from ..studies.scoring import causal_effects, score_pair
    from ..studies.task_texts import labels_of

    needs = ("--read", "--dev") if causal else ("--read",)
    asking = asking_of(task, forms, read, development, "", max_new_tokens, needs=needs, further=True)
    model = model_of(sae, model)
    base = load_model(model)
    thinking = thinking or ("builtin:thinking" if model == "builtin:base" else "none")
    other = None if thinking == "none" else load_model(thinking)
    dictionary = load_dictionary(sae, model=base)
    say_origin(dictionary, base)
    asking.say([base, *([other] if other is not None else [])], problems)
    if not asking.builtin:
        talk().print(f"Behaviours are labelled by the {labels_of(asking)}, which is often wrong.", style="yellow")
    table = score_pair(base, other, dictionary, problems=problems, injected=injected, asking=asking)
    for what in table.attrs.get("left_out", []):
        talk().print(f"Left out: {what}.", style="yellow", highlight=False)
    tested = candidates(table, by, causal) if causal else []
    if tested:
        _, found = opened(sae, statistics, base)
        with progress("ablating and steering") as report:
            columns = causal_effects(
                Store(runs),
                {model: base},
                dictionary,
                found,
                tested,
                model=model,
                form=asking.reasoning,
                directions=directions,
                asking=asking,
                on_rows=report,
            )
        facts, table = table.attrs, table.join(columns)
        table.attrs = facts
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(out)
    best = table.loc[candidates(table, by, top)]
    if as_json:
        print(best.reset_index().to_json(orient="records", indent=1))
        return
    shown = Table(title=f"Largest {by} (q at most 0.05), {table.attrs['tokens']:,} tokens; all of it in {out}")
    columns = [c for c in ("injection_class", "ablate_accuracy", "add_accuracy", "promoted") if c in best]
    for column in ("latent", "density", by, "95 %", *columns):
        shown.add_column(column.replace("_", " "))
    for latent, line in best.iterrows():
        ends = f"{line[f'{by}_low']:.3g} to {line[f'{by}_high']:.3g}" if f"{by}_low" in best else ""
        shown.add_row(str(latent), _cell(line["density"]), _cell(line[by]), ends, *(_cell(line[c]) for c in columns))
    paper().print(shown)


def say_origin(dictionary: Dictionary, model: LoadedModel) -> None:
    """Warn where the autoencoder was trained on other weights than the model's, or does not say on which."""
    if said := dictionary.origin(model):
        warn(f"Warning: The autoencoder {said}")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value == value else ""
    return value if isinstance(value, str) else " ".join(value)


@sae_app.command("dashboard")
def dashboard(
    sae: Annotated[str, typer.Argument(help=SAE)],
    out: Annotated[Path, typer.Option(help="Folder of the dashboard.")],
    model: ModelOption = None,
    texts: TextsOption = None,
    piece: PieceOption = None,
    problems: Annotated[int, typer.Option(help="Training problems that the built-in models respond to.")] = 500,
    held_back: Annotated[
        bool, typer.Option("--held-back", help="Read the texts that training holds back, in place of those it reads.")
    ] = False,
    examples: Annotated[int, typer.Option(help="Windows kept for each octave of activations.")] = 5,
    strongest: Annotated[
        int | None, typer.Option(help="Windows kept for the strongest activations; by default as many as --examples.")
    ] = None,
    before: Annotated[int, typer.Option(help="Tokens of a window before the active one.")] = 16,
    after: Annotated[int, typer.Option(help="Tokens of a window behind the active one.")] = 8,
    tokens: Annotated[int, typer.Option(help="Promoted and demoted tokens listed.")] = 10,
    neighbours: Annotated[int, typer.Option(help="Neighbours listed, by decoder and by co-activation.")] = 8,
) -> None:
    """Histograms, examples, logit effects and neighbours of every latent, as Parquet."""
    from saes.dashboard import build_dashboard
    from saes.loading import load_dictionary
    from steering.model.models import load_model

    from ..studies.autoencoders import held_back_texts, texts_of

    loaded = load_model(model_of(sae, model))
    dictionary = load_dictionary(sae, model=loaded)
    say_origin(dictionary, loaded)
    read = held_back_texts(loaded, texts, piece) if held_back else texts_of(loaded, texts, problems, piece)
    made = build_dashboard(
        loaded, dictionary, read, out, examples=examples, strongest=strongest, before=before, after=after, tokens=tokens,
        neighbours=neighbours,
    )  # fmt: skip
    print(made.folder)


@sae_app.command("mode")
def mode(
    sae: SaeOption = "builtin:base",
    statistics: StatisticsOption = None,
    runs: RunsOption = RUNS,
    n: Annotated[int | None, typer.Option(help="Test problems per split of the built-in task; 200 by default.")] = None,
    n_dev: Annotated[
        int | None, typer.Option(help="Development problems of the built-in task for the choice; 48 by default.")
    ] = None,
    model: ModelOption = None,
    task: TaskOption = FIND_START,
    forms: FormsOption = "",
    read: ReadOption = "",
    development: DevelopmentOption = "",
    test: TestOption = "",
    max_new_tokens: TokensOption = 360,
    as_json: JsonOption = False,
) -> None:
    """The latent that starts reasoning: chosen on development questions, reported on test questions beside its controls."""
    from ..evaluation.sentences import render_table
    from ..evaluation.summarise import summarise
    from ..store.runs import Store
    from ..studies.mode import find_mode

    check_counts(task, n=n, n_dev=n_dev)
    if task == FIND_START:
        n, n_dev = n or 200, n_dev or 48
        development = development or f"standard-dev:{n_dev},hard-dev:{max(1, n_dev // 2)}"
        test = test or ",".join(f"{split}:{n}" for split in ("standard-test", "hard-test", "new-map-test"))
    needed = ("--read", "--dev", "--test")
    asking = asking_of(task, forms, read, development, test, max_new_tokens, needs=needed, further=True)
    dictionary, found = opened(sae, statistics)
    choice, run = find_mode(Store(runs), dictionary, found, asking=asking, model=model_of(sae, model))
    facts = {
        "latents": list(choice.latents), "strength": choice.strength, "development_accuracy": choice.accuracy,
        "unsteered_development_accuracy": choice.unsteered, "edit": choice.edit,
        "tried": choice.tried, "ranked": list(choice.ranked), "run": run.manifest.run_id,
    }  # fmt: skip
    if as_json:
        print(json.dumps(facts | {"summary": run.summary()}, indent=1, sort_keys=True))
        return
    console = paper()
    summary = summarise(run.table(), run.manifest)
    for split in summary.splits:
        console.print(render_table(summary, split.split))
    console.print(
        f"Chosen of {choice.tried} settings: latents {', '.join(map(str, choice.latents))} raised by {choice.strength:g} "
        f"(development accuracy {choice.accuracy:.1%}, {choice.unsteered:.1%} unsteered). Stored as {run.folder}.",
        highlight=False,
    )
