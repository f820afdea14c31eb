"""`steer hybrid`: the base steered where it parts from the thinking model, with every control and without the thinking model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from steering.errors import BadInput, unknown

from ..progress import paper
from .asking import (
    FIND_START,
    DevelopmentOption,
    ReadOption,
    TaskOption,
    TestOption,
    TwoFormsOption,
    asking_of,
    check_counts,
)
from .labels import print_json
from .options import RUNS, RunsOption

PAIRS = {
    "builtin": ("builtin:base", "builtin:thinking"),
    "careful": ("builtin:careful-base", "builtin:careful-thinking"),
}


def pair_named(pair: str) -> tuple[str, str]:
    """Base and thinking model of a name, or of BASE,THINKING. Raises BadInput."""
    names = PAIRS.get(pair) or tuple(pair.split(","))
    if len(names) != 2 or not all(names):
        raise unknown("pair", pair, PAIRS, "--pair (or give two models as BASE,THINKING)")
    return names[0], names[1]


def hybrid(
    pair: Annotated[str, typer.Option(help="builtin, careful, or two models as BASE,THINKING.")] = "builtin",
    runs: RunsOption = RUNS,
    task: TaskOption = FIND_START,
    form_names: TwoFormsOption = "",
    read: ReadOption = "",
    development: DevelopmentOption = "",
    test: TestOption = "",
    n: Annotated[int | None, typer.Option(help="Test problems per split of the built-in task; 200 by default.")] = None,
    n_dev: Annotated[
        int | None,
        typer.Option(
            help="Development problems per split of the built-in task: seeds, thresholds, rates; 64 by default."
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="URL,MODEL of a judging model (OpenAI-compatible) that names and scores categories."),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override one field of the spec: --set rollouts=400")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Taxonomy, vectors, hybrid decoding and its controls on a pair of models; a second call goes on where the first one stopped."""
    from steering.documents import read_yaml

    from ..store.runs import Store
    from ..studies.hybrid.run import run_hybrid
    from ..studies.hybrid.spec import HybridSpec

    names = pair_named(pair)
    check_counts(task, n=n, n_dev=n_dev)
    facts: dict[str, Any] = {"base": names[0], "thinking": names[1]}
    facts |= {name: count for name, count in (("n", n), ("n_dev", n_dev)) if count is not None}
    if task != FIND_START:
        asking = asking_of(task, form_names, read, development, test, 1, needs=("--read", "--dev", "--test"))
        facts |= {
            "task": asking.task, "form": asking.direct, "reasoning": asking.reasoning, "thinking_form": asking.reasoning,
            "read": dict(asking.read), "development": dict(asking.development), "test": dict(asking.test),
        }  # fmt: skip
    elif any((form_names, read, development, test)):
        raise BadInput("--forms, --read, --dev and --test belong to another task: give --task too.")
    if judge is not None:
        facts["judge"] = tuple(judge.split(",", 1))
    for text in sets or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise BadInput(f"--set {text}: write field=value, for example --set rollouts=400.")
        if key not in HybridSpec.model_fields:
            raise unknown("field", key, HybridSpec.model_fields, "--set")
        facts[key] = read_yaml(value, f"--set {text}")
    result = run_hybrid(HybridSpec.model_validate(facts), Store(runs))
    if as_json:
        lines = json.loads(result.frame.to_json(orient="records"))
        document = {
            "run": result.run.manifest.run_id,
            "random": result.random.manifest.run_id,
            "random_entropy": None if result.gated is None else result.gated.manifest.run_id,
            "decided": result.decided,
            "arms": lines,
        }
        print_json(document)
        return
    from ..evaluation.sentences import beyond_sentence
    from ..evaluation.summarise import summarise
    from ..studies.hybrid.report import render

    console = paper()
    console.print(_taxonomy_table(result.decided["taxonomy"]))
    for split in dict.fromkeys(result.frame["split"]):
        console.print(render(result.frame, split))
    for own, arm, name in ((result.random, "hybrid", "the hybrid"), (result.gated, "entropy", "the entropy gate")):
        for part in summarise(own.table(), own.manifest).splits if own is not None else ():
            beyond = part.arm(arm).beyond
            if beyond is not None:
                console.print(f"{part.split}: {name} {beyond_sentence(beyond)}", highlight=False)
    console.print(_decisions(result.decided), highlight=False)
    console.print(f"Stored as {result.run.folder}.", highlight=False)


def _taxonomy_table(card: dict[str, Any]) -> Table:
    best = max(card["grid"], key=lambda point: point["score"])
    title = (
        f"{len(card['titles'])} categories at {card['site']} of {len(card['grid'])} tried: consistency {best['consistency']:.2f}, "
        f"completeness {best['completeness']:.2f}, independence {best['independence']:.2f} (from {card['scored_by']})"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for head in ("category", "share %", "for example"):
        table.add_column(head, justify="right" if head == "share %" else "left")
    for name, share, examples in zip(card["titles"], card["shares"], card["exemplars"], strict=True):
        table.add_row(name, f"{100 * share:.0f}", " | ".join(dict.fromkeys(examples[:3])))
    return table


def _decisions(decided: dict[str, Any]) -> str:
    when, bank = decided["when"], decided["bank"]
    share = decided["disagreements"]["share"]
    return (
        f"Base and thinking model disagree at {100 * share:.1f} % of rollout tokens; at {100 * bank['match_rate']:.0f} % of held-out "
        f"disagreements the bank's shift gives the thinking model's token. {_auroc(when['trigger']['auroc'])} "
        f"Seed {decided['seeds']['bank']}, "
        f"thresholds {', '.join(f'{k} {v:.3g}' for k, v in decided['thresholds'].items())}, chosen on development problems."
    )


def _auroc(found: Mapping[str, float]) -> str:
    """How well the base's own activation tells a disagreement, or why that was not measured."""
    from probes.measures import FEWEST

    if math.isnan(found["value"]):
        return (
            "Whether the base's own activation tells a disagreement is not defined: the held-out rollouts hold only agreements, or only "
            "disagreements."
        )
    ends = f"{found['low']:.3f} to {found['high']:.3f}"
    if math.isnan(found["low"]) or math.isnan(found["high"]):
        ends = f"no interval: fewer than {FEWEST} held-out rollouts hold the rarer of the two"
    return f"The base's own activation tells a disagreement with AUROC {found['value']:.3f} ({ends})."
