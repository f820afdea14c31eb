"""The commands of `steer probe` that label behaviour, score labellers, find forking tokens and resample spans."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..progress import talk
from .asking import FIND_START, TOKENS, TRAIN, TaskOption, TokensOption, one_form_of

if TYPE_CHECKING:
    from probes.annotated import AnnotatedTrace
    from probes.labeller_scores import LabellerComparison

ModelOption = Annotated[str, typer.Option(help="Hub id, folder, builtin:base or builtin:thinking.")]
ProblemsOption = Annotated[int, typer.Option(help="Training problems that are read.")]
SplitOption = Annotated[str, typer.Option(help="Split of another task that is read; one that no evaluation uses.")]
SeedOption = Annotated[int, typer.Option(help="Seed of problems, splits and fits.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def labellers(
    traces: Annotated[list[Path], typer.Option(help="Annotated traces (JSON); several files are scored one by one.")],
    out: Annotated[Path | None, typer.Option(help="Train on all of them and write the labeller here.")] = None,
    folds: Annotated[int, typer.Option(help="Folds of traces for the trained labeller.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Score the lexicon and the trained labeller against annotated traces: F1 per label, intervals over traces."""
    from dataclasses import asdict

    from probes.annotated import read_annotated
    from probes.labeller_scores import compare_labellers
    from probes.lexicon import lexicon_labels
    from probes.sentence_classifier import cross_fitted, fit_sentence_classifier

    documents: dict[str, Any] = {}
    everything: list[AnnotatedTrace] = []
    for path in traces:
        found = read_annotated(path)
        talk().print(f"{path.name}: {len(found)} annotated traces", highlight=False)
        labelled = {"lexicon": [lexicon_labels(t.text) for t in found], "trained": cross_fitted(found, folds)}
        compared = compare_labellers(found, labelled)
        documents[path.name] = asdict(compared)
        everything += found
        if not as_json:
            Console().print(_labeller_table(path.name, compared))
    if out is not None:
        fit_sentence_classifier(everything).save(out)
        talk().print(f"trained on {len(everything)} traces: {out}", highlight=False)
    if as_json:
        print_json(documents)


def _labeller_table(name: str, compared: LabellerComparison) -> Table:
    lexicon, trained = compared.scores
    table = Table(
        title=f"{name}: F1 per sentence against its LLM annotations, {compared.traces} traces, 95 % over traces"
    )
    for heading in ("label", "sentences", "lexicon", "trained, unseen traces", "difference"):
        table.add_column(heading)
    for label, n in compared.counts.items():
        pair = (lexicon.f1[label], trained.f1[label], compared.f1_differences["trained"][label])
        table.add_row(label, str(n), *(cell(i.value, i.low, i.high) for i in pair))
    total = (lexicon.macro_f1, trained.macro_f1, compared.differences["trained"])
    table.add_row("macro F1", str(sum(compared.counts.values())), *(cell(i.value, i.low, i.high) for i in total))
    return table


def label(
    text: Annotated[Path, typer.Argument(help="Text file of one reasoning trace.")],
    by: Annotated[str, typer.Option(help="lexicon, judge, or a trained labeller's file.")] = "lexicon",
    base_url: Annotated[str, typer.Option(help="Address of the judge, as in http://127.0.0.1:8000/v1.")] = "",
    judge: Annotated[str, typer.Option(help="The judging model's name there.")] = "",
    key_variable: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = "OPENAI_API_KEY",
) -> None:
    """Label a trace's sentences. One JSON line per label, always with its detector and confidence."""
    from dataclasses import asdict

    from probes.endpoint import Endpoint
    from probes.judge import Judge, JudgeError
    from probes.lexicon import lexicon_labels
    from probes.sentence_classifier import SentenceClassifier
    from steering.errors import BadInput

    if not text.is_file():
        raise BadInput(f"No text at {text}.")
    content = text.read_text()
    if by == "lexicon":
        found = lexicon_labels(content)
    elif by == "judge":
        if not base_url or not judge:
            raise BadInput("--by judge needs --base-url and --judge, the model's name there.")
        try:
            found = Judge(Endpoint(base_url, judge, os.environ.get(key_variable))).label(content)
        except JudgeError as error:
            talk().print(f"Error: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
            raise typer.Exit(1) from error
    else:
        found = SentenceClassifier.load(by).label(content)
    for one in found:
        print(json.dumps({**asdict(one), "text": content[one.start : one.end]}))


def forks(
    model: ModelOption = "builtin:thinking",
    problems: ProblemsOption = 96,
    form: Annotated[str, typer.Option(help="Prompt form of the task.")] = "bare",
    share: Annotated[float, typer.Option(help="Share of tokens that are forks.")] = 0.2,
    plan: Annotated[str, typer.Option(help="Compare with generations under this plan.")] = "",
    top: Annotated[int, typer.Option(help="Tokens shown.")] = 15,
    task: TaskOption = FIND_START,
    split: SplitOption = TRAIN,
    max_new_tokens: TokensOption = TOKENS,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """The most uncertain tokens of sampled responses: which, where, in which behaviour, and how a plan moves them."""
    from ..studies.forks import fork_report

    asking = one_form_of(task, form, split, problems, max_new_tokens)
    facts = fork_report(model, problems, form, share, plan or None, seed, asking)
    if as_json:
        print_json(facts)
        return
    console = Console()
    console.print(
        f"threshold {facts['threshold']:.3f} nats; {facts['share']:.1%} of {facts['n']} tokens are forks",
        highlight=False,
    )
    for name, key in (("token", "tokens"), ("label", "labels"), ("from", "positions")):
        by = f", by the {facts['labelled_by']}" if key == "labels" else ""
        table = Table(title=f"forks by {key}{by}")
        for heading in (name, "n", "forks", "share"):
            table.add_column(heading)
        for row in facts[key][: top if key == "tokens" else None]:
            shown = f"{row['share']:.2f}" if row["n"] else "no token there"
            table.add_row(Text(str(row[name])), str(row["n"]), str(row["forks"]), shown)
        console.print(table)
    if facts["shift"] is not None:
        table = Table(title=f"under {plan!r}, at the same threshold")
        for heading in ("measure", "value", "95 %"):
            table.add_column(heading)
        for name in ("before", "after", "difference", "entropy"):
            shift = facts["shift"][name]
            table.add_row(name, *_value_and_ends(shift["value"], shift["low"], shift["high"]))
        table.add_row("fork tokens moved", f"{facts['shift']['tokens_moved']:.3f}", "")
        console.print(table)


def stability_(
    behaviour: Annotated[
        str, typer.Option(help="Label whose spans are tested: exact on the built-in task, elsewhere the lexicon's.")
    ] = "backtracking",
    model: ModelOption = "builtin:thinking",
    problems: ProblemsOption = 12,
    samples: Annotated[int, typer.Option(help="Continuations per span.")] = 20,
    spans: Annotated[int, typer.Option(min=1, help="Spans tested, at most.")] = 12,
    task: TaskOption = FIND_START,
    form: Annotated[str, typer.Option(help="Prompt form of another task than the built-in one.")] = "",
    split: SplitOption = TRAIN,
    max_new_tokens: TokensOption = TOKENS,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Cut before spans of a behaviour, sample again, and count how often the behaviour comes back."""
    from steering.errors import BadInput

    from ..studies.probing import stability_report
    from ..studies.task_stability import task_stability

    if task == FIND_START and form:
        raise BadInput(f"--form {form} is of another task, and none is named: give --task too.")
    asking = one_form_of(task, form, split, problems, max_new_tokens)
    if task == FIND_START:
        found = stability_report(model, behaviour, problems, samples, spans, seed)
    else:
        found = task_stability(model, behaviour, asking, form, problems, samples, spans, seed)
    if as_json:
        print_json(found)
        return
    table = Table(
        title=f"{behaviour}: {found['kept']} of {found['n']} continuations keep the label, by the {found['detector']}"
    )
    for heading in ("problem", "token", "kept", "share, 95 % Wilson", "continuations by label"):
        table.add_column(heading)
    for row in found["spans"]:
        others = ", ".join(f"{k} {v}" for k, v in row["found"].items())
        s = row["share"]
        table.add_row(
            str(row["problem"]),
            str(row["token"]),
            f"{row['kept']}/{row['n']}",
            cell(s["value"], s["low"], s["high"]),
            others,
        )
    Console().print(table)


def line(table: Table, name: str, interval: Any) -> None:
    """A row of a measure with its interval."""
    table.add_row(name, *_value_and_ends(interval.value, interval.low, interval.high))


UNDEFINED, NO_INTERVAL = "not defined", "no interval"
"""What stands for a number that there is not: of a value (one class only, or nothing to count), and of the ends (too few groups)."""


def _value_and_ends(value: float, low: float, high: float) -> tuple[str, str]:
    return UNDEFINED if math.isnan(value) else f"{value:.3f}", (
        NO_INTERVAL if math.isnan(low) or math.isnan(high) else f"{low:.3f} to {high:.3f}"
    )


def cell(value: float, low: float, high: float, digits: int = 2) -> str:
    """A value with its interval, or that there is none."""
    if math.isnan(value):
        return UNDEFINED
    number = f".{digits}f"
    ends = NO_INTERVAL if math.isnan(low) or math.isnan(high) else f"{low:{number}}, {high:{number}}"
    return f"{value:{number}} [{ends}]"


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(_plain(document), indent=1, sort_keys=True))


def _plain(value: Any) -> Any:
    """NaN is no JSON: it becomes null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value
