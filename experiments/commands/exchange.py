"""`push` and `pull` of plans and probes, `publish` and `pull` of runs: repositories of a model hub (docs/hub.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steering.errors import BadInput

from ..progress import talk
from .hub import with_quality
from .options import RUNS, JsonOption, RunsOption
from .plan_options import ExpressionArgument, VectorOption, read_plan
from .pushes import NO_EVIDENCE, DryRunOption, OutOption, check_dry_run, print_pushed, print_written
from .warnings import attached, say_repository, warn

if TYPE_CHECKING:
    from steering.vector.hub.contents import BaseModelFacts

RepositoryArgument = Annotated[str, typer.Argument(help="OWNER/NAME, or OWNER/NAME@BRANCH.")]
SourceArgument = Annotated[str, typer.Argument(help="OWNER/NAME, or OWNER/NAME@REVISION (branch, tag or commit).")]
PrivateOption = Annotated[bool, typer.Option("--private", help="Make a new repository private.")]
LicenceOption = Annotated[str, typer.Option(help="Identifier of a licence, such as mit.")]
PapersOption = Annotated[list[str] | None, typer.Option(help="arXiv id of a paper; repeatable.")]
CommitOption = Annotated[str | None, typer.Option(help="Commit of the base model's repository.")]
BaseOption = Annotated[
    str | None,
    typer.Option(
        help="The base model's repository, OWNER/NAME, where the file names the model otherwise, as smollm2 does."
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Push although base model or commit is unknown, and say so.")
]
TitleOption = Annotated[str, typer.Option(help="What the card calls it.")]


def push_plan(
    plan: ExpressionArgument,
    repository: RepositoryArgument,
    vector: VectorOption = None,
    title: TitleOption = "",
    private: PrivateOption = False,
    licence: LicenceOption = "",
    arxiv: PapersOption = None,
    evidence: Annotated[Path | None, typer.Option(help="What the plan does, as JSON (docs/hub.md).")] = None,
    run: Annotated[
        str | None, typer.Option(help="Stored run with an arm of this very plan: its numbers are the evidence.")
    ] = None,
    runs: RunsOption = RUNS,
    base_commit: CommitOption = None,
    base_model: BaseOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    out: OutOption = None,
) -> None:
    """Write a plan's repository on the hub: configuration, plan, the vectors that it uses, evidence and card, in one commit."""
    from steering.plan.exchange import plan_files
    from steering.plan.exchange import push_plan as push
    from steering.vector.hub.evidence import Evidence, read_evidence
    from steering.vector.hub.names import Address

    check_dry_run(dry_run, out)
    made, address = read_plan(plan, vector), Address.parse(repository)
    if evidence is not None and run is not None:
        raise BadInput("Give --evidence or --run, not both.")
    shown, tokenizer = Evidence(), None
    if evidence is not None:
        if not evidence.is_file():
            raise BadInput(f"No evidence at {evidence}: give a JSON file, or --run with a stored run.")
        shown = read_evidence(evidence.read_bytes(), str(evidence), made.digest)
    elif run is not None:
        from ..store.runs import Store
        from ..studies.vector_evidence import plan_evidence, plan_tokenizer

        store = Store(runs)
        shown, tokenizer = plan_evidence(store, run, made), plan_tokenizer(store.open(run).manifest, made)
    shown = with_quality(shown, _files(plan, vector))
    given: dict[str, Any] = {
        "title": title, "base_commit": base_commit, "base_model": base_model, "tokenizer": tokenizer, "evidence": shown,
        "licence": licence, "arxiv": tuple(arxiv or ()), "force": force,
    }  # fmt: skip
    files = plan_files(made, address.name, **given)
    if out is not None:
        print_written(files, out)
    else:
        print_pushed(push(made, address.name, private=private, **given))
    for model in {vector.provenance.model_id for vector in made.vectors.values()}:
        say_repository(model, base_commit, base_model)
    if shown.empty:
        warn(NO_EVIDENCE)


def _files(plan: str, given: list[str] | None) -> dict[str, Path]:
    """Files of vectors that a plan names, or that are given by name, by digest."""
    from steering.plan.source import vector_files
    from steering.vector.features import load_stored
    from steering.vector.hub.names import is_hub_name

    named = [Path(text.partition("=")[2]) for text in given or []]
    every = [*vector_files(plan), *(path for path in named if not is_hub_name(path))]
    return {load_stored(path).digest: path for path in every}


def pull_plan(
    repository: SourceArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder for plan.yaml and its vectors; left out, they stay in the cache.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a plan with its vectors from the hub: one commit, every file checked against what its repository says of it."""
    from steering.files import write_file
    from steering.plan.exchange import plan_of, pull_plan_copy
    from steering.vector.hub.contents import PLAN

    copy = pull_plan_copy(repository)
    plan, shown = plan_of(copy), copy.evidence()
    place = copy.folder if out is None else out
    if out is not None:
        if out.is_dir() and any(out.iterdir()):
            raise BadInput(f"{out} holds files; give a new folder.")
        for name in copy.config.files:
            write_file(out / name, (copy.folder / name).read_bytes())
    _pulled(
        {
            "file": str(place / PLAN),
            "digest": plan.digest,
            "repository": copy.address.repository,
            "commit": copy.commit,
        },
        {"config": copy.config.model_dump(mode="json"), "evidence": shown.model_dump(mode="json")},
        as_json,
    )
    if not as_json:
        told = attached(shown.effects) if shown.effects else (
            "no measured effect is attached: that it does anything is not shown"
        )  # fmt: skip
        _say(copy.config.base_model, copy.where, told)


def push_probe(
    probe: Annotated[Path, typer.Argument(help="A probe file.")],
    repository: RepositoryArgument,
    title: TitleOption = "",
    private: PrivateOption = False,
    licence: LicenceOption = "",
    arxiv: PapersOption = None,
    base_commit: CommitOption = None,
    base_model: BaseOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    out: OutOption = None,
) -> None:
    """Write a probe's repository on the hub: configuration with what was measured on held-out groups, probe and card, in one commit."""
    from probes.exchange import load_probe, probe_files
    from probes.exchange import push_probe as push
    from steering.vector.hub.names import Address

    check_dry_run(dry_run, out)
    made, address = load_probe(probe), Address.parse(repository)
    given: dict[str, Any] = {
        "title": title, "base_commit": base_commit, "base_model": base_model, "licence": licence,
        "arxiv": tuple(arxiv or ()), "force": force,
    }  # fmt: skip
    files = probe_files(made, address.name, **given)
    if out is not None:
        print_written(files, out)
    else:
        print_pushed(push(made, address.name, private=private, **given))
    say_repository(made.provenance.model_id, base_commit, base_model)
    if not made.provenance.notes.get("held out"):
        warn("Warning: the probe's file holds no measurement on held-out groups, and the card says so.")


def pull_probe(
    repository: SourceArgument,
    out: Annotated[Path | None, typer.Option(help="Where the probe goes; left out, it stays in the cache.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a probe from the hub: one commit, checked against what its repository says of it."""
    from probes.exchange import probe_of, pull_probe_copy
    from steering.files import write_new
    from steering.vector.hub.hashed import PROBE

    copy = pull_probe_copy(repository)
    probe = probe_of(copy)
    if out is not None:
        write_new(out, (copy.folder / PROBE).read_bytes())
    facts = {
        "file": str(out or copy.folder / PROBE),
        "site": str(probe.site),
        "classes": ",".join(probe.classes),
        "digest": probe.digest,
    }
    more = {"repository": copy.address.repository, "commit": copy.commit, "config": copy.config.model_dump(mode="json")}
    _pulled(facts, more, as_json)
    if not as_json:
        told = "how well it reads is as its author gives it" if copy.config.facts.get("held_out") else (
            "no measurement is attached: how well it reads is not shown"
        )  # fmt: skip
        _say(copy.config.base_model, copy.where, told)


def publish_run(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    repository: RepositoryArgument,
    runs: RunsOption = RUNS,
    private: PrivateOption = False,
    licence: LicenceOption = "",
) -> None:
    """Write a complete run into a data set repository of the hub: every file, and a card with its tables, in one commit. The rows hold
    all questions and generated texts."""
    from ..report.writing import markdown_tables
    from ..store.publication import publish_run as publish
    from ..store.runs import Store

    opened = Store(runs).open(run)
    print_pushed(publish(opened, repository, markdown_tables(opened), licence=licence, private=private))


def pull_run(repository: SourceArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Fetch a run from its data set repository into the store, after checking every file."""
    from ..store.publication import pull_run as pull
    from ..store.runs import Store

    found = pull(repository, Store(runs))
    print(json.dumps({"run": found.manifest.run_id}) if as_json else found.manifest.run_id)


def _pulled(facts: dict[str, Any], more: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts | more, indent=1, sort_keys=True))
    else:
        print("\t".join(map(str, facts.values())))


def _say(base: BaseModelFacts, where: str, told: str) -> None:
    """What is to be known of what was fetched, on standard error."""
    talk().print(
        f"From {where}; base model {base.id}{f' of {base.repository}' if base.repository else ''}, commit {base.commit}; {told}.",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
