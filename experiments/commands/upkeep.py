"""Verbs of `steer runs` that check, move, repeat and tidy up what is stored."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..progress import progress, talk
from .options import RUNS, JsonOption, RunsOption


def say(text: str, style: str | None = None) -> None:
    """A line on standard error, as it is."""
    talk().print(text, style=style, highlight=False, soft_wrap=True, markup=False)


def export(
    run: str,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write: .csv, .parquet, .jsonl or .zip.")],
    runs: RunsOption = RUNS,
    kind: Annotated[
        str | None, typer.Option("--format", help="csv, parquet, jsonl or zip; by default what the name ends in.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """A run's rows as a table, or the whole run as an archive that `steer runs import` takes."""
    from steering.errors import unknown

    from ..store.archive import FORMATS
    from ..store.archive import export as write
    from ..store.runs import Store

    kind = output.suffix.removeprefix(".") if kind is None else kind
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS, "--format or the end of the file's name")
    n = write(Store(runs).open(run), output, kind, force)
    if as_json:
        print(json.dumps({"run": run, "file": str(output), "format": kind, "files" if kind == "zip" else "rows": n}))
    else:
        print(output)
        say(f"{n} {'files' if kind == 'zip' else 'rows'} of {run}.")


def import_(
    archive: Annotated[Path, typer.Argument(help="A .zip from `steer runs export`.")],
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Take an exported run into the store, after checking every shard."""
    from steering.errors import BadInput

    from ..store.archive import import_archive
    from ..store.runs import Store

    if not archive.is_file():
        raise BadInput(f"No archive at {archive}. `steer runs export RUN -o x.zip` writes one.")
    run = import_archive(archive, Store(runs))
    print(json.dumps({"run": run.manifest.run_id}) if as_json else run.manifest.run_id)


def reproduce(
    run: str,
    runs: RunsOption = RUNS,
    n: Annotated[int | None, typer.Option(min=1, help="A sample of at least this many rows, in whole chunks.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Generate a run again from its spec, in a temporary store, and compare token ids. Exit code 1 when a row differs."""
    from ..evaluation.reproduction import reproduce as again
    from ..store.runs import Store

    with progress(f"running {run} again") as report:
        found = again(Store(runs).open(run), n, on_rows=report)
    if as_json:
        print(json.dumps(asdict(found) | {"exact": found.exact}, indent=1))
    else:
        print(f"{found.same} of {found.rows} rows have the stored token ids.")
        for row in found.partings[:10]:
            where = f"{row.split}\t{row.arm}\t{row.item}\tseed {row.seed}"
            print(f"{where}\ttoken {row.position}\tstored {row.stored!r}\tnow {row.again!r}")
        if len(found.partings) > 10:
            say(f"... and {len(found.partings) - 10} more; --json lists all.")
        if found.absent:
            say(f"{found.absent} rows are not stored: the run is not finished.")
        if found.other_keys:
            say(f"{found.other_keys} rows have another key now: what they are made from has changed.")
        for name, (before, now) in found.facts.items():
            say(f"{name}: stored with {before}, now {now}.")
    if not found.exact:
        raise typer.Exit(1)


def verify(
    run: Annotated[list[str] | None, typer.Argument(help="Runs; by default all.")] = None,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Check every file of a run against its checksum: manifest, summary, vectors, controllers, shards, readings. Exit code 1 when one is
    altered, missing or one too many; running the run's command again redoes rows that are gone."""
    from ..store.runs import Store, StoreError
    from ..store.seal import BAD
    from ..store.upkeep import verify as check

    store, found, bad = Store(runs), [], 0
    for name in run or [line.run for line in store.catalogue()]:
        try:
            opened = store.open(name)
        except StoreError as error:
            if run:
                raise
            found.append({"run": name, "file": None, "status": "broken", "problem": str(error)})
            bad += 1
            continue
        for checked in check(opened):
            found.append({"run": name, **asdict(checked)})
            bad += checked.status in BAD
    if not found:
        say(f"There is no run in {runs}: nothing was checked.", "yellow")
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        for line in found:
            if line["status"] != "ok":
                print("\t".join(str(value) for value in line.values() if value is not None))
        counted = {
            status: sum(line["status"] == status for line in found) for status in (*BAD, "broken", "no checksum")
        }
        say(
            f"{len(found)} files checked: {counted['damaged'] + counted['broken']} damaged, {counted['missing']} missing, "
            f"{counted['extra']} extra, {counted['no checksum']} not covered by a checksum (`steer runs migrate` adds them)."
        )
    if bad:
        raise typer.Exit(1)


def migrate(
    run: Annotated[list[str] | None, typer.Argument(help="Runs; by default all.")] = None,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Rewrite runs of an older version in this program's, and add missing checksums. Exit code 3 when some could not be."""
    from ..store.runs import Store, StoreError
    from ..store.upkeep import migrate_run

    store, found, failed = Store(runs), {}, {}
    for name in run or [line.run for line in store.catalogue()]:
        try:
            found[name] = migrate_run(store.open(name))
        except StoreError as error:
            failed[name] = str(error)
    if as_json:
        print(json.dumps({"written": found, "failed": failed}, indent=1))
    else:
        for name, n in found.items():
            print(f"{name}\t{n}")
        for text in failed.values():
            say(text, "red")
        say(f"Files written in {sum(n > 0 for n in found.values())} of {len(found) + len(failed)} runs.")
    if failed:
        raise typer.Exit(3)


def gc(
    runs: RunsOption = RUNS,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also runs that were not completed.")] = False,
    days: Annotated[float, typer.Option(min=0, help="How long an unfinished run must not have changed.")] = 30,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only temporary, corrupt, checksum, index or unfinished; repeatable.")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is listed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What can go: leftovers, set-aside shards, derived indexes, old unfinished runs. Deletes nothing without --delete."""
    from steering.errors import unknown

    from ..store.runs import Store
    from ..store.upkeep import KINDS, rubbish
    from ..store.upkeep import delete as remove

    for name in kind or ():
        if name not in KINDS:
            raise unknown("kind", name, KINDS)
    found = rubbish(Store(runs), unfinished, days, kind or KINDS)
    if delete:
        remove(found)
    if as_json:
        items = [asdict(item) | {"path": str(item.path)} for item in found]
        print(json.dumps({"deleted": delete, "items": items}, indent=1, default=str))
        return
    for item in found:
        print(f"{item.kind}\t{item.size}\t{item.path}\t{item.why}")
    size = sum(item.size for item in found) / 1e6
    say(f"{len(found)} items, {size:.1f} MB {'deleted' if delete else 'could go; --delete deletes them'}.")
