"""`steer runs`: list, look into, compare, query, check, move and tidy up what is stored."""

from __future__ import annotations

import copy
import csv
import json
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console

from ..progress import progress
from .behaviours import behaviours
from .exchange import publish_run, pull_run
from .options import RUNS, JsonOption, RunsOption
from .upkeep import export, gc, import_, migrate, reproduce, say, verify

if TYPE_CHECKING:
    from ..store.catalogue import Listed
    from ..store.differences import ArmDifference
    from ..store.runs import Run

runs_app = typer.Typer(help="List, look into, compare, query, check and move stored runs.", no_args_is_help=True)
runs_app.command()(export)
runs_app.command("import")(import_)
runs_app.command("publish")(publish_run)
runs_app.command("pull")(pull_run)
runs_app.command()(behaviours)
runs_app.command()(reproduce)
runs_app.command()(verify)
runs_app.command()(migrate)
runs_app.command()(gc)
SORTS = ("run", "changed", "rows", "status", "task", "name")


def _current(run: Run) -> dict[str, Any]:
    """The summary as plain data, by this version's methods."""
    from ..evaluation.summarise import summary_of
    from ..evaluation.summary import to_json

    found: dict[str, Any] = json.loads(to_json(summary_of(run)))
    return found


def print_tables(run: Run, console: Console) -> None:
    """The tables of a run: from the summary stored with a complete one, else computed from its rows."""
    from ..evaluation.sentences import render_table
    from ..evaluation.summarise import summary_of

    summary = summary_of(run)
    for split in summary.splits:
        console.print(render_table(summary, split.split))
    for said in run.manifest.facts.get("questions", []):
        console.print(said, highlight=False, markup=False)


def _since(text: str) -> datetime:
    """A moment from `2026-11-02`, `2026-11-02T10:00`, `36h` or `7d`. Raises BadInput."""
    from steering.errors import BadInput

    units = {"h": "hours", "d": "days", "w": "weeks"}
    try:
        if text[-1:] in units and text[:-1].isdigit():
            return datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        today = date.today().isoformat()
        raise BadInput(
            f"--since {text!r} is no moment: give a date ({today}), date and time, or an age (36h, 7d)."
        ) from error
    return moment if moment.tzinfo else moment.astimezone()


@runs_app.command("list")
def list_(
    runs: RunsOption = RUNS,
    status: Annotated[
        str | None, typer.Option(help="Only runs that are running, complete, interrupted or broken.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Only tasks whose name contains this.")] = None,
    model: Annotated[str | None, typer.Option(help="Only runs with a model whose name contains this.")] = None,
    since: Annotated[str | None, typer.Option(help="Only runs changed since: 2026-11-02, 36h, 7d.")] = None,
    sort: Annotated[str, typer.Option(help=f"One of {', '.join(SORTS)}; with - before it, descending.")] = "run",
    as_json: JsonOption = False,
) -> None:
    """Every run in the store, broken ones with what is wrong. Columns: run, status, rows, expected, changed, task, problem."""
    from steering.errors import unknown

    from ..store.catalogue import as_dict
    from ..store.runs import Store

    known = ("running", "complete", "interrupted", "broken")
    if status is not None and status not in known:
        raise unknown("status", status, known)
    if sort.removeprefix("-") not in SORTS:
        raise unknown("order", sort.removeprefix("-"), SORTS, "--sort")
    begin = None if since is None else _since(since)

    def wanted(line: Listed) -> bool:
        return (
            (status is None or line.status == status)
            and (task is None or task.lower() in (line.task or "").lower())
            and (model is None or any(model.lower() in name.lower() for name in line.models))
            and (begin is None or (line.changed is not None and datetime.fromisoformat(line.changed) >= begin))
        )

    lines = [line for line in Store(runs).catalogue() if wanted(line)]
    key = sort.removeprefix("-")
    lines.sort(key=lambda line: (getattr(line, key) is None, getattr(line, key) or 0), reverse=sort.startswith("-"))
    if as_json:
        print(json.dumps([as_dict(line) for line in lines], indent=1))
        return
    for line in lines:
        cells = (line.run, line.status, line.rows, line.expected, line.changed, line.task, line.problem)
        print("\t".join("" if cell is None else str(cell) for cell in cells).rstrip())


@runs_app.command()
def show(run: str, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """The tables of one run."""
    from ..store.runs import Store
    from ..store.seal import in_words, look

    opened = Store(runs).open(run)
    if doubts := in_words(look(opened.folder), run):
        say(doubts, "red")
    if as_json:
        document = {"manifest": opened.manifest.model_dump(mode="json"), "summary": _current(opened)}
        print(json.dumps(document, indent=1, sort_keys=True))
    else:
        print_tables(opened, Console())
        for digest, name in _hub_names(opened).items():
            print(f"Vector {digest} is {name}.")
        say_verdict(opened)
        if opened.manifest.spec.get("batch_invariant"):
            print("Rows are batch-invariant: the same bits alone and in any batch.")


def _hub_names(run: Run) -> dict[str, str]:
    """Of the run's vectors that were taken from a hub by name, the name with its commit, by digest."""
    from steering.vector.hub.download import HUB_NOTE

    from ..evaluation.stored_vectors import run_vectors

    held = {digest: vector.provenance.notes.get(HUB_NOTE) for digest, vector in run_vectors(run).items()}
    return {digest: f"hub:{where}" for digest, where in held.items() if where}


def _named(spec: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A spec whose plans name these vectors so."""
    named: dict[str, Any] = copy.deepcopy(spec)
    for arm in named.get("arms", []):
        for entry in (arm.get("plan") or {}).get("interventions", []):
            for part in (entry, entry.get("gate") or {}):
                if part.get("vector") in names:
                    part["vector"] = names[part["vector"]]
    return named


def say_verdict(run: Run) -> None:
    """Of the run that tested a sweep's winner, whether it may be called real."""
    from ..sweeps.cells import CARD, is_test
    from ..sweeps.verdict import of_test

    if (run.folder / CARD).is_file() and is_test(run):
        Console().print(f"The sweep's verdict: {of_test(run).sentence}", highlight=False, soft_wrap=True, markup=False)


@runs_app.command()
def spec(run: str, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """The spec of a run as YAML, ready for `steer eval`. Vectors that were taken from a hub are named by repository and commit, others by
    digest."""
    from ..store.runs import Store

    opened = Store(runs).open(run)
    found = _named(opened.manifest.spec, _hub_names(opened))
    print(json.dumps(found, indent=1) if as_json else yaml.safe_dump(found, sort_keys=False))


@runs_app.command()
def diff(
    a: str,
    b: str,
    runs: RunsOption = RUNS,
    arm: Annotated[
        list[str] | None,
        typer.Option(help="Arms to compare: NAME of both runs, or NAME_A:NAME_B; by default all in common."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How two runs differ: settings, and accuracy on the items that both answered, joined on item ids. Differences are B minus A."""
    from ..store.differences import accuracy_differences, settings
    from ..store.runs import Store

    store = Store(runs)
    left, right = store.open(a), store.open(b)
    asked = [(text.partition(":")[0], text.partition(":")[2] or text) for text in arm or []]
    places, found = settings(left, right), accuracy_differences(left, right, asked)
    if as_json:
        document = {"a": a, "b": b, "settings": [asdict(s) for s in places], "accuracy": [asdict(d) for d in found]}
        print(json.dumps(document, indent=1, default=str))
        return
    print(f"{len(places)} settings differ ({a} | {b})")
    for setting in places:
        print(f"  {setting.place}\t{setting.a} | {setting.b}")
    if not found:
        say("No arm of one name has answered the same items in both runs; name a pair with --arm NAME_A:NAME_B.")
    for one in found:
        print("\n".join(_lines(one)))


def _lines(d: ArmDifference) -> list[str]:
    """A paired difference in words: shares in per cent, differences in points, 95 % intervals."""
    arm = d.arm_a if d.arm_a == d.arm_b else f"{d.arm_a} : {d.arm_b}"
    change, interval = d.difference.difference, d.difference.interval
    left_out = f"only A {d.only_a}, only B {d.only_b}, other question {d.other_question}"
    return [
        f"{d.split}, {arm}: {d.difference.n} shared items ({left_out})",
        *(
            f"  {name}\t{100 * s.accuracy:.1f} % [{100 * s.interval.low:.1f}, {100 * s.interval.high:.1f}]\t{s.rows} rows, "
            f"{s.truncated} cut off, {s.unscorable} unscorable, {s.tokens:.0f} tokens each"
            for name, s in (("A", d.a), ("B", d.b))
        ),
        f"  B - A\t{100 * change:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]\t"
        f"helped {d.difference.helped}, hurt {d.difference.hurt}, p = {d.difference.p:.2g} ({d.difference.test})",
    ]


@runs_app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over the views runs, rows, tokens, receipts.")],
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a head; otherwise tabs.")] = False,
) -> None:
    """Ask the store in SQL (DuckDB), read only: select run, arm, avg(correct::int) from rows group by all."""
    from ..store.database import connect, views_of
    from ..store.runs import Store

    store = Store(runs)
    with progress("reading shards") as report:
        database = connect(store, views_of(sql), on_shards=lambda _, done, total: report(done, total))
    for text in database.damaged:
        say(f"Left out: {text}", "yellow")
    table = database.query(sql)
    if as_json:
        print(json.dumps([{k: _plain(v) for k, v in row.items()} for row in table.to_pylist()], ensure_ascii=False))
        return
    writer = csv.writer(sys.stdout, delimiter="," if as_csv else "\t", lineterminator="\n")
    writer.writerow(table.column_names)
    for batch in table.to_batches(max_chunksize=4096):
        writer.writerows([_plain(v) for v in row.values()] for row in batch.to_pylist())


def _plain(value: Any) -> Any:
    """A value of a result as JSON has it; whole sums as integers."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
