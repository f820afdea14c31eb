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
)
from .options import RUNS, JsonOption, RunsOption

if TYPE_CHECKING:
    from saes.dictionary import Dictionary
    from saes.statistics import LatentStatistics
    from steering.model.models import LoadedModel

sae_app = typer.Typer(
    help="Sparse autoencoders: train, look at, and find the latent that starts reasoning.", no_args_is_help=True
)
SaeOption = Annotated[str, typer.Option("--sae", help="builtin:base, release/id of SAELens, or a folder.")]
ModelOption = Annotated[str, typer.Option(help="Hub id, folder, builtin:base or builtin:thinking.")]
StatisticsOption = Annotated[
    Path | None,
    typer.Option("--statistics", help="File of latent statistics; by default the one beside the autoencoder."),
]


def opened(sae: str, statistics: Path | None, model: LoadedModel | None = None) -> tuple[Dictionary, LatentStatistics]:
    """An autoencoder and its statistics. Raises BadInput where either cannot be read."""
    from saes.loading import load_dictionary
    from saes.statistics import LatentStatistics

    from ..studies.autoencoders import stored_statistics

    dictionary = load_dictionary(sae, model=model)
    found = LatentStatistics.load(statistics) if statistics is not None else stored_statistics(sae)
    found.check(dictionary)
    return dictionary, found


@sae_app.command("train")
def train(
    out: Annotated[Path, typer.Option(help="Folder of the training; the autoencoder is its `sae`.")],
    model: ModelOption = "builtin:base",
    site: Annotated[str, typer.Option(help="Whose activations are read.")] = "blocks.2.hook_resid_post",
    architecture: Annotated[str, typer.Option(help="topk, batchtopk, jumprelu, standard.")] = "topk",
    latents: Annotated[int, typer.Option(help="Width of the dictionary.")] = 1024,
    k: Annotated[int, typer.Option(help="Latents active per token (topk, batchtopk).")] = 16,
    sparsity: Annotated[float, typer.Option(help="Sparsity coefficient (jumprelu, standard).")] = 1.0,
    activations: Annotated[int, typer.Option(help="Tokens to train on; few texts are read several times.")] = 2_000_000,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    texts: Annotated[
        Path | None, typer.Option(help="Texts: .jsonl with `text`, or one per line. Without: the built-in task's own.")
    ] = None,
    problems: Annotated[int, typer.Option(help="Training problems that the built-in models respond to.")] = 3000,
    keep_sinks: Annotated[
        bool,
        typer.Option("--keep-sinks", help="Train on attention sinks too, which can hold nearly all of the variance."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train an autoencoder, read its statistics, and measure its quality on held-back texts. Goes on where it stopped."""
    from dataclasses import asdict

    from saes.training import TrainingSpec
    from steering.model.models import load_model
    from steering.model.sites import Site

    from ..studies.autoencoders import held_back_texts, make_autoencoder, texts_of

    spec = TrainingSpec(
        architecture, latents, k, sparsity, activations, learning_rate=learning_rate, seed=seed, keep_sinks=keep_sinks  # type: ignore[arg-type]
    )  # fmt: skip
    loaded, place = load_model(model), Site.parse(site)
    loaded.layout.check(place)
    training, held_back = texts_of(loaded, texts, problems), held_back_texts(loaded, texts)
    folder, quality = make_autoencoder(loaded, place, spec, out, training, held_back)
    facts: dict[str, Any] = asdict(quality) | {"recovered": quality.recovered, "folder": str(folder)}
    for remark in quality.remarks:
        talk().print(remark, style="yellow", highlight=False)
    _show(facts, f"{architecture} autoencoder of {model} at {place}", as_json)


@sae_app.command("show")
def show(
    sae: Annotated[str, typer.Argument(help="builtin:base, release/id of SAELens, or a folder.")],
    as_json: JsonOption = False,
) -> None:
    """What an autoencoder is, and its card."""
    from saes.loading import load_dictionary

    dictionary = load_dictionary(sae)
    facts = {
        "name": dictionary.name, "site": str(dictionary.site), "latents": dictionary.latents, "width": dictionary.width,
        "architecture": dictionary.sae.cfg.architecture(), "digest": dictionary.digest, **dictionary.card,
    }  # fmt: skip
    _show(facts, sae, as_json)


@sae_app.command("statistics")
def statistics_(
    sae: Annotated[str, typer.Argument(help="builtin:base, release/id of SAELens, or a folder.")],
    out: Annotated[Path, typer.Option(help="Where the statistics go.")],
    model: ModelOption = "builtin:base",
    texts: Annotated[Path | None, typer.Option(help="Texts to read; without, the built-in task's own.")] = None,
    problems: Annotated[int, typer.Option(help="Training problems that the built-in models respond to.")] = 1000,
) -> None:
    """Density, mean and peak of every latent on texts, for doses in peaks and matched controls."""
    from saes.loading import load_dictionary
    from saes.statistics import latent_statistics
    from steering.model.models import load_model

    from ..studies.autoencoders import texts_of

    loaded = load_model(model)
    dictionary = load_dictionary(sae, model=loaded)
    found = latent_statistics(loaded, dictionary, texts_of(loaded, texts, problems))
    print(found.save(out))


@sae_app.command("score")
def score(
    sae: Annotated[str, typer.Argument(help="builtin:base, release/id of SAELens, or a folder.")],
    out: Annotated[Path, typer.Option(help="Parquet file of the table.")],
    by: Annotated[str, typer.Option(help="Score that the terminal's table is sorted by.")] = "cot_difference",
    top: Annotated[int, typer.Option(help="Latents shown.")] = 12,
    problems: Annotated[int, typer.Option(help="Questions read.")] = 96,
    model: ModelOption = "builtin:base",
    thinking: Annotated[
        str, typer.Option(help="Another model with the same vocabulary and width; 'none' leaves its columns out.")
    ] = "builtin:thinking",
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
    asking = asking_of(task, forms, read, development, "", max_new_tokens, needs=needs)
    base = load_model(model)
    other = None if thinking == "none" else load_model(thinking)
    dictionary = load_dictionary(sae, model=base)
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


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value == value else ""
    return value if isinstance(value, str) else " ".join(value)


@sae_app.command("dashboard")
def dashboard(
    sae: Annotated[str, typer.Argument(help="builtin:base, release/id of SAELens, or a folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the dashboard.")],
    model: ModelOption = "builtin:base",
    texts: Annotated[Path | None, typer.Option(help="Texts to read; without, the built-in task's own.")] = None,
    problems: Annotated[int, typer.Option(help="Training problems that the built-in models respond to.")] = 500,
) -> None:
    """Histograms, examples, logit effects and neighbours of every latent, as Parquet."""
    from saes.dashboard import build_dashboard
    from saes.loading import load_dictionary
    from steering.model.models import load_model

    from ..studies.autoencoders import texts_of

    loaded = load_model(model)
    dictionary = load_dictionary(sae, model=loaded)
    training = texts_of(loaded, texts, problems)
    print(build_dashboard(loaded, dictionary, training, out).folder)


@sae_app.command("mode")
def mode(
    sae: SaeOption = "builtin:base",
    statistics: StatisticsOption = None,
    runs: RunsOption = RUNS,
    n: Annotated[int, typer.Option(help="Test problems per split of the built-in task.")] = 200,
    n_dev: Annotated[int, typer.Option(help="Development problems of the built-in task for the choice.")] = 48,
    model: ModelOption = "builtin:base",
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

    if task == FIND_START:
        development = development or f"standard-dev:{n_dev},hard-dev:{max(1, n_dev // 2)}"
        test = test or ",".join(f"{split}:{n}" for split in ("standard-test", "hard-test", "new-map-test"))
    asking = asking_of(task, forms, read, development, test, max_new_tokens, needs=("--read", "--dev", "--test"))
    dictionary, found = opened(sae, statistics)
    choice, run = find_mode(Store(runs), dictionary, found, asking=asking, model=model)
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


def _show(facts: dict[str, Any], title: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=1, default=str))
        return
    table = Table(title=title, show_header=False)
    for key, value in facts.items():
        table.add_row(key, f"{value:.4g}" if isinstance(value, float) else str(value))
    paper().print(table)
