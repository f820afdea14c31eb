"""`steer vectors push`, `pull` and `search`: vectors in repositories of a model hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steering.errors import BadInput
from steering.files import write_new

from ..progress import talk
from .options import RUNS, JsonOption, RunsOption
from .pushes import NO_EVIDENCE, check_dry_run, print_pushed, print_written
from .warnings import attached, say_repository, warn

if TYPE_CHECKING:
    from steering.vector.hub.download import Copy
    from steering.vector.hub.evidence import Evidence
    from steering.vector.vectors import SteeringVector


def push(
    file: Annotated[Path, typer.Argument(help="Vector file (.safetensors).")],
    repository: Annotated[str, typer.Argument(help="OWNER/NAME, or OWNER/NAME@BRANCH.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    licence: Annotated[str, typer.Option(help="Identifier of a licence, such as mit.")] = "",
    arxiv: Annotated[list[str] | None, typer.Option(help="arXiv id of a paper; repeatable.")] = None,
    evidence: Annotated[Path | None, typer.Option(help="What the vector does, as JSON (docs/hub.md).")] = None,
    run: Annotated[
        str | None, typer.Option(help="Stored run that used the vector: its numbers are the evidence.")
    ] = None,
    runs: RunsOption = RUNS,
    base_commit: Annotated[str | None, typer.Option(help="Commit of the base model's repository.")] = None,
    base_model: Annotated[
        str | None,
        typer.Option(help="The base model's repository, OWNER/NAME, where the vector names the model otherwise."),
    ] = None,
    useful: Annotated[str, typer.Option(help="LOW:HIGH, amounts of use, in vector norms.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Push although base model or commit is unknown, and say so.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the files into --out and push nothing.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the files, with --dry-run.")] = None,
) -> None:
    """Write a vector's repository on the hub: configuration, vector, plan, evidence and model card, in one commit."""
    from steering.vector.exchange import push_vector, repository_files
    from steering.vector.hub.download import local_file
    from steering.vector.hub.evidence import Evidence
    from steering.vector.hub.names import Address
    from steering.vector.vectors import SteeringVector

    check_dry_run(dry_run, out)
    vector, address = SteeringVector.load(file), Address.parse(repository)
    shown, plan, tokenizer = _shown(vector, evidence, run, runs)
    shown = with_quality(shown or Evidence(), {vector.digest: local_file(file)})
    given: dict[str, Any] = {
        "base_commit": base_commit, "base_model": base_model, "tokenizer": tokenizer, "evidence": shown, "plan": plan,
        "useful": _range(useful), "licence": licence,
        "arxiv": tuple(arxiv or ()), "force": force,
    }  # fmt: skip
    files = repository_files(vector, address.name, **given)
    if out is not None:
        print_written(files, out)
    else:
        print_pushed(push_vector(vector, address.name, private=private, **given))
    say_repository(vector.provenance.model_id, base_commit, base_model)
    if shown.empty:
        warn(NO_EVIDENCE)


def pull(
    repository: Annotated[str, typer.Argument(help="OWNER/NAME, or OWNER/NAME@REVISION (branch, tag or commit).")],
    out: Annotated[
        Path | None, typer.Option(help="Where the vector goes (.safetensors); left out, it stays in the cache.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a vector from the hub: one commit, checked against what its repository says of it."""
    from steering.vector.exchange import pull_copy, vector_of

    copy = pull_copy(repository)
    vector, evidence = vector_of(copy), copy.evidence()
    if out is not None:
        write_new(out, copy.vector.read_bytes())
    file = out or copy.vector
    if as_json:
        facts: dict[str, Any] = {"file": str(file), "repository": copy.address.repository, "commit": copy.commit}
        facts |= {"config": copy.config.model_dump(mode="json"), "evidence": evidence.model_dump(mode="json")}
        print(json.dumps(facts, indent=1, sort_keys=True))
        return
    print(
        "\t".join(
            map(str, (file, vector.name, vector.site, len(vector.direction), round(vector.norm, 6), vector.digest))
        )
    )
    _say(copy, evidence)


def search(
    base: Annotated[str | None, typer.Option(help="Only vectors of this base model: its id on the hub.")] = None,
    limit: Annotated[int, typer.Option(help="Repositories listed at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Repositories of the hub with the tag steering-vector."""
    from steering.vector.hub.listing import listed_vectors
    from steering.vector.hub.session import Session

    found = listed_vectors(Session.of(), base, limit)
    if as_json:
        print(
            json.dumps([vars(one) | {"base_models": list(one.base_models)} for one in found], indent=1, sort_keys=True)
        )
        return
    for one in found:
        bases = ", ".join(one.base_models) or "base model not said"
        print("\t".join((one.repository, bases, f"{one.downloads} downloads", one.changed)))
    if not found:
        of = f" of {base}" if base else ""
        talk().print(f"The hub lists no steering vectors{of}.", highlight=False, soft_wrap=True, markup=False)


def _shown(
    vector: SteeringVector, file: Path | None, run: str | None, runs: str
) -> tuple[Evidence | None, dict[str, Any] | None, str | None]:
    """Evidence, and of a run the plan that it measured and its tokenizer's hash. Raises BadInput."""
    from steering.vector.hub.evidence import read_evidence

    if file is not None and run is not None:
        raise BadInput("Give --evidence or --run, not both.")
    if file is not None:
        if not file.is_file():
            raise BadInput(f"No evidence at {file}: give a JSON file, or --run with a stored run.")
        return read_evidence(file.read_bytes(), str(file), vector.digest), None, None
    if run is None:
        return None, None, None
    from ..store.runs import Store
    from ..studies.vector_evidence import plan_of, run_evidence, tokenizer_of

    store = Store(runs)
    manifest = store.open(run).manifest
    found = run_evidence(store, run, vector)
    return found, plan_of(manifest, vector.digest), tokenizer_of(manifest, vector.digest)


def with_quality(shown: Evidence, files: Mapping[str, Path]) -> Evidence:
    """The evidence with what the reports beside vectors' files (by digest) say, where there are any; why one is left out is said here."""
    from ..quality_words import UNKNOWN, is_report, quality_words

    if shown.quality:
        return shown
    told: list[str] = []
    for digest, file in files.items():
        words, remarks = quality_words(file, digest)
        if is_report(words):
            told += [f"Vector {digest}:"] if len(files) > 1 else []
            told += [words, *(f"{remark[:1].upper()}{remark[1:].rstrip('.')}." for remark in remarks)]
        elif words != UNKNOWN:
            warn(f"Warning: {words} The card says nothing of it.")
    return shown.model_copy(update={"quality": tuple(told)}) if told else shown


def _range(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    low, colon, high = text.partition(":")
    try:
        return float(low), float(high if colon else low)
    except ValueError as error:
        raise BadInput(f"--useful {text!r} is not LOW:HIGH, as in 0.5:1.5.") from error


def _say(copy: Copy, evidence: Evidence) -> None:
    """What is to be known of a fetched vector, on standard error."""
    base = copy.config.base_model
    shown = attached(evidence.effects) if evidence.effects else (
        "no measured effect is attached: that it does anything is not shown"
    )  # fmt: skip
    talk().print(
        f"From {copy.address.repository} at commit {copy.commit}; base model {base.id}"
        f"{f' of {base.repository}' if base.repository else ''}, commit {base.commit}; {shown}.",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
