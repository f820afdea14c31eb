"""`steer probe`: fit probes, look at them, and map where something can be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..progress import paper, progress, talk
from .asking import FIND_START, ReadOption, TaskOption, TokensOption, TwoFormsOption, asking_of
from .exchange import pull_probe, push_probe
from .labels import (
    UNDEFINED,
    JsonOption,
    ModelOption,
    ProblemsOption,
    SeedOption,
    cell,
    forks,
    label,
    labellers,
    line,
    print_json,
    stability_,
)

if TYPE_CHECKING:
    from probes.targets import Examples
    from steering.model.models import LoadedModel

    from ..studies.asking import Asking

probe_app = typer.Typer(
    help="Probes, behaviour labels and forking tokens: fit, measure, and look.", no_args_is_help=True
)
probe_app.command("labellers")(labellers)
probe_app.command("label")(label)
probe_app.command("forks")(forks)
probe_app.command("stability")(stability_)
probe_app.command("push")(push_probe)
probe_app.command("pull")(pull_probe)
TargetOption = Annotated[
    str,
    typer.Option(
        help="behaviour, correct, disagreement, mode; reasons and difficulty on the built-in task, whose labels are exact."
    ),
]
ThinkingOption = Annotated[
    str, typer.Option("--thinking", help="The model whose responses the target disagreement reads.")
]
ExamplesOption = Annotated[
    Path | None,
    typer.Option("--examples", help="JSON lines {text, label, group} for any model, read at each text's last token."),
]


def _asking(target: str, examples: Path | None, task: str, forms: str, read: str, tokens: int) -> Asking | None:
    """What is asked of another task than the built-in one. Raises BadInput for a target that nothing can give."""
    from steering.errors import BadInput, unknown

    from ..studies.probing import check_target
    from ..studies.task_examples import EXACT, TARGETS

    if examples is not None and (task != FIND_START or forms or read):
        raise BadInput("--examples brings its own texts; leave --task, --forms and --read out.")
    if task == FIND_START and (forms or read):
        raise BadInput("--forms and --read belong to another task: give --task too.")
    if task == FIND_START or examples is not None:
        check_target(target)
        return None
    if target not in (*TARGETS, *EXACT):
        raise unknown("target", target, TARGETS)
    return asking_of(task, forms, read, "", "", tokens, needs=("--read",))


def _examples(
    model: LoadedModel,
    target: str,
    examples: Path | None,
    problems: int,
    seed: int,
    asking: Asking | None = None,
    thinking: str = "",
) -> Examples:
    from steering.model.models import load_model

    from ..studies.asking import TRAINING
    from ..studies.probing import builtin_examples, read_examples
    from ..studies.task_examples import task_examples

    if examples is not None:
        return read_examples(model, examples)
    if asking is not None:
        writer = load_model(thinking) if thinking else None
        asking.say([model, *([writer] if writer else [])], problems)
        talk().print(f"reading {problems} questions of {asking.found.name} for the target {target!r}", highlight=False)
        return task_examples(target, model, asking, problems, writer)
    TRAINING.say([model], problems)
    talk().print(f"reading {problems} problems for the target {target!r}", highlight=False)
    return builtin_examples(target, model, problems, seed)


@probe_app.command("fit")
def fit(
    out: Annotated[Path, typer.Option(help="Where the probe goes (.safetensors).")],
    target: TargetOption = "behaviour",
    model: ModelOption = "builtin:thinking",
    site: Annotated[str, typer.Option(help="Whose activations are read.")] = "blocks.3.hook_resid_post",
    kind: Annotated[str, typer.Option(help="logistic, ridge, mass-mean or mlp.")] = "logistic",
    examples: ExamplesOption = None,
    problems: ProblemsOption = 300,
    task: TaskOption = FIND_START,
    forms: TwoFormsOption = "",
    read: ReadOption = "",
    thinking: ThinkingOption = "",
    max_new_tokens: TokensOption = 360,
    balanced: Annotated[bool, typer.Option(help="Let every class weigh the same.")] = True,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Fit a probe, measure it on held-out groups beside its controls, and write it."""
    import numpy as np

    from probes.fitting import Origin, fit_logistic, fit_mass_mean, fit_ridge
    from probes.measures import FEWEST
    from probes.mlp import fit_mlp
    from steering.errors import BadInput, unknown
    from steering.model.models import load_model
    from steering.model.sites import Site

    methods: dict[str, Any] = {"logistic": fit_logistic, "ridge": fit_ridge, "mass-mean": fit_mass_mean, "mlp": fit_mlp}
    if kind not in methods:
        raise unknown("kind of probe", kind, methods)
    asking = _asking(target, examples, task, forms, read, max_new_tokens)
    if out.suffix != ".safetensors":
        raise BadInput(f"{out}: probes are written as .safetensors; give a name that ends so.")
    loaded, place = load_model(model), Site.parse(site)
    loaded.layout.check(place)
    samples = _examples(loaded, target, examples, problems, seed, asking, thinking)
    origin = Origin(samples.target, loaded.fingerprint, loaded.id)
    found = methods[kind](
        samples.activations(loaded, [place])[place], np.array(samples.y), groups=samples.groups, site=place, classes=samples.classes,
        balanced=balanced, seed=seed, tokens=samples.windows(), origin=origin,
    )  # fmt: skip
    found.probe.save(out)
    if as_json:
        print_json(
            {
                "file": str(out), "digest": found.probe.digest, "site": str(place), "kind": kind, "target": samples.target,
                "counts": samples.counts, "regularisation": found.probe.provenance.regularisation,
                "path": [vars(p) for p in found.path], "evaluation": found.evaluation.to_dict(),
            }
        )  # fmt: skip
        return
    e = found.evaluation
    table = Table(title=f"{kind} probe of {samples.target!r} at {place}: {e.n} held-out samples of {e.groups} groups")
    for heading in ("measure", "value", "95 %"):
        table.add_column(heading)
    for name in ("auroc", "average_precision", "balanced_accuracy", "brier", "ece"):
        line(table, name.replace("_", " "), getattr(e, name))
    if len(samples.classes) > 2:
        for name, one in e.per_class.items():
            line(table, f"auroc of {name} ({one.n})", one.auroc)
    for compared in (e.selectivity, e.tokens):
        if compared is not None:
            line(table, f"auroc of {compared.what}", compared.other)
            line(
                table,
                f"auroc of the probe minus that of {compared.what}, of which each counts 0.5 at least",
                compared.difference,
            )
    paper().print(table)
    if e.rarest < FEWEST:
        talk().print(
            f"The rarest class has {e.rarest} held-out groups; no interval is given below {FEWEST}. Read more items.",
            style="yellow",
        )
    if e.repeated:
        talk().print(
            f"{e.repeated} held-out samples equal a training sample in every coordinate; name the groups more widely.",
            style="yellow",
        )
    print(out)


@probe_app.command("show")
def show(
    probe: Annotated[Path, typer.Argument(help="A probe file.")],
    as_json: JsonOption = False,
) -> None:
    """What a probe reads and predicts, and what was measured when it was fitted."""
    from dataclasses import asdict

    from probes.exchange import load_probe

    found = load_probe(probe)
    facts: dict[str, Any] = {
        "kind": found.kind, "site": str(found.site), "classes": list(found.classes), "width": found.width,
        "digest": found.digest, **asdict(found.provenance),
    }  # fmt: skip
    if as_json:
        print_json(facts)
        return
    notes = facts.pop("notes")
    for name, value in facts.items():
        print(f"{name.replace('_', ' ')}\t{', '.join(value) if isinstance(value, list) else value}")
    for name, value in notes.get("held out", {}).items():
        print(f"held out {name.replace('_', ' ')}\t{cell(value['value'], value['low'], value['high'], 3)}")


@probe_app.command("gate")
def gate(
    probe: Annotated[Path, typer.Argument(help="A probe file: linear, two classes.")],
    out: Annotated[Path, typer.Option(help="Where the vector goes (.safetensors).")],
    of: Annotated[str, typer.Option(help="The class whose probability is read; the second by default.")] = "",
) -> None:
    """Write a probe's weights as a vector that gates a plan: `add ... when probe(FILE) > 0.5`."""
    from probes.exchange import load_probe

    found = load_probe(probe)
    print(found.vector(of or None).save(out))
    talk().print(
        f"probe(FILE) > 0.5 in a plan: {of or found.classes[1]!r} is the likelier of its classes.", highlight=False
    )


@probe_app.command("map")
def map_(
    target: TargetOption = "behaviour",
    model: ModelOption = "builtin:thinking",
    sites: Annotated[str, typer.Option(help="Sites: a name or a layer set.")] = "blocks.{0-3}.hook_resid_post",
    offsets: Annotated[
        str, typer.Option(help="Tokens from the target's own position, such as -4,-1,0.")
    ] = "-4,-2,-1,0",
    steps: Annotated[str, typer.Option(help="Steps instead of offsets, such as 1,2,4,8 (target correct).")] = "",
    examples: ExamplesOption = None,
    problems: ProblemsOption = 200,
    task: TaskOption = FIND_START,
    forms: TwoFormsOption = "",
    read: ReadOption = "",
    thinking: ThinkingOption = "",
    max_new_tokens: TokensOption = 360,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """AUROC of a probe per layer and position, beside what the tokens at that position give away."""
    from probes.maps import by_offset, by_step, probe_map
    from steering.model.models import load_model
    from steering.model.sites import parse_sites

    asking = _asking(target, examples, task, forms, read, max_new_tokens)
    wanted = _numbers(steps or offsets)
    loaded, places = load_model(model), parse_sites(sites)
    for place in places:
        loaded.layout.check(place)
    samples = _examples(loaded, target, examples, problems, seed, asking, thinking)
    columns = by_step(samples, [n - 1 for n in wanted]) if steps else by_offset(samples, wanted)
    with progress("cells") as report:
        frame = probe_map(loaded, columns, places, seed=seed, on_cell=report)
    if as_json:
        print(frame.to_json(orient="records", indent=1))
        return
    table = Table(title=f"AUROC of {samples.target!r} on held-out groups, 95 % interval")
    table.add_column("site")
    for name in columns:
        table.add_column(name)
    for place in places:
        own = frame[frame["site"] == place.name].set_index("position")
        table.add_row(place.name, *(cell(own.loc[n, "auroc"], own.loc[n, "low"], own.loc[n, "high"]) for n in columns))
    first = frame[frame["site"] == places[0].name].set_index("position")
    alone = [first.loc[n, "tokens"] for n in columns]
    table.add_row("token ids alone", *(f"{value:.2f}" if value == value else UNDEFINED for value in alone))
    paper().print(table)


def _numbers(text: str) -> list[int]:
    from steering.errors import BadInput

    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise BadInput(f"{text!r} is no list of whole numbers, such as -4,-1,0.") from error
    if len(set(found)) != len(found):
        raise BadInput(f"{text!r} names a number twice.")
    return found
